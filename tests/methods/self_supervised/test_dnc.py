"""Divide and contrast: the clusters, the regressors, the distillation, its stages."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.methods.self_supervised.dnc import regress
from ltjax.options import ConfigError
from ltjax.train import loop
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.earlier import Said
from ltjax.train.mesh import Layout, make_mesh
from ltjax.train.restore import earlier_columns, restore_run, split_outputs
from ltjax.train.stages import check_stages, train_stages

CONFIG = pathlib.Path(__file__).resolve().parents[3] / "configs/selfsup_lt.py"
REAL, EXPERTS, DIM = 13, 5, 64


def stages(experts=0):
    spec = f"{CONFIG}:method=dnc,probe=false,experts={experts},smoke"
    return check_stages(load_config(["--config", spec]))


def by_hand(weights, z, members):
    """[B, R, P]: one regressor after the other on the rows that it is trained by."""
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), dict(weights))
    made = []
    for r in range(len(w["kernel1"])):
        x = z @ w["kernel1"][r]
        own = x[members[:, r]]
        mean, variance = own.mean(0), own.var(0)
        x = (x - mean) / np.sqrt(variance + 1e-5) * w["scale"][r] + w["offset"][r]
        made.append(np.maximum(x, 0) @ w["kernel2"][r] + w["bias2"][r])
    return np.stack(made, axis=1)


def test_a_regressor_has_statistics_and_gradient_of_its_own_images(x64):
    rng = np.random.default_rng(0)
    z, cluster = rng.normal(size=(6, 2)), np.array([0, 1, 0, 1, 1, 0])
    members = np.stack([np.ones(6, bool), cluster == 0, cluster == 1], axis=1)
    weights = {
        "kernel1": rng.normal(size=(3, 2, 4)),
        "scale": rng.normal(size=(3, 4)),
        "offset": rng.normal(size=(3, 4)),
        "kernel2": rng.normal(size=(3, 4, 2)),
        "bias2": rng.normal(size=(3, 2)),
    }
    found = regress(weights, jnp.asarray(z), jnp.asarray(members))
    np.testing.assert_allclose(found, by_hand(weights, z, members), rtol=1e-10)

    def of_first(weights):
        made = regress(weights, jnp.asarray(z), jnp.asarray(members))
        return jnp.sum(jnp.where(members[:, 1, None], made[:, 1] ** 2, 0.0))

    for name, slope in jax.grad(of_first)(weights).items():
        assert np.any(slope[1] != 0), name
        assert not np.any(slope[0]) and not np.any(slope[2]), name


@pytest.fixture(scope="module")
def distilled(devices, pair_batch):
    """(run, state, batch, metrics, new state) of a step of the last stage."""
    config = load_config(["--config", f"{CONFIG}:method=simclr,probe=false,smoke"])
    config.model.norm = "none"
    config.method.choose("dnc")
    head = {"norm": "none", "experts": EXPERTS, "dim": DIM, "width": 32}
    config.head.choose("distilling", regressor_width=16, **head)
    config.columns_from = {name: "runs/a#b" for name in ("cluster", "base", "expert")}
    config = check(config)
    with devices(1):
        bare = build(stages()[0].config).sources["train"]
        rng = np.random.default_rng(1)
        size = len(bare)
        columns = {
            "cluster": np.arange(size, dtype=np.int32) % EXPERTS,
            "base": rng.normal(size=(size, DIM)).astype(np.float32),
            "expert": rng.normal(size=(size, DIM)).astype(np.float32),
        }
        said = {name: [Said(bare, column)] for name, column in columns.items()}
        run = build(config, said=said)
    state = run.init(0, run.info.replicas[0]["hyper"])
    # They start at 0, where there would be nothing to compare.
    head = state.params["head"]
    start = head["regressors"]["kernel2"]
    assert not np.any(start)
    other = {
        **head["regressors"],
        "kernel2": 0.2 * jax.random.normal(jax.random.key(5), start.shape),
    }
    head = {**head, "regressors": other}
    state = state.replace(params={**state.params, "head": head})
    own = {name: x[np.asarray(pair_batch["index"])] for name, x in columns.items()}
    batch = {**pair_batch, **own}
    new, metrics = jax.jit(run.step)(state, batch)
    return run, state, batch, metrics, new


def test_a_step_regresses_normalized_targets(distilled):
    run, state, batch, metrics, new = distilled
    z = []
    for view in ("view1", "view2"):
        outputs, _ = run.model.forward(
            state.params, state.model_state, batch[view], train=True
        )
        z.append(np.asarray(outputs["projection"], np.float64)[:REAL])
    cluster = batch["cluster"][:REAL]
    own = cluster[:, None] == np.arange(EXPERTS)
    members = np.concatenate([np.ones((REAL, 1), bool), own], axis=1)
    weights = state.params["head"]["regressors"]
    both = by_hand(weights, np.concatenate(z), np.concatenate([members, members]))
    targets = [
        np.asarray(batch[name], np.float64)[:REAL] for name in ("base", "expert")
    ]
    base, expert = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in targets)
    total = 0.0
    for made in np.split(both, 2):
        mine = made[np.arange(REAL), cluster + 1]
        total += ((made[:, 0] - base) ** 2).sum(1) + ((mine - expert) ** 2).sum(1)
    assert float(metrics["loss"][0]) == pytest.approx((total / 4).mean(), rel=1e-4)
    moved = np.abs(new.params["head"]["regressors"]["kernel2"] - weights["kernel2"])
    assert np.all(moved.max(axis=(1, 2)) > 1e-3)
    assert run.predict(new, batch["view1"])["projection"].shape == (16, DIM)


@pytest.mark.slow
def test_eight_devices_take_the_step_of_one(distilled, assert_same):
    run, state, batch, metrics, new = distilled
    layout = Layout(make_mesh())
    state = layout.put(state, layout.replicated)
    batch = layout.put(batch, layout.shared_rows)
    with jax.set_mesh(layout.mesh):
        found, said = jax.jit(run.step)(state, batch)
    kernel = found.params["head"]["regressors"]["kernel2"]
    assert kernel.sharding.num_devices == 8
    assert_same(found.params, new.params, rtol=1e-4, atol=2e-6)
    assert float(said["loss"][0]) == pytest.approx(float(metrics["loss"][0]), rel=1e-5)


def test_too_few_experts_are_refused(distilled):
    run, state, batch, *_ = distilled
    head = state.params["head"]
    fewer = {name: x[:2] for name, x in head["regressors"].items()}
    params = {**state.params, "head": {**head, "regressors": fewer}}
    with pytest.raises(
        ValueError, match="has 1 experts, expected one for each of the 5"
    ):
        run.method.loss(params, state, batch, key=jax.random.key(0), program=None)


def test_five_experts_speak_of_their_own_images(devices):
    """The stages are built, one after the other; what earlier ones say is made up."""
    runs = stages(EXPERTS)
    names = [f"expert{k}" for k in range(1, EXPERTS + 1)]
    assert [run.folder for run in runs] == [
        f"{k}_{name}" for k, name in enumerate(["base", "clusters", *names, "pretrain"])
    ]
    assert runs[1].config.method.options.clusters == EXPERTS
    with devices(1):
        train = build(runs[0].config).sources["train"]
        rng = np.random.default_rng(2)
        cluster = rng.integers(EXPERTS, size=len(train)).astype(np.int32)
        base, expert = rng.normal(size=(2, len(train), DIM)).astype(np.float32)
        said = {"cluster": [Said(train, cluster)]}
        parts = [
            build(run.config, said=said).sources["train"]
            for run in runs[2 : 2 + EXPERTS]
        ]
        for k, part in enumerate(parts):
            np.testing.assert_array_equal(part.origin, train.origin[cluster == k])
        of_parts = [Said(p, expert[cluster == k]) for k, p in enumerate(parts)]
        said |= {"base": [Said(train, base)], "expert": of_parts}
        last = build(runs[-1].config, said=said)
    asked = last.config.columns_from["expert"].split(",")
    assert asked == [f"stage:{name}#projection" for name in names]
    found = last.feed.arrays
    for name, column in (("cluster", cluster), ("base", base), ("expert", expert)):
        np.testing.assert_array_equal(found[name], column)
    head = jax.eval_shape(last.init, 0, {}).params["head"]
    assert head["regressors"]["kernel1"].shape[0] == 1 + EXPERTS


def test_a_stage_without_what_it_needs_is_a_fault():
    config = load_config(["--config", f"{CONFIG}:method=dnc,smoke"])
    config.stages = ()
    config.method.choose("dnc")
    config.head.choose("distilling")
    with pytest.raises(ConfigError, match="needs the column 'cluster'"):
        check_stages(config)
    config.method.choose("clusters", clusters=17)
    config.head.choose("projection")
    config.augment.choose("none")
    with pytest.raises(
        ConfigError, match="clusters is 17, expected at most batch_size"
    ):
        check_stages(config)


class Broken(Exception):
    """The process ends here."""


def breaking_at(run, step):
    def plan(index):
        if index == step:
            raise Broken
        return run.plan(index)

    return run._replace(plan=plan)


@pytest.fixture(scope="module")
def trained(devices, tmp_path_factory):
    """(runs, Result of the last one, workdir), not broken off."""
    place, runs = tmp_path_factory.mktemp("dnc"), stages()
    with devices(1):
        return runs, train_stages(runs, place, tensorboard=False), place


@pytest.mark.slow
def test_clusters_are_a_partition_by_the_largest_cosine(trained, devices):
    runs, _, place = trained
    names = [run.folder for run in runs]
    assert names == ["0_base", "1_clusters", "2_expert1", "3_expert2", "4_pretrain"]
    with devices(1):
        run, state, _ = restore_run(place / "1_clusters")
        outputs = ("hidden", "cluster", "features", "projection")
        found, _ = split_outputs(run, state, "train", outputs=outputs)
        base = restore_run(place / "0_base")
        before, _ = split_outputs(*base[:2], "train", outputs=outputs[2:])
    for name in ("features", "projection"):  # the base stays as it is
        np.testing.assert_array_equal(found[name], before[name])
    x = found["hidden"][0].astype(np.float64)
    centers = np.asarray(state.method_state["sums"][0], np.float64)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    cosines = x @ centers.T / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_array_equal(found["cluster"][0], cosines.argmax(1))
    with devices(1):
        parts = [build_of(one, place).sources["train"].origin for one in runs[2:4]]
    every = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(every, np.sort(run.sources["train"].origin))


def build_of(stage, place):
    return build(stage.config, said=earlier_columns(stage.config, place / stage.folder))


@pytest.mark.slow
def test_broken_off_in_every_stage_it_ends_at_the_same_bits(
    trained, devices, tmp_path, assert_same
):
    runs, calm, _ = trained
    with devices(1):
        for number, one in enumerate(runs):
            built = build_of(one, tmp_path)
            with pytest.raises(Broken):
                loop.run(
                    breaking_at(built, built.info.total_steps - 1),
                    tmp_path / one.folder,
                    tensorboard=False,
                )
            # Goes on inside of this stage, and stops between it and the next one.
            resumed = train_stages(runs[: number + 1], tmp_path, tensorboard=False)
            assert 0 < resumed.start_step < built.info.total_steps
    assert_same(resumed.state, calm.state)
