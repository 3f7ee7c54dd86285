"""Optimizers that published recipes need and optax has in another form only."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

# Modules whose arrays are those of several networks, stacked on a first axis
# (`ltjax.models.projection.Regressors`).
STACKED = ("regressors",)


def _stacked(path: tuple) -> bool:
    return any(getattr(entry, "key", None) in STACKED for entry in path)


def kernels_only(params: Any) -> Any:
    """Mask of the arrays with more than one axis: no biases, no norm parameters.

    The axis that stacked networks lie on does not count.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ndim(leaf) - _stacked(path) > 1, params
    )


def lars(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    momentum: float = 0.9,
    adapted: Callable[[Any], Any] | Any = kernels_only,
) -> optax.GradientTransformation:
    r"""LARS with the learning rate outside of the momentum, as BYOL has it.

    .. math:: u = g + \mu w, \quad v \leftarrow m v + \eta \frac{\|w\|}{\|u\|} u,
              \quad w \leftarrow w - \alpha v

    `optax.lars` (and SimCLR) have :math:`\alpha` *inside*: :math:`v \leftarrow m v +
    \alpha \dots`, :math:`w \leftarrow w - v`. Both agree while the learning rate is
    constant; under a schedule they differ, as old gradients keep their old rate there.

    Args:
        learning_rate: :math:`\alpha`, a number or a schedule.
        weight_decay: :math:`\mu`.
        trust_coefficient: :math:`\eta`; the ratio is 1 where either norm is 0. Each of
            several stacked networks has its own.
        momentum: m.
        adapted: mask, or function of the parameters to a mask, of the arrays that get
            weight decay and trust ratio. The others follow plain momentum.

    Returns:
        An optax.GradientTransformation.

    Example:
        >>> w, g = {"w": jnp.array([[3.0, 4.0]])}, {"w": jnp.array([[0.6, 0.8]])}
        >>> optimizer = lars(2.0, weight_decay=0.01)
        >>> updates, _ = optimizer.update(g, optimizer.init(w), w)
        >>> updates["w"].round(6).tolist()
        [[-0.006000000052154064, -0.00800000037997961]]

    References:
        You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017;
        Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, released code.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=adapted),
        scale_by_lars(trust_coefficient, momentum, adapted),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_lars(
    trust_coefficient: float = 1e-3,
    momentum: float = 0.9,
    adapted: Callable[[Any], Any] | Any = kernels_only,
) -> optax.GradientTransformation:
    """Trust ratio and momentum of `lars`, without decay and learning rate.

    Args:
        trust_coefficient: see `lars`.
        momentum: see `lars`.
        adapted: see `lars`.

    Returns:
        An optax.GradientTransformation.
    """
    ratio = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient)

    def one(update, param):
        return ratio.update(update, optax.EmptyState(), param)[0]

    def scale(updates, params):
        return jax.tree_util.tree_map_with_path(
            lambda path, *pair: (jax.vmap(one) if _stacked(path) else one)(*pair),
            updates,
            params,
        )

    return optax.chain(
        optax.masked(optax.stateless(scale), adapted), optax.trace(decay=momentum)
    )
