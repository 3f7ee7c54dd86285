"""CORR: agreement and exclusion summed over views, confidences of their mean logits."""

import numpy as np
import pytest

from ltjax.options import ConfigError

REAL = 14


@pytest.fixture(scope="module")
def stepped(smoked, candidate_batch, advance):
    """The first form with its three views; lambda has risen by half in the second."""
    changes = ("model.norm=none", "method.form=three_views", "method.ramp=2 steps")
    more = ("augment.num_strong=2", "method.consistency=0.8")
    run, state = smoked("partial_lt", "method=corr", *changes, *more)
    batch = candidate_batch("weak", "strong", "strong2")
    return run, batch, *advance(run, state, batch)


def views_of(run, state, batch, outputs_of):
    names = ("weak", "strong", "strong2")
    return [outputs_of(run, state, batch[name])["logits"] for name in names]


def log_softmax(z):
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_the_plain_view_alone_excludes_and_all_of_them_agree(stepped, outputs_of):
    run, batch, states, told = stepped
    possible = np.asarray(batch["candidates"])
    views = views_of(run, states[0], batch, outputs_of)
    log_p = log_softmax(views[0])
    excluded = -(np.log1p(-np.exp(log_p)) * ~possible).sum(1)[:REAL].mean()
    assert told[0]["loss"] == pytest.approx(excluded, rel=1e-5)  # lambda is 0

    lifted = np.exp(np.mean(views, axis=0)) * possible
    rows = lifted / lifted.sum(1, keepdims=True)
    table = np.asarray(states[1].method_state["confidence"])
    np.testing.assert_allclose(
        table[batch["index"][:REAL]], rows[:REAL], rtol=1e-5, atol=1e-6
    )
    views = [log_softmax(z) for z in views_of(run, states[1], batch, outputs_of)]
    log_rows = np.log(np.where(possible, rows, 1))
    agree = sum((rows * (log_rows - log_p)).sum(1) for log_p in views)
    excluded = -(np.log1p(-np.exp(views[0])) * ~possible).sum(1)
    want = (0.5 * 0.8 * agree + excluded)[:REAL].mean()
    assert told[1]["loss"] == pytest.approx(want, rel=1e-5)


def test_views_that_the_augmentation_does_not_make_are_refused(smoked):
    with pytest.raises(ConfigError, match="needs the view 'strong2'"):
        smoked("partial_lt", "method=corr", "method.form=three_views")
