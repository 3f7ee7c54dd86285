r"""Finite joint distributions: every balanced error is an exact sum.

The balanced error is the mean over classes of the error on that class,

.. math:: \mathrm{BER}(h) = \frac1K \sum_k P(h(x) \ne k \mid y = k), \qquad
          h^*(x) = \arg\max_k \frac{p(y = k \mid x)}{\pi_k},

and the balanced regret of h is what it loses against :math:`h^*`. Everything here is
numpy in float64.
"""

from typing import NamedTuple

import numpy as np

# Scores closer than this count as tied, and a tie is resolved against the rule.
TIE = 1e-7


class FiniteJoint(NamedTuple):
    """A distribution over M inputs and K classes.

    Attributes:
        table: [M, K] float64, p(x, y), positive, sums to 1.
    """

    table: np.ndarray

    @property
    def prior(self) -> np.ndarray:
        """[K] p(y)."""
        return self.table.sum(axis=0)

    @property
    def conditional(self) -> np.ndarray:
        """[M, K] p(y | x)."""
        return self.table / self.table.sum(axis=1, keepdims=True)

    @property
    def balanced_posterior(self) -> np.ndarray:
        """[M, K] p(y | x) if all classes were equally frequent."""
        ratio = self.table / self.prior
        return ratio / ratio.sum(axis=1, keepdims=True)


def finite_joint(table) -> FiniteJoint:
    """A checked joint distribution.

    Args:
        table: [M, K] positive, any scale.

    Returns:
        `FiniteJoint`, scaled to sum to 1.

    Raises:
        ValueError: if the table is not a matrix of positive numbers.

    Example:
        >>> finite_joint([[3, 1], [2, 2]]).prior.tolist()
        [0.625, 0.375]
    """
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(
            f"finite_joint: table has shape {table.shape}, expected [M, K] with K >= 2"
        )
    if not np.all(table > 0):
        raise ValueError(
            "finite_joint: table holds entries that are not positive; a class that is"
            " impossible at some x has its population minimizer at infinity"
        )
    return FiniteJoint(table / table.sum())


def long_tailed_prior(num_classes: int, imbalance_factor: float) -> np.ndarray:
    r"""Exponentially decaying prior, :math:`\pi_k \propto \rho^{-k/(K-1)}`.

    Args:
        num_classes: K >= 2.
        imbalance_factor: rho = pi_max / pi_min >= 1.

    Returns:
        [K] float64, sums to 1.

    Raises:
        ValueError: if imbalance_factor < 1.

    Example:
        >>> long_tailed_prior(2, 3.0).tolist()
        [0.75, 0.25]
    """
    if imbalance_factor < 1:
        raise ValueError(
            f"long_tailed_prior: imbalance_factor is {imbalance_factor}, expected >= 1"
        )
    powers = np.arange(num_classes) / (num_classes - 1)
    masses = np.asarray(imbalance_factor, np.float64) ** -powers
    return masses / masses.sum()


def random_joints(
    seed: int,
    number: int,
    *,
    num_inputs: int = 6,
    num_classes: int = 3,
    imbalance_factor: float = 20.0,
) -> list[FiniteJoint]:
    """Random long-tailed joints: p(x | y) uniform on the simplex for every class.

    Args:
        seed: of the draw.
        number: how many.
        num_inputs: M.
        num_classes: K.
        imbalance_factor: rho of the class prior, in a random order of the classes.

    Returns:
        List of `FiniteJoint`.

    Example:
        >>> joint = random_joints(0, 1, num_classes=2, imbalance_factor=3.0)[0]
        >>> sorted(joint.prior.round(6).tolist())
        [0.25, 0.75]
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    prior = long_tailed_prior(num_classes, imbalance_factor)
    joints = []
    for _ in range(number):
        likelihood = rng.dirichlet(np.ones(num_inputs), size=num_classes)
        joints.append(finite_joint(likelihood.T * rng.permutation(prior)))
    return joints


def decisions(scores: np.ndarray) -> np.ndarray:
    """Every class a rule may choose at every input: ties are not resolved.

    Args:
        scores: [M, K].

    Returns:
        [M, K] bool.

    Example:
        >>> decisions(np.array([[1.0, 1.0, 0.0]])).tolist()
        [[True, True, False]]
    """
    return scores >= scores.max(axis=1, keepdims=True) - TIE


def bayes_balanced_error(joint: FiniteJoint) -> float:
    r"""Smallest balanced error any rule has, :math:`1 - \frac1K\sum_x\max_k p(x|k)`.

    Args:
        joint: distribution.

    Returns:
        Error in [0, 1 - 1/K].

    Example:
        >>> round(bayes_balanced_error(finite_joint([[1, 1], [2, 1]])), 6)
        0.416667
    """
    likelihood = joint.table / joint.prior
    return float(1 - likelihood.max(axis=1).sum() / joint.table.shape[1])


def balanced_regret(joint: FiniteJoint, scores: np.ndarray) -> float:
    """Balanced error of the argmax of `scores` beyond the best one.

    Args:
        joint: distribution.
        scores: [M, K]; of tied classes the worst one is charged.

    Returns:
        Regret >= 0.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> joint = finite_joint([[1, 1], [2, 1]])
        >>> balanced_regret(joint, joint.table / joint.prior)
        0.0
    """
    if np.shape(scores) != joint.table.shape:
        raise ValueError(
            f"balanced_regret: scores have shape {np.shape(scores)}, expected"
            f" {joint.table.shape}"
        )
    likelihood = joint.table / joint.prior
    chosen = np.where(decisions(np.asarray(scores)), likelihood, np.inf).min(axis=1)
    lost = likelihood.max(axis=1) - chosen
    return float(lost.sum() / joint.table.shape[1])
