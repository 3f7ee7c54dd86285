r"""Slices of the loss: how it rises along directions through a point.

.. math:: r \mapsto L(\theta + r\, d)

along random directions (`filter_normalized_direction`) or along the one that a
perturbation takes (`perturbation(params, gradient, 1.0).epsilon`, whose r is SAM's
rho). Unlike the gap of a training step, a slice shows both signs and all radii; unlike
a Hessian, it sees more than the second order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_rank, shape_of
from ltjax._numerics import as_key


def filter_normalized_direction(key: ArrayLike, params: Any) -> Any:
    r"""A Gaussian direction whose filters are as long as those of the parameters.

    .. math:: d_j \leftarrow \frac{d_j}{\|d_j\|}\, \|\theta_j\|

    for every filter j, the slice of a kernel that makes one output unit or channel (the
    last axis counts them). Networks whose weights differ by a scale that batch
    normalization undoes then have equal slices. Biases and the scales and offsets of
    normalization layers, all leaves of rank 0 or 1, stay where they are.

    Args:
        key: typed key, PRNGKey or int seed.
        params: parameter tree; a radius of 1 moves a filter by its own norm.

    Returns:
        A tree of the structure, shapes and dtypes of `params`.

    Example:
        >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]),
        ...           "bias": jnp.ones(2)}
        >>> direction = filter_normalized_direction(jax.random.key(0), params)
        >>> norms = jnp.linalg.norm(direction["kernel"], axis=0)
        >>> print(norms.round(5), direction["bias"])
        [5. 2.] [0. 0.]

    References:
        Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural
        Nets", NeurIPS 2018, section 4. Their code moves leaves of rank 1 too, unless
        told to ignore biases and normalization as its examples do.
    """
    key = as_key("filter_normalized_direction", key)
    leaves, structure = jax.tree.flatten(params)
    moved = [
        _like_filters(jax.random.fold_in(key, number), jnp.asarray(leaf))
        for number, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, moved)


def loss_slices(
    loss_fn: Callable[[Any], jax.Array],
    params: Any,
    directions: Mapping[str, Any],
    radii: ArrayLike,
) -> dict[str, jax.Array]:
    """The loss along each direction, at every radius.

    Args:
        loss_fn: params -> [...] float: one loss, or several side by side, such as the
            mean loss of every class. It is compiled once, for all directions and radii.
        params: parameter tree, the point at radius 0.
        directions: name -> tree of the parameters' structure and shapes.
        radii: [S] float, in units of the direction's length; may be negative.

    Returns:
        name -> [S, ...] float.

    Raises:
        ValueError: if radii are no vector, or a direction does not fit the parameters.

    Example:
        >>> slices = loss_slices(
        ...     lambda w: jnp.stack([w @ w, w @ w / 2]), jnp.array([1.0, 0.0]),
        ...     {"along": jnp.array([1.0, 0.0])}, [-1.0, 0.0, 1.0])
        >>> print(slices["along"])
        [[0.  0. ]
         [1.  0.5]
         [4.  2. ]]

    Limits: one call of `loss_fn` after another, so that no more than one copy of the
    parameters is in memory; sum over batches inside `loss_fn` if the data ask for it.

    References:
        Li et al., NeurIPS 2018; Goodfellow et al., "Qualitatively Characterizing Neural
        Network Optimization Problems", ICLR 2015 (lines between two points).
    """
    check_rank("loss_slices", "radii", radii, 1, "[S]")
    expected = jax.tree.map(shape_of, params)
    for name, direction in directions.items():
        found = jax.tree.map(shape_of, direction)
        if found != expected:
            raise ValueError(
                f"loss_slices: direction {name!r} has leaves {found}, expected those of"
                f" the parameters {expected}"
            )

    @jax.jit
    def at(params, direction, radius):
        def move(leaf, step):
            return leaf + (radius * step).astype(jnp.result_type(leaf))

        return loss_fn(jax.tree.map(move, params, direction))

    radii = jnp.asarray(radii, jnp.result_type(float))
    return {
        name: jnp.stack([at(params, direction, radius) for radius in radii])
        for name, direction in directions.items()
    }


def _like_filters(key: jax.Array, leaf: jax.Array) -> jax.Array:
    if leaf.ndim <= 1:
        return jnp.zeros_like(leaf)
    noise = jax.random.normal(key, leaf.shape, leaf.dtype)
    axes = tuple(range(leaf.ndim - 1))

    def norms(x):
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))

    return noise * (norms(leaf) / norms(noise))
