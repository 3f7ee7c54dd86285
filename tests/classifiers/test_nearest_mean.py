"""Nearest class mean: numbers by hand, streaming, empty classes, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.classifiers.nearest_mean import (
    ClassSums,
    class_mean_scores,
    class_means,
    global_mean,
    init_class_sums,
    nearest_class_mean,
    transform_features,
    update_class_sums,
)

FEATURES = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
LABELS = jnp.array([0, 0, 1, 1])
QUERY = jnp.array([[1.0, 0.5]])

EXPECTED = {
    "none": ([[1.5, 0], [0, 2]], [-0.5, -3.25]),
    "l2n": ([[1, 0], [0, 1]], [-0.211145618, -1.105572809]),
    "cl2n": (
        [[0.511702217, -0.797418774], [-0.675561721, 0.468164589]],
        [-0.013569415, -3.117280769],
    ),
}


@pytest.mark.parametrize("transform", sorted(EXPECTED))
def test_means_and_scores_by_hand(transform):
    means, scores = EXPECTED[transform]
    fitted = nearest_class_mean(FEATURES, LABELS, 2, transform=transform)
    np.testing.assert_allclose(fitted.means, means, atol=1e-6)
    np.testing.assert_allclose(
        class_mean_scores(QUERY, fitted)[0], scores, rtol=1e-5, atol=1e-6
    )


def test_dot_score_is_the_inner_product_with_the_mean():
    fitted = nearest_class_mean(FEATURES, LABELS, 2, transform="none")
    scores = class_mean_scores(QUERY, fitted, score="dot")
    np.testing.assert_allclose(scores, [[1.5, 1.0]])


def reference(features, labels, queries, num_classes, transform, average):
    """From the definition, in float64."""
    means = [features[labels == k].mean(axis=0) for k in range(num_classes)]
    center = features.mean(axis=0) if average == "examples" else np.mean(means, axis=0)

    def apply(x):
        x = x - center if transform == "cl2n" else x
        norm = np.linalg.norm(x, axis=-1, keepdims=True)
        return x if transform == "none" else x / norm

    means = np.stack(
        [apply(features[labels == k]).mean(axis=0) for k in range(num_classes)]
    )
    return -((apply(queries)[:, None] - means[None]) ** 2).sum(axis=-1)


@pytest.mark.parametrize("average", ["examples", "classes"])
@pytest.mark.parametrize("transform", ["none", "l2n", "cl2n"])
def test_against_the_definition_off_center(transform, average):
    # An offset of 100 costs the expanded square 4 digits unless it is centered.
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 9, 3])
    features = rng.normal(size=(52, 6)) + 3 * rng.normal(size=(3, 6))[labels] + 100
    queries = rng.normal(size=(11, 6)) + 100
    fitted = nearest_class_mean(
        features.astype(np.float32), labels, 3, transform=transform, average=average
    )
    expected = reference(features, labels, queries, 3, transform, average)
    scores = class_mean_scores(queries.astype(np.float32), fitted)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-5)


def test_balanced_center_ignores_the_counts():
    sums = ClassSums(jnp.array([[4.0], [6.0], [0.0]]), jnp.array([4, 1, 0]))
    assert global_mean(sums).item() == 2.0  # 10 / 5
    assert global_mean(sums, average="classes").item() == 3.5  # (1 + 6) / 2


def test_streamed_in_two_passes_equals_in_memory():
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.normal(size=(30, 4)) + 2, jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, 30))
    batches = [slice(0, 12), slice(12, 24), slice(24, 30)]
    raw = init_class_sums(3, 4)
    for rows in batches:
        raw = update_class_sums(raw, features[rows], labels[rows])
    center = global_mean(raw, average="classes")
    sums = init_class_sums(3, 4)
    for rows in batches:
        moved = transform_features(features[rows], center, transform="cl2n")
        sums = update_class_sums(sums, moved, labels[rows])
    streamed = class_means(sums, center, transform="cl2n")
    whole = nearest_class_mean(features, labels, 3, average="classes")
    np.testing.assert_allclose(streamed.means, whole.means, atol=1e-6)
    np.testing.assert_array_equal(sums.count, np.bincount(labels, minlength=3))


def test_empty_class_is_never_predicted_and_changes_nothing():
    without = nearest_class_mean(FEATURES, LABELS, 2, average="classes")
    with_empty = nearest_class_mean(FEATURES, LABELS * 2, 3, average="classes")
    scores = class_mean_scores(QUERY, with_empty)
    assert scores[0, 1] == -jnp.inf
    np.testing.assert_allclose(scores[:, ::2], class_mean_scores(QUERY, without))
    assert class_mean_scores(QUERY, with_empty, score="dot")[0, 1] == -jnp.inf


def test_masked_rows_do_not_count_even_if_nan():
    padded = jnp.concatenate([FEATURES, jnp.full((2, 2), jnp.nan)])
    labels = jnp.concatenate([LABELS, jnp.array([-1, 7])])
    where = jnp.arange(6) < 4
    masked = nearest_class_mean(padded, labels, 2, where=where)
    whole = nearest_class_mean(FEATURES, LABELS, 2)
    np.testing.assert_allclose(masked.means, whole.means)


@pytest.mark.parametrize("label", [-1, 2])
def test_label_out_of_range_is_nan(label):
    fitted = nearest_class_mean(FEATURES, LABELS.at[0].set(label), 2)
    assert np.isnan(fitted.means).all()


def test_classifier_passes_through_jit_with_its_transform():
    fit = jax.jit(nearest_class_mean, static_argnums=2)
    fitted = fit(FEATURES, LABELS, 2)
    assert fitted.transform == "cl2n"
    scores = jax.jit(class_mean_scores)(QUERY, fitted)
    np.testing.assert_allclose(scores[0], EXPECTED["cl2n"][1], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nearest_class_mean(FEATURES, LABELS, 2, transform="cos"),
            "transform is 'cos'",
        ),
        (
            lambda: nearest_class_mean(FEATURES, LABELS, 2, average="none"),
            "average is 'none'",
        ),
        (lambda: nearest_class_mean(FEATURES, LABELS[:2], 2), r"expected \(4,\)"),
        (lambda: transform_features(QUERY, transform="cl2n"), "needs center"),
        (
            lambda: class_mean_scores(
                jnp.ones((1, 3)), nearest_class_mean(FEATURES, LABELS, 2)
            ),
            r"expected \[B, 2\]",
        ),
        (lambda: update_class_sums(init_class_sums(2, 3), FEATURES, LABELS), "B, 3"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
