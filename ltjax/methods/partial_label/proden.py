r"""PRODEN: cross-entropy to confidences that the network refines after every step.

.. math:: \ell_i = -\sum_k T_{ik} \log p_{ik}, \qquad
          T_i \leftarrow \mathrm{softmax}(z_i) \text{ restricted to the candidates}

The confidences T [N, K] are a table with one row per training example.

References:
    Lv et al., "Progressive Identification of True Labels for Partial-Label Learning",
    ICML 2020, Algorithm 1: T starts uniform on the candidates and is replaced by the
    distribution at the logits of the pass that it was used in.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.methods.method import Method, MethodFacts, Setting, evaluated, even_part
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class PRODENOptions:
    """Of PRODEN."""

    warmup: str = option(
        "0 steps", "the confidences stay uniform before this step", duration=True
    )


def confidences(table, index, candidates) -> jax.Array:
    """Rows [B, K] of the table; a row that was never written stands for S / |S|."""
    rows = table[index]
    start = candidates / jnp.sum(candidates, axis=-1, keepdims=True)
    written = jnp.sum(rows, axis=-1, keepdims=True) > 0
    return jnp.where(written, rows, start)


def write_rows(table, index, mask, rows) -> jax.Array:
    """The table with `rows` [B, K] at `index`; padding is not written."""
    place = jnp.where(mask, index, table.shape[0])
    return table.at[place].set(rows.astype(table.dtype), mode="drop")


def restricted_softmax(logits, candidates) -> jax.Array:
    """softmax(z) restricted to the candidates, rows of sum 1."""
    return jax.nn.softmax(jnp.where(candidates > 0, logits, -jnp.inf), axis=-1)


def proden(options: PRODENOptions, setting: Setting) -> Method:
    """PRODEN on the column "candidates" [N, K].

    Args:
        options: see `PRODENOptions`.
        setting: the network "main", the rule, and the number of examples.

    Returns:
        A `Method` with the table "confidence".
    """
    network, rule = setting.networks["main"], setting.rule
    start, shape = setting.steps(options.warmup), setting.table_size

    def init(key, params, model_state):
        table = jnp.zeros((shape, setting.num_classes), jnp.float32)
        return {"confidence": table}

    def prepare(state, batch, *, key, program):
        table = state.method_state["confidence"]
        candidates = batch["candidates"].astype(jnp.float32)
        target = confidences(table, batch["index"], candidates)
        return state.method_state, {**batch, "target": target}

    def loss(params, state, batch, *, key, program):
        outputs, model_state = network.forward(
            params,
            state.model_state,
            batch["inputs"],
            train=True,
            rngs={"dropout": key},
            mask=batch["mask"] if setting.padded else None,
        )
        target, mask = batch["target"], batch["mask"]
        metrics = {"confidence": (jnp.sum(jnp.max(target, -1) * mask), jnp.sum(mask))}
        if "truth" in batch:
            right = (jnp.argmax(target, axis=-1) == batch["truth"]) & mask
            metrics["disambiguated"] = (jnp.sum(right), jnp.sum(mask))
        aux = {"model_state": model_state, "outputs": outputs, "metrics": metrics}
        return {"label": losses.proden(outputs["logits"], target)}, aux

    def terms(state, batch, aux, *, program):
        parts = {"label": even_part(batch, jnp.argmax(batch["target"], axis=-1))}
        return rule.terms(parts, state, batch, program.rule)

    def update(state, batch, aux):
        old = state.method_state["confidence"]
        rows = restricted_softmax(aux["outputs"]["logits"], batch["candidates"])
        new = write_rows(old, batch["index"], batch["mask"], rows)
        return {"confidence": jnp.where(state.step > start, new, old)}

    def predict(state, inputs):
        return evaluated(setting, state, inputs)

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        update=update,
        tables=("confidence",),
    )


def _needs(options: PRODENOptions, config) -> list[str]:
    if not config.sampler.facts.reads_labels:
        return []
    return [
        f"config.sampler.name is {config.sampler.name!r}, which may draw an example"
        f" twice in a batch, but method {config.method.name!r} keeps one row for each;"
        " expected 'instance'"
    ]


PRODEN = Component(
    "PRODEN: labels identified among candidates as training goes on (Lv 2020)",
    PRODENOptions,
    proden,
    _needs,
    lambda options: MethodFacts(
        head="linear",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
        columns=("candidates",),
    ),
)
