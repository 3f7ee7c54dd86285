"""Durations: one string with its unit, such as "200 epochs" or "80%".

Exactly one unit is given, and any duration can be overridden on the command line.
"""

import math
import re

_DURATION = re.compile(
    r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(%|steps?|epochs?|examples?)\s*"
)


def duration_steps(
    text: str, *, steps_per_epoch: int, batch_size: int, total_steps: int | None = None
) -> int:
    """A duration such as "5 epochs" in steps, at least 1 unless it is 0.

    Args:
        text: number and unit: steps, epochs, examples or % (of `total_steps`).
        steps_per_epoch: steps.
        batch_size: examples per step.
        total_steps: what 100% means; None where a percentage makes no sense.

    Returns:
        Steps.

    Raises:
        ValueError: if `text` is not a duration, or one of more than 2^31 - 1 steps,
            which a step counter cannot hold.

    Example:
        >>> duration_steps("5 epochs", steps_per_epoch=84, batch_size=128)
        420
    """
    match = _DURATION.fullmatch(text)
    number = _number(match[1]) if match else None
    if match is None or number is None or (match[2] == "%" and total_steps is None):
        percent = "" if total_steps is None else " or '80%'"
        raise ValueError(
            f"{text!r} is not a duration, expected a number and a unit such as"
            f" '200 epochs', '3000 steps', '512000 examples'{percent}"
        )
    unit = match[2].rstrip("s")
    per_unit = {
        "step": 1.0,
        "epoch": float(steps_per_epoch),
        "example": 1.0 / batch_size,
        "%": (total_steps or 0) / 100,
    }[unit]
    steps = number * per_unit
    if not steps < 2**31:
        raise ValueError(f"{text!r} is too long, expected fewer than 2^31 steps")
    # 1e-9: 0.55 * 200 is 110.00000000000001 in floats.
    return max(math.ceil(steps - 1e-9), 1) if number > 0 else 0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
