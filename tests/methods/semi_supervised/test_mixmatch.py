"""MixMatch and ReMixMatch: guesses, mixtures, every term, and quarter turns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.self_supervised.rotation import turned
from ltjax.methods.semi_supervised.mixing import mixture
from ltjax.options import ConfigError

B, M, K = 16, 2, 10
STEP = 2  # of 6: the weight has risen by a third


def once_of(run):
    """`once(state, batch, step=STEP, **hyper)`: (prepared batch, losses, weights)."""

    @jax.jit
    def go(state, batch):
        key = jax.random.key(7)
        kept, batch = run.method.prepare(state, batch, key=key, program=run.program(0))
        seen = state.replace(method_state=kept)
        losses, aux = run.method.loss(
            state.params, seen, batch, key=key, program=run.program(0)
        )
        (term,) = run.method.terms(seen, batch, aux, program=run.program(0))
        return batch, losses, term.descent

    def once(state, batch, step=STEP, **hyper):
        now = {f"method.{k}": jnp.asarray(v, jnp.float32) for k, v in hyper.items()}
        state = state.replace(
            step=jnp.asarray(step, jnp.int32), hyper={**state.hyper, **now}
        )
        return jax.device_get(go(state, batch))

    return once


def sharpen(p):
    return p**2 / (p**2).sum(-1, keepdims=True)


def softmax_of(log_softmax, outputs):
    return np.exp(log_softmax(outputs["logits"]))


def test_every_row_is_mixed_with_another_itself_weighing_more():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.dirichlet(np.ones(4), 12)
    mask = np.arange(12) % 4 > 0
    x[~mask] = np.nan
    mix = jax.device_get(
        mixture(jax.random.key(0), jnp.asarray(x), jnp.asarray(y), mask, alpha=0.75)
    )
    assert sorted(mix.partner) == list(range(12))
    assert mix.share.min() >= 0.5 and len(np.unique(mix.share)) > 6
    for i in np.flatnonzero(mask):
        j = mix.partner[i]
        if mask[j]:
            want = mix.share[i] * x[i] + (1 - mix.share[i]) * x[j]
        else:  # padding has no part in a mixture
            assert mix.share[i] == 1
            want = x[i]
        np.testing.assert_allclose(mix.inputs[i], want, rtol=1e-5)
        both = mix.share[i] * y[i] + (1 - mix.share[i]) * y[j]
        np.testing.assert_allclose(mix.targets[i], both, rtol=1e-5)
    same = mixture(
        *(jax.random.key(0), jnp.ones((5, 1)), jnp.ones((5, 2)), np.ones(5, bool)),
        alpha=0.75,
        per_row=False,
    )
    assert len(np.unique(same.share)) == 1


def test_mixmatch_minimizes_its_two_terms(
    smoked, stream_batch, outputs_of, log_softmax
):
    run, state = smoked("semi_lt", "method=mixmatch", "model.norm=none")
    batch, once = stream_batch(views=("weak", "weak2")), once_of(run)
    new, losses, weights = once(state, batch)
    stream, real = new["unlabelled"], np.ravel(batch["unlabelled"]["mask"])
    p = [
        softmax_of(log_softmax, outputs_of(run, state, stream[view]))
        for view in ("weak", "weak2")
    ]
    guess = stream["guess"].reshape(-1, K)
    np.testing.assert_allclose(guess, sharpen(np.mean(p, 0)), atol=1e-6)
    z = log_softmax(outputs_of(run, state, new["mixed_inputs"])["logits"])
    want = -(z * new["target_inputs"]).sum(1)
    np.testing.assert_allclose(losses["label"], want, rtol=1e-5)
    brier = []
    for view in ("weak", "weak2"):
        found = softmax_of(log_softmax, outputs_of(run, state, stream[f"mixed_{view}"]))
        target = stream[f"target_{view}"].reshape(-1, K)
        brier.append(((found - target) ** 2).mean(1) * real)
    want = np.mean(brier, 0).reshape(B, M).mean(1)
    np.testing.assert_allclose(losses["unlabelled"], want, rtol=1e-4)
    np.testing.assert_allclose(weights["label"], 1 / B, rtol=1e-6)
    np.testing.assert_allclose(weights["unlabelled"], 75 * STEP / 6 / B, rtol=1e-6)

    # Without sharpening (T = 1) and mixing (shares of Beta(0, 0) are 0 or 1): plain
    # cross-entropy, and consistency of each view with the mean of both.
    _, losses, _ = once(state, batch, temperature=1.0, alpha=1e-4)
    z = log_softmax(outputs_of(run, state, batch["inputs"])["logits"])
    want = -z[np.arange(B), np.asarray(batch["label"])]
    np.testing.assert_allclose(losses["label"], want, rtol=1e-4)
    away = ((p[0] - p[1]) ** 2).mean(1) / 4 * real
    want = away.reshape(B, M).mean(1)
    np.testing.assert_allclose(losses["unlabelled"], want, rtol=1e-3, atol=1e-7)


def test_remixmatch_minimizes_its_four_terms(
    smoked, stream_batch, outputs_of, log_softmax
):
    run, state = smoked("semi_lt", "method=remixmatch", "model.norm=none")
    batch, once = stream_batch(), once_of(run)
    new, losses, weights = once(state, batch)
    stream, real = new["unlabelled"], np.ravel(batch["unlabelled"]["mask"])
    p = softmax_of(log_softmax, outputs_of(run, state, stream["weak"]))
    # The buffer of mean guesses starts uniform and is read before the batch enters.
    prior = run.info.class_counts / run.info.class_counts.sum()
    ratio = (prior + 1e-6) / (1 / K + 1e-6)
    aligned = p * ratio / (p * ratio).sum(1, keepdims=True)
    guess = stream["guess"].reshape(-1, K)
    np.testing.assert_allclose(guess, sharpen(aligned), atol=1e-6)

    def entropy(view, target, name="logits"):
        z = log_softmax(outputs_of(run, state, stream[view])[name])
        return (-(z * target).sum(1) * real).reshape(B, M).mean(1)

    mixed = [
        entropy(f"mixed_{view}", stream[f"target_{view}"].reshape(-1, K))
        for view in ("weak", "strong", "strong2")
    ]
    np.testing.assert_allclose(losses["unlabelled"], np.mean(mixed, 0), rtol=1e-5)
    np.testing.assert_allclose(losses["anchor"], entropy("strong", guess), rtol=1e-5)
    turns = np.eye(4)[stream["turns"].ravel()]
    want = entropy("turned", turns, "branch")
    np.testing.assert_allclose(losses["rotation"], want, rtol=1e-5)
    rise = STEP / 6
    for name, weight in {
        "label": 1.0,
        "unlabelled": 1.5 * rise,
        "anchor": 0.5 * rise,
        "rotation": 0.5,
    }.items():
        np.testing.assert_allclose(weights[name], weight / B, rtol=1e-6)
    # In the first step r is 0: labels and turns alone.
    _, _, weights = once(state, batch, step=0)
    assert not weights["unlabelled"].any() and not weights["anchor"].any()
    np.testing.assert_allclose(weights["label"], 1 / B, rtol=1e-6)
    np.testing.assert_allclose(weights["rotation"], 0.5 / B, rtol=1e-6)


def test_turns_are_quarters_of_images_and_reflections_of_signals():
    images = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    found = turned(jnp.asarray(images), jnp.arange(4))
    want = np.stack([np.rot90(images[k], k) for k in range(4)])
    np.testing.assert_allclose(found, want, rtol=1e-6)
    signal = np.arange(3.0)[None, :, None].repeat(4, 0)
    found = turned(jnp.asarray(signal), jnp.arange(4))[..., 0]
    assert found.tolist() == [[0, 1, 2], [2, 1, 0], [0, -1, -2], [-2, -1, 0]]
    with pytest.raises(ValueError, match="expected square images"):
        turned(jnp.zeros((1, 2, 3, 1)), jnp.zeros(1, jnp.int32))


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ("mixmatch", ("augment_unlabelled.num_weak=1",), "needs the view 'weak2'"),
        ("remixmatch", ("pseudo_labels.name=align",), "aligns its guesses by itself"),
        (
            "remixmatch",
            ("augment_unlabelled.recipe=features",),
            "turns its inputs, but .* features",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(smoked, arguments, changes, message):
    with pytest.raises(ConfigError, match=message):
        smoked("semi_lt", f"method={arguments}", *changes)
