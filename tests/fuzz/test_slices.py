"""A few examples of every property; `make soak` makes thousands.

What an example once broke is tested where that is.
"""

import hypothesis
import pytest

from experiments.reliability.fuzz import configs, files, functions
from experiments.reliability.fuzz.arguments import POOL, valid_call
from experiments.reliability.fuzz.contracts import MODULES, contracts
from experiments.reliability.fuzz.damage import is_array
from experiments.reliability.fuzz.outcomes import Unexplained


def thin(count):
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


SLOW = ("losses", "pseudo_labels")  # which compile the most


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


@pytest.mark.parametrize("thing", ["a word", "ragged"])
def test_what_is_no_array_is_named(thing):
    """In the place of every array of every public function."""
    wrong = []
    for contract in contracts().values():
        given = valid_call(contract, POOL[0], 0)
        for name in (name for name, value in given.items() if is_array(value)):
            call = functions.Call(
                contract.name, POOL[0], 0, {}, (name, thing, 0), "order"
            )
            try:
                functions.check(call)
            except Unexplained as error:
                wrong.append(str(error))
    assert not wrong, "\n".join(wrong)


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
