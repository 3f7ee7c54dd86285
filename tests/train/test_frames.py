"""Fixed frames, dot regression and in-batch balance in the engine."""

import jax
import numpy as np
import pytest

from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.checkpoint_files import restore_params

SHORT = {"total": "10 steps", "eval_every": "0 steps", "log_every": "5 steps"}
DR = SHORT | {"loss.name": "dot_regression"}


def frame_of(state):
    return np.asarray(state.model_state["frames"]["head"]["frame"], float)


def test_frame_is_a_simplex_of_each_seed_fixed_and_saved(train, tiny, tmp_path):
    result = train(DR | {"replicas.seeds": (0, 1)}, workdir=tmp_path / "run")
    frames = frame_of(result.state)
    assert frames.shape == (2, 16, 10)
    simplex = np.eye(10) * 10 / 9 - 1 / 9
    for frame in frames:
        np.testing.assert_allclose(frame.T @ frame, simplex, atol=2e-6)
    assert np.abs(frames[0] - frames[1]).max() > 0.1  # another orientation
    run = build(tiny(DR))
    start = frame_of(run.init(0, run.info.replicas[0]["hyper"]))
    np.testing.assert_allclose(frames[0], start, atol=1e-6)
    assert set(result.state.params["head"]) == {"norm"}  # and not a parameter
    _, saved, _ = restore_params(tmp_path / "run")
    np.testing.assert_array_equal(saved["frames"]["head"]["frame"], frames)


def test_fewer_features_than_a_simplex_needs(tiny):
    """10 unit vectors in 4 dimensions: the best largest inner product is 1/6."""
    run = build(tiny(DR | {"model.hidden": (8, 4), "replicas.seeds": (0, 1)}))
    starts = jax.jit(jax.vmap(run.init))(run.info.seeds, run.info.hypers)
    for frame in frame_of(starts):
        gram = frame.T @ frame
        np.testing.assert_allclose(np.diag(gram), 1, atol=1e-6)
        assert np.max(gram - 2 * np.eye(10)) == pytest.approx(1 / 6, abs=1e-4)


def test_heads_of_the_factorial(train, tiny):
    random = SHORT | {"head.name": "etf", "head.frame": "random"}
    state = train(random).state
    frame = frame_of(state)[0]
    np.testing.assert_allclose(np.linalg.norm(frame, axis=0), 1, atol=1e-6)
    assert np.abs(frame.T @ frame - np.eye(10)).max() > 0.3  # no simplex

    learned = SHORT | {
        "head.name": "linear",
        "head.kernel_init": "etf",
        "head.batch_norm": True,
        "head.normalize": "l2",
        "head.use_bias": False,
    }
    run = build(tiny(learned))
    head = run.init(0, run.info.replicas[0]["hyper"]).params["head"]
    assert set(head) == {"kernel", "norm"}
    start = np.asarray(head["kernel"], float)
    np.testing.assert_allclose(start.T @ start, np.eye(10) * 10 / 9 - 1 / 9, atol=2e-6)
    end = np.asarray(train(learned).state.params["head"]["kernel"][0], float)
    assert np.abs(start - end).max() > 1e-2


def test_scale_of_a_frame_multiplies_logits_only(tiny):
    outputs = []
    for scale in (1.0, 10.0):
        run = build(tiny(SHORT | {"head.name": "etf", "head.scale": scale}))
        state = run.init(0, run.info.replicas[0]["hyper"])
        inputs = run.eval_sets[0].feed.arrays["inputs"][:7]
        outputs.append(run.predict(state, inputs))
    np.testing.assert_allclose(
        outputs[1]["logits"], 10 * np.asarray(outputs[0]["logits"]), rtol=1e-5
    )
    np.testing.assert_array_equal(outputs[1]["features"], outputs[0]["features"])
    norms = np.linalg.norm(outputs[0]["features"], axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


@pytest.mark.parametrize("mixup", [pytest.param(0.0, marks=pytest.mark.slow), 1.0])
def test_balance_inside_dot_regression_is_the_weight_outside(train, assert_same, mixup):
    """The released loss is the plain one with in-batch class weights (Yang 2022)."""
    changes = DR | {"method.mixup": mixup}
    inside = train(changes | {"loss.class_balance": "batch"})
    outside = train(changes | {"weights.name": "batch"})
    assert_same(inside.state.params, outside.state.params, rtol=1e-4, atol=1e-6)
    plain = train(changes)
    kernel = ("backbone", "dense1", "kernel")
    a, b = (r.state.params[kernel[0]][kernel[1]][kernel[2]] for r in (inside, plain))
    assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-4


def test_in_batch_weights_by_hand(tiny):
    """The objective of one step: classes present count the same, padding not at all."""
    changes = {"weights.name": "batch", "sampler.remainder": "pad"}
    run = build(tiny(SHORT | changes))
    state = run.init(0, run.info.replicas[0]["hyper"])
    indices, mask = run.plan(9)  # 159 examples in batches of 16: 15 in the last one
    assert mask.sum() == 15
    rows = run.feed.rows(indices[0], mask[0])
    batch = run.feed.batch(run.feed.arrays, rows, jax.random.key(0), train=True)
    (term,) = run.method.terms(state, batch, {}, program=run.program(9))
    labels = np.asarray(batch["label"])[mask[0]]
    counts = np.bincount(labels, minlength=10)
    weights = 15 / ((counts > 0).sum() * counts[labels])
    descent = np.asarray(term.descent)
    np.testing.assert_allclose(descent[mask[0]], weights / 15, rtol=1e-5)
    assert descent[~mask[0]] == 0
    for k in np.flatnonzero(counts):
        share = descent[mask[0]][labels == k].sum()
        assert share == pytest.approx(1 / (counts > 0).sum(), rel=1e-5)


def test_deferred_in_batch_weights(train, assert_same):
    late = train(SHORT | {"weights.name": "batch", "weights.start": "10 steps"})
    assert_same(late.state, train(SHORT).state)


def test_a_share_too_small_for_the_smallest_class(tiny):
    with pytest.raises(ConfigError, match="data.holdout: .*class 9 has 4 example"):
        build(tiny({"data.holdout": 0.2}))
