"""The components of the losses of the top: phases, what is ranked, and depths."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses.component import LossContext
from ltjax.methods.ranking.losses import AUTKCOptions, TKPROptions, ranked
from ltjax.methods.registry import LOSSES
from ltjax.options import ConfigError

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0], [0.5, 0.0, 1.5, -0.5]], np.float32)
SETTING = types.SimpleNamespace(class_counts=np.array([9, 4, 2, 1]))
PUBLISHED = {
    (AUTKCOptions, "softmax"): ("square", "exp", "logistic"),
    (AUTKCOptions, "logits"): ("hinge",),
    (TKPROptions, "sigmoid"): ("square", "exp"),
    (TKPROptions, "logits"): ("logistic", "hinge"),
}
SCORES = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid, "logits": jnp.asarray}


@pytest.mark.parametrize(("options", "scores"), PUBLISHED)
def test_surrogates_have_the_scores_that_they_are_published_with(options, scores):
    own = "softmax" if options is AUTKCOptions else "sigmoid"
    for surrogate in PUBLISHED[options, scores]:
        found = ranked(LOGITS, options(surrogate=surrogate), own)
        np.testing.assert_array_equal(found, SCORES[scores](LOGITS))
        other = ranked(LOGITS, options(surrogate=surrogate, scores="sigmoid"), own)
        np.testing.assert_array_equal(other, jax.nn.sigmoid(LOGITS))


def test_cross_entropy_comes_before_the_curve():
    options, labels = AUTKCOptions(k=2), jnp.array([1, 0])
    loss = LOSSES["autkc"].make(options, SETTING)
    p = np.exp(np.float64(LOGITS))
    p /= p.sum(1, keepdims=True)
    own = p[[0, 1], [1, 0]]
    # Competitors are the three highest but the label itself: its ranks are 2 and 2.
    rivals = p[[[0], [1]], [[0, 2], [2, 1]]]
    curve = np.log1p(np.exp(rivals - own[:, None])).sum(1) / 2
    for phase, want in ((0, -np.log(own)), (1, curve)):
        context = LossContext(SETTING.class_counts, jnp.int32(phase), {}, {})
        found = loss.fn({"logits": jnp.asarray(LOGITS)}, labels, options, context)
        np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize("name", ["auc_square", "auc_hinge"])
def test_both_passes_of_sam_see_the_whole_batch(name, smoked, ranked_batch):
    rho, lr = 0.5, 0.1
    run, state = smoked(
        "auc_lt",
        f"method={name}",
        *("model.name=mlp", "model.hidden=(4,)", "model.norm=none"),
        *("gradient.name=sam", f"gradient.rho={rho}", "schedule.name=constant"),
        *("schedule.warmup=0 steps", f"optimizer.lr={lr}"),
        *("optimizer.momentum=0.0", "optimizer.weight_decay=0.0"),
    )
    batch = ranked_batch(np.arange(16) % 3)

    @jax.jit
    def slope(params):
        def risk(params):
            z, _ = run.model.forward(params, {}, batch["inputs"], train=True)
            p = jax.nn.softmax(z["logits"])[:14]
            return jnp.mean(getattr(losses, name)(p, batch["label"][:14]))

        return jax.grad(risk)(params)

    first = slope(state.params)
    norm = np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(first)))
    there = jax.tree.map(lambda w, g: w + rho * g / norm, state.params, first)
    want = jax.tree.map(lambda w, g: w - lr * g, state.params, slope(there))
    new, _ = jax.jit(run.step)(state, batch)
    for a, b in zip(*map(jax.tree.leaves, (new.params, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "of"), [("autkc", "classes"), ("tkpr", "labels")])
def test_a_list_is_no_longer_than_there_are_classes(name, of):
    component = LOSSES[name]
    with pytest.raises(ConfigError, match=f"k is 5, expected at most the 4 {of}"):
        component.make(component.options(k=5), SETTING)
    component.make(component.options(k=4), SETTING)
