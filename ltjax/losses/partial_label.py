r"""Losses of partial-label learning: every example comes with a set of candidates.

One label of the candidate set :math:`S_i` is the true one; which, the network has to
find out. What it believes so far is a table of confidences, one row per example, made
by `ltjax.pseudo_labels.disambiguate`; the losses here are what is minimized while the
table is held fixed. No gradient flows into confidences, weights or selections.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_floating,
    check_range,
    check_where,
    dtype_of,
    shape_of,
)
from ltjax._numerics import at_least_float32, mask_rows, mask_values
from ltjax.losses._affine import affine_cross_entropy, is_target


def proden(
    logits: ArrayLike, confidences: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Cross-entropy to the confidences that a label of the candidate set is true.

    .. math:: \ell(z, T) = -\sum_k T_k \log p_k, \qquad p = \mathrm{softmax}(z)

    Start with :math:`T = 1/|S|` on the candidates, and after every step replace T by
    the network's own distribution restricted to them, taken at the logits of the same
    pass: `ltjax.pseudo_labels.disambiguate(logits, candidates)`.

    Args:
        logits: [B, K] float.
        confidences: [B, K] float >= 0, T; rows sum to 1 and vanish outside of the
            candidates. Constant: no gradient.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if logits or confidences are not floats.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0, -1.0]])
        >>> uniform = jnp.array([[1.0, 1.0, 0.0, 1.0]]) / 3
        >>> print(f"{proden(logits, uniform)[0]:.4f}")
        1.7735

    Limits: cross-entropy where one label has all the confidence.

    References:
        Lv et al., "Progressive Identification of True Labels for Partial-Label
        Learning", ICML 2020, Algorithm 1.
    """
    caller = "proden"
    z, (target,) = _prepare(caller, logits, where, confidences=confidences)
    return mask_values(affine_cross_entropy(z, target), where)


