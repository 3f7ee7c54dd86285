"""Messages of the argument checks: who, which argument, what came, what was due."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import _checks as checks

LOGITS = np.zeros((4, 3), np.float32)


def test_concrete_and_traced():
    assert checks.is_concrete(1, [np.ones(2)], {"a": jnp.ones(2)}, None)

    def inside(x):
        assert not checks.is_concrete(1, {"a": x})
        return x

    jax.eval_shape(inside, 1.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: checks.check_classes_last("f", "x", np.float32(1)),
            ValueError,
            r"f: x is a scalar, expected \[..., K\]",
        ),
        (
            lambda: checks.check_classes_last("f", "x", np.ones((2, 0))),
            ValueError,
            r"f: x has shape \(2, 0\), expected at least one class",
        ),
        (
            lambda: checks.check_counts("f", np.array([True, False])),
            TypeError,
            "f: class_counts has dtype bool, expected counts",
        ),
        (
            lambda: checks.check_compared("f", "x", jnp.array([2**31], jnp.uint32)),
            ValueError,
            "f: x hold 2147483648, expected integers that int32 holds",
        ),
        (
            lambda: checks.check_floating("f", "x", np.ones(2, int)),
            TypeError,
            r"f: x has dtype int\d+, expected floating point",
        ),
        (
            lambda: checks.check_rank("f", "x", np.ones(2), 2, "[B, K]"),
            ValueError,
            r"f: x has shape \(2,\), expected 2 axes \[B, K\]",
        ),
        (
            lambda: checks.check_logits_labels("f", np.float32(1), np.int32(0)),
            ValueError,
            r"f: logits has shape \(\), expected \[B, K\]",
        ),
        (
            lambda: checks.check_logits_labels("f", LOGITS, np.zeros(3, int)),
            ValueError,
            r"f: labels have shape \(3,\), expected \(4,\)",
        ),
        (
            lambda: checks.check_logits_labels("f", LOGITS, LOGITS),
            TypeError,
            r"f: labels have dtype float32, expected class indices \[B\] \(integer\)$",
        ),
        (
            lambda: checks.check_logits_labels("f", LOGITS, LOGITS[:, :2], soft=True),
            ValueError,
            r"f: labels are distributions of shape \(4, 2\), .* logits \(4, 3\)",
        ),
        (
            lambda: checks.check_logits_labels("f", LOGITS, LOGITS > 0, soft=True),
            TypeError,
            r"f: labels have dtype bool, .* or distributions \[B, K\]",
        ),
        (
            lambda: checks.check_class_vector("f", "weight", np.ones(2), 3),
            ValueError,
            r"f: weight has shape \(2,\), but there are 3 classes, expected \(3,\)",
        ),
        (
            lambda: checks.check_class_matrix("f", "delta", np.ones((3, 2)), 3),
            ValueError,
            r"f: delta has shape \(3, 2\), .* 3 classes, expected \(3, 3\)",
        ),
        (
            lambda: checks.check_counts("f", np.ones(90), 100),
            ValueError,
            r"f: class_counts has shape \(90,\), but logits have 100 classes",
        ),
        (
            lambda: checks.check_counts("f", np.array([1.0, np.nan])),
            ValueError,
            r"f: class_counts must be finite and >= 0, but class 1 has nan",
        ),
        (
            lambda: checks.check_counts("f", [np.inf, 2]),
            ValueError,
            r"f: class_counts must be finite and >= 0, but class 0 has inf",
        ),
        (
            lambda: checks.check_counts("f", ["3", "4"]),
            TypeError,
            r"f: class_counts is dtype <U1, expected an array of numbers",
        ),
        (
            lambda: checks.dtype_of("f", "x", None),
            TypeError,
            r"f: x is None, expected an array of numbers",
        ),
        (
            lambda: checks.dtype_of("f", "x", [[1], [2, 3]]),
            TypeError,
            r"f: x is a nested list that is not rectangular",
        ),
        (
            lambda: checks.check_integers("f", "labels", [0.0, 1.0]),
            TypeError,
            r"f: labels have dtype float\d+, expected integers",
        ),
        (
            lambda: checks.class_axis("f", "logits", np.float32(1)),
            ValueError,
            r"f: logits is a scalar, expected \[..., K\]",
        ),
        (
            lambda: checks.check_range("f", "tau", None),
            TypeError,
            r"f: tau is None, expected an array of numbers",
        ),
        (
            lambda: checks.check_where("f", np.ones(3, bool), (4,)),
            ValueError,
            r"f: where has shape \(3,\), expected \(4,\)",
        ),
        (
            lambda: checks.check_where("f", np.ones(4), (4,)),
            TypeError,
            r"f: where has dtype float\d+, expected bool",
        ),
        (
            lambda: checks.check_range("f", "tau", np.ones(2)),
            ValueError,
            r"f: tau has shape \(2,\), expected a scalar",
        ),
        (
            lambda: checks.check_range("f", "tau", -1, low=0.0, high=2, open_high=True),
            ValueError,
            r"f: tau is -1, expected a number in \[0.0, 2\)",
        ),
        (
            lambda: checks.check_seed("f", "seed", 1732700000000),
            ValueError,
            r"f: seed is 1732700000000, expected an integer in \[0, 2\^32\)",
        ),
        (
            lambda: checks.check_seed("f", "seed", 1.0),
            TypeError,
            r"f: seed is 1.0, expected an integer",
        ),
        (
            lambda: checks.check_choice("f", "base", "hinge", ("softmax", "focal")),
            ValueError,
            r"f: base is 'hinge', expected one of \['softmax', 'focal'\]",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_ends_of_a_range():
    for value in (0, 1.0, np.float32(0.5), jnp.float32(1)):
        checks.check_range("f", "x", value, low=0.0, high=1.0)
    for value, ends in ((0.0, {"open_low": True}), (1.0, {"open_high": True})):
        with pytest.raises(ValueError, match="f: x is"):
            checks.check_range("f", "x", value, low=0.0, high=1.0, **ends)
    with pytest.raises(ValueError, match="f: x is nan"):
        checks.check_range("f", "x", np.nan)


def test_traced_values_are_left_alone():
    def inside(x):
        checks.check_range("f", "x", x[0], low=5.0)
        checks.check_counts("f", x, 2)
        return x

    jax.eval_shape(inside, jnp.array([-1.0, -1.0]))
    with pytest.raises(ValueError, match="f: class_counts has shape"):
        jax.eval_shape(lambda x: checks.check_counts("f", x, 3), jnp.ones(2))


def test_good_arguments_pass_in_silence():
    checks.check_logits_labels("f", LOGITS, np.zeros(4, np.int8))
    checks.check_logits_labels("f", LOGITS, LOGITS, soft=True)
    checks.check_counts("f", [3, 0])
    checks.check_where("f", None, (4,))
    checks.check_integers("f", "labels", [])
    assert checks.class_axis("f", "logits", LOGITS) == 3
    assert checks.dtype_of("f", "x", [1.0, 2.0]) == jnp.result_type(1.0)
    checks.check_choice("f", "x", "a", ("a", "b"))


def test_numbers_of_things_are_integers():
    for whole in (1, np.int64(2), True + 1):
        checks.check_whole("f", "num_classes", whole, low=1)
    for wrong in (1.0, np.nan, True, None, "3"):
        with pytest.raises(TypeError, match="f: num_classes is .*expected an integer"):
            checks.check_whole("f", "num_classes", wrong)
    with pytest.raises(ValueError, match="f: num_classes is 0, expected .*at least 1"):
        checks.check_whole("f", "num_classes", 0, low=1)


def test_what_is_no_array_of_real_numbers_is_named():
    ragged = [[1.0], [1.0, 2.0]]
    assert checks.shape_of(ragged) == (2,)
    for wrong in (ragged, np.array([1j]), np.array(["a"]), np.array([object()])):
        with pytest.raises(TypeError, match="f: x is"):
            checks.check_rank("f", "x", wrong, 1, "[N]")
        with pytest.raises(TypeError, match="f: kept is"):
            checks.check_where("f", wrong, (2,), name="kept")
