"""DARP: the refined table solves its problem, and the steps learn from its rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.options import ConfigError

B, M, K = 16, 2, 10
CONFIG = ("semi_lt", "method=darp")
CHANGES = (
    "model.norm=none",
    "pseudo_labels.start=2 steps",
    "pseudo_labels.every=3 steps",
    "method.threshold=0.4",
)


@pytest.fixture(scope="module")
def made(smoked):
    return smoked(*CONFIG, *CHANGES)


def batch_of(size):
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "inputs": 2 * jax.random.normal(keys[0], (B, 40, 1)),
        "label": jnp.arange(B, dtype=jnp.int32) % K,
        "mask": jnp.ones(B, bool),
        "unlabelled": {
            "weak": 3 * jax.random.normal(keys[1], (B, M, 40, 1)),
            "strong": 3 * jax.random.normal(keys[2], (B, M, 40, 1)),
            "mask": jnp.arange(B * M).reshape(B, M) % 8 > 0,
            "index": jnp.asarray(np.arange(B * M).reshape(B, M) * 2 % size, jnp.int32),
        },
    }


def tables_of(run, size, seed=0):
    """A method state whose table of guesses is random, rows of padding apart."""
    rows = np.random.default_rng(seed).dirichlet(np.full(K, 0.5), size)
    kept = jax.device_get(run.method.init(jax.random.key(0), None, None))
    kept["latest"] = np.array(kept["latest"])
    kept["latest"][:size] = rows
    return kept


def test_refreshes_begin_with_the_start_and_follow_each_other(made):
    (refresh,) = made[0].method.refreshes
    assert [s for s in range(12) if refresh.due(s)] == [2, 5, 8, 11]
    assert refresh.gather is None  # the guesses of the steps are what is refined


def test_the_refined_table_has_the_masses_and_the_form_of_the_optimum(smoked):
    """y = y^ alpha beta^(1/w) for rows alpha and columns beta, sums as asked for."""
    # A ratio of all examples to the smallest mass: the filter keeps everything.
    run, _ = smoked(*CONFIG, *CHANGES, "pseudo_labels.keep_ratio=1e6")
    size = run.companions[0].size
    kept = tables_of(run, size)
    new = run.method.refreshes[0].fn(kept, None, step=2)
    refined = np.asarray(new["refined"][:size], np.float64)
    counts = run.info.class_counts
    np.testing.assert_allclose(new["mass"], counts * (size / counts.sum()))
    np.testing.assert_allclose(refined.sum(0), new["mass"], rtol=1e-5)
    np.testing.assert_allclose(refined.sum(1), 1, rtol=1e-6)
    # The filter scales every column; that is part of beta only where weights agree,
    # so that it is undone first.
    guesses = np.asarray(kept["latest"][:size], np.float64)
    seen = guesses * new["mass"] / guesses.sum(0) + 1e-6
    seen /= seen.sum(1, keepdims=True)
    weights = -1 / (seen * np.log(seen + 1e-6)).sum(1)
    ratio = weights[:, None] * np.log(refined / seen)
    potentials = ratio - ratio[:, :1]  # log beta_k - log beta_0 in every row
    assert np.ptp(potentials, axis=0).max() < 2e-4 * np.abs(potentials).max()
    assert not np.array_equal(new["refined"][:size], kept["refined"][:size])


def test_warm_refinements_go_on_where_the_last_one_stopped(smoked):
    """Three passes and three more are six; a cold start repeats the first three."""
    coordinate = (*CHANGES, "pseudo_labels.solver=coordinate")

    def refined(passes, times, *changes):
        passed = f"pseudo_labels.passes={passes}"
        run, _ = smoked(*CONFIG, *coordinate, passed, *changes)
        kept = tables_of(run, run.companions[0].size)
        for _ in range(times):
            kept = run.method.refreshes[0].fn(kept, None, step=2)
        return kept["refined"]

    twice = refined(3, 2, "pseudo_labels.warm=true")
    np.testing.assert_allclose(twice, refined(6, 1), atol=1e-6)
    assert np.abs(twice - refined(3, 2)).max() > 1e-3


def test_soft_masses_are_met_by_halves(smoked):
    """s_k = c_k exp(nu_k / lambda): between the guesses' sums and the masses."""
    run, _ = smoked(
        *(*CONFIG, *CHANGES, "pseudo_labels.keep_ratio=1e6"),
        *("pseudo_labels.penalty=5.0", "pseudo_labels.warm=true"),
    )
    size = run.companions[0].size
    new = run.method.refreshes[0].fn(tables_of(run, size), None, step=2)
    sums = np.asarray(new["refined"][:size], np.float64).sum(0)
    want = new["mass"] * np.exp(new["potentials"] / 5.0)
    np.testing.assert_allclose(sums, want, rtol=1e-4)
    assert np.abs(sums - new["mass"]).max() > 0.1


