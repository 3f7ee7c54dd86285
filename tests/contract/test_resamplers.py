"""One row per resampler, one test per property that every resampler must have.

A row maps (key, features, labels) to rows of the data, or to new points and their plan.
"""

import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import classifiers, resampling

COUNTS = np.array([40, 14, 9])
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(3), COUNTS))
FEATURES = (RNG.standard_normal((63, 3)) + 0.5 * LABELS[:, None]).astype(np.float32)
CODES = RNG.integers(0, 4, (63, 2))
KEY = jax.random.key(0)

RESAMPLERS = {
    "smote": resampling.smote,
    "smote_uniform": lambda *a: resampling.smote(*a, bases="uniform"),
    "smote_per_feature": lambda *a: resampling.smote(*a, per_feature=True),
    "borderline_smote": resampling.borderline_smote,
    "borderline_smote_2": lambda *a: resampling.borderline_smote(
        *a, kind="borderline-2"
    ),
    "adasyn": resampling.adasyn,
    "smoothed_bootstrap": resampling.smoothed_bootstrap,
    "smote_nc": lambda key, x, y: resampling.smote_nc(key, x, CODES[: len(x)], y),
    "smote_n": lambda key, x, y: resampling.smote_n(key, CODES[: len(x)], y),
    "random_oversample": lambda key, x, y: resampling.random_oversample(key, y),
    "random_undersample": lambda key, x, y: resampling.random_undersample(key, y),
}
SYNTHETIC = [name for name in RESAMPLERS if not name.startswith("random")]

MODULES = ["cog", "kmeans", "neighbors", "random_resampling", "smote"]
MODULES += ["smote_nominal", "smote_variants"]


def leaves(result):
    return [np.asarray(x) for x in jax.tree.leaves(result)]


def equal(a, b):
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


every = pytest.mark.parametrize("name", RESAMPLERS)
synthetic = pytest.mark.parametrize("name", SYNTHETIC)


@every
def test_pure_function_of_the_key(name):
    before = FEATURES.copy(), LABELS.copy()
    first = RESAMPLERS[name](KEY, FEATURES, LABELS)
    assert equal(first, RESAMPLERS[name](KEY, FEATURES, LABELS))
    assert not equal(first, RESAMPLERS[name](jax.random.key(1), FEATURES, LABELS))
    assert np.array_equal(before[0], FEATURES) and np.array_equal(before[1], LABELS)


@every
def test_jax_arrays_and_numpy_arrays_give_the_same(name):
    host = RESAMPLERS[name](KEY, FEATURES, LABELS)
    device = RESAMPLERS[name](KEY, jnp.asarray(FEATURES), jnp.asarray(LABELS))
    assert equal(host, device)


@every
def test_no_global_random_state_is_read_or_written(name):
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = RESAMPLERS[name](KEY, FEATURES, LABELS)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert equal(first, RESAMPLERS[name](KEY, FEATURES, LABELS))


@synthetic
def test_new_points_balance_the_classes_in_label_order(name):
    new = RESAMPLERS[name](KEY, FEATURES, LABELS)
    counts = COUNTS + np.bincount(new.labels, minlength=3)
    # ADASYN rounds the share of every point, so its totals are near, not equal.
    assert np.all(np.abs(counts - 40) <= (8 if name == "adasyn" else 0))
    assert np.all(np.diff(new.labels) >= 0)
    assert (
        new.labels.dtype == new.plan.base.dtype == new.plan.neighbor.dtype == np.int32
    )


@synthetic
def test_the_plan_names_rows_of_the_class(name):
    plan = RESAMPLERS[name](KEY, FEATURES, LABELS).plan
    assert np.array_equal(LABELS[plan.base], plan.labels)
    if name != "borderline_smote_2":
        assert np.array_equal(LABELS[plan.neighbor], plan.labels)
    assert np.all((plan.step >= 0) & (plan.step < 1))


@synthetic
def test_nothing_to_do_for_balanced_classes(name):
    new = RESAMPLERS[name](KEY, FEATURES[:6], np.array([0, 1, 2, 0, 1, 2]))
    assert len(new.labels) == len(new.plan.base) == 0


@every
def test_tracing_is_refused_with_a_message(name):
    def traced(labels):
        return RESAMPLERS[name](KEY, FEATURES, labels)

    with pytest.raises(TypeError, match="labels are traced"):
        jax.jit(traced)(LABELS)


@every
def test_a_seed_is_a_key(name):
    expected = RESAMPLERS[name](jax.random.key(5), FEATURES, LABELS)
    for key in (5, jax.random.PRNGKey(5)):
        found = RESAMPLERS[name](key, FEATURES, LABELS)
        for ours, theirs in zip(
            jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@every
def test_a_wrong_key_is_refused_with_a_message(name):
    with pytest.raises(TypeError, match=r"expected one jax.random.key\(seed\)"):
        RESAMPLERS[name](jax.random.split(KEY), FEATURES, LABELS)


def public_functions():
    for package, modules in (
        (resampling, MODULES),
        (classifiers, ["plug_in", "threshold"]),
    ):
        for module in modules:
            found = importlib.import_module(f"{package.__name__}.{module}")
            for name, function in inspect.getmembers(found, inspect.isfunction):
                if function.__module__ == found.__name__ and not name.startswith("_"):
                    yield pytest.param(function, id=f"{module}.{name}")


@pytest.mark.parametrize("function", list(public_functions()))
def test_docstrings_are_complete(function):
    doc = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert re.search(rf"^{section}$", doc, re.MULTILINE), section
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^    {name}: ", doc, re.MULTILINE), name


@pytest.mark.parametrize("function", list(public_functions()))
def test_hyper_parameters_are_keyword_only(function):
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4
    assert all(p.default is p.empty for p in positional)
