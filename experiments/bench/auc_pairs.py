"""Losses of pairs as they are written down: tables of every pair, of the benchmark."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

import ltjax.losses as losses


def hinge(t):
    return jnp.maximum(1 - t, 0)


def squared_hinge(t):
    return jnp.square(hinge(t))


# name -> (loss, surrogate of the margin)
SURROGATES = {
    "auc_square": (losses.auc_square, lambda t: jnp.square(1 - t) / 2),
    "auc_hinge[1]": (losses.auc_hinge, hinge),
    "auc_hinge[2]": (partial(losses.auc_hinge, power=2), squared_hinge),
    "auc_exp": (losses.auc_exp, lambda t: jnp.exp(-t)),
    "auc_logistic": (losses.auc_logistic, lambda t: jax.nn.softplus(-t)),
}
SHARE = 0.3  # of the negatives that the CVaR counts


def mean_of(surrogate):
    return lambda up, down: jnp.mean(surrogate(up - down))


def weighted_table(up, down):
    return jnp.mean((1 - up + 1e-6) * (down + 1e-6) * jnp.square(1 - up + down))


def hardest_table(up, down):
    hard, _ = jax.lax.top_k(down, int(SHARE * down.shape[1]))
    return jnp.mean(squared_hinge(up - hard))


def tilted_table(up, down):
    tilted = jax.nn.logsumexp(squared_hinge(up - down), axis=1)
    return jnp.mean(tilted) - math.log(down.shape[1])


# name -> (loss, what it is of scores [P, 1] of positives and [1, Q] of negatives)
LOSSES = {
    **{name: (loss, mean_of(phi)) for name, (loss, phi) in SURROGATES.items()},
    "partial_auc": (losses.partial_auc, weighted_table),
    "partial_auc_cvar": (partial(losses.partial_auc_cvar, beta=SHARE), hardest_table),
    "partial_auc_kl": (partial(losses.partial_auc_kl, temperature=1.0), tilted_table),
}


def all_pairs(table: Callable, up: jax.Array, down: jax.Array):
    """Value and gradient of a loss as a table of pairs, compiled."""

    def loss(up, down):
        return table(up[:, None], down[None, :])

    graded = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return graded.lower(up, down).compile()


def all_class_pairs(surrogate: Callable, up: list, down: list, weights: list):
    """The same of several classes: one table a class, with weights of its opponents."""

    def loss(up, down):
        parts = zip(up, down, weights, strict=True)
        sums = (surrogate(u[:, None] - d[None, :]) @ w for u, d, w in parts)
        return sum(map(jnp.mean, sums)) / len(up)

    graded = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return graded.lower(up, down).compile()
