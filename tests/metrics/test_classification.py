import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score, specificity_score
from sklearn import metrics as sk

from ltjax import metrics as M
from ltjax.metrics import ClassificationState

# Recalls 0.8, 2/3, 0.4 and 0.9, 0.6, 0.3.
CLASSIC = np.array([[80, 15, 5], [10, 20, 0], [3, 3, 4]])
HARD = np.array([[9, 1, 0], [3, 6, 1], [4, 3, 3]])


def labels_of(confusion):
    true, predicted = np.nonzero(confusion)
    times = confusion[true, predicted]
    return np.repeat(true, times), np.repeat(predicted, times)


def random_batch(seed, rows, num_classes, dtype=np.float32):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, num_classes))
    labels = rng.integers(num_classes, size=rows).astype(np.int32)
    return logits.astype(dtype), labels


def reference(logits, labels, mask, bins):
    """The definitions in float64, one row at a time."""
    num_classes = logits.shape[1]
    confusion = np.zeros((num_classes, num_classes), np.int64)
    sums = {
        name: np.zeros((num_classes, bins))
        for name in ("bin_count", "bin_confidence", "bin_correct")
    }
    for z, y, m in zip(logits.astype(np.float64), labels, mask, strict=True):
        if not m:
            continue
        p = np.exp(z - z.max())
        p = p / p.sum()
        guess = int(np.argmax(z))
        confusion[y, guess] += 1
        b = next(j for j in range(bins) if p.max() <= (j + 1) / bins)
        sums["bin_count"][y, b] += 1
        sums["bin_confidence"][y, b] += p.max()
        sums["bin_correct"][y, b] += guess == y
    return confusion, sums


# Host metrics -------------------------------------------------------------------------


