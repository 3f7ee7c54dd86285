"""A public loss as a component: its arguments, facts and options."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ltjax.losses.component import LossContext, LossFacts, loss_component
from ltjax.options import NoOptions, option

LOGITS = jnp.array([[1.0, 2.0], [0.5, -1.0]])
LABELS = jnp.array([0, 1])
COUNTS = np.array([9, 3])


@dataclasses.dataclass(frozen=True)
class Options:
    tau: float = option(2.0, "a strength", low=0, sweep=True)


def context():
    return LossContext(COUNTS, jnp.int32(0), {}, {})


def test_the_function_gets_logits_labels_counts_and_options():
    seen = []

    def fn(logits, labels, counts, *, tau):
        seen.append((logits, labels, counts, tau))
        return logits[:, 0]

    component = loss_component("a loss", fn, Options, counts=True)
    options = component.options(tau=3.0)
    loss = component.make(options, None)
    values = loss.fn({"logits": LOGITS, "features": None}, LABELS, options, context())
    np.testing.assert_array_equal(values, [1.0, 0.5])
    ((logits, labels, counts, tau),) = seen
    assert logits is LOGITS and labels is LABELS and counts is COUNTS and tau == 3.0


def test_without_counts_and_options_there_are_two_arguments():
    component = loss_component("a loss", lambda logits, labels: labels * 1.0)
    assert component.options is NoOptions
    loss = component.make(NoOptions(), None)
    values = loss.fn({"logits": LOGITS}, LABELS, NoOptions(), context())
    assert values.tolist() == [0.0, 1.0]
    assert loss.memory is None and loss.affine is None and loss.confidence is None


def test_traced_options_reach_the_function():
    component = loss_component("a loss", lambda z, y, *, tau: tau * z[:, 0], Options)
    options = dataclasses.replace(component.options(), tau=jnp.float32(4.0))
    loss = component.make(component.options(), None)
    values = loss.fn({"logits": LOGITS}, LABELS, options, context())
    np.testing.assert_array_equal(values, [4.0, 2.0])


def test_facts_are_those_that_are_given():
    plain = loss_component("a loss", lambda z, y: z[:, 0])
    assert plain.facts(NoOptions()) == LossFacts()
    told = loss_component(
        "a loss",
        lambda z, y: z[:, 0],
        affine=lambda options, context: (1.0, 0.0),
        head="cosine",
        heads=(),
        couples_batch=True,
    )
    facts = told.facts(NoOptions())
    assert (facts.head, facts.heads, facts.couples_batch) == ("cosine", (), True)
    assert facts.affine and not plain.facts(NoOptions()).affine
