"""Losses whose rows see each other: on many devices, as replicas, in parts of a batch.

The value of an anchor depends on the whole batch. On a mesh and under a replica axis
that is still the whole batch; where it would not be, the combination is refused.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax import losses
from ltjax.methods.registry import LOSSES
from ltjax.options import ConfigError

B, K = 16, 3
KEEP = np.arange(B) != 2
DUALS = losses.SaddleDuals(*(np.float32(x) for x in (0.6, 0.2, 0.4)))
UNSEEN = np.full(B, -np.inf, np.float32)
DRAWS = losses.SampledPriors(
    np.log(np.float32([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])),
    np.array([0, 1, 1]),
)


def dirmixe(scores, labels, **options):
    experts = jnp.stack([scores, 2 * scores], axis=1)
    counts = np.array([40, 8, 2])
    return losses.dirmixe(experts, labels, counts, DRAWS, **options).values


def soap(scores, labels, **options):
    means = losses.AveragePrecisionMeans(np.full(B, 0.8), np.full(B, 0.3))
    return losses.soap(scores, labels, means, **options).values


def song(scores, labels, **options):
    """Every row is a list of K entries, of which its label's is relevant."""
    relevant = (labels[:, None] == jnp.arange(K)[None, :]).astype(jnp.float32)
    return losses.song(scores, relevant, np.full((B, K), 0.4), **options).values


def sogclr(scores, labels, **options):
    return losses.sogclr(scores, scores[:, ::-1], UNSEEN, **options).values


# Of scores [B, K] and labels.
SCORES = {
    "auc_square": losses.auc_square,
    "auc_square, ovr": partial(losses.auc_square, pairs="ovr"),
    "auc_hinge": losses.auc_hinge,
    "auc_hinge, squared": partial(losses.auc_hinge, power=2),
    "auc_exp": losses.auc_exp,
    "auc_logistic": partial(losses.auc_logistic, block=5),
    "pixel_auc": partial(losses.pixel_auc, chunk=5),
    "dirmixe": partial(dirmixe, spread=5.0),
    "song": song,
    "sogclr": partial(sogclr, block=5),
}
# Of the probability of class 0, and whether it is the one.
BINARY = {
    "partial_auc": losses.partial_auc,
    "partial_auc_cvar": partial(losses.partial_auc_cvar, beta=0.4),
    "partial_auc_kl": partial(losses.partial_auc_kl, temperature=0.5, block=5),
    "aucm": lambda *args, **options: losses.aucm(*args, DUALS, **options).values,
    "soap": soap,
    "sopa_s": lambda *args, **options: (
        losses.sopa_s(*args, UNSEEN, temperature=0.5, block=5, **options).values
    ),
}


def graded_losses(names, scores, labels, where):
    """Name -> (gradient of a sum with unequal weights, values [B])."""

    def graded(loss, scores, labels):
        def total(scores):
            values = loss(scores, labels, where=where)
            return jnp.sum(jnp.linspace(0.5, 1.5, B) * values), values

        return jax.grad(total, has_aux=True)(scores)

    share = jax.nn.softmax(scores)[:, 0]
    return {
        name: graded(SCORES[name], scores, labels)
        if name in SCORES
        else graded(BINARY[name], share, labels == 0)
        for name in names
    }


def batch(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(B, K)).astype(np.float32)
    return scores, rng.permutation(np.arange(B) % K), KEEP


# One of moments, one that sorts, one with variables; the others take long to compile.
QUICK = ("auc_square", "auc_hinge, squared", "aucm")
SLOW = tuple(name for name in (*SCORES, *BINARY) if name not in QUICK)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["quick", "slow"]
)
def test_replicas_on_eight_devices_give_the_numbers_of_one(names, assert_same):
    every = partial(graded_losses, names)
    single = jax.jit(every)
    singles = [single(*batch(seed)) for seed in range(2)]
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(None, "data"))
        stacked = jax.tree.map(lambda *x: np.stack(x), *(batch(s) for s in range(2)))
        found = jax.jit(jax.vmap(every))(*jax.device_put(stacked, rows))
    expected = jax.tree.map(lambda *x: np.stack(x), *singles)
    assert all(np.any(gradient) for gradient, _ in expected.values())
    assert_same(jax.device_get(found), expected, rtol=2e-5, atol=2e-6)


COUPLING = [
    name
    for name, loss in LOSSES.items()
    if getattr(loss.facts(loss.options()), "compares_rows", False)
]
PARTS = [
    {"optimizer.accumulate": 2},
    {"gradient.name": "sam", "gradient.scope": "shard"},
    {"gradient.name": "imbsam", "gradient.compaction": True},
]


@pytest.mark.parametrize("name", COUPLING)
def test_parts_of_a_batch_are_refused(name, tiny):
    tiny({"loss.name": name, "gradient.name": "sam"})  # both passes see all of it
    for part in PARTS:
        with pytest.raises(ConfigError, match=f"loss '{name}' couples the rows of the"):
            tiny({"loss.name": name, "model.norm": "none"} | part)


@pytest.mark.parametrize("name", COUPLING)
def test_rows_of_several_classes_are_refused(name, tiny):
    with pytest.raises(ConfigError, match=f"loss '{name}' compares the rows of a"):
        tiny({"loss.name": name, "method.mixup": 1.0})


@pytest.mark.parametrize("method", ["rcal", "sel_cl_tune"])
def test_rows_that_a_method_mixes_are_refused(method, tiny):
    with pytest.raises(ConfigError, match=f"method '{method}' as configured mixes"):
        tiny({"loss.name": "auc_square", "method.name": method})
