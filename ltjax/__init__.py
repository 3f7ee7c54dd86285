"""ltjax: learning from imbalanced and long-tailed data in JAX."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltjax.serving import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# Functions that need the engine, imported when they are asked for.
_LATER = {"load": "ltjax.serving"}


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module 'ltjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
