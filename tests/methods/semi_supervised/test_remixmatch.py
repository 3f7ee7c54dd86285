"""ReMixMatch with CTAugment: its views, its rates, and a run that goes on."""

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.data import ctaugment
from ltjax.data.learned_views import learned_views
from ltjax.methods.semi_supervised.remixmatch import strengthened
from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check

B, K = 16, 10
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On random pictures of 8 pixels, with a small network."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, each in (("train", 70), ("test", 4)):
        labels = np.repeat(np.arange(K), each)
        pictures = rng.integers(0, 256, (len(labels), 8, 8, 3), np.uint8)
        np.savez(root / f"{split}.npz", inputs=pictures, labels=labels)

    spec = "configs/semi_lt.py:data=cifar10,method=remixmatch,smoke"
    config = load_config(["--config", spec])
    config.data.name = f"npz:{root}/{{split}}.npz"
    config.data.profile, config.data.max_count = "exp", 40
    config.data.imbalance_factor = 10.0
    config.model.choose("resnet_cifar", depth=8, width=4, norm="none")
    for section in (config.augment, config.augment_unlabelled):
        section.mean, section.std = MEAN, STD
    config.method.strong, config.method.depth = "ctaugment", 1
    config.augment_unlabelled.num_strong = 1
    config.unlabelled.ratio = 1
    return build(check(config))


def test_strong_views_and_rates_are_those_of_the_policy(smoked, stream_batch):
    """r <- 0.99 r + 0.01 p_y in the bin of every probe; padding leaves no trace.

    The views of this policy are the images + 1, those of probes the images - 1.
    """
    run, state = smoked("semi_lt", "method=remixmatch", "model.norm=none")
    setting = types.SimpleNamespace(networks={"main": run.model}, evaluate_ema=True)
    real = learned_views(MEAN, STD)

    def vary(key, images, rates, probe):
        draw = functools.partial(ctaugment.sample, state=rates, probe=True)
        policies = jax.vmap(draw)(jax.random.split(key, len(images)))
        return images + jnp.where(probe, -1.0, 1.0)[:, None, None], policies

    policy = real._replace(vary=vary)
    state = state.replace(method_state={**state.method_state, "rates": real.init()})
    batch = {**stream_batch(), "mask": jnp.arange(B) < 13}
    key = jax.random.key(5)

    def go(state, batch):
        new, made = strengthened(policy, setting, state, batch, key=key)
        everybody = jnp.ones(5 * B, bool)
        _, policies = vary(key, jnp.zeros((5 * B, 1, 1)), real.init(), everybody)
        averages = state.ema["params"], state.ema["model_state"]
        seen = batch["inputs"] - 1
        outputs, _ = run.model.forward(*averages, seen, train=False)
        return new.method_state, made, policies, jax.nn.softmax(outputs["logits"])

    kept, made, policies, p = jax.device_get(jax.jit(go)(state, batch))
    for name in ("strong", "strong2"):
        strong = made["unlabelled"][name]
        np.testing.assert_allclose(strong, batch["unlabelled"]["weak"] + 1, rtol=1e-6)
    want = np.array(real.init().rates)
    for i, layer, parameter in itertools.product(range(13), range(2), range(2)):
        op = int(policies.op[i, layer])
        bins = int((want[op, parameter] > 0).sum())
        if bins:
            at = int(0.999 * policies.level[i, layer, parameter] * bins)
            old, told = want[op, parameter, at], p[i, i % K]
            want[op, parameter, at] = 0.99 * old + 0.01 * told
    np.testing.assert_allclose(kept["rates"].rates, want, rtol=1e-6)
    assert kept.keys() == state.method_state.keys()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_its_rates(
    run, devices, tmp_path, assert_same
):
    class Stopped(Exception):
        pass

    def plan(step):
        if step == 5:  # two steps after the checkpoint
            raise Stopped
        return run.plan(step)

    with devices(1):
        whole = loop.run(run, tmp_path / "whole", tensorboard=False)
        with pytest.raises(Stopped):
            loop.run(run._replace(plan=plan), tmp_path / "part", tensorboard=False)
        resumed = loop.run(run, tmp_path / "part", tensorboard=False)
    assert resumed.start_step == 3
    assert_same(resumed.state, whole.state)
    rates = np.asarray(whole.state.method_state["rates"].rates)
    assert ((rates > 0) & (rates < 1)).sum() > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "method.strong=ctaugment",
            "which changes images, but the recipe of the views",
        ),
        ("method.strong=randaugment", "method.strong is 'randaugment', unknown"),
    ],
)
def test_signals_have_no_learned_views(smoked, change, message):
    with pytest.raises(ConfigError, match=message):
        smoked("semi_lt", "method=remixmatch", change)
