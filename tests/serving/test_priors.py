"""The prior that training implies, by hand, and the forms in which one is given."""

import jax
import numpy as np
import pytest

from ltjax.serving.priors import implied_prior, read_prior
from ltjax.train.build import load_data
from ltjax.train.lanes import replica_table
from ltjax.train.parts import make_parts

# Counts of the tiny run's classes.
COUNTS = np.array([40, 30, 23, 18, 14, 11, 8, 6, 5, 4])
TRAIN = COUNTS / COUNTS.sum()
UNIFORM = np.full(10, 0.1)


def normalized(values):
    return values / values.sum()


def implied(config, step=24):
    """Of a network that has nothing but zeros: what it predicts does not matter."""
    parts = make_parts(config, load_data(config))
    hyper = replica_table(config)[0]["hyper"]
    shapes = jax.eval_shape(parts.init, 0, hyper)
    shapes = shapes.replace(rng=None, opt_state=None, hyper=None)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state = state.replace(step=np.int32(step), hyper=hyper)
    return implied_prior(parts.method, parts.sampler, state)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, TRAIN),
        ({"method.posthoc_tau": 2.0}, TRAIN),  # of the network's own logits
        ({"loss.name": "la"}, UNIFORM),
        # softmax(z)_y ~ pi_y exp(-tau log pi_y) P(x|y)
        ({"loss.name": "la", "loss.tau": 0.5}, normalized(TRAIN**0.5)),
        ({"loss.name": "la", "loss.tau": 2.0}, normalized(1 / TRAIN)),
        ({"loss.name": "balanced_softmax"}, UNIFORM),
        ({"sampler.name": "class_balanced"}, UNIFORM),
        ({"sampler.name": "square_root"}, normalized(TRAIN**0.5)),
        ({"weights.name": "inverse_power"}, UNIFORM),
        # Balanced twice: the rare classes become the frequent ones.
        (
            {"sampler.name": "class_balanced", "weights.name": "inverse_power"},
            normalized(1 / TRAIN),
        ),
        ({"loss.name": "focal"}, None),
        ({"loss.name": "ldam"}, None),
        ({"loss.name": "cdt"}, None),
        ({"loss.name": "vs"}, None),
        ({"loss.name": "vs", "loss.gamma": 0.0, "loss.tau": 1.0}, UNIFORM),
    ],
)
def test_the_prior_that_training_implies(tiny, changes, expected):
    found = implied(tiny(changes))
    if expected is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_is_deferred_counts_from_its_step_on(tiny):
    config = tiny({"weights.name": "inverse_power", "weights.start": "12 steps"})
    np.testing.assert_allclose(implied(config, step=12), TRAIN, rtol=1e-5)
    np.testing.assert_allclose(implied(config, step=13), UNIFORM, rtol=1e-5)
    config = tiny({"sampler.name": "class_balanced", "sampler.start": "12 steps"})
    np.testing.assert_allclose(implied(config, step=12), TRAIN, rtol=1e-5)
    np.testing.assert_allclose(implied(config, step=13), UNIFORM, rtol=1e-5)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("balanced", "prior is 'balanced', expected 2 numbers or .* valid: train, uni"),
        ("uniforn", "did you mean 'uniform'"),
        ([0.2, 0.3, 0.5], r"prior has shape \(3,\) .*expected 2 numbers, one for each"),
        ([1.0, -1.0], "prior is -1.0 for class 'dog', expected numbers >= 0"),
        ([np.nan, 1.0], "prior is nan for class 'cat'"),
        ([0, 0], "prior is 0, expected numbers >= 0 that are not all 0"),
        ({"cat": 1.0}, r"prior has no number for class 'dog' \(1 missing\)"),
        (
            {"cat": 1.0, "dgo": 1.0},
            "names the class 'dgo', unknown; did you mean 'dog'",
        ),
        ([True, False], "dtype bool"),
    ],
)
def test_priors_that_are_none(prior, message):
    with pytest.raises(ValueError, match=message):
        read_prior("f", "prior", prior, np.array([3, 1]), ("cat", "dog"))
