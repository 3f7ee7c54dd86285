"""How far an estimated class distribution is from the true one, as a step metric."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def prior_distance(estimate: Any, labels: Any) -> dict[str, tuple]:
    r"""Half the L1 distance of class shares, :math:`\tfrac12 \sum_k |\pi_k - \pi'_k|`.

    That is the smallest share of the examples which would have to be of another class.

    Args:
        estimate: [K] >= 0, in any unit.
        labels: [N] int, the true labels, which are read for this only; None if nobody
            knows them.

    Returns:
        "prior_distance" in [0, 1]; empty without labels.

    Example:
        >>> float(prior_distance([3.0, 1.0], np.array([0, 1]))["prior_distance"][0])
        0.25
    """
    if labels is None:
        return {}
    found = jnp.asarray(estimate)
    counts = np.bincount(labels, minlength=len(found))
    real = jnp.asarray(counts / counts.sum(), jnp.float32)
    shares = found / jnp.maximum(jnp.sum(found), jnp.finfo(jnp.float32).tiny)
    return {"prior_distance": (0.5 * jnp.sum(jnp.abs(shares - real)), 1.0)}
