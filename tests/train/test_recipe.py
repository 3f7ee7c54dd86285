"""The standard CIFAR-LT recipe, number by number, and the optimizers by hand."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.cli import load_config
from ltjax.data import augment
from ltjax.options import ConfigError
from ltjax.train.build import build
from ltjax.train.check import check
from ltjax.train.config import OptimizerConfig
from ltjax.train.optim import lr_factor, make_optimizer

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
STEPS_PER_EPOCH = 96


@pytest.fixture(scope="module")
def cifar():
    """configs/cifar_lt.py as it comes."""
    return check(load_config(["--config", str(CONFIGS / "cifar_lt.py")]))


def rates(config, epochs):
    """The learning rate at the first and at the last step of every epoch."""
    factor = lr_factor(
        config,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=128,
        total_steps=200 * STEPS_PER_EPOCH,
    )
    first = np.asarray(epochs) * STEPS_PER_EPOCH
    steps = np.stack([first, first + STEPS_PER_EPOCH - 1])
    return config.lr * np.asarray(jax.vmap(jax.vmap(factor))(jnp.asarray(steps)))


def test_the_rate_of_every_epoch(cifar):
    # e < 5: .1 (e + 1) / 5; then .1; from 160 .001; from 180 .00001.
    expected = np.full(200, 0.1)
    expected[:5] = [0.02, 0.04, 0.06, 0.08, 0.1]
    expected[160:180] = 0.001
    expected[180:] = 0.00001
    found = rates(cifar.optimizer, np.arange(200))
    for at_step in found:  # constant within an epoch
        np.testing.assert_allclose(at_step, expected, rtol=1e-6)


def test_the_recipe_is_written_in_the_config(cifar):
    optimizer = cifar.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == (
        "sgd",
        0.9,
        False,
    )
    assert (optimizer.weight_decay, optimizer.decay) == (2e-4, "all")
    assert (cifar.batch_size, cifar.total) == (128, "200 epochs")
    assert optimizer.clip_norm == 0 and cifar.ema_decay == 0
    assert cifar.model.name == "resnet32" and cifar.data.augment == "cifar"


def optimize(config, params, gradients, *, lr, decay, step=0):
    """Parameters after a step for each of the gradients."""
    hyper = {"lr": jnp.float32(lr), "weight_decay": jnp.float32(decay)}
    make_tx = make_optimizer(config, lambda step: jnp.ones(()))
    state = make_tx(hyper, step).init(params)
    seen = []
    for gradient in gradients:
        updates, state = make_tx(hyper, step).update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        seen.append(params)
    return seen


def test_velocities_of_a_constant_gradient():
    params = {"head": {"kernel": jnp.zeros((1, 1))}}
    unit = {"head": {"kernel": jnp.ones((1, 1))}}
    seen = optimize(OptimizerConfig(), params, [unit] * 3, lr=1.0, decay=0.0)
    values = np.array([float(p["head"]["kernel"][0, 0]) for p in seen])
    # v = 1, 1.9, 2.71 and w = -sum of them.
    np.testing.assert_allclose(-np.diff(values, prepend=0), [1, 1.9, 2.71], rtol=1e-6)


SHAPES = {  # a kernel, a scale and a bias of a norm, a head
    "backbone/conv1/kernel": (3, 3, 1, 2),
    "backbone/norm1/scale": (2,),
    "backbone/norm1/bias": (2,),
    "head/kernel": (2, 3),
    "head/bias": (3,),
}


def nested(flat):
    tree = {}
    for path, value in flat.items():
        *modules, name = path.split("/")
        place = tree
        for module in modules:
            place = place.setdefault(module, {})
        place[name] = value
    return tree


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return np.asarray(tree, np.float64)


def draw(rng):
    values = {p: rng.normal(size=shape) for p, shape in SHAPES.items()}
    return nested({p: value.astype(np.float32) for p, value in values.items()})


DECAYING = {
    "all": set(SHAPES),
    "kernels": {"backbone/conv1/kernel", "head/kernel"},
    "not_head_bias": set(SHAPES) - {"head/bias"},
}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", DECAYING)
def test_coupled_decay_on_the_named_leaves(decay, nesterov):
    rng = np.random.default_rng(0)
    params, gradients = draw(rng), [draw(rng) for _ in range(3)]
    lr, wd = 0.3, 0.05
    config = OptimizerConfig(decay=decay, nesterov=nesterov)
    found = optimize(config, params, gradients, lr=lr, decay=wd)[-1]
    for path in SHAPES:
        w, v = at(params, path), 0.0
        for gradient in gradients:
            g = at(gradient, path) + (wd * w if path in DECAYING[decay] else 0.0)
            v = 0.9 * v + g
            w = w - lr * (g + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(
            at(found, path), w, rtol=1e-5, atol=1e-6, err_msg=path
        )


def test_adamw_decays_apart_from_the_moments():
    rng = np.random.default_rng(1)
    params, gradients = draw(rng), [draw(rng) for _ in range(3)]
    lr, wd = 0.01, 0.1
    config = OptimizerConfig(name="adamw", decay="all")
    found = optimize(config, params, gradients, lr=lr, decay=wd)[-1]
    w = np.asarray(params["head"]["kernel"], np.float64)
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        g = np.asarray(gradient["head"]["kernel"], np.float64)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        adam = (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        w = w - lr * (adam + wd * w)
    np.testing.assert_allclose(found["head"]["kernel"], w, rtol=1e-5, atol=1e-6)


def test_factors_of_modules_and_modules_that_stay():
    rng = np.random.default_rng(2)
    params, gradient = draw(rng), draw(rng)
    config = OptimizerConfig(
        lr_factors={"backbone": 0.1, "backbone/norm1": 0.5}, momentum=0.0
    )
    moved = optimize(config, params, [gradient], lr=1.0, decay=0.0)[-1]
    factors = {"backbone/conv1/kernel": 0.1, "backbone/norm1/scale": 0.5}
    factors |= {"backbone/norm1/bias": 0.5}
    for path in SHAPES:
        expected = at(params, path) - factors.get(path, 1.0) * at(gradient, path)
        np.testing.assert_allclose(at(moved, path), expected, rtol=1e-5, atol=1e-6)
    head = OptimizerConfig(train="head", momentum=0.0)
    moved = optimize(head, params, [gradient], lr=1.0, decay=0.5)[-1]
    for path in SHAPES:
        expected = at(params, path)
        if path.startswith("head"):
            expected = 0.5 * expected - at(gradient, path)
        np.testing.assert_allclose(at(moved, path), expected, rtol=1e-5, atol=1e-6)


def test_a_module_is_not_another_one_whose_name_it_begins():
    ones = {"dense1": {"kernel": jnp.ones(2)}, "dense10": {"kernel": jnp.ones(2)}}
    params = {"backbone": ones}
    config = OptimizerConfig(train="backbone/dense1", momentum=0.0)
    moved = optimize(config, params, [params], lr=1.0, decay=0.0)[-1]["backbone"]
    assert moved["dense1"]["kernel"].tolist() == [0, 0]
    assert moved["dense10"]["kernel"].tolist() == [1, 1]


def test_a_warm_up_by_epochs_takes_whole_epochs():
    config = OptimizerConfig(schedule="warmup_multistep", warmup="20 steps")
    with pytest.raises(ConfigError, match="20 steps, .* multiple of the 96 steps"):
        rates(config, [0])


def network_gradient(params, inputs, labels):
    """Cross-entropy of ReLU(x W + b) V + c and its gradient, in float64."""
    x = inputs.reshape(len(inputs), -1).astype(np.float64)
    w, b, v, c = params
    hidden = np.maximum(x @ w + b, 0)
    logits = hidden @ v + c
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(x)), labels]).mean()
    p[np.arange(len(x)), labels] -= 1
    p /= len(x)
    back = (p @ v.T) * (hidden > 0)
    return loss, (x.T @ back, back.sum(0), hidden.T @ p, p.sum(0))


def test_whole_steps_of_the_engine_by_hand(tiny, devices):
    """Data, loss, gradient, decay, momentum and schedule of the recipe, in numpy."""
    with devices(1):
        run = build(
            tiny(
                {
                    "model.norm": "none",
                    "optimizer.lr": 0.1,
                    "optimizer.weight_decay": 2e-4,
                    "schedule.name": "warmup_multistep",
                    "schedule.warmup": "2 epochs",
                    "schedule.milestones": (3, 4),
                    "total": "5 epochs",
                }
            )
        )
    state = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])

    def leaves(tree):
        dense, head = tree["backbone"]["dense1"], tree["head"]
        parts = dense["kernel"], dense["bias"], head["kernel"], head["bias"]
        return [np.asarray(part, np.float64) for part in parts]

    params = leaves(state.params)
    velocity = [np.zeros_like(p) for p in params]
    step = jax.jit(run.step)
    arrays = run.feed.arrays
    for t in range(5 * 9):
        indices, mask = (part[0] for part in run.plan(t))
        rows = run.feed.rows(indices, mask)
        batch = run.feed.batch(arrays, rows, jax.random.key(0), train=True)
        state, metrics = step(state, batch)
        loss, gradient = network_gradient(
            params, arrays["inputs"][indices], arrays["label"][indices]
        )
        epoch = t // 9
        lr = 0.1 * [1 / 2, 1, 1, 1e-2, 1e-4][epoch]
        for i, g in enumerate(gradient):
            velocity[i] = 0.9 * velocity[i] + g + 2e-4 * params[i]
            params[i] = params[i] - lr * velocity[i]
        assert float(metrics["lr"][0]) == pytest.approx(lr, rel=1e-6)
        assert float(metrics["loss"][0]) == pytest.approx(loss, rel=1e-4)
    for found, expected in zip(leaves(state.params), params, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_padding_is_black_before_normalization(cifar):
    """A crop at offset (0, 0) begins with 4 rows and columns of -mean / std."""
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    pipeline = augment.build(cifar.data.augment, mean=mean, std=std)
    rows, columns = np.mgrid[:32, :32]
    image = np.stack([rows + 1, columns + 1, np.full((32, 32), 255)], axis=-1)
    images = np.broadcast_to(image.astype(np.uint8), (512, 32, 32, 3))
    cropped = np.asarray(pipeline.train(jax.random.key(0), images))
    pixels = np.rint((cropped * std + mean) * 255).astype(int)
    # Offset (0, 0), not mirrored (1 crop in 162): the image begins at (4, 4).
    at_origin = (pixels[:, 4, 4, :2] == 1).all(-1) & (pixels[:, 4, 5, 1] == 2)
    assert at_origin.any()
    black = -mean / std
    for found in cropped[at_origin]:
        np.testing.assert_allclose(found[0, 0], black, rtol=1e-5)
        for edge in (found[:4].reshape(-1, 3), found[:, :4].reshape(-1, 3)):
            np.testing.assert_allclose(edge, np.tile(black, (128, 1)), rtol=1e-5)
    # Not every crop is padded there, and evaluation does not crop.
    assert not (pixels[:, 0, 0] == 0).all()
    evaluated = np.asarray(pipeline.eval(images[:1]))
    expected = (np.array([1, 1, 255]) / 255 - mean) / std
    np.testing.assert_allclose(evaluated[0, 0, 0], expected, rtol=1e-5)
