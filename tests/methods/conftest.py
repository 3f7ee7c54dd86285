"""Methods beyond the supervised one, as their shipped configs make them."""

import pathlib

import pytest

from ltjax.config_file import load_config
from ltjax.train.build import build
from ltjax.train.check import check

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
