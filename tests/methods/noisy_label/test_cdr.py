"""CDR: a step along the gradient of the critical weights, and of no other ones."""

import jax
import numpy as np

CHANGES = (
    "model.norm=none",
    "total=40 steps",
    "schedule.name=constant",
    "schedule.warmup=0 steps",
    "optimizer.weight_decay=0.0",
    "optimizer.lr=1.0",
)


def test_the_step_of_the_critical_weights_is_shortened_and_others_stay(
    smoked, noisy_batch
):
    run, state = smoked("noisy_lt", "method=cdr", *CHANGES)
    step = jax.jit(run.step)

    def moved(rate):
        hyper = {**state.hyper, "method.noise_rate": jax.numpy.float32(rate)}
        new, _ = step(state.replace(hyper=hyper), noisy_batch)
        pairs = jax.tree.map(lambda a, b: np.asarray(a - b), state.params, new.params)
        return jax.tree.leaves(pairs)

    plain, split = moved(0.0), moved(0.4)
    weights = [np.asarray(w) for w in jax.tree.leaves(state.params)]
    kernels = [i for i, w in enumerate(weights) if w.ndim > 1]
    assert len(kernels) < len(weights)
    scores = np.concatenate([np.abs(plain[i] * weights[i]).ravel() for i in kernels])
    limit = np.sort(scores)[scores.size - int(0.6 * scores.size + 1e-6)]
    for i, (g, got) in enumerate(zip(plain, split, strict=True)):
        if i not in kernels:
            np.testing.assert_allclose(got, g, rtol=1e-5, atol=1e-7)
            continue
        score = np.abs(g * weights[i])
        clear = np.abs(score - limit) > 1e-3 * limit + 1e-7  # g is a difference
        want = np.where(score > limit, 0.6 * g, 0)
        np.testing.assert_allclose(got[clear], want[clear], rtol=1e-3, atol=1e-6)
    assert 0.55 < np.mean(np.concatenate([split[i].ravel() for i in kernels]) != 0)
