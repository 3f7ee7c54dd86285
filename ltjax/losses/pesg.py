r"""Optimizers of min-max losses, as optax transforms that are told what to ascend.

A transform sees the gradients of the objective with respect to everything. It descends
in most of it, ascends in some, and projects onto bounds, so the loss needs no optimizer
of its own: the auxiliary variables are one more subtree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range
from ltjax.losses.aucm import SaddleDuals

if TYPE_CHECKING:
    # Inside the functions otherwise: optax brings absl, which a loss does not need.
    import optax


class SaddleVariables(NamedTuple):
    """What `pesg` updates: the parameters of a network and the duals of its loss."""

    params: Any
    duals: SaddleDuals


class PESGState(NamedTuple):
    """Momentum, the reference of the proximal term, and the average that replaces it.

    All but `steps` (int32 scalar) have the structure of (params, a, b).
    """

    buffer: Any
    reference: Any
    total: Any
    steps: jax.Array


def projected_descent_ascent(
    learning_rate: float | ArrayLike,
    *,
    ascend: Any = False,
    low: Any = -float("inf"),
    high: Any = float("inf"),
) -> optax.GradientTransformation:
    r"""Gradient steps with a sign and an interval for every leaf.

    .. math:: x \leftarrow \min(\max(x \pm \eta\, g, \mathrm{low}), \mathrm{high})

    Args:
        learning_rate: eta.
        ascend: bool, or a tree of them that the variables' tree may begin with; True
            leaves ascend.
        low: lower bounds, likewise.
        high: upper bounds, likewise.

    Returns:
        A transform whose `update` needs params.

    Raises:
        ValueError: by `update`, if params are missing.

    Example:
        >>> import optax
        >>> transform = projected_descent_ascent(0.1, low=0.0)  # a multiplier
        >>> state = transform.init(jnp.array(0.5))
        >>> step, _ = transform.update(jnp.array(9.0), state, jnp.array(0.5))
        >>> print(optax.apply_updates(jnp.array(0.5), step))
        0.0
    """
    import optax

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("projected_descent_ascent: update needs params")
        trees = [_prefix(x, params) for x in (ascend, low, high)]
        rate = jnp.asarray(learning_rate)

        def step(gradient, value, up, least, most):
            moved = value + (rate if up else -rate) * gradient
            return (jnp.clip(moved, least, most) - value).astype(value.dtype)

        return jax.tree.map(step, updates, params, *trees), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _prefix(prefix, tree):
    """`prefix` extended to the whole structure of `tree`."""
    return jax.tree.map(lambda p, t: jax.tree.map(lambda _: p, t), prefix, tree)


def pesg(
    learning_rate: float | ArrayLike,
    *,
    margin: float | ArrayLike = 1.0,
    momentum: float | ArrayLike = 0.0,
    clip: float = 1.0,
    epoch_decay: float | ArrayLike = 2e-3,
    weight_decay: float | ArrayLike = 0.0,
    alpha_step: str = "gradient",
    alpha_bounds: tuple[float, float] = (0.0, 999.0),
    reference: Any = None,
) -> optax.GradientTransformation:
    r"""Proximal epoch stochastic gradient for `aucm`, on `SaddleVariables`.

    For the parameters, a and b, with the reference r of the current stage,

    .. math:: d = \mathrm{clip}(g, \pm c) + \gamma (v - r) + \lambda v, \quad
              u \leftarrow \mu_0 u + (1 - \mu_0)\, d, \quad v \leftarrow v - \eta\, u

    and alpha ascends, projected on its bounds, along its gradient, or ("published")
    along :math:`2 (m + b - a) - 2 \alpha` with the a and b just updated, which does not
    look at the batch.

    Args:
        learning_rate: eta; divided by 10 at the end of a stage.
        margin: m of `aucm`; used by the published step only.
        momentum: mu_0, the share of the old direction that is kept. The released code's
            `momentum` multiplies the *new* gradient: its 0.9 is 0.1 here.
        clip: c, bound of every entry of the gradient; inf for none.
        epoch_decay: gamma, strength of the proximal term.
        weight_decay: lambda.
        alpha_step: "gradient" or "published".
        alpha_bounds: interval of alpha.
        reference: first reference, the structure of (params, a, b); None means their
            initial values. The released code starts from noise of scale 0.01.

    Returns:
        A transform whose `update` needs params. `refresh_pesg` ends a stage.

    Raises:
        ValueError: if a readable option is out of range; by `update`, if params are
            missing.

    Example:
        >>> variables = SaddleVariables({"w": jnp.ones(2)}, SaddleDuals(0.0, 0.0, 0.0))
        >>> variables = jax.tree.map(jnp.asarray, variables)
        >>> transform = pesg(0.1)
        >>> state = transform.init(variables)
        >>> gradients = jax.tree.map(jnp.ones_like, variables)
        >>> updates, state = transform.update(gradients, state, variables)
        >>> print(updates.params["w"], updates.duals.alpha)
        [-0.1 -0.1] 0.1

    References:
        Yuan et al., "Large-scale Robust Deep AUC Maximization", ICCV 2021, Algorithm 1,
        and the released code (clipping, the order of the steps, the published step).
    """
    check_choice("pesg", "alpha_step", alpha_step, ("gradient", "published"))
    check_range("pesg", "momentum", momentum, low=0.0, high=1.0, open_high=True)
    check_range("pesg", "clip", clip, low=0.0, open_low=True)
    import optax

    given = reference

    def primal(variables):
        return variables.params, variables.duals.a, variables.duals.b

    def init(params):
        values = primal(params)
        zeros = jax.tree.map(jnp.zeros_like, values)
        # A copy of its own, as training loops donate their buffers.
        start = jax.tree.map(jnp.array, values if given is None else given)
        return PESGState(zeros, start, zeros, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("pesg: update needs params")

        def direction(gradient, value, center, old):
            pull = epoch_decay * (value - center) + weight_decay * value
            new = jnp.clip(gradient, -clip, clip) + pull
            return (momentum * old + (1 - momentum) * new).astype(value.dtype)

        values = primal(params)
        buffer = jax.tree.map(
            direction, primal(updates), values, state.reference, state.buffer
        )
        rate = jnp.asarray(learning_rate)
        steps = jax.tree.map(lambda u: (-rate * u).astype(u.dtype), buffer)
        moved = jax.tree.map(jnp.add, values, steps)
        alpha = params.duals.alpha
        slope = updates.duals.alpha
        if alpha_step == "published":
            slope = 2 * (margin + moved[2] - moved[1]) - 2 * alpha
        ascended = jnp.clip(alpha + rate * slope, *alpha_bounds)
        duals = SaddleDuals(steps[1], steps[2], (ascended - alpha).astype(alpha.dtype))
        total = jax.tree.map(jnp.add, state.total, moved)
        new = PESGState(buffer, state.reference, total, state.steps + 1)
        return SaddleVariables(steps[0], duals), new

    return optax.GradientTransformation(init, update)


def refresh_pesg(state: PESGState) -> PESGState:
    """Ends a stage: the reference becomes the average since the last refresh.

    Args:
        state: of `pesg`.

    Returns:
        The state of the next stage; unchanged if no step was taken in this one.

    Example:
        >>> transform = pesg(0.1)
        >>> variables = SaddleVariables(jnp.ones(2), SaddleDuals(*jnp.zeros(3)))
        >>> state = transform.init(variables)
        >>> _, state = transform.update(variables, state, variables)
        >>> print(refresh_pesg(state).reference[0], refresh_pesg(state).steps)
        [0.9 0.9] 0
    """
    some = state.steps > 0

    def average(total, old):
        count = jnp.maximum(state.steps, 1).astype(total.dtype)
        return jnp.where(some, total / count, old)

    reference = jax.tree.map(average, state.total, state.reference)
    zeros = jax.tree.map(jnp.zeros_like, state.total)
    return PESGState(state.buffer, reference, zeros, jnp.zeros_like(state.steps))
