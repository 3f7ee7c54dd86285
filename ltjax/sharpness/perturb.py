r"""The perturbation of the family, and how much of it low precision keeps.

.. math:: \epsilon = \rho\, D^2 g / (\|D g\| + \delta)

with one norm over all leaves together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Perturbation(NamedTuple):
    """A perturbation of a parameter tree.

    Attributes:
        epsilon: tree of the parameters' structure; zero where masked.
        ascent_norm: ||D g|| over the perturbed leaves, the denominator.
    """

    epsilon: Any
    ascent_norm: jax.Array


def perturbation(
    params: Any,
    gradient: Any,
    rho: ArrayLike,
    *,
    scale: Callable[[Any], Any] | None = None,
    mask: Any = None,
    delta: float = 1e-12,
) -> Perturbation:
    r"""First-order solution of the inner maximization, a constant afterwards.

    Args:
        params: parameter tree, float32 or float64.
        gradient: ascent gradient, same structure.
        rho: radius, a scalar that may be traced.
        scale: function params -> D (same structure), or None for D = 1.
        mask: tree of Python bools or function params -> such a tree. False leaves are
            left out of the norm and not perturbed.
        delta: protects the division; a zero gradient gives a zero perturbation.

    Returns:
        `Perturbation(epsilon, ascent_norm)`.

    Raises:
        ValueError: if scale or mask do not have the parameters' structure.

    Example:
        >>> found = perturbation(jnp.zeros(2), jnp.array([3.0, 4.0]), 0.5)
        >>> print(found.epsilon, found.ascent_norm)
        [0.3 0.4] 5.0

    References:
        Foret et al., ICLR 2021, eq. 2 (p = 2); Kwon et al., ICML 2021, Algorithm 1.
    """
    # No gradient flows through the perturbation: the method is first-order.
    params, gradient = jax.lax.stop_gradient((params, gradient))
    keep = mask_tree(params, mask)
    if scale is None:
        scaled = gradient
    else:
        scaling = jax.lax.stop_gradient(scale(params))
        _check_structure("scale", scaling, params)
        scaled = jax.tree.map(jnp.multiply, scaling, gradient)
    norm = tree_norm(_zero_unless(keep, scaled))
    factor = rho / (norm + delta)
    ascent = scaled
    if scale is not None:
        ascent = jax.tree.map(jnp.multiply, scaling, scaled)
    epsilon = jax.tree.map(lambda e: (factor * e).astype(e.dtype), ascent)
    return Perturbation(_zero_unless(keep, epsilon), norm)


def realized_perturbation(
    params: Any, epsilon: Any, dtype: Any = jnp.bfloat16
) -> dict[str, jax.Array]:
    r"""How much of a perturbation survives rounding the parameters to `dtype`.

    .. math:: \hat\epsilon = \mathrm{round}(\theta + \epsilon) - \mathrm{round}(\theta)

    A model that computes in bfloat16 sees :math:`\hat\epsilon`, not :math:`\epsilon`:
    with millions of weights most coordinates of a usual perturbation lie below half a
    unit in the last place. Below a cosine of about 0.9, run the model in float32.

    Args:
        params: parameter tree in float32.
        epsilon: perturbation, same structure.
        dtype: the dtype the model computes in.

    Returns:
        {"cosine", "norm_ratio", "unchanged"}: cosine between the realized and the
        intended perturbation, ratio of their norms, and share of the coordinates that
        do not move. A zero perturbation counts as fully realized.

    Example:
        >>> found = realized_perturbation(jnp.ones(1), jnp.full(1, 1e-4))
        >>> print(found["cosine"], found["unchanged"])
        0.0 1.0
    """
    info = jnp.finfo(dtype)

    # A pair of casts may be simplified away by the compiler; this may not.
    def rounded(x):
        return jax.lax.reduce_precision(x, info.nexp, info.nmant)

    realized = jax.tree.map(lambda p, e: rounded(p + e) - rounded(p), params, epsilon)
    norm, intended = tree_norm(realized), tree_norm(epsilon)
    product = norm * intended
    safe = jnp.where(product > 0, product, 1)
    # Summed as the norms are: a product of vectors may add up in another order, which
    # is felt in the fourth decimal with a million entries.
    products = jax.tree.map(lambda r, e: jnp.sum(r * e), realized, epsilon)
    dot = sum(jax.tree.leaves(products))
    moved = [jnp.ravel(r != 0) for r in jax.tree.leaves(realized)]
    nothing = intended == 0
    ratio = norm / jnp.where(nothing, 1, intended)
    return {
        "cosine": jnp.where(nothing, 1, jnp.where(product > 0, dot / safe, 0)),
        "norm_ratio": jnp.where(nothing, 1, ratio),
        "unchanged": 1 - jnp.mean(jnp.concatenate(moved)),
    }


def check_parameters(caller: str, params: Any) -> None:
    """Refuses parameter leaves below float32: the perturbation would be rounded off."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if dtype not in (jnp.float32, jnp.float64):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise TypeError(
                f"{caller}: parameter {name} has dtype {dtype}, expected float32 or"
                " float64; keep float32 parameters and set the compute dtype in the"
                " model"
            )


def mask_tree(params: Any, mask: Any) -> Any:
    """`mask` as a tree of Python bools of the parameters' structure."""
    if mask is None:
        return jax.tree.map(lambda _: True, params)
    keep = mask(params) if callable(mask) else mask
    _check_structure("mask", keep, params)
    for leaf in jax.tree.leaves(keep):
        if not isinstance(leaf, bool | np.bool_):
            raise ValueError(
                f"perturbation: mask has a leaf of type {type(leaf).__name__}, expected"
                " Python bools (which leaves are perturbed is static)"
            )
    return keep


def tree_norm(tree: Any) -> jax.Array:
    """Euclidean norm over all leaves of the tree together."""
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


def _zero_unless(keep: Any, tree: Any) -> Any:
    return jax.tree.map(lambda k, x: x if k else jnp.zeros_like(x), keep, tree)


def _check_structure(name: str, tree: Any, params: Any) -> None:
    got, expected = jax.tree.structure(tree), jax.tree.structure(params)
    if got != expected:
        raise ValueError(
            f"perturbation: {name} has structure {got}, expected that of the parameters"
            f" {expected}"
        )
