"""Tables of components: names, defaults that are valid, facts of the right kind."""

import pytest

from ltjax.losses.component import LossFacts
from ltjax.methods import registry
from ltjax.methods.gradient_rule import RuleFacts
from ltjax.methods.method import MethodFacts
from ltjax.methods.weights import WeightsFacts
from ltjax.options import check_value, options_of
from ltjax.resampling.component import SamplerFacts

TABLES = {
    "losses": (registry.LOSSES, LossFacts),
    "weights": (registry.WEIGHTS, WeightsFacts),
    "samplers": (registry.SAMPLERS, SamplerFacts),
    "gradients": (registry.GRADIENTS, RuleFacts),
    "methods": (registry.METHODS, MethodFacts),
}
ROWS = [
    pytest.param(table[name], facts, id=f"{kind}-{name}")
    for kind, (table, facts) in TABLES.items()
    for name in table
]


@pytest.mark.parametrize(("component", "facts"), ROWS)
def test_every_default_is_valid_and_told(component, facts):
    assert component.about and "\n" not in component.about
    for known in options_of(component.options).values():
        assert check_value(known, known.default)[0] == "", known.name
        assert known.rule.about and "\n" not in known.rule.about
        if known.rule.sweep:
            assert known.kind is float, known.name
    found = component.facts(component.options())
    assert found is None or isinstance(found, facts)


@pytest.mark.parametrize(("component", "facts"), ROWS)
def test_options_are_described_by_their_class(component, facts):
    assert (component.options.__doc__ or "").strip()


@pytest.mark.parametrize("table", [table for table, _ in TABLES.values()])
def test_names_are_those_of_python(table):
    assert all(name.isidentifier() and name == name.lower() for name in table)
