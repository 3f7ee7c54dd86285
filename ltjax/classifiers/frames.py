r"""Fixed frames: K unit vectors that a head is given instead of learning them.

A frame is a matrix M [D, K] with unit columns, one per class, so that `features @ M`
are the logits. For K <= D + 1 the vectors can be pairwise equally far apart (a simplex
equiangular tight frame); for more classes than that the best one can do is to keep the
*closest* pair far apart (a spherical code, the frame of generalized neural collapse):
at right angles up to K = 2 D, and as far as a solver finds beyond.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_rank,
    check_whole,
    is_concrete,
    shape_of,
)
from ltjax._numerics import as_key, double_precision, host, l2_normalize

Array = np.ndarray | jax.Array

# Started at 5, 9 % of random starts end at the 24-cell; started at 1, 31 % do.
_FIRST_SHARPNESS = 1.0
_MOMENTUM = 0.9


class Frame(NamedTuple):
    """A solved frame.

    Attributes:
        vectors: [D, K] float64, unit columns.
        max_inner_product: largest signed inner product of two columns.
        margin: smallest one-vs-rest margin reached, with each class's feature at its
            own vector (`features="tied"`) or at its best place ("free").
        history: [S] the best restart's margin after every sharpness stage.
    """

    vectors: np.ndarray
    max_inner_product: float
    margin: float
    history: np.ndarray


def _check_sizes(caller: str, num_classes: int, dim: int) -> None:
    check_whole(caller, "num_classes", num_classes, low=2)
    check_whole(caller, "dim", dim, low=1)


def orthonormal_columns(key: ArrayLike, rows: int, columns: int) -> Array:
    r"""Haar-distributed matrix with orthonormal columns.

    The Q of a Gaussian matrix is Haar-distributed only once the signs of R's diagonal
    are fixed; without that, the distribution is an accident of the QR routine.

    Args:
        key: typed key, PRNGKey or int seed.
        rows: D.
        columns: C <= D.

    Returns:
        [D, C]: numpy float64, or jax float32 under tracing (the same matrix to 1e-6).

    Raises:
        ValueError: if columns > rows.

    Example:
        >>> q = orthonormal_columns(jax.random.key(0), 5, 3)
        >>> bool(np.allclose(q.T @ q, np.eye(3)))
        True

    References:
        Mezzadri, "How to generate random matrices from the classical compact groups",
        Notices of the AMS 2007, section 5.
    """
    check_whole("orthonormal_columns", "rows", rows)
    check_whole("orthonormal_columns", "columns", columns)
    if columns > rows:
        raise ValueError(
            f"orthonormal_columns: {columns} columns do not fit into {rows} rows"
        )
    key = as_key("orthonormal_columns", key)
    gaussian = jax.random.normal(key, (rows, columns), jnp.float32)
    if is_concrete(gaussian):
        q, r = np.linalg.qr(host(gaussian).astype(np.float64))
        return q * np.where(np.diag(r) < 0, -1.0, 1.0)
    q, r = jnp.linalg.qr(gaussian)
    return q * jnp.where(jnp.diag(r) < 0, -1.0, 1.0)[None, :]


def _matmul(left: Array, right: Array) -> Array:
    """Product in full precision, which accelerators do not give by default."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left @ right
    left = jnp.asarray(left, jnp.float32)
    return jnp.matmul(left, jnp.asarray(right, left.dtype), precision="highest")


def _sum_zero_basis(num_classes: int) -> np.ndarray:
    """Orthonormal basis [K, K-1] of the vectors whose entries sum to 0 (Helmert)."""
    basis = np.zeros((num_classes, num_classes - 1))
    for j in range(1, num_classes):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1))
    return basis


