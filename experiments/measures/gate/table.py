"""What the README shows of the rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from experiments.measures.gate.points import CLAIMS, NONE, TECHNIQUES, TITLES
from experiments.seeded import by_seed, claims_table, joined, results_table

HEAD = {
    "closeness": "closeness",
    "alignment": "CKA with clean",
    "edge_f1": "edge F1",
    "probe": "probe",
    "probe_many": "many",
    "probe_few": "few",
}


def gains(rows: Sequence[Mapping[str, str]], column: str) -> np.ndarray:
    """Column with a technique minus without, of every technique and seed."""
    plain = by_seed(rows, {"technique": NONE}, column)
    found = []
    for name in TECHNIQUES:
        steered = by_seed(rows, {"technique": name}, column)
        found += [steered[s] - plain[s] for s in sorted(plain) if s in steered]
    return np.asarray(found)


def agreement(rows: Sequence[Mapping[str, str]]) -> str:
    """How far the score foretells the gain, in one sentence."""
    lines = []
    for column, what in (("probe", "all classes"), ("probe_few", "rare classes")):
        score, gain = gains(rows, "closeness"), gains(rows, column)
        fine = np.isfinite(score) & np.isfinite(gain)
        score, gain = score[fine], gain[fine]
        if len(score) < 2 or np.ptp(score) == 0 or np.ptp(gain) == 0:
            continue
        same = np.sum(np.sign(score) == np.sign(gain))
        rho = np.corrcoef(rankdata(score), rankdata(gain))[0, 1]
        lines.append(
            f"Of {len(score)} pairs of technique and seed, the GATE score and the gain"
            f" of the probe on {what} have the same sign in {same}; their rank"
            f" correlation is {rho:.2f}."
        )
    return "\n".join(lines)


def text(rows: Sequence[Mapping[str, str]]) -> str:
    """Everything of the README that is a number."""
    techniques = {TITLES[name]: {"technique": name} for name in (NONE, *TECHNIQUES)}
    return joined(
        claims_table(rows, CLAIMS, kind="expected ordering"),
        agreement(rows),
        results_table(rows, techniques, HEAD, corner="technique"),
    )
