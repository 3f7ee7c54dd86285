"""The transport engine: optimality, half steps by hand, what takes no part."""

import numpy as np
import pytest
import scipy.optimize

from ltjax.pseudo_labels.transport import transport

ROWS = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
HALF = np.array([1.5, 1.5])
# 1 / H of the rows, H = -sum y log(y + 1e-6).
WEIGHTS = -1 / np.sum(ROWS * np.log(ROWS + 1e-6), axis=1)


def problem(size, num_classes, *, ratio=20.0, scale=2.0, seed=0):
    """Predictions that lean to the head, other masses, weights of five decades."""
    rng = np.random.default_rng(seed)
    logs = scale * rng.normal(size=(size, num_classes))
    logs += np.linspace(2, 0, num_classes)
    mass = ratio ** -np.linspace(0, 1, num_classes)
    weights = 10 ** rng.uniform(-0.5, 4.5, size)
    return logs, mass[::-1] * size / mass.sum(), weights


def dual(logs, weights, mass, nu):
    """What the potentials maximize, by the definition."""
    total = np.sum(np.exp(logs - np.outer(1 / weights, nu)), axis=1)
    return -weights @ np.log(total) - nu @ mass


def test_equal_weights_numbers():
    plan = transport(np.log(ROWS), HALF)
    expected = [0.703451696, 0.513211642, 0.283336662]
    np.testing.assert_allclose(plan.rows[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(plan.rows.sum(axis=1), 1)
    # log(beta_1 / beta_2), with nu = -log beta
    ratio = plan.potentials[1] - plan.potentials[0]
    np.testing.assert_allclose(ratio, -1.3334354870, atol=1e-9)
    assert plan.converged and plan.violation <= 1e-10 and plan.iterations <= 15


def test_entropy_weights_numbers():
    np.testing.assert_allclose(WEIGHTS, [3.076156656, 1.998399588, 1.485862758])
    plan = transport(np.log(ROWS), HALF, row_weights=WEIGHTS)
    expected = [0.790257776, 0.511485059, 0.198257165]
    np.testing.assert_allclose(plan.rows[:, 0], expected, atol=1e-9)
    ratio = plan.potentials[1] - plan.potentials[0]
    np.testing.assert_allclose(ratio, -2.6785469776, atol=1e-9)


def test_one_pass_by_hand():
    # alpha = 1; beta_k = 1.5 / column sum (2.3 and 0.7); alpha normalizes.
    plan = transport(np.log(ROWS), HALF, solver="coordinate", passes=1)
    beta = HALF / ROWS.sum(axis=0)
    np.testing.assert_allclose(beta, [0.652173913, 2.142857143])
    np.testing.assert_allclose(np.exp(-plan.potentials), beta)
    expected = ROWS * beta / np.sum(ROWS * beta, axis=1, keepdims=True)
    np.testing.assert_allclose(plan.rows, expected)
    by_hand = [0.73255814, 0.549019608, 0.313432836]
    np.testing.assert_allclose(plan.rows[:, 0], by_hand, atol=1e-9)
    assert not plan.converged


def test_optimum_is_that_of_a_general_solver():
    logs, mass, weights = problem(6, 3, ratio=3.0, scale=1.0)
    prior = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    weights = np.clip(weights, 0.5, 5.0)

    def cost(flat):
        y = flat.reshape(6, 3)
        return np.sum(weights[:, None] * y * np.log(y / prior))

    result = scipy.optimize.minimize(
        cost,
        prior.ravel(),
        jac=lambda flat: (
            weights[:, None] * (np.log(flat.reshape(6, 3) / prior) + 1)
        ).ravel(),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 18,
        constraints=[
            {"type": "eq", "fun": lambda f: f.reshape(6, 3).sum(axis=1) - 1},
            {"type": "eq", "fun": lambda f: f.reshape(6, 3).sum(axis=0)[:2] - mass[:2]},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    plan = transport(logs, mass, row_weights=weights)
    np.testing.assert_allclose(plan.rows.ravel(), result.x, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "num_classes", "ratio", "scale"),
    [(300, 10, 150.0, 3.0), (2000, 10, 150.0, 1.0), (800, 50, 20.0, 2.0)],
)
def test_newton_is_exact_within_fifteen_steps(size, num_classes, ratio, scale):
    logs, mass, weights = problem(size, num_classes, ratio=ratio, scale=scale)
    plan = transport(logs, mass, row_weights=weights)
    assert plan.converged and plan.iterations <= 15
    np.testing.assert_allclose(plan.rows.sum(axis=0), mass, rtol=0, atol=1e-10)
    # Stationarity: every row is its prior, tilted by the potentials.
    tilted = logs - np.outer(1 / weights, plan.potentials)
    tilted = np.exp(tilted - tilted.max(axis=1, keepdims=True))
    tilted /= tilted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plan.rows, tilted, rtol=0, atol=1e-12)
    # From the solution there is nothing to do.
    again = transport(logs, mass, row_weights=weights, initial=plan.potentials)
    assert again.iterations <= 1


def test_both_solvers_find_the_same_optimum():
    logs, mass, weights = problem(40, 4, ratio=3.0)
    weights = np.clip(weights, 1.0, 10.0)
    exact = transport(logs, mass, row_weights=weights)
    many = transport(logs, mass, row_weights=weights, solver="coordinate", passes=400)
    np.testing.assert_allclose(many.rows, exact.rows, atol=1e-7)


def test_dual_never_falls_over_passes():
    logs, mass, weights = problem(60, 5)
    nu, values = np.zeros(5), []
    for _ in range(8):
        values.append(dual(logs, weights, mass, nu))
        nu = transport(
            logs, mass, row_weights=weights, solver="coordinate", passes=1, initial=nu
        ).potentials
    assert np.all(np.diff(values) > -1e-9 * np.abs(values[0]))
    best = transport(logs, mass, row_weights=weights)
    assert dual(logs, weights, mass, best.potentials) >= values[-1]


def test_equal_weights_are_iterative_proportional_fitting():
    logs, mass, _ = problem(30, 4)
    rows = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    beta = np.ones(4)
    for _ in range(7):
        alpha = 1 / (rows @ beta)
        beta = mass / (rows.T @ alpha)
    expected = rows * beta / (rows @ beta)[:, None]
    for weight in (1.0, 3.0):  # beta^(1/w) takes the place of beta
        plan = transport(
            logs,
            mass,
            row_weights=np.full(30, weight),
            solver="coordinate",
            passes=7,
        )
        np.testing.assert_allclose(plan.rows, expected, atol=1e-12)
        np.testing.assert_allclose(np.exp(-plan.potentials / weight), beta)


def test_masses_that_are_met_change_nothing():
    logs, _, weights = problem(50, 4)
    rows = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    for solver in ("newton", "coordinate"):
        plan = transport(
            np.log(rows), rows.sum(axis=0), row_weights=weights, solver=solver
        )
        np.testing.assert_allclose(plan.rows, rows, atol=1e-12)
        assert np.ptp(plan.potentials) < 1e-9


def test_factors_of_rows_and_the_order_of_classes_do_not_matter():
    logs, mass, weights = problem(50, 4)
    plan = transport(logs, mass, row_weights=weights)
    shifted = logs + np.linspace(-300, 300, 50)[:, None]
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        transport(shifted, mass, row_weights=weights).rows, plan.rows, atol=1e-9
    )
    np.testing.assert_allclose(
        transport(logs[:, order], mass[order], row_weights=weights).rows,
        plan.rows[:, order],
        atol=1e-9,
    )
    # Masses are scaled to the number of rows.
    np.testing.assert_allclose(
        transport(logs, 7 * mass, row_weights=weights).rows, plan.rows, atol=1e-9
    )


@pytest.mark.parametrize("solver", ["newton", "coordinate"])
def test_impossible_classes_stay_impossible(solver):
    logs, mass, weights = problem(60, 4, ratio=2.0)
    blocked = np.random.default_rng(1).uniform(size=(60, 4)) < 0.3
    blocked[blocked.all(axis=1), 0] = False
    logs = np.where(blocked, -np.inf, logs)
    plan = transport(logs, mass, row_weights=weights, solver=solver, passes=200)
    assert np.all(plan.rows[blocked] == 0)
    np.testing.assert_allclose(plan.rows.sum(axis=1), 1)
    if solver == "newton":
        np.testing.assert_allclose(plan.rows.sum(axis=0), mass, atol=1e-10)


@pytest.mark.parametrize("solver", ["newton", "coordinate"])
def test_a_class_without_support_gets_no_mass(solver):
    logs, mass, weights = problem(60, 4, ratio=2.0)
    logs[:, 1] = -np.inf
    plan = transport(logs, mass, row_weights=weights, solver=solver, passes=2000)
    others = mass[[0, 2, 3]] * 60 / mass[[0, 2, 3]].sum()
    assert np.all(plan.rows[:, 1] == 0) and plan.potentials[1] == 0
    # Coordinate ascent is slow where weights differ.
    tolerance = 1e-10 if solver == "newton" else 0.05
    sums = plan.rows.sum(axis=0)[[0, 2, 3]]
    np.testing.assert_allclose(sums, others, rtol=0, atol=tolerance)


def test_rows_of_massless_classes_keep_themselves():
    with np.errstate(divide="ignore"):
        logs = np.log([[0.7, 0.3, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    plan = transport(logs, [1.0, 1.0, 0.0])
    np.testing.assert_allclose(plan.rows[2], [0, 0, 1])
    # Two rows are left for two masses of 1.
    np.testing.assert_allclose(plan.rows[:2].sum(axis=0), [1, 1, 0], atol=1e-10)
    assert plan.converged


def test_padding_takes_no_part():
    logs, mass, weights = problem(50, 4)
    plan = transport(logs, mass, row_weights=weights)
    padded = np.concatenate([logs, np.full((3, 4), -np.inf), logs[:2]])
    more = np.concatenate([weights, np.ones(5)])
    where = np.arange(55) < 50
    result = transport(padded, mass, row_weights=more, where=where)
    np.testing.assert_allclose(result.rows[:50], plan.rows, atol=1e-9)
    assert not np.any(result.rows[50:])
    nothing = transport(padded, mass, where=np.zeros(55, bool))
    assert not np.any(nothing.rows) and nothing.violation == 0


@pytest.mark.parametrize("solver", ["newton", "coordinate"])
def test_masses_without_a_way_stay_finite(solver):
    # Both rows can be class 0 only, which shall have one.
    with np.errstate(divide="ignore"):
        logs = np.log([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    plan = transport(logs, [1.0, 2.0], solver=solver, passes=20)
    assert not plan.converged
    np.testing.assert_allclose(plan.rows.sum(axis=1), 1)
    assert plan.rows[2, 1] > 0.9
    np.testing.assert_allclose(plan.violation, 1.0, atol=0.1)


def test_soft_masses():
    logs, mass, weights = problem(50, 4)
    weights = np.clip(weights, 0.5, 5.0)
    prior = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    hard = transport(logs, mass, row_weights=weights)
    for penalty in (0.5, 20.0):
        plan = transport(logs, mass, row_weights=weights, penalty=penalty)
        goal = mass * np.exp(plan.potentials / penalty)
        np.testing.assert_allclose(plan.rows.sum(axis=0), goal, atol=1e-9)
        assert plan.converged
        ascended = transport(
            logs,
            mass,
            row_weights=weights,
            penalty=penalty,
            solver="coordinate",
            passes=600,
        )
        np.testing.assert_allclose(ascended.rows, plan.rows, atol=1e-7)
    free = transport(logs, mass, row_weights=weights, penalty=1e-7)
    np.testing.assert_allclose(free.rows, prior, atol=1e-5)
    strict = transport(logs, mass, row_weights=weights, penalty=1e9)
    np.testing.assert_allclose(strict.rows, hard.rows, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((ROWS[0], HALF), {}, r"log_rows has shape \(2,\), expected 2 axes"),
        ((ROWS, HALF[:1]), {}, r"class_mass has shape \(1,\)"),
        ((ROWS, -HALF), {}, "class_mass is"),
        ((ROWS, 0 * HALF), {}, "class_mass is"),
        ((ROWS * np.nan, HALF), {}, "log_rows must be finite or -inf"),
        ((ROWS, HALF), {"row_weights": np.ones(2)}, r"row_weights has shape \(2,\)"),
        ((ROWS, HALF), {"row_weights": np.zeros(3)}, "row_weights must be positive"),
        ((ROWS, HALF), {"solver": "simplex"}, "solver is 'simplex'"),
        ((ROWS, HALF), {"penalty": 0.0}, "penalty is 0.0"),
        ((ROWS, HALF), {"initial": np.ones(3)}, r"initial has shape \(3,\)"),
        ((ROWS, HALF), {"where": np.ones(2, bool)}, r"where has shape \(2,\)"),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"transport: {message}"):
        transport(*arguments, **options)
