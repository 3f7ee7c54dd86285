r"""CoSSL: a classifier of enhanced balanced features teaches FixMatch in its last part.

Until `start` it is FixMatch. Then the pseudo-labels are those of a second linear
classifier, g, on the features of the averaged network,

.. math:: \hat y_j = \arg\max_k g_k(\bar h(x_j^{weak}))

and g learns from labelled features of every class alike, which are the more mixed with
others the rarer the class is, the label unchanged:

.. math:: \tilde h = \lambda h_y + (1 - \lambda) h' \quad
          \text{with probability } \frac{N_{max} - N_y}{N_{max}}, \qquad
          \lambda \sim U(\lambda_{min}, 1)

The averaged network with the averaged g predicts.

References:
    Fan, Dai, Kukleva and Schiele, "CoSSL: Co-Learning of Representation and Classifier
    for Imbalanced Semi-Supervised Learning", CVPR 2022: the last 100 of 500 epochs,
    0.6 for the smallest share in the published runs. The pseudo-labels come from g
    itself, as in the code, whose comment speaks of its average. There a second,
    class-balanced stream of labelled images gives the features; here they are drawn
    from the last features of each class, with h' from the unlabelled rows of the batch.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses as loss_functions
from ltjax._numerics import class_lookup
from ltjax.methods.method import (
    Method,
    MethodFacts,
    Setting,
    averaged,
    evaluated,
    even_part,
)
from ltjax.methods.semi_supervised import fixmatch, streams
from ltjax.methods.semi_supervised.class_queues import (
    ClassQueues,
    empty_queues,
    enqueue,
    queue_needs,
)
from ltjax.methods.semi_supervised.streams import STREAM, flat
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class CoSSLOptions(fixmatch.ConfidenceOptions):
    """Of CoSSL."""

    start: str = option("80%", "FixMatch alone before this step", duration=True)
    smallest: float = option(
        0.6, "share of a feature in its mixtures", low=0, high=1, sweep=True
    )
    queue: int = option(64, "features kept of each class", low=1)


def balanced_features(key, queues: ClassQueues, others, class_counts, smallest, size):
    """Features of classes drawn alike, the rarer the more often mixed with others.

    Args:
        key: of the draws.
        queues: features of each class.
        others: [N, D], to mix with.
        class_counts: [K].
        smallest: share of a feature in a mixture.
        size: B.

    Returns:
        [B, D] features, int32 [B] classes, bool [B] whether the class had a feature.
    """
    keys = jax.random.split(key, 5)
    classes, length, _ = queues.features.shape
    counts = jnp.asarray(class_counts, jnp.float32)
    drawn = jax.random.randint(keys[0], (size,), 0, classes)
    filled = jnp.minimum(queues.written, length)[drawn]
    # Whole numbers below the filled part, whatever its length.
    place = jax.random.randint(keys[1], (size,), 0, jnp.maximum(filled, 1))
    own = queues.features[drawn, place]
    other = others[jax.random.randint(keys[2], (size,), 0, len(others))]
    rate = (jnp.max(counts) - class_lookup(counts, drawn)) / jnp.max(counts)
    share = jax.random.uniform(keys[3], (size,), minval=smallest, maxval=1.0)
    share = jnp.where(jax.random.bernoulli(keys[4], rate), share, 1.0)[:, None]
    return share * own + (1 - share) * other, drawn, filled > 0


def cossl(options: CoSSLOptions, setting: Setting) -> Method:
    """FixMatch, and then co-learning with a balanced classifier.

    Args:
        options: see `CoSSLOptions`.
        setting: with averaged parameters; the network "main" has the output "branch".

    Returns:
        A `Method` whose state are the queues of features.
    """
    network, classes = setting.networks["main"], setting.num_classes
    start = setting.steps(options.start)

    def init(key, params, model_state):
        queues = empty_queues(classes, options.queue, network.num_features)
        return {"queues": queues}

    def embed(state, inputs):
        return network.embed(*averaged(state, ema=True), inputs)

    def prepare(state, batch, *, key, program):
        kept, stream = state.method_state, batch[STREAM]
        now = live("method", options, state.hyper)
        guess_key, draw_key = jax.random.split(key)
        if not program.stage:
            found, seen = streams.guesses(setting, state, stream, key=guess_key)
            return fixmatch.treated(
                setting, state, batch, found, now.threshold, features=seen
            )
        rows = len(batch["label"])
        features = embed(
            state, jnp.concatenate([batch["inputs"], flat(stream["weak"])])
        )
        own, others = features[:rows], features[rows:]
        queues = enqueue(kept["queues"], own, batch["label"], batch["mask"])
        outputs, _ = network.classify(
            state.params, state.model_state, others, train=False
        )
        found = jax.nn.softmax(outputs["branch"]).reshape(*stream["mask"].shape, -1)
        _, batch = fixmatch.treated(
            setting,
            state,
            batch,
            found,
            now.threshold,
            features=others.reshape(*stream["mask"].shape, -1),
        )
        mixed, label, real = balanced_features(
            draw_key, queues, others, setting.class_counts, now.smallest, rows
        )
        more = {"features": mixed, "feature_label": label, "feature_mask": real}
        return {**kept, "queues": queues}, {**batch, **more}

    def loss(params, state, batch, *, key, program):
        losses, aux, _, _ = fixmatch.prepared_objective(
            setting, params, state, batch, key=key
        )
        if program.stage:
            outputs, _ = network.classify(
                params, state.model_state, batch["features"], train=False
            )
            label, real = batch["feature_label"], batch["feature_mask"]
            losses["classifier"] = loss_functions.softmax_cross_entropy(
                outputs["branch"], label, where=real
            )
            hit = (jnp.argmax(outputs["branch"], axis=-1) == label) & real
            aux["metrics"]["classifier_accuracy"] = (jnp.sum(hit), jnp.sum(real))
        return losses, aux

    def terms(state, batch, aux, *, program):
        weight, stream = live("method", options, state.hyper).lambda_u, batch[STREAM]
        parts = fixmatch.parts_of(setting, state, batch, stream["target"], weight)
        if program.stage:
            parts["classifier"] = even_part(batch, batch["feature_label"])
        return setting.rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        late = state.step > start
        logits = jnp.where(late, outputs["branch"], outputs["logits"])
        return {**outputs, "logits": logits}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        program=lambda step: step >= start,
        programs=(False, True),
        class_part="label",
    )


def _needs(options: CoSSLOptions, config) -> list[str]:
    faults = streams.stream_needs(config) + streams.linear_needs(config)
    return faults + queue_needs(options.queue, config)


COSSL = Component(
    "CoSSL: FixMatch taught by a classifier of balanced features (Fan 2022)",
    CoSSLOptions,
    cossl,
    _needs,
    lambda options: MethodFacts(head="two_linear", companions=True),
)