def simplex_etf(key: ArrayLike, dim: int, num_classes: int) -> Array:
    r"""Simplex equiangular tight frame in a random orientation.

    K unit vectors with pairwise inner product -1/(K-1), the largest common separation
    there is. For D >= K

    .. math:: M = \sqrt{\tfrac{K}{K-1}}\, U \left(I - \tfrac1K 11^\top\right),

    and for D = K - 1, where no U [D, K] with orthonormal columns exists,
    :math:`M = \sqrt{K/(K-1)}\, U V^\top` with U [D, K-1] and V [K, K-1] an orthonormal
    basis of the complement of 1. Both have the same Gram matrix.

    Args:
        key: typed key, PRNGKey or int seed; it fixes the orientation (Haar).
        dim: feature width D >= K - 1.
        num_classes: K >= 2.

    Returns:
        [D, K] with unit columns that sum to 0: numpy float64, or jax float32 if `key`
        is traced. It is not a parameter: no gradient, no decay, but do store it.

    Raises:
        ValueError: if D < K - 1; `grassmannian_frame` solves that case.

    Example:
        >>> frame = simplex_etf(jax.random.key(0), 8, 3)
        >>> np.round(frame.T @ frame, 6).tolist()
        [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]

    References:
        Papyan, Han and Donoho, PNAS 2020; Yang et al., "Inducing Neural Collapse in
        Imbalanced Learning", NeurIPS 2022, eq. 2. The official code takes the QR of a
        uniform [0, 1) matrix, which is not Haar; ours is.
    """
    _check_sizes("simplex_etf", num_classes, dim)
    if dim < num_classes - 1:
        raise ValueError(
            f"simplex_etf: {num_classes} equiangular classes need dim >="
            f" {num_classes - 1}, but dim is {dim}; use grassmannian_frame"
        )
    scale = np.sqrt(num_classes / (num_classes - 1))
    if dim >= num_classes:
        centering = np.eye(num_classes) - 1.0 / num_classes
        return scale * _matmul(orthonormal_columns(key, dim, num_classes), centering)
    basis = _sum_zero_basis(num_classes)
    return scale * _matmul(orthonormal_columns(key, dim, num_classes - 1), basis.T)


def _orthogonal_simplices(dim: int, num_classes: int) -> np.ndarray:
    """K - D simplices [D, K], as even in size as they can be, each in its own axes."""
    frame = np.zeros((dim, num_classes))
    row = 0
    for columns in np.array_split(np.arange(num_classes), num_classes - dim):
        # The rows of an orthonormal basis of the sum-zero space are a simplex.
        size = len(columns)
        simplex = np.sqrt(size / (size - 1)) * _sum_zero_basis(size).T
        frame[row : row + size - 1, columns] = simplex
        row += size - 1
    return frame


def _pair_gaps(vectors: jax.Array, features: jax.Array) -> jax.Array:
    """<w_c - w_y, z_y> at [c, y], -inf on the diagonal."""
    scores = vectors.T @ features
    gaps = scores - jnp.diag(scores)[None, :]
    return jnp.where(jnp.eye(scores.shape[0], dtype=bool), -jnp.inf, gaps)


def _smooth_worst_gap(pair: jax.Array, sharpness: jax.Array) -> jax.Array:
    gaps = _pair_gaps(pair[0], pair[-1])
    return jax.nn.logsumexp(sharpness * gaps) / sharpness


def _solve(start: jax.Array, steps: int, stages: int) -> tuple[jax.Array, jax.Array]:
    """Momentum on the spheres at growing sharpness; start [V, D, K]."""
    gradient = jax.grad(_smooth_worst_gap)

    def stage(pair, sharpness):
        def step(_, carry):
            pair, velocity = carry
            slope = gradient(pair, sharpness)
            radial = jnp.sum(slope * pair, axis=1, keepdims=True) * pair
            velocity = _MOMENTUM * velocity + (slope - radial)
            return l2_normalize(pair - velocity / sharpness, axis=1), velocity

        pair, _ = jax.lax.fori_loop(0, steps, step, (pair, jnp.zeros_like(pair)))
        return pair, -jnp.max(_pair_gaps(pair[0], pair[-1]))

    sharpness = _FIRST_SHARPNESS * 2.0 ** jnp.arange(stages, dtype=start.dtype)
    return jax.lax.scan(stage, start, sharpness)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _solve_restarts(starts, steps, stages):
    return jax.vmap(lambda start: _solve(start, steps, stages))(starts)