def test_known_numbers():
    np.testing.assert_allclose(M.per_class_recall(CLASSIC), [0.8, 2 / 3, 0.4])
    assert M.balanced_accuracy(CLASSIC) == pytest.approx(0.62222222, abs=1e-8)
    assert M.balanced_error_rate(CLASSIC) == pytest.approx(0.37777778, abs=1e-8)
    assert M.adjusted_balanced_accuracy(CLASSIC) == pytest.approx(0.43333333, abs=1e-8)
    assert M.g_mean(CLASSIC) == pytest.approx(0.59752063, abs=1e-8)
    assert M.accuracy(CLASSIC) == pytest.approx(0.74285714, abs=1e-8)
    assert M.balanced_accuracy(HARD) == pytest.approx(0.6, abs=1e-15)
    assert M.g_mean(HARD) == pytest.approx(0.545136177850, abs=1e-12)
    assert M.harmonic_mean(HARD) == pytest.approx(0.490909090909, abs=1e-12)
    np.testing.assert_allclose(M.per_class_precision(HARD), [0.5625, 0.6, 0.75])
    f1 = M.per_class_f1(HARD)
    np.testing.assert_allclose(f1, [0.692307692, 0.6, 0.428571429], atol=5e-10)
    assert M.macro_f1(HARD) == pytest.approx(0.573626373626, abs=1e-12)
    assert M.accuracy(HARD) == pytest.approx(0.6, abs=1e-15)
    assert M.worst_class(HARD) == 0.3


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn_and_imbalanced_learn(seed):
    rng = np.random.default_rng(seed)
    num_classes = 5
    y = rng.choice(num_classes, p=[0.6, 0.2, 0.1, 0.07, 0.03], size=400)
    y[:num_classes] = np.arange(num_classes)
    guess = np.where(rng.random(400) < 0.6, y, rng.integers(num_classes, size=400))
    guess[:num_classes] = np.arange(num_classes)
    M_ = sk.confusion_matrix(y, guess, labels=range(num_classes))
    options = dict(labels=range(num_classes), average="macro", zero_division=0)
    pairs = [
        (M.per_class_recall(M_), sk.recall_score(y, guess, average=None)),
        (M.specificity(M_), specificity_score(y, guess, average=None)),
        (M.macro_specificity(M_), specificity_score(y, guess, average="macro")),
        (M.accuracy(M_), sk.accuracy_score(y, guess)),
        (M.balanced_accuracy(M_), sk.balanced_accuracy_score(y, guess)),
        (
            M.adjusted_balanced_accuracy(M_),
            sk.balanced_accuracy_score(y, guess, adjusted=True),
        ),
        (M.macro_f1(M_), sk.f1_score(y, guess, **options)),
        (M.macro_precision(M_), sk.precision_score(y, guess, **options)),
        (M.macro_recall(M_), sk.recall_score(y, guess, **options)),
        (M.g_mean(M_), geometric_mean_score(y, guess)),
        *(
            (M.g_mean(M_, average=a), geometric_mean_score(y, guess, average=a))
            for a in ("macro", "weighted")
        ),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_absent_class_against_scikit_learn():
    # Class 3 has no example and is predicted once.
    y, guess = np.array([0, 0, 1, 1, 2]), np.array([0, 3, 1, 1, 0])
    M_ = sk.confusion_matrix(y, guess, labels=range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skipped = sk.balanced_accuracy_score(y, guess)
        adjusted = sk.balanced_accuracy_score(y, guess, adjusted=True)
    assert M.balanced_accuracy(M_) == pytest.approx(skipped)
    assert M.adjusted_balanced_accuracy(M_) == pytest.approx(adjusted)
    options = dict(labels=range(4), average="macro", zero_division=0)
    assert M.macro_f1(M_) == pytest.approx(sk.f1_score(y, guess, **options))
    assert M.macro_recall(M_) == pytest.approx(sk.recall_score(y, guess, **options))


@pytest.mark.parametrize(
    "absent, mean, adjusted, geometric, harmonic, worst",
    [
        ("skip", 0.625, 0.25, 0.5**0.5 * 0.75**0.5, 0.6, 0.5),
        ("zero", 1.25 / 3, 0.125, 0.0, 0.0, 0.0),
        ("nan", *[np.nan] * 5),
    ],
)
def test_rules_for_absent_classes(absent, mean, adjusted, geometric, harmonic, worst):
    counts = np.array([[2, 0, 2], [0, 0, 0], [1, 0, 3]])  # recalls 1/2, none, 3/4
    found = [
        f(counts, absent=absent)
        for f in (
            M.balanced_accuracy,
            M.adjusted_balanced_accuracy,
            M.g_mean,
            M.harmonic_mean,
            M.worst_class,
        )
    ]
    expected = [mean, adjusted, geometric, harmonic, worst]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    error = M.balanced_error_rate(counts, absent=absent)
    np.testing.assert_allclose(error, 1 - mean, rtol=1e-14)


def test_nan_rule_wins_over_a_zero_recall():
    counts = [[0, 3], [0, 0]]
    assert np.isnan(M.g_mean(counts, absent="nan"))
    assert np.isnan(M.harmonic_mean(counts, absent="nan"))


def test_no_class_present_is_nan():
    counts = np.zeros((2, 3, 3))
    for f in (M.balanced_accuracy, M.g_mean, M.harmonic_mean, M.worst_class):
        assert np.isnan(f(counts)).all() and f(counts).shape == (2,)
    assert np.isnan(M.accuracy(np.zeros((3, 3))))


def test_balanced_accuracy_is_weighted_accuracy_and_ignores_duplication():
    y, guess = labels_of(CLASSIC)
    counts = np.bincount(y)
    weights = len(y) / (3 * counts[y])
    weighted = np.sum(weights * (y == guess)) / len(y)
    assert M.balanced_accuracy(CLASSIC) == pytest.approx(weighted)
    tripled = CLASSIC * np.array([[1], [1], [3]])
    again = M.balanced_accuracy(tripled)
    assert again == pytest.approx(weighted)
    assert M.accuracy(tripled) != pytest.approx(float(M.accuracy(CLASSIC)), abs=1e-3)


def test_constant_predictor_and_the_inequality_of_means():
    constant = np.array([[7, 0, 0, 0], [5, 0, 0, 0], [3, 0, 0, 0], [1, 0, 0, 0]])
    assert M.balanced_accuracy(constant) == 0.25
    assert M.adjusted_balanced_accuracy(constant) == 0.0
    assert M.g_mean(constant) == 0.0 and M.harmonic_mean(constant) == 0.0
    random = np.random.default_rng(0).uniform(0.05, 1, size=(50, 6))
    random = M.ClassTotals(random, np.ones((50, 6)), np.ones((50, 6)))
    harmonic, geometric = M.harmonic_mean(random), M.g_mean(random)
    assert np.all(harmonic < geometric)
    assert np.all(geometric < M.balanced_accuracy(random))
    equal = M.ClassTotals(np.full(6, 37), np.full(6, 100), np.full(6, 100))
    assert M.g_mean(equal) == pytest.approx(0.37)
    assert M.harmonic_mean(equal) == pytest.approx(0.37)


def test_groups_skip_absent_classes_and_empty_groups_are_nan():
    right = np.array([[9, 6, 0, 3], [8, 4, 0, 1]])
    support = np.array([10, 10, 0, 10])
    totals = M.ClassTotals(right, np.tile(support, (2, 1)), right)
    groups = {
        "head": np.array([True, True, False, False]),
        "tail": np.array([False, False, True, True]),
        "none": np.zeros(4, bool),
    }
    result = M.group_accuracy(totals, groups)
    np.testing.assert_allclose(result["head"].accuracy, [0.75, 0.6])
    np.testing.assert_allclose(result["tail"].accuracy, [0.3, 0.1])
    assert np.isnan(result["none"].accuracy).all()
    sizes = {name: group.size.tolist() for name, group in result.items()}
    assert sizes == {"head": [2, 2], "tail": [1, 1], "none": [0, 0]}


def test_summary_of_replicas_and_its_groups():
    arrays = {"confusion": np.stack([HARD, CLASSIC])}
    out = M.summarize(arrays, [101, 100, 19])
    np.testing.assert_allclose(out["many"], [0.9, 0.8])
    np.testing.assert_allclose(out["medium"], [0.6, 2 / 3])
    np.testing.assert_allclose(out["few"], [0.3, 0.4])
    np.testing.assert_allclose(out["worst"], [0.3, 0.4])
    assert "ece" not in out
    one = M.summarize({"confusion": HARD}, [101, 100, 19])
    assert type(one["accuracy"]) is float and one["macro_f1"] == out["macro_f1"][0]
    fixed = {"head": np.array([1, 1, 0], bool), "tail": np.array([0, 0, 1], bool)}
    named = M.summarize(arrays, [101, 100, 19], groups=fixed)
    np.testing.assert_allclose(named["head"], [0.75, (0.8 + 2 / 3) / 2])
    assert "many" not in named


def test_summary_is_nan_for_a_replica_with_invalid_rows():
    arrays = {"confusion": np.stack([HARD, HARD]), "invalid": np.array([0, 3])}
    out = M.summarize(arrays, [101, 100, 19])
    assert out["accuracy"][0] == pytest.approx(0.6)
    assert all(np.isnan(value[1]) for value in out.values())


def test_the_three_forms_of_counts_agree():
    totals = M.class_totals(CLASSIC)
    form = {name: getattr(totals, name) for name in totals._fields}
    for counts in (CLASSIC, {"confusion": CLASSIC}, form, totals):
        assert M.macro_f1(counts) == M.macro_f1(CLASSIC)
        assert M.accuracy(counts) == M.accuracy(CLASSIC)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: M.accuracy(np.ones((2, 3))), ValueError, "(2, 3)"),
        (lambda: M.class_totals({"bins": 1}), ValueError, "neither 'confusion'"),
        (lambda: M.balanced_accuracy(HARD, absent="drop"), ValueError, "'drop'"),
        (
            lambda: M.g_mean(0.5),
            ValueError,
            "g_mean: the confusion matrix has shape ()",
        ),
        # Recalls are not a confusion matrix, whose rows would be taken for replicas.
        (lambda: M.balanced_accuracy([0.5, 0.75]), ValueError, "recalls alone"),
        (
            lambda: M.worst_class(None),
            TypeError,
            "worst_class: the confusion matrix is",
        ),
        (lambda: M.accuracy([[1, -1], [0, 1]]), ValueError, "entries from -1.0 to 1.0"),
        (lambda: M.accuracy([[1, np.nan], [0, 1]]), ValueError, "accuracy: the confu"),
        (lambda: M.g_mean(HARD, average="micro"), ValueError, "average is 'micro'"),
        (lambda: M.g_mean(HARD, correction=1.0), ValueError, "correction is 1.0"),
        (
            lambda: M.g_mean(HARD, average="macro", correction=0.1),
            ValueError,
            "goes with average='multiclass'",
        ),
        (
            lambda: M.group_accuracy([[1, 0], [1, 1]], {"few": [0, 1]}),
            ValueError,
            "'few' is int",
        ),
        (
            lambda: M.summarize({"confusion": HARD}, [1, 2]),
            ValueError,
            "class_counts",
        ),
    ],
)
def test_errors_name_what_came(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


# Streaming ----------------------------------------------------------------------------

ROWS, CLASSES, BINS = 64, 7, 15


@jax.jit
def update(state, logits, labels, mask):
    return state.update(logits, labels, mask)


def batches(seed=0, number=5):
    for i in range(number):
        logits, labels = random_batch([seed, i], ROWS, CLASSES)
        mask = np.random.default_rng([seed, i, 1]).random(ROWS) < 0.8
        yield logits, labels, mask


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype == jnp.int32
        np.testing.assert_array_equal(x, y)


def test_stream_equals_the_definition():
    state = ClassificationState.empty(CLASSES, bins=BINS)
    for batch in batches():
        state = update(state, *batch)
    logits, labels, mask = (np.concatenate(x) for x in zip(*batches(), strict=True))
    confusion, sums = reference(logits, labels, mask, BINS)
    arrays = state.arrays()
    np.testing.assert_array_equal(arrays["confusion"], confusion)
    np.testing.assert_array_equal(
        confusion, sk.confusion_matrix(labels[mask], logits[mask].argmax(-1))
    )
    np.testing.assert_array_equal(arrays["bin_count"], sums["bin_count"])
    np.testing.assert_array_equal(arrays["bin_correct"], sums["bin_correct"])
    np.testing.assert_allclose(
        arrays["bin_confidence"], sums["bin_confidence"], atol=2e-6
    )
    assert arrays["invalid"] == 0
    assert update._cache_size() == 1


def test_merge_of_parts_is_the_whole_bit_for_bit():
    whole = ClassificationState.empty(CLASSES)
    left, right = whole, whole
    for i, batch in enumerate(batches()):
        whole = update(whole, *batch)
        if i < 2:
            left = update(left, *batch)
        else:
            right = update(right, *batch)
    assert_same(right.merge(left), whole)


def test_padding_counts_nowhere_even_if_it_holds_nan():
    logits, labels, mask = next(batches())
    empty = ClassificationState.empty(CLASSES)
    kept = empty.update(logits[mask], labels[mask])
    bad = np.where(mask[:, None], logits, np.nan)
    padded = update(empty, bad, np.where(mask, labels, -1).astype(np.int32), mask)
    assert_same(padded, kept)


def test_invalid_rows_are_counted_and_make_the_summary_nan():
    logits, labels, _ = next(batches())
    labels[:3] = [-1, CLASSES, 10**6]
    logits[3, 2], logits[4, 1] = np.nan, np.inf
    logits[5, (labels[5] + 1) % CLASSES] = -np.inf  # a switched-off class is legal
    state = update(
        ClassificationState.empty(CLASSES), logits, labels, np.ones(64, bool)
    )
    arrays = state.arrays()
    assert arrays["invalid"] == 5
    assert arrays["confusion"].sum() == arrays["bin_count"].sum() == ROWS - 5
    assert np.isnan(M.summarize(arrays, np.full(CLASSES, 50))["balanced_accuracy"])


def test_replicas_under_vmap_equal_separate_runs():
    a, b = batches(1, 1), batches(2, 1)
    stacked = [np.stack(x) for x in zip(next(a), next(b), strict=True)]
    empty = ClassificationState.empty(CLASSES)
    start = jax.tree.map(lambda x: jnp.stack([x, x]), empty)
    both = jax.jit(jax.vmap(ClassificationState.update))(start, *stacked)
    for r in range(2):
        alone = update(empty, *(x[r] for x in stacked))
        assert_same(jax.tree.map(lambda x, r=r: x[r], both), alone)
    assert both.arrays()["confusion"].shape == (2, CLASSES, CLASSES)


def test_sharded_batch_equals_one_device_bit_for_bit():
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    everywhere = jax.NamedSharding(mesh, jax.P())
    sharded = jax.jit(
        ClassificationState.update,
        in_shardings=(everywhere, rows, rows, rows),
        out_shardings=everywhere,
        donate_argnums=0,
    )
    empty = ClassificationState.empty(CLASSES)
    batch = next(batches())
    start = jax.device_put(ClassificationState.empty(CLASSES), everywhere)
    assert_same(sharded(start, *batch), update(empty, *batch))


def test_vectors_replace_the_matrix_beyond_a_thousand_classes():
    logits, labels = random_batch(3, 200, 1001)
    labels[:100] = logits[:100].argmax(-1)
    labels[0] = 1001  # invalid
    mask = np.arange(200) % 4 != 1
    state = ClassificationState.empty(1001).update({"logits": logits}, labels, mask)
    arrays = state.arrays()
    assert state.confusion is None and "confusion" not in arrays
    keep = mask & (labels < 1001)
    y, guess = labels[keep], logits[keep].argmax(-1)
    one = M.class_totals(sk.confusion_matrix(y, guess, labels=range(1001)))
    for name in one._fields:
        np.testing.assert_array_equal(arrays[name], getattr(one, name))
    arrays["invalid"] = 0
    out = M.summarize(arrays, np.full(1001, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.balanced_accuracy_score(y, guess)
    assert out["balanced_accuracy"] == pytest.approx(expected)


def test_a_million_confidences_add_up():
    # Every row has the same float32 confidence, so the exact sum is known.
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (60_000, 1))
    labels = np.zeros(60_000, np.int32)
    step = jax.jit(ClassificationState.update)
    state = ClassificationState.empty(2)
    for _ in range(20):
        state = step(state, logits, labels)
    one = float(M.top_confidence(logits[0]))
    total = state.arrays()["bin_confidence"].sum()
    assert total == 1_200_000 * (round(one * 2**24) / 2**24)
    assert total / 1.2e6 == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-7)


def test_carries_at_the_largest_sums():
    # Confidence 1 (the largest fixed-point number) and fractions just below one.
    state = ClassificationState.empty(1)
    state = state.update(np.zeros((300, 1), np.float32), np.zeros(300, np.int32))
    assert state.arrays()["bin_confidence"][0, -1] == 300
    logits = np.log(np.array([[1 - 2.0**-20, 2.0**-20]]))
    logits = np.tile(logits, (70_000, 1)).astype(np.float32)
    one = round(float(M.top_confidence(logits[0])) * 2**24)
    state = ClassificationState.empty(2).update(logits, np.zeros(70_000, np.int32))
    state = state.merge(state)
    assert state.arrays()["bin_confidence"][0, -1] == 140_000 * one / 2**24


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_half_precision_logits(dtype):
    logits, labels = random_batch(0, ROWS, CLASSES)
    half = jnp.asarray(logits, dtype)
    empty = ClassificationState.empty(CLASSES)
    upcast = empty.update(half.astype(jnp.float32), labels)
    assert_same(empty.update(half, labels), upcast)


def test_float64_logits_and_ties(x64):
    state = ClassificationState.empty(3)
    state = state.update(jnp.zeros((2, 3), jnp.float64), jnp.array([0, 2]))
    assert_same(state, state)  # all int32 although x64 is on
    np.testing.assert_array_equal(state.confusion, [[1, 0, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda s: s.update(np.zeros((4, 3)), np.zeros(4, int)), ValueError, "[B, 7]"),
        (lambda s: s.update(np.zeros((4, 7)), np.zeros(3, int)), ValueError, "(3,)"),
        (
            lambda s: s.update(np.zeros((4, 7)), np.zeros(4)),
            TypeError,
            "have dtype float",
        ),
        (lambda s: s.update(np.zeros((4, 7), int), np.zeros(4, int)), TypeError, "int"),
        (
            lambda s: s.update(np.zeros((4, 7)), np.zeros(4, int), np.ones(4)),
            TypeError,
            "expected bool",
        ),
        (lambda s: s.merge(ClassificationState.empty(3)), ValueError, "differ"),
        (lambda s: ClassificationState.empty(0), ValueError, "at least 1"),
        (
            lambda s: jax.eval_shape(
                s.update,
                jax.ShapeDtypeStruct((2**22 + 1, 7), jnp.float32),
                jax.ShapeDtypeStruct((2**22 + 1,), jnp.int32),
            ),
            ValueError,
            "4194305 rows",
        ),
    ],
)
def test_streaming_errors(call, error, words):
    with pytest.raises(error) as caught:
        call(ClassificationState.empty(CLASSES))
    assert words in str(caught.value)
