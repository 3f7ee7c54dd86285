"""Classifiers of a finished run as components; what they compute is in test_posthoc."""

import numpy as np
import pytest

from ltjax.methods.classifiers import CLASSIFIERS, Finished
from ltjax.options import read

COUNTS = np.array([30, 10])


def finished(**changes):
    """Two replicas of a linear head on one feature, with a held-out split."""

    def outputs(split):
        if split not in ("val", "train"):
            raise ValueError(f"there is no split {split!r}")
        logits = np.array([[[0.9, 0.0], [0.2, 0.0], [-0.5, 0.0]]] * 2)
        return {"logits": logits}, np.array([0, 1, 1])

    known = dict(
        name="RUN",
        class_counts=COUNTS,
        num_features=1,
        head="linear",
        scaled=False,
        params={"head": {"kernel": np.array([[[2.0, 0.5]]] * 2)}},
        outputs=outputs,
        sweep=None,
        replicas=2,
    )
    return Finished(**(known | changes))


def chosen(name, **options):
    found, faults = read("classifier", {"name": name, **options}, CLASSIFIERS)
    assert not faults
    return found


def test_a_given_tau_is_that_of_every_replica():
    found = chosen("la", tau=0.5).make(finished())
    assert found.label == "LA post hoc"
    assert found.values["tau"].tolist() == [0.5, 0.5]
    logits = found.logits(0.5, {"logits": np.zeros((1, 2), np.float32)})
    expected = -0.5 * np.log(COUNTS / COUNTS.sum())
    np.testing.assert_allclose(logits[0], expected, rtol=1e-6)


def test_a_tau_is_chosen_where_none_is_given():
    """Class 1 wins row 1 once tau log 3 > .2, and loses row 0 at tau log 3 > .9."""
    found = chosen("la", rule="best").make(finished())
    for tau in found.values["tau"]:
        assert 0.2 < tau * np.log(3) < 0.9


def test_tau_norm_divides_by_the_norms_of_the_columns():
    found = chosen("tau_norm", tau=1.0).make(finished())
    one = {"tau": 1.0, "kernel": found.fitted["kernel"][0]}
    logits = found.logits(one, {"logits": np.array([[4.0, 1.0]], np.float32)})
    np.testing.assert_allclose(logits, [[2.0, 2.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "cosine"}, "head of RUN is 'cosine', expected 'linear'"),
        ({"scaled": True}, "'linear' with a class scale, expected 'linear' without"),
    ],
)
def test_heads_without_norms_to_take_away(changes, message):
    with pytest.raises(ValueError, match=message):
        chosen("tau_norm", tau=1.0).make(finished(**changes))


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("la", {"tau": "much"}, "tau is 'much', expected a number >= 0"),
        ("la", {"tau": -1.0}, "tau is -1.0, expected a number >= 0"),
        ("la", {"rule": "worst"}, "rule is 'worst', unknown"),
        (
            "la",
            {"select_on": "test"},
            "select_on is 'test', unknown; valid: train, val",
        ),
        ("la", {"bias_mode": "keep"}, "bias_mode is unknown to 'la'"),
        ("ncm", {"transform": "cl3n"}, "transform is 'cl3n', unknown"),
        ("svm", {}, "name is 'svm', unknown"),
    ],
)
def test_options_that_are_refused(name, options, fault):
    (found,) = read("classifier", {"name": name, **options}, CLASSIFIERS).faults
    assert fault in found
