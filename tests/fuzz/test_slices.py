"""A few examples of every property; `make soak` makes thousands.

What an example once broke is tested where that is.
"""

import hypothesis
import pytest

from experiments.reliability.fuzz import configs, files, functions
from experiments.reliability.fuzz.contracts import MODULES


def thin(count):
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


SLOW = ("losses",)  # which compile the most


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in MODULES
    ],
)
def test_public_functions(module):
    @thin(10)
    @hypothesis.given(functions.calls(module))
    def examine(call):
        functions.check(call)

    examine()


def test_configs(devices):
    @thin(20)
    @hypothesis.given(configs.numbers())
    def examine(number):
        with devices(1):
            configs.check(number)

    examine()


@pytest.mark.parametrize("kind", files.KINDS)
def test_damaged_files(kind):
    @thin(10)
    @hypothesis.given(files.damages((kind,)))
    def examine(damage):
        files.check(damage)

    examine()
