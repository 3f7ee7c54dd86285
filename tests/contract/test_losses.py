"""Properties that every loss has, tested on every row of the table."""

import functools
import importlib.util
import inspect
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import ltjax.losses as losses


def _load(file):
    name = f"ltjax_{file}"
    path = pathlib.Path(__file__).with_name(f"{file}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


table = _load("losses_table")
feature_table = _load("features_table")
BATCH, LABELS, NUM_CLASSES = table.BATCH, table.LABELS, table.NUM_CLASSES
# One narrower and one wider than int32; the others run with the slow tests.
LABEL_DTYPES = ("int8", "uint64") + tuple(
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("int16", "int64", "uint8", "uint16", "uint32")
)


def rows(**flags):
    chosen = [
        r for r in table.ROWS if all(getattr(r, k) == v for k, v in flags.items())
    ]
    return pytest.mark.parametrize("row", chosen, ids=lambda r: r.name)


EVERY_ROW = np.ones(BATCH, bool)


@functools.cache
def value_and_grad(row):
    """[B] losses and the gradient of a sum with unequal weights, compiled once."""

    def total(predictions, labels, where):
        values = row(predictions, labels, where=where)
        weights = jnp.linspace(0.5, 1.5, values.shape[0])
        return jnp.sum(weights * values), values

    function = jax.jit(jax.value_and_grad(total, has_aux=True))

    def call(predictions, labels=LABELS, where=EVERY_ROW):
        (_, values), gradient = function(predictions, labels, where[: len(labels)])
        return values, gradient

    return call


# Losses of pairs, of lists, of several experts, or with a state, by the file that holds
# them to the same properties: the rows of the table are one value for one example.
ELSEWHERE = {
    "AveragePrecisionMeans": "test_moving_average.py",
    "DirMixELoss": "test_dirmixe.py",
    "MovingAverageLoss": "test_moving_average.py",
    "PESGState": "test_pesg.py",
    "SaddleDuals": "test_aucm.py",
    "SaddleLoss": "test_aucm.py",
    "SaddleVariables": "test_pesg.py",
    "SampledPriors": "test_dirmixe.py",
    "auc_exp": "test_pairwise.py",
    "auc_hinge": "test_pairwise.py",
    "auc_logistic": "test_pairwise.py",
    "auc_square": "test_pairwise.py",
    "aucm": "test_aucm.py",
    "autkc": "test_ranking.py",
    "best_saddle_duals": "test_aucm.py",
    "dirmixe": "test_dirmixe.py",
    "distillation": "test_distillation.py",
    "distribution_balanced": "test_ranking.py",
    "drauc_radii": "test_aucm.py",
    "expert_losses": "test_experts.py",
    "init_saddle_duals": "test_aucm.py",
    "ldam_margins": "test_margins.py",
    "partial_auc": "test_partial_auc.py",
    "partial_auc_cvar": "test_partial_auc.py",
    "partial_auc_kl": "test_partial_auc.py",
    "memory_consolidation": "test_reconboost.py",
    "pair_similarity": "test_selected_pairs.py",
    "pesg": "test_pesg.py",
    "pixel_auc": "test_segmentation.py",
    "projected_descent_ascent": "test_pesg.py",
    "reconboost": "test_reconboost.py",
    "reconboost_kl": "test_reconboost.py",
    "refresh_pesg": "test_pesg.py",
    "reversed_prior": "test_experts.py",
    "ride": "test_experts.py",
    "ride_diversity": "test_experts.py",
    "clean_estimate": "test_denoising.py",
    "ddim_step": "test_denoising.py",
    "noise_schedule": "test_denoising.py",
    "noised": "test_denoising.py",
    "ride_temperatures": "test_experts.py",
    "sade": "test_experts.py",
    "sample_priors": "test_dirmixe.py",
    "semi_variance": "test_dirmixe.py",
    "soap": "test_moving_average.py",
    "sogclr": "test_sogclr.py",
    "song": "test_moving_average.py",
    "sopa_s": "test_moving_average.py",
    "tkpr": "test_ranking.py",
    "update_cvar_thresholds": "test_partial_auc.py",
}


def test_every_public_loss_has_a_row():
    of_features = {row.name for row in feature_table.ROWS}
    held = {row.public for row in table.ROWS} | of_features
    assert held == set(losses.__all__) - set(ELSEWHERE)
    folder = pathlib.Path(__file__).parent.parent / "losses"
    assert all(name in losses.__all__ for name in ELSEWHERE)
    assert all((folder / file).exists() for file in ELSEWHERE.values())
    assert all(row.function is getattr(losses, row.public) for row in table.ROWS)


@rows()
def test_one_float32_per_example(row):
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        predictions = jnp.asarray(row.example(), dtype)
        values = jax.eval_shape(row, predictions, LABELS)
        assert (values.shape, values.dtype) == ((BATCH,), jnp.float32)


@rows()
def test_float64_stays_float64(row, x64):
    values = jax.eval_shape(row, jnp.asarray(row.example()), LABELS)
    assert (values.shape, values.dtype) == ((BATCH,), jnp.float64)


@rows()
def test_equals_the_definition(row, x64):
    predictions = row.example(seed=1)
    values = row(jnp.asarray(predictions), LABELS)
    expected = row.expected(predictions, LABELS)
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-14)
    assert np.all(np.asarray(values) >= 0)


