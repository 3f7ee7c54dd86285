"""Random configs: refused in words that name the key, or built.

A draw is a component of any table with some of its options drawn, beside one or two
others, and with something wrong now and then. Data are those of a small run.
"""

import contextlib
import functools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from experiments.reliability.fuzz.outcomes import ANSWERED, REFUSED, Unexplained
from ltjax.options import ConfigError, options_of
from ltjax.train import build as building
from ltjax.train.check import check as checked
from ltjax.train.config import default_config
from ltjax.train.sections import AUTO, SECTIONS

# The data stay those of the tiny run; its options are drawn.
COMPONENTS = [
    (path, name)
    for path, section in SECTIONS.items()
    for name in (section.table if path != "data" else ["mnist1d"])
]
# Networks for images do not fit signals, and take long to say so.
SMALL = {"mlp", "conv1d"}
# Options that decide how much is computed, or that start processes.
FIXED = {"train_per_class", "test_per_class", "workers", "feed", "depth"}
# More classes than the features have dimensions: their frame is solved for minutes.
CHEAP = {"harmony_classes": 4}


def inside(rng, known, value):
    """A value of an option that its declaration allows."""
    rule, default = known.rule, known.default
    if rule.choices:
        return rng.choice(rule.choices)
    if rule.duration:
        return rng.choice(["0 steps", "3 steps", "25%", "1 epochs", "40 examples"])
    if known.name in FIXED or rule.file:
        return value
    if known.kind is bool:
        return rng.random() < 0.5
    if known.kind in (int, float):
        low = rule.low if rule.low > -math.inf else rule.above
        low = low if low > -math.inf else min(default, 0.0)
        high = min(rule.high, rule.below, max(2 * abs(default), low + 2))
        if known.kind is int:
            return rng.randint(int(low) + (rule.above == low), int(high))
        at = rng.choice([0.01, 0.5, 0.99])
        edge = rng.random() < 0.2 and rule.low > -math.inf
        return float(rule.low) if edge else low + at * (high - low)
    if known.kind is Mapping:
        return rng.choice([{}, {"backbone": 0.5, "head": 2.0}])
    return value


def outside(rng, known):
    """A value that it does not allow."""
    rule = known.rule
    wrong = [[object()], None]
    if rule.choices:
        wrong += ["no such choice", 3]
    elif rule.duration:
        wrong += ["soon", "-3 steps", 12]
    elif rule.file:
        wrong += ["/no/such/file"]
    elif known.kind in (int, float):
        wrong += ["a text", True, math.nan]
        for bound, step in ((rule.low, -1), (rule.above, 0)):
            wrong += [float(bound) + step] if bound > -math.inf else []
        for bound, step in ((rule.high, 1), (rule.below, 0)):
            wrong += [float(bound) + step] if bound < math.inf else []
        if known.kind is int:
            wrong = [w for w in wrong if not isinstance(w, float)] + [1.5]
    elif known.kind is bool:
        wrong += ["yes", 1]
    return rng.choice(wrong)


FIXMATCH = {"name": "fixmatch"}


def partners(path, section):
    """Sections that a method needs beside its own, so that it may be built."""
    if path == "pseudo_labels" and section["name"] != "none":
        return {"method": {"name": "fixmatch"}, **partners("method", FIXMATCH)}
    if path != "method":
        return {}
    component, found = SECTIONS[path].table[section["name"]], {}
    facts = component.facts(component.options())
    pipelines = SECTIONS["augment"].table
    wanted = set(facts.views)
    for name, pipeline in pipelines.items():
        if wanted and wanted <= set(pipeline.facts(pipeline.options()).views):
            found["augment"] = {"name": name, "recipe": "signal"}
    if facts.companions:
        found["unlabelled"] = {"name": "rest", "ratio": 2}
        found["augment_unlabelled"] = {"name": "weak_strong", "recipe": "signal"}
    if "candidates" in facts.columns:
        found["labels"] = {"name": "uniform_candidates"}
    return found


