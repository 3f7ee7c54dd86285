"""Neural collapse of the training set, against float64 numpy on the same network."""

import types

import numpy as np
import pytest

from ltjax.evaluators.registry import EVALUATORS

COUNTS = np.array([40, 30, 23, 18, 14, 11, 8, 6, 5, 4])


def dense_collapse(features, logits, labels, vectors):
    """The definitions of Papyan et al. 2020, with D x D matrices."""
    means = np.stack([features[labels == k].mean(0) for k in range(10)])
    centered = means - means.mean(0)
    between = centered.T @ centered / 10
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    per_class = []
    for k in range(10):
        apart = features[labels == k] - means[k]
        within = apart.T @ apart / len(apart)
        per_class.append(np.trace(within @ inverse) / 10)
    norms = np.linalg.norm(centered, axis=1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    few = unit[COUNTS < 8] @ unit[COUNTS < 8].T
    distance = np.square(features[:, None] - means).sum(-1)
    gap = vectors / np.linalg.norm(vectors) - centered / np.linalg.norm(centered)
    return {
        "nc1": np.average(per_class, weights=COUNTS),
        "nc1_balanced": np.mean(per_class),
        "nc2_equinorm_means": norms.std(ddof=1) / norms.mean(),
        "nc3": np.square(gap).sum(),
        "nc4": np.mean(distance.argmin(1) != logits.argmax(1)),
        "minority_collapse": few[~np.eye(3, dtype=bool)].mean(),
    }, np.array(per_class)


def test_collapse_is_that_of_the_definition(watched, network):
    workdir, result = watched
    features, logits, labels, vectors = network
    with np.load(workdir / "evaluation" / "train_24.npz") as file:
        details = dict(file)
    for r in range(2):
        found, per_class = dense_collapse(features[r], logits[r], labels, vectors[r])
        for name, value in found.items():
            ours = result.metrics[f"eval/train/{name}"][r]
            assert ours == pytest.approx(value, rel=2e-4, abs=1e-6), name
        np.testing.assert_allclose(details["nc1_per_class"][r], per_class, rtol=2e-4)


def test_a_fixed_frame_is_its_own_reference(train):
    """Against a simplex head, NC2 of the weights is 0 and rare classes do not merge."""
    found = train(
        {
            "total": "6 steps",
            "eval_every": "0 steps",
            "evaluators": {"collapse": {}},
            "loss.name": "dot_regression",
        }
    ).metrics
    for name in ("nc2_equinorm_weights", "nc2_equiangle_weights"):
        assert found[f"eval/train/{name}"].item() == pytest.approx(0, abs=1e-6)
    cosine = found["eval/train/minority_collapse"].item()
    assert cosine == pytest.approx(-1 / 9, abs=1e-6)


def test_a_network_without_class_vectors_is_refused():
    setting = types.SimpleNamespace(
        networks={"main": types.SimpleNamespace(class_vectors=None)},
        class_counts=COUNTS,
    )
    component = EVALUATORS["collapse"]
    with pytest.raises(ValueError, match="does not expose its class vectors"):
        component.make(component.options(), setting)
