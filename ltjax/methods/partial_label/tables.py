r"""Methods with a table of confidences: what they share, and RECORDS.

The table T [N, K] has one row per training example. A step minimizes a cost of the
logits z of its views against the rows of T, then replaces them by what the same logits
say of the candidates:

.. math:: T_i \leftarrow \mathrm{refine}(\tilde z_i, S_i), \qquad
          \tilde z_i = \frac1V \sum_v z_{iv}

RECORDS takes out of these logits, and of those that a run predicts with, the class
prior that the network itself has; the cost stays that of the method:

.. math:: \tilde z_i \leftarrow \tilde z_i - \log \pi, \qquad
          \pi = \mathrm{softmax}(W^\top F + b), \qquad
          F \leftarrow m F + (1 - m) \bar h

with F the moving mean of the features, from 0, and W, b the head of the moment. With
`mixup`, a second pass sees mixed views and rows, whose candidates are those of either.

References:
    Hong et al., "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR
    2023. The released code keeps the mean F of each process by itself; here it is that
    of the whole batch. It reads the impossible labels of a mixed pass off the mixed
    table, so that a confidence that underflows makes its label impossible.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.affine_head import affine_needs, head_logits
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Setting,
    averaged,
    evaluated,
    even_part,
)
from ltjax.methods.prior_distance import prior_distance
from ltjax.options import Component, live, option
from ltjax.pseudo_labels import (
    debias,
    disambiguate,
    moving_mean,
    read_confidences,
    write_confidences,
)
from ltjax.resampling.mixup import mixup


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """Shared by the methods with a table of confidences."""

    warmup: str = option(
        "0 steps", "the table stays as it starts before this step", duration=True
    )
    records: bool = option(
        False, "disambiguates and predicts without the prior of the network (RECORDS)"
    )
    momentum: float = option(
        0.9, "of RECORDS' mean of the features", low=0, high=1, sweep=True
    )
    mixup: float = option(
        0.0, "alpha of Beta(alpha, alpha) of a mixed pass, 4 in RECORDS; 0 = off", low=0
    )
    mixup_weight: float = option(1.0, "of the mixed pass", low=0, sweep=True)


def expected_cost(logits, rows, candidates, state) -> jax.Array:
    """[B], the cross-entropy of one view with the confidences."""
    return losses.proden(logits[:, 0], rows)


class Table(NamedTuple):
    """What sets a method of the family apart.

    Attributes:
        refine: the rule of `ltjax.pseudo_labels.disambiguate`.
        cost: (logits [B, V, K], rows [B, K], candidates [B, K], state) -> [B]; by
            default the cross-entropy with the confidences in the only view.
        views: names of the inputs, which pass through the network together.
        start: candidates [B, K] -> rows of examples that were never written; None for
            equal confidence in all candidates.
    """

    refine: str
    cost: Callable[..., jax.Array] = expected_cost
    views: tuple[str, ...] = ("inputs",)
    start: Callable[[jax.Array], jax.Array] | None = None


def table_method(options: TableOptions, setting: Setting, table: Table) -> Method:
    """A method with the table "confidence" on the column "candidates" [N, K].

    Args:
        options: see `TableOptions`.
        setting: the network "main", the rule, and the number of examples.
        table: what is the method's own.

    Returns:
        A `Method`. With `records`, its state also has the mean "features" [D] and
        "prior_logits" [K], what the head before the step made of it.
    """
    network, rule = setting.networks["main"], setting.rule
    begin, views = setting.steps(options.warmup), table.views
    names = [*views, *map(mixed, views if options.mixup else ())]
    truth = setting.columns.get("truth")

    def init(key, params, model_state):
        shape = (setting.table_size, setting.num_classes)
        state = {"confidence": jnp.zeros(shape)}
        if options.records:
            state["features"] = jnp.zeros(network.num_features)
            state["prior_logits"] = jnp.zeros(setting.num_classes)
        return state

    def prepare(state, batch, *, key, program):
        kept, candidates = state.method_state, batch["candidates"]
        start = None if table.start is None else table.start(candidates)
        rows = read_confidences(
            kept["confidence"], batch["index"], candidates, start=start
        )
        more = {"target": rows}
        if options.records:
            # The table is refined after the optimizer's step, by the head before it.
            logits = head_logits(
                network, state.params, state.model_state, kept["features"]
            )
            kept = {**kept, "prior_logits": logits}
        if options.mixup:
            seen = jnp.stack([batch[name] for name in views], axis=1)
            made = mixup(key, seen, alpha=options.mixup, dominant=True)
            more |= {mixed(name): made.inputs[:, v] for v, name in enumerate(views)}
            partner = made.partner
            more["mixed_target"] = made.lam * rows + (1 - made.lam) * rows[partner]
            more["mixed_candidates"] = candidates | candidates[partner]
        return kept, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        mask, size = batch["mask"], len(batch["mask"])
        outputs, model_state = network.forward(
            params,
            state.model_state,
            jnp.concatenate([batch[name] for name in names]),
            train=True,
            rngs={"dropout": key},
            mask=jnp.tile(mask, len(names)) if setting.padded else None,
        )
        logits = by_view(outputs["logits"], size)
        plain = logits[:, : len(views)]
        target, candidates = batch["target"], batch["candidates"]
        losses = {"label": table.cost(plain, target, candidates, state)}
        if options.mixup:
            losses["mixed"] = table.cost(
                logits[:, len(views) :],
                batch["mixed_target"],
                batch["mixed_candidates"],
                state,
            )
        features = by_view(outputs["features"], size)[:, : len(views)]
        metrics = confidence_metrics(target, batch)
        if options.records:
            found = jax.nn.softmax(state.method_state["prior_logits"])
            metrics |= prior_distance(found, truth)
        aux = {
            "model_state": model_state,
            "outputs": {name: x[:size] for name, x in outputs.items()},
            "rows": {"logits": plain, "features": jnp.mean(features, axis=1)},
            "metrics": metrics,
        }
        return losses, aux

    def terms(state, batch, aux, *, program):
        label = believed(batch["target"], batch["candidates"])
        parts = {"label": even_part(batch, label)}
        if options.mixup:
            now = live("method", options, state.hyper)
            on = now.mixup_weight * (state.step >= begin)
            label = believed(batch["mixed_target"], batch["mixed_candidates"])
            parts["mixed"] = Part(label, on * parts["label"].base)
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        kept, rows, mask = state.method_state, aux["rows"], batch["mask"]
        new, found = dict(kept), None
        if options.records:
            decay = live("method", options, state.hyper).momentum
            new["features"] = moving_mean(
                kept["features"], rows["features"], decay=decay, where=mask
            )
            # The head is affine: of a mean of features it makes the mean of logits.
            logits = jnp.mean(rows["logits"], axis=1)
            found = jax.nn.softmax(
                moving_mean(kept["prior_logits"], logits, decay=decay, where=mask)
            )
        refined = disambiguate(
            rows["logits"], batch["candidates"], rule=table.refine, prior=found
        )
        old = kept["confidence"]
        written = write_confidences(old, batch["index"], refined, where=mask)
        new["confidence"] = jnp.where(state.step > begin, written, old)
        return new

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        if not options.records:
            return outputs
        params, model_state = averaged(state, ema=setting.evaluate_ema)
        logits = head_logits(
            network, params, model_state, state.method_state["features"]
        )
        found = jax.nn.softmax(logits)
        return {**outputs, "logits": debias(outputs["logits"], found)}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        update=update,
        tables=("confidence",),
    )


def mixed(name: str) -> str:
    """The name of the mixed inputs of a view."""
    return f"mixed_{name}"


def by_view(rows: jax.Array, size: int) -> jax.Array:
    """Views one after the other [V B, ...] -> [B, V, ...]."""
    return jnp.swapaxes(rows.reshape(-1, size, *rows.shape[1:]), 0, 1)


def believed(rows, candidates) -> jax.Array:
    """The candidate with the largest confidence, [B]."""
    return jnp.argmax(jnp.where(candidates, rows, -1), axis=-1)


def confidence_metrics(rows, batch) -> dict[str, tuple]:
    """The largest confidence, and how often it is that of the true label."""
    mask = batch["mask"]
    best = jnp.max(jnp.where(batch["candidates"], rows, 0), axis=-1)
    metrics = {"confidence": (jnp.sum(best * mask), jnp.sum(mask))}
    if "truth" in batch:
        right = (believed(rows, batch["candidates"]) == batch["truth"]) & mask
        metrics["disambiguated"] = (jnp.sum(right), jnp.sum(mask))
    return metrics


def table_component(summary: str, table: Table) -> Component:
    """The component of a method without options of its own."""
    return Component(
        summary,
        TableOptions,
        lambda options, setting: table_method(options, setting, table),
        table_needs,
        table_facts,
    )


def table_needs(options: TableOptions, config) -> list[str]:
    """Faults of a config whose method keeps a table of confidences."""
    faults = row_needs(config)
    if options.mixup and config.sampler.facts.padded:
        faults.append("config.method.mixup would mix examples with padding; use 'drop'")
    if options.records:
        faults += affine_needs(config, "config.method.records")
    return faults


def row_needs(config) -> list[str]:
    """Faults of a config whose method keeps one row per training example."""
    if not config.sampler.facts.reads_labels:
        return []
    return [
        f"config.sampler.name is {config.sampler.name!r}, which may draw an example"
        f" twice in a batch, but method {config.method.name!r} keeps one row for each;"
        " expected 'instance'"
    ]


def table_facts(
    options: TableOptions, views: tuple[str, ...] = ("inputs",)
) -> MethodFacts:
    """Of a method with a table of confidences."""
    return MethodFacts(
        head="linear",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        mixes=options.mixup > 0,
        columns=("candidates",),
        views=() if views == ("inputs",) else views,
    )
