"""Networks as components: their options are the module's own attributes."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from ltjax.models.components import HeadOptions, NetworkFacts, module_component
from ltjax.models.registry import HEADS, MODELS, published_start
from ltjax.options import option, options_of, read


class Net(nn.Module):
    width: int = option(8, "features", low=1)
    norm: str = option("batch", "normalization", choices=("batch", "none"))
    inner: str = "not an option"

    def __post_init__(self):
        if self.width % 2:
            raise ValueError(f"width is {self.width}, expected an even number")
        super().__post_init__()

    @property
    def rows_independent(self):
        return self.norm == "none"

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.width)(x)


def test_options_are_the_declared_attributes():
    component = module_component(Net, "a net")
    assert list(options_of(component.options)) == ["width", "norm"]
    assert options_of(component.options)["width"].default == 8
    net = component.make(component.options(width=4), {})
    assert net == Net(width=4)
    outputs = jax.eval_shape(
        lambda x: net.init_with_output(jax.random.key(0), x, train=True)[0],
        jnp.zeros((3, 5)),
    )
    assert outputs.shape == (3, 4)


def test_what_belongs_to_the_name_is_no_option():
    component = module_component(Net, "a wide net", width=64)
    assert list(options_of(component.options)) == ["norm"]
    assert component.make(component.options(), {}).width == 64


def test_the_setting_gives_further_attributes():
    component = module_component(Net, "a net")
    assert component.make(component.options(), {"inner": "x"}).inner == "x"


def test_what_the_class_refuses_is_a_fault_of_the_section():
    table = {"net": module_component(Net, "a net")}
    assert read("model", {"name": "net", "width": 3}, table).faults == [
        "config.model: width is 3, expected an even number"
    ]
    assert read("model", {"name": "net", "width": 0}, table).faults == [
        "config.model.width is 0, expected a number >= 1"
    ]


def test_facts_are_those_of_the_module_with_these_options():
    component = module_component(Net, "a net")
    assert component.facts(component.options()) == NetworkFacts(False)
    assert component.facts(component.options(norm="none")) == NetworkFacts(True)


def test_shared_options_are_not_attributes():
    component = module_component(Net, "a net", base=HeadOptions)
    shared = {"class_scale", "class_scale_power"}
    assert options_of(component.options).keys() == shared | {"width", "norm"}
    options = component.options(class_scale="ones", width=2)
    assert component.make(options, {}) == Net(width=2)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_can_have_a_class_scale(name):
    assert issubclass(HEADS[name].options, HeadOptions)


def test_one_head_is_what_networks_end_with_anyway():
    usual = {k for k, head in HEADS.items() if head.facts(head.options()).ordinary}
    assert usual == {"linear"}
    for changed in ({"scale": 2.0}, {"class_scale": "ones"}, {"use_bias": False}):
        head = HEADS["linear"]
        assert not head.facts(head.options(**changed)).ordinary


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_options_and_facts(name):
    component = MODELS[name]
    options = component.options()
    assert dataclasses.is_dataclass(options)
    facts = component.facts(options)
    assert isinstance(facts, NetworkFacts)
    # Normalization by batch statistics is what couples rows.
    assert facts.rows_independent == (getattr(options, "norm", "none") != "batch")
    assert {"dtype", "norm"} <= options_of(component.options).keys() or name == "vit"


def test_heads_start_as_the_network_publishes_it():
    linear = HEADS["linear"].options
    he = types.SimpleNamespace(head_init="he")
    found = published_start(linear(), he, "sigmoid")
    assert found == {"kernel_init": "he", "init_bias": "sigmoid"}
    given = linear(kernel_init="uniform", init_bias=0.5)
    assert published_start(given, he, "sigmoid") == {}
    assert published_start(HEADS["etf"].options(), he, "sigmoid") == {}
