"""JSON that carries its own checksum, so that a flipped bit is noticed by its reader.

The CRC-32 is of the value, not of its text: layout and order of keys do not count. It
protects from accidents; whoever edits a file by hand takes the checksum out.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

SEAL = "crc32"


class BrokenSeal(ValueError):
    """A JSON object that is not the one that was written."""


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its checksum under "crc32".

    Args:
        value: what `json.dumps` takes, with keys that are strings.

    Returns:
        A dict, the checksum last.

    Example:
        >>> sealed({"step": 3})
        {'step': 3, 'crc32': '232fcf13'}
    """
    return {**value, SEAL: _checksum(value)}


def unsealed(text: str) -> dict[str, Any]:
    """The object that a JSON text holds, without its checksum.

    Args:
        text: JSON; an object without a checksum is taken as it is.

    Returns:
        The dict.

    Raises:
        BrokenSeal: if the text is not a JSON object or the checksum does not fit.

    Example:
        >>> unsealed('{"step": 3, "crc32": "232fcf13"}')
        {'step': 3}
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenSeal(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BrokenSeal(f"a JSON {type(value).__name__}, expected an object")
    seal = value.pop(SEAL, None)
    if seal is not None and seal != _checksum(value):
        raise BrokenSeal(
            f"its content does not fit its checksum {seal!r}: it is damaged, or was"
            f" edited (then delete the {SEAL!r} entry)"
        )
    return value


def _checksum(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
