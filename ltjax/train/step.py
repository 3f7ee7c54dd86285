"""One optimizer step, and its repetition over replicas and over a chunk of steps."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax.methods.gradient_rule import GradientRule
from ltjax.methods.method import Method, Program
from ltjax.sharpness import (
    accumulated_value_and_grad,
    group_gaps,
    sharp_value_and_grad,
)
from ltjax.sharpness.weights import leading_rows
from ltjax.train.integrity import all_finite
from ltjax.train.lanes import Lanes
from ltjax.train.optim import ALL, hold_fixed, only_under
from ltjax.train.state import (
    NEVER,
    TrainState,
    advance_average,
    fresh_average,
    step_key,
)


def make_train_step(
    method: Method,
    rule: GradientRule,
    make_tx: Callable[..., optax.GradientTransformation],
    *,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    lr_factor: Callable | None = None,
    trains: str = ALL,
    groups: Mapping[str, Any] | None = None,
    init_model: Callable[[Any], tuple[Any, Any]] | None = None,
) -> Callable[..., tuple[TrainState, dict]]:
    """The step of one replica: `(state, batch, *, program) -> (state, metrics)`.

    Args:
        method: what is minimized.
        rule: at which points of parameter space.
        make_tx: (hyper, step) -> optax transformation.
        ema_decay: of the averaged parameters and float model state; 0 = none.
        accumulate: micro-batches that a step is split into, one in memory at a time;
            their gradients add up to the batch's before a perturbation is formed.
        lr_factor: step -> factor, only to log the rate.
        trains: modules that train unless the method's stage says otherwise; the others
            get no gradient, so that no perturbation reaches them either.
        groups: name -> bool [K], whose sharpness gaps are metrics of their own.
        init_model: key -> (params, model_state), for a method that `redraws`.

    Returns:
        A pure function; `metrics` maps a name to (sum, count).
    """

    def train_step(state: TrainState, batch: dict, *, program: Program = Program()):  # noqa: B008
        if method.redraws is not None and init_model is not None:
            now = method.redraws(state.step)
            state = _redrawn(state, now, init_model, make_tx)
        prepare_key, loss_key = jax.random.split(step_key(state, "model"))
        method_state, batch = method.prepare(
            state, batch, key=prepare_key, program=program
        )
        prepared = state.replace(method_state=method_state)
        modules = method.trains(program.stage) or trains

        def loss_fn(params, model_state, batch, rng):
            seen = prepared.replace(model_state=model_state)
            params = hold_fixed(modules, params)
            return method.loss(params, seen, batch, key=rng, program=program)

        def terms(aux):
            return method.terms(prepared, batch, aux, program=program)

        gradient, wants = _gradient(loss_fn, rule, accumulate, batch)
        args = (state.params, state.model_state, batch, loss_key)
        out, grads = gradient(*args, terms if wants == "function" else terms({}))

        tx = make_tx(state.hyper, state.step)
        opt_state = state.opt_state
        if method.restarts is not None:
            now, fresh = method.restarts(state.step), tx.init(state.params)
            opt_state = jax.tree.map(
                lambda new, old: jnp.where(now, new, old), fresh, opt_state
            )
        taken = grads if method.gradient is None else method.gradient(prepared, grads)

        def advance(grads, opt_state, params, ema, model_state):
            updates, opt_state = tx.update(grads, opt_state, params)
            if modules != trains:
                updates = only_under(modules, updates)
            params = optax.apply_updates(params, updates)
            if ema_decay:
                ema = advance_average(ema, params, model_state, ema_decay)
            return params, opt_state, ema

        params, opt_state, ema = _in_place(advance)(
            taken, opt_state, state.params, state.ema, out.model_state
        )
        new = prepared.replace(
            step=state.step + 1,
            params=params,
            model_state=out.model_state,
            opt_state=opt_state,
            ema=ema,
        )
        kept = method.update(new, batch, out.aux)
        new = new.replace(method_state=_as_before(state, kept))
        metrics = _metrics(out, grads)
        if method.class_part:
            blocks = rule.options.get("blocks", 1)
            metrics |= _class_gaps(out, method.class_part, batch, groups or {}, blocks)
        if lr_factor is not None:
            metrics["lr"] = (state.hyper["optimizer.lr"] * lr_factor(state.step), 1.0)
        return new, metrics

    return train_step


def _in_place(advance: Callable) -> Callable:
    """`advance`, which maps arrays to arrays, so that XLA may reuse their buffers.

    A state has a leading axis of replicas. Where there is one replica, that axis is
    dropped before the step and put back after it, and a fusion that reshapes a donated
    array copies it. Under an axis of one the two reshapes cancel.
    """

    def advanced(*args):
        stacked = jax.vmap(advance)(*jax.tree.map(lambda x: x[None], args))
        return jax.tree.map(lambda x: x[0], stacked)

    return advanced


def _redrawn(state: TrainState, now, init_model, make_tx) -> TrainState:
    """Where `now`, the state with a new network; what the method keeps stays."""

    def fresh():
        params, model_state = init_model(step_key(state, "init"))
        average = fresh_average(params, model_state)
        return {
            "params": params,
            "model_state": model_state,
            "opt_state": make_tx(state.hyper, state.step).init(params),
            "ema": None if state.ema is None else average,
        }

    names = ("params", "model_state", "opt_state", "ema")
    old = {name: getattr(state, name) for name in names}

    def drawn():
        return jax.tree.map(lambda o, n: jnp.asarray(n, o.dtype), old, fresh())

    return state.replace(**jax.lax.cond(now, drawn, lambda: old))


def _gradient(loss_fn, rule: GradientRule, accumulate: int, batch):
    """The gradient function of a rule, and whether it takes terms as a function."""
    options, size = dict(rule.options), batch["mask"].shape[0]
    on_cpu = jax.default_backend() == "cpu"
    if accumulate > 1:
        for name in ("scope", "rows_independent", "blocks"):
            options.pop(name, None)
        # Convolutions inside loops are slow on CPU.
        options["loop"] = "unroll" if on_cpu else "scan"
        micro = size // accumulate
        return accumulated_value_and_grad(
            loss_fn, microbatch=micro, **options
        ), "arrays"
    scope = options.get("scope", "global")
    if scope == "shard":
        options["mesh"] = jax.sharding.get_abstract_mesh()
    if isinstance(scope, int) and size <= 8 * scope and on_cpu:
        options["loop"] = "unroll"  # convolutions with several sets of weights
    # A group of rows does not see the first pass of the whole batch.
    wants = "function" if scope == "global" else "arrays"
    return sharp_value_and_grad(loss_fn, **options), wants


def _as_before(state: TrainState, method_state: Any) -> Any:
    """The method state with the dtypes that it had, or an error that names the leaf.

    A leaf of another type (a weak one, often) would compile the next step anew.
    """

    def leaf(path, old, new):
        if jnp.issubdtype(old.dtype, jax.dtypes.extended):  # random keys
            return new
        if jnp.shape(new) != old.shape:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"Method.update: method_state.{name} has shape {jnp.shape(new)},"
                f" expected that of Method.init, {old.shape}"
            )
        return jnp.asarray(new, old.dtype)

    return jax.tree_util.tree_map_with_path(leaf, state.method_state, method_state)


def _metrics(out, grads) -> dict[str, tuple]:
    """What every step reports, and what the method adds."""
    metrics = {
        "loss": (out.loss, 1.0),
        **out.aux.get("metrics", {}),
        "grad_norm": (optax.tree.norm(grads), 1.0),
        # The one at theta, and one for every term that is taken elsewhere.
        "passes": (1.0 + sum(rise is not None for rise in out.rises), 1.0),
    }
    for k, term in enumerate(out.terms):
        active = jnp.asarray(term["active"], jnp.float32)
        for name in ("gap", "ascent_norm", "cosine"):
            if name in term:
                metrics[f"{name}_{k}"] = (term[name] * active, active)
    return metrics


def _class_gaps(out, part: str, batch, groups, blocks: int) -> dict[str, tuple]:
    """How much the loss of each group of classes rises at every term's perturbation."""
    metrics = {}
    for k, (numbers, rises) in enumerate(zip(out.terms, out.rises, strict=True)):
        if rises is None:
            continue
        rise = rises[part]
        # A compacted term knows the leading rows only; the others are not its own.
        labels, mask = (
            leading_rows(batch[name], rise.shape[0], blocks)
            for name in ("label", "mask")
        )
        for name, (total, count) in group_gaps(
            rise, labels, groups, where=mask & (numbers["active"] > 0)
        ).items():
            metrics[f"gap_{k}_{name}"] = (total, count)
    return metrics


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MetricSums:
    """What the steps of an interval have reported so far.

    One array for all metrics: every scalar that a program takes and returns is felt
    where a step takes a millisecond or two.

    Attributes:
        names: of the M metrics.
        pairs: [..., M, 2] float32, their sums and counts.
        bad_step: [...] int32, the first step that was not finite, or `NEVER`.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    pairs: jax.Array
    bad_step: jax.Array

    @property
    def metrics(self) -> dict[str, tuple]:
        """Name -> (sum, count), [...] each."""
        return {
            name: (self.pairs[..., at, 0], self.pairs[..., at, 1])
            for at, name in enumerate(self.names)
        }


def empty_sums(names: Iterable[str]) -> MetricSums:
    """Zero accumulators for the metrics of these names."""
    ordered = tuple(sorted(names))
    pairs = jnp.zeros((len(ordered), 2))
    return MetricSums(ordered, pairs, jnp.full((), NEVER, jnp.int32))


def add_metrics(
    sums: MetricSums, metrics: dict, state: TrainState, alive
) -> MetricSums:
    """Adds one step's (sum, count) pairs and remembers a step that was not finite.

    Args:
        sums: from `empty_sums`. A program that lacks a metric of another program's adds
            nothing to it.
        metrics: of the step.
        state: after the step.
        alive: bool, whether the replica had not diverged before the step.

    Returns:
        The new sums.
    """
    pairs = [metrics.get(name, (0.0, 0.0)) for name in sums.names]
    new = jnp.stack([jnp.asarray(x, jnp.float32) for pair in pairs for x in pair])
    return MetricSums(
        sums.names,
        sums.pairs + jnp.where(alive, new.reshape(-1, 2), 0.0),
        jnp.minimum(sums.bad_step, state.diverged),
    )


def is_finite(metrics: dict, state: TrainState) -> jax.Array:
    """Whether loss, gradient and the new parameters and model state are finite."""
    told = (metrics["loss"][0], metrics["grad_norm"][0])
    return all_finite((told, state.params, state.model_state))


def frozen_if_lost(old: TrainState, new: TrainState, fine) -> TrainState:
    """`new`, or for a replica that is not finite the state before, marked for good.

    Args:
        old: state before the step.
        new: state after it.
        fine: bool, whether it is finite.

    Returns:
        The state to go on with; its step counts on in any case.
    """
    keep = fine & (old.diverged == NEVER)
    diverged = jnp.where(keep, old.diverged, jnp.minimum(old.diverged, old.step))

    def pick(new, old):
        if jnp.issubdtype(new.dtype, jax.dtypes.extended):  # random keys are constant
            return new
        return jnp.where(keep, new, old)

    chosen = jax.tree.map(pick, new, old)
    return chosen.replace(step=new.step, diverged=diverged)


def make_program(
    run: Any,
    lanes: Lanes,
    *,
    steps_per_call: int = 1,
    on_trace: Callable[[], Any] = lambda: None,
) -> Callable:
    """The function that a run compiles: gather, augment, step, accumulate, R times.

    Args:
        run: a `ltjax.train.run.Run`.
        lanes: its replicas.
        steps_per_call: S > 1 scans over S steps in one dispatch.
        on_trace: called whenever the function is traced.

    Returns:
        `(state, sums, arrays, rows, *, program) -> (state, sums)`; `rows` leaves are
        [R, B, ...], or [S, R, B, ...] for S > 1.
    """

    def program(state, sums, arrays, rows, *, program):
        on_trace()

        def one(state, sums, arrays, rows):
            batch = make_batch(run, state, arrays, rows)
            new, metrics = run.step(state, batch, program=program)
            alive, fine = state.diverged == NEVER, is_finite(metrics, new)
            if lanes.count > 1:  # the others go on
                new = frozen_if_lost(state, new, fine)
            else:  # the loop ends the run
                lost = jnp.where(fine, state.diverged, state.step)
                new = new.replace(diverged=jnp.minimum(state.diverged, lost))
            return new, add_metrics(sums, metrics, new, alive)

        step = lanes.each(one, (0, 0, None, 0))
        if steps_per_call == 1:
            return step(state, sums, arrays, rows)

        def body(carry, rows):
            return step(*carry, arrays, rows), None

        return jax.lax.scan(body, (state, sums), rows)[0]

    return program


def make_batch(run: Any, state: TrainState, arrays: Any, rows: dict) -> dict:
    """The training batch of one replica: gathered and augmented, traced."""
    guide = run.method.guide
    hints = {} if guide is None else guide(state, rows)
    key = step_key(state, "augment")
    return run.feed.batch(arrays, rows, key, train=True, **hints)
