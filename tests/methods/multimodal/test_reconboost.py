"""ReconBoost: who trains when, what a stage fits, and what is refused."""

import jax
import numpy as np
import pytest

from ltjax.methods.method import Program
from ltjax.methods.multimodal.reconboost import Cycle, Stage
from ltjax.options import ConfigError

CONFIG = ("multimodal_digits", "method=reconboost", "model.norm=none")
IMAGE, SIGNAL = Stage(("image",), True), Stage(("signal",), True)


def test_modalities_take_turns_and_join_when_their_stage_ends():
    cycle = Cycle(("a", "b", "c"), alone=2, together=1)
    told = ["+".join(s.active) + "!" * s.alone for s in map(cycle.stage, range(12))]
    assert told == ["a!", "a!", "a", "b!", "b!", "a+b", "c!", "c!", "a+b+c"] + [
        *("a!", "a!", "a+b+c")
    ]
    assert {cycle.stage(step) for step in range(12)} == set(cycle.stages)
    starts = [int(step) for step in range(7) if cycle.starts(step)]
    assert starts == [0, 2, 3, 5, 6]
    inside = [cycle.inside(step).tolist() for step in (0, 4, 5, 7, 8)]
    assert [sum(row) for row in inside] == [1, 1, 2, 2, 3]
    # Without a rectification every step is a modality's own.
    assert all(s.alone for s in Cycle(("a", "b"), alone=1, together=0).stages)


@pytest.mark.parametrize("residual", ["weighted", "kl"])
def test_a_stage_fits_what_the_others_get_wrong(
    smoked, digit_batch, modality_logits, softmax, residual
):
    run, state = smoked(
        *CONFIG, f"method.residual={residual}", "method.consolidation=0.7"
    )
    state.params["head"]["boost_rate"] = np.float32(1.5)
    state = state.replace(step=np.int32(3))  # the signal's first stage
    assert run.program(3).stage == SIGNAL
    z, y = modality_logits(run, state, digit_batch), np.asarray(digit_batch["label"])
    own, other, y = z[:, 1], z[:, 0], y[: len(z)]
    p, q, rows = softmax(own), softmax(1.5 * other), np.arange(len(z))
    ce = -np.log(p[rows, y])
    fits = (5 - q[rows, y]) * ce / 10
    if residual == "kl":
        fits = ce + 0.25 * (q * np.log(p)).sum(1)
    memory = ((p - softmax(other)) ** 2).mean(1)
    before = state.params
    state, metrics = jax.jit(run.step, static_argnames="program")(
        state, digit_batch, program=run.program(3)
    )
    want = fits.mean() + 0.7 * memory.mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)
    # The image's encoder and the boost rate wait.
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, state.params)
    assert not any(jax.tree.leaves(moved["backbone"]["image"]))
    assert all(jax.tree.leaves(moved["backbone"]["signal"]))
    assert not moved["head"].pop("boost_rate")
    assert all(jax.tree.leaves(moved["head"]))


def test_the_first_stage_has_no_ensemble_and_no_memory(
    smoked, digit_batch, modality_logits, softmax
):
    run, state = smoked(*CONFIG)
    z, y = modality_logits(run, state, digit_batch), np.asarray(digit_batch["label"])
    rows = np.arange(len(z))
    ce = -np.log(softmax(z[:, 0])[rows, y[: len(z)]])
    _, metrics = jax.jit(run.step, static_argnames="program")(
        state, digit_batch, program=Program(IMAGE, run.program(0).rule)
    )
    want = ((5 - 1 / 10) * ce / 10).mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)


def test_rectification_trains_the_sum_and_prediction_is_that_of_the_sum(
    smoked, digit_batch, modality_logits, softmax
):
    run, state = smoked(*CONFIG, "schedule.name=constant")
    z, y = modality_logits(run, state, digit_batch), np.asarray(digit_batch["label"])
    rows, y = np.arange(len(z)), y[: len(z)]
    state = state.replace(step=np.int32(5))
    assert run.program(5).stage == Stage(("image", "signal"), False)
    new, metrics = jax.jit(run.step, static_argnames="program")(
        state, digit_batch, program=run.program(5)
    )
    want = -np.log(softmax(z.sum(1))[rows, y]).mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), state.params, new.params
    )
    assert all(jax.tree.leaves(moved))
    predict = jax.jit(run.method.predict)
    for step, kept in ((0, z[:, 0]), (4, z[:, 0]), (5, z.sum(1))):
        at = state.replace(step=np.int32(step))
        found = predict(at, digit_batch["inputs"])["logits"][: len(z)]
        np.testing.assert_allclose(found, kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", ["inference", "training"])
def test_statistics_of_the_others_move_in_training_mode_only(
    smoked, digit_batch, frozen
):
    run, state = smoked(
        "multimodal_digits", "method=reconboost", f"method.frozen={frozen}"
    )
    new, _ = jax.jit(run.step, static_argnames="program")(
        state, digit_batch, program=run.program(0)
    )
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), state.model_state, new.model_state
    )["batch_stats"]["backbone"]
    assert all(jax.tree.leaves(moved["image"]))
    assert any(jax.tree.leaves(moved["signal"])) == (frozen == "training")


def test_what_does_not_fit_is_refused(smoked):
    with pytest.raises(ConfigError, match="config.method.alone is '0 steps', expected"):
        smoked(*CONFIG, "method.alone=0 steps")
    with pytest.raises(
        ConfigError, match="num_modalities is 3, but model 'modalities'"
    ):
        smoked(*CONFIG, "head.num_modalities=3")
    with pytest.raises(
        ConfigError, match="'multimodal_digits', whose inputs are image"
    ):
        smoked(*CONFIG, "model.names=('image', 'text')")
    with pytest.raises(ConfigError, match="augment.name is 'normalize', which takes"):
        smoked(*CONFIG, "augment.name=normalize")
    with pytest.raises(ConfigError, match="'ldam', which needs the head 'cosine'"):
        smoked(*CONFIG, "loss.name=ldam")


@pytest.mark.slow
def test_other_gradients_keep_to_the_stage(smoked, digit_batch):
    moved = {}
    for change in ("accumulate=1", "accumulate=2", "sam"):
        option = "gradient.name=sam" if change == "sam" else f"optimizer.{change}"
        run, state = smoked(*CONFIG, "schedule.name=constant", option)
        state = state.replace(step=np.int32(3))
        new, metrics = jax.jit(run.step, static_argnames="program")(
            state, digit_batch, program=run.program(3)
        )
        assert np.isfinite(metrics["loss"][0])
        moved[change] = jax.tree.map(lambda a, b: a - b, new.params, state.params)
        waiting = jax.tree.leaves(moved[change]["backbone"]["image"])
        assert not any(np.asarray(leaf).any() for leaf in waiting)
    plain, halves, sharp = (moved[name]["backbone"]["signal"] for name in moved)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(halves), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7)
    assert not np.allclose(
        plain["conv1"]["kernel"], sharp["conv1"]["kernel"], rtol=1e-3, atol=0
    )
