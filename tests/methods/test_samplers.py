"""Samplers as components: what they are made from, and when they take over."""

import types

import numpy as np
import pytest

from ltjax.methods.registry import SAMPLERS
from ltjax.resampling import samplers
from ltjax.resampling.component import SamplerOptions

LABELS = np.repeat([0, 1, 2], [40, 8, 4])


def setting():
    return types.SimpleNamespace(
        labels=LABELS,
        num_classes=3,
        num_examples=len(LABELS),
        class_counts=np.bincount(LABELS),
        batch_size=8,
        steps_per_epoch=6,
        total_steps=12,
        steps=lambda text: int(text.split()[0]),
    )


def made(name, **options):
    component = SAMPLERS[name]
    return component.make(component.options(**options), setting())


def drawn(sampler, steps=range(40)):
    """Share of each class among what is drawn."""
    labels = np.concatenate([LABELS[sampler(0, t)[0]] for t in steps])
    return np.bincount(labels, minlength=3) / len(labels)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_the_batch(name):
    indices, mask = made(name)(0, 3)
    assert indices.shape == mask.shape == (8,) and mask.all()
    assert indices.min() >= 0 and indices.max() < len(LABELS)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("class_balanced", {}, np.ones(3)),
        ("square_root", {}, np.sqrt([40, 8, 4])),
        ("class_power", {"power": 0.25}, np.power([40.0, 8, 4], 0.25)),
        ("class_aware", {}, np.ones(3)),
        # Every example by its class's 1 / effective number.
        (
            "effective_number",
            {"beta": 0.9},
            [40, 8, 4] / (1 - 0.9 ** np.array([40, 8, 4])),
        ),
    ],
)
def test_shares_of_the_classes(name, options, expected):
    found = drawn(made(name, **options), range(400))
    np.testing.assert_allclose(found, expected / np.sum(expected), atol=0.03)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "instance"])
def test_they_take_over_from_instance_sampling(name):
    late, now = made(name, start="5 steps"), made(name)
    first = samplers.instance(len(LABELS), 8)
    for step in range(5):
        np.testing.assert_array_equal(late(0, step)[0], first(0, step)[0])
    assert issubclass(SAMPLERS[name].options, SamplerOptions)
    assert not any(
        np.array_equal(late(0, step)[0], first(0, step)[0]) for step in range(5, 9)
    )
    assert now.batch_size == late.batch_size == 8


def test_a_last_batch_may_be_padded():
    component = SAMPLERS["instance"]
    for remainder, padded in (("drop", False), ("pad", True)):
        options = component.options(remainder=remainder)
        assert component.facts(options).padded == padded
        sampler = component.make(options, setting())
        whole = all(sampler(0, step)[1].all() for step in range(14))
        assert whole != padded


def test_progressive_sampling_goes_over_the_whole_run():
    sampler = made("progressive")
    first, last = drawn(sampler, range(3)), drawn(sampler, range(9, 12))
    assert first[0] > last[0] and last[2] > first[2]