@rows()
def test_eager_jit_and_vmap_agree(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    eager = row(predictions, LABELS)
    np.testing.assert_allclose(jax.jit(row)(predictions, LABELS), eager, rtol=1e-6)
    if not row.coupled:
        single = jax.jit(jax.vmap(row))(predictions[:, None], LABELS[:, None])
        np.testing.assert_allclose(single[:, 0], eager, rtol=1e-6)


@rows()
def test_any_number_of_leading_axes(row):
    if row.predictions == "features":
        with pytest.raises(ValueError, match="expected 2 axes"):
            row(jnp.ones((2, 4, table.DIM)), LABELS.reshape(2, 4))
        return
    predictions = jnp.asarray(row.example(), jnp.float32)
    expected = row(predictions, LABELS)
    jitted = jax.jit(row)
    dense = jitted(predictions.reshape(2, 4, -1), LABELS.reshape(2, 4))
    np.testing.assert_allclose(dense.reshape(-1), expected, rtol=1e-6)
    one = jitted(predictions[0], LABELS[0])
    np.testing.assert_allclose(one, expected[0], rtol=1e-6)


@rows()
def test_bfloat16_costs_only_its_rounding(row):
    predictions = row.example()
    half = jnp.asarray(predictions, jnp.bfloat16)
    values = row(half, LABELS)
    np.testing.assert_array_equal(values, row(half.astype(jnp.float32), LABELS))
    expected = row.expected(predictions, LABELS)
    # An error of 1e-2 per unit of the steepest slope in the predictions.
    slope = row.hyper.get("scale", 1.0) if row.name == "ldam" else 1.0
    np.testing.assert_allclose(values, expected, rtol=1e-2, atol=1e-2 * slope)


@rows(stopped=False)
def test_gradient_equals_differences_of_the_definition(row, x64):
    predictions, step = row.example(seed=2), 1e-5

    def mean(predictions):
        return jnp.mean(row(predictions, LABELS))

    gradient = jax.grad(mean)(jnp.asarray(predictions))
    for i, k in ((0, 0), (1, 4), (3, 0), (6, 2)):
        ends = []
        for sign in (1, -1):
            moved = predictions.copy()
            moved[i, k] += sign * step
            ends.append(np.mean(row.expected(moved, LABELS)))
        difference = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(gradient[i, k], difference, rtol=1e-6, atol=1e-9)


@rows()
def test_hessian_vector_product_equals_differences_of_the_gradient(row, x64):
    predictions = jnp.asarray(row.example(seed=3))
    direction = jnp.asarray(np.random.default_rng(4).normal(size=predictions.shape))
    gradient = jax.grad(lambda p: jnp.sum(row(p, LABELS)))

    @jax.jit
    def product_at(at):
        return jax.jvp(gradient, (at,), (direction,))

    step = 1e-6
    product = product_at(predictions)[1]
    ends = [product_at(predictions + sign * step * direction)[0] for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * step)
    if not row.stopped:  # a stopped length is constant in one and not in the other
        np.testing.assert_allclose(product, difference, rtol=1e-4, atol=1e-6)
    assert np.all(np.isfinite(product))


@rows()
def test_extreme_predictions_stay_finite(row):
    call = value_and_grad(row)
    size = row.example().shape[1]
    signs = np.where(np.arange(BATCH)[:, None] % size == np.arange(size), 1.0, -1.0)
    for predictions in (
        1e4 * signs,
        -1e4 * signs,
        0.0 * signs,
        np.full_like(signs, 1e4),
    ):
        values, gradient = call(jnp.asarray(predictions, jnp.float32))
        assert np.all(np.isfinite(values))
        assert np.all(np.isfinite(gradient))


@rows()
def test_small_batches(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    call = value_and_grad(row)
    for label in (0, NUM_CLASSES - 1):  # the last class has one training example
        for batch in (1, BATCH):
            labels = np.full(batch, label, np.int32)
            values, gradient = call(predictions[:batch], labels)
            expected = row.expected(np.asarray(predictions[:batch], np.float64), labels)
            np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)
            assert np.all(np.isfinite(gradient))
    assert row(predictions[:0], LABELS[:0]).shape == (0,)


@rows()
def test_where_equals_dropping_rows(row):
    keep = np.array([True, False, True, True, False, True, True, True])
    predictions = jnp.asarray(row.example(), jnp.float32)
    dirty = jnp.where(keep[:, None], predictions, jnp.nan).at[1, 0].set(jnp.inf)
    labels = np.where(keep, LABELS, [0, -1, 0, 0, 99, 0, 0, 0]).astype(np.int32)
    values, gradient = value_and_grad(row)(dirty, labels, keep)
    np.testing.assert_allclose(
        values[keep], row(predictions[keep], LABELS[keep]), rtol=1e-6
    )
    assert np.all(np.asarray(values)[~keep] == 0)
    assert np.all(np.asarray(gradient)[~keep] == 0)
    assert np.all(np.isfinite(gradient))
    assert np.any(np.asarray(gradient)[keep] != 0)


@rows()
def test_nothing_left_by_where_is_zero(row):
    predictions = jnp.full_like(jnp.asarray(row.example(), jnp.float32), jnp.nan)
    values, gradient = value_and_grad(row)(predictions, LABELS, np.zeros(BATCH, bool))
    assert not np.any(values) and not np.any(gradient)


@rows()
def test_order_of_examples_does_not_matter(row):
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    predictions = jnp.asarray(row.example(), jnp.float32)
    expected = row(predictions, LABELS)[order]
    values = row(predictions[order], LABELS[order])
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@rows()
def test_names_of_classes_do_not_matter(row):
    order = np.array([2, 4, 0, 3, 1])
    arrays = {
        name: table.permute_classes(name, array, order)
        for name, array in table.class_arrays().items()
    }
    predictions = jnp.asarray(row.example(), jnp.float32)
    moved = predictions if row.predictions == "features" else predictions[:, order]
    values = row(moved, np.argsort(order)[LABELS].astype(np.int32), arrays)
    np.testing.assert_allclose(values, row(predictions, LABELS), rtol=2e-5)


@rows()
def test_label_out_of_range_is_nan_in_value_and_gradient(row):
    labels = LABELS.copy()
    labels[[1, 4]] = [NUM_CLASSES, -1]
    values, gradient = value_and_grad(row)(
        jnp.asarray(row.example(), jnp.float32), labels
    )
    outside = (labels < 0) | (labels >= NUM_CLASSES)
    np.testing.assert_array_equal(np.isnan(values), outside)
    np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), outside)


