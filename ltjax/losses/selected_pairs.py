r"""Losses of pairs that are believed to be of one class (Sel-CL)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, check_where, dtype_of, shape_of
from ltjax._numerics import mask_values
from ltjax.losses._features import check_queue, unit_rows

# Of probabilities, so that logarithms are finite.
_LEAST = 1e-6


def selected_contrast(
    queries: ArrayLike,
    bank: ArrayLike,
    positive: ArrayLike,
    *,
    temperature: float | ArrayLike = 0.1,
    where: ArrayLike | None = None,
    bank_where: ArrayLike | None = None,
) -> jax.Array:
    r"""Supervised contrast whose positives are told pair by pair.

    .. math:: \ell_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
              \frac{e^{q_i \cdot k_p / T}}{\sum_a e^{q_i \cdot k_a / T}}

    Args:
        queries: [B, D] float, any norm.
        bank: [M, D] float, any norm; not differentiated.
        positive: [B, M] bool, the pairs that are believed.
        temperature: T > 0, may be traced.
        where: optional [B] bool; False rows cost 0.
        bank_where: optional [M] bool; False entries are nobody's keys.

    Returns:
        [B] float32 loss in nats, not reduced; 0 for a row without positives.

    Raises:
        ValueError: if shapes disagree or the temperature is not positive.
        TypeError: if features are not floating point.

    Example:
        >>> q, bank = jnp.array([[1.0, 0.0]]), jnp.eye(2)
        >>> loss = selected_contrast(q, bank, jnp.array([[True, False]]),
        ...                          temperature=1.0)
        >>> print(f"{loss[0]:.4f}")
        0.3133

    Limits: one positive, the own key, is `info_nce`.

    References:
        Li, Xia, Ge, Liu, "Selective-Supervised Contrastive Learning with Noisy Labels",
        CVPR 2022, eq. 8; Khosla et al., NeurIPS 2020.
    """
    caller = "selected_contrast"
    check_rank(caller, "queries", queries, 2, "[B, D]")
    size, dim = shape_of(queries)
    check_queue(caller, bank, dim, "bank")
    check_rank(caller, "positive", positive, 2, "[B, N]")
    check_where(caller, positive, (size, shape_of(bank)[0]), name="positive")
    check_range(caller, "temperature", temperature, low=0.0, open_low=True)
    check_where(caller, where, (size,))
    check_where(caller, bank_where, shape_of(bank)[:1], name="bank_where")
    (queries,) = unit_rows(where, queries)
    (keys,) = unit_rows(bank_where, bank)
    s = queries @ jax.lax.stop_gradient(keys).T
    s = s / jnp.asarray(temperature).astype(s.dtype)
    everything = jnp.ones(s.shape[1:], bool)
    seen = everything if bank_where is None else jnp.asarray(bank_where)
    seen = seen[None, :]
    chosen = jnp.asarray(positive) & seen
    normalizer = jax.nn.logsumexp(jnp.where(seen, s, -jnp.inf), axis=1)
    count = jnp.sum(chosen, axis=1)
    near = jnp.sum(jnp.where(chosen, s, 0.0), axis=1) / jnp.maximum(count, 1)
    return mask_values(jnp.where(count > 0, normalizer - near, 0.0), where)


def pair_similarity(
    logits: ArrayLike, target: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Binary cross-entropy of the chance that two rows are of one class.

    .. math:: \ell_i = -\frac{1}{B - 1} \sum_{j \ne i} t_{ij} \log p_i \cdot p_j
              + (1 - t_{ij}) \log (1 - p_i \cdot p_j), \qquad p = \mathrm{softmax}(z)

    Args:
        logits: [B, K] float.
        target: [B, B] in [0, 1], whether a pair is believed to be of one class.
        where: optional [B] bool; False rows cost 0 and are in nobody's pairs.

    Returns:
        [B] float32 loss in nats, not reduced; 0 for the only row of a batch.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> z = jnp.zeros((2, 4))
        >>> print(pair_similarity(z, jnp.ones((2, 2))).round(4))  # log 4
        [1.3863 1.3863]

    References:
        Li, Xia, Ge, Liu, CVPR 2022 (Sel-CL), the loss of similarity.
    """
    caller = "pair_similarity"
    check_rank(caller, "logits", logits, 2, "[B, K]")
    size = shape_of(logits)[0]
    dtype_of(caller, "target", target)
    if shape_of(target) != (size, size):
        raise ValueError(
            f"{caller}: target has shape {shape_of(target)}, expected {(size, size)}"
        )
    check_where(caller, where, (size,))
    z = jnp.asarray(logits).astype(jnp.result_type(jnp.float32, jnp.asarray(logits)))
    real = jnp.ones(size, bool) if where is None else jnp.asarray(where)
    p = jax.nn.softmax(jnp.where(real[:, None], z, 0.0))
    same = jnp.clip(p @ p.T, _LEAST, 1 - _LEAST)
    t = jnp.asarray(target).astype(p.dtype)
    cost = -(t * jnp.log(same) + (1 - t) * jnp.log1p(-same))
    pairs = real[:, None] & real[None, :] & ~jnp.eye(size, dtype=bool)
    count = jnp.maximum(jnp.sum(pairs, axis=1), 1)
    return jnp.sum(jnp.where(pairs, cost, 0.0), axis=1) / count
