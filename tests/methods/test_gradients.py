"""The gradient rules inside the engine: every loss, program, device and replica."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.methods import presets
from ltjax.methods.method import Part, Program
from ltjax.methods.registry import GRADIENTS
from ltjax.options import ConfigError, options_of
from ltjax.sharpness.compaction import default_buckets
from ltjax.train.build import build
from ltjax.train.check import check

SHORT = {"total": "8 steps", "eval_every": "0 steps", "log_every": "4 steps"}
PLAIN_NET = {"model.norm": "none"}
# Summation in another order, over a few steps.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


def tail_options(gradient) -> dict:
    """Four of the tiny run's classes are tail; SSE-SAM's second stage is at step 4."""
    wanted = {"switch": "4 steps", "eta": 10} if gradient != "asam" else {}
    known = options_of(GRADIENTS[gradient].options)
    return {name: value for name, value in wanted.items() if name in known}


@pytest.fixture(scope="module")
def recipe(tiny_config, tmp_path_factory):
    """`recipe(method, gradient, changes) -> TrainConfig`, four classes of it tail."""
    weights = tmp_path_factory.mktemp("density") / "weights.npy"
    np.save(weights, np.random.default_rng(0).uniform(0.5, 2, 159).astype(np.float32))

    def make(method, gradient, changes=()):
        changes = SHORT | dict(changes)
        options = {
            path.removeprefix("gradient."): changes.pop(path)
            for path in list(changes)
            if path.startswith("gradient.")
        }
        config = load_config(["--config", f"{tiny_config}:{json.dumps(changes)}"])
        presets.apply_preset(config, method, late="1 steps")
        presets.apply_gradient(config, gradient, **tail_options(gradient), **options)
        if gradient == "rwsam":
            config.gradient.density_weights = str(weights)
        return check(config)

    return make


@pytest.fixture(scope="module")
def built(devices):
    """`built(config) -> Run` for one device."""

    def make(config):
        with devices(1):
            return build(config)

    return make


def start_of(run):
    return jax.jit(run.init)(0, run.info.replicas[0]["hyper"])


def batch_of(run, step, replica=0):
    indices, mask = (part[replica] for part in run.plan(step))
    rows = run.feed.rows(indices, mask)
    return run.feed.batch(run.feed.arrays, rows, jax.random.key(step), train=True)


def compiled(run):
    """(step, the programs it was traced for)."""
    traced = []

    def step(state, batch, program):
        traced.append(program)
        return run.step(state, batch, program=program)

    return jax.jit(step, static_argnums=2), traced


def advance(run, count, state=None, step=None):
    """The states after each of the first steps, the metrics, the traced programs."""
    step, traced = step or compiled(run)
    states, metrics = [start_of(run) if state is None else state], []
    for t in range(count):
        state, values = step(states[-1], batch_of(run, t), run.program(t))
        states.append(state)
        metrics.append(values)
    return states[1:], metrics, traced


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def plain(recipe, built):
    """`plain(method) -> (first state, state after three steps)`, once per method."""
    known = {}

    def of(method):
        if method not in known:
            run = built(recipe(method, "plain", PLAIN_NET))
            start = start_of(run)
            known[method] = start, advance(run, 3, start)[0][-1]
        return known[method]

    return of


LOSSES = ("ce", "la", "ldam_drw", "vs")
CC_SAM = ("ce", "cc_sam")  # the only loss that it goes with


# Every rule with one loss, every loss with one rule; the other pairs are slow.
PAIRS = [
    pytest.param(
        method,
        gradient,
        marks=()
        if method == "ldam_drw" or gradient == "sam" or (method, gradient) == CC_SAM
        else pytest.mark.slow,
    )
    for method in LOSSES
    for gradient in GRADIENTS
    if gradient != "plain"
]


@pytest.mark.parametrize(("method", "gradient"), PAIRS)
def test_every_rule_trains_with_every_loss(method, gradient, recipe, built, plain):
    if gradient == "cc_sam" and method != "ce":
        with pytest.raises(ConfigError, match="perturbs the classifier of plain cross"):
            recipe(method, gradient, PLAIN_NET)
        return
    run = built(recipe(method, gradient, PLAIN_NET))
    start, ordinary = plain(method)
    hyper = run.info.replicas[0]["hyper"]
    start = start.replace(
        hyper={name: jnp.asarray(value, jnp.float32) for name, value in hyper.items()},
        method_state=run.method.init(None, start.params, start.model_state),
    )
    states, metrics, _ = advance(run, 3, start)
    last = states[-1]
    assert np.isfinite(flat((last.params, last.opt_state, last.method_state))).all()
    for values in metrics:
        assert all(np.isfinite(v) for pair in values.values() for v in pair)
        assert values["loss"][0] > 0
    # It is another gradient than the plain one, but no other problem.
    moved = flat(ordinary.params) - flat(start.params)
    apart = np.linalg.norm(flat(last.params) - flat(ordinary.params))
    assert 1e-4 < apart / np.linalg.norm(moved) < 1


# ------------------------------------------------------------ programs of a run

STAGES = SHORT | {
    "model.norm": "group",
    "gradient.name": "sse_sam",
    "gradient.eta": 10,
    "gradient.switch": "50%",
}


@pytest.fixture(scope="module")
def staged(train, tmp_path_factory):
    """SSE-SAM across its switch, on one device: (result, workdir)."""
    workdir = tmp_path_factory.mktemp("staged")
    return train(STAGES, workdir=workdir), workdir


def test_the_stages_of_sse_sam_are_two_programs(staged, records):
    result, workdir = staged
    assert result.traces == {"step": 2, "eval": 1, "refresh": 0}
    # The head term is perturbed in the first stage only.
    first, second = (r for r in records(workdir) if "train/gap_0" in r)
    assert (first["step"], second["step"]) == (4, 8)
    assert first["train/ascent_norm_0"] > 0 and second["train/ascent_norm_0"] is None
    assert first["train/ascent_norm_1"] > 0 and second["train/ascent_norm_1"] > 0


def test_the_gap_of_each_group_is_that_of_its_own_rows(recipe, built):
    run = built(recipe("ce", "sam", PLAIN_NET))
    start, size = start_of(run), run.info.class_counts
    batches = (batch_of(run, step) for step in range(9))
    batch = next(b for b in batches if np.min(size[np.asarray(b["label"])]) < 8)
    _, metrics = jax.jit(run.step)(start, batch)

    def losses(params):
        found, _ = run.method.loss(
            params, start, batch, key=jax.random.key(0), program=Program()
        )
        return found["label"]

    gradient = jax.grad(lambda params: jnp.mean(losses(params)))(start.params)
    norm = np.linalg.norm(flat(gradient))
    rho = float(start.hyper["gradient.rho"])
    moved = jax.tree.map(lambda p, g: p + rho * g / norm, start.params, gradient)
    rise = np.asarray(losses(moved) - losses(start.params))
    counts = size[np.asarray(batch["label"])]
    members = {"many": counts > 20, "medium": (counts <= 20) & (counts >= 8)}
    members["few"] = counts < 8
    for name, rows in members.items():
        total, count = metrics[f"gap_0_{name}"]
        assert int(count) == rows.sum() > 0
        assert float(total) == pytest.approx(rise[rows].sum(), rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_compaction_changes_the_cost_and_not_the_run(staged, train, tiny, assert_same):
    changes = STAGES | {"gradient.compaction": True}
    run = build(tiny(changes))
    stages, buckets = (1, 2), default_buckets(16)
    rules = {(s, rows) for s in stages for rows in buckets}
    assert set(run.programs) == {Program(None, rule) for rule in rules}
    used = {run.program(t).rule for t in range(8)}
    assert len({rows for _, rows in used}) > 1  # else no bucket was chosen
    assert max(rows for _, rows in used) < 16
    found = train(changes)
    assert found.traces["step"] == len(used) <= len(stages) * len(buckets)
    assert_same(found.state, staged[0].state, **ROUNDING)


def test_late_sam_takes_the_plain_program_first(recipe, built, plain):
    run = built(recipe("ce", "sam", PLAIN_NET | {"gradient.late": "3 steps"}))
    rules = [run.program(t).rule for t in range(5)]
    assert rules == ["plain"] * 3 + [None] * 2
    states, metrics, traced = advance(run, 4, plain("ce")[0].replace(hyper=hyper(run)))
    assert [program.rule for program in traced] == ["plain", None]
    ordinary = plain("ce")[1]
    np.testing.assert_allclose(
        flat(states[2].params), flat(ordinary.params), rtol=1e-6, atol=1e-7
    )
    gaps = [values["gap_0"] for values in metrics]
    assert [float(count) for _, count in gaps] == [0, 0, 0, 1]
    assert gaps[3][0] > 0


# ------------------------------------------------------- which rows share a radius


def by_hand(run, state, batch, groups: int, rho: float):
    """(params, model state) after a first step of SGD on SAM's gradient.

    Each of `groups` blocks of rows is normalized and perturbed by itself; gradients of
    the batch's mean loss add up, running averages are averaged.
    """
    size = len(batch["label"])

    @jax.jit
    def value_and_grad(params, rows):
        def loss(params):
            outputs, after = run.model.forward(
                params, state.model_state, rows["inputs"], train=True
            )
            own = jax.nn.log_softmax(outputs["logits"])[
                jnp.arange(len(rows["label"])), rows["label"]
            ]
            return -jnp.sum(own) / size, after

        return jax.grad(loss, has_aux=True)(params)

    total, after = jax.tree.map(jnp.zeros_like, state.params), []
    for block in np.split(np.arange(size), groups):
        rows = {name: batch[name][block] for name in ("inputs", "label")}
        ascent, seen = value_and_grad(state.params, rows)
        factor = rho / np.linalg.norm(flat(ascent).astype(np.float64))
        perturbed = jax.tree.map(
            lambda p, g, factor=factor: p + factor * g, state.params, ascent
        )
        total = jax.tree.map(jnp.add, total, value_and_grad(perturbed, rows)[0])
        after.append(seen)
    lr, decay = (state.hyper[f"optimizer.{n}"] for n in ("lr", "weight_decay"))
    params = jax.tree.map(lambda p, g: p - lr * (g + decay * p), state.params, total)
    return params, jax.tree.map(lambda *leaves: sum(leaves) / groups, *after)


@pytest.mark.parametrize(
    ("scope", "count", "groups"),
    [
        pytest.param("global", 8, 1, marks=pytest.mark.slow),
        ("shard", 4, 4),
        pytest.param("4", 1, 4, marks=pytest.mark.slow),
    ],
)
def test_a_step_is_that_of_its_groups_of_rows(
    scope, count, groups, train, tiny, built, assert_same
):
    changes = SHORT | {
        "total": "1 steps",
        "log_every": "1 steps",
        "gradient.name": "sam",
        "gradient.rho": 0.3,
    }
    run = built(tiny(changes))  # on one device, whatever the other has
    start, batch = start_of(run), batch_of(run, 0)
    result = train(changes | {"gradient.scope": scope}, count=count)
    found = jax.tree.map(lambda x: x[0], result.state)
    params, model_state = by_hand(run, start, batch, groups, 0.3)
    assert_same(found.params, params, **ROUNDING)
    assert_same(dict(found.model_state), dict(model_state), **ROUNDING)
    # The number of groups matters more than that.
    others = by_hand(run, start, batch, 2, 0.3)[0]
    assert np.abs(flat(others) - flat(params)).max() > 1e-4


def test_accumulated_sharp_gradients_are_those_of_the_batch(built, tiny, assert_same):
    whole, parts = (
        built(tiny(STAGES | {"optimizer.accumulate": count})) for count in (1, 4)
    )
    start = start_of(whole)
    (expected, _, _), (found, _, traced) = (
        advance(run, 2, start) for run in (whole, parts)
    )
    assert [program.rule for program in traced] == [1]  # both groups perturbed
    assert_same(found[-1].params, expected[-1].params, **ROUNDING)


# ------------------------------------------------------------------------ radii


def test_replicas_of_other_radii_equal_runs_of_their_own(
    train, tiny, built, assert_same
):
    radii = (0.05, 0.5)
    changes = SHORT | {"total": "4 steps", "gradient.name": "sam", "model.norm": "none"}
    together = train(
        changes | {"replicas.grid": {"gradient.rho": radii}, "replicas.layout": "vmap"}
    )
    assert together.traces["step"] == 1
    runs = [built(tiny(changes | {"gradient.rho": rho})) for rho in radii]
    start, step = start_of(runs[0]), compiled(runs[0])
    ends = [
        advance(run, 4, start.replace(hyper=hyper(run)), step)[0][-1] for run in runs
    ]
    for r, end in enumerate(ends):
        own = jax.tree.map(lambda x, r=r: x[r], together.state)
        assert_same(own, end, **ROUNDING)
    assert np.abs(flat(ends[0].params) - flat(ends[1].params)).max() > 1e-3


def hyper(run):
    values = run.info.replicas[0]["hyper"]
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def bfloat16(x) -> np.ndarray:
    return np.asarray(x, jnp.bfloat16).astype(np.float64)


def test_bfloat16_logs_what_it_leaves_of_a_perturbation_and_warns_once(
    train, tiny, built, records, tmp_path, caplog
):
    changes = SHORT | {
        "total": "3 steps",
        "log_every": "1 steps",
        "model.norm": "none",
        "model.dtype": "bfloat16",
        "gradient.name": "sam",
        "gradient.rho": 1.0,
    }
    radii = (2e-3, 1.0)
    grid = {"replicas.grid": {"gradient.rho": radii}, "replicas.layout": "vmap"}
    with caplog.at_level(logging.WARNING, logger="ltjax"):
        train(changes | grid, workdir=tmp_path)
    logged = [
        line["replicas"]["train/cosine_0"]
        for line in records(tmp_path)
        if "train/cosine_0" in line
    ]
    assert len(logged) == 3
    assert all(low < 0.9 < high for low, high in logged)
    (warning,) = (r.getMessage() for r in caplog.records if "cosine" in r.getMessage())
    assert f"train/cosine_0 is {logged[0][0]:.3f} at step 1" in warning
    assert "rounding to bfloat16" in warning and "gradient term 0" in warning

    # The first step's, from the definition.
    run = built(tiny(changes))
    start, batch = start_of(run), batch_of(run, 0)

    def mean_loss(params):
        losses, _ = run.method.loss(
            params, start, batch, key=jax.random.key(0), program=Program()
        )
        return jnp.mean(losses["label"])

    gradient = flat(jax.jit(jax.grad(mean_loss))(start.params)).astype(np.float64)
    theta = flat(start.params)
    for rho, cosine in zip(radii, logged[0], strict=True):
        intended = (rho * gradient / np.linalg.norm(gradient)).astype(np.float32)
        realized = bfloat16(theta + intended) - bfloat16(theta)
        expected = realized @ intended
        expected /= np.linalg.norm(realized) * np.linalg.norm(intended)
        assert cosine == pytest.approx(expected, rel=0.02)


def test_float32_has_no_cosine_to_log(staged, records):
    names = {name for line in records(staged[1]) for name in line}
    assert "train/gap_0" in names
    assert not any(name.startswith("train/cosine") for name in names)


# ------------------------------------------------------------- options of a rule


@pytest.mark.parametrize("gradient", ["imbsam", "sse_sam", "focal_sam"])
def test_a_part_without_classes_has_no_tail(gradient, recipe, built):
    run = built(recipe("ce", gradient, PLAIN_NET))
    parts = {"pairs": Part(None, jnp.ones(16) / 16)}
    with pytest.raises(ValueError, match="'pairs' of the objective has no classes"):
        run.rule.terms(parts, start_of(run), {}, run.rule.programs[0])


def test_a_network_without_what_is_to_be_perturbed(recipe, built):
    changes = PLAIN_NET | {"gradient.perturb": "norm"}
    with pytest.raises(ConfigError, match="perturb: .* no normalization layer"):
        built(recipe("ce", "sam", changes))


@pytest.mark.parametrize("perturb", ["all", "head", "norm"])
def test_only_the_named_parameters_are_perturbed(perturb, recipe, built):
    """One step of SGD on the gradient at the point that a masked ascent leads to."""
    changes = {"model.norm": "batch", "gradient.perturb": perturb}
    run = built(recipe("ce", "sam", changes | {"gradient.rho": 0.5}))
    start, batch = start_of(run), batch_of(run, 0)
    found = jax.jit(run.step)(start, batch)[0]

    def mean_loss(params):
        losses, _ = run.method.loss(
            params, start, batch, key=jax.random.key(0), program=Program()
        )
        return jnp.mean(losses["label"])

    ascent = jax.jit(jax.grad(mean_loss))(start.params)
    chosen = {
        "all": lambda path: True,
        "head": lambda path: path[0].key == "head",
        "norm": lambda path: "norm" in path[1].key,
    }[perturb]
    kept = jax.tree_util.tree_map_with_path(lambda path, g: g * chosen(path), ascent)
    norm = np.linalg.norm(flat(kept))
    assert norm > 0
    moved = jax.tree.map(lambda p, g: p + 0.5 * g / norm, start.params, kept)
    descent = jax.jit(jax.grad(mean_loss))(moved)
    lr, decay = (start.hyper[f"optimizer.{n}"] for n in ("lr", "weight_decay"))
    expected = jax.tree.map(
        lambda p, g: p - lr * (g + decay * p), start.params, descent
    )
    np.testing.assert_allclose(flat(found.params), flat(expected), rtol=1e-4, atol=1e-6)


def test_density_weights_of_another_data_set_are_refused(tiny, built, tmp_path):
    np.save(tmp_path / "weights.npy", np.ones(158, np.float32))
    path = str(tmp_path / "weights.npy")
    config = tiny({"gradient.name": "rwsam", "gradient.density_weights": path})
    with pytest.raises(ValueError, match=r"\(158,\), expected one for each of the 159"):
        built(config)
    with pytest.raises(
        ConfigError, match="density_weights is 'gone.npy', but there is"
    ):
        tiny({"gradient.name": "rwsam", "gradient.density_weights": "gone.npy"})
