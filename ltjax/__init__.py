"""ltjax: learning from imbalanced and long-tailed data in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltjax.fitting import fit

__all__ = ["fit"]
__version__ = "0.1.0"

# What is imported when it is asked for: name -> module.
_LAZY = {"fit": "ltjax.fitting"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ltjax' has no attribute {name!r}")