def test_masses_are_estimated_or_given(smoked):
    given = tuple(range(1, K + 1))
    run, _ = smoked(
        *CONFIG, *CHANGES, "pseudo_labels.masses=given", f"pseudo_labels.counts={given}"
    )
    size = run.companions[0].size
    new = run.method.refreshes[0].fn(tables_of(run, size), None, step=2)
    np.testing.assert_allclose(new["mass"], np.array(given) * size / sum(given))
    run, _ = smoked(*CONFIG, *CHANGES, "pseudo_labels.masses=em")
    kept = tables_of(run, size)
    mass = run.method.refreshes[0].fn(kept, None, step=2)["mass"] / size
    # A fixed point of the mean posterior under the new prior.
    joint = kept["latest"][:size] * (mass / run.info.class_counts)
    mean = (joint / joint.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(mean, mass, atol=1e-5)


def test_a_step_writes_guesses_and_learns_from_refined_rows(made):
    run, state = made
    size = run.companions[0].size
    batch = batch_of(size)
    stream = batch["unlabelled"]
    step = jax.jit(run.step)
    kept = jax.tree.map(jnp.asarray, tables_of(run, size))
    hot = jax.nn.one_hot(jnp.arange(len(kept["refined"])) % K, K)
    kept = {**kept, "refined": hot}
    state = state.replace(method_state=kept)
    early, metrics = step(state, batch)
    outputs, _ = run.model.forward(
        state.params, state.model_state, stream["weak"].reshape(-1, 40, 1), train=True
    )
    z = np.asarray(outputs["logits"], np.float64)
    guesses = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    real = np.ravel(stream["mask"])
    places = np.ravel(stream["index"])[real]
    latest = np.asarray(early.method_state["latest"])
    np.testing.assert_allclose(latest[places], guesses[real], atol=1e-6)
    others = np.setdiff1d(np.arange(len(latest)), places)  # padding wrote nothing
    np.testing.assert_array_equal(latest[others], kept["latest"][others])
    assert metrics["mask_rate"][0] == ((guesses.max(1) >= 0.4) & real).sum()
    late, metrics = step(state.replace(step=jnp.asarray(2, jnp.int32)), batch)
    assert metrics["mask_rate"][0] == real.sum()  # one-hot rows are certain
    counts = np.asarray(kept["mass"], np.float64)
    truth = run.sources["unlabelled"].columns["truth"]
    true = np.bincount(truth, minlength=K) / size
    want = 0.5 * np.abs(counts / counts.sum() - true).sum()
    assert float(metrics["prior_distance"][0]) == pytest.approx(want, rel=1e-5)


def test_masses_follow_from_the_confusion_on_held_out_examples(smoked):
    """C c = v, for guesses that confuse two classes with each other."""
    run, _ = smoked(
        *CONFIG, *CHANGES, "pseudo_labels.masses=shift", "data.holdout=0.25"
    )
    confuse, refine = run.method.refreshes
    assert confuse.pool == "val" and confuse.due(2) and refine.due(2)
    size, mix = run.companions[0].size, np.eye(K)
    mix[:2, :2] = [[0.8, 0.3], [0.2, 0.7]]
    truth = np.arange(size) % K
    kept = tables_of(run, size)
    kept["latest"][:size] = mix[:, truth].T
    seen = {"guess": mix[:, np.arange(40) % K].T, "label": np.arange(40) % K}
    kept = confuse.fn(kept, seen, step=2)
    new = refine.fn(kept, None, step=2)
    np.testing.assert_allclose(new["mass"], np.bincount(truth), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("pseudo_labels.masses=shift",), "masses is 'shift'.*data.holdout > 0"),
        (("pseudo_labels.masses=given",), "masses is 'given' and counts"),
        (
            ("pseudo_labels.masses=given", "pseudo_labels.counts=(1.0,2.0)"),
            "pseudo_labels.counts is .*expected 10 numbers, one for each class",
        ),
        (("method.guess=joint",), "expected 'separate' with pseudo_labels 'darp'"),
        (("method.name=supervised", "unlabelled.name=none"), "guesses no labels"),
    ],
)
def test_configs_that_do_not_fit_are_refused(smoked, changes, message):
    with pytest.raises(ConfigError, match=message):
        smoked(*CONFIG, *changes)
