"""Methods beyond the supervised one, as their shipped configs make them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.config_file import load_config
from ltjax.train.build import build
from ltjax.train.check import check

REAL = 13  # rows of a batch of pairs; the last three are padding
CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="session")
def smoked():
    """`smoked("semi_lt", "method=fixmatch", *changes) -> (run, first state)`."""

    def make(file, arguments, *changes):
        spec = f"{CONFIGS / file}.py:{arguments},smoke"
        config = load_config(
            ["--config", spec, *(f"--config.{change}" for change in changes)]
        )
        run = build(check(config))
        return run, run.init(0, run.info.replicas[0]["hyper"])

    return make


@pytest.fixture(scope="session")
def pair_batch():
    """16 pairs of signals, the last three of them padding."""
    views = 2 * jax.random.normal(jax.random.key(2), (2, 16, 40, 1))
    return {
        "view1": views[0],
        "view2": views[1],
        "mask": jnp.arange(16) < REAL,
        "label": jnp.arange(16, dtype=jnp.int32) % 3,
        "index": jnp.arange(16, dtype=jnp.int32) * 7,
    }


@pytest.fixture(scope="session")
def unit_outputs():
    """`unit_outputs(run, params, model_state, batch)`: unit rows of the real rows.

    Output -> [2, 13, P] float64 of the two views, each by a pass in training mode of
    its own.
    """

    def unit(run, params, model_state, batch):
        found = {}
        for view in ("view1", "view2"):
            outputs, model_state = run.model.forward(
                params, model_state, batch[view], train=True
            )
            for name, x in outputs.items():
                x = np.asarray(x, np.float64)[:REAL]
                x /= np.linalg.norm(x, axis=1, keepdims=True)
                found.setdefault(name, []).append(x)
        return {name: np.stack(pair) for name, pair in found.items()}

    return unit