def grassmannian_frame(
    key: ArrayLike,
    dim: int,
    num_classes: int,
    *,
    features: str = "tied",
    restarts: int | None = None,
    steps: int = 1000,
    stages: int = 20,
) -> Frame:
    r"""K unit vectors in D dimensions, as far apart as possible, for any D.

    Maximizes the smallest one-vs-rest margin

    .. math:: \max_{W, Z}\; \min_{y} \min_{c \ne y}\; \langle w_y - w_c,\, z_y \rangle,
              \qquad \|w_k\| = \|z_k\| = 1,

    with features tied to their class vector, :math:`Z = W`: then the margin is
    :math:`1 - \max_{i \ne j} \langle w_i, w_j \rangle` and the solution is a spherical
    code (note the *signed* product; classical Grassmannian frames bound its absolute
    value), or with Z free: the softmax code. The two agree for K <= D + 1, and in the
    plane. Solved by momentum on a log-sum-exp of growing sharpness, t = 1, 2, 4, ...
    from many random starts at once, in float64. Tied frames with a known solution are
    built directly: the simplex for K <= D + 1, K - D simplices in orthogonal subspaces
    for K <= 2 D (no pair can be further apart than the closest there, at right angles),
    and the regular polygon for D = 2.

    Args:
        key: concrete typed key, PRNGKey or int seed: starts of the solver and
            orientation of closed forms.
        dim: D >= 1.
        num_classes: K >= 2.
        features: "tied" or "free".
        restarts: random starts; the best one is returned. By default 32, and fewer
            for more than 56 classes, down to one: their starts end closer together,
            and a step costs :math:`K^2 D`.
        steps: iterations per stage.
        stages: doublings of the sharpness; 20 end at t = 5.2e5.

    Returns:
        `Frame`. Frames are not unique: compare margins, not entries.

    Raises:
        ValueError: for unknown `features`, or sizes that leave nothing to solve.
        TypeError: if `key` is traced: solve before jit, then pass the array.

    Example:
        >>> frame = grassmannian_frame(jax.random.key(0), 2, 5)
        >>> print(f"{frame.max_inner_product:.6f}")
        0.309017

    References:
        Gao et al., "A Study of Neural Collapse Phenomenon: Grassmannian Frame, Symmetry
        and Generalization", 2023 (no code published); Jiang et al., "Generalized Neural
        Collapse for a Large Number of Classes", ICML 2024 (softmax code); Rankin, "The
        Closest Packing of Spherical Caps in n Dimensions", 1955 (optima for K <= 2 D).
        The solver is ours.
    """
    _check_sizes("grassmannian_frame", num_classes, dim)
    key = as_key("grassmannian_frame", key)
    check_choice("grassmannian_frame", "features", features, ("tied", "free"))
    if not is_concrete(key):
        raise TypeError("grassmannian_frame: key is traced, expected a concrete key")
    if restarts is None:
        restarts = max(1, min(32, 100_000 // num_classes**2))
    if min(restarts, steps, stages) < 1:
        raise ValueError(
            f"grassmannian_frame: restarts, steps and stages are {restarts}, {steps}"
            f" and {stages}, expected at least 1 each"
        )
    if dim == 1 and num_classes > 2:
        raise ValueError(
            f"grassmannian_frame: {num_classes} classes on a line (dim=1) must share"
            " directions, expected dim >= 2"
        )
    if num_classes <= dim + 1:
        return _closed_form(host(simplex_etf(key, dim, num_classes)))
    if dim == 2:
        angles = 2 * np.pi * np.arange(num_classes) / num_classes
        polygon = np.stack([np.cos(angles), np.sin(angles)])
        return _closed_form(host(orthonormal_columns(key, 2, 2)) @ polygon)
    if num_classes <= 2 * dim and features == "tied":
        rotation = host(orthonormal_columns(key, dim, dim))
        return _closed_form(rotation @ _orthogonal_simplices(dim, num_classes))
    views = 1 if features == "tied" else 2
    shape = (restarts, views, dim, num_classes)
    with double_precision():
        # Free features must not start at Z = W: the iteration would keep them tied.
        starts = l2_normalize(jax.random.normal(key, shape, jnp.float64), axis=2)
        solved, history = jax.device_get(_solve_restarts(starts, steps, stages))
    best = int(np.argmax(history[:, -1]))
    vectors = solved[best, 0]
    margin = float(history[best, -1])
    return Frame(vectors, _max_inner_product(vectors), margin, history[best])


@functools.lru_cache(maxsize=8)
def _solved_columns(num_classes: int, dim: int) -> np.ndarray:
    # The solver wants concrete numbers, also while something else is being traced.
    with jax.ensure_compile_time_eval():
        return grassmannian_frame(jax.random.key(0), dim, num_classes).vectors


def class_frame(key: ArrayLike, dim: int, num_classes: int) -> Array:
    """The best fixed classifier of these sizes, in a random orientation.

    Args:
        key: typed key, PRNGKey or int seed of the orientation (Haar); may be traced.
        dim: D >= 1.
        num_classes: K >= 2.

    Returns:
        [D, K] with unit columns: a simplex ETF for D >= K - 1, else the columns of
        `grassmannian_frame` (solved once per size, then rotated). numpy float64, or jax
        float32 if `key` is traced.

    Raises:
        ValueError: for sizes that leave nothing to choose.

    Example:
        >>> square = class_frame(jax.random.key(0), 2, 4)
        >>> np.round(np.abs(square.T @ square)[0], 6).tolist()
        [1.0, 0.0, 1.0, 0.0]
    """
    _check_sizes("class_frame", num_classes, dim)
    if dim >= num_classes - 1:
        return simplex_etf(key, dim, num_classes)
    rotation = orthonormal_columns(key, dim, dim)
    return _matmul(rotation, _solved_columns(num_classes, dim))


def rotate_frame(key: ArrayLike, vectors: ArrayLike) -> Array:
    """A frame in another orientation: equally good, and another fixed classifier.

    Args:
        key: typed key, PRNGKey or int seed of the orientation (Haar); may be traced.
        vectors: [D, K], one column per class; may be traced.

    Returns:
        [D, K] with the same inner products. numpy float64, or jax float32 if an
        argument is traced.

    Raises:
        ValueError: if vectors are not [D, K].

    Example:
        >>> turned = rotate_frame(0, np.eye(2))
        >>> np.round(turned.T @ turned, 6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    References:
        Gao et al., "A Study of Neural Collapse Phenomenon: Grassmannian Frame, Symmetry
        and Generalization", 2023: networks that are trained to rotated or permuted
        frames reach the same loss, but not the same test accuracy.
    """
    check_rank("rotate_frame", "vectors", vectors, 2, "[D, K]")
    dim = shape_of(vectors)[0]
    known = host(vectors) if is_concrete(vectors) else jnp.asarray(vectors)
    return _matmul(orthonormal_columns(key, dim, dim), known)


def permute_frame(key: ArrayLike, vectors: ArrayLike) -> tuple[Array, Array]:
    """A frame whose vectors are given to other classes.

    Of a simplex every permutation is a rotation. Below K - 1 dimensions it decides
    which classes are neighbours.

    Args:
        key: typed key, PRNGKey or int seed; may be traced.
        vectors: [D, K], one column per class; may be traced.

    Returns:
        (vectors [D, K] in the new order, order [K]: the class whose vector each one
        has now). numpy, or jax if an argument is traced.

    Raises:
        ValueError: if vectors are not [D, K].

    Example:
        >>> moved, order = permute_frame(0, np.eye(3))
        >>> bool((moved == np.eye(3)[:, order]).all()), sorted(order.tolist())
        (True, [0, 1, 2])

    References:
        Gao et al., 2023, see `rotate_frame`.
    """
    check_rank("permute_frame", "vectors", vectors, 2, "[D, K]")
    size = shape_of(vectors)[1]
    order = jax.random.permutation(as_key("permute_frame", key), size)
    if is_concrete(order, vectors):
        return host(vectors)[:, host(order)], host(order)
    return jnp.asarray(vectors)[:, order], order


def _closed_form(vectors: np.ndarray) -> Frame:
    largest = _max_inner_product(vectors)
    return Frame(vectors, largest, 1 - largest, np.array([1 - largest]))


def _max_inner_product(vectors: np.ndarray) -> float:
    gram = vectors.T @ vectors
    return float(np.max(gram[~np.eye(len(gram), dtype=bool)]))
