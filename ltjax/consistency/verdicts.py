"""Numerical verdicts on consistency, to be held beside the theory."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax._numerics import double_precision
from ltjax.consistency.cases import CASES, Case
from ltjax.consistency.joints import (
    FiniteJoint,
    balanced_regret,
    finite_joint,
    random_joints,
)
from ltjax.consistency.population import POPULATION, minimize_rows

# Three inputs and classes on which most inconsistent losses already go wrong.
TEXTBOOK = finite_joint([[0.30, 0.05, 0.01], [0.20, 0.10, 0.02], [0.10, 0.12, 0.10]])


class Verdict(NamedTuple):
    """What the population minimizers of a case do on a set of joints.

    Attributes:
        name: of the case.
        consistent: no minimizer had a balanced regret above the tolerance.
        theory: what the case claims.
        worst_regret: largest balanced regret over the joints.
        mean_regret: average.
        counterexample: index of the worst joint, or None.
        posterior_gap: largest distance of softmax(scores) from the balanced posterior;
            0 means the scores are calibrated, not only right in their argmax.
        why: the theory's reason.
    """

    name: str
    consistent: bool
    theory: bool
    worst_regret: float
    mean_regret: float
    counterexample: int | None
    posterior_gap: float
    why: str


def judge(
    name: str, case: Case, joints: Sequence[FiniteJoint], *, tolerance: float = 1e-8
) -> Verdict:
    """Finds a case's population minimizers on all joints and their balanced regrets.

    Inconsistency is proven by one joint with regret; consistency can only fail to be
    refuted, which is why the verdict stands beside the theory.

    Args:
        name: of the case.
        case: loss and decision rule.
        joints: distributions with the same number of classes.
        tolerance: regret that counts as none, and accuracy of the minimizers.

    Returns:
        `Verdict`.

    Raises:
        ValueError: if the joints have different numbers of classes.
        RuntimeError: if a minimizer cannot be found to the tolerance.

    Example:
        >>> judge("ce", CASES["cross_entropy"], [TEXTBOOK]).consistent
        False
    """
    widths = {joint.table.shape[1] for joint in joints}
    if len(widths) != 1:
        raise ValueError(
            f"judge: joints have {sorted(widths)} classes, expected one number"
        )
    conditional = np.concatenate([joint.conditional for joint in joints])
    counts = np.concatenate(
        [np.tile(POPULATION * joint.prior, (len(joint.table), 1)) for joint in joints]
    )
    z = minimize_rows(
        case.loss,
        conditional,
        counts,
        solver=case.solver,
        starts=case.starts,
        tolerance=tolerance,
    )
    regrets, gap, row = [], 0.0, 0
    for joint in joints:
        rows = slice(row, row := row + len(joint.table))
        with double_precision():
            scores = np.asarray(case.decide(z[rows], POPULATION * joint.prior))
        regrets.append(balanced_regret(joint, scores))
        posterior = np.exp(scores - scores.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        gap = max(gap, float(np.abs(posterior - joint.balanced_posterior).max()))
    worst = int(np.argmax(regrets))
    consistent = regrets[worst] <= tolerance
    return Verdict(
        name=name,
        consistent=consistent,
        theory=case.consistent,
        worst_regret=regrets[worst],
        mean_regret=float(np.mean(regrets)),
        counterexample=None if consistent else worst,
        posterior_gap=gap,
        why=case.why,
    )


def consistency_table(
    joints: Sequence[FiniteJoint] | None = None,
    cases: Mapping[str, Case] = CASES,
    *,
    tolerance: float = 1e-8,
) -> list[Verdict]:
    """Verdicts on all cases.

    Args:
        joints: distributions; None for the textbook table and 40 random long-tailed
            joints of three classes.
        cases: name -> case; add your own to a copy of `CASES`.
        tolerance: as in `judge`.

    Returns:
        One `Verdict` per case, in order.

    Raises:
        RuntimeError: if a minimizer cannot be found to the tolerance.

    Example:
        >>> table = consistency_table(
        ...     [TEXTBOOK], {"ce": CASES["cross_entropy"]})
        >>> [(row.name, row.consistent, row.theory) for row in table]
        [('ce', False, False)]
    """
    if joints is None:
        joints = [TEXTBOOK, *random_joints(0, 40)]
    return [
        judge(name, case, joints, tolerance=tolerance) for name, case in cases.items()
    ]