def draw(number, base):
    """(config, {dotted name of an option: its wrong value}) of a draw."""
    rng = random.Random(number)
    config, broken = dict(base), {}
    target = COMPONENTS[number % len(COMPONENTS)]
    others = rng.sample(COMPONENTS, rng.choice([0, 0, 1, 2]))
    chosen = dict([*others, target])
    for path, name in chosen.items():
        known = options_of(SECTIONS[path].table[name].options)
        kept = base[path] if name == base[path]["name"] else {}
        section = {"name": name, **{k: v for k, v in kept.items() if k in known}}
        for option in known.values():
            value = section.get(option.name, option.default)
            if option.name in CHEAP:
                section[option.name] = CHEAP[option.name]
            elif rng.random() < 0.3:
                section[option.name] = inside(rng, option, value)
        if (path, name) == target and known and rng.random() < 0.3:
            option = rng.choice(list(known.values()))
            section[option.name] = outside(rng, option)
            broken[f"config.{path}.{option.name}"] = section[option.name]
        config[path] = section
    if rng.random() < 0.8:
        config |= {
            place: section
            for place, section in partners(target[0], config[target[0]]).items()
            if place not in chosen
        }
    if rng.random() < 0.1:
        path = rng.choice(list(chosen))
        config[path] = {**config[path], "no_such_option": 1}
        broken[f"config.{path}.no_such_option"] = 1
    return config, broken


@functools.cache
def base():
    """Sections of a small config as plain dicts, in shapes that compile in no time."""
    config = default_config()
    config.batch_size, config.total = 8, "20 steps"
    config.data.train_per_class, config.data.test_per_class = 12, 2
    config.data.imbalance_factor = 4.0
    config.model.name = "mlp"
    config.model.hidden = (6,)
    config.model.norm = "none"
    values = config.to_dict()
    return values | {"head": {"name": AUTO}}


def refusal(error, config, broken):
    """What is wrong with the words of a refusal, or ""."""
    names = [
        section["name"] for section in config.values() if "name" in dict_of(section)
    ]
    for fault in error.faults:
        if "config." not in fault and not any(repr(name) in fault for name in names):
            return f"names no key: {fault}"
    for key in broken:
        path = key.rpartition(".")[0]
        if not any(key in fault or f"{path}:" in fault for fault in error.faults):
            return f"does not name {key}: {error.faults}"
    return ""


def dict_of(value):
    return value if isinstance(value, dict) else {}


@functools.cache
def _load_once() -> Any:
    """`load_data` for configs whose data are the same; signals take long to make."""
    load, known = building.load_data, {}

    def cached(config: Any) -> Any:
        key = repr((config.data.options, config.labels.name, config.unlabelled.name))
        if key not in known:
            known[key] = load(config)
        return known[key]

    return cached


@contextlib.contextmanager
def sources_once() -> Iterator[None]:
    """Inside, the data of equal sections are made once."""
    before = building.load_data
    building.load_data = _load_once()
    try:
        yield
    finally:
        building.load_data = before


def numbers() -> st.SearchStrategy[int]:
    """Numbers of draws."""
    return st.integers(0, 10**6)


def attempt(number: int) -> Any:
    """The `Run` of a draw, or None if it was refused.

    Raises:
        Unexplained: if it was accepted although something is wrong in it, refused in
            words that do not tell, or ended by another exception.
    """
    config, broken = draw(number, base())
    try:
        accepted = checked(config)
        if broken:
            raise Unexplained(f"{number}: accepted {broken}")
        with sources_once():
            return building.build(accepted)
    except ConfigError as error:
        words = refusal(error, config, broken)
        if words:
            raise Unexplained(f"{number}: {words}") from error
        return None
    except Unexplained:
        raise
    except Exception as error:
        raise Unexplained(f"{number}: {type(error).__name__}: {error}") from error


def check(number: int) -> str:
    """What became of a draw.

    Raises:
        Unexplained: see `attempt`.
    """
    return REFUSED if attempt(number) is None else ANSWERED
