r"""ABC: a second classifier, trained on a balanced part of the batch, predicts.

.. math:: L = L_{FixMatch}
          - \frac1B \sum_i M_i \log p^b_{i y_i}
          - \frac{1}{\mu B} \sum_j c_j M'_j \sum_v \sum_k q^b_{jk} \log p^b_{vjk}

p^b is the second linear classifier, q^b its prediction on the weak view without
gradient, v runs over the strong views and c says whether max q^b reaches the threshold.
The masks are drawn with the rates

.. math:: P(M_i = 1) = N_{min} / N_{y_i}, \qquad
          P(M'_j = 1) = 1 - \tfrac{e}{E} (1 - N_{min} / N_{\arg\max q^b_j})

of which the second falls in E equal parts of the run.

References:
    Lee, Shin and Kim, "ABC: Auxiliary Balanced Classifier for Class-imbalanced
    Semi-supervised Learning", NeurIPS 2021. `masks="expected"` puts the rates in place
    of the draws: the same gradient on average, without their noise. The released code
    takes the last class to be the smallest; here it is the one with the fewest labels.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax import losses as loss_functions
from ltjax._numerics import class_lookup
from ltjax.methods.method import Method, MethodFacts, Setting, evaluated, even_part
from ltjax.methods.semi_supervised import fixmatch, streams
from ltjax.methods.semi_supervised.streams import STREAM
from ltjax.options import Component, live, option


@dataclasses.dataclass(frozen=True)
class ABCOptions(fixmatch.ConfidenceOptions):
    """Of ABC."""

    masks: str = option(
        "sampled",
        "whether a row has a part in the balanced losses is drawn, or expected",
        choices=("sampled", "expected"),
    )
    parts: int = option(
        500, "E, equal parts of the run in which the rates are constant", low=1
    )


def mask_rates(class_counts, labels, guessed, share) -> tuple[jax.Array, jax.Array]:
    """Rates of the labelled masks, of shape `labels`, and of the unlabelled ones.

    Args:
        class_counts: [K] > 0.
        labels: int, any shape.
        guessed: int, any shape.
        share: e / E in [0, 1].

    Returns:
        Two float32 arrays in (0, 1].

    Example:
        >>> labels, guessed = jnp.array([0, 1, 2]), jnp.array([0, 1, 2])
        >>> rates = mask_rates([100, 50, 10], labels, guessed, 0.5)
        >>> [[f"{rate:.2f}" for rate in one] for one in rates]
        [['0.10', '0.20', '1.00'], ['0.55', '0.60', '1.00']]
    """
    counts = jnp.asarray(class_counts, jnp.float32)
    balanced = jnp.min(counts) / counts
    rates = class_lookup(balanced, labels)
    return rates, 1 - share * (1 - class_lookup(balanced, guessed))


def abc(options: ABCOptions, setting: Setting) -> Method:
    """FixMatch with an auxiliary balanced classifier.

    Args:
        options: see `ABCOptions`.
        setting: the network "main" has the output "branch".

    Returns:
        A `Method`.
    """
    treatment, total = setting.treatment, setting.total_steps

    def init(key, params, model_state):
        return treatment.init()

    def prepare(state, batch, *, key, program):
        guess_key, *mask_keys = jax.random.split(key, 3)
        now = live("method", options, state.hyper)
        (weak,) = streams.guessed(
            setting, state, batch[STREAM], ("weak",), key=guess_key
        )
        kept, batch = fixmatch.treated(
            setting,
            state,
            batch,
            jax.nn.softmax(weak["logits"]),
            now.threshold,
            features=weak["features"],
        )
        balanced = jax.nn.softmax(weak["branch"])
        guessed, sure = streams.decide(balanced, now.threshold, batch[STREAM]["mask"])
        # Whole parts, in floats: a product of integers might not fit into int32.
        done = jnp.floor(state.step / total * options.parts + 1e-3)
        share = done / options.parts
        rates = mask_rates(setting.class_counts, batch["label"], guessed, share)
        if options.masks == "sampled":
            draws = map(jax.random.bernoulli, mask_keys, rates)
            rates = [x.astype(jnp.float32) for x in draws]
        batch = fixmatch.with_targets(batch, balanced=balanced, share=rates[1] * sure)
        return kept, {**batch, "share": rates[0]}

    def loss(params, state, batch, *, key, program):
        stream = batch[STREAM]
        losses, aux, own, views = fixmatch.prepared_objective(
            setting, params, state, batch, key=key
        )
        branches = [view["branch"] for view in views]
        plain = loss_functions.softmax_cross_entropy(own["branch"], batch["label"])
        mean = streams.agreement(branches, stream["balanced"], stream["share"])
        losses["balanced_label"] = batch["share"] * plain
        losses["balanced_unlabelled"] = len(branches) * mean  # a sum over the views
        hit = jnp.argmax(own["branch"], axis=-1) == batch["label"]
        mask = batch["mask"]
        aux["metrics"]["balanced_accuracy"] = (jnp.sum(hit & mask), jnp.sum(mask))
        return losses, aux

    def terms(state, batch, aux, *, program):
        weight = live("method", options, state.hyper).lambda_u
        target = batch[STREAM]["target"]
        parts = fixmatch.parts_of(setting, state, batch, target, weight)
        guessed = jnp.argmax(batch[STREAM]["balanced"][:, 0], axis=-1)
        parts["balanced_label"] = even_part(batch, batch["label"])
        parts["balanced_unlabelled"] = even_part(batch, guessed)
        return setting.rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        outputs = evaluated(setting, state, inputs)
        return {**outputs, "logits": outputs["branch"]}

    return Method(
        loss=loss,
        terms=terms,
        predict=predict,
        init=init,
        prepare=prepare,
        refreshes=treatment.refreshes,
        tables=treatment.tables,
        class_part="label",
    )


def _needs(options: ABCOptions, config) -> list[str]:
    return streams.stream_needs(config) + streams.linear_needs(config)


ABC = Component(
    "ABC: FixMatch with a second, balanced classifier (Lee 2021)",
    ABCOptions,
    abc,
    _needs,
    lambda options: MethodFacts(
        head="two_linear", companions=True, treats_guesses=True
    ),
)