def corr(
    logits: ArrayLike,
    confidences: ArrayLike,
    candidates: ArrayLike,
    *,
    consistency_weight: float | ArrayLike = 1.0,
    exclusion_weight: float | ArrayLike = 1.0,
    guard: float | ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Consistency with the confidences, and exclusion of labels that cannot be.

    The cost of one view; sum it over the views of an example.

    .. math:: \ell(z, T, S) = \lambda \sum_k T_k \log \frac{T_k}{p_k}
              - \mu \sum_{k \notin S} \log(1 - p_k), \qquad p = \mathrm{softmax}(z)

    :math:`\log(1 - p_k)` is taken from the other logits, not from the rounded
    probability, so that a network which is sure of an impossible label still gets the
    whole gradient.

    Args:
        logits: [B, K] float, of one view.
        confidences: [B, K] float >= 0, T; the same for all views. Constant.
        candidates: [B, K] bool or 0/1, S.
        consistency_weight: lambda >= 0; the original ramps it up over 100 epochs.
        exclusion_weight: mu >= 0; the original has 1 on the plain view and 0 on the
            augmented ones.
        guard: if given, the second term is :math:`-\log(1 - p_k + \text{guard})`, as
            in the released codes (1e-7 the original's, 1e-9 that of RECORDS), which
            bounds it.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a row without a candidate.

    Raises:
        ValueError: if shapes disagree or a readable weight is negative.
        TypeError: if confidences are not floats, or candidates neither bool nor
            integer.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0, -1.0]])
        >>> candidates = jnp.array([[True, True, False, True]])
        >>> print(f"{corr(logits, candidates / 3.0, candidates)[0]:.4f}")
        0.7661

    Limits: with a single candidate that has all the confidence, cross-entropy plus the
    exclusion of all other labels; with all labels as candidates, the divergence alone.

    References:
        Wu, Wang and Zhang, "Revisiting Consistency Regularization for Deep Partial
        Label Learning", ICML 2022 (one plain and two augmented views); Hong et al.,
        "Long-Tailed Partial Label Learning via Dynamic Rebalancing", ICLR 2023 (a weak
        and a strong view, both with both terms). The codes read the candidates off the
        confidences, so that a label whose confidence underflows is excluded for ever;
        here the candidates are an argument.
    """
    caller = "corr"
    check_range(caller, "consistency_weight", consistency_weight, low=0.0)
    check_range(caller, "exclusion_weight", exclusion_weight, low=0.0)
    if guard is not None:
        check_range(caller, "guard", guard, low=0.0)
    z, (target,), possible = _prepare_candidates(
        caller, logits, where, candidates, confidences=confidences
    )
    entropy = -jnp.sum(jax.scipy.special.xlogy(target, target), axis=-1)
    divergence = affine_cross_entropy(z, target) - entropy
    absent = _log_one_minus_softmax(z)
    if guard is not None:
        guard = jnp.asarray(guard).astype(z.dtype)
        absent = jnp.logaddexp(absent, jnp.log(guard))
    exclusion = -jnp.sum(jnp.where(possible, 0, absent), axis=-1)
    weights = consistency_weight, exclusion_weight
    lam, mu = (jnp.asarray(weight).astype(z.dtype) for weight in weights)
    return _known(lam * divergence + mu * exclusion, possible, where)


def cavl(
    logits: ArrayLike,
    candidates: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy to the candidate with the largest class activation value.

    .. math:: \ell(z, S) = -\log p_{\hat y}, \qquad
              \hat y = \arg\max_{k \in S} c_k, \qquad c_k = s_k\, |1 - s_k|

    The value is the sensitivity of cross-entropy times the input; unlike a probability
    it depends on the level of the logits.

    Args:
        logits: [B, K] float.
        candidates: [B, K] bool or 0/1, S.
        scores: optional [B, K] float, s: the logits of an earlier pass, or logits
            without their class prior (RECORDS); None for `logits`. Constant. Ties go to
            the lowest index.
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss in nats, not reduced; NaN for a row without a candidate.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if candidates are neither bool nor integer.

    Example:
        >>> logits = jnp.array([[0.6, 2.0, -1.5, -0.2]])
        >>> candidates = jnp.array([[True, False, False, True]])
        >>> print(f"{cavl(logits, candidates)[0]:.4f}")  # 0.24 is more than -0.24
        1.7276

    Limits: cross-entropy for a single candidate.

    References:
        Zhang et al., "Exploiting Class Activation Value for Partial-Label Learning",
        ICLR 2022. The authors' code multiplies c by the candidate mask and takes the
        largest entry of all, so that a *non*-candidate wins if all candidates have
        negative values; we choose among candidates, as the paper does. It also keeps
        the selection in a table that starts uniform; for that, use `proden` with
        `ltjax.pseudo_labels.disambiguate(..., rule="cavl")`.
    """
    caller = "cavl"
    given = {} if scores is None else {"scores": scores}
    z, scored, possible = _prepare_candidates(
        caller, logits, where, candidates, **given
    )
    (s,) = scored or (jax.lax.stop_gradient(z),)
    value = jnp.where(possible, s * jnp.abs(1 - s), -jnp.inf)
    loss = affine_cross_entropy(z, jnp.argmax(value, axis=-1))
    return _known(loss, possible, where)


