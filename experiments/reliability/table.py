"""The results of the attacks, as files and in the README."""

import json
import pathlib
from collections.abc import Mapping

from experiments.reliability.processes import start

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
KINDS = ("kills", "flips", "pairs", "disk", "fuzz")
README = HERE / "README.md"
HEAD = ("Attack", "Number", "Survived", "")


def provenance(place: pathlib.Path) -> dict[str, str]:
    """With what the attacks were made; found by a fork, since it asks for devices."""

    def find() -> None:
        from experiments.bench.common import provenance

        print(json.dumps(provenance()))

    said = place / "provenance.txt"
    start(find, said).wait()
    return json.loads(said.read_text().splitlines()[-1])


def append(path: pathlib.Path, row: Mapping[str, str], *, place: pathlib.Path) -> None:
    """Adds a row with its provenance to a results file."""
    from ltjax.report.cells import append_csv

    path.parent.mkdir(parents=True, exist_ok=True)
    append_csv(path, [{**row, **provenance(place)}])


def write(results: pathlib.Path = RESULTS, readme: pathlib.Path = README) -> None:
    """Writes the table of a README from the newest row of every attack."""
    from experiments.grid import replace_block
    from ltjax.report.cells import markdown_grid, read_rows

    newest: dict[str, Mapping[str, str]] = {}
    for kind in KINDS:
        path = results / f"{kind}.csv"
        for row in read_rows(path) if path.exists() else ():
            newest[row["attack"]] = row
    rows = [
        (row["attack"], row["attacks"], row["survived"], row["remark"])
        for row in newest.values()
    ]
    made = {
        f"{row['date']}, ltjax {row['commit']}, jax {row['jax']}, Python"
        f" {row['python']}, {row['device']}, {row['cores']} cores"
        for row in newest.values()
    }
    text = f"{markdown_grid(HEAD, rows)}\n\n{'; '.join(sorted(made))}."
    replace_block(readme, "attacks", text)
