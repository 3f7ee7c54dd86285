"""Tiny nets in plain JAX: an MLP, a convolutional BatchNorm net, a GroupNorm net."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

NUM_CLASSES = 4
# Class sizes of the little training set the batches come from; 2 and 3 are tail.
COUNTS = np.array([40, 25, 6, 2])
IS_TAIL = COUNTS < 10


class Problem(NamedTuple):
    loss_fn: Any
    params: Any
    state: Any
    batch: dict
    labels: Any


def _cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def _conv(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _batch_norm(x, params, running):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    y = (x - mean[None, None, None]) / jnp.sqrt(var[None, None, None] + 1e-5)
    y = y * params["scale"][None, None, None] + params["bias"][None, None, None]
    new = {
        "mean": 0.9 * running["mean"] + 0.1 * mean,
        "var": 0.9 * running["var"] + 0.1 * var,
    }
    return y, new


def _group_norm(x, params, groups=2):
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, groups, c // groups)
    y = y - y.mean((1, 2, 4), keepdims=True)
    y = y / jnp.sqrt(jnp.square(y).mean((1, 2, 4), keepdims=True) + 1e-5)
    y = y.reshape(n, h, w, c)
    return y * params["scale"][None, None, None] + params["bias"][None, None, None]


def mlp_loss(params, state, batch, rng):
    x = batch["x"].reshape(batch["x"].shape[0], -1)
    for name in ("Dense_0", "Dense_1"):
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"][None])
    logits = x @ params["head"]["kernel"] + params["head"]["bias"][None]
    losses = _cross_entropy(logits, batch["label"])
    return losses, {"model_state": state, "outputs": {"logits": logits}}


def conv_bn_loss(params, state, batch, rng):
    x, new = batch["x"], {}
    for i, stride in enumerate((1, 2)):
        x = _conv(x, params[f"Conv_{i}"]["kernel"], stride)
        name = f"BatchNorm_{i}"
        x, new[name] = _batch_norm(x, params[name], state[name])
        x = jnp.tanh(x)
    logits = x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]
    aux = {"model_state": new, "outputs": {"logits": logits}}
    return _cross_entropy(logits, batch["label"]), aux


def conv_gn_loss(params, state, batch, rng):
    x = batch["x"]
    for i, stride in enumerate((1, 2)):
        x = _conv(x, params[f"Conv_{i}"]["kernel"], stride)
        x = jnp.tanh(_group_norm(x, params[f"GroupNorm_{i}"]))
    logits = x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]
    losses = _cross_entropy(logits, batch["label"])
    return losses, {"model_state": state, "outputs": {"logits": logits}}


def make_problem(kind, *, rows=16, dtype=jnp.float32, seed=0, side=6, width=4):
    rng = np.random.default_rng(seed)

    def normal(*shape, scale):
        return jnp.asarray(rng.normal(size=shape) * scale, dtype)

    def dense(inputs, outputs):
        return {
            "kernel": normal(inputs, outputs, scale=inputs**-0.5),
            "bias": normal(outputs, scale=0.1),
        }

    labels = jnp.asarray(rng.choice(NUM_CLASSES, size=rows, p=COUNTS / COUNTS.sum()))
    # Every class is present, tail rows are not all at one end.
    labels = labels.at[jnp.array([1, 5, 6, rows - 1])].set(jnp.array([2, 3, 0, 2]))
    labels = labels.astype(jnp.int32)
    batch = {"x": normal(rows, side, side, 2, scale=1.0), "label": labels}
    state = None
    if kind == "mlp":
        loss_fn = mlp_loss
        params = {
            "Dense_0": dense(side * side * 2, 8),
            "Dense_1": dense(8, 8),
            "head": dense(8, NUM_CLASSES),
        }
    else:
        norm = "BatchNorm" if kind == "conv_bn" else "GroupNorm"
        loss_fn = conv_bn_loss if kind == "conv_bn" else conv_gn_loss
        params = {"head": dense(width, NUM_CLASSES)}
        for i, inputs in enumerate((2, width)):
            kernel = normal(3, 3, inputs, width, scale=(9 * inputs) ** -0.5)
            params[f"Conv_{i}"] = {"kernel": kernel}
            params[f"{norm}_{i}"] = {
                "scale": 1 + normal(width, scale=0.1),
                "bias": normal(width, scale=0.1),
            }
        if kind == "conv_bn":
            state = {
                f"BatchNorm_{i}": {
                    "mean": jnp.zeros(width, dtype),
                    "var": jnp.ones(width, dtype),
                }
                for i in (0, 1)
            }
    return Problem(loss_fn, params, state, batch, labels)


@pytest.fixture
def problem():
    """Factory of small problems: problem(kind, rows=, dtype=, seed=)."""
    return make_problem


@pytest.fixture
def is_tail():
    return IS_TAIL


@pytest.fixture
def class_counts():
    return COUNTS


def _quadratic(theta, state, batch, rng):
    """One diagonal quadratic theta' diag(row) theta / 2 per row of the batch."""
    return 0.5 * (batch @ theta**2), {"model_state": state}


@pytest.fixture
def quadratic():
    return _quadratic
