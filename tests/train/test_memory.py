"""A loss that keeps something between steps: CVS in the engine."""

import shutil

import numpy as np
import pytest

from ltjax.options import ConfigError

# 9 steps an epoch of 16 of 159 examples; phase 2 from the third epoch on.
CVS = {
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
COUNTS = np.array([40, 30, 23, 18, 14, 11, 8, 6, 5, 4])


@pytest.fixture(scope="module")
def finished(train):
    return train(CVS)


def test_the_memory_is_part_of_the_state(finished):
    memory = finished.state.method_state
    bank = memory["cvs"]
    np.testing.assert_array_equal(bank.written.sum(axis=1), [27 * 16] * 2)
    np.testing.assert_array_equal(bank.capacity, [COUNTS] * 2)
    kappa = np.asarray(bank.kappa)  # [R, phases, K]
    # Moved after epochs 1 and 2, and after 3: never by more than a tenth a time.
    assert np.any(kappa[:, 0] != 1) and np.any(kappa[:, 1] != 1)
    assert np.all(kappa <= 1 + 0.19 + 1e-6) and np.all(kappa >= 1 - 0.095 - 1e-6)
    np.testing.assert_array_equal(memory["kappa"], kappa[:, 1])
    assert finished.traces["step"] == 1  # epochs and phases are traced, not compiled


def test_it_survives_an_interruption(finished, train, tmp_path, assert_same):
    workdir = tmp_path / "run"
    stopped = CVS | {"checkpoint_every": "8 steps"}
    train(stopped, workdir=workdir)
    for step in ("27", "24"):
        shutil.rmtree(workdir / "checkpoints" / step)
    again = train(stopped, workdir=workdir)
    assert again.start_step == 16
    assert_same(again.state, finished.state)


def test_faults_of_its_section(tiny):
    with pytest.raises(ConfigError, match="mixup is 1.0, but loss 'cvs' is calibrated"):
        tiny(CVS | {"method.mixup": 1.0})
    with pytest.raises(ConfigError, match="kappa_low is 3.0 and kappa_high 2.0"):
        tiny(CVS | {"loss.kappa_low": 3.0})
