"""The floors of the house: who may import whom, and what is needed to import it."""

import ast
import os
import pathlib
import pkgutil
import subprocess
import sys

import ltjax

ROOT = pathlib.Path(ltjax.__file__).parent

# Parts of the package by floor. A part imports itself and lower floors; single files
# also their left neighbours, folders those of `NEIGHBOURS`. The side wings stand on a
# floor, and nobody imports them but the roof.
FLOORS = [
    ["_checks", "_numerics", "_archives", "_seal", "_similarity_blocks"],
    ["class_stats", "reduce", "schedules", "pruning", "durations", "options"],
    [
        *("losses", "metrics", "classifiers", "resampling", "sharpness"),
        *("pseudo_labels", "optimizers"),
    ],
    ["data", "models", "methods", "evaluators"],
    ["train"],
    ["serving"],
    [
        *(
            "finetune",
            "own_places",
            "own_supervision",
            "own_data",
            "shipped_configs",
            "config_file",
            "fitting",
        ),
        *("train_arguments", "sweeps", "commands", "cli", "__main__"),
    ],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS, start=1) for name in names}
FOR_TYPES = "TYPE_CHECKING"
SIDE = {"report": 3, "sklearn": 3, "consistency": 3}
ROOF = len(FLOORS)

# Folders that need one to the left of them on their floor. Methods get the forward pass
# and the counts as arguments, so they know neither models nor data.
NEIGHBOURS = {
    "evaluators": {"methods"},
    "commands": {"config_file", "train_arguments", "sweeps"},
    "sweeps": {"config_file"},
}

# What a part may import, besides jax and numpy, when it is imported itself. Everything
# else belongs inside functions.
OUTSIDE = {
    **dict.fromkeys(FLOORS[2], {"optax"}),
    "models": {"optax", "flax"},
    "data": set(),
    "methods": {"optax"},
    "evaluators": set(),
    "train": {"optax", "flax", "orbax", "ml_collections"},
    "serving": {"flax"},
    "sklearn": {"sklearn", "scipy"},
    "consistency": {"scipy"},  # which jax needs anyway
}


def parts() -> dict[str, list[pathlib.Path]]:
    """Part -> its files; ltjax/__init__.py belongs to none."""
    found: dict[str, list[pathlib.Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).with_suffix("").parts[0]
        if part != "__init__":
            found.setdefault(part, []).append(path)
    return found


def imported(path: pathlib.Path, *, on_import: bool) -> list[str]:
    """Dotted names that a file imports: all, or only those of its own import."""
    names = []
    tree = ast.parse(path.read_text())
    for node in _on_import(tree) if on_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _on_import(node):
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == FOR_TYPES
        later = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        if not for_types and not isinstance(child, later):
            yield child
            yield from _on_import(child)


def may_import(part: str, other: str) -> bool:
    if other == part:
        return True
    if part in SIDE:
        return FLOOR.get(other, ROOF) <= SIDE[part]
    if other in SIDE:
        return FLOOR[part] == ROOF
    if FLOOR[other] == FLOOR[part]:
        row = FLOORS[FLOOR[part] - 1]
        is_left = row.index(other) < row.index(part)
        is_file = (ROOT / f"{part}.py").exists()
        return is_left and (is_file or other in NEIGHBOURS.get(part, ()))
    return FLOOR[other] < FLOOR[part]


def test_every_part_has_a_floor():
    assert {info.name for info in pkgutil.iter_modules([str(ROOT)])} == set(
        FLOOR | SIDE
    )


def test_imports_go_downwards():
    faults = []
    for part, paths in parts().items():
        for path in paths:
            for name in imported(path, on_import=False):
                package, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if package != "ltjax" or other not in FLOOR | SIDE:
                    continue
                if not may_import(part, other):
                    faults.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not faults


def test_nothing_heavy_is_imported_outside_of_functions():
    faults = []
    for part, paths in parts().items():
        allowed = {"ltjax", "jax", "numpy"} | OUTSIDE.get(part, set())
        allowed |= sys.stdlib_module_names
        for path in paths:
            for name in imported(path, on_import=True):
                if name.partition(".")[0] not in allowed:
                    faults.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not faults


def test_nnx_is_imported_where_a_network_of_it_is():
    """Importing it takes longer than Linen, which every command needs."""
    adapter = ROOT / "models" / "nnx_adapter.py"
    for path in set(ROOT.rglob("*.py")) - {adapter}:
        names = imported(path, on_import=True)
        late = ("flax.nnx", "ltjax.models.nnx_adapter")
        assert not [name for name in names if name.startswith(late)], path
    assert "flax.nnx" in imported(adapter, on_import=True)


def python(code: str) -> None:
    """Runs `code` in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


# What jax and optax themselves bring along (scipy, absl) cannot be blocked.
BLOCKED = [
    *("tensorflow", "tensorflow_datasets", "flax", "orbax", "grain", "clu", "chex"),
    *("matplotlib", "ml_collections", "sklearn", "PIL", "tqdm", "mnist1d"),
    *("tensorboardX", "equinox", "imblearn"),
]
BLOCK = f"""
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Refuse())
"""


def test_losses_need_jax_numpy_and_optax_only():
    python(
        BLOCK
        + """
import jax.numpy as jnp
import ltjax.losses, ltjax.class_stats, ltjax.reduce, ltjax.schedules, ltjax.options
import ltjax.metrics, ltjax.classifiers, ltjax.resampling, ltjax.sharpness
import ltjax.methods.registry, ltjax.methods.classifiers, ltjax.methods.presets
import ltjax.evaluators.registry, ltjax.data, ltjax.data.components
import ltjax.pseudo_labels

logits, labels = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
values = ltjax.losses.logit_adjusted(logits, labels, jnp.array([90, 10]))
assert values.shape == (2,)
try:
    import flax
except ImportError:
    pass
else:
    raise AssertionError("nothing was blocked")
"""
    )


def test_no_part_imports_tensorflow():
    everything = [
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        for paths in parts().values()
        for path in paths
        if path.stem != "__main__"
    ]
    python(
        f"""
import importlib, importlib.abc, sys, warnings
warnings.simplefilter("ignore")
asked = []

class Notice(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        asked.append(name.partition(".")[0])

sys.meta_path.insert(0, Notice())
for name in {everything!r}:
    importlib.import_module(name.removesuffix(".__init__"))
heavy = {{"tensorflow", "tensorflow_datasets", "torch", "grain", "matplotlib"}}
assert "ltjax" in asked and not heavy & set(asked), heavy & set(asked)
"""
    )
