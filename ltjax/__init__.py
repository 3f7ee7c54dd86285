"""ltjax: learning from imbalanced and long-tailed data in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltjax.fitting import fit
    from ltjax.serving import load

__version__ = "0.1.0"
__all__ = ["__version__", "fit", "load"]

# Functions that need the engine, imported when they are asked for.
_LATER = {"fit": "ltjax.fitting", "load": "ltjax.serving"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'ltjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