@rows()
@pytest.mark.parametrize("dtype", LABEL_DTYPES)
def test_labels_of_every_integer_dtype(row, dtype):
    predictions = jnp.asarray(row.example(), jnp.float32)
    values = row(predictions, LABELS.astype(dtype))
    np.testing.assert_array_equal(values, row(predictions, LABELS))


@rows(predictions="logits", positional=())
@pytest.mark.parametrize(
    ("dtype", "classes"),
    [(np.uint8, 300), pytest.param(np.int8, 150, marks=pytest.mark.slow)],
)
def test_more_classes_than_the_label_dtype_counts(row, dtype, classes):
    # 256 is 0 in uint8, and 255 is the last class that such labels can name.
    labels = np.array([0, 44, 127], dtype)
    predictions = np.random.default_rng(0).normal(size=(3, classes))
    arrays = {
        name: np.resize(array, (classes,) * array.ndim)
        for name, array in table.class_arrays().items()
        if name != "frame"
    }
    logits = jnp.asarray(predictions, jnp.float32)
    values = jax.jit(lambda z: row(z, labels, arrays))(logits)
    expected = row.expected(predictions, labels.astype(np.int64), arrays)
    np.testing.assert_allclose(values, expected, rtol=2e-5)


@rows()
@pytest.mark.parametrize(
    "label",
    [
        np.array(2**32 + 1),
        pytest.param(np.array(2**32 - 1, np.uint32), marks=pytest.mark.slow),
        pytest.param(np.array(-1).astype(np.uint64), marks=pytest.mark.slow),
        pytest.param(np.array(-(2**40)), marks=pytest.mark.slow),
    ],
    ids=["2^32 + 1", "uint32 of -1", "uint64 of -1", "-2^40"],
)
def test_labels_do_not_wrap_to_32_bits(row, label):
    labels = LABELS.astype(label.dtype)
    labels[2] = label
    values = row(jnp.asarray(row.example(), jnp.float32), labels)
    np.testing.assert_array_equal(np.isnan(values), np.arange(BATCH) == 2)


