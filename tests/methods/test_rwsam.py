"""rwSAM inside the engine: where its weights come from, and when."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.earlier import Said

SHORT = {
    "total": "4 steps",
    "eval_every": "0 steps",
    "checkpoint_every": "2 steps",
    "model.norm": "none",
    "gradient.name": "rwsam",
}
ONCE = {"gradient.density_start": "0 steps", "gradient.density_every": "0 steps"}


def weights_of(features):
    """Inverse square root of the density of unit features, in float64; mean 1."""
    f = np.asarray(features, np.float64)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    away = np.linalg.norm(f[:, None] - f[None], axis=2)
    nearest = int(np.ceil(np.sqrt(len(f))))
    width = np.median(np.sort(away, axis=1)[:, nearest])  # its own distance leads
    found = np.exp(-(away**2) / (2 * width**2)).mean(1) ** -0.5
    found = np.clip(found / np.median(found), 0.1, 10)
    return found / found.mean()


@pytest.fixture(scope="module")
def own(train, tiny, devices):
    """(run, first state, Result) with weights by the features of the start."""
    with devices(1):
        run = build(tiny(SHORT | ONCE))
    start = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])
    return run, start, train(SHORT | ONCE)


def features_at(run, state):
    inputs = run.feed.batch(
        run.feed.arrays,
        run.feed.rows(np.arange(159), np.ones(159, bool)),
        None,
        train=False,
    )["inputs"]
    outputs, _ = run.model.forward(state.params, state.model_state, inputs, train=False)
    return outputs["features"]


def test_weights_follow_the_features_at_the_start_and_pads_are_even(own):
    run, start, result = own
    table = np.asarray(result.state.method_state["rule"]["weights"])[0]
    assert table.shape == (256,) and np.all(table[159:] == 1)
    want = weights_of(features_at(run, start))
    assert want.std() > 0.05
    np.testing.assert_allclose(table[:159], want, rtol=2e-4)
    assert run.method.tables == ("rule",)


@pytest.mark.slow
def test_eight_devices_equal_one(own, train, assert_same):
    eight = train(SHORT | ONCE, count=8)
    table = eight.state.method_state["rule"]["weights"]
    assert table.sharding.num_devices == 8 and not table.is_fully_replicated
    assert_same(eight.state, own[2].state, rtol=1e-4, atol=2e-6)


def test_a_table_is_the_same_as_a_file_and_as_a_column(
    own, train, tiny, devices, tmp_path, assert_same
):
    run, start, result = own
    table = np.asarray(result.state.method_state["rule"]["weights"])[0, :159]
    np.save(tmp_path / "weights.npy", table)
    path = str(tmp_path / "weights.npy")
    filed = train(SHORT | {"gradient.density_weights": path})
    assert filed.state.method_state is None
    assert_same(filed.state.params, result.state.params, rtol=1e-6, atol=1e-7)
    # Features that an earlier run saw, ten times as long.
    said = {"seen": [Said(run.sources["train"], 10 * features_at(run, start))]}
    changes = {"gradient.density_column": "seen", "columns_from": {"seen": "a#b"}}
    with devices(1):
        other = build(tiny(SHORT | changes), said=said)
    (refresh,) = other.method.refreshes
    assert [s for s in range(4) if refresh.due(s)] == [0] and refresh.gather is None
    kept = jax.tree.map(np.asarray, other.method.init(None, {}, {}))
    found = refresh.fn(kept, None, step=0)["rule"]["weights"][:159]
    np.testing.assert_allclose(found, table, rtol=1e-5)


def test_they_are_looked_at_again_and_again(tiny, devices):
    changes = {"gradient.density_start": "25%", "gradient.density_every": "2 steps"}
    with devices(1):
        run = build(tiny(SHORT | {"total": "8 steps"} | changes))
    (refresh,) = run.method.refreshes
    assert [s for s in range(8) if refresh.due(s)] == [2, 4, 6]


@pytest.mark.parametrize(
    "adaptive", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_with_even_weights_it_is_sam_or_asam(train, adaptive, assert_same):
    even = train(
        SHORT
        | {"gradient.density_alpha": 0.0, "gradient.adaptive": adaptive}
        | {"gradient.rho": 0.2}
    )
    name = "asam" if adaptive else "sam"
    plain = train(SHORT | {"gradient.name": name, "gradient.rho": 0.2})
    assert_same(even.state.params, plain.state.params, rtol=1e-5, atol=1e-6)


class Broken(Exception):
    """The process ends here."""


@pytest.mark.slow
def test_broken_off_between_two_looks_it_ends_at_the_same_bits(
    tiny, devices, tmp_path, assert_same
):
    changes = {"gradient.density_start": "1 steps", "gradient.density_every": "2 steps"}
    config = tiny(SHORT | changes | {"total": "6 steps"})

    def go(place, stop=None):
        with devices(1):
            run = build(config)

            def plan(step):
                if step == stop:
                    raise Broken
                return run.plan(step)

            return loop.run(run._replace(plan=plan), place, tensorboard=False)

    calm = go(tmp_path / "calm")
    with pytest.raises(Broken):
        go(tmp_path / "run", stop=5)
    resumed = go(tmp_path / "run")
    assert resumed.start_step == 4
    assert_same(resumed.state, calm.state)
    table = np.asarray(calm.state.method_state["rule"]["weights"])[0]
    assert np.ptp(table[:159]) > 0.1


@pytest.mark.slow
def test_moco_commits_keys_and_queue_once_beside_the_weights(
    smoked, pair_batch, assert_same
):
    arguments = ("selfsup_lt", "method=moco,probe=false", "model.norm=none")
    found = []
    for name in ("rwsam", "plain"):
        run, state = smoked(*arguments, f"gradient.name={name}")
        new, _ = jax.jit(run.step)(state, pair_batch)
        found.append(dict(new.method_state))
    rule = found[0].pop("rule")
    assert_same(found[0], found[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(rule["weights"], 1)


def test_what_it_cannot_have_is_a_fault(tiny):
    column = {"gradient.density_column": "seen"}
    with pytest.raises(ConfigError, match="density_column is 'seen', which config.col"):
        tiny(SHORT | column)
    file = {"gradient.density_weights": __file__}
    seen = {"columns_from": {"seen": "runs/a#features"}}
    with pytest.raises(ConfigError, match="but density_weights is set too"):
        tiny(SHORT | column | file | seen)
