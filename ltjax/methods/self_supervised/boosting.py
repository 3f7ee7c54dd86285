r"""Boosted contrastive learning: images that are memorized late are augmented more.

.. math:: L^m_{i,t} = \beta L^m_{i,t-1} + (1 - \beta) L_{i,t}, \qquad
          M_i = \frac12 \Big( \frac{L^m_i - \bar L^m}{\max_n |L^m_n - \bar L^m|} + 1
          \Big)

M_i is the probability of RandAugment on top of both views, and its strength; see
`ltjax.data.views.two_views`. Any learner with a loss of each image can be boosted.

References:
    Zhou, Yao, Wang, Han, Zhang, "Contrastive Learning with Boosted Memorization", ICML
    2022. Nothing is added in the first epoch, nor to an image that was not seen yet.
    Where a schedule moves the temperature, the losses of an epoch are standardized
    first, as they scale with it; that is ours.
"""

import dataclasses

import jax.numpy as jnp

from ltjax.losses.loss_memory import (
    memorization_scores,
    momentum_loss,
    standardize_losses,
)
from ltjax.methods.method import Method, Refresh, Setting
from ltjax.options import live, option

MEMORY = "boost"


@dataclasses.dataclass(frozen=True)
class BoostOptions:
    """Of boosted contrastive learning."""

    boost: bool = option(
        False, "whether images that are memorized late are augmented more (BCL)"
    )
    boost_beta: float = option(
        0.97, "of the average of an image's losses", low=0, high=1, sweep=True
    )
    boost_every: str = option(
        "1 epochs", "interval of the averages and the scores", duration=True
    )


def boosted(
    method: Method, options: BoostOptions, setting: Setting, *, standardize: bool
) -> Method:
    """A method that tells the augmentation how hard each image is to memorize.

    Args:
        method: with "loss" [B] in the rows of its `aux`.
        options: see `BoostOptions`.
        setting: for the number of examples, and the length of an epoch.
        standardize: whether the losses of different epochs differ in scale.

    Returns:
        A `Method` with the table "boost".
    """
    size = setting.table_size
    every = max(setting.steps(options.boost_every), 1)

    def init(key, params, model_state):
        zeros, never = jnp.zeros(size, jnp.float32), jnp.zeros(size, bool)
        table = {"average": zeros, "seen": never, "score": zeros}
        table |= {"latest": zeros, "visited": never}
        return {**(method.init(key, params, model_state) or {}), MEMORY: table}

    def guide(state, rows):
        return {"strength": state.method_state[MEMORY]["score"][rows["index"]]}

    def update(state, batch, aux):
        kept = method.update(state, batch, aux)
        table = kept[MEMORY]
        place = jnp.where(batch["mask"], batch["index"], size)
        latest = table["latest"].at[place].set(aux["rows"]["loss"], mode="drop")
        visited = table["visited"].at[place].set(True, mode="drop")
        return {**kept, MEMORY: {**table, "latest": latest, "visited": visited}}

    def scored(state, gathered):
        table = state.method_state[MEMORY]
        visited, latest = table["visited"], table["latest"]
        if standardize:
            latest = standardize_losses(latest, where=visited)
        beta = live("method", options, state.hyper).boost_beta
        new = momentum_loss(table["average"], table["seen"], latest, beta=beta)
        average = jnp.where(visited, new, table["average"])
        seen = table["seen"] | visited
        again = {
            "average": average,
            "seen": seen,
            "score": memorization_scores(average, seen),
            "latest": latest,
            "visited": jnp.zeros_like(visited),
        }
        return {**state.method_state, MEMORY: again}

    refresh = Refresh(lambda step: step > 0 and step % every == 0, scored, on="device")
    return method._replace(
        init=init,
        guide=guide,
        update=update,
        refreshes=(*method.refreshes, refresh),
        tables=(*method.tables, MEMORY),
    )