@rows()
def test_nan_predictions_come_through(row):
    predictions = jnp.asarray(row.example(), jnp.float32).at[2, 3].set(jnp.nan)
    values = row(predictions, LABELS)
    np.testing.assert_array_equal(np.isnan(values), np.arange(BATCH) == 2)


@rows()
def test_new_values_do_not_retrace(row):
    chex.clear_trace_counter()  # it counts by the source line, over all rows

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(predictions, labels, arrays, hyper, where):
        return row(predictions, labels, arrays, hyper, where)

    used = {*row.positional, *row.keywords.values(), *row.context}
    for seed in (0, 1):
        arrays = {name: table.class_arrays()[name] for name in used}
        arrays = {
            name: jnp.asarray(array + seed, jnp.float32)
            for name, array in arrays.items()
        }
        hyper = {k: jnp.float32(v * (1 - 0.1 * seed)) for k, v in row.hyper.items()}
        predictions = row.example(seed=seed)
        labels = np.roll(LABELS, seed)
        where = np.arange(BATCH) != seed
        values = traced(jnp.float32(predictions), labels, arrays, hyper, where)
        exact = {
            name: np.asarray(a, np.int64 if name == "class_counts" else np.float64)
            for name, a in arrays.items()
        }
        if row.coupled:
            expected = np.zeros(BATCH)
            expected[where] = row.expected(predictions[where], labels[where], exact)
        else:
            expected = np.where(
                where,
                row.expected(
                    predictions, labels, exact, {k: float(v) for k, v in hyper.items()}
                ),
                0.0,
            )
        np.testing.assert_allclose(values, expected, rtol=5e-5, atol=1e-5)


