"""The components of the losses of the top: phases, what is ranked, and depths."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize(("name", "of"), [("autkc", "classes"), ("tkpr", "labels")])
def test_a_list_is_no_longer_than_there_are_classes(name, of):
    component = LOSSES[name]
    with pytest.raises(ConfigError, match=f"k is 5, expected at most the 4 {of}"):
        component.make(component.options(k=5), SETTING)
    component.make(component.options(k=4), SETTING)
