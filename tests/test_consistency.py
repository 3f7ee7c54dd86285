"""Consistency bench: exact errors, population minimizers, verdicts, regret on data."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.special import ndtr

from ltjax import losses
from ltjax.consistency import (
    CASES,
    TEXTBOOK,
    Case,
    balanced_regret,
    bayes_balanced_error,
    consistency_table,
    estimate_balanced_regret,
    finite_joint,
    fit_linear,
    gaussian_cube,
    gaussian_line,
    judge,
    long_tailed_prior,
    minimize_rows,
    population_minimizer,
    random_joints,
    regret_curve,
    sample_mixture,
)

JOINTS = [TEXTBOOK, *random_joints(0, 40)]
JOINTS_OF_TWO = finite_joint([[1, 1]])


def balanced_error(table, rule):
    """From the definition, for a list with the class of every input."""
    prior = table.sum(axis=0)
    missed = [
        sum(table[x, k] for x in range(len(table)) if rule[x] != k) / prior[k]
        for k in range(table.shape[1])
    ]
    return np.mean(missed)


def centered(scores):
    return scores - scores.mean(axis=1, keepdims=True)


# --- finite joints -------------------------------------------------------------------


@pytest.mark.parametrize("joint", JOINTS[:3])
def test_best_error_and_regret_against_all_rules(joint):
    inputs, classes = joint.table.shape
    rules = list(itertools.product(range(classes), repeat=inputs))
    errors = np.array([balanced_error(joint.table, rule) for rule in rules])
    best = bayes_balanced_error(joint)
    assert best == pytest.approx(errors.min(), abs=1e-12)
    for index in (0, 7, len(rules) - 2):
        scores = np.eye(classes)[list(rules[index])]
        expected = errors[index] - errors.min()
        assert balanced_regret(joint, scores) == pytest.approx(expected, abs=1e-12)


def test_known_numbers_of_the_plug_in():
    # Three atoms of mass (.5, .3, .2) with P(positive) = (.1, .2, .9).
    mass, positive = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.9])
    joint = finite_joint(np.stack([mass * (1 - positive), mass * positive], axis=1))
    assert joint.prior[1] == pytest.approx(0.29)
    assert 1 - bayes_balanced_error(joint) == pytest.approx(0.79626032, abs=1e-8)
    for rule, regret in [((0, 1, 1), 0.06556581), ((0, 0, 0), 0.29626032)]:
        got = balanced_regret(joint, np.eye(2)[list(rule)])
        assert got == pytest.approx(regret, abs=1e-8)


def test_ties_count_against_the_rule():
    joint = finite_joint([[4, 1], [1, 4]])
    assert balanced_regret(joint, np.zeros((2, 2))) == pytest.approx(0.6)  # all wrong
    assert balanced_regret(joint, np.array([[1.0, 0.0], [0.0, 1.0]])) == 0


def test_long_tailed_prior():
    np.testing.assert_allclose(
        long_tailed_prior(3, 100.0), np.array([100, 10, 1]) / 111
    )


# --- population minimizers -----------------------------------------------------------


@pytest.mark.parametrize(
    "delta", [TEXTBOOK.prior, np.ones(3), np.sqrt(TEXTBOOK.prior), [3.0, 1.0, 0.2]]
)
def test_the_pairwise_family_shares_one_optimum(delta):
    # z_y = log p(y|x) - log pi_y + const, whatever delta is.
    def loss(z, y, n):
        return losses.pairwise_consistent(z, y, n, jnp.asarray(delta))

    z = population_minimizer(loss, TEXTBOOK)
    expected = np.log(TEXTBOOK.conditional / TEXTBOOK.prior)
    np.testing.assert_allclose(centered(z), centered(expected), atol=1e-8)


def test_row_margins_go_wrong_on_the_textbook():
    margins = np.array([0.2, 0.3, 0.5])[:, None] * (1 - np.eye(3))

    def loss(z, y, n):
        return losses.pairwise_margin(z, y, jnp.ones(3), margins)

    z = population_minimizer(loss, TEXTBOOK)
    best = centered(np.log(TEXTBOOK.conditional / TEXTBOOK.prior))
    assert np.abs(centered(z) - best).max() == pytest.approx(0.87, abs=0.005)
    assert z.argmax(axis=1).tolist() == [0, 0, 1]
    assert best.argmax(axis=1).tolist() == [0, 1, 2]


def test_vector_scaling_has_a_line_of_minimizers():
    # beta * z + log pi = log p(y|x) + c for any c; the one nearest 0 is orthogonal to
    # the direction 1 / beta of that line.
    beta = (TEXTBOOK.prior / TEXTBOOK.prior.max()) ** 0.2

    def loss(z, y, n):
        return losses.vector_scaling(z, y, n, gamma=0.2, tau=1.0)

    z = population_minimizer(loss, TEXTBOOK)
    left = beta * z + np.log(TEXTBOOK.prior) - np.log(TEXTBOOK.conditional)
    np.testing.assert_allclose(centered(left), 0, atol=1e-8)
    np.testing.assert_allclose((z / beta).sum(axis=1), 0, atol=1e-8)


def test_one_vs_rest_recovers_the_posterior():
    z = population_minimizer(CASES["sigmoid_cross_entropy"].loss, TEXTBOOK)
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), TEXTBOOK.conditional, atol=1e-9)


def test_cutting_planes_against_the_linear_program():
    # min sum_y p_y xi_y with xi_y >= z_k - z_y + m_y for k != y, xi >= 0, written out.
    joint = JOINTS[1]
    counts = 10_000 * joint.prior
    margins = 0.5 * counts**-0.25 / (counts**-0.25).max()
    case = CASES["ldam_hinge"]
    z = population_minimizer(case.loss, joint, solver="cutting_plane")
    for scores, weights in zip(z, joint.conditional, strict=True):
        rows, limits = [], []
        for y, k in itertools.permutations(range(3), 2):
            row = np.zeros(6)
            row[k], row[y], row[3 + y] = 1.0, -1.0, -1.0
            rows.append(row)
            limits.append(-margins[y])
        plan = scipy.optimize.linprog(
            np.append(np.zeros(3), weights),
            np.array(rows),
            limits,
            bounds=[(-10, 10)] * 3 + [(0, None)] * 3,
        )
        worst = [np.delete(scores, y).max() - scores[y] + margins[y] for y in range(3)]
        risk = weights @ np.maximum(worst, 0)
        assert risk == pytest.approx(plan.fun, abs=1e-8)


def test_dot_regression_minimizes_over_the_sphere():
    # Against a fine grid of unit vectors in the plane of the frame: no point is lower.
    case = CASES["dot_regression"]
    z = population_minimizer(case.loss, TEXTBOOK, starts="vertices")
    frame = np.sqrt(1.5) * (np.eye(3) - 1 / 3)
    basis = np.linalg.svd(frame)[0][:, :2]
    angles = np.linspace(0, 2 * np.pi, 20_001)
    circle = basis @ np.stack([np.cos(angles), np.sin(angles)])
    for features, weights in zip(z, TEXTBOOK.conditional, strict=True):
        unit = features / np.linalg.norm(features)
        risk = weights @ (0.5 * (1 - frame @ unit) ** 2)
        grid = weights @ (0.5 * (1 - frame @ circle) ** 2)
        assert risk <= grid.min() + 1e-9


def test_a_minimum_that_is_not_reached_is_an_error():
    arguments = (CASES["cross_entropy"].loss, TEXTBOOK.conditional, np.ones((3, 3)))
    with pytest.raises(RuntimeError, match="after 1 Newton steps"):
        minimize_rows(*arguments, max_steps=1)
    with pytest.raises(RuntimeError, match="cutting planes leave a gap"):
        minimize_rows(*arguments, max_steps=2, solver="cutting_plane")


# --- verdicts ------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
def test_verdicts_match_the_theory(name):
    case = CASES[name]
    verdict = judge(name, case, JOINTS)
    assert verdict.consistent == case.consistent
    if case.consistent:
        assert verdict.worst_regret == 0
        assert verdict.counterexample is None
    else:
        # Counterexamples are no rounding: at least one point of balanced error.
        assert verdict.worst_regret > 0.01
    # Balanced weights on a loss that is not proper get the order right, no more.
    calibrated = case.consistent and not name.startswith(("weighted focal", "dot"))
    assert (verdict.posterior_gap < 1e-8) == calibrated


def test_the_table_says_what_the_literature_says():
    consistent = {name for name, case in CASES.items() if case.consistent}
    assert {
        "cross_entropy + plug-in",
        "cross_entropy + post-hoc tau=1",
        "logit_adjusted tau=1",
        "balanced_softmax",
        "pairwise_consistent delta=sqrt(pi)",
        "weighted cross_entropy 1/pi",
    } <= consistent
    assert not consistent & {
        "cross_entropy",
        "ldam",
        "focal gamma=2",
        "class_dependent_temperature gamma=0.2",
        "vector_scaling gamma=0.2 tau=1",
        "logit_adjusted tau=1.5",
    }


def test_own_cases_and_own_joints():
    # Logit adjustment is right in the population; adjusted twice it is not.
    twice = Case(
        losses.logit_adjusted,
        False,
        "adjusts twice",
        decide=lambda z, n: z - np.log(n / n.sum()),
    )
    table = consistency_table(
        random_joints(3, 20, num_classes=4, imbalance_factor=50.0),
        {"la": CASES["logit_adjusted tau=1"], "twice": twice},
    )
    assert [(row.name, row.consistent) for row in table] == [
        ("la", True),
        ("twice", False),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: finite_joint([[0.5, 0.0], [0.2, 0.3]]), "not positive"),
        (lambda: finite_joint([1.0, 2.0]), r"expected \[M, K\]"),
        (lambda: balanced_regret(TEXTBOOK, np.zeros((3, 2))), r"expected \(3, 3\)"),
        (lambda: long_tailed_prior(3, 0.01), "expected >= 1"),
        (lambda: gaussian_cube(3, dim=2, imbalance_factor=1.0), "at least 3"),
        (
            lambda: sample_mixture(gaussian_line(2, imbalance_factor=99.0), 9, seed=0),
            "leave class 1 empty",
        ),
        (
            lambda: judge(
                "ce", CASES["cross_entropy"], [TEXTBOOK, finite_joint([[1, 1]])]
            ),
            r"\[2, 3\] classes",
        ),
        (
            lambda: regret_curve(gaussian_line(2), [9], {"h": CASES["ldam_hinge"]}),
            "cannot be fitted",
        ),
        (lambda: fit_linear(None, np.ones((3, 1)), [0, 1], 2), r"expected \(3,\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- Gaussian mixtures ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixture", "error"),
    [
        (gaussian_line(2, gap=2.0), 1 - 0.84134475),
        # Inner classes lose two tails of Phi(-1.25), the outer ones one.
        (gaussian_line(4, gap=2.5, dim=3), (2 * 2 + 1 * 2) / 4 * ndtr(-1.25)),
        (gaussian_cube(3, gap=3.0, dim=4, imbalance_factor=100.0), 1 - ndtr(1.5) ** 3),
    ],
)
def test_closed_forms_against_counting(mixture, error):
    assert mixture.bayes_balanced_error == pytest.approx(error, abs=1e-8)
    rng = np.random.default_rng(0)
    labels = np.arange(120_000) % len(mixture.means)
    points = mixture.means[labels] + rng.normal(size=(120_000, mixture.means.shape[1]))
    distance = ((points[:, None] - mixture.means[None]) ** 2).sum(axis=2)
    counted = np.mean(distance.argmin(axis=1) != labels)
    assert counted == pytest.approx(error, abs=4 * np.sqrt(error / 120_000))


def test_regret_of_the_half_threshold():
    # Two Gaussians with p = .05, means 0 and 2. Thresholding the posterior at 1/2 cuts
    # at x = 1 + log(19) / 2 = 2.4722 and has AM .65583561 instead of .84134475.
    pair = gaussian_line(2, gap=2.0, imbalance_factor=19.0)
    cut = 1 + np.log(19) / 2
    regret = estimate_balanced_regret(
        pair, lambda x: np.concatenate([cut - x, x - cut], axis=1), number=400_000
    )
    assert regret == pytest.approx(0.84134475 - 0.65583561, abs=0.002)


def test_training_sets_have_the_counts_of_the_prior():
    mixture = gaussian_cube(2, imbalance_factor=10.0)
    features, labels = sample_mixture(mixture, 5000, seed=1)
    counts = np.bincount(labels)
    assert counts.sum() == 5000
    assert np.abs(counts - 5000 * mixture.prior).max() < 1
    deviation = features - mixture.means[labels]
    assert np.abs(deviation.mean(axis=0)).max() < 4 / np.sqrt(5000)
    assert np.array_equal(features, sample_mixture(mixture, 5000, seed=1)[0])


def test_linear_fit_without_information_is_the_prior():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    model = fit_linear(CASES["cross_entropy"].loss, np.zeros((100, 1)), labels, 3)
    expected = np.log([0.7, 0.2, 0.1])
    np.testing.assert_allclose(
        model.bias - model.bias.mean(), expected - expected.mean(), atol=1e-4
    )
    assert model.gradient_norm < 1e-5


@pytest.mark.parametrize(
    "mixture",
    [
        gaussian_line(2, gap=2.0, dim=8, imbalance_factor=100.0),
        pytest.param(
            gaussian_cube(3, gap=3.0, dim=8, imbalance_factor=100.0),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["pair", "cube"],
)
def test_consistent_methods_reach_the_best_error(mixture):
    reach = [
        "cross_entropy + post-hoc tau=1",
        "cross_entropy + plug-in",
        "logit_adjusted tau=1",
    ]
    stop_short = ["cross_entropy"]
    cases = {name: CASES[name] for name in reach + stop_short}
    points = regret_curve(mixture, [100_000], cases, test_points=100_000)
    for point in points:
        assert point.balanced_error == mixture.bayes_balanced_error + point.regret
        if point.name in reach:
            assert point.regret < 0.005
        else:
            assert point.regret > 0.05
