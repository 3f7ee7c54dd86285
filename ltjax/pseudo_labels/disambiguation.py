r"""Which candidate is the true label: the confidence tables of partial-label learning.

A table has one row per training example. A row of zeros was never written and stands
for equal confidence in all candidates, so that a table starts as zeros and needs no
pass over the data.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_class_vector,
    check_floating,
    check_integers,
    check_rank,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32
from ltjax.pseudo_labels.priors import debias

RULES = ("proden", "corr", "cavl", "leveraged_weighted")


def disambiguate(
    logits: ArrayLike,
    candidates: ArrayLike,
    *,
    rule: str = "proden",
    prior: ArrayLike | None = None,
    tau: float | ArrayLike = 1.0,
    floor: float | ArrayLike = 1e-9,
) -> jax.Array:
    r"""New confidences from the logits of a pass, without its gradient.

    With z the logits, or :math:`z - \tau \log(\pi + \text{floor})` if a prior is given
    (RECORDS),

    ==================== ==========================================================
    proden, corr         softmax of z over the candidates, 0 elsewhere
    cavl                 one-hot, the candidate with the largest :math:`z |1 - z|`
    leveraged_weighted   softmax over the candidates, and softmax over the others
    ==================== ==========================================================

    all in log space: no confidence is lost to underflow of a probability that is
    multiplied by the others' (the mask is an argument and not read off the table).

    Args:
        logits: [B, K] float, or [B, V, K] for V views, which are averaged; the
            geometric mean of CORR's probabilities is just that.
        candidates: [B, K] bool or 0/1, S.
        rule: "proden", "corr" (the same), "cavl" or "leveraged_weighted".
        prior: optional [K], pi, from `dynamic_prior`.
        tau: strength of the prior.
        floor: added to the prior; 1e-9 is that of the released code.

    Returns:
        [B, K] float32. Rows sum to 1; those of leveraged_weighted once over the
        candidates and once over the others. A row without a candidate is 0 there.

    Raises:
        ValueError: if shapes disagree or the rule is unknown.
        TypeError: if logits are not floats, or candidates neither bool nor integer.

    Example:
        >>> candidates = jnp.array([[True, True, False, True]])
        >>> rows = disambiguate(jnp.array([[2.0, 1.0, 0.0, -1.0]]), candidates)
        >>> [f"{p:.4f}" for p in rows[0]]
        ['0.7054', '0.2595', '0.0000', '0.0351']

    References:
        Lv et al., ICML 2020 (PRODEN); Wu, Wang and Zhang, ICML 2022 (CORR); Zhang et
        al., ICLR 2022 (CAVL: with the argmax over candidates, as the paper says and
        unlike the code); Wen et al., ICML 2021 (leveraged weights); Hong et al.,
        "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR 2023
        (RECORDS). For CAVL, whose values depend on the level of the logits, the
        debiased ones are used as they are: our choice.
    """
    caller = "disambiguate"
    check_choice(caller, "rule", rule, RULES)
    check_floating(caller, "logits", logits)
    possible = _checked_candidates(caller, candidates)
    shape = shape_of(logits)
    z = at_least_float32(jax.lax.stop_gradient(jnp.asarray(logits)))
    if len(shape) == possible.ndim + 1 and shape[-2] > 0:
        z = jnp.mean(z, axis=-2)
    if z.shape != possible.shape:
        raise ValueError(
            f"{caller}: candidates has shape {possible.shape}, but logits {shape};"
            " expected logits [B, K] or [B, V, K] for candidates [B, K]"
        )
    if prior is not None:
        check_class_vector(caller, "prior", prior, z.shape[-1])
        z = debias(z, prior, tau=tau, floor=floor)
    if rule == "cavl":
        value = jnp.where(possible, z * jnp.abs(1 - z), -jnp.inf)
        best = jnp.argmax(value, axis=-1)
        return jnp.where(possible, jax.nn.one_hot(best, z.shape[-1], dtype=z.dtype), 0)
    rows = masked_softmax(z, possible)
    if rule == "leveraged_weighted":
        rows = rows + masked_softmax(z, ~possible)
    return rows


def masked_softmax(logits: ArrayLike, where: ArrayLike) -> jax.Array:
    r"""Softmax over the classes where `where` is True; exactly 0 elsewhere.

    Args:
        logits: [..., K] float.
        where: [..., K] bool.

    Returns:
        [..., K] float32; a row without any True is 0.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits are not floats, or `where` is not bool.

    Example:
        >>> where = jnp.array([True, False, True])
        >>> print(masked_softmax(jnp.array([0.0, 90.0, 0.0]), where))
        [0.5 0.  0.5]
    """
    caller = "masked_softmax"
    check_floating(caller, "logits", logits)
    dtype_of(caller, "where", where)
    check_where(caller, where, shape_of(logits))
    kept = jnp.where(jnp.asarray(where), at_least_float32(logits), -jnp.inf)
    top = jnp.max(kept, axis=-1, keepdims=True)
    lifted = jnp.exp(kept - jnp.where(top > -jnp.inf, top, 0))
    total = jnp.sum(lifted, axis=-1, keepdims=True)
    return lifted / jnp.where(total > 0, total, 1)


def read_confidences(
    table: ArrayLike,
    index: ArrayLike,
    candidates: ArrayLike,
    *,
    start: ArrayLike | None = None,
) -> jax.Array:
    r"""Rows of a confidence table; :math:`S / |S|` for those never written.

    Args:
        table: [N, K] float, zeros at the start.
        index: [B] int, rows of the table.
        candidates: [B, K] bool or 0/1, S.
        start: optional [B, K] instead of :math:`S / |S|`; leveraged weights start at
            1/K everywhere.

    Returns:
        [B, K] in the dtype of the table.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if candidates are neither bool nor integer.

    Example:
        >>> candidates = jnp.array([[True, True, False, True]])
        >>> print(read_confidences(jnp.zeros((9, 4)), jnp.array([3]), candidates))
        [[0.33333334 0.33333334 0.         0.33333334]]
    """
    caller = "read_confidences"
    possible = _checked_table(caller, table, index, candidates)
    table = jnp.asarray(table)
    rows = table[jnp.asarray(index).astype(jnp.int32)]
    if start is None:
        even = possible.astype(table.dtype)
        start = even / jnp.maximum(jnp.sum(even, axis=-1, keepdims=True), 1)
    return jnp.where(jnp.sum(rows, axis=-1, keepdims=True) > 0, rows, start)


def write_confidences(
    table: ArrayLike,
    index: ArrayLike,
    rows: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""The table with new rows at `index`.

    Args:
        table: [N, K] float.
        index: [B] int, all different where `where` is True: of two rows for one
            example, either may win.
        rows: [B, K].
        where: optional [B] bool; rows that are False (padding) are not written.

    Returns:
        [N, K].

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> table, rows = jnp.zeros((2, 2)), jnp.array([[1.0, 0.0], [0.5, 0.5]])
        >>> where = jnp.array([True, False])
        >>> write_confidences(table, jnp.arange(2), rows, where=where).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    caller = "write_confidences"
    dtype_of(caller, "rows", rows)
    _checked_table(caller, table, index, jnp.zeros(shape_of(rows), bool))
    check_where(caller, where, shape_of(index))
    table, index = jnp.asarray(table), jnp.asarray(index)
    if where is not None:
        index = jnp.where(where, index, table.shape[0])
    return table.at[index].set(jnp.asarray(rows).astype(table.dtype), mode="drop")


def _checked_candidates(caller, candidates) -> jax.Array:
    dtype = dtype_of(caller, "candidates", candidates)
    if not (dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(
            f"{caller}: candidates have dtype {dtype}, expected bool or integers 0/1"
        )
    return jnp.asarray(candidates) != 0


def _checked_table(caller, table, index, rows) -> jax.Array:
    check_rank(caller, "table", table, 2, "[N, K]")
    check_rank(caller, "index", index, 1, "[B]")
    check_integers(caller, "index", index)
    expected = (shape_of(index)[0], shape_of(table)[1])
    if shape_of(rows) != expected:
        raise ValueError(
            f"{caller}: rows have shape {shape_of(rows)}, expected {expected} for a"
            f" table of shape {shape_of(table)}"
        )
    return _checked_candidates(caller, rows)
