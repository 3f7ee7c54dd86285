"""A component and the public function that it stands for have the same defaults."""

import inspect

import pytest

from ltjax import losses
from ltjax.methods.registry import LOSSES
from ltjax.methods.supervised import cvs
from ltjax.options import defaults

# Components that are not made from a function of (logits, labels[, class counts]) by
# `loss_component`: the public functions behind them, option -> keyword where they
# differ.
FUNCTIONS = {
    "dot_regression": {losses.dot_regression: {}},
    "cvs": {
        cvs.cvs_parameters: {},
        cvs.remembered: {"kappa_low": "low", "kappa_high": "high"},
    },
    "tla_adrw": {},  # two phases of `affine_softmax`, which has no strengths
    "autkc": {losses.autkc: {}},
    "sigmoids": {losses.sigmoid_cross_entropy: {}},
    "tkpr": {losses.tkpr: {}},
    "distribution_balanced": {losses.distribution_balanced: {}},
}
# (component, option) -> why its default is another one than the function's.
EXCEPTIONS = {
    ("partial_auc_kl", "positive_temperature"): "0 stands for None in a config",
}


def functions_of(name) -> dict:
    """Public function -> {option: keyword} of a loss component."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    component = LOSSES[name]
    loss = component.make(component.options(), None)
    # What `loss_component`, or a function like it, wraps.
    closed_over = inspect.getclosurevars(loss.fn).nonlocals.values()
    (function,) = filter(inspect.isfunction, closed_over)
    return {function: {}}


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_those_of_the_public_function(name):
    ours = defaults(LOSSES[name])
    for function, renamed in functions_of(name).items():
        keywords = inspect.signature(function).parameters
        for option, value in ours.items():
            keyword = keywords.get(renamed.get(option, option))
            if keyword is None or keyword.default is inspect.Parameter.empty:
                continue
            if (name, option) not in EXCEPTIONS:
                assert keyword.default == value, f"{name}: {option}"


def test_exceptions_are_needed():
    for name, option in EXCEPTIONS:
        theirs = {
            inspect.signature(function).parameters[renamed.get(option, option)].default
            for function, renamed in functions_of(name).items()
        }
        assert defaults(LOSSES[name])[option] not in theirs
