"""SDCLR: the pruned branch, its normalization, and masks that follow the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import nt_xent
from ltjax.pruning import apply_masks

REAL = 13


@pytest.fixture(scope="module")
def stepped(smoked, pair_batch):
    """(run, state with second norms of its own, state after a step, metrics)."""
    run, state = smoked("selfsup_lt", "method=sdclr,probe=false", "model.norm=none")
    second = jax.tree.map(lambda x: x + 0.5, state.params["second_norms"])
    state = state.replace(params={**state.params, "second_norms": second})
    new, metrics = jax.jit(run.step)(state, pair_batch)
    return run, state, new, metrics


def kernels(tree):
    return {
        jax.tree_util.keystr(path): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
        if np.ndim(x) > 2
    }


def test_nine_tenths_of_the_convolution_weights_are_cut(stepped):
    _, state, _, _ = stepped
    weights = kernels(state.params)
    masks = jax.tree_util.tree_leaves_with_path(state.method_state["masks"])
    masks = {jax.tree_util.keystr(path): np.asarray(x) for path, x in masks}
    assert masks.keys() == weights.keys() and len(masks) == 3
    total = sum(x.size for x in weights.values())
    assert sum(x.sum() for x in masks.values()) == total - -(-9 * total // 10)
    cut = max(np.abs(weights[k])[~masks[k]].max() for k in masks)
    assert cut < min(np.abs(weights[k])[masks[k]].min() for k in masks)


def test_a_step_contrasts_the_network_with_its_pruned_copy(stepped, pair_batch):
    run, state, _, metrics = stepped
    masks = state.method_state["masks"]
    pruned = jax.tree.map(
        lambda m, w: w if m is None else np.where(m, w, 0),
        masks,
        state.params,
        is_leaf=lambda x: x is None,
    )
    z = []
    for branch, (params, view) in enumerate(
        ((state.params, "view1"), (pruned, "view2"))
    ):
        outputs, _ = run.model.forward(
            params, state.model_state, pair_batch[view], train=True, branch=branch
        )
        z.append(np.asarray(outputs["projection"], np.float64)[:REAL])
    z = np.concatenate(z)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    s = z @ z.T / 0.2
    np.fill_diagonal(s, -np.inf)
    positive = s[np.arange(2 * REAL), (np.arange(2 * REAL) + REAL) % (2 * REAL)]
    want = (np.log(np.exp(s).sum(1)) - positive).mean()
    assert float(metrics["loss"][0]) == pytest.approx(want, rel=1e-4)


def projections(run, state, params, pruned, batch):
    """Both branches' projections of the real rows."""
    made = [
        run.model.forward(
            weights, state.model_state, batch[view], train=True, branch=branch
        )[0]["projection"]
        for branch, (weights, view) in enumerate(((params, "view1"), (pruned, "view2")))
    ]
    return [z[:REAL] for z in made]


def test_the_gradient_is_the_sum_of_the_branches(stepped, pair_batch):
    """Each with the other's projections held, as the two passes of the code have it."""
    run, state, _, _ = stepped
    masks = state.method_state["masks"]

    def joint(params):
        losses, _ = run.method.loss(
            *(params, state, pair_batch), key=jax.random.key(0), program=run.program(0)
        )
        return jnp.sum(losses["views"]) / REAL

    def by_branch(params, free):
        views = projections(run, state, params, apply_masks(params, masks), pair_batch)
        views = [
            jnp.where(on, z, jax.lax.stop_gradient(z))
            for on, z in zip(free, views, strict=True)
        ]
        return jnp.mean(nt_xent(*views, temperature=0.2))

    whole, gradient = (
        jax.jit(jax.grad(joint))(state.params),
        jax.jit(jax.grad(by_branch)),
    )
    one, two = (
        gradient(state.params, jnp.array(free))
        for free in ([True, False], [False, True])
    )
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-4, atol=1e-5),
        *(whole, one, two),
    )
    # What is cut has its gradient from the whole network alone.
    for name, kept in kernels(masks).items():
        assert not np.any(kernels(two)[name][~kept]), name
        assert np.any(kernels(one)[name][~kept]), name


def test_without_pruning_and_of_one_normalization_it_is_nt_xent(stepped, pair_batch):
    run, state, _, _ = stepped
    tied = jax.tree.map(lambda x: x - 0.5, state.params["second_norms"])
    params = {**state.params, "second_norms": tied}
    whole = jax.tree.map(jnp.ones_like, state.method_state["masks"])
    plain = state.replace(params=params, method_state={"masks": whole})

    @jax.jit
    def both(params):
        losses, _ = run.method.loss(
            *(params, plain, pair_batch), key=jax.random.key(0), program=run.program(0)
        )
        views = [
            run.model.forward(params, state.model_state, pair_batch[name], train=True)
            for name in ("view1", "view2")
        ]
        z = [outputs["projection"][:REAL] for outputs, _ in views]
        return losses["views"][:REAL], nt_xent(*z, temperature=0.2)

    found, expected = both(params)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_both_sets_of_normalization_learn(stepped):
    _, state, new, _ = stepped
    for name in ("head", "second_norms"):
        moved = jax.tree.map(
            lambda a, b: bool(np.any(a != b)), new.params[name], state.params[name]
        )
        assert all(jax.tree.leaves(moved)), name
    first, second = (new.model_state[n] for n in ("batch_stats", "second_norms"))
    assert np.any(first["head"]["norm1"]["mean"] != second["head"]["norm1"]["mean"])


def test_masks_are_drawn_anew_before_each_epoch(stepped, assert_same):
    run, state, new, _ = stepped
    (refresh,) = run.method.refreshes
    epoch = run.info.steps_per_epoch
    assert [s for s in range(2 * epoch + 1) if refresh.due(s)] == [0, epoch, 2 * epoch]
    assert_same(new.method_state, state.method_state)
    turned = jax.tree.map(lambda x: 1 / (x + jnp.where(x == 0, 1, 0)), state.params)
    found = refresh.fn(state.replace(params=turned), None)["masks"]
    # The smallest weights were cut; their inverses are the largest.
    both = jax.tree.map(
        lambda a, b: int(np.sum(a & b)), found, new.method_state["masks"]
    )
    assert sum(jax.tree.leaves(both)) == 0
