"""AUCM: the saddle loss, and the path of its variables, in float64 from definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.methods.ranking.saddle import scores_of, targets_of
from ltjax.options import ConfigError

CONFIG = ("auc_lt", "method=aucm,binary")


def scores(run, state, batch):
    outputs, _ = run.model.forward(
        state.params, state.model_state, batch["inputs"], train=True
    )
    z = np.asarray(outputs["logits"], np.float64)[:14]
    return 1 / (1 + np.exp(z[:, 0] - z[:, 1])), z


@pytest.mark.parametrize("alpha_step", ["gradient", "published"])
def test_warm_up_then_descent_in_a_and_b_and_ascent_in_alpha(
    smoked, ranked_batch, alpha_step
):
    run, state = smoked(
        *CONFIG,
        "model.norm=none",
        "method.warmup=1 steps",
        "method.dual_lr=0.2",
        f"method.alpha_step={alpha_step}",
    )
    batch = ranked_batch(np.arange(16) % 4 == 0)
    y = np.asarray(batch["label"])[:14] == 1
    step = jax.jit(run.step)
    h, z = scores(run, state, batch)
    state, metrics = step(state, batch)
    # Warm-up: cross-entropy; the variables are the best ones of the batch.
    own = np.log(np.exp(z).sum(1)) - np.where(y, z[:, 1], z[:, 0])
    assert float(metrics["loss"][0]) == pytest.approx(own.mean(), rel=1e-5)
    a, b = h[y].mean(), h[~y].mean()
    alpha = max(1 + b - a, 0)
    duals = jax.device_get(state.method_state["duals"])
    np.testing.assert_allclose(
        [duals[name][0] for name in ("a", "b", "alpha")], [a, b, alpha], rtol=1e-5
    )
    for _ in range(2):
        h, _ = scores(run, state, batch)
        state, metrics = step(state, batch)
        p, q = h[y], h[~y]
        gap = 1 + q.mean() - p.mean()
        saddle = ((p - a) ** 2).mean() + ((q - b) ** 2).mean()
        saddle += 2 * alpha * gap - alpha**2
        assert float(metrics["loss"][0]) == pytest.approx(saddle, rel=1e-4)
        pairs = np.mean((1 - p[:, None] + q[None, :]) ** 2)
        total, count = metrics["monitor"]
        assert float(total / count) == pytest.approx(pairs, rel=1e-4)
        slope = 2 * gap - 2 * alpha
        # PESG clips the gradients of a and b to 1.
        a -= 0.2 * np.clip(2 * (a - p.mean()), -1, 1)
        b -= 0.2 * np.clip(2 * (b - q.mean()), -1, 1)
        if alpha_step == "published":
            slope = 2 * (1 + b - a) - 2 * alpha
        alpha = max(alpha + 0.2 * slope, 0)
        duals = jax.device_get(state.method_state["duals"])
        np.testing.assert_allclose(
            [duals[name][0] for name in ("a", "b", "alpha")], [a, b, alpha], rtol=1e-4
        )


def test_every_class_against_the_rest_has_its_own_variables():
    logits = jnp.array([[1.0, 0.0, -1.0]])
    np.testing.assert_allclose(scores_of(logits), jax.nn.sigmoid(logits))
    np.testing.assert_allclose(scores_of(logits[:, :2]), [[jax.nn.sigmoid(-1.0)]])
    assert targets_of(jnp.array([2, 0]), 3).tolist() == [
        [False, False, True],
        [True, False, False],
    ]
    assert targets_of(jnp.array([1, 0]), 2).tolist() == [[True], [False]]


def test_absent_classes_keep_their_variables(smoked, ranked_batch):
    run, state = smoked("auc_lt", "method=aucm", "model.norm=none")
    batch = ranked_batch(np.arange(16) % 3)
    kept = {name: jnp.full(10, 0.3) for name in ("a", "b", "alpha")}
    state = state.replace(method_state={**state.method_state, "duals": kept})
    aux = {"outputs": {"logits": jnp.ones((16, 10))}}
    for t in (1, 50):  # in the warm-up and after it
        new = run.method.update(state.replace(step=jnp.array(t)), batch, aux)
        for name in ("a", "b", "alpha"):
            same = np.isclose(new["duals"][name], 0.3)
            # A sigmoid of 0.73 everywhere: the three classes there are move away.
            assert same.tolist() == [False] * 3 + [True] * 7, (t, name)


def test_a_sharp_gradient_moves_the_variables_at_the_unperturbed_pass(
    smoked, ranked_batch
):
    run, state = smoked(
        *CONFIG,
        "model.name=mlp",
        "model.hidden=(4,)",
        "model.norm=none",
        "method.warmup=0 steps",
        "method.dual_lr=0.2",
        "gradient.name=sam",
        "gradient.rho=2.0",
    )
    batch = ranked_batch(np.arange(16) % 4 == 0)
    up = np.asarray(batch["label"])[:14] == 1
    duals = {name: jnp.full(1, 0.3) for name in ("a", "b", "alpha")}
    state = state.replace(method_state={**state.method_state, "duals": duals})
    h, _ = scores(run, state, batch)
    p, q = h[up].mean(), h[~up].mean()
    new, _ = jax.jit(run.step)(state, batch)
    slopes = {"a": 2 * (0.3 - p), "b": 2 * (0.3 - q)}
    slopes["alpha"] = 0.6 - 2 * (1 + q - p)  # ascent
    for name, slope in slopes.items():
        found = new.method_state["duals"][name][0]
        assert float(found) == pytest.approx(0.3 - 0.2 * slope, rel=1e-4), name


def test_micro_batches_are_refused(smoked):
    with pytest.raises(ConfigError, match="'aucm' couples the rows of the batch"):
        smoked(*CONFIG, "optimizer.accumulate=2")


def test_binary_data_need_classes_on_both_sides(smoked):
    with pytest.raises(ConfigError, match="positive_from is 10, but mnist1d has 10"):
        smoked(*CONFIG, "data.positive_from=10")
    run, _ = smoked(*CONFIG)
    assert run.info.class_counts.tolist() == [40, 4]  # smoked: a ratio of ten
