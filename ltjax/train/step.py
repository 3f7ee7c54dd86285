"""One optimizer step, and its repetition over replicas and over a chunk of steps."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from ltjax.methods.gradients import GradientRule
from ltjax.methods.method import Method
from ltjax.sharpness import (
    accumulated_value_and_grad,
    group_gaps,
    sharp_value_and_grad,
)
from ltjax.sharpness.weights import leading_rows
from ltjax.train.mesh import BATCH_AXES, Layout
from ltjax.train.state import TrainState, step_key

NEVER = jnp.iinfo(jnp.int32).max  # "no bad step yet"


def make_train_step(
    method: Method,
    rule: GradientRule,
    make_tx: Callable[..., optax.GradientTransformation],
    *,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    lr_factor: Callable | None = None,
    hold_fixed: Callable[[Any], Any] = lambda params: params,
    groups: Mapping[str, Any] | None = None,
) -> Callable[..., tuple[TrainState, dict]]:
    """The step of one replica: `(state, batch, *, program=None) -> (state, metrics)`.

    Args:
        method: what is minimized.
        rule: at which points of parameter space.
        make_tx: (hyper, step) -> optax transformation.
        ema_decay: of the averaged parameters and float model state; 0 = none.
        accumulate: micro-batches that a step is split into, one in memory at a time;
            their gradients add up to the batch's before a perturbation is formed.
        lr_factor: step -> factor, only to log the rate.
        hold_fixed: params -> params, stopping the gradient of those that do not train,
            so that no perturbation reaches them either.
        groups: name -> bool [K], whose sharpness gaps are metrics of their own.

    Returns:
        A pure function; `metrics` maps a name to (sum, count).
    """

    def train_step(state: TrainState, batch: dict, *, program: Hashable = None):
        def loss_fn(params, model_state, batch, rng):
            seen = state.replace(model_state=model_state)
            return method.loss(hold_fixed(params), seen, batch, key=rng)

        def terms(aux):
            return method.terms(state, batch, aux, program=program)

        options = dict(rule.options)
        if options.get("scope") == "shard":
            options["mesh"] = jax.sharding.get_abstract_mesh()
        args = (state.params, state.model_state, batch, step_key(state, "model"))
        if accumulate > 1:
            size = batch["mask"].shape[0] // accumulate
            # Convolutions inside loops are slow on CPU.
            loop = "unroll" if jax.default_backend() == "cpu" else "scan"
            for name in ("scope", "rows_independent", "blocks"):
                options.pop(name, None)
            gradient = accumulated_value_and_grad(
                loss_fn, microbatch=size, loop=loop, **options
            )
            out, grads = gradient(*args, terms({}))
        else:
            size = options.get("scope")
            on_cpu = jax.default_backend() == "cpu"
            if isinstance(size, int) and batch["mask"].shape[0] <= 8 * size and on_cpu:
                options["loop"] = "unroll"  # convolutions with several sets of weights
            # A group of rows does not see the first pass of the whole batch.
            whole = options.get("scope", "global") == "global"
            gradient = sharp_value_and_grad(loss_fn, **options)
            out, grads = gradient(*args, terms if whole else terms({}))
        tx = make_tx(state.hyper, state.step)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema_decay:
            ema = _average(ema, params, out.model_state, ema_decay)
        new = state.replace(
            step=state.step + 1,
            params=params,
            model_state=out.model_state,
            opt_state=opt_state,
            ema=ema,
        )
        new = new.replace(method_state=method.update(new, batch, out.aux))
        metrics = _metrics(out, grads, batch)
        metrics |= _class_gaps(out, batch, groups or {}, rule.options.get("blocks", 1))
        if lr_factor is not None:
            metrics["lr"] = (state.hyper["lr"] * lr_factor(state.step), 1.0)
        return new, metrics

    return train_step


def _average(ema, params, model_state, decay: float):
    now = {"params": params, "model_state": model_state}

    def mix(old, new):
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return decay * old + (1 - decay) * new

    return jax.tree.map(mix, ema, now)


def _metrics(out, grads, batch) -> dict[str, tuple]:
    mask = batch["mask"]
    hit = jnp.argmax(out.outputs["logits"], axis=-1) == batch["label"]
    metrics = {
        "loss": (out.loss, 1.0),
        "accuracy": (jnp.sum(hit & mask), jnp.sum(mask)),
        "grad_norm": (optax.tree.norm(grads), 1.0),
    }
    for k, term in enumerate(out.terms):
        active = jnp.asarray(term["active"], jnp.float32)
        for name in ("gap", "ascent_norm", "cosine"):
            if name in term:
                metrics[f"{name}_{k}"] = (term[name] * active, active)
    return metrics


def _class_gaps(out, batch, groups, blocks: int) -> dict[str, tuple]:
    """How much the loss of each group of classes rises at every term's perturbation.

    With mixup, of the part of the loss that belongs to the examples' own labels.
    """
    metrics = {}
    for k, (numbers, rises) in enumerate(zip(out.terms, out.rises, strict=True)):
        if rises is None:
            continue
        rise = rises["label"]
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


def empty_sums(names: Iterable[str]) -> dict:
    """Zero accumulators for the metrics of these names."""
    zeros = {name: (jnp.zeros(()), jnp.zeros(())) for name in names}
    return {"metrics": zeros, "bad_step": jnp.full((), NEVER, jnp.int32)}


def add_metrics(sums: dict, metrics: dict, step) -> dict:
    """Adds one step's (sum, count) pairs and remembers the first non-finite step.

    A program that lacks a metric of another program's adds nothing to it.
    """
    total = {}
    for name, old in sums["metrics"].items():
        new = metrics.get(name, (0.0, 0.0))
        total[name] = tuple(
            a + jnp.asarray(b, jnp.float32) for a, b in zip(old, new, strict=True)
        )
    loss, norm = metrics["loss"][0], metrics["grad_norm"][0]
    bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    here = jnp.where(bad, step, NEVER).astype(jnp.int32)
    return {"metrics": total, "bad_step": jnp.minimum(sums["bad_step"], here)}


def replica_mode(layout: str, count: int) -> str:
    """The mode of `over_replicas` that a config's `replicas.layout` means here."""
    if layout != "auto":
        return layout
    return "unroll" if count <= 8 and jax.default_backend() == "cpu" else "vmap"


