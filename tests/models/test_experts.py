"""Experts on one trunk: parts of the features, widths, the router's inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.experts import ExpertHead, ExpertResNetCifar
from ltjax.models.forward import count_parameters

FEATURES = jax.random.normal(jax.random.key(1), (5, 12))


def test_experts_read_their_own_part_and_predict_by_the_mean():
    head = ExpertHead(num_classes=4, own_features=True, scale=7.0)
    params = head.init(jax.random.key(0), FEATURES, train=False)["params"]
    made = head.apply({"params": params}, FEATURES, train=False)
    x = np.asarray(FEATURES, np.float64).reshape(5, 3, 4)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    for e in range(3):
        w = np.asarray(params[f"expert{e + 1}"]["kernel"], np.float64)
        w /= np.linalg.norm(w, axis=0)
        found = made["expert_logits"][:, e]
        np.testing.assert_allclose(found, 7 * x[:, e] @ w, atol=2e-5)
    mean = np.asarray(made["expert_logits"]).mean(1)
    np.testing.assert_allclose(made["logits"], mean, rtol=1e-5, atol=1e-6)


def test_features_that_cannot_be_shared_out_are_refused():
    head = ExpertHead(num_classes=4, num_experts=5, own_features=True)
    with pytest.raises(ValueError, match="12 features, expected a multiple of num_exp"):
        jax.eval_shape(lambda: head.init(jax.random.key(0), FEATURES, train=False))


def test_the_router_sees_the_experts_so_far_only():
    head = ExpertHead(num_classes=6, hidden=8, router=True, router_top=4)
    params = head.init(jax.random.key(0), FEATURES, train=False)["params"]
    shapes = jax.tree.map(jnp.shape, params["router"])
    assert shapes["hidden"]["kernel"] == (8, 16)
    assert shapes["after1"]["kernel"] == shapes["after2"]["kernel"] == (16 + 4, 1)

    def router(params):
        return head.apply({"params": params}, FEATURES, train=False)["router"]

    slope = jax.jit(jax.jacobian(lambda p: jnp.sum(router(p), axis=0)))(params)
    reach = {
        e: np.abs(slope[f"expert{e}"]["kernel"]).max(axis=(1, 2)) > 0 for e in (1, 2, 3)
    }
    assert {e: found.tolist() for e, found in reach.items()} == {
        1: [True, True],
        2: [False, True],
        3: [False, False],
    }


def test_the_published_widths_of_the_late_stages():
    net = ExpertResNetCifar()
    assert net.late_widths == (24, 48) and net.num_features == 144
    shapes = jax.eval_shape(
        lambda x: net.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3))
    )["params"]
    # Shared: a stem of 3 -> 16 and ten layers of 16; each expert: 16 -> 24, nine of 24,
    # 24 -> 48, nine of 48; each layer with a scale and an offset per channel.
    layer = lambda a, b: 9 * a * b + 2 * b
    shared = layer(3, 16) + 10 * layer(16, 16)
    own = layer(16, 24) + 9 * layer(24, 24) + layer(24, 48) + 9 * layer(48, 48)
    assert count_parameters(shapes) == shared + 3 * own


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="depth is 31"):
        ExpertResNetCifar(depth=31)
    with pytest.raises(ValueError, match="leaves 8 channels after 16"):
        ExpertResNetCifar(narrow=0.25)
