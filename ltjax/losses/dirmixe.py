r"""Experts for a hierarchy of test distributions: a mixture of Dirichlets.

The unknown class prior of a test set is itself random. Its distribution is a mixture of
three Dirichlets around the training prior, the uniform one and the inverse long tail,
and each component has an expert. `sample_priors` draws test priors, `dirmixe` averages
the loss over them and penalizes the bad side of its spread.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, check_whole, dtype_of, shape_of
from ltjax._numerics import mask_rows, mask_values
from ltjax.losses._affine import check_positive_counts
from ltjax.losses.experts import prepare_experts, reversed_prior

# log of 1e-9, which the released code adds to the ratio of priors.
FLOOR = -20.72326583694641


class SampledPriors(NamedTuple):
    """Test priors as logarithms [T, K] and the experts [T] they were drawn for."""

    log_priors: jax.Array
    experts: jax.Array


class DirMixELoss(NamedTuple):
    """Values [B] whose mean is the objective, and the mean loss of every draw [T]."""

    values: jax.Array
    draws: jax.Array


def sample_priors(
    key: jax.Array,
    class_counts: ArrayLike,
    *,
    num_draws: int,
    concentration: float | ArrayLike = 1e4,
) -> SampledPriors:
    r"""Draws test priors from the mixture of Dirichlets.

    .. math:: k \sim \mathrm{Uniform}\{1, 2, 3\}, \qquad
              w \sim \mathrm{Dir}\big( A\, w^{(k)} \big)

    around the training prior, the uniform prior and the reversed prior. A component of
    mean w has the relative standard deviation :math:`\sqrt{(1 - w) / (w (A + 1))}`.

    Args:
        key: a typed key.
        class_counts: [K] positive, number of training examples per class.
        num_draws: T.
        concentration: A; 1e4, or 1e5 for iNaturalist.

    Returns:
        SampledPriors. Sampled as logarithms, since components of small mean underflow.

    Raises:
        ValueError: if a readable count or the concentration is not positive, or
            num_draws < 1.

    Example:
        >>> draw = lambda key: sample_priors(key, [90, 10], num_draws=5)
        >>> draws = jax.eval_shape(draw, jax.random.key(0))
        >>> draws.log_priors.shape, draws.experts.shape
        ((5, 2), (5,))

    References:
        Yang et al., "Harnessing Hierarchical Label Distribution Variations in Test
        Agnostic Long-tail Recognition", ICML 2024.
    """
    check_whole("sample_priors", "num_draws", num_draws, low=1)
    size = shape_of(class_counts)[0] if shape_of(class_counts) else 0
    check_positive_counts("sample_priors", class_counts, size)
    check_range("sample_priors", "concentration", concentration, low=0, open_low=True)
    counts = jnp.asarray(class_counts).astype(jnp.float32)
    prior = counts / jnp.sum(counts)
    uniform = jnp.full_like(prior, 1 / size)
    inverse = jnp.asarray(reversed_prior(class_counts)).astype(jnp.float32)
    means = jnp.stack([prior, uniform, inverse])
    pick, draw = jax.random.split(key)
    experts = jax.random.randint(pick, (num_draws,), 0, 3)
    # A Dirichlet is normalized gammas, here in logarithms throughout.
    log_gamma = jax.random.loggamma(draw, concentration * means[experts])
    return SampledPriors(jax.nn.log_softmax(log_gamma, axis=-1), experts)


def dirmixe(
    expert_logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    draws: SampledPriors,
    *,
    tau: float | ArrayLike = 1.3,
    spread: float | ArrayLike = 0.0,
    ddof: str = "above",
    where: ArrayLike | None = None,
) -> DirMixELoss:
    r"""Mean loss over sampled test priors plus its semi-variance.

    .. math:: l_t = \mathrm{mean}_b\, \mathrm{CE}\big(
              z_{b k_t} - \tau \log (w_t / \pi),\; y_b \big), \qquad
              L = \bar l + \lambda V_+

    with the semi-variance of `semi_variance`. All T cross-entropies come from one
    matrix product per expert, :math:`e^{z} \cdot e^{-\tau \log(w/\pi)}`, so that many
    draws cost little.

    Args:
        expert_logits: [B, E, K] float.
        labels: [B] int class indices.
        class_counts: [K] positive, number of training examples per class.
        draws: log w [T, K] and the expert [T] of each, as of `sample_priors`.
        tau: strength of the adjustment.
        spread: lambda; 0 in the first 80 % of training in the paper, 1 to 15 after.
        ddof: "above" divides the semi-variance as the released code does, "population"
            by T.
        where: optional [B] bool; False rows cost 0.

    Returns:
        DirMixELoss: values [B] float32, not reduced (each row carries :math:`\lambda
        V_+` in full, so that the mean is L), and l [T]. NaN for a label outside [0, K).

    Raises:
        ValueError: if shapes disagree, a readable count is not positive or ddof is
            unknown.
        TypeError: if logits are not floating point or labels not integers.

    Example:
        >>> draws = SampledPriors(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0]))
        >>> counts = jnp.array([30, 10])
        >>> logits, labels = jnp.zeros((1, 1, 2)), jnp.array([1])
        >>> loss = jax.jit(dirmixe)(logits, labels, counts, draws, tau=1.0)
        >>> print(f"{loss.values[0]:.4f}")
        1.3863

    Limits: w = prior is plain cross-entropy, uniform w with tau = 1 is
    `balanced_softmax`; equal draws have no spread.

    References:
        Yang et al., ICML 2024, and the released code, which adds 1e-9 to
        :math:`(w / \pi)^\tau` inside the logarithm.
    """
    caller = "dirmixe"
    check_choice(caller, "ddof", ddof, ("above", "population"))
    z, y = prepare_experts(caller, expert_logits, labels, where)
    batch, num_experts, size = z.shape
    check_positive_counts(caller, class_counts, size)
    log_w, experts = jnp.asarray(draws.log_priors), jnp.asarray(draws.experts)
    if log_w.ndim != 2 or log_w.shape[1] != size:
        raise ValueError(
            f"{caller}: draws.log_priors has shape {log_w.shape}, expected [T, {size}]"
        )
    if experts.shape != log_w.shape[:1]:
        raise ValueError(
            f"{caller}: draws.experts has shape {experts.shape}, expected"
            f" {log_w.shape[:1]}"
        )
    counts = jnp.asarray(class_counts).astype(z.dtype)
    log_prior = jnp.log(counts / jnp.sum(counts))
    tau, spread = (jnp.asarray(x).astype(z.dtype) for x in (tau, spread))
    ratio = tau * (log_w.astype(z.dtype) - log_prior[None, :])
    shift = -jnp.logaddexp(ratio, jnp.asarray(FLOOR, z.dtype))
    each = _draw_losses(z, y, shift, experts)
    ones = mask_rows(where, jnp.ones(batch, z.dtype))
    total = jnp.maximum(jnp.sum(ones), 1)
    each = mask_values(each, None if where is None else jnp.asarray(where)[:, None])
    means = jnp.sum(each, axis=0) / total
    extra = spread * semi_variance(means, ddof=ddof)
    values = jnp.mean(each, axis=1) + extra
    return DirMixELoss(mask_values(values, where), means)


def _draw_losses(z, y, shift, experts):
    """CE(z_k + shift_t, y) of every example and draw, [B, T].

    The product cannot underflow: the largest logit is scaled to 1, and the shifts of a
    draw are within tau log(w / pi) + 20.7 of each other.
    """
    top = jax.lax.stop_gradient(jnp.max(z, axis=-1))
    high = jax.lax.stop_gradient(jnp.max(shift, axis=-1))
    product = jnp.einsum(
        "bek,tk->bet",
        jnp.exp(z - top[..., None]),
        jnp.exp(shift - high[:, None]),
        precision=jax.lax.Precision.HIGHEST,
    )
    log_sum = jnp.log(product) + top[..., None] + high[None, None, :]
    own = jnp.take_along_axis(
        z, jnp.where(y < 0, z.shape[-1], y)[:, None, None], axis=2, mode="fill"
    )
    own = own + jnp.take(shift.T, y, axis=0, mode="clip")[:, None, :]
    # The expert of each draw; an index out of range gives NaN.
    index = jnp.where(experts < 0, z.shape[1], experts)[None, None, :]
    picked = jnp.take_along_axis(log_sum - own, index, axis=1, mode="fill")
    return picked[:, 0]


def semi_variance(losses: ArrayLike, *, ddof: str = "above") -> jax.Array:
    r"""Squared excess over the mean, of the draws that exceed it.

    .. math:: V_+ = \frac{1}{\max(\#\{l_t > \bar l\} - 1,\, 1)}
              \sum_{t: l_t > \bar l} (l_t - \bar l)^2

    Gradient flows through the mean as well.

    Args:
        losses: [T] float, one per draw.
        ddof: "above" (as written) or "population", which divides by T.

    Returns:
        Scalar, 0 for equal losses.

    Raises:
        ValueError: if losses are not [T] or ddof is unknown.

    Example:
        >>> print(semi_variance(jnp.array([1.0, 1.0, 4.0])))
        4.0

    References:
        Yang et al., ICML 2024 ("population") and the released code ("above").
    """
    check_choice("semi_variance", "ddof", ddof, ("above", "population"))
    dtype_of("semi_variance", "losses", losses)
    if len(shape_of(losses)) != 1:
        raise ValueError(
            f"semi_variance: losses have shape {shape_of(losses)}, expected [T]"
        )
    losses = jnp.asarray(losses)
    excess = losses - jnp.mean(losses)
    above = excess > 0
    size = jnp.maximum(jnp.sum(above) - 1, 1) if ddof == "above" else losses.size
    return jnp.sum(jnp.where(above, jnp.square(excess), 0.0)) / size
