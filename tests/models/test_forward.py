"""The forward contract: modes, state, masks, dtypes, replicas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import MLP, Classifier, LinearHead, build_model, from_linen

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def mlp():
    """A model with one batch-normalized layer: (model, params, state, inputs)."""
    model = build_model("mlp", num_classes=3, hidden=(5,), norm="batch")
    params, state = model.init(KEY, jnp.zeros((1, 4)))
    return model, params, state, jax.random.normal(jax.random.key(1), (8, 4))


def test_init_reads_only_shape_and_dtype():
    model = build_model("mlp", num_classes=3, hidden=(5,), norm="batch")
    from_array, _ = model.init(KEY, np.zeros((2, 4), np.float32))
    from_shape, _ = model.init(KEY, jax.ShapeDtypeStruct((7, 4), jnp.float32))
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), from_array, from_shape)
    )
    assert set(from_array) == {"backbone", "head"}


def test_train_mode_against_numpy(mlp):
    model, params, state, inputs = mlp
    outputs, new_state = model.forward(params, state, inputs, train=True)

    layer = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = np.asarray(inputs, np.float64) @ layer["backbone"]["dense1"]["kernel"]
    mean, var = x.mean(0), x.var(0)
    features = np.maximum((x - mean) / np.sqrt(var + 1e-5), 0)
    logits = features @ layer["head"]["kernel"] + layer["head"]["bias"]
    np.testing.assert_allclose(outputs["features"], features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-5)

    averages = new_state["batch_stats"]["backbone"]["norm1"]
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * var, rtol=1e-5)


def test_evaluation_uses_averages_and_keeps_state(mlp):
    model, params, state, inputs = mlp
    outputs, new_state = model.forward(params, state, inputs, train=False)
    assert new_state == state
    single, _ = model.forward(params, state, inputs[2:3], train=False)
    np.testing.assert_allclose(outputs["logits"][2:3], single["logits"], rtol=1e-5)


def test_mask_equals_dropping_rows_and_padding_may_be_nan():
    model = build_model("conv1d", num_classes=3, widths=(4,), strides=(2,))
    signals = jax.random.normal(KEY, (6, 10))
    real = jnp.array([True, False, True, True, False, True])
    padded = jnp.where(real[:, None], signals, jnp.nan)
    kept = np.flatnonzero(real)
    params, state = model.init(KEY, signals)

    @jax.jit
    def value_and_grad(inputs, mask):
        def loss(params):
            outputs, new = model.forward(params, state, inputs, train=True, mask=mask)
            per_row = jnp.sum(jnp.square(outputs["logits"]), axis=1)
            weight = 1.0 if mask is None else mask
            return jnp.sum(jnp.where(weight, per_row, 0.0)), (outputs, new)

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, (outputs, new)), grad = value_and_grad(padded, real)
    (value_kept, (outputs_kept, new_kept)), grad_kept = value_and_grad(
        signals[kept], None
    )
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    near(value, value_kept)
    near(outputs["features"][kept], outputs_kept["features"])
    jax.tree.map(near, (grad, new), (grad_kept, new_kept))


def test_batch_without_a_real_row_keeps_state_finite(mlp):
    model, params, state, inputs = mlp
    _, new_state = model.forward(
        params, state, inputs, train=True, mask=np.zeros(8, bool)
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(new_state))


def test_bfloat16_computes_low_and_returns_float32():
    signals = jax.random.normal(KEY, (8, 10))
    options = dict(num_classes=3, widths=(4,), strides=(2,))

    def run(dtype):
        model = build_model("conv1d", dtype=dtype, **options)
        params, state = model.init(KEY, signals)

        def loss(params):
            outputs, new = model.forward(params, state, signals, train=True)
            return jnp.sum(jnp.square(outputs["logits"])), (outputs, new)

        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        program = str(jax.make_jaxpr(value_and_grad)(params))
        return program, (params, state, jax.jit(value_and_grad)(params))

    low_program, low = run("bfloat16")
    program, exact = run("float32")
    assert "bf16" in low_program and "bf16" not in program
    assert {x.dtype for x in jax.tree.leaves(low)} == {jnp.dtype("float32")}
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=0.1)
    jax.tree.map(near, low, exact)


def test_dropout_follows_its_key():
    model = build_model("mlp", num_classes=3, hidden=(64,), dropout=0.5)
    params, state = model.init(KEY, jnp.zeros((1, 4)))
    inputs = jnp.ones((2, 4))

    def features(key):
        outputs, _ = model.forward(
            params, state, inputs, train=True, rngs={"dropout": jax.random.key(key)}
        )
        return np.asarray(outputs["features"])

    np.testing.assert_array_equal(features(3), features(3))
    assert (features(3) != features(4)).any()
    kept, _ = model.forward(params, state, inputs, train=False)
    kept = np.asarray(kept["features"])
    noisy = features(3)
    np.testing.assert_allclose(noisy[noisy != 0], 2 * kept[noisy != 0], rtol=1e-6)


def test_replicas_equal_separate_runs(mlp):
    model, _, _, inputs = mlp
    keys = jax.random.split(KEY, 3)

    def run(key):
        params, state = model.init(key, inputs)
        return model.forward(params, state, inputs, train=True)

    stacked = jax.jit(jax.vmap(run))(keys)
    for r, key in enumerate(keys):
        jax.tree.map(
            lambda a, b, r=r: np.testing.assert_allclose(a[r], b, rtol=1e-4, atol=1e-5),
            stacked,
            run(key),
        )


def test_state_keeps_structure_so_that_a_step_is_traced_once(mlp):
    model, params, state, inputs = mlp
    traces = []

    @jax.jit
    def step(state):
        traces.append(None)
        return model.forward(params, state, inputs, train=True)[1]

    step(step(step(state)))
    assert len(traces) == 1


def test_wrong_masks_and_modules_are_refused(mlp):
    model, params, state, inputs = mlp
    with pytest.raises(ValueError, match=r"where has shape \(7,\), expected \(8,\)"):
        model.forward(params, state, inputs, train=True, mask=jnp.ones(7, bool))
    with pytest.raises(TypeError, match="expected bool"):
        model.forward(params, state, inputs, train=True, mask=jnp.ones(8))

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, train, mask=None):
            return nn.Dense(2)(inputs)

    with pytest.raises(TypeError, match="rows_independent="):
        from_linen(Plain())
    plain = from_linen(Plain(), rows_independent=True, num_features=2)
    params, state = plain.init(KEY, inputs)
    with pytest.raises(TypeError, match="dict of arrays such as 'logits'"):
        plain.forward(params, state, inputs, train=False)


def test_classifier_declares_what_its_parts_declare():
    coupled = from_linen(Classifier(MLP(hidden=(4,), norm="batch"), LinearHead(3)))
    free = from_linen(Classifier(MLP(hidden=(4, 6), norm="layer"), LinearHead(3)))
    assert (coupled.rows_independent, coupled.num_features) == (False, 4)
    assert (free.rows_independent, free.num_features) == (True, 6)


def test_a_tap_replaces_what_normalization_layers_give(mlp):
    model, params, state, inputs = mlp
    seen = {}

    def double(name, output):
        seen[name] = output.shape
        return 2 * output

    plain, averages = model.forward(params, state, inputs, train=True)
    outputs, tapped = model.forward(params, state, inputs, train=True, tap=double)
    assert seen == {"backbone/norm1": (8, 5)}
    np.testing.assert_array_equal(outputs["features"], 2 * plain["features"])
    jax.tree.map(np.testing.assert_array_equal, tapped, averages)  # as without
