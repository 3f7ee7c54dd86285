"""Class-resolved gaps and the metrics of a step."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.sharpness import (
    class_gap,
    group_gaps,
    imbsam,
    sharp_value_and_grad,
    sharpness_metrics,
)


def test_class_gap_counts_rows_once_and_skips_padding():
    rise = jnp.array([0.5, 1.0, jnp.nan, -0.25, 3.0])
    labels = jnp.array([0, 2, 0, 2, 9])
    where = jnp.array([True, True, False, True, True])
    sums, counts = class_gap(rise, labels, 3, where=where)
    np.testing.assert_allclose(sums, [0.5, 0.0, 0.75])
    np.testing.assert_array_equal(counts, [1, 0, 2])
    with pytest.raises(ValueError, match="labels have shape"):
        class_gap(rise, labels[:2], 3)
    with pytest.raises(ValueError, match="rise has shape"):
        class_gap(rise[:, None], labels, 3)


def test_metrics_are_sums_and_counts_of_active_perturbations(quadratic):
    rows, theta = jnp.array([[3.0, 1.0], [1.0, 5.0]]), jnp.array([1.0, -1.0])
    is_tail = np.array([False, True])
    value_and_grad = sharp_value_and_grad(quadratic)

    def metrics(labels):
        terms = imbsam(jnp.asarray(labels), is_tail, rho=0.1)
        return sharpness_metrics(value_and_grad(theta, None, rows, None, terms)[0])

    with_tail, without = metrics([0, 1]), metrics([0, 0])
    # Only the tail term is perturbed; a batch without tail rows counts for "active".
    assert set(with_tail) == {
        f"term1/{name}" for name in ("ascent_norm", "eps_norm", "gap", "active")
    }
    eps_sum, eps_count = (
        float(with_tail["term1/eps_norm"][i] + without["term1/eps_norm"][i])
        for i in (0, 1)
    )
    np.testing.assert_allclose((eps_sum, eps_count), (0.1, 1.0), rtol=1e-6)
    active, steps = (
        float(with_tail["term1/active"][i] + without["term1/active"][i]) for i in (0, 1)
    )
    assert (active, steps) == (1.0, 2.0)


def test_group_gaps_add_up_the_rises_of_their_classes():
    rise = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, np.nan])
    labels = jnp.array([0, 1, 2, 2, 3, 0])
    groups = {"many": np.array([True, False, False]), "few": np.array([False, 1, 1])}
    where = jnp.array([True, True, True, True, True, False])
    gaps = group_gaps(
        rise, labels, {k: g.astype(bool) for k, g in groups.items()}, where=where
    )
    # Label 3 is of no class and in no group; the masked row, a NaN, counts nowhere.
    assert {k: tuple(map(float, v)) for k, v in gaps.items()} == {
        "many": (1.0, 1.0),
        "few": (14.0, 3.0),
    }
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), expected \(6,\)"):
        group_gaps(rise, labels[:2], {})
    with pytest.raises(ValueError, match=r"groups\['few'\]"):
        group_gaps(rise, labels, {"few": np.ones((2, 2), bool)})