def over_replicas(
    fn: Callable, axes: tuple, *, count: int, layout: Layout, mode: str
) -> Callable:
    """`fn` of one replica as a function of arrays with a leading replica axis.

    Args:
        fn: function of one replica's arguments.
        axes: 0 or None per argument: whether it has the replica axis.
        count: R.
        layout: of the devices.
        mode: "vmap"; "unroll" repeats the program R times (faster on CPU, where
            vmapped convolutions are slow, but compiles R times as much); "devices"
            gives each device R / devices whole replicas.

    Returns:
        The function of stacked arguments, returning stacked results.
    """

    def batched(*args):
        replicas = next(
            jax.tree.leaves(arg)[0].shape[0]
            for arg, axis in zip(args, axes, strict=True)
            if axis == 0
        )

        def pick(r):
            chosen = (
                jax.tree.map(lambda x: x[r], arg) if axis == 0 else arg
                for arg, axis in zip(args, axes, strict=True)
            )
            return fn(*chosen)

        if replicas == 1:
            return jax.tree.map(lambda x: x[None], pick(0))
        if mode == "unroll":
            return jax.tree.map(lambda *x: jnp.stack(x), *map(pick, range(replicas)))
        return jax.vmap(fn, in_axes=axes)(*args)

    if mode != "devices" or count == 1:
        return batched
    spec = PartitionSpec(BATCH_AXES)
    return jax.shard_map(
        batched,
        mesh=layout.mesh,
        in_specs=tuple(spec if axis == 0 else PartitionSpec() for axis in axes),
        out_specs=spec,
        check_vma=False,
    )


def make_program(
    train_step: Callable,
    make_batch: Callable[..., dict],
    *,
    count: int,
    layout: Layout,
    mode: str,
    steps_per_call: int = 1,
    on_trace: Callable[[], Any] = lambda: None,
) -> Callable:
    """The function that a run compiles: gather, augment, step, accumulate, R times.

    Args:
        train_step: of one replica.
        make_batch: (arrays, rows, key) -> batch, traced.
        count: R.
        layout: of the devices.
        mode: see `over_replicas`.
        steps_per_call: S > 1 scans over S steps in one dispatch.
        on_trace: called whenever the function is traced.

    Returns:
        `(state, sums, arrays, rows, *, program=None) -> (state, sums)`; `rows` leaves
        are [R, B, ...], or [S, R, B, ...] for S > 1.
    """

    def run(state, sums, arrays, rows, *, program=None):
        on_trace()

        def one(state, sums, arrays, rows):
            batch = make_batch(arrays, rows, step_key(state, "augment"))
            new, metrics = train_step(state, batch, program=program)
            return new, add_metrics(sums, metrics, state.step)

        step = over_replicas(
            one, (0, 0, None, 0), count=count, layout=layout, mode=mode
        )
        if steps_per_call == 1:
            return step(state, sums, arrays, rows)

        def body(carry, rows):
            return step(*carry, arrays, rows), None

        return jax.lax.scan(body, (state, sums), rows)[0]

    return run
