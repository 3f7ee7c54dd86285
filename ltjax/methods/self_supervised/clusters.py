r"""Clusters of what a trained network sees, by minibatch k-means of directions.

The network stays as it is; the state of the method are the centers. What it predicts is
"cluster", the nearest one of each example, which later runs read as a column
(`config.columns_from`). The examples pass by in batches, so that their number and the
devices that share a batch do not matter.

References:
    Tian, Henaff and van den Oord, "Divide and Contrast: Self-supervised Learning from
    Uncurated Data", ICCV 2021: the hidden layer of the projection head, without
    augmentation, cosine similarity. Minibatches in place of k-means on all images, the
    restarts and the moves of empty clusters are ours.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax._numerics import l2_normalize
from ltjax.methods.method import Method, MethodFacts, Setting, evaluated, even_part
from ltjax.methods.self_supervised import pairs
from ltjax.options import Component, option
from ltjax.resampling.spherical_kmeans import (
    Directions,
    absorb,
    cosines,
    next_epoch,
    seed_directions,
)

NOTHING = "nothing"  # no module has this name: none trains


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """Of clusters."""

    clusters: int = option(5, "K, published 5 and 10", low=1)
    features: str = option(
        "hidden", "output of the network that is clustered, such as 'features'"
    )
    restarts: int = option(10, "k-means++ draws from the first batch", low=1)


def clusters(options: ClusterOptions, setting: Setting) -> Method:
    """Minibatch k-means on an output of the network "main" in evaluation mode.

    Args:
        options: see `ClusterOptions`.
        setting: the network "main", usually from `config.init_from`.

    Returns:
        A `Method` whose state is "sums" [K, D] and "members" [K]; it reports the
        "distance" 1 - cos, and predicts "cluster" [B] int32.
    """

    def points_of(state, inputs):
        outputs = evaluated(setting, state, inputs)
        if options.features not in outputs:
            raise ValueError(
                f"clusters: the network has no output {options.features!r}, expected"
                f" one of {', '.join(sorted(outputs))}"
            )
        return outputs, l2_normalize(outputs[options.features])

    def init(key, params, model_state):
        width = pairs.output_width(
            setting.networks["main"], params, model_state, output=options.features
        )
        shape = (options.clusters, width)
        return {"sums": jnp.zeros(shape), "members": jnp.zeros(options.clusters)}

    def prepare(state, batch, *, key, program):
        _, points = points_of(state, batch["inputs"])
        points, real = jax.lax.stop_gradient(points), batch["mask"]

        def first(found):
            draw = {"num": options.clusters, "restarts": options.restarts}
            return seed_directions(key, points, real, **draw)

        def later(found):
            starts = state.step % setting.steps_per_epoch == 0
            return jax.lax.cond(
                starts, lambda: next_epoch(found, points, real), lambda: found
            )

        found = Directions(**state.method_state)
        found = jax.lax.cond(state.step == 0, first, later, found)
        away = 1 - jnp.max(cosines(points, found), axis=1)
        new = absorb(found, points, real)
        return new._asdict(), {**batch, "distance": away}

    def loss(params, state, batch, *, key, program):
        away, mask = batch["distance"], batch["mask"]
        aux = {
            "model_state": state.model_state,
            "outputs": {},
            "metrics": {"distance": (jnp.sum(jnp.where(mask, away, 0)), mask.sum())},
        }
        return {"distance": away}, aux

    def terms(state, batch, aux, *, program):
        parts = {"distance": even_part(batch)}
        return setting.rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs, points = points_of(state, inputs)
        near = cosines(points, Directions(**state.method_state))
        return {**outputs, "cluster": jnp.argmax(near, axis=1).astype(jnp.int32)}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        trains=lambda stage: NOTHING,
        evaluators=("knn",),
    )


def _needs(options: ClusterOptions, config) -> list[str]:
    if options.clusters <= config.batch_size:
        return []
    return [
        f"config.method.clusters is {options.clusters}, expected at most batch_size ="
        f" {config.batch_size}, from which the first centers are drawn"
    ]


CLUSTERS = Component(
    "clusters of a trained network's features, for divide and contrast (Tian 2021)",
    ClusterOptions,
    clusters,
    _needs,
    lambda options: MethodFacts(
        head="projection",
        reads_labels=False,
        reads_loss=False,
        reads_weights=False,
    ),
)
