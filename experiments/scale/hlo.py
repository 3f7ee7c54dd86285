"""The collectives of a compiled program, read from its text."""

import math
import re
from collections import Counter

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4}
_SIZES |= {"f32": 4, "f64": 8, "s64": 8, "u64": 8}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
KINDS += ("collective-permute",)
_LINE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def collective_bytes(text: str) -> dict[str, int]:
    """Bytes of the results of all collectives, on one device, by kind.

    A collective in the body of a loop counts once: the text does not say how often the
    loop runs.

    Args:
        text: `compiled.as_text()`.

    Returns:
        Kind -> bytes, 0 for what the program does not have.

    Example:
        >>> found = collective_bytes("%x = (f32[2,3], s32[]) all-reduce(%a, %b), ...")
        >>> found["all-reduce"], found["all-gather"]
        (28, 0)
    """
    found = Counter(dict.fromkeys(KINDS, 0))
    for line in text.splitlines():
        match = _LINE.search(line)
        if match:
            for dtype, dims in _ARRAY.findall(match[1]):
                sizes = [int(size) for size in dims.split(",") if size]
                found[match[2]] += _SIZES[dtype] * math.prod(sizes)
    return dict(found)
