"""DRAUC: the attack on a linear scorer by hand, budgets, and their multipliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.ranking.drauc import DRAUCOptions, first_move
from ltjax.options import ConfigError


def test_the_first_move_is_within_its_radius():
    radii = jnp.array([0.0, 0.5, 2.0])
    found = first_move(jax.random.key(0), jnp.zeros((3, 4, 2)), radii)
    norms = np.linalg.norm(np.asarray(found).reshape(3, -1), axis=1)
    assert norms[0] == 0 and 0 < norms[1] < 0.5 and 0 < norms[2] < 2


@pytest.fixture(scope="module")
def stepped(smoked, ranked_batch):
    """(run, state, prepared batch, batch); every fourth row is positive."""
    run, state = smoked(
        "robust_auc",
        "method=drauc_aware",
        "model.norm=none",
        "method.warmup=0 steps",
        "method.steps=1",
        "method.multiplier=0.0",
        "method.multiplier_lr=0.5",
        "method.period=2",
        "method.radius=0.6",
        "method.ratio=1.5",
    )
    duals = {"a": jnp.array([0.9]), "b": jnp.array([0.1]), "alpha": jnp.array([0.6])}
    state = state.replace(method_state={**state.method_state, "duals": duals})
    batch = ranked_batch(np.arange(16) % 4 == 0)

    @jax.jit
    def prepared(state, batch, key):
        _, seen = run.method.prepare(state, batch, key=key, program=None)
        return seen

    return run, state, prepared(state, batch, jax.random.key(5)), batch


def test_positives_move_down_the_score_and_negatives_up(stepped):
    run, state, seen, batch = stepped
    labels = np.asarray(batch["label"])

    def margins(x):
        outputs, _ = run.model.forward(state.params, state.model_state, x, train=False)
        return outputs["logits"][:, 1] - outputs["logits"][:, 0]

    radii = jnp.sqrt(jnp.array([(1 - 1.5 * 0.2) / 0.8, 1.5]) * 0.36)[labels]
    x = jnp.where(batch["mask"][:, None, None], batch["inputs"], 0)
    start = first_move(jax.random.key(5), x, radii)
    slope = jax.grad(lambda x: margins(x).sum())(x + start)
    slope /= jnp.linalg.norm(slope.reshape(16, -1), axis=1)[:, None, None]
    # For h in (0.1, 0.9) both the squares and alpha pull the same way.
    way = np.where(labels == 1, -1, 1)[:, None, None]
    want = x + start + 0.2 * way * slope
    np.testing.assert_allclose(seen["inputs"][:14], want[:14], atol=1e-4)
    cost = np.square(np.asarray(seen["inputs"] - x)).sum((1, 2))
    np.testing.assert_allclose(seen["cost"][:14], cost[:14], rtol=1e-4)


def test_multipliers_follow_the_costs_of_their_class(stepped):
    run, state, seen, batch = stepped
    cost = np.where(np.asarray(batch["label"]) == 1, 0.7, 0.1).astype(np.float32)
    attacked = {**seen, "cost": jnp.asarray(cost)}
    aux = {"outputs": {"logits": jnp.zeros((16, 2))}}
    update = jax.jit(run.method.update)
    before = {**state.method_state, "lambda": jnp.array([0.05, 0.05])}
    waiting = update(
        state.replace(step=jnp.array(1), method_state=before), attacked, aux
    )
    # Padding does not count: of fourteen rows four are positive.
    np.testing.assert_allclose(waiting["count"], [10, 4])
    np.testing.assert_allclose(waiting["cost"], [1.0, 2.8], rtol=1e-5)
    np.testing.assert_allclose(waiting["lambda"], [0.05, 0.05])
    due = update(state.replace(step=jnp.array(2), method_state=before), attacked, aux)
    # Share 0.2, ratio 1.5, budget 0.36: the classes have 0.315 and 0.54.
    share = run.info.class_counts[1] / run.info.class_counts.sum()
    assert share == pytest.approx(0.2)
    want = [max(0.05 - 0.5 * (0.315 - 0.1), 0), 0.05 - 0.5 * (0.54 - 0.7)]
    np.testing.assert_allclose(due["lambda"], want, atol=1e-6)
    assert not due["count"].any() and not due["cost"].any()


def test_a_step_keeps_the_shapes_of_its_state(stepped):
    run, state, _, batch = stepped
    new, metrics = jax.eval_shape(run.step, state, batch)
    assert jax.tree.map(jnp.shape, new.method_state) == jax.tree.map(
        jnp.shape, state.method_state
    )
    assert {"monitor", "attack_cost"} <= metrics.keys()


def test_an_attacked_batch_costs_more(stepped):
    run, state, seen, batch = stepped
    y, real = np.asarray(batch["label"])[:14] == 1, batch["mask"]

    @jax.jit
    def logits(x):
        outputs, _ = run.model.forward(state.params, state.model_state, x, train=False)
        return outputs["logits"]

    def objective(x):
        z = np.asarray(logits(x), np.float64)[:14]
        h, a, b, alpha = 1 / (1 + np.exp(z[:, 0] - z[:, 1])), 0.9, 0.1, 0.6
        up, down = h[y], h[~y]
        gap = 1 + down.mean() - up.mean()
        squares = ((up - a) ** 2).mean() + ((down - b) ** 2).mean()
        return squares + 2 * alpha * gap - alpha**2

    clean = jnp.where(real[:, None, None], batch["inputs"], 0)
    radii = jnp.sqrt(jnp.array([(1 - 1.5 * 0.2) / 0.8, 1.5]) * 0.36)[batch["label"]]
    start = clean + first_move(jax.random.key(5), clean, radii)
    assert objective(seen["inputs"]) > objective(start)
    assert objective(seen["inputs"]) > objective(clean)


def test_without_a_step_and_a_multiplier_it_is_aucm(smoked, ranked_batch):
    batch = ranked_batch(np.arange(16) % 4 == 0)
    found = []
    for changes in (
        ("method=drauc", "method.steps=0", "method.multiplier=0.0"),
        ("method=aucm",),
    ):
        run, state = smoked("robust_auc", *changes, "method.warmup=0 steps")

        @jax.jit
        def loss(state, batch, run=run):
            key = jax.random.key(0)
            _, seen = run.method.prepare(state, batch, key=key, program=None)
            losses, _ = run.method.loss(
                state.params, state, seen, key=key, program=None
            )
            return losses["label"]

        found.append(np.asarray(loss(state, batch)))
    np.testing.assert_array_equal(*found)
    assert found[0].any()


def test_ten_classes_and_bad_boxes_are_refused(smoked):
    with pytest.raises(ConfigError, match="'drauc' couples the rows of the batch"):
        smoked("robust_auc", "method=drauc", "optimizer.accumulate=2")
    with pytest.raises(ConfigError, match="for two classes, but there are 10"):
        smoked("robust_auc", "method=drauc", "data.positive_from=0")
    with pytest.raises(ValueError, match=r"box is \(1.0, 0.0\), expected"):
        DRAUCOptions(box=(1.0, 0.0))
