"""Co-teaching: each network's mean over the rows that the other one selects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.peers import with_peers
from ltjax.options import ConfigError

REAL = 14
CONFIG = ("noisy_lt", "method=coteaching,rate=0.5")


@pytest.fixture(scope="module")
def made(smoked):
    changes = ("model.norm=none", "method.ramp=2", "total=40 steps")
    run, state = smoked(*CONFIG, *changes)
    return run, state, jax.jit(run.step)


def costs(run, state, batch, cost_of):
    """Of the two networks: the peer's parameters are those of a plain one."""
    peer = state.replace(params=state.params["peer"])
    plain = with_peers(run.model, ())["main"]
    return [cost_of(plain, s, batch)[:REAL] for s in (state, peer)]


def test_in_the_first_epoch_both_learn_from_all_rows(made, noisy_batch, cost_of):
    run, state, step = made
    _, metrics = step(state, noisy_batch)
    a, b = costs(run, state, noisy_batch, cost_of)
    assert abs(a.mean() - b.mean()) > 1e-3  # they start apart
    assert metrics["loss"][0] == pytest.approx(a.mean() + b.mean(), rel=1e-5)
    assert [float(x) for x in metrics["kept"]] == [REAL, REAL]


def test_then_each_learns_from_what_the_other_selects(made, noisy_batch, cost_of):
    run, state, step = made
    state = state.replace(step=state.step + run.info.steps_per_epoch)  # R = 0.5
    new, metrics = step(state, noisy_batch)
    a, b = costs(run, state, noisy_batch, cost_of)
    of_a, of_b = np.argsort(a)[:7], np.argsort(b)[:7]
    want = a[of_b].mean() + b[of_a].mean()
    assert metrics["loss"][0] == pytest.approx(want, rel=1e-5)
    right = np.asarray(noisy_batch["label"] == noisy_batch["truth"])
    got = {name: float(s) / float(n) for name, (s, n) in metrics.items() if n}
    assert got["kept"] == 0.5
    assert got["kept_precision"] == pytest.approx(right[of_b].mean())
    assert got["kept_recall"] == pytest.approx(right[of_b].sum() / right[:REAL].sum())
    for network in (("head",), ("peer", "head")):
        before, after = state.params, new.params
        for name in network:
            before, after = before[name], after[name]
        assert jnp.any(before["kernel"] != after["kernel"])

    # Networks change places, and nothing else does.
    params = dict(state.params)
    main = params.pop("peer")
    swapped = state.replace(params={**main, "peer": params})
    _, other = step(swapped, noisy_batch)
    assert other["loss"][0] == pytest.approx(want, rel=1e-5)


def test_micro_batches_would_select_among_themselves(smoked):
    with pytest.raises(ConfigError, match="'coteaching' couples the rows"):
        smoked(*CONFIG, "optimizer.accumulate=2")
