"""Whether an exception is an answer: one of ours that names what is wrong."""

import pathlib
import re
import traceback
from collections.abc import Iterable

import ltjax

HOME = str(pathlib.Path(ltjax.__file__).parent)

ANSWERED, REFUSED, UNEXPLAINED = "answered", "refused", "unexplained"


class Unexplained(AssertionError):
    """A call that neither was answered rightly nor refused in words."""


def site(error: BaseException) -> str:
    """Where an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{pathlib.Path(frame.filename).name}:{frame.lineno}"


def is_ours(error: BaseException) -> bool:
    """Whether a line of this package has raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return frame.filename.startswith(HOME)


def explained(
    error: Exception, names: Iterable[str], kinds: tuple[type[Exception], ...]
) -> str:
    """What is wrong with a refusal, or "".

    Args:
        error: what was raised.
        names: words of which the message has to hold one.
        kinds: of exceptions that may be raised.
    """
    said = f"{type(error).__name__} at {site(error)}: {str(error)[:300]}"
    if not isinstance(error, kinds):
        return said
    if not is_ours(error):
        return f"not raised by ltjax: {said}"
    if not any(re.search(rf"(?<!\w){re.escape(name)}", str(error)) for name in names):
        return f"names none of {sorted(names)}: {said}"
    return ""
