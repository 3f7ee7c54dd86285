"""The face of a sampler: instance sampling before its start."""

import types

import numpy as np

from ltjax.resampling import samplers
from ltjax.resampling.component import SamplerOptions, deferred, label_arguments


def test_a_deferred_sampler_is_instance_sampling_before_its_start():
    setting = types.SimpleNamespace(
        labels=np.array([0, 0, 0, 1]),
        num_classes=2,
        batch_size=2,
        num_examples=4,
        steps=lambda text: int(text.split()[0]),
    )
    assert label_arguments(setting)[1:] == (2, 2)
    make = deferred(lambda o, s: samplers.class_balanced(*label_arguments(s)))
    late = make(SamplerOptions(start="3 steps"), setting)
    plain = samplers.instance(4, 2)
    balanced = samplers.class_balanced(*label_arguments(setting))
    for step in range(6):
        expected = plain if step < 3 else balanced
        np.testing.assert_array_equal(late(0, step)[0], expected(0, step)[0])
    at_once = make(SamplerOptions(), setting)
    np.testing.assert_array_equal(at_once(0, 0)[0], balanced(0, 0)[0])
