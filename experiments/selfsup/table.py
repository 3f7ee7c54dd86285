"""What the README shows of the rows."""

from collections.abc import Mapping, Sequence

from experiments.seeded import claims_table, joined, results_table
from experiments.selfsup.points import CLAIMS, COLUMNS, METHODS, RATIO, SETS


def set_table(rows: Sequence[Mapping[str, str]], data: str) -> str:
    """Every learner that was pre-trained on a set, those of earlier budgets last."""
    shared = {"data": data, "ratio": str(RATIO)}
    named = [*METHODS, *(row["method"] for row in rows)]
    lines = {method: {"method": method, **shared} for method in named}
    return results_table(rows, lines, COLUMNS, title=f"Pre-trained on the {data} set")


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    return joined(claims_table(rows, CLAIMS), *(set_table(rows, x) for x in SETS))