@rows()
def test_traced_hyper_parameters_with_counts_on_the_host(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    hyper = {name: jnp.float32(value) for name, value in row.hyper.items()}
    values = jax.jit(lambda h: row(predictions, LABELS, None, h))(hyper)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, row(predictions, LABELS), rtol=1e-4, atol=1e-6)


@rows()
@pytest.mark.parametrize(
    "kind",
    [AxisType.Auto, pytest.param(AxisType.Explicit, marks=pytest.mark.slow)],
    ids=str,
)
def test_eight_devices_give_the_numbers_of_one(row, kind):
    predictions = jnp.asarray(row.example(), jnp.float32)
    where = np.arange(BATCH) != 2
    expected = value_and_grad(row)(predictions, LABELS, where)
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    with jax.set_mesh(mesh):
        batch = [
            jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
            for x in (predictions, LABELS, where)
        ]
        values = value_and_grad(row)(*batch)
    chex.assert_trees_all_close(
        jax.device_get(values), jax.device_get(expected), rtol=1e-6, atol=1e-7
    )


@rows(coupled=False)
def test_inside_shard_map(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    sharded = jax.shard_map(
        row, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
    )
    values = jax.jit(sharded)(predictions, LABELS)
    np.testing.assert_allclose(values, row(predictions, LABELS), rtol=1e-6)


@rows(shift_invariant=True)
def test_constant_added_to_all_logits_changes_nothing(row, x64):
    predictions = jnp.asarray(row.example())
    expected = row(predictions, LABELS)
    np.testing.assert_allclose(row(predictions + 3.7, LABELS), expected, rtol=1e-11)


@rows(shift_invariant=False, predictions="logits")
def test_constant_added_to_all_logits_changes_the_others(row, x64):
    predictions = jnp.asarray(row.example())
    change = row(predictions + 3.7, LABELS) - row(predictions, LABELS)
    assert np.all(np.abs(change) > 1e-3)


@rows(soft=True)
def test_distribution_costs_its_expectation(row, x64):
    predictions = jnp.asarray(row.example())
    hard = [
        np.asarray(row(predictions, np.full(BATCH, k, np.int32)))
        for k in range(NUM_CLASSES)
    ]
    one_hot = jax.nn.one_hot(LABELS, NUM_CLASSES, dtype=jnp.float64)
    np.testing.assert_allclose(
        row(predictions, one_hot), row(predictions, LABELS), rtol=1e-11
    )
    mixed = np.random.default_rng(5).dirichlet(np.ones(NUM_CLASSES), size=BATCH)
    expected = np.sum(mixed * np.stack(hard, axis=1), axis=1)
    np.testing.assert_allclose(row(predictions, mixed), expected, rtol=1e-11)


@rows(soft=False)
def test_distributions_are_refused_where_they_mean_nothing(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    with pytest.raises(TypeError, match=row.public):
        row(predictions, jnp.ones((BATCH, NUM_CLASSES)) / NUM_CLASSES)


@rows()
def test_limits(row):
    predictions = jnp.asarray(row.example(), jnp.float32)
    for hyper, changed, other in row.limits:
        arrays = {**table.class_arrays(), **changed}
        values = row(predictions, LABELS, arrays, hyper)
        expected = other(predictions, LABELS, arrays)
        np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-6)


@rows()
def test_hyper_parameters_are_keyword_only(row):
    parameters = inspect.signature(row.function).parameters.values()
    by_kind = {}
    for parameter in parameters:
        by_kind.setdefault(parameter.kind, []).append(parameter)
    assert set(by_kind) == {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    }
    positional = by_kind[inspect.Parameter.POSITIONAL_OR_KEYWORD]
    given = len(row.context) or 1  # labels, or what an example comes with instead
    assert len(positional) == 1 + given + len(row.positional) <= 4
    assert all(p.default is inspect.Parameter.empty for p in positional)
    keyword = {p.name: p for p in by_kind[inspect.Parameter.KEYWORD_ONLY]}
    assert keyword["where"].default is None
    assert {*row.hyper, *row.static, *row.keywords} <= set(keyword)
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)


