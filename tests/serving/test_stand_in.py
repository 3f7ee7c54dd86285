"""Networks of every kind are built from run.json as they were from their data.

`tests/contract/test_methods.py` has the supervised ones.
"""

import json

import jax
import numpy as np
import pytest

from ltjax.data.modalities import batch_of
from ltjax.serving.loading import stand_in_splits
from ltjax.train.build import build
from ltjax.train.parts import make_parts, make_predict
from ltjax.train.workdir import facts_of

# Of each kind what reads most of its data: columns, companions, tables, peers, frames.
CONFIGS = [
    "auc_lt.py:method=aucm",
    "experts_lt.py:method=ride_routed",
    "multilabel_scenes.py:method=tkpr",
    "multimodal_digits.py:method=reconboost",
    "noisy_lt.py:method=coteaching",
    "noisy_lt.py:method=rcal",
    "partial_lt.py:method=solar",
    "robust_auc.py:method=drauc",
    "segmentation_scenes.py:method=aucseg",
    "selfsup_lt.py:method=paco",
    "semi_lt.py:method=darp",
    "semi_lt.py:method=simpro",
    "semi_lt.py:method=cossl",
]


@pytest.mark.parametrize("spec", CONFIGS)
def test_the_state_and_the_prediction_are_the_same(shipped, devices, spec):
    for stage in shipped(f"{spec},smoke"):
        with devices(1):
            run = build(stage.config)
        facts = json.loads(json.dumps(facts_of(run)))
        parts = make_parts(stage.config, stand_in_splits(facts))
        arguments = (0, run.info.replicas[0]["hyper"])
        told, found = (jax.eval_shape(made.init, *arguments) for made in (run, parts))
        assert str(told) == str(found)
        source = run.sources["train"]
        inputs = batch_of(source.element, 3)
        predict = make_predict(parts.method, parts.pipeline, parts.train)
        programs = [jax.make_jaxpr(fn)(told, inputs) for fn in (run.predict, predict)]
        assert str(programs[0]) == str(programs[1])
        np.testing.assert_array_equal(
            parts.setting.class_counts, run.sources["train"].class_counts
        )


def test_the_examples_of_a_stand_in_cannot_be_read(tiny, devices):
    with devices(1):
        splits = stand_in_splits(json.loads(json.dumps(facts_of(build(tiny())))))
    with pytest.raises(ValueError, match="not part of a trained network"):
        splits.train.read([0])
