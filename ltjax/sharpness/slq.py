r"""Lanczos iteration, Ritz values and spectral densities of a symmetric operator.

The operator is any function v -> Hv on vectors [P]; the iterations run as a Python loop
around jitted updates, because the operator may itself loop over data.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_rank
from ltjax._numerics import as_key

MatVec = Callable[[jax.Array], jax.Array]


class Tridiagonal(NamedTuple):
    """The operator in the Lanczos basis: symmetric and tridiagonal.

    Attributes:
        alpha: [m] diagonal.
        beta: [m - 1] off-diagonal; 0 where the iteration was restarted.
    """

    alpha: np.ndarray
    beta: np.ndarray


def lanczos(
    matvec: MatVec, start: jax.Array, num_steps: int, *, key: ArrayLike
) -> Tridiagonal:
    r"""Lanczos iteration with full re-orthogonalization, done twice.

    .. math:: \alpha_j = v_j^\top H v_j, \qquad
              \beta_j v_{j+1} = H v_j - \alpha_j v_j - \beta_{j-1} v_{j-1}

    If the residual vanishes to rounding (an invariant subspace is exhausted), the
    iteration goes on from a random vector orthogonal to the basis with beta = 0; the
    Ritz weights are not affected.

    Args:
        matvec: symmetric operator on [P] vectors.
        start: [P] float, not zero.
        num_steps: m >= 1; at most P steps are taken. Memory is m x P.
        key: typed key, PRNGKey or int seed, for the restarts.

    Returns:
        `Tridiagonal` in float64 on the host.

    Raises:
        ValueError: if start is not a vector or num_steps < 1.

    Example:
        >>> d = jnp.array([-1.0, 0.0, 2.0, 5.0])
        >>> found = lanczos(lambda v: d * v, jnp.ones(4), 2, key=jax.random.key(0))
        >>> print(found.alpha.round(4), found.beta.round(4))
        [1.5    2.6429] [2.2913]

    References:
        Golub and Van Loan, "Matrix Computations", 4th ed., sec. 10.3. PyHessian sweeps
        once and adds 1e-6 to norms.
    """
    check_rank("lanczos", "start", start, 1, "[P]")
    key = as_key("lanczos", key)
    if num_steps < 1:
        raise ValueError(f"lanczos: num_steps is {num_steps}, expected at least 1")
    size = start.shape[0]
    steps = min(num_steps, size)
    vector = start / jnp.linalg.norm(start)
    basis = jnp.zeros((steps, size), vector.dtype)
    largest = jnp.zeros((), vector.dtype)
    alpha, beta = [], []
    for j in range(steps):
        image = matvec(vector)
        basis, vector, largest, diagonal, off = _advance(
            basis, vector, image, largest, j, jax.random.fold_in(key, j)
        )
        alpha.append(diagonal)
        beta.append(off)
    alpha, beta = np.asarray(jax.device_get((alpha, beta)), np.float64)
    return Tridiagonal(alpha, beta[:-1])


@partial(jax.jit, donate_argnums=0)
def _advance(basis, vector, image, largest, j, key):
    """One step: stores v_j, returns v_{j+1}, alpha_j and beta_j."""
    dot = partial(jnp.matmul, precision="highest")
    basis = basis.at[j].set(vector)
    alpha = dot(vector, image)

    def orthogonalize(w):
        for _ in range(2):
            w = w - dot(basis.T, dot(basis, w))
        return w

    residual = orthogonalize(image - alpha * vector)
    beta = jnp.linalg.norm(residual)
    largest = jnp.maximum(largest, jnp.maximum(jnp.abs(alpha), beta))
    exhausted = beta <= 100 * jnp.finfo(basis.dtype).eps * largest
    fresh = orthogonalize(jax.random.normal(key, vector.shape, vector.dtype))
    fresh_norm = jnp.linalg.norm(fresh)
    following = jnp.where(exhausted, fresh, residual)
    norm = jnp.where(exhausted, fresh_norm, beta)
    following = following / jnp.where(norm > 0, norm, 1)
    return basis, following, largest, alpha, jnp.where(exhausted, 0, beta)


def ritz(tridiagonal: Tridiagonal) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values and weights of a Lanczos run.

    Args:
        tridiagonal: from `lanczos`.

    Returns:
        (values [m] increasing, weights [m], which sum to 1): a quadrature rule for the
        spectrum as seen from the start vector.

    Example:
        >>> values, weights = ritz(Tridiagonal(np.array([1.0, 1.0]), np.array([1.0])))
        >>> print(values, weights.round(3))
        [0. 2.] [0.5 0.5]
    """
    alpha, beta = tridiagonal
    matrix = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors[0] ** 2


