"""Every method, as its paper writes it, against its list of terms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.sharpness import (
    asam,
    focal_coefficients,
    focal_sam,
    imbsam,
    plain,
    reduction_weights,
    rwsam,
    sam,
    sharp_value_and_grad,
    sse_sam,
)

DELTA = 1e-12


def tree_norm(tree):
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))


def added(*trees):
    return jax.tree.map(lambda *xs: sum(xs[1:], xs[0]), *trees)


def times(factor, tree):
    return jax.tree.map(lambda x: factor * x, tree)


class Explicit:
    """Every method as its paper writes it: losses of groups, one gradient at a time."""

    def __init__(self, problem, is_tail):
        self.size = len(problem.labels)
        self.labels = problem.labels
        self.tail = jnp.asarray(is_tail)[problem.labels].astype(jnp.float64)
        self.state, self.batch, self.loss_fn = problem.state, problem.batch, None

        def weighted(theta, weights):
            losses, _ = problem.loss_fn(theta, problem.state, problem.batch, None)
            return jnp.sum(weights * losses)

        self.gradient = jax.jit(jax.grad(weighted))

    def mean(self, theta, weights=1.0):
        return self.gradient(theta, weights * jnp.ones(self.size) / self.size)

    def away(self, theta, gradient, rho, scale=None):
        if scale is None:
            return added(theta, times(rho / (tree_norm(gradient) + DELTA), gradient))
        scaled = jax.tree.map(jnp.multiply, scale, gradient)
        step = jax.tree.map(jnp.multiply, scale, scaled)
        return added(theta, times(rho / (tree_norm(scaled) + DELTA), step))

    def sgd(self, theta):
        return self.mean(theta)

    def sam(self, theta, rho):
        return self.mean(self.away(theta, self.mean(theta), rho))

    def asam_weights(self, theta, rho, eta):
        scale = {
            layer: {
                name: jnp.ones_like(leaf) if name == "bias" else jnp.abs(leaf) + eta
                for name, leaf in leaves.items()
            }
            for layer, leaves in theta.items()
        }
        return self.mean(self.away(theta, self.mean(theta), rho, scale))

    def asam_all(self, theta, rho):
        scale = jax.tree.map(jnp.abs, theta)
        return self.mean(self.away(theta, self.mean(theta), rho, scale))

    def sam_reweighted(self, theta, class_weights, rho):
        weights = jnp.asarray(class_weights)[self.labels]
        weights = weights / weights.sum()
        ascent = self.gradient(theta, weights)
        return self.gradient(self.away(theta, ascent, rho), weights)

    def imbsam(self, theta, rho, kappa):
        away = self.away(theta, self.mean(theta, self.tail), rho)
        tail = times(kappa, self.mean(away, self.tail))
        return added(self.mean(theta, 1 - self.tail), tail)

    def imbsam_group_mean(self, theta, rho):
        tail = self.tail / max(float(self.tail.sum()), 1)
        head = (1 - self.tail) / max(float((1 - self.tail).sum()), 1)
        away = self.away(theta, self.gradient(theta, tail), rho)
        return added(self.gradient(theta, head), self.gradient(away, tail))

    def sse_stage1(self, theta, rho_head, rho_tail):
        head, tail = 1 - self.tail, self.tail
        away_head = self.away(theta, self.mean(theta, head), rho_head)
        away_tail = self.away(theta, self.mean(theta, tail), rho_tail)
        return added(self.mean(away_head, head), self.mean(away_tail, tail))

    def rwsam(self, theta, weights, rho):
        return self.mean(self.away(theta, self.mean(theta, weights), rho))

    def focal(self, theta, counts, gamma, lam, rho):
        pi = jnp.asarray(counts / counts.sum())
        c = (lam * (1 - pi) ** gamma)[self.labels]
        away = self.away(theta, self.mean(theta, c), rho)
        return added(self.mean(theta, 1 - c), self.mean(away, c))


EXAMPLE_WEIGHTS = np.linspace(0.3, 2.5, 16)
CLASS_WEIGHTS = np.array([0.2, 0.5, 1.1, 2.2])

TABLE = {
    "sgd": (lambda y, t, n: plain(16), None, lambda e, p: e.sgd(p)),
    "sam": (lambda y, t, n: sam(16, rho=0.3), None, lambda e, p: e.sam(p, 0.3)),
    "asam, weights only": (
        lambda y, t, n: sam(16, rho=0.8),
        asam(eta=0.01),
        lambda e, p: e.asam_weights(p, 0.8, 0.01),
    ),
    "asam, all": (
        lambda y, t, n: sam(16, rho=0.8),
        asam(eta=0.0, rule="all"),
        lambda e, p: e.asam_all(p, 0.8),
    ),
    "sam, re-weighted": (
        lambda y, t, n: sam(
            16,
            rho=0.3,
            base=reduction_weights(
                16, jnp.asarray(CLASS_WEIGHTS)[y], normalize="weights"
            ),
        ),
        None,
        lambda e, p: e.sam_reweighted(p, CLASS_WEIGHTS, 0.3),
    ),
    "imbsam": (
        lambda y, t, n: imbsam(y, t, rho=0.2),
        None,
        lambda e, p: e.imbsam(p, 0.2, 1.0),
    ),
    "imbsam, official": (
        lambda y, t, n: imbsam(y, t, rho=0.2, tail_scale=2.0),
        None,
        lambda e, p: e.imbsam(p, 0.2, 2.0),
    ),
    "imbsam, group means": (
        lambda y, t, n: imbsam(y, t, rho=0.2, normalize="group_mean"),
        None,
        lambda e, p: e.imbsam_group_mean(p, 0.2),
    ),
    "sse-sam, stage 1": (
        lambda y, t, n: sse_sam(y, t, rho_head=0.1, rho_tail=0.2, stage=1),
        None,
        lambda e, p: e.sse_stage1(p, 0.1, 0.2),
    ),
    "sse-sam, stage 2": (
        lambda y, t, n: sse_sam(y, t, rho_head=0.1, rho_tail=0.2, stage=2),
        None,
        lambda e, p: e.imbsam(p, 0.2, 1.0),
    ),
    "rwsam": (
        lambda y, t, n: rwsam(EXAMPLE_WEIGHTS, rho=0.3),
        None,
        lambda e, p: e.rwsam(p, EXAMPLE_WEIGHTS, 0.3),
    ),
    "focal-sam": (
        lambda y, t, n: focal_sam(
            y, focal_coefficients(n, gamma=2.0, lam=1.1), rho=0.3
        ),
        None,
        lambda e, p: e.focal(p, n_counts(), 2.0, 1.1, 0.3),
    ),
}


def n_counts():
    return np.array([40, 25, 6, 2])


@pytest.mark.parametrize(
    "kind", ["mlp", pytest.param("conv_bn", marks=pytest.mark.slow)]
)
def test_every_row_of_the_table_over_three_momentum_steps(kind, problem, is_tail, x64):
    given = problem(kind, dtype=jnp.float64)
    explicit = Explicit(given, is_tail)
    tx = optax.sgd(0.2, momentum=0.9)
    steps = {}  # rows that differ in their weights only share a program
    for name, (make, scale, reference) in TABLE.items():
        if scale not in steps:
            steps[scale] = jax.jit(
                lambda p, s, terms, scale=scale: sharp_value_and_grad(
                    given.loss_fn, scale=scale
                )(p, s, given.batch, None, terms)
            )
        terms = make(given.labels, is_tail, n_counts())
        ours, theirs = given.params, given.params
        ours_state, theirs_state = tx.init(ours), tx.init(theirs)
        for _ in range(3):
            _, gradient = steps[scale](ours, given.state, terms)
            updates, ours_state = tx.update(gradient, ours_state)
            ours = optax.apply_updates(ours, updates)
            updates, theirs_state = tx.update(reference(explicit, theirs), theirs_state)
            theirs = optax.apply_updates(theirs, updates)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.dtype == jnp.float64
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)
    assert steps[None]._cache_size() == 4  # plain, one, plain + one, two perturbed