def leveraged_weighted(
    logits: ArrayLike,
    weights: ArrayLike,
    candidates: ArrayLike,
    *,
    beta: float | ArrayLike = 1.0,
    base: str = "sigmoid",
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Weighted binary losses, with leverage between candidates and the other labels.

    .. math:: \ell(z, W, S) = \sum_{k \in S} W_k\, \phi(z_k)
              + \beta \sum_{k \notin S} W_k\, \psi(z_k)

    with :math:`\phi = \sigma(-z_k),\ \psi = \sigma(z_k)` for the sigmoid base (LWS) and
    :math:`\phi = -\log p_k,\ \psi = -\log(1 - p_k)` for the softmax base (LWC).

    Args:
        logits: [B, K] float.
        weights: [B, K] float >= 0, W. Constant. Start at 1/K, then
            `ltjax.pseudo_labels.disambiguate(..., rule="leveraged_weighted")`, whose
            rows sum to 1 over the candidates and to 1 over the others.
        candidates: [B, K] bool or 0/1, S.
        beta: leverage >= 0; 0 ignores the labels outside of S.
        base: "sigmoid" or "softmax".
        where: optional [B] bool; False entries cost 0.

    Returns:
        [B] float32 loss, not reduced (nats for the softmax base); NaN for a row without
        a candidate.

    Raises:
        ValueError: if shapes disagree, base is unknown or a readable beta is negative.
        TypeError: if weights are not floats, or candidates neither bool nor integer.

    Example:
        >>> logits = jnp.array([[1.0, -0.5, 0.3, -2.0]])
        >>> candidates = jnp.array([[True, True, False, False]])
        >>> weights = jnp.full((1, 4), 0.25)
        >>> print(f"{leveraged_weighted(logits, weights, candidates, beta=2.0)[0]:.4f}")
        0.5697

    Limits: with the softmax base, beta = 0, a single candidate and its weight 1:
    cross-entropy.

    References:
        Wen et al., "Leveraged Weighted Loss for Partial Label Learning", ICML 2021. The
        authors' code adds 1e-8 inside the logarithms and to the normalizers of
        the weights; here both are exact.
    """
    caller = "leveraged_weighted"
    check_range(caller, "beta", beta, low=0.0)
    check_choice(caller, "base", base, ("sigmoid", "softmax"))
    z, (weight,), possible = _prepare_candidates(
        caller, logits, where, candidates, weights=weights
    )
    if base == "sigmoid":
        inside, outside = jax.nn.sigmoid(-z), jax.nn.sigmoid(z)
    else:
        inside, outside = -jax.nn.log_softmax(z), -_log_one_minus_softmax(z)
    beta = jnp.asarray(beta).astype(z.dtype)
    loss = jnp.sum(weight * jnp.where(possible, inside, 0), axis=-1)
    loss += beta * jnp.sum(weight * jnp.where(possible, 0, outside), axis=-1)
    return _known(loss, possible, where)


def _prepare(caller, logits, where, **tables) -> tuple[jax.Array, list[jax.Array]]:
    """Checked logits [B, K], and tables of that shape without gradient."""
    check_floating(caller, "logits", logits)
    shape = shape_of(logits)
    if len(shape) < 1:
        raise ValueError(
            f"{caller}: logits has shape {shape}, expected [B, K] (classes last)"
        )
    check_where(caller, where, shape[:-1])
    z = mask_rows(where, at_least_float32(logits))
    rows = []
    for name, table in tables.items():
        check_floating(caller, name, table)
        _check_like_logits(caller, name, table, shape)
        table = jax.lax.stop_gradient(jnp.asarray(table)).astype(z.dtype)
        rows.append(mask_rows(where, table))
    return z, rows


def _prepare_candidates(caller, logits, where, candidates, **tables):
    """`_prepare`, and the candidates as bool."""
    z, rows = _prepare(caller, logits, where, **tables)
    dtype = dtype_of(caller, "candidates", candidates)
    if not (dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(
            f"{caller}: candidates have dtype {dtype}, expected bool or integers 0/1"
        )
    _check_like_logits(caller, "candidates", candidates, shape_of(logits))
    return z, rows, jnp.asarray(candidates) != 0


def _check_like_logits(caller, name, table, shape) -> None:
    if shape_of(table) != shape:
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(table)}, expected the shape of"
            f" logits {shape}"
        )


def _known(loss, possible, where) -> jax.Array:
    """NaN for rows without a candidate, in value and gradient; 0 for masked ones."""
    some = jnp.any(possible, axis=-1)
    if where is not None:
        some = some | ~jnp.asarray(where)
    # A factor reaches the gradient, which `where` would cut off.
    return mask_values(loss * jnp.where(some, 1, jnp.nan).astype(loss.dtype), where)


def _log_one_minus_softmax(logits) -> jax.Array:
    """log(1 - p) for every class, [B, K]; -inf if there is no other class.

    1 - p cancels only for p > 1/2, which the largest logit alone can have: its value
    comes from the sum over the others.
    """
    largest = is_target(logits, jnp.argmax(logits, axis=-1))
    log_sum = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    others = jnp.where(largest, -jnp.inf, logits)
    rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    small = jnp.where(largest, 0, jnp.exp(logits - log_sum))
    return jnp.where(largest, rest - log_sum, jnp.log1p(-small))
