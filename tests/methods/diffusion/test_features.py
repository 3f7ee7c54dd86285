"""A classifier on blended features: frozen network, sets in order, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.stages import check_stages


def last_stage(data, *changes):
    spec = f"configs/diffusion_digits.py:method=blended,data={data},smoke"
    config = load_config(["--config", spec])
    *first, last = config.stages
    config.stages = (*first, {**last, **dict(changes)})
    return check_stages(config)[-1].config


@pytest.fixture(
    scope="module", params=["glyphs", pytest.param("scenes", marks=pytest.mark.slow)]
)
def built(request):
    run = build(last_stage(request.param))
    state = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])
    arrays = run.feed.arrays
    names = ("inputs", "label") + (("targets",) if "targets" in arrays else ())
    batch = {name: jnp.asarray(arrays[name][:8]) for name in names}
    seen = run.feed.batch(
        arrays,
        {"index": np.arange(8), "mask": np.arange(8) < 8},
        jax.random.key(0),
        train=True,
    )
    return run, state, {**batch, **seen}


def test_only_the_head_learns(built):
    run, state, batch = built
    new, metrics = jax.jit(run.step)(state, batch)
    moved = {
        name: any(
            np.any(a != b)
            for a, b in zip(
                jax.tree.leaves(part), jax.tree.leaves(new.params[name]), strict=True
            )
        )
        for name, part in state.params.items()
    }
    assert moved == {name: name == "head" for name in state.params}
    assert np.isfinite(float(metrics["loss"][0]))


def test_sets_are_those_of_the_techniques_and_the_prediction_uses_them(built):
    run, state, batch = built
    seen = run.method.prepare(state, batch, key=jax.random.key(0), program=None)[1]
    diffusion = run.method.parts["diffusion"]
    images = batch["inputs"]
    for place, name in enumerate(("none", "control", "low_rank")):
        want = diffusion.activations(
            state,
            images,
            None,
            technique=name,
            time=50,
            key=jax.random.key(0),
            draws=2,
        )["up0"]
        np.testing.assert_allclose(seen["inputs"][:, place], want, atol=1e-4)
    logits = run.method.predict(state, images)["logits"]
    classes = run.info.num_classes
    dense = "targets" in batch
    assert logits.shape == ((8, 32, 32, classes) if dense else (8, classes))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("method.techniques", ("pseudo",), "a classifier has no labels to tell"),
        ("head.pixels", True, "head.pixels is True, but config.method.pixels is False"),
        ("model.control", False, "has 'control', which needs config.model.control"),
    ],
)
def test_what_does_not_fit_is_refused(option, value, message):
    with pytest.raises(ConfigError, match=message):
        last_stage("glyphs", (option, value))
