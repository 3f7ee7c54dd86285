"""Options: types, ranges, names, and what is read off a component's dataclass."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
import ml_collections
import pytest

from ltjax.options import (
    Chosen,
    Component,
    ConfigError,
    NoOptions,
    defaults,
    describe,
    live,
    nearest,
    option,
    options_of,
    read,
    read_options,
    sweepable,
)


@dataclasses.dataclass(frozen=True)
class Shared:
    rate: float = option(0.5, "a rate", low=0, below=1, sweep=True)


@dataclasses.dataclass(frozen=True)
class Options(Shared):
    power: float = option(1.0, "an exponent", above=-1, high=3, sweep=True)
    count: int = option(2, "a number", low=1)
    wanted: bool = option(False, "a flag")
    how: str = option("mean", "a way", choices=("mean", "sum"))
    widths: tuple[int, ...] = option((8, 4), "some sizes", low=1)
    factors: Mapping = option({}, "module -> factor")
    tau: float | str = option("", "a strength; '' = chosen", low=0)
    start: str = option("80%", "when", duration=True)
    file: str = option("", "a path", file=True)

    def __post_init__(self):
        if self.count > 5 and self.how == "sum":
            raise ValueError(f"count is {self.count}, expected at most 5 to sum")


TABLE = {
    "full": Component("has options", Options, lambda options, setting: setting),
    "bare": Component("has none", NoOptions, lambda options, setting: None),
}


def faults(**values):
    return read("part", {"name": "full", **values}, TABLE).faults


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"rate": 1}, "config.part.rate is 1, expected a number >= 0 and < 1"),
        ({"rate": -0.1}, "config.part.rate is -0.1, expected a number >= 0 and < 1"),
        ({"power": -1}, "power is -1, expected a number > -1 and <= 3"),
        ({"power": 3.5}, "power is 3.5, expected a number > -1 and <= 3"),
        ({"power": math.nan}, "power is nan, expected a finite number"),
        ({"power": math.inf}, "power is inf, expected a finite number"),
        ({"power": 10**400}, "expected float"),
        ({"power": "1"}, "power is '1', expected float"),
        ({"power": True}, "power is True, expected float"),
        ({"power": None}, "power is None, expected float"),
        ({"count": 0}, "count is 0, expected a number >= 1"),
        ({"count": 2.0}, "count is 2.0, expected int"),
        ({"count": True}, "count is True, expected int"),
        ({"wanted": 1}, "wanted is 1, expected bool"),
        ({"how": "men"}, "how is 'men', unknown; did you mean 'mean'? (valid: mean"),
        ({"how": 3}, "how is 3, expected str"),
        ({"widths": (3, 0)}, "widths is (3, 0), expected a number >= 1"),
        ({"widths": (3, 1.5)}, "widths is (3, 1.5), expected a tuple of int"),
        ({"widths": "wide"}, "widths is 'wide', expected a tuple of int"),
        ({"factors": 3}, "factors is 3, expected a dict"),
        ({"tau": -1.0}, "tau is -1.0, expected a number >= 0"),
        ({"tau": (1,)}, "tau is (1,), expected float or str"),
        ({"start": "80"}, "start is '80', which is not a duration, expected a number"),
        ({"start": 80}, "start is 80, expected str"),
        ({"file": "/no/such/file"}, "'/no/such/file', but there is no such file"),
        ({"pover": 1.0}, "pover is unknown to 'full'; did you mean 'power'?"),
        ({"count": 6, "how": "sum"}, "config.part: count is 6, expected at most 5"),
    ],
)
def test_values_that_are_refused(values, fault):
    (found,) = faults(**values)
    assert fault in found


def test_every_fault_is_found_at_once_before_the_class_is_asked():
    found = faults(count=6, how="sum", power="x", rate=2, unknown=1)
    assert len(found) == 3
    assert not any("to sum" in fault for fault in found)


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"power": 2}, "power", 2.0),
        ({"widths": [3, 5]}, "widths", (3, 5)),
        ({"widths": 7}, "widths", (7,)),
        ({"tau": 2}, "tau", 2.0),
        ({"tau": ""}, "tau", ""),
        ({"factors": {"a": 0.1}}, "factors", {"a": 0.1}),
        ({"factors": ml_collections.ConfigDict({"a": {"b": 1}})}, "factors", None),
        ({"start": "3 epochs"}, "start", "3 epochs"),
    ],
)
def test_values_get_the_type_of_the_option(values, name, expected):
    chosen, found = read("part", {"name": "full", **values}, TABLE)
    assert not found
    value = getattr(chosen.options, name)
    if expected is None:
        expected = {"a": {"b": 1}}
    assert value == expected
    if isinstance(expected, (float, tuple)):
        assert type(value) is type(expected)


def test_a_missing_file_is_refused_and_a_present_one_is_not(tmp_path):
    path = tmp_path / "weights.npy"
    assert faults(file=str(path))
    path.write_bytes(b"")
    assert not faults(file=str(path))


def test_what_is_not_given_takes_its_default():
    chosen, found = read("part", {"name": "full", "power": 2}, TABLE)
    assert not found and chosen.options == Options(power=2.0)
    assert defaults(TABLE["full"]) == {
        "rate": 0.5,
        "power": 1.0,
        "count": 2,
        "wanted": False,
        "how": "mean",
        "widths": (8, 4),
        "factors": {},
        "tau": "",
        "start": "80%",
        "file": "",
    }


@pytest.mark.parametrize("name", ["fulll", 3, None, ("full",)])
def test_names_that_are_unknown(name):
    chosen, found = read("part", {"name": name}, TABLE)
    assert chosen is None
    assert found[0].startswith(f"config.part.name is {name!r}, unknown; ")


def test_a_component_without_options_says_so():
    assert read("part", {"name": "bare", "tau": 1}, TABLE).faults == [
        "config.part.tau is unknown to 'bare'; it has no options"
    ]


def test_options_of_nothing_in_particular():
    options, found = read_options(Options, {"coun": 3})
    assert options is None
    assert found[0].startswith("config.coun is unknown; did you mean 'count'?")


def test_a_chosen_section_reads_like_its_options():
    chosen = read("part", {"name": "full", "power": 2}, TABLE, usual="usual").chosen
    assert (chosen.name, chosen.power, chosen.count) == ("full", 2.0, 2)
    assert chosen.facts == "usual" and chosen.make("setting") == "setting"
    with pytest.raises(AttributeError, match="gamma"):
        chosen.gamma  # noqa: B018
    stated = TABLE["full"]._replace(facts=lambda options: options.power)
    assert Chosen("full", Options(power=3.0), stated, "usual").facts == 3.0


def test_live_options_are_traced_where_the_state_has_them():
    options = Options(power=2.0)
    assert sweepable("part", options) == {"part.rate": 0.5, "part.power": 2.0}
    hyper = {"part.power": jnp.float32(2.5), "other.rate": 9.0, "part.count": 7}
    now = live("part", options, hyper)
    assert isinstance(now, Options)
    assert now.power is hyper["part.power"] and now.rate == 0.5 and now.count == 2
    assert live("part", options, {}) is options


def test_lines_of_a_listing():
    lines = {name: describe(known) for name, known in options_of(Options).items()}
    assert lines["rate"] == "rate = 0.5  a rate [>= 0 and < 1] (sweepable)"
    assert lines["power"] == "power = 1.0  an exponent [> -1 and <= 3] (sweepable)"
    assert lines["how"] == "how = 'mean'  a way [mean, sum]"
    assert lines["wanted"] == "wanted = False  a flag"
    assert lines["factors"] == "factors = {}  module -> factor"
    assert lines["start"] == "start = '80%'  when [a duration]"


def test_errors_list_every_fault():
    error = ConfigError(["one", "two"])
    assert str(error) == "invalid config, 2 fault(s):\n  - one\n  - two"
    assert error.faults == ["one", "two"]
    assert ConfigError("whole").faults == ["whole"]
    # ml_collections raises the errors of a config file again, by type and message.
    assert str(type(error)(str(error))) == str(error)


def test_the_nearest_name():
    assert nearest("ladm", ["ldam", "la"]) == "; did you mean 'ldam'? (valid: la, ldam)"
    assert nearest("zzz", ["ldam", "la"]) == "; valid: la, ldam"
