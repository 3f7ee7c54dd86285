"""Class statistics: numbers, limits, tracing and messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import class_stats

COUNTS = np.array([100, 20, 5])
# CIFAR-10, exponential profile with imbalance factor 30.
LONG_TAIL = np.array([5000, 3426, 2348, 1609, 1102, 755, 517, 354, 243, 166])


def test_count_labels():
    counts = class_stats.count_labels(np.array([0, 2, 0, 3], np.int32), 5)
    assert counts.tolist() == [2, 0, 1, 1, 0]
    assert class_stats.count_labels([], 3).tolist() == [0, 0, 0]
    assert class_stats.count_labels(jnp.array([1, 1]), 2).tolist() == [0, 2]


def test_count_labels_traced_ignores_what_is_no_class():
    counted = jax.jit(class_stats.count_labels, static_argnums=1)
    counts = counted(jnp.array([0, 2, -1, 0, 3]), 3)
    assert (counts.dtype, counts.tolist()) == (jnp.int32, [2, 0, 1])


def test_count_labels_refuses_what_is_no_class():
    with pytest.raises(ValueError, match=r"in \[0, 3\), but labels\[1\] is 3 \(2 such"):
        class_stats.count_labels([0, 3, -1], 3)
    with pytest.raises(TypeError, match="count_labels: labels have dtype float"):
        class_stats.count_labels([0.0, 1.0], 2)
    with pytest.raises(ValueError, match=r"count_labels: labels has shape \(2, 1\)"):
        class_stats.count_labels([[0], [1]], 2)


def test_batch_balanced_weights_refuse_what_is_no_label():
    with pytest.raises(TypeError, match="batch_balanced_weights: labels have dtype fl"):
        class_stats.batch_balanced_weights(jnp.array([0.0, 1.0]), 2)
    with pytest.raises(ValueError, match=r"batch_balanced_weights: labels has shape"):
        class_stats.batch_balanced_weights(jnp.zeros((2, 2), int), 2)
    with pytest.raises(ValueError, match=r"batch_balanced_weights: where has shape"):
        class_stats.batch_balanced_weights([0, 1], 2, where=np.ones(3, bool))


def test_prior_of_the_running_example():
    np.testing.assert_allclose(class_stats.prior(COUNTS), [0.8, 0.16, 0.04], rtol=1e-15)
    np.testing.assert_allclose(
        class_stats.log_prior(COUNTS), np.log([0.8, 0.16, 0.04]), rtol=1e-14
    )


def test_counts_on_the_host_give_float64():
    for counts in (COUNTS, COUNTS.tolist(), jnp.asarray(COUNTS, jnp.float32)):
        for values in (
            class_stats.prior(counts),
            class_stats.log_prior(counts),
            class_stats.effective_number(counts, beta=0.9),
            class_stats.class_balanced_weights(counts, beta=0.9),
            class_stats.inverse_power_weights(counts, power=0.5),
        ):
            assert isinstance(values, np.ndarray)
            assert values.dtype == np.float64


@pytest.mark.parametrize(
    "statistic",
    [
        lambda n, p: class_stats.prior(n),
        lambda n, p: class_stats.log_prior(n, smoothing=p),
        lambda n, p: class_stats.effective_number(n, beta=p),
        lambda n, p: class_stats.class_balanced_weights(n, beta=p),
        lambda n, p: class_stats.inverse_power_weights(n, power=p),
    ],
    ids=["prior", "log_prior", "effective", "class_balanced", "inverse_power"],
)
def test_tracing_counts_or_parameters_gives_the_same_numbers(statistic):
    expected = statistic(COUNTS, 0.9)
    both = jax.jit(statistic)(COUNTS, 0.9)
    only = jax.jit(lambda p: statistic(COUNTS, p))(0.9)
    for values in (both, only):
        assert np.asarray(values).dtype in (np.float32, np.float64)
        np.testing.assert_allclose(values, expected, rtol=2e-6)


def test_smoothing_is_a_pseudo_count():
    np.testing.assert_allclose(
        class_stats.log_prior([3, 0], smoothing=1.0), np.log([0.8, 0.2]), rtol=1e-14
    )


def test_log_prior_of_an_empty_class():
    with pytest.raises(ValueError, match=r"class 1 has count 0 \(2 empty\)"):
        class_stats.log_prior([3, 0, 0])
    traced = jax.jit(class_stats.log_prior)(jnp.array([3.0, 0.0]))
    np.testing.assert_allclose(traced, [0.0, np.log(1e-30)], rtol=1e-6)


def test_effective_number_of_the_running_example():
    np.testing.assert_allclose(
        class_stats.effective_number(COUNTS, beta=0.99),
        [63.396765873, 18.209306240, 4.900995010],
        atol=1e-9,
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_effective_number_is_a_geometric_sum(beta):
    # 0 ** 0 = 1 in Python, so beta = 0 gives 1.
    expected = [sum(beta**i for i in range(n)) for n in (1, 5, 20)]
    values = class_stats.effective_number([1, 5, 20], beta=beta)
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_effective_number_does_not_cancel():
    # 1 - 0.999999^5 keeps two digits in float32, all of them here.
    beta = 0.999999
    value = class_stats.effective_number([5], beta=beta)
    np.testing.assert_allclose(value, [sum(beta**i for i in range(5))], rtol=1e-12)
    traced = jax.jit(lambda n: class_stats.effective_number(n, beta=0.999))(
        jnp.array([5.0])
    )
    np.testing.assert_allclose(traced, [sum(0.999**i for i in range(5))], rtol=1e-4)


def test_empty_class_has_no_effective_number():
    assert class_stats.effective_number([0, 1], beta=0.0).tolist() == [0.0, 1.0]
    assert class_stats.effective_number([0, 1], beta=0.9).tolist()[0] == 0.0


@pytest.mark.parametrize(
    ("beta", "weights"),
    [
        (0.0, [1.0, 1.0, 1.0]),
        (0.9, [0.654985943, 0.745618327, 1.599395730]),
        (0.99, [0.172245039, 0.599681190, 2.228073771]),
        (0.9999, [0.115895616, 0.577166992, 2.306937391]),
        (1 - 1e-12, [0.115384615, 0.576923077, 2.307692308]),  # inverse frequency
    ],
)
def test_class_balanced_weights(beta, weights):
    values = class_stats.class_balanced_weights(COUNTS, beta=beta)
    np.testing.assert_allclose(values, weights, atol=1e-9)
    np.testing.assert_allclose(values.sum(), 3.0, rtol=1e-14)


def test_deferred_weights_of_a_long_tail():
    expected = [0.13249121, 0.17971399, 0.24910724, 0.35075935, 0.49960003]
    expected += [0.71686655, 1.03462065, 1.49883712, 2.17146566, 3.16653821]
    values = class_stats.class_balanced_weights(LONG_TAIL, beta=0.9999)
    np.testing.assert_allclose(values, expected, atol=5e-9)


@pytest.mark.parametrize(
    ("power", "weights"),
    [
        (0.0, [1.0, 1.0, 1.0]),
        (0.25, [0.650746330, 0.973092732, 1.376160938]),
        (1.0, [0.115384615, 0.576923077, 2.307692308]),
    ],
)
def test_inverse_power_weights(power, weights):
    values = class_stats.inverse_power_weights(COUNTS, power=power)
    np.testing.assert_allclose(values, weights, atol=1e-9)


@pytest.mark.parametrize(
    "weigh",
    [
        lambda n: class_stats.class_balanced_weights(n, beta=0.99),
        lambda n: class_stats.inverse_power_weights(n, power=1.0),
    ],
    ids=["class_balanced", "inverse_power"],
)
def test_empty_class_has_no_weight_and_the_rest_sum_to_all(weigh):
    for function in (weigh, jax.jit(weigh)):
        values = np.asarray(function(jnp.array([40.0, 0.0, 10.0])))
        assert values[1] == 0.0
        np.testing.assert_allclose(values.sum(), 3.0, rtol=1e-6)
        ratio = weigh([40, 10])
        np.testing.assert_allclose(
            values[2] / values[0], ratio[1] / ratio[0], rtol=1e-5
        )
    with pytest.raises(ValueError, match="class_counts are all zero"):
        weigh([0, 0])


def test_shot_groups_count_strictly():
    groups = class_stats.shot_groups([500, 101, 100, 20, 19, 1])
    assert groups["many"].tolist() == [True, True, False, False, False, False]
    assert groups["medium"].tolist() == [False, False, True, True, False, False]
    assert groups["few"].tolist() == [False, False, False, False, True, True]


def test_shot_groups_partition_the_classes_for_any_boundaries():
    for many, few in ((100, 20), (5, 6), (0, 0), (1000, 1)):
        groups = class_stats.shot_groups(LONG_TAIL, many=many, few=few)
        assert np.all(sum(g.astype(int) for g in groups.values()) == 1)
    with pytest.raises(ValueError, match="few is 7, expected at most many"):
        class_stats.shot_groups(LONG_TAIL, many=5, few=7)


def test_shot_groups_need_readable_counts():
    with pytest.raises(TypeError, match="shot_groups: class_counts are traced"):
        jax.eval_shape(class_stats.shot_groups, jnp.asarray(COUNTS))


def test_imbalance_factor():
    assert class_stats.imbalance_factor(COUNTS) == 20.0
    assert class_stats.imbalance_factor([7, 7]) == 1.0
    with pytest.raises(ValueError, match="imbalance_factor: class 1 has count 0"):
        class_stats.imbalance_factor([3, 0])


def test_counts_are_checked_by_all():
    for function in (
        class_stats.prior,
        class_stats.log_prior,
        class_stats.shot_groups,
        class_stats.imbalance_factor,
    ):
        with pytest.raises(ValueError, match=f"{function.__name__}: .* class 1 has -2"):
            function([3, -2])
        with pytest.raises(
            ValueError, match=rf"{function.__name__}: .* shape \(1, 2\)"
        ):
            function([[3, 2]])
    with pytest.raises(ValueError, match="prior: class_counts are all zero"):
        class_stats.prior([0, 0])


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0, np.nan])
def test_beta_outside_its_range_is_refused(beta):
    with pytest.raises(
        ValueError, match=r"beta is .*, expected a number in \[0.0, 1.0\)"
    ):
        class_stats.effective_number(COUNTS, beta=beta)
    with pytest.raises(ValueError, match="beta is"):
        class_stats.class_balanced_weights(COUNTS, beta=beta)
