"""Single flipped bits in the files of a finished run, and who notices.

A flip is noticed if whoever reads the file refuses it, or says that it was set aside
for an older one; harmless if what is read is the same to the last bit. Anything else
is silent.
"""

import json
import logging
import pathlib
import random
import warnings
from collections.abc import Callable
from functools import partial

from experiments.reliability.kills import SUBJECTS, arguments
from experiments.reliability.processes import leaves_of, ltjax, start


def _arrays(run: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in (run / "checkpoints").rglob("d/*") if path.is_file()]


def _metadata(run: pathlib.Path) -> list[pathlib.Path]:
    found = [path for path in (run / "checkpoints").rglob("*") if path.is_file()]
    return sorted(set(found) - set(_arrays(run)))


class Record(dict):
    """A line of metrics, equal to one that says more: a seal whose name was hit."""

    def __eq__(self, other):
        return self.items() <= other.items() or other.items() <= self.items()


def _reported(run: pathlib.Path) -> object:
    from ltjax.report.reading import read_run
    from ltjax.report.tables import csv_table

    found = read_run(run)
    return csv_table([found]), *map(Record, found.records)


# Kind of file -> (files of a run, what reads them).
FILES: dict[str, tuple[Callable, Callable]] = {
    "checkpoint, arrays": (_arrays, leaves_of),
    "checkpoint, the rest": (_metadata, leaves_of),
    "config.json": (lambda run: [run / "config.json"], leaves_of),
    "run.json": (lambda run: [run / "run.json"], _reported),
    "metrics.jsonl": (lambda run: [run / "metrics.jsonl"], _reported),
    "evaluation": (lambda run: sorted(run.glob("evaluation/*.npz")), _reported),
}


class _Warnings(logging.Handler):
    """Counts what is logged as a warning or worse."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def _outcome(read: Callable[[], object], expected: object, said: _Warnings) -> str:
    said.count = 0
    try:
        found = read()
    except (ValueError, TypeError, OSError, LookupError):
        return "noticed"  # as a message: any other exception ends the attack
    if said.count:
        return "noticed"
    return "harmless" if found == expected else "silent"


def _attack(name: str, count: int, run: pathlib.Path, seed: int) -> None:
    """Prints one line of JSON: outcome -> number."""
    warnings.simplefilter("ignore")
    files, reader = FILES[name]
    rng, found, read = random.Random(f"{name} {seed}"), files(run), partial(reader, run)
    said = _Warnings(logging.WARNING)
    logging.getLogger("ltjax").addHandler(said)
    expected = read()
    assert read() == expected, "what is read changes by itself"
    outcomes = {"noticed": 0, "harmless": 0, "silent": 0}
    for _ in range(count):
        path = rng.choice(found)
        whole = path.read_bytes()
        damaged, bit = bytearray(whole), rng.randrange(8 * max(len(whole), 1))
        if not whole:
            continue
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        outcome = _outcome(read, expected, said)
        path.write_bytes(whole)
        outcomes[outcome] += 1
        if outcome == "silent":
            print(f"silent: bit {bit} of {path.relative_to(run)}", flush=True)
    print(json.dumps(outcomes))


def torment(
    name: str, count: int, place: pathlib.Path, *, seed: int = 0
) -> dict[str, str]:
    """Flips `count` bits, one at a time, in the files of one kind.

    Args:
        name: a key of `FILES`.
        count: number of flips.
        place: folder for the run.
        seed: of places and bits.

    Returns:
        A row of the table.
    """
    run, log = place / "run", place / "log.txt"
    if code := ltjax(arguments(SUBJECTS["supervised"], run), log).wait():
        raise RuntimeError(f"exit code {code}\n{log.read_text()[-3000:]}")
    said = place / "flips.txt"
    if code := start(partial(_attack, name, count, run, seed), said).wait(3600):
        raise RuntimeError(f"{name}: exit code {code}\n{said.read_text()[-3000:]}")
    lines = said.read_text().splitlines()
    print("\n".join(line for line in lines if line.startswith("silent: ")))
    outcomes = json.loads(lines[-1])
    return {
        "attack": f"a flipped bit: {name}",
        "attacks": str(sum(outcomes.values())),
        "survived": str(outcomes["noticed"] + outcomes["harmless"]),
        "remark": f"{outcomes['noticed']} noticed, {outcomes['harmless']} harmless",
    }
