"""Views of a batch: keys per position, hints, normalization, signals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax.data.randaugment import Change
from ltjax.data.views import Boost, signal_view, two_views, weak_strong

KEY = jax.random.key(0)
MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])


def images(count=4, size=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def signals(count=4, length=40):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, length, 1)).astype(np.float32)


def features(count=4):
    return signals(count)[..., 0]


@functools.cache
def compiled(function, **options):
    return jax.jit(functools.partial(function, **options))


CASES = {
    "contrastive": (two_views, {"recipe": "simclr_cifar"}, images),
    "consistency": (weak_strong, {"recipe": "fixmatch", "num_strong": 2}, images),
    "contrastive signals": (two_views, {"recipe": "signal"}, signals),
    "consistency signals": (weak_strong, {"recipe": "signal"}, signals),
    "consistency features": (weak_strong, {"recipe": "features"}, features),
}


# One function and one kind of data each; the other pairs are slow.
QUICK = ("consistency", "contrastive signals")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in QUICK else pytest.mark.slow)
        for case in CASES
    ],
)
def test_views_depend_on_key_and_position_only(case):
    function, options, make = CASES[case]
    make_views = compiled(function, **options)
    batch = make()
    out = make_views(KEY, batch)
    names = {"view1", "view2"} if function is two_views else {"weak", "strong"}
    assert names <= out.keys()
    changed = batch.copy()
    changed[0] = 0
    again = make_views(KEY, changed)
    for name, view in out.items():
        assert view.shape == batch.shape and view.dtype == jnp.float32
        np.testing.assert_array_equal(view[1:], again[name][1:])
    # Different views, different examples and different keys draw different numbers.
    alike = np.repeat(batch[:1], len(batch), axis=0)
    out, other = make_views(KEY, alike), make_views(jax.random.key(1), alike)
    drawn = [view for v in (out, other) for name, view in v.items() if name != "weak"]
    stack = np.concatenate(drawn).reshape(-1, batch[0].size)
    assert len(np.unique(stack, axis=0)) == len(stack)


def test_features_are_normalized_before_the_noise():
    batch = np.array([[100.0, 7.0], [300.0, 7.0]], np.float32)
    statistics = {"mean": np.array([200.0, 7.0]), "std": np.array([100.0, 1.0])}
    quiet = {"weak": {"noise": 0.0}, "strong": {"noise": 0.0, "mask": 1.0}}
    out = weak_strong(KEY, batch, recipe="features", **statistics, **quiet)
    assert out["weak"].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert (out["strong"] == 0).all()


def test_names_of_strong_views():
    out = compiled(weak_strong, recipe="fixmatch", num_strong=2)(KEY, images())
    assert set(out) == {"weak", "strong", "strong2"}


def test_normalization_comes_last():
    options = dict(recipe="signal", mean=(0.5,), std=(2.0,))
    plain = compiled(two_views, recipe="signal")(KEY, signals())
    out = compiled(two_views, **options)(KEY, signals())
    for name, view in plain.items():
        np.testing.assert_allclose(out[name], (view - 0.5) / 2, rtol=1e-5, atol=1e-6)


def test_floating_images_are_in_unit_range():
    invert = {"pool": (Change("invert"),), "layers": 1, "probability": 1.0}
    one = jax.jit(
        lambda key, x: weak_strong(
            *(key, x), strong=invert, mean=MEAN, std=STD, weak={"border": "zero"}
        )
    )
    whole, unit = one(KEY, images()), one(KEY, images() / np.float32(255))
    for name in whole:
        np.testing.assert_allclose(whole[name], unit[name], atol=1e-4)
    # Zero padding is black, an eighth of the side.
    black = np.isclose(whole["weak"], -MEAN / STD, atol=1e-5).all(-1)
    assert black[:, [0, -1]].all(2).any()


def test_score_0_is_the_plain_recipe_and_scores_are_per_example():
    boosted = jax.jit(
        lambda key, x, strength: two_views(
            *(key, x),
            recipe="simclr_cifar",
            strength=strength,
            boost=Boost(2, 5.0, 30.0, True),
        )
    )
    plain = compiled(two_views, recipe="simclr_cifar")(KEY, images(32))
    out = boosted(KEY, images(32), jnp.array([0.0, 1.0] * 16))
    for name, view in plain.items():
        np.testing.assert_allclose(out[name][::2], view[::2], atol=1e-5)
        gaps = np.abs(np.asarray(out[name] - view))[1::2].max((1, 2, 3))
        # All are changed with probability 1, though not all operations have an effect.
        assert (gaps > 1e-2).mean() > 0.7
        assert 0 <= out[name].min() and out[name].max() <= 1


def test_scores_strengthen_signals():
    """A ramp alone: at score 1 its rise is 1.5 times that at score 0."""
    options = dict(recipe="signal", shift=0.0, noise=0.0)
    make = jax.jit(lambda key, x, s: two_views(key, x, strength=s, **options))
    zeros = np.zeros((4, 40, 1), np.float32)
    low, high = make(KEY, zeros, jnp.zeros(4)), make(KEY, zeros, jnp.ones(4))
    np.testing.assert_allclose(high["view1"], 1.5 * low["view1"], rtol=1e-5, atol=1e-6)
    assert np.abs(low["view1"]).max() > 0.05


def test_signal_view_takes_every_step_and_none():
    batch = signals(1)[0]
    off = dict(shift=0.0, ramp=0.0, noise=0.0)
    np.testing.assert_array_equal(signal_view(KEY, batch, **off), batch)
    steps = dict(crop=0.5, shift=0.2, scale=0.3, warp=0.2, ramp=0.5, noise=0.2)
    steps |= dict(jitter=0.1, mask=0.25)
    keys = jax.random.split(KEY, 50)

    cases = {"all": steps, "none": {**steps, "shift": 0.0, "strength": 0.0}}
    cases |= {name: {**off, name: size} for name, size in steps.items()}

    @jax.jit
    def make(keys):
        return {
            case: jax.vmap(lambda key, o=options: signal_view(key, batch, **o))(keys)
            for case, options in cases.items()
        }

    out = jax.tree.map(np.asarray, make(keys))
    assert ((out["all"] == 0).sum((1, 2)) == 10).all()  # a quarter of 40
    for name in steps:
        assert (out[name] != batch).any(), name
    np.testing.assert_allclose(
        out["none"], np.broadcast_to(batch, out["none"].shape), atol=1e-6
    )


def test_eight_devices_make_the_same_views_without_talking_to_each_other():
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    pool = (Change("equalize"), Change("rotate", 0, 30, signed=True))
    views = functools.partial(weak_strong, strong={"pool": pool, "probability": 1.0})
    one = jax.jit(views)(KEY, images(8))
    batch = jax.device_put(images(8), rows)
    program = jax.jit(views, out_shardings=rows).lower(KEY, batch).compile()
    many = program(KEY, batch)
    for name in one:
        np.testing.assert_array_equal(one[name], many[name])
    text = program.as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert f" {collective}(" not in text


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="two_views: recipe is 'simclr_v3'"):
        two_views(KEY, images(), recipe="simclr_v3")
    with pytest.raises(ValueError, match="weak_strong: recipe is 'mixmatch'"):
        weak_strong(KEY, images(), recipe="mixmatch")
    with pytest.raises(ValueError, match="num_strong is 0"):
        weak_strong(KEY, images(), num_strong=0)
    with pytest.raises(ValueError, match="expected both or neither"):
        two_views(KEY, images(), mean=MEAN)
    with pytest.raises(ValueError, match=r"inputs has shape \(4, 40, 1\)"):
        two_views(KEY, signals())
    with pytest.raises(ValueError, match=r"strength has shape \(3,\)"):
        two_views(KEY, images(), strength=jnp.ones(3))
