"""CoSSL: balanced mixed features, the teacher's targets, and who predicts when."""

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.methods.method import Program
from ltjax.methods.semi_supervised.class_queues import ClassQueues
from ltjax.methods.semi_supervised.cossl import balanced_features

B, M, K = 16, 2, 10


def test_rare_classes_are_mixed_more_often_and_keep_the_larger_share():
    """Features of class k are k + 1, the others are -1; class 3 has none yet."""
    size, counts = 4000, np.array([100, 50, 10, 5])
    features = np.repeat(np.arange(1.0, 5.0)[:, None], 8, axis=1)[..., None]
    features[0, 5:] = 77.0  # not written
    queues = ClassQueues(jnp.asarray(features, jnp.float32), jnp.array([5, 8, 99, 0]))
    mixed, classes, real = jax.device_get(
        balanced_features(
            jax.random.key(0), queues, -jnp.ones((6, 1)), counts, 0.6, size
        )
    )
    np.testing.assert_array_equal(real, classes < 3)
    deviation = np.sqrt(size * 0.25 * 0.75)
    assert np.abs(np.bincount(classes) - size / 4).max() < 4 * deviation
    for k in range(3):
        own = mixed[classes == k, 0]
        share = (own + 1) / (k + 2)  # own = share (k + 1) - (1 - share)
        assert share.min() >= 0.6 - 1e-6 and share.max() <= 1 + 1e-6
        rate = 1 - counts[k] / 100
        assert abs(np.mean(share < 1 - 1e-6) - rate) < 0.07
    assert np.all(mixed[classes == 0] == 1)  # the largest class is never mixed


def test_the_teacher_gives_the_targets_and_learns_from_features_alone(
    smoked, stream_batch, outputs_of, log_softmax
):
    run, state = smoked(
        *("semi_lt", "method=cossl"), "model.norm=none", "method.threshold=0.0"
    )
    batch = stream_batch(views=("weak", "strong"))
    program = Program(True)

    def go(state, batch):
        key = jax.random.key(0)
        kept, batch = run.method.prepare(state, batch, key=key, program=program)

        def total(params):
            losses, _ = run.method.loss(params, state, batch, key=key, program=program)
            return jnp.mean(losses["classifier"]), losses

        grad, losses = jax.grad(total, has_aux=True)(state.params)
        return kept, batch, losses, grad

    kept, new, losses, grad = jax.device_get(jax.jit(go)(state, batch))
    stream = new["unlabelled"]
    # Averaged and online parameters are the same at first.
    weak = outputs_of(run, state, stream["weak"])["branch"]
    np.testing.assert_array_equal(stream["target"].ravel(), weak.argmax(1))
    strong = log_softmax(outputs_of(run, state, stream["strong"])["logits"])
    agree = -strong[np.arange(B * M), weak.argmax(1)] * np.ravel(stream["mask"])
    want = agree.reshape(B, M).mean(1)
    np.testing.assert_allclose(losses["unlabelled"], want, rtol=1e-5)
    head = jax.device_get(state.params["head"]["branch"])
    z = log_softmax(new["features"].astype(np.float64) @ head["kernel"] + head["bias"])
    want = -z[np.arange(B), new["feature_label"]] * new["feature_mask"]
    np.testing.assert_allclose(losses["classifier"], want, rtol=1e-4, atol=1e-6)
    assert kept["queues"].written.sum() == B
    # Of the classifier's loss, only the classifier has a gradient.
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, x in jax.tree_util.tree_leaves_with_path(grad)
        if np.any(x)
    }
    assert moved == {"head/branch/bias", "head/branch/kernel"}


def test_the_teacher_predicts_once_it_has_learned(smoked, stream_batch):
    run, state = smoked("semi_lt", "method=cossl", "model.norm=none")
    assert [run.method.program(s) for s in range(6)] == [False] * 5 + [True]
    inputs = stream_batch()["inputs"]
    averages = state.ema["params"], state.ema["model_state"]
    outputs, _ = run.model.forward(*averages, inputs, train=False)
    for step, name in ((5, "logits"), (6, "branch")):
        now = state.replace(step=jnp.asarray(step, jnp.int32))
        np.testing.assert_array_equal(run.predict(now, inputs)["logits"], outputs[name])
