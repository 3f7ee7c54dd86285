"""The train state and its random streams."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from ltjax._numerics import moving_average

NEVER = 2**31 - 1  # "no bad step yet"


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step; every leaf is an array.

    Attributes:
        step: int32 scalar, counts optimizer updates.
        rng: root typed key, constant; a step derives its keys from it.
        params: what the optimizer updates.
        model_state: Linen collections other than params (batch statistics, frames).
        opt_state: of the optax chain.
        ema: {"params", "model_state"} averages and the number of "steps" that they are
            of, or None.
        method_state: all else that a method owns, or None.
        hyper: flat dict of float32 scalars that replicas may differ in.
        diverged: int32 scalar, the step at which a replica stopped to be finite and was
            frozen; `NEVER` for those that go on.
    """

    step: jax.Array
    rng: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any
    method_state: Any
    hyper: dict[str, jax.Array]
    diverged: jax.Array


def stream(key: jax.Array, name: str) -> jax.Array:
    """An independent key for the stream `name` of `key`."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def step_key(state: TrainState, name: str) -> jax.Array:
    """The key of stream `name` at the state's step: a function of seed and step."""
    return stream(jax.random.fold_in(state.rng, state.step), name)


def strongly_typed(tree: Any) -> Any:
    """`tree` without weak types, of which a leaf would compile the step twice."""

    def leaf(x):
        return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else x.astype(x.dtype)

    return jax.tree.map(lambda x: leaf(jnp.asarray(x)), tree)


def fresh_average(params: Any, model_state: Any) -> dict[str, Any]:
    """What averages start with; no step is in it yet."""
    both = jax.tree.map(jnp.copy, {"params": params, "model_state": model_state})
    return {**both, "steps": jnp.zeros((), jnp.int32)}


def advance_average(
    ema: dict[str, Any], params: Any, model_state: Any, decay: float
) -> dict[str, Any]:
    r"""The averages after a further step.

    .. math:: \bar\theta_{t+1} = d_t \bar\theta_t + (1 - d_t)\, \theta_{t+1}, \qquad
        d_t = \min\bigl(1 - 1 / (t + 1),\; d\bigr), \; t = 0, 1, \dots

    It is the plain mean of the first :math:`1 / (1 - d)` iterates, so that nothing of
    the initial network is left in a run of a few hundred steps; from then on the usual
    moving average (Oh et al., DASO, CVPR 2022, released code).
    """
    steps = ema["steps"].astype(jnp.float32)
    now = jnp.minimum(1 - 1 / (steps + 1), decay)
    latest = {"params": params, "model_state": model_state}
    old = {name: ema[name] for name in latest}
    return {**moving_average(old, latest, now), "steps": ema["steps"] + 1}


def init_state(
    seed,
    hyper: Mapping[str, Any],
    *,
    init_model: Callable[[jax.Array], tuple[Any, Any]],
    init_method: Callable[..., Any],
    make_tx: Callable[..., Any],
    ema: bool = False,
) -> TrainState:
    """A fresh state; jit- and vmap-able over `seed` and `hyper`.

    Args:
        seed: int scalar.
        hyper: name -> scalar.
        init_model: key -> (params, model_state).
        init_method: (key, params, model_state) -> method_state.
        make_tx: (hyper, step) -> optax.GradientTransformation.
        ema: whether to carry averages of the parameters.

    Returns:
        The state at step 0.
    """
    # Strongly typed copies: weak types retrace when restored, and the caller's arrays
    # must survive the donation of the state.
    hyper = {name: jnp.array(value, jnp.float32) for name, value in hyper.items()}
    step = jnp.zeros((), jnp.int32)
    rng = jax.random.key(seed)
    params, model_state = init_model(stream(rng, "init"))
    return TrainState(
        step=step,
        rng=rng,
        params=params,
        model_state=model_state,
        opt_state=strongly_typed(make_tx(hyper, step).init(params)),
        ema=fresh_average(params, model_state) if ema else None,
        method_state=strongly_typed(
            init_method(stream(rng, "method"), params, model_state)
        ),
        hyper=hyper,
        diverged=jnp.full((), NEVER, jnp.int32),
    )


def with_parameters(
    state: TrainState,
    params: Any,
    model_state: Any,
    *,
    init_method: Callable[..., Any],
    adopt: Callable[[Any], Any] = lambda params: params,
) -> TrainState:
    """A fresh state that starts from other parameters.

    Args:
        state: from `init_state`.
        params: of the same structure.
        model_state: likewise.
        init_method: as for `init_state`; the method's state may depend on them.
        adopt: params -> params, see `ltjax.models.Model`.

    Returns:
        The state at step 0.
    """
    params = adopt(params)
    ema = None if state.ema is None else fresh_average(params, model_state)
    method_state = init_method(stream(state.rng, "method"), params, model_state)
    method_state = strongly_typed(method_state)
    return state.replace(
        params=params, model_state=model_state, ema=ema, method_state=method_state
    )
