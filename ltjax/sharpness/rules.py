"""Which parameters are perturbed, and in which units: scale rules and masks.

Both are functions of the parameter tree, read at trace time by path. A path is the
sequence of keys that leads to a leaf, joined by "/": `backbone/Conv_0/kernel`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range

# Flax's names for what PyTorch calls "weight"; the last key must match exactly.
_WEIGHT_NAMES = ("kernel", "scale", "embedding")


def leaf_paths(params: Any) -> Any:
    """The tree of the leaves' paths, as strings such as `backbone/Conv_0/kernel`.

    Args:
        params: any pytree.

    Returns:
        A tree of the same structure with a string per leaf.

    Example:
        >>> leaf_paths({"head": {"bias": 1.0}})
        {'head': {'bias': 'head/bias'}}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )


def asam(*, eta: ArrayLike = 0.01, rule: str = "weights_only") -> Callable[[Any], Any]:
    r"""Scale rule of adaptive SAM: a radius in units of the weights' own magnitude.

    .. math:: D = |\theta| + \eta, \qquad
              \epsilon = \rho\, D^2 g / (\|D g\| + \delta)

    With eta = 0 and all tensors scaled, the ball does not change when one layer is
    multiplied and the next divided by the same factor. Radii are about ten times SAM's.

    Args:
        eta: added to the magnitudes, >= 0; may be traced.
        rule: "weights_only" scales the leaves whose last key is exactly `kernel`,
            `scale` or `embedding` and leaves D = 1 elsewhere (the authors' code);
            "all" scales every leaf (a widely used re-implementation; a bias at zero is
            then never perturbed if eta = 0).

    Returns:
        Function params -> D, for `sharp_value_and_grad(..., scale=)`.

    Raises:
        ValueError: if the rule is unknown or eta < 0.

    Example:
        >>> scale = asam(eta=0.5)({"kernel": jnp.array([-2.0]), "bias": jnp.zeros(1)})
        >>> print(scale["kernel"], scale["bias"])
        [2.5] [1.]

    References:
        Kwon et al., "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant
        Learning of Deep Neural Networks", ICML 2021, Algorithm 1. The paper has
        eta = 0.01, the released example 0.
    """
    check_choice("asam", "rule", rule, ("weights_only", "all"))
    check_range("asam", "eta", eta, low=0.0)

    def scale(params: Any) -> Any:
        def of_leaf(leaf, path):
            if rule == "all" or path.rsplit("/", 1)[-1] in _WEIGHT_NAMES:
                return jnp.abs(leaf) + jnp.asarray(eta, leaf.dtype)
            return jnp.ones_like(leaf)

        return jax.tree.map(of_leaf, params, leaf_paths(params))

    return scale


def normalization_only(params: Any) -> Any:
    """Mask of SAM-ON: perturb the scales and offsets of normalization layers only.

    A layer counts as normalization if it has a `scale` and no `kernel`, or if its name
    contains "norm" (an offset without a scale).

    Args:
        params: parameter tree.

    Returns:
        Tree of Python bools, for `sharp_value_and_grad(..., mask=)`.

    Raises:
        ValueError: if the model has no normalization layer.

    Example:
        >>> tree = {"Conv_0": {"kernel": 0.0, "bias": 0.0},
        ...         "BatchNorm_0": {"scale": 0.0, "bias": 0.0}}
        >>> normalization_only(tree)["BatchNorm_0"], normalization_only(tree)["Conv_0"]
        ({'bias': True, 'scale': True}, {'bias': False, 'kernel': False})

    References:
        Mueller et al., "Normalization Layers Are All That Sharpness-Aware Minimization
        Needs", NeurIPS 2023.
    """
    paths = leaf_paths(params)
    present = set(jax.tree.leaves(paths))

    def is_normalization(path: str) -> bool:
        layer, _, _ = path.rpartition("/")
        siblings = {name: f"{layer}/{name}" in present for name in ("scale", "kernel")}
        named = "norm" in layer.rpartition("/")[2].lower()
        return (siblings["scale"] or named) and not siblings["kernel"]

    mask = jax.tree.map(is_normalization, paths)
    if not any(jax.tree.leaves(mask)):
        raise ValueError(
            "normalization_only: no normalization layer among the parameters"
            f" {sorted(present)[:6]} ..., expected one to perturb"
        )
    return mask


def only_under(*names: str) -> Callable[[Any], Any]:
    """Mask rule: perturb only the leaves below a key of one of these names.

    Args:
        *names: keys such as "head"; a path matches if one of its keys equals a name.

    Returns:
        Function params -> tree of Python bools, for `sharp_value_and_grad(..., mask=)`.

    Raises:
        ValueError: (when applied) if nothing matches.

    Example:
        >>> only_under("head")({"head": {"bias": 0.0}, "stem": {"bias": 0.0}})
        {'head': {'bias': True}, 'stem': {'bias': False}}
    """

    def mask(params: Any) -> Any:
        paths = leaf_paths(params)
        found = jax.tree.map(
            lambda path: not set(names).isdisjoint(path.split("/")), paths
        )
        if not any(jax.tree.leaves(found)):
            raise ValueError(
                f"only_under: no parameter lies below {list(names)}; paths are"
                f" {sorted(jax.tree.leaves(paths))[:6]} ..."
            )
        return found

    return mask
