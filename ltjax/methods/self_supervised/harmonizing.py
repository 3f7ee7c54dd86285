r"""Geometric harmonization: latent classes get equal shares of the sphere.

.. math:: \ell_i + w(t) \Big( -\sum_k \hat Q^{(1)}_{ik} \log q^{(2)}_{ik}
          - \sum_k \hat Q^{(2)}_{ik} \log q^{(1)}_{ik} \Big)

After a warm-up each view of any learner predicts the other's assignment to the vertices
of a fixed frame. The assignments are made by optimal transport under the proportions of
the latent classes, which are counted in a table of every image's averaged logits.

References:
    Zhou, Yao, Hong, Zhang, Han, Wang, "Combating Representation Learning Disparity with
    Geometric Harmonization", NeurIPS 2023. The warm-up is 500 of 1000 epochs on CIFAR,
    400 of 500 with a ramp of 30 and a floor of 100 on ImageNet-LT. The released code
    recounts in every step of an epoch in which it counts, and its table is not
    initialized; here the counts are taken once, between epochs, and the first visit
    fills a row.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from ltjax.classifiers import class_frame
from ltjax.losses import geometric_harmonization
from ltjax.losses.harmonization import (
    harmonized_logits,
    latent_prior,
    update_latent_logits,
)
from ltjax.methods.method import Method, Refresh, Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import option

TABLE = "latent"
# Weight of a row's past in and after the warm-up.
_EARLY, _LATE = 0.9, 0.999


@dataclasses.dataclass(frozen=True)
class HarmonyOptions:
    """Of geometric harmonization."""

    harmony: float = option(
        0.0, "weight of geometric harmonization, published 1; 0 = off", low=0
    )
    harmony_classes: int = option(100, "latent classes", low=2)
    harmony_start: str = option("50%", "end of its warm-up", duration=True)
    harmony_ramp: str = option("10 epochs", "its weight climbs by epoch", duration=True)
    harmony_every: str = option(
        "20 epochs", "interval at which the proportions are counted", duration=True
    )
    harmony_floor: float = option(
        0.0, "images added to each latent class: 100 on ImageNet-LT", low=0
    )
    harmony_temperature: float = option(0.1, "of the predictions", above=0)
    harmony_strength: float = option(20.0, "of the assignments", above=0)
    harmony_iterations: int = option(300, "most sweeps of the assignments", low=1)
    harmony_tol: float = option(
        0.0, "largest error at which they stop; 0 makes all, as published", low=0
    )


def harmonized(method: Method, options: HarmonyOptions, setting: Setting) -> Method:
    """A method with geometric harmonization from `harmony_start` on.

    Args:
        method: with "views" (both projections) in the rows of its `aux`.
        options: see `HarmonyOptions`.
        setting: for the number of examples, and the length of an epoch.

    Returns:
        A `Method` with the table "latent", the "prior" of the latent classes and their
        "frame"; its static stage is whether the warm-up is over.
    """
    size, classes = setting.table_size, options.harmony_classes
    epoch = setting.steps_per_epoch
    start, every = setting.steps(options.harmony_start), options.harmony_every
    every = max(setting.steps(every), 1)
    ramp = max(math.ceil(setting.steps(options.harmony_ramp) / epoch), 1)

    def init(key, params, model_state):
        own_key, frame_key = jax.random.split(key)
        width = pairs.output_width(setting.networks["main"], params, model_state)
        rows = jnp.zeros((size, classes), jnp.float32)
        return {
            **(method.init(own_key, params, model_state) or {}),
            TABLE: {"logits": rows, "seen": jnp.zeros(size, bool)},
            "prior": jnp.full(classes, 1 / classes, jnp.float32),
            "frame": class_frame(frame_key, width, classes),
        }

    def weight(step):
        done = (step - start) // epoch + 1
        return options.harmony * jnp.minimum(done.astype(jnp.float32) / ramp, 1.0)

    def loss(params, state, batch, *, key, program):
        losses, aux = method.loss(params, state, batch, key=key, program=program)
        if not program.stage:
            return losses, aux
        (name,) = losses
        first, second = aux["rows"]["views"]
        extra = geometric_harmonization(
            first,
            second,
            state.method_state["frame"],
            state.method_state["prior"],
            temperature=options.harmony_temperature,
            strength=options.harmony_strength,
            iterations=options.harmony_iterations,
            tol=options.harmony_tol,
            where=batch["mask"],
        )
        count = jnp.sum(batch["mask"])
        metrics = {**aux["metrics"], "harmony": (jnp.sum(extra), count)}
        total = losses[name] + weight(state.step) * extra
        return {name: total}, {**aux, "metrics": metrics}

    def update(state, batch, aux):
        kept = method.update(state, batch, aux)
        table, mask, index = kept[TABLE], batch["mask"], batch["index"]
        # The step that has been made is one less than that of the state.
        decay = jnp.where(state.step <= start, _EARLY, _LATE)
        rows = update_latent_logits(
            table["logits"][index],
            table["seen"][index],
            harmonized_logits(aux["rows"]["views"][0], kept["frame"]),
            decay=decay,
        )
        place = jnp.where(mask, index, size)
        table = {
            "logits": table["logits"].at[place].set(rows, mode="drop"),
            "seen": table["seen"].at[place].set(True, mode="drop"),
        }
        return {**kept, TABLE: table}

    def counted(state, gathered):
        table = state.method_state[TABLE]
        prior = latent_prior(
            table["logits"], table["seen"], floor=options.harmony_floor
        )
        return {**state.method_state, "prior": prior}

    def due(step):
        return step == start or (step > start and step % every == 0)

    return method._replace(
        init=init,
        loss=loss,
        update=update,
        program=lambda step: step >= start,
        programs=(False, True),
        refreshes=(*method.refreshes, Refresh(due, counted, on="device")),
        tables=(*method.tables, TABLE),
    )
