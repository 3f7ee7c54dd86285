r"""Regret against sample size: linear softmax models on Gaussian mixtures.

For classes :math:`N(\mu_k, I)` the log posterior is linear in x up to a constant, so a
linear model can represent the best balanced rule. A consistent loss therefore reaches
it as N grows, and an inconsistent one stops at a regret of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.optimize import minimize

from ltjax._checks import check_rank, shape_of
from ltjax._numerics import class_indices, double_precision
from ltjax.class_stats import count_labels
from ltjax.consistency.cases import Case
from ltjax.consistency.mixtures import (
    GaussianMixture,
    estimate_balanced_regret,
    sample_mixture,
)
from ltjax.consistency.population import Loss


class LinearModel(NamedTuple):
    """Scores x W + b.

    Attributes:
        weights: [D, K] float64.
        bias: [K] float64.
        gradient_norm: largest entry of the gradient where the fit stopped.
    """

    weights: np.ndarray
    bias: np.ndarray
    gradient_norm: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scores [B, K] of features [B, D]."""
        return features @ self.weights + self.bias


def fit_linear(
    loss: Loss,
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    ridge: float = 0.0,
    max_steps: int = 2000,
    tolerance: float = 1e-6,
) -> LinearModel:
    r"""Minimizes the mean loss of a linear model, by L-BFGS in float64 from zero.

    .. math:: \min_{W, b} \frac1N\sum_i \ell(x_i W + b,\, y_i)
              + \frac{\text{ridge}}2 \|W\|^2

    Args:
        loss: (scores [B, K], labels [B], class_counts [K]) -> [B], smooth.
        features: [N, D].
        labels: [N] int class indices, every class present.
        num_classes: K.
        ridge: strength of the penalty; 0 suits overlapping classes.
        max_steps: iterations at most.
        tolerance: largest gradient entry at which to stop.

    Returns:
        `LinearModel`.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> from ltjax import losses
        >>> x = np.array([[0.0], [1.0], [0.0], [1.0]])
        >>> model = fit_linear(
        ...     lambda z, y, n: losses.softmax_cross_entropy(z, y), x, [0, 1, 1, 0], 2)
        >>> bool(np.allclose(model(x), 0))
        True
    """
    check_rank("fit_linear", "features", features, 2, "[N, D]")
    if shape_of(labels) != shape_of(features)[:1]:
        raise ValueError(
            f"fit_linear: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(features)[:1]}"
        )
    counts = np.asarray(count_labels(labels, num_classes), np.float64)
    shape = (shape_of(features)[1] + 1, num_classes)
    with double_precision():
        inputs = jnp.asarray(features, jnp.float64)
        targets = class_indices(labels)

        @jax.jit
        def objective(flat, inputs, targets):
            table = flat.reshape(shape)
            logits = inputs @ table[:-1] + table[-1][None, :]
            penalty = 0.5 * ridge * jnp.sum(jnp.square(table[:-1]))
            return jnp.mean(loss(logits, targets, counts)) + penalty

        value_and_grad = jax.jit(jax.value_and_grad(objective))

        def evaluate(flat):
            value, gradient = value_and_grad(flat, inputs, targets)
            return float(value), np.asarray(gradient)

        fit = minimize(
            evaluate,
            np.zeros(shape[0] * shape[1]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_steps, "gtol": tolerance, "ftol": 1e-15},
        )
    table = fit.x.reshape(shape)
    return LinearModel(table[:-1], table[-1], float(np.abs(fit.jac).max()))


def deciding_scores(
    model: LinearModel, case: Case, class_counts: ArrayLike
) -> Callable[[np.ndarray], np.ndarray]:
    """A fitted model followed by its case's decision rule, as one function.

    Args:
        model: fitted by the case's loss.
        case: whose rule is applied.
        class_counts: [K] of the training set.

    Returns:
        Function [T, D] -> [T, K], decided by argmax.

    Example:
        >>> from ltjax.consistency import CASES
        >>> model = LinearModel(np.zeros((1, 2)), np.array([0.1, 0.0]), 0.0)
        >>> case = CASES["cross_entropy + post-hoc tau=1"]
        >>> score = deciding_scores(model, case, [90, 10])
        >>> int(np.argmax(score(np.zeros((1, 1)))))
        1
    """

    def score(points):
        with double_precision():
            return np.asarray(case.decide(model(points), np.asarray(class_counts)))

    return score


class RegretPoint(NamedTuple):
    """Balanced regret of one case at one sample size and seed."""

    name: str
    number: int
    seed: int
    regret: float
    balanced_error: float


def regret_curve(
    mixture: GaussianMixture,
    numbers: Sequence[int],
    cases: Mapping[str, Case],
    *,
    seeds: Sequence[int] = (0,),
    test_points: int = 200_000,
) -> list[RegretPoint]:
    """Balanced regret of linear models against the number of training examples.

    The models carry a ridge penalty of 1 / N, which keeps rare classes that happen to
    be separable finite and fades as N grows.

    Args:
        mixture: problem.
        numbers: training set sizes N.
        cases: name -> case; those that take no logits (`linear=False`) are refused.
        seeds: of the training sets.
        test_points: at which regrets are averaged, see `estimate_balanced_regret`.

    Returns:
        One `RegretPoint` per case, size and seed.

    Raises:
        ValueError: for a case that a linear model cannot be fitted with.

    Example:
        >>> from ltjax.consistency import CASES, gaussian_line
        >>> points = regret_curve(
        ...     gaussian_line(2), [50], {"ce": CASES["cross_entropy"]}, test_points=100)
        >>> len(points)
        1
    """
    unfit = [name for name, case in cases.items() if not case.linear]
    if unfit:
        raise ValueError(f"regret_curve: {unfit} cannot be fitted by a linear model")
    num_classes = len(mixture.prior)
    points = []
    for number in numbers:
        for seed in seeds:
            features, labels = sample_mixture(mixture, number, seed=seed)
            counts = count_labels(labels, num_classes)
            fitted = {}  # cases that differ only in their rule share a model
            for name, case in cases.items():
                if case.loss not in fitted:
                    fitted[case.loss] = fit_linear(
                        case.loss, features, labels, num_classes, ridge=1 / number
                    )
                model = fitted[case.loss]
                regret = estimate_balanced_regret(
                    mixture,
                    deciding_scores(model, case, counts),
                    number=test_points,
                )
                error = mixture.bayes_balanced_error + regret
                points.append(RegretPoint(name, number, seed, regret, error))
    return points
