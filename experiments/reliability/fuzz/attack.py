"""Thousands of examples of a property, counted."""

import collections
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from experiments.reliability.fuzz.contracts import MODULES
from experiments.reliability.processes import start

NAMES = (
    *(f"functions of {module}" for module in MODULES),
    *("every argument", "configs", "damaged files"),
)
SHOWN = 20  # unexplained outcomes that are printed
PATIENCE = 3600


class Property(NamedTuple):
    """Examples, and what is asked of each.

    Attributes:
        examples: makes the hypothesis strategy, or an iterator over all there are.
        check: outcome of an example; raises `Unexplained`.
        count: examples of the published 20,000.
    """

    examples: Callable[[], Any]
    check: Callable[[Any], str]
    count: int


def properties() -> Mapping[str, Property]:
    """Name -> property."""
    from experiments.reliability.fuzz import configs, files, functions

    # A call costs a compilation, mostly; a file costs nothing.
    shares = {"class_stats": 1500, "reduce": 1200, "losses": 400, "classifiers": 400}
    return {
        **{
            f"functions of {module}": Property(
                partial(functions.calls, module),
                functions.check,
                shares.get(module, 500),
            )
            for module in MODULES
        },
        "every argument": Property(functions.every_argument, functions.check, 12_000),
        "configs": Property(configs.numbers, configs.check, 400),
        "damaged files": Property(files.damages, files.check, 15_000),
    }


def run(name: str, count: int, seed: int) -> collections.Counter:
    """Outcome -> number of examples; what is unexplained is printed."""
    import hypothesis
    import jax

    from experiments.reliability.fuzz.outcomes import UNEXPLAINED, Unexplained

    jax.config.update("jax_disable_most_optimizations", True)  # programs run once
    asked, found = properties()[name], collections.Counter()

    def examine(example: Any) -> None:
        try:
            found[asked.check(example)] += 1
        except Unexplained as error:
            found[UNEXPLAINED] += 1
            if found[UNEXPLAINED] <= SHOWN:
                print(f"{UNEXPLAINED}: {error}", flush=True)

    examples = asked.examples()
    if isinstance(examples, Iterator):
        for example in itertools.islice(examples, count):
            examine(example)
        return found

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(examples)
    def examine_some(example: Any) -> None:
        examine(example)

    examine_some()
    return found


def _report(name: str, count: int, seed: int) -> None:
    logging.disable(logging.CRITICAL)
    print(json.dumps(run(name, count, seed)))


def torment(
    name: str, count: int, place: pathlib.Path, *, seed: int = 0
) -> dict[str, str]:
    """Makes examples of one property in a process of their own.

    A reader that ends its process, or asks for too much memory, ends that one.

    Args:
        name: of `properties()`.
        count: of examples; 0 for its share of the published ones.
        place: folder for what is printed.
        seed: of the examples.

    Returns:
        A row of the table.
    """
    from experiments.reliability.fuzz.outcomes import ANSWERED, REFUSED, UNEXPLAINED

    said = place / "fuzz.txt"
    count = count or properties()[name].count
    if code := start(partial(_report, name, count, seed), said).wait(PATIENCE):
        raise RuntimeError(f"{name}: exit code {code}\n{said.read_text()[-3000:]}")
    *unexplained, last = said.read_text().splitlines()
    print("\n".join(line for line in unexplained if line.startswith(UNEXPLAINED)))
    found = collections.Counter(json.loads(last))
    return {
        "attack": f"fuzzed: {name}",
        "attacks": str(sum(found.values())),
        "survived": str(found[ANSWERED] + found[REFUSED]),
        "remark": f"{found[ANSWERED]} answered, {found[REFUSED]} refused,"
        f" {found[UNEXPLAINED]} unexplained",
    }
