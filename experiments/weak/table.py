"""What the README shows of the rows."""

from collections.abc import Mapping, Sequence

from experiments.seeded import claims_table, joined, results_table
from experiments.weak.points import CLAIMS, FREE, GROUPS, OURS, TABLES


def setting_table(
    rows: Sequence[Mapping[str, str]], name: str, ratio: int, setting: str
) -> str:
    """Accuracy by class group of every method that was run in a setting."""
    table, lines = TABLES[name], {}
    for method in table.methods:
        own = FREE if method in table.free else setting
        where = {"table": name, "ratio": str(ratio), "setting": own}
        lines[method] = {"method": method, **where}
    title = f"Ratio {ratio}, {setting}"
    return results_table(rows, lines, GROUPS, title=title, corner="method")


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    blocks = []
    for name, table in TABLES.items():
        blocks += [f"### {table.title}", claims_table(rows, CLAIMS[name])]
        if name in OURS:
            blocks.append(claims_table(rows, OURS[name], kind="comparison"))
        blocks += [setting_table(rows, name, *where) for where in table.settings]
    return joined(*blocks)
