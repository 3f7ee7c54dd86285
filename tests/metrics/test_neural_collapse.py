import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import metrics as M
from ltjax.metrics import ClassMeanState, CollapseState

# Six examples whose scatters are sums of a few squares.
FEATURES = np.array([[1, 0], [3, 0], [0, 2], [0, 4], [-2, -2], [-2, -4]], np.float64)
LABELS = np.array([0, 0, 1, 1, 2, 2])
HEAD = np.array([[1, 0, -1], [0, 1, -1]], np.float64)  # [D, K]


@jax.jit
def first_pass(state, features, labels, mask):
    return state.update(features, labels, mask)


@jax.jit
def second_pass(state, geometry, *batch):
    return state.update(geometry, *batch)


def run(features, logits, labels, weights, *, size=None, dtype=jnp.float32, few=None):
    """Both passes in batches of `size`, the last one padded."""
    dim, num_classes = weights.shape
    size = size or len(labels)
    padding = -len(labels) % size
    mask = np.arange(len(labels) + padding) < len(labels)
    pad = lambda x: np.concatenate([x, np.full((padding, *x.shape[1:]), 7, x.dtype)])
    whole = (pad(features), pad(logits), pad(labels), mask)
    batches = list(zip(*(np.split(x, len(mask) // size) for x in whole), strict=True))
    means = ClassMeanState.empty(num_classes, dim, dtype=dtype)
    for h, _, y, m in batches:
        means = first_pass(means, h, y, m)
    geometry = M.collapse_geometry(means)
    state = CollapseState.empty(num_classes, dtype=dtype)
    for batch in batches:
        state = second_pass(state, geometry, *batch)
    return M.collapse_metrics(geometry, state, weights, few=few)


def dense(features, logits, labels, weights):
    """The definitions with D x D matrices and numpy's pseudo-inverse."""
    num_classes, weights = weights.shape[1], weights.T
    mean = np.stack([features[labels == k].mean(0) for k in range(num_classes)])
    centered = mean - mean.mean(0)
    between = centered.T @ centered / num_classes
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    residual = features - mean[labels]
    within = residual.T @ residual / len(labels)
    per_class = []
    for k in range(num_classes):
        r = residual[labels == k]
        per_class.append(np.trace(r.T @ r / len(r) @ inverse) / num_classes)
    out = {
        "nc1": np.trace(within @ inverse) / num_classes,
        "nc1_per_class": per_class,
        "nc1_balanced": np.mean(per_class),
    }
    for name, rows in (("means", centered), ("weights", weights)):
        norms = np.sqrt((rows**2).sum(1))
        out[f"nc2_equinorm_{name}"] = np.std(norms, ddof=1) / np.mean(norms)
        out[f"nc2_equiangle_{name}"] = np.mean(
            [
                abs(rows[i] @ rows[j] / norms[i] / norms[j] + 1 / (num_classes - 1))
                for i in range(num_classes)
                for j in range(num_classes)
                if i != j
            ]
        )
    gap = weights / np.linalg.norm(weights) - centered / np.linalg.norm(centered)
    out["nc3"] = np.sum(gap**2)
    distance = ((features[:, None] - mean[None]) ** 2).sum(-1)
    disagree = distance.argmin(1) != logits.argmax(1)
    out["nc4"] = disagree.mean()
    out["nc4_per_class"] = [disagree[labels == k].mean() for k in range(num_classes)]
    return out


def imbalanced(seed, counts, dim, offset=0.0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = rng.permutation(labels).astype(np.int32)
    mean = rng.normal(size=(len(counts), dim))
    features = offset + mean[labels] + 0.7 * rng.normal(size=(len(labels), dim))
    weights = rng.normal(size=(dim, len(counts)))
    return features, features @ weights, labels, weights


def test_known_numbers(x64):
    logits = FEATURES @ HEAD
    few = np.array([True, False, True])
    result = run(FEATURES, logits, LABELS, HEAD, dtype=jnp.float64, few=few)
    np.testing.assert_allclose(result.nc1, 0.104938271605, atol=1e-12)
    assert 3 * result.nc1 == pytest.approx(0.314814814815, abs=1e-12)
    assert result.nc2_equinorm_means == pytest.approx(0.282658605, abs=1e-9)
    assert result.nc2_equiangle_means == pytest.approx(0.295583497, abs=1e-9)
    assert result.nc3 == pytest.approx(0.038838649, abs=1e-9)
    np.testing.assert_allclose(result.nc3_cosines, [1, 1, 0.980580676], atol=1e-9)
    # Head columns (1, 0) and (-1, -1): cosine -1 / sqrt(2).
    assert result.minority_collapse == pytest.approx(-(0.5**0.5), abs=1e-12)
    # S_W,k and S_B^-1 = 1/12 [[6, -2], [-2, 8/3]]: diag(1, 0), then twice diag(0, 1).
    expected = np.array([6, 8 / 3, 8 / 3]) / 12 / 3
    np.testing.assert_allclose(result.nc1_per_class, expected, atol=1e-12)
    # Largest coordinate versus nearest of (2, 0), (0, 3), (-2, -3): never differ.
    assert result.nc4 == 0


# D > K - 1 (pseudo-inverse of rank K - 1), D = K - 1 and D < K - 1.
@pytest.mark.parametrize("dim", [12, 4, 2])
def test_streams_equal_the_dense_definition_in_float64(x64, dim):
    data = imbalanced(0, [60, 25, 9, 3, 1], dim)
    result = run(*data, size=32, dtype=jnp.float64)
    for name, value in dense(*data).items():
        np.testing.assert_allclose(getattr(result, name), value, rtol=1e-9, atol=1e-12)


def test_float32_with_a_common_offset():
    # Features of a ReLU network share a large positive part.
    data = imbalanced(1, [60, 25, 9, 3, 1], 12, offset=30.0)
    features, logits, labels, weights = data
    result = run(
        features.astype(np.float32), logits.astype(np.float32), labels, weights
    )
    expected = dense(*data)
    for name in ("nc1", "nc1_balanced", "nc2_equiangle_means", "nc4", "nc3"):
        np.testing.assert_allclose(getattr(result, name), expected[name], rtol=2e-4)


def test_head_classes_dominate_nc1_and_not_its_balanced_form():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), [300, 30, 30])
    noise = np.where(labels == 0, 0.01, 1.0)[:, None]
    features = 2 * np.eye(3)[labels] + noise * rng.normal(size=(360, 3))
    result = run(features, features, labels, np.eye(3))
    assert result.nc1_per_class[0] < 1e-3 < 0.1 < result.nc1_per_class[1]
    assert result.nc1 < 0.5 * result.nc1_balanced


def simplex(num_classes, dim, seed=0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(dim, num_classes)))
    return (np.eye(num_classes) - 1 / num_classes) @ basis.T


def test_complete_collapse_is_zero():
    frame = simplex(4, 6)
    labels = np.repeat(np.arange(4), [20, 10, 5, 1])
    features = 3 * frame[labels] + 1.5
    logits = (features - 1.5) @ frame.T  # the head's bias takes the offset away
    result = run(features, logits, labels, 0.2 * frame.T, few=[True] * 4)
    for name, value in result._asdict().items():
        if name == "nc3_cosines":
            np.testing.assert_allclose(value, 1, atol=1e-6)
        elif name == "minority_collapse":
            np.testing.assert_allclose(value, -1 / 3, atol=1e-6)
        else:
            np.testing.assert_allclose(value, 0, atol=1e-6)


def test_one_compilation_per_pass_whatever_the_rank():
    sizes = lambda: (first_pass._cache_size(), second_pass._cache_size())
    run(*imbalanced(8, [20, 8, 4], 6), size=16)
    before = sizes()
    features, logits, labels, weights = imbalanced(9, [16, 8, 8], 6)
    features[:, 1:] = 0.0  # means of rank 1 instead of 2
    run(features, logits, labels, weights, size=16)
    assert sizes() == before


def test_invariances(x64):
    features, logits, labels, weights = imbalanced(3, [30, 10, 4, 2], 5)
    options = dict(dtype=jnp.float64, few=[False, False, True, True])
    base = run(features, logits, labels, weights, **options)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(5, 5)))
    turned = run(features @ rotation, logits, labels, rotation.T @ weights, **options)
    scaled = run(-2.5 * features, logits, labels, weights, **options)
    for name in base._fields:
        np.testing.assert_allclose(
            getattr(turned, name), getattr(base, name), rtol=1e-9, atol=1e-12
        )
    np.testing.assert_allclose(scaled.nc1_per_class, base.nc1_per_class, rtol=1e-9)


