r"""SoLar: labels by transport to an estimated class prior, and the safest of them.

.. math:: M_i = p(x_i^w) \odot S_i, \qquad
          Q = \mathrm{Sinkhorn}\big([\text{queue}; M]^\eta, r\big), \qquad
          r \leftarrow (1 - g)\, r + g\, \mathrm{hist}(\arg\max M)

    L = \eta_e \Big[ \tfrac{1}{|P|} \sum_{i \in P} \mathrm{CE}(Q_i, z_i^w)
        + \mathrm{CE}(Q_i, z_i^s) + \mathrm{CE}(\tilde Q_i, \tilde z_i) \Big]
        + \frac{1 - \eta_e}{B - |P|} \sum_{i \notin P} \mathrm{CE}(T_i, z_i^w)

P holds, of every class that Q assigns, the small losses (as many as the prior expects,
times a rate that rises), and all rows with :math:`Q_i \cdot p_i > \tau`; the third term
mixes its members. T is the table of PRODEN.

References:
    Wang et al., "SoLar: Sinkhorn Label Refinery for Imbalanced Partial-Label Learning",
    NeurIPS 2022. Its code first estimates r by a training with a larger g, and starts
    the network anew with that r; with `estimate` this is the first part of the run,
    through which the schedule of the learning rate goes on. Weak and mixed views are
    passes of their own there. Here Q comes from a pass on the weak views before the
    step, so that all passes of a sharp gradient agree on it, and the three views pass
    together. A class without candidates gets no share, where the code runs into NaN.
    The published iterations leave class shares open; `solver="newton"` meets them.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Part,
    Refresh,
    Setting,
    evaluated,
)
from ltjax.methods.partial_label.tables import (
    believed,
    by_view,
    confidence_metrics,
    row_needs,
)
from ltjax.methods.prior_distance import prior_distance
from ltjax.options import Component, ConfigError, live, option
from ltjax.pseudo_labels import (
    class_evidence,
    disambiguate,
    keep_best_of_class,
    read_confidences,
    sinkhorn,
    solar_sizes,
    update_prior,
    write_confidences,
)
from ltjax.sharpness import reduction_weights

VIEWS = ("weak", "strong")


@dataclasses.dataclass(frozen=True)
class SoLarOptions:
    """Of SoLar."""

    warmup: str = option("1 epochs", "nothing is selected before", duration=True)
    ramp: str = option("50 epochs", "share and rate rise until here", duration=True)
    share: float = option(
        0.9, "eta_e in the end, of the selected examples", low=0, high=1, sweep=True
    )
    rate: float = option(0.2, "rho at first", low=0, high=1, sweep=True)
    last_rate: float = option(
        0.6, "rho in the end: 0.5 on CIFAR-100", low=0, high=1, sweep=True
    )
    confident: float = option(
        0.99, "tau, above which a row is always selected", low=0, high=1, sweep=True
    )
    power: float = option(3.0, "eta of the transport", above=0, sweep=True)
    solver: str = option(
        "iterations",
        "of the transport: as published, or the limit, on the host",
        choices=("iterations", "newton"),
    )
    iterations: int = option(50, "of the published solver", low=1)
    queue: int = option(64, "batches kept for the transport", low=0)
    prior: tuple[float, ...] = option((), "r at first; () = uniform", above=0)
    prior_rate: float = option(
        0.01, "g, of an epoch's histogram in r", low=0, high=1, sweep=True
    )
    estimate: str = option(
        "0 steps",
        "a first training for r alone: 100 epochs on CIFAR-10, 20 on CIFAR-100",
        duration=True,
    )
    estimate_rate: float = option(
        0.1, "g of that training: 0.05 on CIFAR-100", low=0, high=1, sweep=True
    )
    prior_from: str = option(
        "training_set",
        "the histogram is of a pass in evaluation mode, or of the epoch's batches",
        choices=("training_set", "batches"),
    )
    mixup: float = option(
        4.0, "alpha of Beta(alpha, alpha) of the mixed pass; 0 = off", low=0
    )


def partner_of(key, selected) -> jax.Array:
    """[B]: a random permutation of the selected rows; row 0 for the others."""
    order = jax.random.uniform(key, selected.shape)
    shuffled = jnp.argsort(jnp.where(selected, order, jnp.inf))
    return jnp.where(selected, shuffled[jnp.cumsum(selected) - 1], 0)


def solar(options: SoLarOptions, setting: Setting) -> Method:
    """SoLar on the column "candidates" [N, K] and the views "weak" and "strong".

    Args:
        options: see `SoLarOptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` with the table "confidence", "prior" [K], the "queue" of former
        scores and the number of batches "filled"; "evidence" [K] of the epoch's
        batches if the prior comes from them.
    """
    network, rule, size = setting.networks["main"], setting.rule, setting.batch_size
    epoch, num_classes = setting.steps_per_epoch, setting.num_classes
    warmup, ramp = setting.steps(options.warmup), setting.steps(options.ramp)
    truth = setting.columns.get("truth")
    by_batches = options.prior_from == "batches"
    first = setting.steps(options.estimate)  # step of the second training
    depth = 3 if options.mixup else 2  # views of a pass
    if options.prior and len(options.prior) != num_classes:
        raise ConfigError(
            [
                f"config.method.prior is {options.prior}, expected {num_classes}"
                " numbers, one for each class"
            ]
        )

    def init(key, params, model_state):
        given = np.asarray(options.prior or np.ones(num_classes), np.float32)
        state = {
            "confidence": jnp.zeros((setting.table_size, num_classes)),
            "prior": jnp.asarray(given / given.sum()),
            "queue": jnp.zeros((options.queue * size, num_classes)),
            "filled": jnp.zeros((), jnp.int32),
        }
        return {**state, "evidence": state["prior"] * 0} if by_batches else state

    def done(state):
        """Steps of the training that this one belongs to."""
        return jnp.where(state.step >= first, state.step - first, state.step)

    def risen(state):
        """How far share and rate have risen by this epoch, in [0, 1]."""
        start = done(state) // epoch * epoch
        return jnp.clip(start / max(ramp, 1), 0.0, 1.0)

    def prepare(state, batch, *, key, program):
        kept, mask, candidates = state.method_state, batch["mask"], batch["candidates"]
        now, t = live("method", options, state.hyper), risen(state)
        forward_key, beta_key, order_key = jax.random.split(key, 3)
        outputs, _ = network.forward(
            state.params,
            state.model_state,
            batch["weak"],
            train=True,
            rngs={"dropout": forward_key},
            mask=mask if setting.padded else None,
        )
        logits = outputs["logits"]
        p = jax.nn.softmax(logits)
        # A row of zeros in the queue was padding.
        full = kept["filled"] >= options.queue
        stacked = jnp.concatenate([kept["queue"], p * candidates])
        rows = sinkhorn(
            stacked,
            kept["prior"],
            power=now.power,
            solver=options.solver,
            iterations=options.iterations,
            where=jnp.concatenate([full & jnp.any(kept["queue"] > 0, axis=1), mask]),
        )[-size:]
        label = jnp.argmax(rows, axis=-1)
        rate = now.rate + (now.last_rate - now.rate) * t
        sizes = solar_sizes(
            class_evidence(rows, hard=True, where=mask), kept["prior"], rate=rate
        )
        small = keep_best_of_class(
            -losses.proden(logits, rows, where=mask), label, sizes, where=mask
        )
        sure = jnp.sum(rows * p, axis=-1) > now.confident
        selected = (small | sure) & mask & (done(state) >= warmup)
        more = {
            "target": read_confidences(kept["confidence"], batch["index"], candidates),
            "refined": rows,
            "selected": selected,
            "guess": logits,
        }
        if options.mixup:
            partner = partner_of(order_key, selected)
            lam = jax.random.beta(beta_key, options.mixup, options.mixup)
            lam = jnp.maximum(lam, 1 - lam)
            for name, x in (("mixed", batch["weak"]), ("mixed_refined", rows)):
                more[name] = lam * x + (1 - lam) * x[partner]
        return kept, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        mask, rows, selected = batch["mask"], batch["refined"], batch["selected"]
        names = (*VIEWS, "mixed")[:depth]
        outputs, model_state = network.forward(
            params,
            state.model_state,
            jnp.concatenate([batch[name] for name in names]),
            train=True,
            rngs={"dropout": key},
            mask=jnp.tile(mask, depth) if setting.padded else None,
        )
        logits = by_view(outputs["logits"], len(mask))
        targets = {"weak": rows, "strong": rows, "mixed": batch.get("mixed_refined")}
        found = {
            name: losses.proden(logits[:, v], targets[name])
            for v, name in enumerate(names)
        }
        found["rest"] = losses.proden(logits[:, 0], batch["target"])
        metrics = confidence_metrics(batch["target"], batch)
        metrics["selected"] = (jnp.sum(selected), jnp.sum(mask))
        if "truth" in batch:
            right = selected & (jnp.argmax(rows, axis=-1) == batch["truth"])
            metrics["selected_right"] = (jnp.sum(right), jnp.sum(selected))
        metrics |= prior_distance(state.method_state["prior"], truth)
        aux = {
            "model_state": model_state,
            "outputs": {name: x[: len(mask)] for name, x in outputs.items()},
            "metrics": metrics,
        }
        return found, aux

    def terms(state, batch, aux, *, program):
        mask, selected = batch["mask"], batch["selected"]
        share = live("method", options, state.hyper).share * risen(state)
        share = jnp.where(jnp.any(selected), share, 0.0)
        inside = share * reduction_weights(len(mask), where=selected)
        outside = (1 - share) * reduction_weights(len(mask), where=mask & ~selected)
        label = jnp.argmax(batch["refined"], axis=-1)
        parts = {name: Part(label, inside) for name in (*VIEWS, "mixed")[:depth]}
        label = believed(batch["target"], batch["candidates"])
        parts["rest"] = Part(label, outside)
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        kept, mask, logits = state.method_state, batch["mask"], batch["guess"]
        rows = disambiguate(logits, batch["candidates"])
        table = write_confidences(kept["confidence"], batch["index"], rows, where=mask)
        new = {**kept, "confidence": table}
        if options.queue:
            scores = jax.nn.softmax(logits) * batch["candidates"] * mask[:, None]
            new["queue"] = jnp.concatenate([kept["queue"][size:], scores])
            new["filled"] = jnp.minimum(kept["filled"] + 1, options.queue)
        if by_batches:
            evidence = kept["evidence"] + class_evidence(rows, hard=True, where=mask)
            ended = state.step % epoch == 0
            moved = moved_prior(state, evidence)
            new["prior"] = jnp.where(ended, moved, kept["prior"])
            new["evidence"] = jnp.where(ended, 0.0, evidence)
        return new

    def moved_prior(state, evidence):
        now = live("method", options, state.hyper)
        # What is counted before the second training belongs to the first one.
        early = (state.step <= first) & (first > 0)
        rate = jnp.where(early, now.estimate_rate, now.prior_rate)
        return update_prior(state.method_state["prior"], evidence, decay=1 - rate)

    def gather(state, batch):
        outputs = network.forward(
            state.params, state.model_state, batch["inputs"], train=False
        )[0]
        return disambiguate(outputs["logits"], batch["candidates"])

    def count(state, rows):
        evidence = class_evidence(rows, hard=True)
        return {**state.method_state, "prior": moved_prior(state, evidence)}

    def ends(step: int) -> bool:
        return step > 0 and step % epoch == 0

    def forget(kept, gathered, *, step):
        names = kept.keys() - {"prior"}
        return {**kept, **{name: np.zeros_like(kept[name]) for name in names}}

    counting = Refresh(ends, count, gather, on="device")
    anew = Refresh(lambda step: step == first, forget)
    return Method(
        loss=loss,
        terms=terms,
        predict=functools.partial(evaluated, setting),
        init=init,
        prepare=prepare,
        update=update,
        redraws=(lambda step: step == first) if first else None,
        refreshes=(*(() if by_batches else (counting,)), *((anew,) if first else ())),
        tables=("confidence",),
    )


SOLAR = Component(
    "SoLar: labels by transport to an estimated prior (Wang 2022)",
    SoLarOptions,
    solar,
    lambda options, config: row_needs(config),
    lambda options: MethodFacts(
        head="linear",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        mixes=options.mixup > 0,
        columns=("candidates",),
        views=VIEWS,
    ),
)