@rows()
def test_docstring_has_every_section(row):
    doc = row.function.__doc__
    sections = ("Args:", "Returns:", "Raises:", "Example:", "Limits:", "References:")
    places = [doc.find(section) for section in (".. math::", *sections)]
    assert min(places) > 0
    assert places == sorted(places)
    assert "[B" in doc and "[K" in doc or "K]" in doc
    arguments = doc[doc.find("Args:") : doc.find("Returns:")]
    for name in inspect.signature(row.function).parameters:
        assert f"\n        {name}: " in arguments


@rows(predictions="logits")
def test_wrong_shapes_name_the_argument(row):
    name = row.public
    predictions = jnp.zeros((BATCH, NUM_CLASSES))
    given = row.context[0] if row.context else "labels"
    given = "weights" if given == "leverage" else given
    with pytest.raises(ValueError, match=rf"{name}: {given} ha(s|ve) shape \(3,"):
        row(predictions, LABELS[:3])
    with pytest.raises(ValueError, match=rf"{name}: where has shape \(3,\)"):
        row(predictions, LABELS, where=np.ones(3, bool))
    with pytest.raises(TypeError, match=rf"{name}: where has dtype int"):
        row(predictions, LABELS, where=np.ones(BATCH, np.int32))
    with pytest.raises(TypeError, match=rf"{name}: logits has dtype int"):
        row(predictions.astype(jnp.int32), LABELS)
    if not row.context:
        with pytest.raises(TypeError, match=rf"{name}: labels have dtype bool"):
            row(predictions, LABELS > 0)


@rows()
def test_what_is_no_array_of_numbers_is_named(row):
    named = rf"{row.public}: (logits|cosines|features|labels)"
    for wrong in (None, "logits", object(), [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match=named):
            row(wrong, LABELS)
    with pytest.raises(ValueError, match=named):
        row(jnp.float32(1.0), np.int32(0))
    if row.context:  # the row looks its arrays up by label; the loss takes no labels
        return
    predictions = jnp.asarray(row.example(), jnp.float32)
    for wrong in (None, LABELS.astype(str), LABELS.astype(object)):
        with pytest.raises(TypeError, match=rf"{row.public}: labels is"):
            row(predictions, wrong)
    listed = row(predictions.tolist(), LABELS.tolist())
    np.testing.assert_array_equal(listed, row(predictions, LABELS))


@rows(counted=True)
def test_wrong_length_of_counts_says_what_was_expected(row):
    arrays = {**table.class_arrays(), "class_counts": np.arange(1, 5)}
    with pytest.raises(
        ValueError,
        match=rf"{row.public}: class_counts has shape \(4,\), but .* 5 classes",
    ):
        row(jnp.asarray(row.example(), jnp.float32), LABELS, arrays)


@rows(counted=True)
@pytest.mark.parametrize("count", [np.inf, np.nan, -1.0])
def test_counts_are_finite(row, count):
    arrays = {**table.class_arrays(), "class_counts": np.array([9, 5, 4, count, 1])}
    with pytest.raises(ValueError, match=r"must be finite and >= 0, but class 3 has"):
        row(jnp.asarray(row.example(), jnp.float32), LABELS, arrays)


@rows(counted=True)
def test_empty_class_is_refused_unless_its_weight_is_zero(row):
    arrays = {**table.class_arrays(), "class_counts": np.array([9, 0, 4, 3, 1])}
    predictions = jnp.asarray(row.example(), jnp.float32)
    if row.function is losses.class_balanced:
        values = row(predictions, LABELS, arrays)
        assert np.all(np.asarray(values)[LABELS == 1] == 0)
        assert np.all(np.asarray(values)[LABELS != 1] > 0)
    else:
        with pytest.raises(ValueError, match=r"must be > 0, but class 1 has 0"):
            row(predictions, LABELS, arrays)
