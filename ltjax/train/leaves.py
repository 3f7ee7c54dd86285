"""Trees of arrays as what a checkpoint holds: plain arrays by dotted name.

Typed random keys are stored as their uint32 data, since a file knows no key types.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def raw(tree: Any) -> Any:
    """Typed keys as their uint32 data; everything else unchanged."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def wrap(tree: Any, template: Any) -> Any:
    """The inverse of `raw`; `template` tells which leaves are keys."""
    return jax.tree.map(
        lambda x, t: jax.random.wrap_key_data(x) if _is_key(t) else x, tree, template
    )


def abstract(template: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of the raw tree of `template`."""

    def leaf(x, sharding):
        if _is_key(x):
            x = jax.eval_shape(jax.random.key_data, x)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, template, shardings)


def named(tree: Any) -> dict[str, Any]:
    """Leaves by their dotted names.

    Example:
        >>> named({"params": {"head": [1, 2]}, "step": 3})
        {'params.head.0': 1, 'params.head.1': 2, 'step': 3}
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves
    }


def mismatches(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What is missing, superfluous, or of another shape or dtype, a line each.

    Args:
        saved: dotted name -> anything with a shape and a dtype.
        wanted: likewise.

    Example:
        >>> a, b = np.zeros(3, np.int32), np.zeros((3, 1), np.int32)
        >>> mismatches({"x": a}, {"x": b, "y": b})
        ['x is int32[3], expected int32[3, 1]', 'y is missing']
    """
    faults = [f"{name} is missing" for name in wanted.keys() - saved.keys()]
    faults += [f"{name} is not expected" for name in saved.keys() - wanted.keys()]
    for name in wanted.keys() & saved.keys():
        old, new = saved[name], wanted[name]
        if tuple(old.shape) != tuple(new.shape) or np.dtype(old.dtype) != new.dtype:
            faults.append(
                f"{name} is {np.dtype(old.dtype)}{list(old.shape)},"
                f" expected {new.dtype}{list(new.shape)}"
            )
    return sorted(faults)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
