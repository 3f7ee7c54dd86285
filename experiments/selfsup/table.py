"""What the README shows of the rows."""

from collections.abc import Mapping, Sequence

from experiments.seeded import claims_table, joined, results_table
from experiments.selfsup.points import CLAIMS, COLUMNS, METHODS, MILD, RATIO, SETS


def set_table(rows: Sequence[Mapping[str, str]], data: str, ratio: int) -> str:
    """Every learner that was pre-trained on a set, those of earlier budgets last."""
    shared = {"data": data, "ratio": str(ratio)}
    named = [*METHODS, *(row["method"] for row in rows)]
    lines = {method: {"method": method, **shared} for method in named}
    title = f"Pre-trained on the {data} set, ratio {ratio}"
    return results_table(rows, lines, COLUMNS, title=title)


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    tables = (set_table(rows, data, r) for r in (RATIO, MILD) for data in SETS)
    return joined(claims_table(rows, CLAIMS), *tables)
