"""Properties that every loss of features has, tested on every row of its table."""

import importlib.util
import inspect
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax._numerics import double_precision


def _load_table():
    name = "ltjax_features_table"
    path = pathlib.Path(__file__).with_name("features_table.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


table = _load_table()
BATCH = table.BATCH
KEEP = np.array([True, False, True, True, False, True, True, True])
rows = pytest.mark.parametrize("row", table.ROWS, ids=lambda r: r.name)


def value_and_grad(row, **options):
    """[B] losses and the gradient of an unevenly weighted sum in "a", one program."""

    def total(a, given, hyper, where):
        values = row({**given, "a": a}, hyper, where, **options)
        weights = jnp.linspace(0.5, 1.5, values.shape[0])
        return jnp.sum(weights * values), values

    function = jax.jit(jax.value_and_grad(total, has_aux=True))

    def call(given, where, hyper=None):
        hyper = row.hyper if hyper is None else hyper
        hyper = {name: jnp.float32(value) for name, value in hyper.items()}
        (_, values), gradient = function(given["a"], given, hyper, where)
        return jax.device_get((values, gradient))

    call.function = function
    return call


def given(row, select=slice(None), dtype=np.float32):
    found = {name: table.arrays()[name] for name in row.names}
    return {
        name: (x if x.dtype.kind in "ib" else x.astype(dtype))[
            select if name in table.BATCHED else slice(None)
        ]
        for name, x in found.items()
    }


def spoiled(name, x):
    """`x` with NaN, or a label that no other has, in the rows that are masked."""
    if name not in table.BATCHED:
        return x
    bad = np.full_like(x, 99 if x.dtype == np.int32 else np.nan)
    return np.where(KEEP.reshape(-1, *[1] * (x.ndim - 1)), x, bad)


@rows
def test_shape_and_dtype(row):
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        values = jax.eval_shape(row, given(row, dtype=dtype))
        assert (values.shape, values.dtype) == ((BATCH,), jnp.float32)
    with double_precision():
        values = jax.eval_shape(row, given(row, dtype=np.float64))
        assert (values.shape, values.dtype) == ((BATCH,), jnp.float64)


@rows
def test_masked_rows_order_blocks_and_one_trace(row):
    loss = value_and_grad(row)
    clean = given(row)
    dirty = {name: spoiled(name, x) for name, x in clean.items()}
    values, gradient = loss(dirty, KEEP)
    dropped = jax.jit(row)(given(row, KEEP))
    np.testing.assert_allclose(values[KEEP], dropped, rtol=2e-6, atol=1e-6)
    assert np.all(values[~KEEP] == 0) and np.all(gradient[~KEEP] == 0)
    assert np.all(np.isfinite(gradient)) and np.any(gradient[KEEP] != 0)

    nothing = loss(dirty, np.zeros(BATCH, bool))
    assert not np.any(nothing[0]) and not np.any(nothing[1])

    everything = np.ones(BATCH, bool)
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    expected, slope = loss(clean, everything)
    if row.blocks:  # the last block is ragged
        for one, two in zip(
            value_and_grad(row, block=3)(clean, everything),
            (expected, slope),
            strict=True,
        ):
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)
    moved, _ = loss(given(row, order), everything)
    np.testing.assert_allclose(moved, expected[order], rtol=2e-6, atol=1e-6)

    other = {name: 1.3 * value for name, value in row.hyper.items()}
    changed, _ = loss(clean, everything, other)
    assert np.any(changed != expected) == bool(row.hyper)
    assert loss.function._cache_size() == 1


@pytest.mark.parametrize(
    "row", [r for r in table.ROWS if not r.stopped], ids=lambda r: r.name
)
def test_gradient_equals_differences_of_the_values(row):
    everything, step = np.ones(BATCH, bool), 1e-6
    with double_precision():
        loss = value_and_grad(row, **({"block": 3} if row.blocks else {}))
        clean = given(row, dtype=np.float64)
        direction = np.random.default_rng(1).normal(size=clean["a"].shape)
        _, gradient = loss(clean, everything)
        ends = [
            loss(clean | {"a": clean["a"] + s * step * direction}, everything)[0]
            for s in (1, -1)
        ]
    weights = np.linspace(0.5, 1.5, BATCH)
    difference = weights @ (ends[0] - ends[1]) / (2 * step)
    slope = np.sum(gradient * direction)
    np.testing.assert_allclose(slope, difference, rtol=1e-7, atol=1e-8)


@rows
@pytest.mark.parametrize(
    "kind",
    [AxisType.Auto, pytest.param(AxisType.Explicit, marks=pytest.mark.slow)],
    ids=str,
)
def test_eight_devices_give_the_numbers_of_one(row, kind):
    where = np.arange(BATCH) != 2
    expected = value_and_grad(row)(given(row), where)
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("data"))
        batch = {
            name: jax.device_put(x, split) if name in table.BATCHED else jnp.asarray(x)
            for name, x in given(row).items()
        }
        values = value_and_grad(row)(batch, jax.device_put(where, split))
    for one, two in zip(values, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@rows
def test_signature_and_docstring(row):
    parameters = inspect.signature(row.function).parameters
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) == len(row.positional) <= 4
    assert all(p.default is p.empty for p in positional)
    assert parameters["where"].default is None
    assert ("block" in parameters) == row.blocks
    assert {*row.hyper, *row.keywords} <= set(parameters)
    assert all(p.annotation is not p.empty for p in parameters.values())

    doc = row.function.__doc__
    sections = ("Args:", "Returns:", "Raises:", "Example:", "Limits:", "References:")
    places = [doc.find(section) for section in (".. math::", *sections)]
    assert min(places) > 0 and places == sorted(places)
    arguments = doc[doc.find("Args:") : doc.find("Returns:")]
    for name in parameters:
        assert f"\n        {name}: " in arguments


@rows
def test_wrong_mask_names_the_argument(row):
    with pytest.raises(ValueError, match=rf"{row.name}: where has shape \(3,\)"):
        row(given(row), where=np.ones(3, bool))
    with pytest.raises(TypeError, match=rf"{row.name}: where has dtype int"):
        row(given(row), where=np.ones(BATCH, np.int32))
