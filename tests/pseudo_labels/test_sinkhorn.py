"""SoLar's Sinkhorn: its numbers, its limits, and the engine it shares with DARP."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import pseudo_labels
from ltjax.pseudo_labels import transport

_compiled = jax.jit(pseudo_labels.sinkhorn, static_argnames="solver")


def sinkhorn(*arguments, **options):
    return np.asarray(_compiled(*arguments, **options))


SCORES = np.array([[0.5, 0.3, 0.0], [0.2, 0.6, 0.1], [0.1, 0.0, 0.7], [0.6, 0.2, 0.2]])
PRIOR = np.array([0.5, 0.3, 0.2])


def released(scores, prior, power, iterations=50):
    """Column and row scalings in turn, as the paper writes them."""
    a, n = scores**power, len(scores)
    c = np.full(n, 1 / n)
    for _ in range(iterations):
        u = prior / (a.T @ c)
        c = (1 / n) / (a @ u)
    return n * a * u * c[:, None]


def test_numbers(x64):
    rows = sinkhorn(SCORES, PRIOR, power=1.0)
    expected = [
        [0.673649687, 0.326350313, 0],
        [0.279660548, 0.677409261, 0.042930191],
        [0.317549534, 0, 0.682450466],
        [0.729140231, 0.196240426, 0.074619343],
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-9)
    rows = sinkhorn(SCORES, PRIOR, power=3.0)
    np.testing.assert_allclose(rows[0], [0.8069991, 0.1930009, 0], atol=1e-7)
    last = [0.960210061, 0.03937631, 0.000413628]
    np.testing.assert_allclose(rows[3], last, atol=1e-9)
    # Fifty iterations are not enough; rows are exact, columns are not.
    means = [0.500000608, 0.299990954, 0.200008437]
    np.testing.assert_allclose(rows.mean(axis=0), means, atol=1e-9)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize(("power", "iterations"), [(1.0, 3), (3.0, 50)])
def test_iterations_are_the_released_ones(power, iterations, x64):
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(40, 6)) * (rng.uniform(size=(40, 6)) < 0.6)
    scores[np.arange(40), np.arange(40) % 6] += 0.1
    prior = rng.dirichlet(np.ones(6))
    rows = sinkhorn(scores, prior, power=power, iterations=iterations)
    expected = released(scores, prior, power, iterations)
    np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-15)


def test_it_is_coordinate_ascent_with_equal_weights(x64):
    # Pass for pass where rows are normalized first, as DARP does.
    rows = SCORES / SCORES.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(rows)
    for passes in (1, 7):
        plan = transport(logs, PRIOR, solver="coordinate", passes=passes)
        moved = sinkhorn(rows, PRIOR, power=1.0, iterations=passes)
        np.testing.assert_allclose(moved, plan.rows, atol=1e-12)
    exact = transport(3 * np.log(SCORES + (SCORES == 0)) - 1e9 * (SCORES == 0), PRIOR)
    many = sinkhorn(SCORES, PRIOR, power=3.0, iterations=400)
    np.testing.assert_allclose(many, exact.rows, atol=1e-9)


def test_newton_meets_the_shares_that_iterations_leave_open(x64):
    """600 rows, ratio 100: fifty iterations are off by 0.07 of a row."""
    rng = np.random.default_rng(3)
    prior = np.geomspace(100, 1, 10)
    prior /= prior.sum()
    candidates = rng.uniform(size=(600, 10)) < 0.5
    candidates[np.arange(600), rng.choice(10, 600, p=prior)] = True
    scores = rng.dirichlet(np.full(10, 0.3), 600) * candidates
    wanted = 600 * prior
    exact = sinkhorn(scores, prior, solver="newton")
    assert np.abs(exact.sum(axis=0) - wanted).max() < 1e-10
    np.testing.assert_allclose(exact.sum(axis=1), 1, rtol=1e-12)
    assert not exact[~candidates].any()
    early = sinkhorn(scores, prior)
    assert np.abs(early.sum(axis=0) - wanted).max() > 0.05
    late = sinkhorn(scores, prior, iterations=2000)
    np.testing.assert_allclose(exact, late, atol=1e-4)


def test_newton_inside_a_program_of_replicas():
    """Each replica has its own problem; padding and empty classes are as ever."""
    scores = np.stack([SCORES, SCORES[::-1]]).astype(np.float32)
    priors = np.stack([PRIOR, [0.7, 0.3, 0.0]]).astype(np.float32)
    where = np.array([True, True, False, True])
    solve = functools.partial(pseudo_labels.sinkhorn, solver="newton", where=where)
    rows = np.asarray(jax.jit(jax.vmap(solve))(scores, priors))
    assert rows.dtype == np.float32 and not rows[:, 2].any()
    np.testing.assert_allclose(rows[0].sum(axis=0), 3 * PRIOR, atol=1e-6)
    np.testing.assert_allclose(rows[1].sum(axis=0), [2.1, 0.9, 0], atol=1e-6)
    priors[1] = np.nan  # a replica that has diverged
    again = np.asarray(jax.jit(jax.vmap(solve))(scores, priors))
    np.testing.assert_array_equal(again[0], rows[0])
    assert np.isnan(again[1]).all()


def test_fixed_point(x64):
    # The prior is what the normalized rows have anyway.
    rows = SCORES / SCORES.sum(axis=1, keepdims=True)
    prior = rows.mean(axis=0)
    error = {
        n: np.max(np.abs(sinkhorn(SCORES, prior, power=1.0, iterations=n) - rows))
        for n in (1, 20)
    }
    assert error[1] == pytest.approx(8.7e-3, rel=0.01)
    assert error[20] == pytest.approx(1.7e-7, rel=0.05)
    # At once, where the rows are normalized.
    moved = sinkhorn(rows, prior, power=1.0, iterations=1)
    np.testing.assert_allclose(moved, rows, atol=1e-14)


def test_hard_assignment_in_the_limit():
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.ones(3), size=12).astype(np.float32)
    rows = sinkhorn(scores, np.ones(3) / 3, power=400.0, iterations=2000)
    assert np.mean(np.max(rows, axis=1) > 0.99) > 0.7
    assert np.all(np.isfinite(rows))


def test_a_class_without_candidates_gets_nothing():
    scores = np.array(SCORES, np.float32)
    scores[:, 1] = 0
    rows = sinkhorn(scores, PRIOR, iterations=500)
    assert not np.any(rows[:, 1]) and np.all(np.isfinite(rows))
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows.mean(axis=0), [5 / 7, 0, 2 / 7], atol=1e-4)


def test_rows_without_a_share_keep_themselves():
    scores = np.array([[0.2, 0.6, 0.0], [0.0, 0.0, 0.3], [0.5, 0.5, 0.0]], np.float32)
    rows = sinkhorn(scores, np.array([0.5, 0.5, 0.0]), power=1.0)
    np.testing.assert_allclose(rows[1], [0, 0, 1])
    np.testing.assert_allclose(rows[[0, 2]].sum(axis=0), [1, 1, 0], atol=1e-4)
    alone = sinkhorn(scores, np.zeros(3), power=1.0)
    np.testing.assert_allclose(alone[0], [0.25, 0.75, 0])


def test_an_unfilled_queue_takes_no_part():
    queue = np.concatenate([np.full((5, 3), np.nan), SCORES]).astype(np.float32)
    where = np.arange(9) >= 5
    rows = sinkhorn(queue, PRIOR, where=where)
    np.testing.assert_allclose(rows[5:], sinkhorn(np.float32(SCORES), PRIOR), rtol=1e-6)
    assert not np.any(rows[:5])
    assert not np.any(sinkhorn(queue, PRIOR, where=np.zeros(9, bool)))


def test_tiny_scores_do_not_underflow():
    # 1e-20 cubed is 0 in float32; the logarithms are not.
    scores = np.float32(SCORES) * np.float32([1e-20, 1, 1e-20, 1])[:, None]
    np.testing.assert_allclose(
        sinkhorn(scores, PRIOR), sinkhorn(np.float32(SCORES), PRIOR), atol=1e-3
    )


def test_soft_shares(x64):
    with np.errstate(divide="ignore"):
        logs = np.log(SCORES)
    plan = transport(logs, PRIOR, penalty=2.0)
    rows = sinkhorn(SCORES, PRIOR, power=1.0, penalty=2.0, iterations=300)
    np.testing.assert_allclose(rows, plan.rows, atol=1e-9)


def test_bad_input_is_refused():
    call = functools.partial(pseudo_labels.sinkhorn, SCORES)
    with pytest.raises(TypeError, match="sinkhorn: scores has dtype int"):
        pseudo_labels.sinkhorn(jnp.ones((2, 2), int), PRIOR[:2])
    for arguments, message in (
        ({"prior": PRIOR[:2]}, r"prior has shape \(2,\)"),
        ({"prior": PRIOR, "power": 0.0}, "power is 0.0"),
        ({"prior": PRIOR, "iterations": 0}, "iterations is 0"),
        ({"prior": PRIOR, "penalty": -1.0}, "penalty is -1.0"),
        ({"prior": PRIOR, "where": np.ones(3, bool)}, r"where has shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=f"sinkhorn: {message}"):
            call(**arguments)


def test_no_rows_have_no_shares():
    found = pseudo_labels.sinkhorn(jnp.zeros((0, 3)), PRIOR)
    assert found.shape == (0, 3)
