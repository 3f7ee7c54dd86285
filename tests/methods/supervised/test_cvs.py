"""CVS: both phases from the definition, and the memory of a run."""

import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.methods.supervised.cvs import cvs_parameters, remembered

COUNTS = np.array([100, 20, 5])
LOGITS = jnp.array([[1.0, 0.5, -0.2], [0.3, -0.1, 0.8]])
LABELS = jnp.array([2, 0])


def loss_of(parameters):
    return losses.affine_softmax(LOGITS, LABELS, **parameters._asdict())


def test_phase_one_without_gamma_is_cross_entropy():
    parameters = cvs_parameters(jnp.ones(3), COUNTS, phase=0, gamma=0.0)
    np.testing.assert_allclose(
        loss_of(parameters), [1.845911365, 1.199675981], rtol=1e-6
    )


def test_phase_two_without_kappa_and_nu_is_logit_adjustment():
    parameters = cvs_parameters(jnp.ones(3), COUNTS, phase=1, tau=1.0, nu=0.0)
    assert float(loss_of(parameters)[0]) == pytest.approx(4.323567586, rel=1e-6)


def test_phases_from_the_definition():
    kappa = np.array([0.5, 1.2, 2.0])
    prior = COUNTS / COUNTS.sum()
    for phase in (0, 1):
        make = jax.jit(lambda phase: cvs_parameters(kappa, COUNTS, phase=phase))
        parameters = make(phase)
        if phase == 0:
            expected = (np.ones(3), prior**0.15 / kappa, np.zeros(3))
        else:
            weight = prior**-0.15
            expected = (
                3 * weight / weight.sum(),
                np.ones(3),
                0.9 * np.log(prior / kappa),
            )
        for got, want in zip(parameters, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cvs_parameters(jnp.ones(2), COUNTS, phase=0), "kappa has shape"),
        (lambda: cvs_parameters(jnp.ones(3), COUNTS, phase=3), "phase is 3"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_run_remembers_epoch_by_epoch():
    """Two classes, two steps an epoch, one of warm-up, phase 2 from step 4."""
    init, update = remembered(
        [40, 40], steps_per_epoch=2, late_step=4, warmup_steps=2, low=0.1, high=9.0
    )
    memory = init(None, None, None)
    labels = jnp.array([0] * 20 + [1] * 20)
    batch = {"label": labels, "mask": jnp.ones(40, bool)}
    # Everything is predicted class 0, at two confidences; half of each is right. So
    # the slope of class 0 is (.5 * .6 + .5 * .8) / (.36 + .64) = .7, of class 1 none.
    high = jnp.where(jnp.arange(40) % 2 == 0, 0.6, 0.8)
    logits = jnp.stack([jnp.log(high / (1 - high)), jnp.zeros(40)], axis=1)
    aux = {"outputs": {"logits": logits}}
    fitted = 1 / (0.7 + 1e-6)
    once, twice = 0.9 + 0.1 * fitted, 0.9 * (0.9 + 0.1 * fitted) + 0.1 * fitted
    in_force = {1: 1.0, 2: once, 3: once, 4: 1.0, 5: 1.0, 6: once}
    step = jax.jit(lambda memory, at: update(memory, State(at), batch, aux))
    for done, expected in in_force.items():
        memory = step(memory, jnp.int32(done))
        np.testing.assert_allclose(memory["kappa"], [expected, 1.0], rtol=1e-5)
    np.testing.assert_allclose(
        memory["cvs"].kappa, [[twice, 1.0], [once, 1.0]], rtol=1e-5
    )


class State(NamedTuple):
    step: jax.Array


# ------------------------------------------------------------------- in a run

# 9 steps an epoch of 16 of 159 examples; phase 2 from the third epoch on.
RUN = {
    "total": "27 steps",
    "eval_every": "0 steps",
    "replicas.seeds": (0, 1),
    "loss.name": "cvs",
    "loss.gamma": 0.15,
    "loss.tau": 0.9,
    "loss.kappa_warmup": "1 epochs",
    "weights.name": "inverse_power",
    "weights.power": 0.15,
    "weights.start": "2 epochs",
}


@pytest.fixture(scope="module")
def finished(train):
    return train(RUN)


def test_the_memory_is_part_of_the_state(finished):
    memory = finished.state.method_state["loss"]
    bank = memory["cvs"]
    np.testing.assert_array_equal(bank.written.sum(axis=1), [27 * 16] * 2)
    np.testing.assert_array_equal(
        bank.capacity, [[40, 30, 23, 18, 14, 11, 8, 6, 5, 4]] * 2
    )
    kappa = np.asarray(bank.kappa)  # [R, phases, K]
    # Moved after epochs 1 and 2, and after 3: never by more than a tenth a time.
    assert np.any(kappa[:, 0] != 1) and np.any(kappa[:, 1] != 1)
    assert np.all(kappa <= 1 + 0.19 + 1e-6) and np.all(kappa >= 1 - 0.095 - 1e-6)
    np.testing.assert_array_equal(memory["kappa"], kappa[:, 1])
    assert finished.traces["step"] == 1  # epochs and phases are traced, not compiled


@pytest.mark.slow
def test_it_survives_an_interruption(finished, train, tmp_path, assert_same):
    workdir = tmp_path / "run"
    stopped = RUN | {"checkpoint_every": "8 steps"}
    train(stopped, workdir=workdir)
    for step in ("27", "24"):
        shutil.rmtree(workdir / "checkpoints" / step)
    again = train(stopped, workdir=workdir)
    assert again.start_step == 16
    assert_same(again.state, finished.state)