def test_replicas_equal_separate_runs(x64):
    sets = [imbalanced(seed, [12, 5, 2], 4) for seed in (5, 6)]
    h, z, y, w = (np.stack(x) for x in zip(*sets, strict=True))
    twice = lambda state: jax.tree.map(lambda x: jnp.stack([x, x]), state)
    means = twice(ClassMeanState.empty(3, 4, dtype=jnp.float64))
    geometry = M.collapse_geometry(jax.vmap(ClassMeanState.update)(means, h, y))
    state = twice(CollapseState.empty(3, dtype=jnp.float64))
    state = jax.vmap(CollapseState.update)(state, geometry, h, z, y)
    few = np.array([False, True, True])
    both = M.collapse_metrics(geometry, state, w, few=few)
    for r, data in enumerate(sets):
        alone = run(*data, dtype=jnp.float64, few=few)
        for name in both._fields:
            np.testing.assert_allclose(
                getattr(both, name)[r], getattr(alone, name), rtol=1e-10, atol=1e-12
            )


def test_merge_equals_one_stream():
    h, z, y, _ = imbalanced(7, [12, 6, 2], 4)
    empty = ClassMeanState.empty(3, 4)
    whole = empty.update(h, y)
    merged = empty.update(h[:9], y[:9]).merge(empty.update(h[9:], y[9:]))
    np.testing.assert_array_equal(merged.count, whole.count)
    np.testing.assert_allclose(merged.total, whole.total, rtol=1e-5, atol=1e-5)
    geometry = M.collapse_geometry(whole)
    empty = CollapseState.empty(3)
    whole = empty.update(geometry, h, z, y)
    halves = (
        empty.update(geometry, h[s], z[s], y[s]) for s in (slice(9), slice(9, 99))
    )
    merged = next(halves).merge(next(halves))
    np.testing.assert_allclose(merged.spread, whole.spread, rtol=1e-5)
    np.testing.assert_array_equal(merged.disagree, whole.disagree)


