"""Writes `tests/golden/configs/*.json`: python tests/golden/regenerate.py

Each file holds what a config file asks for: without an argument, the fields that differ
from `defaults.json`; with each argument, the fields that differ from that.
"""

import ast
import importlib.util
import json
import pathlib

from ltjax.methods import presets
from ltjax.methods.registry import GRADIENTS
from ltjax.train.check import check
from ltjax.train.config import default_config, to_dict

GOLDEN = pathlib.Path(__file__).resolve().parent / "configs"
CONFIGS = GOLDEN.parents[2] / "configs"


# Values of `method`, `data` and `profile` in files whose arguments mean something else.
METHODS = {
    "auc_lt": [
        *("auc_square", "auc_hinge", "auc_exp", "auc_logistic"),
        *("partial_auc", "partial_auc_cvar", "partial_auc_kl", "aucm"),
        *("autkc", "ce"),
    ],
    "diffusion_digits": ["denoising", "steered", "blended"],
    "experts_lt": [
        *("ride", "ride_routed", "ride_distilled", "sade", "dirmixe", "la"),
    ],
    "multilabel_scenes": ["sigmoids", "tkpr", "distribution_balanced"],
    "multimodal_digits": ["reconboost", "joint", "ogm", "late"],
    "noisy_lt": [
        *("supervised", "coteaching", "cdr", "har", "rolt", "rcal", "sel_cl"),
        "mislas",
    ],
    "partial_lt": ["proden", "lw", "cavl", "corr", "solar"],
    "robust_auc": ["aucm", "drauc", "drauc_aware", "ce"],
    "segmentation_scenes": ["ce", "focal", "balanced_softmax", "la", "vs", "aucseg"],
    "semi_lt": [
        *("fixmatch", "darp", "abc", "daso", "acr", "simpro"),
        *("mixmatch", "remixmatch", "crest", "crest_plus", "cossl", "dynamic_prior"),
        "supervised",
    ],
}
DATA = {
    "auc_lt": ["mnist1d", "cifar10", "breast_cancer", "digits"],
    "diffusion_digits": ["glyphs", "mnist", "scenes"],
    "selfsup_lt": ["mnist1d", "cifar10", "imagenet"],
}
# Families whose methods have recipes of their own on photographs.
OF_PHOTOGRAPHS = ("noisy_lt", "partial_lt", "semi_lt")
PROFILES = {"semi_lt": ["consistent", "reversed", "uniform"]}


def files() -> list[pathlib.Path]:
    """The config files of experiment families."""
    return [path for path in sorted(CONFIGS.glob("*.py")) if path.stem != "__init__"]


def load(path: pathlib.Path):
    """The module of a config file."""
    spec = importlib.util.spec_from_file_location(f"golden_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accepted(path: pathlib.Path) -> set[str]:
    """Names of a config file's arguments: the keywords of its `parse_arg` call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parse_arg":
            return {keyword.arg for keyword in node.keywords}
    raise ValueError(f"{path} does not call parse_arg")


def arguments(path: pathlib.Path, module) -> list[str]:
    """The arguments to describe: the bare file, and each choice by itself."""
    names = accepted(path)
    choices = {
        "method": METHODS.get(
            path.stem, list(getattr(module, "METHODS", presets.PRESETS))
        ),
        "loss": ["ce", "la", "ldam_drw", "vs"],
        "gradient": list(GRADIENTS),
        "classes": ["10", "100"] if "cifar" in path.stem else [],
        "profile": PROFILES.get(path.stem, ["exp", "step"]),
        "data": DATA.get(path.stem, ["mnist1d", "cifar10"]),
        "then": ["ldam_drw"],
        "recipe": list(getattr(module, "RECIPES", [])),
    }
    found = [""]
    for name, values in choices.items():
        for value in values if name in names else []:
            found.append(f"{name}={value}" + _first_stage(name, value, names))
    if path.stem in OF_PHOTOGRAPHS:
        found += [f"data=cifar10,method={method}" for method in METHODS[path.stem]]
    return found + (["smoke"] if "smoke" in names else [])


def _first_stage(name: str, value: str, names: set[str]) -> str:
    """Second stages start from a finished run."""
    second = name == "method" and "stages" in presets.PRESETS.get(value, {})
    return ",init_from=runs/first" if second and "init_from" in names else ""


def flatten(value, prefix: str = "") -> dict:
    """Nested dict -> {dotted name: value}; an empty section keeps its name."""
    if not isinstance(value, dict) or not value:
        return {prefix[:-1]: value}
    return {
        path: leaf
        for key, part in value.items()
        for path, leaf in flatten(part, f"{prefix}{key}.").items()
    }


def defaults() -> dict:
    """What a config asks for that changes nothing."""
    return to_dict(check(default_config()))


def describe(path: pathlib.Path) -> dict[str, dict]:
    """{argument: {dotted name: value}} of a config file, see above."""
    module, base = load(path), flatten(defaults())
    described = {}
    for argument in arguments(path, module):
        try:
            chosen = flatten(to_dict(check(module.get_config(argument))))
        except ValueError as error:
            raise ValueError(f"{path.name}:{argument}: {error}") from error
        described[argument] = {
            name: chosen.get(name)
            for name in sorted(chosen.keys() | base.keys())
            if chosen.get(name) != base.get(name)
        }
        if not argument:
            base = chosen
    return described


def contents() -> dict[str, dict]:
    """File name -> content, of all golden files."""
    found = {f"{path.stem}.json": describe(path) for path in files()}
    return found | {"defaults.json": flatten(defaults())}


def text(content: dict) -> str:
    """As it is stored: a line for each argument."""
    lines = [f"{json.dumps(key)}: {json.dumps(content[key])}" for key in content]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Writes all files and removes those of configs that are gone."""
    GOLDEN.mkdir(exist_ok=True)
    for stale in GOLDEN.glob("*.json"):
        stale.unlink()
    for name, content in contents().items():
        (GOLDEN / name).write_text(text(content))
        print(GOLDEN / name)


if __name__ == "__main__":
    main()
