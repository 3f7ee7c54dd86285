"""FixMatch: its two terms in float64, its metrics, padding, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError

B, M, K = 16, 2, 10
CONFIG = ("semi_lt", "method=fixmatch")
# Untrained networks are not confident; this threshold parts the guesses in two.
CHANGES = ("method.threshold=0.4", "method.lambda_u=0.7")


def batch_of(seed=0):
    """Random signals; the guesses of a third of the stream are not to count."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "inputs": 2 * jax.random.normal(keys[0], (B, 40, 1)),
        "label": jnp.arange(B, dtype=jnp.int32) % K,
        "mask": jnp.ones(B, bool),
        "unlabelled": {
            "weak": 3 * jax.random.normal(keys[1], (B, M, 40, 1)),
            "strong": 3 * jax.random.normal(keys[2], (B, M, 40, 1)),
            "mask": jnp.arange(B * M).reshape(B, M) % 3 > 0,
            "truth": jax.random.randint(keys[3], (B, M), 0, K),
        },
    }


@pytest.fixture(scope="module")
def stepped(smoked):
    """guess -> (run, state, compiled step), without batch normalization."""

    def go(guess):
        changes = (*CHANGES, "model.norm=none", f"method.guess={guess}")
        run, state = smoked(*CONFIG, *changes)
        return run, state, jax.jit(run.step)

    return {guess: go(guess) for guess in ("separate", "joint")}


def logits_of(run, state, inputs):
    flat = inputs.reshape(-1, 40, 1)
    outputs, _ = run.model.forward(state.params, state.model_state, flat, train=True)
    return np.asarray(outputs["logits"], np.float64)


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("guess", ["separate", "joint"])
def test_a_step_minimizes_the_published_objective(stepped, guess):
    run, state, step = stepped[guess]
    batch = batch_of()
    metrics = step(state, batch)[1]
    stream = batch["unlabelled"]
    rows = log_softmax(logits_of(run, state, batch["inputs"]))
    labelled = -rows[np.arange(B), batch["label"]].mean()
    weak = np.exp(log_softmax(logits_of(run, state, stream["weak"])))
    strong = log_softmax(logits_of(run, state, stream["strong"]))
    target = weak.argmax(1)
    counts = (weak.max(1) >= 0.4) & np.ravel(stream["mask"])
    assert 3 < counts.sum() < B * M - 12  # the threshold parts them
    agree = -strong[np.arange(B * M), target] * counts
    want = labelled + 0.7 * agree.mean()  # over all B m rows, as published
    np.testing.assert_allclose(metrics["loss"][0], want, rtol=1e-5)
    assert metrics["mask_rate"][0] == counts.sum()
    right = (target == np.ravel(stream["truth"])) & counts
    got = tuple(map(int, metrics["pseudo_accuracy"]))
    assert got == (right.sum(), counts.sum())
    real = np.ravel(stream["mask"])
    groups = {name: g for name, g in run.info.groups.items() if g.any()}
    assert len(groups) > 1
    for name, members in groups.items():
        said, true = members[target], members[np.ravel(stream["truth"])]
        for metric, of, among in (("precision", said, counts), ("recall", true, real)):
            got = tuple(map(int, metrics[f"pseudo_{metric}_{name}"]))
            assert got == ((right & of).sum(), (among & of).sum())


@pytest.mark.parametrize("guess", ["separate", "joint"])
def test_a_threshold_that_nothing_reaches_leaves_the_labels(stepped, guess):
    """tau > 1: no loss and no gradient of the stream, as with lambda_u = 0."""
    _, state, step = stepped[guess]
    after = []
    for name, value in (("threshold", 1.5), ("lambda_u", 0.0)):
        value = jnp.asarray(value, jnp.float32)
        hyper = {**state.hyper, f"method.{name}": value}
        new, metrics = step(state.replace(hyper=hyper), batch_of())
        after.append((new.params, metrics["loss"][0]))
        assert (metrics["mask_rate"][0] == 0) == (name == "threshold")
    for one, other in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_no_gradient_reaches_the_network_through_a_guess(smoked):
    """Without labelled weight the gradient is that of the strong views alone."""
    run, state = smoked(*CONFIG, *CHANGES, "model.norm=none", "method.guess=joint")
    batch = batch_of()

    def total(params, weak):
        stream = {**batch["unlabelled"], "weak": weak}
        losses, _ = run.method.loss(
            params,
            state,
            {**batch, "unlabelled": stream},
            key=jax.random.key(0),
            program=None,
        )
        return jnp.sum(losses["unlabelled"])

    at_weak = jax.jit(jax.grad(total, argnums=1))(
        state.params, batch["unlabelled"]["weak"]
    )
    assert not np.any(at_weak)


@pytest.mark.parametrize(
    "guess", ["separate", pytest.param("joint", marks=pytest.mark.slow)]
)
def test_padding_has_no_part_in_the_batch_statistics(smoked, guess):
    run, state = smoked(
        *CONFIG, *CHANGES, "sampler.remainder=pad", f"method.guess={guess}"
    )
    batch = batch_of()
    batch["mask"] = jnp.arange(B) < 11
    other = {**batch, "unlabelled": dict(batch["unlabelled"])}
    other["inputs"] = jnp.where(batch["mask"][:, None, None], batch["inputs"], 50.0)
    real = batch["unlabelled"]["mask"][..., None, None]
    for name in ("weak", "strong"):
        view = other["unlabelled"][name]
        other["unlabelled"][name] = jnp.where(real, view, -50.0)
    step = jax.jit(run.step)
    (one, of_one), (two, of_two) = step(state, batch), step(state, other)
    assert float(of_one["loss"][0]) == pytest.approx(float(of_two["loss"][0]))
    for a, b in zip(
        jax.tree.leaves((one.params, one.model_state)),
        jax.tree.leaves((two.params, two.model_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("method.guess=joint", "optimizer.accumulate=2"),
            "method.guess is 'joint'.*expected 'separate' with micro-batches",
        ),
        (("augment_unlabelled.name=none",), "needs the view 'weak'"),
    ],
)
def test_configs_that_do_not_fit_are_refused(smoked, changes, message):
    with pytest.raises(ConfigError, match=message):
        smoked(*CONFIG, *changes)