def test_cosines_of_every_pair():
    # Centered means (2, 0), (0, 3), (-2, -3).
    cosines = M.class_cosines([[2, 0, -2], [0, 3, -3]])
    a, b = -0.554700196, -0.832050294
    np.testing.assert_allclose(cosines, [[1, 0, a], [0, 1, b], [a, b, 1]], atol=1e-9)
    # Length says nothing, a column of zeros has no direction; axes before are replicas.
    many = M.class_cosines(np.array([HEAD, 7 * HEAD]))
    np.testing.assert_allclose(many[0], many[1], rtol=1e-15)
    none = M.class_cosines([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(np.isnan(none), [[True, True], [True, False]])


def test_minority_collapse_of_merged_rows():
    weights = np.array([[1.0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 2, 3]])
    few = np.array([False, True, True, True])
    assert M.minority_collapse(weights, few) == pytest.approx(1)
    assert np.isnan(M.minority_collapse(weights, ~few))


def seen(labels=LABELS):
    return ClassMeanState.empty(3, 2).update(FEATURES, labels)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (
            lambda: M.collapse_geometry(ClassMeanState.empty(4, 2)),
            ValueError,
            "class 0 has no example (4",
        ),
        (
            lambda: M.collapse_geometry(seen(np.array([0, 0, 1, 1, 2, 3]))),
            ValueError,
            "1 label(s) outside [0, 3)",
        ),
        (
            lambda: ClassMeanState.empty(3, 5).update(FEATURES, LABELS),
            ValueError,
            "expected [B, 5]",
        ),
        (
            lambda: CollapseState.empty(3).update(
                M.collapse_geometry(seen()), FEATURES, FEATURES, LABELS
            ),
            ValueError,
            "(6, 2)",
        ),
        (
            lambda: M.collapse_metrics(
                M.collapse_geometry(seen()), CollapseState.empty(3), HEAD.T
            ),
            ValueError,
            "expected (2, 3) [..., D, K]",
        ),
        (
            lambda: M.collapse_metrics(
                M.collapse_geometry(seen()), CollapseState.empty(3), HEAD
            ),
            ValueError,
            "no example of class 0",
        ),
        (lambda: M.minority_collapse(HEAD, [0, 1, 1]), ValueError, "few is int"),
        # The kernel the other way round, [K, D], with K = 3 and D = 2.
        (
            lambda: M.minority_collapse(HEAD.T, np.array([False, True, True])),
            ValueError,
            "one entry per column of weights (3, 2)",
        ),
        (lambda: M.class_cosines(np.ones(3)), ValueError, "expected [..., D, K]"),
        (lambda: M.equinorm_deviation(None), TypeError, "equinorm_deviation: vectors"),
    ],
)
def test_errors_name_what_came(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_angles_and_norms_of_one_class_are_refused():
    for measure in (M.equiangle_deviation, M.equinorm_deviation):
        with pytest.raises(ValueError, match="vectors have shape .*with K >= 2"):
            measure(HEAD[:, :1])


def test_a_geometry_of_one_class_is_refused_by_its_name():
    alone = np.zeros(len(FEATURES), int)
    geometry = M.collapse_geometry(ClassMeanState.empty(1, 2).update(FEATURES, alone))
    state = CollapseState.empty(1)
    with pytest.raises(ValueError, match="geometry is of 1 class"):
        M.collapse_metrics(geometry, state, HEAD[:, :1])
