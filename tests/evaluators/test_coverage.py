"""Coverage of classes whose features are given, by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluators import EvaluatorSetting
from ltjax.evaluators.registry import EVALUATORS

STATE = types.SimpleNamespace(params={}, model_state={})


def batch_of(degrees, labels):
    angles = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    inputs = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return {"inputs": inputs, "label": jnp.asarray(labels)}


def test_a_class_that_was_hardly_seen_is_not_covered():
    def forward(params, model_state, inputs, *, train):
        return {"features": inputs}, model_state

    counts = np.array([9, 2, 3])
    setting = EvaluatorSetting(
        predict=lambda state, inputs: {},
        class_counts=counts,
        groups={"many": counts > 5, "few": counts < 5},
        networks={"main": types.SimpleNamespace(forward=forward)},
    )
    component = EVALUATORS["coverage"]
    one = component.make(component.options(k=1, block=3), setting)

    def passed(sweep, batch):
        return jax.tree.map(lambda x: np.asarray(x)[None], sweep.fn(STATE, batch, None))

    # Class 0 at 0 to 20 degrees, class 1 at 90 to 110, none of class 2; neighbours are
    # 10 degrees apart. The training example at 95 is within that of 90 and 100.
    test = batch_of([0, 10, 20, 90, 100, 110], [0, 0, 0, 1, 1, 1])
    bank = passed(one.bank, batch_of([4, 14, 95], [0, 0, 1]))
    arrays = one.arrays(passed(one.judge, test), one.digest(bank), None)
    per_class = arrays["feature_coverage"]
    np.testing.assert_allclose(per_class, [[1, 2 / 3, np.nan]], rtol=1e-6)
    found = {name: np.ravel(x)[0] for name, x in one.summarize(arrays).items()}
    assert found["feature_coverage"] == pytest.approx(5 / 6)
    assert found["feature_coverage_many"] == 1
    assert found["feature_coverage_few"] == pytest.approx(2 / 3)
    assert found["feature_coverage_std"] == pytest.approx(np.sqrt(2) / 6)
    assert {column.key for column in one.columns} <= found.keys()
