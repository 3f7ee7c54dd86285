"""Late fusion and joint training: their losses, and what each predicts."""

import jax
import numpy as np
import pytest


@pytest.mark.parametrize("method", ["late", "joint"])
def test_a_loss_for_each_modality_or_one_of_their_sum(
    smoked, digit_batch, modality_logits, softmax, method
):
    run, state = smoked("multimodal_digits", f"method={method}", "model.norm=none")
    z, y = modality_logits(run, state, digit_batch), np.asarray(digit_batch["label"])
    rows, y = np.arange(len(z)), y[: len(z)]
    parts = [z[:, 0], z[:, 1]] if method == "late" else [z.sum(1)]
    want = sum(-np.log(softmax(one)[rows, y]).mean() for one in parts)
    _, metrics = jax.jit(run.step)(state, digit_batch)
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-5)
    found = run.method.predict(state, digit_batch["inputs"])["logits"][: len(z)]
    fused = z.mean(1) if method == "late" else z.sum(1)
    np.testing.assert_allclose(found, fused, rtol=1e-4, atol=1e-5)
    classifiers = [k for k in state.params["head"] if k.startswith("classifier")]
    assert len(classifiers) == (2 if method == "late" else 1)
