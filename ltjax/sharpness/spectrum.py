r"""Hessian spectra of the loss and of groups of classes: saddle or sharp minimum?

.. math:: H_G = \nabla^2 \frac1{|G|} \sum_{i \in G} \ell_i(\theta)

for G everything, the head or tail classes, or one class. Use evaluation mode and
un-augmented data: with random crops every product would see another function, and
Lanczos' guarantees are lost. Weighted by their sizes, the groups' Hessians add up to
the whole one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_integers
from ltjax._numerics import as_key, mask_values
from ltjax.class_stats import infer_num_classes
from ltjax.sharpness.perturb import check_parameters
from ltjax.sharpness.slq import (
    MatVec,
    hutchinson_trace,
    lanczos,
    ritz,
    spectral_density,
)


class Spectrum(NamedTuple):
    """What Lanczos runs tell about a Hessian.

    Attributes:
        lambda_min: smallest Ritz value over the starts, an upper bound of the smallest
            eigenvalue.
        lambda_max: largest Ritz value over the starts, a lower bound of the largest.
        trace: exact if the Lanczos runs were complete, else Hutchinson's estimate.
        trace_error: standard error of the trace; 0 if exact.
        nonconvexity: max(0, -lambda_min) / lambda_max; 0 is locally convex.
        ritz_values: [n_v, m], increasing per start.
        ritz_weights: [n_v, m], each row sums to 1.
        grid: [G] eigenvalues at which the density is given.
        density: [G] spectral density, integrates to 1.
        num_parameters: P.
        num_examples: examples the loss is the mean of.
    """

    lambda_min: float
    lambda_max: float
    trace: float
    trace_error: float
    nonconvexity: float
    ritz_values: np.ndarray
    ritz_weights: np.ndarray
    grid: np.ndarray
    density: np.ndarray
    num_parameters: int
    num_examples: float


def hessian_operator(
    loss_fn: Callable,
    params: Any,
    batches: Sequence[Any],
    *,
    loop: str = "python",
) -> tuple[MatVec, int, float]:
    r"""The Hessian of the mean loss over batches, as a function of vectors.

    Products are forward over reverse, :math:`Hv = \frac{d}{dt}\nabla L(\theta + tv)` at
    t = 0, summed over the batches and divided by the number of examples.

    Args:
        loss_fn: (params, batch) -> [b] float, per-example losses in evaluation mode.
        params: parameter tree, float32 or float64.
        batches: pytrees; in a dict, a boolean "mask" [b] marks the rows that count.
            Arrays may be sharded over devices.
        loop: "python" dispatches one jitted product per batch; "scan" runs all batches
            of equal shapes in one program (for accelerators: convolutions in loops are
            slow on CPU).

    Returns:
        (matvec on flat [P] vectors, P, number of examples).

    Raises:
        TypeError: for parameters below float32.
        ValueError: if there is no batch, or no example in them.

    Example:
        >>> batches = [jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])]
        >>> operator, size, count = hessian_operator(
        ...     lambda w, batch: 0.5 * (batch @ w**2), jnp.ones(2), batches)
        >>> print(operator(jnp.ones(2)), size, count)
        [2. 3.] 2 2.0
    """
    return _operator(_product(loss_fn), params, batches, loop)


def hessian_spectrum(
    loss_fn: Callable,
    params: Any,
    batches: Sequence[Any],
    *,
    key: ArrayLike,
    num_steps: int = 64,
    num_starts: int = 3,
    trace_probes: int = 100,
    trace_tolerance: float = 1e-3,
    grid_points: int = 10_000,
    loop: str = "python",
) -> Spectrum:
    """Extreme eigenvalues, trace and spectral density of the Hessian of the mean loss.

    Args:
        loss_fn: (params, batch) -> [b] float, per-example losses in evaluation mode
            (unweighted cross-entropy for comparisons between methods).
        params: parameter tree, float32 or float64.
        batches: un-augmented batches, see `hessian_operator`.
        key: typed key, PRNGKey or int seed of the random vectors.
        num_steps: m, Lanczos steps per start; 64 for plots, 32 to monitor the extreme
            eigenvalues. With m >= P everything is exact. Memory is m x P floats.
        num_starts: Rademacher start vectors.
        trace_probes: most products spent on the trace, at least 2.
        trace_tolerance: relative standard error at which the trace is good enough.
        grid_points: points of the density.
        loop: "python" or "scan", see `hessian_operator`.

    Returns:
        `Spectrum`.

    Raises:
        TypeError: for parameters below float32.
        ValueError: for sizes below 1, no example, or an unknown loop.

    Example:
        >>> found = hessian_spectrum(
        ...     lambda w, batch: 0.5 * (batch @ w**2), jnp.ones(2),
        ...     [jnp.array([[-1.0, 4.0]])], key=jax.random.key(0))
        >>> f"{found.lambda_min:.3f} {found.lambda_max:.3f} {found.nonconvexity:.3f}"
        '-1.000 4.000 0.250'

    References:
        Rangwani et al., "Escaping Saddle Points for Effective Generalization on
        Class-Imbalanced Data", NeurIPS 2022 (protocol; the released script multiplies
        by Hessians of randomly augmented data); Yao et al., "PyHessian", 2020.
    """
    return _spectrum(
        _product(loss_fn),
        params,
        batches,
        key=as_key("hessian_spectrum", key),
        num_steps=num_steps,
        num_starts=num_starts,
        trace_probes=trace_probes,
        trace_tolerance=trace_tolerance,
        grid_points=grid_points,
        loop=loop,
    )


def class_spectra(
    loss_fn: Callable,
    params: Any,
    data: Mapping[str, np.ndarray],
    class_groups: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    **options: Any,
) -> dict[str, Spectrum]:
    """Spectra of the whole loss and of the loss of each group of classes.

    Args:
        loss_fn: (params, batch) -> [b] float, per-example losses in evaluation mode.
        params: parameter tree.
        data: dict of numpy arrays with a leading axis of examples, among them "label"
            [N] int.
        class_groups: name -> [K] bool, such as {"head": ~is_tail, "tail": is_tail} or
            one entry per class.
        batch_size: rows per product; the last batch of a group is padded and masked, so
            that one program serves all groups.
        **options: those of `hessian_spectrum`, `key` included.

    Returns:
        Name -> `Spectrum`, "all" first. Groups without an example are left out.

    Raises:
        ValueError: if a group is called "all", or has the wrong length.

    Example:
        >>> data = {"x": np.array([[1.0, 1.0], [1.0, -1.0]], np.float32),
        ...         "label": np.array([0, 1])}
        >>> spectra = class_spectra(
        ...     lambda w, batch: 0.5 * (batch["x"] @ w**2), jnp.ones(2), data,
        ...     {"tail": np.array([False, True])}, batch_size=2, key=jax.random.key(0))
        >>> {name: round(found.lambda_min, 3) for name, found in spectra.items()}
        {'all': 0.0, 'tail': -1.0}
    """
    if "all" in class_groups:
        raise ValueError('class_spectra: "all" is the whole loss, expected other names')
    check_integers("class_spectra", "data['label']", data["label"])
    if "key" in options:
        options["key"] = as_key("class_spectra", options["key"])
    labels = np.asarray(data["label"])
    product = _product(loss_fn)
    everything = np.ones(infer_num_classes("class_spectra", labels), bool)
    spectra = {}
    for name, members in {"all": everything, **class_groups}.items():
        members = np.asarray(members, bool)
        if members.shape[0] <= labels.max():
            raise ValueError(
                f"class_spectra: group {name!r} has shape {members.shape}, but there"
                f" are labels up to {labels.max()}"
            )
        rows = np.flatnonzero(members[labels])
        if rows.size:
            batches = padded_batches(data, rows, batch_size)
            spectra[name] = _spectrum(product, params, batches, **options)
    return spectra


def nonconvexity(lambda_min: float, lambda_max: float) -> float:
    r"""Saddle score :math:`\max(0, -\lambda_{\min}) / \lambda_{\max}`.

    Args:
        lambda_min: smallest eigenvalue.
        lambda_max: largest eigenvalue.

    Returns:
        0 where the loss is locally convex; inf if it curves downwards only.

    Example:
        >>> nonconvexity(-1.0, 4.0), nonconvexity(0.5, 4.0)
        (0.25, 0.0)

    References:
        Rangwani et al., NeurIPS 2022, use `|lambda_min / lambda_max|`, which is the
        same at a saddle but not zero where the Hessian is positive definite.
    """
    negative = max(0.0, -lambda_min)
    if negative == 0.0:
        return 0.0
    return negative / lambda_max if lambda_max > 0 else float("inf")


def padded_batches(
    data: Mapping[str, np.ndarray], rows: np.ndarray, batch_size: int
) -> list[dict[str, np.ndarray]]:
    """The given rows as batches of equal size, with a "mask" that marks real rows.

    Args:
        data: dict of arrays with a leading axis of examples.
        rows: [n] int, n >= 1.
        batch_size: rows per batch.

    Returns:
        ceil(n / batch_size) dicts with `batch_size` rows each.

    Example:
        >>> batches = padded_batches({"x": np.arange(4)}, np.array([1, 2, 3]), 2)
        >>> [(b["x"].tolist(), b["mask"].tolist()) for b in batches]
        [([1, 2], [True, True]), ([3, 3], [True, False])]
    """
    rows = np.asarray(rows)
    batches = []
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        # Padding repeats a real row, which is harmless in any model.
        full = np.concatenate([part, np.full(batch_size - len(part), part[-1])])
        batch = {name: np.asarray(values)[full] for name, values in data.items()}
        real = np.arange(batch_size) < len(part)
        batches.append({**batch, "mask": real & batch.get("mask", True)})
    return batches


def _spectrum(
    product: Callable,
    params: Any,
    batches: Sequence[Any],
    *,
    key: jax.Array,
    num_steps: int = 64,
    num_starts: int = 3,
    trace_probes: int = 100,
    trace_tolerance: float = 1e-3,
    grid_points: int = 10_000,
    loop: str = "python",
) -> Spectrum:
    for name, value in {"num_steps": num_steps, "num_starts": num_starts}.items():
        if value < 1:
            raise ValueError(
                f"hessian_spectrum: {name} is {value}, expected at least 1"
            )
    operator, size, count = _operator(product, params, batches, loop)
    dtype = ravel_pytree(params)[0].dtype
    start_key, restart_key, trace_key = (jax.random.fold_in(key, k) for k in range(3))
    values, weights = [], []
    for r in range(num_starts):
        start = jax.random.rademacher(jax.random.fold_in(start_key, r), (size,), dtype)
        restart = jax.random.fold_in(restart_key, r)
        tridiagonal = lanczos(operator, start, num_steps, key=restart)
        for found, kept in zip(ritz(tridiagonal), (values, weights), strict=True):
            kept.append(found)
    values, weights = np.stack(values), np.stack(weights)
    if num_steps >= size:  # the basis is complete: similar matrices, equal traces
        trace, error = float(values[0].sum()), 0.0
    else:
        trace, error = hutchinson_trace(
            operator,
            size,
            key=trace_key,
            probes=trace_probes,
            tolerance=trace_tolerance,
            dtype=dtype,
        )
    grid, density = spectral_density(values, weights, points=grid_points)
    low, high = float(values.min()), float(values.max())
    return Spectrum(
        lambda_min=low,
        lambda_max=high,
        trace=trace,
        trace_error=error,
        nonconvexity=nonconvexity(low, high),
        ritz_values=values,
        ritz_weights=weights,
        grid=grid,
        density=density,
        num_parameters=size,
        num_examples=count,
    )


# ---------------------------------------------------------------- Hessian products


def _weights(losses, batch):
    mask = batch.get("mask") if isinstance(batch, Mapping) else None
    return mask_values(jnp.ones_like(losses), mask)


def _product(loss_fn: Callable) -> Callable:
    """Jitted (params, batch, flat vector) -> (flat product, number of examples)."""

    def product(params, batch, vector):
        _, unravel = ravel_pytree(params)

        def total(theta):
            losses = loss_fn(theta, batch)
            weights = _weights(losses, batch)
            return jnp.sum(mask_values(losses, weights > 0)), jnp.sum(weights)

        gradient = jax.grad(total, has_aux=True)
        _, image, count = jax.jvp(gradient, (params,), (unravel(vector),), has_aux=True)
        return ravel_pytree(image)[0], count

    return jax.jit(product)


@partial(jax.jit, static_argnums=0)
def _scanned(product, params, stacked, vector):
    def body(total, batch):
        image, count = product(params, batch, vector)
        return total + image, count

    image, counts = jax.lax.scan(body, jnp.zeros_like(vector), stacked)
    return image, jnp.sum(counts)


def _operator(product, params, batches, loop) -> tuple[MatVec, int, float]:
    check_choice("hessian_operator", "loop", loop, ("python", "scan"))
    check_parameters("hessian_operator", params)
    batches = [jax.tree.map(jnp.asarray, batch) for batch in batches]
    if not batches:
        raise ValueError("hessian_operator: batches is empty, expected at least one")
    if loop == "scan":
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        apply = partial(_scanned, product, params, stacked)
    else:

        def apply(vector):
            images, counts = zip(
                *(product(params, batch, vector) for batch in batches), strict=True
            )
            return sum(images[1:], images[0]), sum(counts[1:], counts[0])

    def precise(vector) -> Any:
        # Products in reduced precision are not symmetric enough for Lanczos.
        with jax.default_matmul_precision("highest"):
            return apply(vector)

    flat = ravel_pytree(params)[0]
    count = float(precise(jnp.zeros_like(flat))[1])
    if count <= 0:
        raise ValueError("hessian_operator: no example is left by the masks")

    def matvec(vector: jax.Array) -> jax.Array:
        return precise(vector)[0] / count

    return matvec, flat.size, count
