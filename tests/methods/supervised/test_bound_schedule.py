"""The second phase that a pilot's bound asks for: by hand, on disk, and in a config."""

import json
import math

import numpy as np
import pytest

from ltjax.methods import presets
from ltjax.methods.supervised.bound_schedule import (
    apply_bound_schedule,
    choose_bound_schedule,
)
from ltjax.options import ConfigError
from ltjax.train.config import default_config

# Two classes with 9 and 1 examples, so pi = (.9, .1) and 9 = pi_1 / pi_2.
# With B = (0, a log 9) and Delta = log pi the softmax is that of (log .9, log .1 + a
# log 9): even for a = 1, (1/4, 3/4) for a = 3/2. beta-tilde is the same for both, so
# log(s_1 / s_2) = log(gap_1 / gap_2) + log(9) / 2, over log 9:
#   a = 1:   gaps (1/2, 1/2), nu = 1/2;   a = 3/2: gaps (3/4, 1/4), nu = 1/2 + 1/2 = 1.
LOWEST = np.array([[0.0, math.log(9)], [0.0, 1.5 * math.log(9)]])
HEAD = [8.0, 4.0, 2.0, 2.0, 2.0, 1.0]


@pytest.fixture
def pilot(tmp_path):
    """`pilot(start, head)`: a workdir, evaluated every 10 steps, of two replicas."""

    def write(start="60 steps", head=HEAD):
        workdir = tmp_path / "pilot"
        (workdir / "evaluation").mkdir(parents=True)
        config = {"weights": {"start": start}, "batch_size": 2}
        info = {"class_counts": [9, 1], "steps_per_epoch": 5, "total_steps": 100}
        (workdir / "config.json").write_text(json.dumps(config))
        (workdir / "run.json").write_text(json.dumps(info))
        for t, value in enumerate(head):
            # The replicas' mean is `value`; the tail's part must not matter.
            summand = np.array([[value - 0.5, 99.0 - t], [value + 0.5, 1.0]])
            np.savez(
                workdir / "evaluation" / f"train_{10 * (t + 1)}.npz",
                bound_summand=summand,
                bound_min_score=LOWEST,
            )
        return workdir

    return write


def test_the_switch_is_where_the_head_part_stops(pilot):
    found = choose_bound_schedule(pilot(), window=2)
    # 2, 2, 2: no progress over two evaluations, the fifth, at step 50.
    assert found.step == 50
    np.testing.assert_allclose(found.powers, [0.5, 1.0], rtol=1e-5)
    assert found.power == pytest.approx(0.75, rel=1e-5)


def test_a_config_takes_it(pilot):
    config = default_config()
    presets.apply_preset(config, "tla_adrw", late="80%")
    apply_bound_schedule(config, pilot(), window=2)
    assert (config.weights.start, config.weights.power) == ("50 steps", 0.75)
    presets.apply_preset(config, "ce_drw", late="80%")
    with pytest.raises(ConfigError, match="is 'class_balanced', expected 'inverse_p"):
        apply_bound_schedule(config, "anywhere")


def test_the_second_phase_of_the_pilot_is_not_looked_at(pilot):
    # At step 50 the late terms begin: the loss is another one there.
    with pytest.raises(ConfigError, match="still shrinking at step 40"):
        choose_bound_schedule(pilot(start="50 steps"), window=2)


def test_what_cannot_choose_says_why(pilot, tmp_path):
    with pytest.raises(ConfigError, match="does not hold a run"):
        choose_bound_schedule(tmp_path)
    workdir = pilot(start="30 steps")
    with pytest.raises(ConfigError, match=r"evaluated 2 time.* more than 5"):
        choose_bound_schedule(workdir)
    for file in (workdir / "evaluation").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="config.evaluators = .*'bound'"):
        choose_bound_schedule(workdir)


@pytest.mark.slow
def test_a_real_pilot(train, tmp_path):
    changes = {
        "total": "24 steps",
        "eval_every": "2 steps",
        "evaluators": {"classification": {}, "bound": {}},
        "loss.name": "tla_adrw",
        "weights.name": "inverse_power",
        "weights.start": "20 steps",
    }
    train(changes, workdir=tmp_path / "run")
    # With so large a tolerance the first window is a stop.
    found = choose_bound_schedule(tmp_path / "run", window=3, tolerance=0.999)
    assert found.step == 8
    assert 0 <= found.power <= 1