def spectral_density(
    values: np.ndarray, weights: np.ndarray, *, points: int = 10_000
) -> tuple[np.ndarray, np.ndarray]:
    r"""Smoothed spectral density by stochastic Lanczos quadrature.

    .. math:: \phi(t) = \frac1{n_v} \sum_{r,j} w_{rj}\, \mathcal N(t; \lambda_{rj}, s^2)

    with :math:`s^2 = 10^{-5} \max(1, \text{length of the interval})`.

    Args:
        values: [n_v, m] Ritz values, one row per start vector.
        weights: [n_v, m] Ritz weights.
        points: number of grid points, at least 2.

    Returns:
        (grid [points], density [points]). The grid runs from the mean of the smallest
        values - 0.01 to the mean of the largest + 0.01; sum times spacing is 1.

    Example:
        >>> values, weights = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
        >>> grid, density = spectral_density(values, weights)
        >>> round(float(density.sum() * (grid[1] - grid[0])), 6)
        1.0

    References:
        Ghorbani et al., "An Investigation into Neural Net Optimization via Hessian
        Eigenvalue Density", ICML 2019; constants as in PyHessian.
    """
    values, weights = np.atleast_2d(values), np.atleast_2d(weights)
    low = values.min(axis=1).mean() - 0.01
    high = values.max(axis=1).mean() + 0.01
    grid, spacing = np.linspace(low, high, points, retstep=True)
    variance = 1e-5 * max(1.0, high - low)
    density = np.zeros(points)
    for value, weight in zip(values.ravel(), weights.ravel(), strict=True):
        density += weight * np.exp(-((grid - value) ** 2) / (2 * variance))
    return grid, density / (density.sum() * spacing)


def hutchinson_trace(
    matvec: MatVec,
    size: int,
    *,
    key: ArrayLike,
    probes: int = 100,
    tolerance: float = 1e-3,
    dtype=jnp.float32,
) -> tuple[float, float]:
    r"""Trace as the mean of :math:`v^\top H v` over Rademacher vectors.

    Args:
        matvec: symmetric operator on [size] vectors.
        size: P.
        key: typed key, PRNGKey or int seed.
        probes: largest number of vectors, at least 2.
        tolerance: stops when the standard error is below this multiple of the mean.
        dtype: of the vectors.

    Returns:
        (trace, its standard error).

    Raises:
        ValueError: if probes < 2.

    Example:
        >>> diagonal = jnp.array([-1.0, 0.0, 2.0, 5.0])
        >>> hutchinson_trace(lambda v: diagonal * v, 4, key=jax.random.key(0))
        (6.0, 0.0)

    References:
        Hutchinson, Communications in Statistics 1989. PyHessian stops when the running
        mean changes little, which does not bound the error.
    """
    if probes < 2:
        raise ValueError(f"hutchinson_trace: probes is {probes}, expected at least 2")
    key = as_key("hutchinson_trace", key)
    samples = []
    for k in range(probes):
        v = jax.random.rademacher(jax.random.fold_in(key, k), (size,), dtype)
        samples.append(float(jnp.vdot(v, matvec(v), precision="highest")))
        if k >= 1:
            error = float(np.std(samples, ddof=1) / np.sqrt(len(samples)))
            if error <= tolerance * abs(np.mean(samples)):
                break
    return float(np.mean(samples)), error
