r"""How strongly to act on a class prior: CReST+'s tempering, ACR's strength."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_class_vector, check_range, check_rank
from ltjax._numerics import at_least_float32


def temper(prior: ArrayLike, power: float | ArrayLike) -> jax.Array:
    r"""A flatter prior, :math:`\pi_k^t / \sum_j \pi_j^t`.

    Args:
        prior: [K] >= 0, need not sum to 1.
        power: t >= 0; 1 leaves the prior, 0 is uniform over the classes of positive
            prior. The others stay at 0.

    Returns:
        [K] float32, sums to 1.

    Raises:
        ValueError: if prior is not a vector or a readable power is negative.

    Example:
        >>> [f"{v:.4f}" for v in temper(jnp.array([0.6, 0.3, 0.1]), 0.5)]
        ['0.4727', '0.3343', '0.1930']

    References:
        Wei et al., "CReST", CVPR 2021: progressive distribution alignment.
    """
    check_rank("temper", "prior", prior, 1, "[K]")
    check_range("temper", "power", power, low=0)
    values = at_least_float32(prior)
    some = values > 0
    logs = jnp.log(jnp.where(some, values, 1))
    logs = jnp.where(some, jnp.asarray(power).astype(values.dtype) * logs, -jnp.inf)
    lifted = jnp.exp(logs - jnp.max(jnp.where(some, logs, -jnp.inf), initial=-1e30))
    return lifted / jnp.maximum(jnp.sum(lifted), jnp.finfo(values.dtype).tiny)


def crest_power(generation: int, generations: int, *, last: float = 0.5) -> float:
    r"""CReST+'s exponent of a generation, :math:`t_g = 1 - \frac{g}{G-1}(1 - t_{min})`.

    Args:
        generation: g in [0, G).
        generations: G.
        last: t_min in [0, 1], reached in the last generation.

    Returns:
        t_g, for `temper`; 1 if there is a single generation.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> [crest_power(g, 6) for g in (0, 5)]
        [1.0, 0.5]

    References:
        Wei et al., CVPR 2021; the released code divides by G - 1, the paper by G.
    """
    caller = "crest_power"
    check_range(caller, "generations", generations, low=1)
    check_range(
        caller, "generation", generation, low=0, high=generations, open_high=True
    )
    check_range(caller, "last", last, low=0, high=1)
    return 1.0 - generation / max(generations - 1, 1) * (1.0 - last)


def acr_divergences(estimate: ArrayLike, labelled_prior: ArrayLike) -> jax.Array:
    r"""How far an estimated prior is from being consistent, uniform and reversed.

    Symmetrized divergences :math:`\frac12 \mathrm{KL}(a \| b) + \frac12
    \mathrm{KL}(b \| a)` from the labelled prior, the uniform one, and the labelled one
    with the order of its classes by size reversed.

    Args:
        estimate: [K] >= 0, of the unlabelled set.
        labelled_prior: [K] >= 0.

    Returns:
        [3] float32 in nats; finite, with a floor of 1e-9 under both priors.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> prior = jnp.array([0.7, 0.2, 0.1])
        >>> [f"{v:.4f}" for v in acr_divergences(prior, prior)]
        ['0.0000', '0.3105', '1.1675']

    References:
        Wei and Gan, CVPR 2023 (ACR).
    """
    caller = "acr_divergences"
    check_rank(caller, "labelled_prior", labelled_prior, 1, "[K]")
    labelled = at_least_float32(labelled_prior)
    check_class_vector(caller, "estimate", estimate, labelled.shape[0])
    order = jnp.argsort(labelled)
    backwards = jnp.zeros_like(labelled).at[order].set(labelled[order[::-1]])
    anchors = jnp.stack([labelled, jnp.ones_like(labelled), backwards])

    def logs(values):
        values = values / jnp.sum(values, axis=-1, keepdims=True)
        return jnp.log(jnp.maximum(values, 1e-9))

    a = logs(jnp.asarray(estimate).astype(labelled.dtype))[None]
    b = logs(anchors)
    return 0.5 * jnp.sum((jnp.exp(a) - jnp.exp(b)) * (a - b), axis=-1)


def acr_strength(
    divergences: ArrayLike, *, scale: float | ArrayLike = 2.0
) -> jax.Array:
    r"""ACR's adaptive tau: the farther from the labelled prior, the larger.

    .. math:: \tau = s \cdot \mathrm{softmax}(d)_0, \qquad
              d = (d_{con}, d_{uni}, d_{rev})

    Args:
        divergences: [3], from `acr_divergences`, averaged over an epoch.
        scale: s.

    Returns:
        float32 scalar in (0, s), for `debias`.

    Raises:
        ValueError: if divergences are not three numbers.

    Example:
        >>> print(f"{acr_strength(jnp.zeros(3)):.4f}")
        0.6667

    References:
        Wei and Gan, CVPR 2023 (ACR).
    """
    check_class_vector("acr_strength", "divergences", divergences, 3)
    weights = jax.nn.softmax(at_least_float32(divergences))
    return jnp.asarray(scale).astype(weights.dtype) * weights[0]
