"""The table of the attacks: the newest row of each, and what it was made with."""

from experiments.reliability import table
from ltjax.report.cells import append_csv

MADE = {
    **{"date": "2026-01-02", "commit": "abc", "jax": "1", "python": "3"},
    **{"device": "CPU", "cores": "2"},
}


def test_the_newest_row_of_each_attack_is_shown(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        "# Before\n<!-- attacks: begin -->\nold\n<!-- attacks: end -->\nAfter\n"
    )
    for survived in ("3", "4"):
        row = {"attack": "a kill", "attacks": "4", "survived": survived, "remark": "x"}
        append_csv(tmp_path / "kills.csv", [row | MADE])
    table.write(tmp_path, readme)
    text = readme.read_text()
    assert "| a kill | 4 | 4 | x |" in text and "| a kill | 4 | 3 |" not in text
    assert "2026-01-02, ltjax abc, jax 1, Python 3, CPU, 2 cores." in text
    assert (
        text.startswith("# Before") and text.endswith("After\n") and "old" not in text
    )
