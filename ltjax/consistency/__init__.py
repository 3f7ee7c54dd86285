"""Consistency bench: which losses find the rule of smallest balanced error."""

from ltjax.consistency.cases import CASES, Case
from ltjax.consistency.joints import (
    FiniteJoint,
    balanced_regret,
    bayes_balanced_error,
    finite_joint,
    long_tailed_prior,
    random_joints,
)
from ltjax.consistency.mixtures import (
    GaussianMixture,
    estimate_balanced_regret,
    gaussian_cube,
    gaussian_line,
    sample_mixture,
)
from ltjax.consistency.population import minimize_rows, population_minimizer
from ltjax.consistency.samples import (
    LinearModel,
    RegretPoint,
    deciding_scores,
    fit_linear,
    regret_curve,
)
from ltjax.consistency.verdicts import TEXTBOOK, Verdict, consistency_table, judge

__all__ = [
    "CASES",
    "TEXTBOOK",
    "Case",
    "FiniteJoint",
    "GaussianMixture",
    "LinearModel",
    "RegretPoint",
    "Verdict",
    "balanced_regret",
    "bayes_balanced_error",
    "consistency_table",
    "deciding_scores",
    "estimate_balanced_regret",
    "finite_joint",
    "fit_linear",
    "gaussian_cube",
    "gaussian_line",
    "judge",
    "long_tailed_prior",
    "minimize_rows",
    "population_minimizer",
    "random_joints",
    "regret_curve",
    "sample_mixture",
]
