r"""Losses that regress a vector on a target, without negatives.

A prediction has to point where its target points. The targets come from the other view
(SimSiam), a momentum network (BYOL) or a teacher (divide and contrast), and get no
gradient. Nothing is compared across the batch.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_where, shape_of
from ltjax._numerics import l2_normalize, mask_values
from ltjax.losses._features import check_same_rows, float_rows, unit_rows


def _across_views(caller, first, second, first_target, second_target, where):
    """Squared distances of unit vectors, each view's to the other's target, [B]."""
    check_same_rows(
        caller,
        first_prediction=first,
        second_prediction=second,
        first_target=first_target,
        second_target=second_target,
    )
    check_where(caller, where, shape_of(first)[:1])
    first, second, *targets = unit_rows(
        where, first, second, first_target, second_target
    )
    first_target, second_target = jax.lax.stop_gradient(targets)
    # Not 2 - 2 cos, which rounds away the distance of vectors that nearly agree.
    return jnp.sum(
        jnp.square(first - second_target) + jnp.square(second - first_target), axis=1
    )


def byol(
    first_prediction: ArrayLike,
    second_prediction: ArrayLike,
    first_target: ArrayLike,
    second_target: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Regression of each view's prediction on the other view's target (BYOL).

    .. math:: \ell = \|\bar p_1 - \bar t_2\|^2 + \|\bar p_2 - \bar t_1\|^2
              = 4 - 2 \cos(p_1, t_2) - 2 \cos(p_2, t_1)

    with a bar for unit length. No gradient goes into the targets.

    Args:
        first_prediction: [B, D] float, predictor's output for the first views.
        second_prediction: [B, D] float, for the second views.
        first_target: [B, D] float, momentum network's projection of the first views.
        second_target: [B, D] float, of the second views.
        where: optional [B] bool; False images cost 0.

    Returns:
        [B] float32 in [0, 8], the *sum* of both directions, not reduced.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if the features are not floating point.

    Example:
        >>> p1, t2 = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0]])
        >>> p2, t1 = jnp.array([[1.0, 1.0]]), jnp.array([[0.0, 2.0]])
        >>> print(f"{byol(p1, p2, t1, t2)[0]:.4f}")
        1.3858

    Limits: 4 + 4 `simsiam` of the same vectors; 0 if all representations are equal.

    References:
        Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, eq. 2.
    """
    views = first_prediction, second_prediction, first_target, second_target
    return mask_values(_across_views("byol", *views, where), where)


def simsiam(
    first_prediction: ArrayLike,
    second_prediction: ArrayLike,
    first_target: ArrayLike,
    second_target: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative cosine of each view's prediction and the other's projection (SimSiam).

    .. math:: \ell = -\tfrac12 \cos(p_1, z_2) - \tfrac12 \cos(p_2, z_1)

    No gradient goes into the projections z, which the same network has made.

    Args:
        first_prediction: [B, D] float, predictor's output for the first views.
        second_prediction: [B, D] float, for the second views.
        first_target: [B, D] float, projection of the first views.
        second_target: [B, D] float, of the second views.
        where: optional [B] bool; False images cost 0.

    Returns:
        [B] float32 in [-1, 1], not reduced.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if the features are not floating point.

    Example:
        >>> p1, z2 = jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0]])
        >>> p2, z1 = jnp.array([[1.0, 1.0]]), jnp.array([[0.0, 2.0]])
        >>> print(f"{simsiam(p1, p2, z1, z2)[0]:.6f}")
        -0.653553

    Limits: `byol` / 4 - 1 of the same vectors.

    References:
        Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021,
        eq. 2 and algorithm 1.
    """
    views = first_prediction, second_prediction, first_target, second_target
    # 1 - cos is half the squared distance.
    return mask_values(0.25 * _across_views("simsiam", *views, where) - 1, where)


def dnc_distillation(
    base_regression: ArrayLike,
    expert_regression: ArrayLike,
    base_target: ArrayLike,
    expert_target: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distillation of a base network and of a cluster's expert (divide and contrast).

    .. math:: \ell = \tfrac12 \|r_b - \bar t_b\|^2 + \tfrac12 \|r_k - \bar t_k\|^2

    for an image of cluster k, whose regressor k is the one that is trained by it. The
    targets are normalized, what is regressed is *not*.

    Args:
        base_regression: [B, D] float, the base's regressor on the student's projection.
        expert_regression: [B, D] float, the regressor of each image's own cluster.
        base_target: [B, D] float, projection by the base network, any norm.
        expert_target: [B, D] float, by the expert of each image's cluster, any norm.
        where: optional [B] bool; False images cost 0.

    Returns:
        [B] float32, not reduced.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if the features are not floating point.

    Example:
        >>> r, t = jnp.array([[0.6, 0.0]]), jnp.array([[3.0, 4.0]])
        >>> print(f"{dnc_distillation(r, r, t, t)[0]:.2f}")
        0.64

    Limits: 0 if both regressors return the normalized targets.

    References:
        Tian, Henaff and van den Oord, "Divide and Contrast: Self-supervised Learning
        from Uncurated Data", ICCV 2021, eq. 2; there is no official code.
    """
    caller = "dnc_distillation"
    check_same_rows(
        caller,
        base_regression=base_regression,
        expert_regression=expert_regression,
        base_target=base_target,
        expert_target=expert_target,
    )
    check_where(caller, where, shape_of(base_regression)[:1])
    base, expert, *targets = float_rows(
        where, base_regression, expert_regression, base_target, expert_target
    )
    base_unit, expert_unit = (l2_normalize(jax.lax.stop_gradient(x)) for x in targets)
    squares = jnp.square(base - base_unit) + jnp.square(expert - expert_unit)
    return mask_values(0.5 * jnp.sum(squares, axis=1), where)
