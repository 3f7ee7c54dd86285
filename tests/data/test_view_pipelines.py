"""Pipelines of several views: what their options change."""

import jax
import numpy as np
import pytest

from ltjax.data.augment import PipelineSetting
from ltjax.data.view_pipelines import TWO_VIEWS, WEAK


@pytest.mark.parametrize(("mirror", "least", "most"), [(False, 0, 0), (True, 40, 88)])
def test_views_of_digits_are_not_mirrored(mirror, least, most):
    """Of an image that is brighter on the right, no crop is brighter on the left."""
    options = TWO_VIEWS.options(recipe="simclr_cifar", mirror=mirror)
    pipeline = TWO_VIEWS.make(options, PipelineSetting((0.5,), (0.5,)))
    ramp = np.arange(0, 240, 20, np.uint8)[:, None]
    batch = {"inputs": np.broadcast_to(ramp, (64, 12, 12, 1))}
    views = jax.jit(pipeline.train)(jax.random.key(0), batch)
    both = np.concatenate([views["view1"], views["view2"]])
    turned = both[:, :, :6].sum((1, 2, 3)) > both[:, :, 6:].sum((1, 2, 3))
    assert least <= turned.sum() <= most  # 5 in 100,000 fair draws lie outside


@pytest.mark.parametrize("recipe", ["fixmatch", "range_resized"])
@pytest.mark.parametrize(("mirror", "least", "most"), [(False, 0, 0), (True, 15, 49)])
def test_weak_views_of_digits_are_not_mirrored(recipe, mirror, least, most):
    options = WEAK.options(recipe=recipe, mirror=mirror)
    pipeline = WEAK.make(options, PipelineSetting((0.5,), (0.5,)))
    ramp = np.arange(0, 240, 20, np.uint8)[:, None]
    batch = {"inputs": np.broadcast_to(ramp, (64, 12, 12, 1))}
    view = np.asarray(jax.jit(pipeline.train)(jax.random.key(0), batch)["inputs"])
    turned = view[:, :, :6].sum((1, 2, 3)) > view[:, :, 6:].sum((1, 2, 3))
    assert least <= turned.sum() <= most
