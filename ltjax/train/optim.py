"""The optax chain of a run, made inside the traced step from `hyper`.

Learning rate and weight decay are read from `hyper`, so replicas may differ in them;
the schedule is a factor of the state's own step, so the chain keeps no counter.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax.optimizers import kernels_only, scale_by_lars
from ltjax.options import Component, ConfigError, live, option

PATH = "optimizer"  # of the config section
MODULES = ("backbone", "head", "class_scale")
AFTER_FEATURES = ("head", "class_scale")
ALL = "all"

# ------------------------------------------------------------------ what is trained


def _not_head_bias(params):
    def keep(path, _):
        return [key.key for key in path[-2:]] != ["head", "bias"]

    return jax.tree_util.tree_map_with_path(keep, params)


# Which leaves decay. Sigmoid losses start at a biased head that decay would undo.
DECAY = {"all": None, "kernels": kernels_only, "not_head_bias": _not_head_bias}


def _module_path(path) -> str:
    return "/".join(str(key.key) for key in path)


def _under(path: str, module: str) -> bool:
    """Whether a leaf lies under a module, whose names may be patterns (stage4_*)."""
    names, wanted = path.split("/"), module.split("/")
    return len(names) >= len(wanted) and all(map(fnmatchcase, names, wanted))


def _trains(modules: str, path) -> bool:
    name = _module_path(path)
    return modules == ALL or any(_under(name, m) for m in modules.split(","))


def _partition(modules: str):
    """Labels for optax.partition: leaves under one of the modules train."""

    def labels(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "train" if _trains(modules, path) else "keep", params
        )

    return labels


def hold_fixed(modules: str, params: Any) -> Any:
    """`params`, without gradient where they do not lie under one of the modules."""
    if modules == ALL:
        return params

    def leaf(path, value):
        return value if _trains(modules, path) else jax.lax.stop_gradient(value)

    return jax.tree_util.tree_map_with_path(leaf, params)


def only_under(modules: str, updates: Any) -> Any:
    """`updates`, zero where they do not lie under one of the modules."""
    if modules == ALL:
        return updates

    def leaf(path, value):
        return value if _trains(modules, path) else jnp.zeros_like(value)

    return jax.tree_util.tree_map_with_path(leaf, updates)


def trains_backbone(options: "OptimizerOptions") -> bool:
    """Whether anything under "backbone" trains."""
    names = options.train.split(",")
    return options.train == ALL or any(n.startswith("backbone") for n in names)


def trains_features(options: "OptimizerOptions") -> bool:
    """Whether anything trains that the features of an example depend on."""
    names = options.train.split(",")
    return any(name.split("/")[0] not in AFTER_FEATURES for name in names)


def check_modules(options: "OptimizerOptions", params: Any) -> None:
    """Raises ConfigError for a module path that no parameter lies under."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = [_module_path(path) for path, _ in leaves]
    trained = [] if options.train == ALL else options.train.split(",")
    faults = [
        f"config.optimizer names {prefix!r}, but no parameter lies there; there are"
        f" {', '.join(sorted({'/'.join(p.split('/')[:2]) for p in paths}))}"
        for prefix in (*trained, *options.lr_factors)
        if not any(_under(path, prefix) for path in paths)
    ]
    if faults:
        raise ConfigError(faults)


def _scale_by_module(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Updates under a module path times its factor; of several, the longest path's."""

    def factor(path) -> float:
        name = _module_path(path)
        found = [prefix for prefix in factors if _under(name, prefix)]
        return factors[max(found, key=len)] if found else 1.0

    def scale(updates):
        return jax.tree_util.tree_map_with_path(lambda p, u: factor(p) * u, updates)

    return optax.stateless(lambda updates, params: scale(updates))


# ---------------------------------------------------------------------- optimizers


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Shared by all optimizers."""

    lr: float = option(0.1, "base learning rate", low=0, sweep=True)
    weight_decay: float = option(2e-4, "lambda", low=0, sweep=True)
    decay: str = option(
        "all", "leaves that decay; kernels are those of rank > 1", choices=DECAY
    )
    clip_norm: float = option(0.0, "bound of the gradient's norm; 0 = off", low=0)
    accumulate: int = option(1, "micro-batches of a step", low=1)
    train: str = option(
        ALL, "all, or modules such as 'head' or 'head,backbone/stage4_*'"
    )
    bn_mode: str = option(
        "frozen",
        "batch statistics of a backbone of which nothing trains",
        choices=("frozen", "update_stats"),
    )
    lr_factors: Mapping = option({}, "module -> factor, as {'backbone': 0.1}")


@dataclasses.dataclass(frozen=True)
class SGDOptions(OptimizerOptions):
    """Of stochastic gradient descent."""

    momentum: float = option(0.9, "mu", low=0, below=1)
    nesterov: bool = option(False, "Nesterov's form of the momentum")


@dataclasses.dataclass(frozen=True)
class LARSOptions(OptimizerOptions):
    """Of layer-wise adaptive rates."""

    decay: str = option(
        "kernels", "leaves that decay; kernels are those of rank > 1", choices=DECAY
    )
    momentum: float = option(0.9, "mu", low=0, below=1)
    trust: float = option(1e-3, "trust coefficient", above=0)


def _sgd(options: SGDOptions, decay) -> list[optax.GradientTransformation]:
    """Coupled decay, then momentum: the published recipe of the field."""
    return [decay, optax.trace(options.momentum, nesterov=options.nesterov)]


def _adamw(options: OptimizerOptions, decay) -> list[optax.GradientTransformation]:
    return [optax.scale_by_adam(), decay]


def _lars(options: LARSOptions, decay) -> list[optax.GradientTransformation]:
    """The trust ratio is that of kernels only; the rate stays outside (BYOL's code)."""
    return [decay, scale_by_lars(options.trust, options.momentum)]


def optimizer(chain_of: Callable[..., list]) -> Callable[..., Any]:
    r"""A component's `make` from (options, decay) -> the parts of an optax chain.

    The result is a function (options, factor) -> `make_tx(hyper, step)`, to be called
    inside the traced step. SGD is
    :math:`g \mathrel{+}= \lambda w,\; v = \mu v + g,\; w \mathrel{-}= \eta v`.
    """

    def make(options: OptimizerOptions, factor: Callable[[Any], jax.Array]):
        mask = DECAY[options.decay]

        def make_tx(hyper, step) -> optax.GradientTransformation:
            now = live(PATH, options, hyper)
            chain = []
            if options.clip_norm > 0:
                chain.append(optax.clip_by_global_norm(options.clip_norm))
            decay = optax.add_decayed_weights(now.weight_decay, mask)
            chain += chain_of(options, decay)
            chain.append(optax.scale(-now.lr * factor(step)))
            if options.lr_factors:
                chain.append(_scale_by_module(options.lr_factors))
            tx = optax.chain(*chain)
            if options.train != ALL:
                parts: dict[Hashable, optax.GradientTransformation] = {
                    "train": tx,
                    "keep": optax.set_to_zero(),
                }
                tx = optax.partition(parts, _partition(options.train))
            return tx

        return make_tx

    return make


def _needs(options: OptimizerOptions, config) -> list[str]:
    faults = []
    trained = [] if options.train == ALL else options.train.split(",")
    added = (*config.adapter.facts.modules, *config.model.facts.adapters)
    modules = (*MODULES, *added)
    for field, paths in (("train", trained), ("lr_factors", options.lr_factors)):
        for path in paths:
            if path.split("/")[0] not in modules:
                faults.append(
                    f"config.optimizer.{field} names {path!r}, expected"
                    f" {'all or ' if field == 'train' else ''}modules such as"
                    f" {', '.join(modules)} or backbone/stage4_*"
                )
    for path, factor in options.lr_factors.items():
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0 <= factor < float("inf"):
            faults.append(
                f"config.optimizer.lr_factors[{path!r}] is {factor!r}, expected a"
                " number >= 0"
            )
    started = config.init_from or config.model.facts.started
    if options.train != ALL and not started:
        faults.append(
            f"config.init_from is empty, but optimizer.train is {options.train!r}: all"
            " else would stay as it was drawn; expected the workdir of a finished run"
            " or a file of weights"
        )
    if "class_scale" in options.train.split(",") and config.head.class_scale == "none":
        faults.append(
            "config.optimizer.train names 'class_scale', but head.class_scale is"
            " 'none', expected 'ones' or 'inverse_norm'"
        )
    return faults


OPTIMIZERS: dict[str, Component] = {
    "sgd": Component("momentum, coupled decay", SGDOptions, optimizer(_sgd), _needs),
    "adamw": Component(
        "Adam with decoupled decay", OptimizerOptions, optimizer(_adamw), _needs
    ),
    "lars": Component(
        "layer-wise adaptive rates (You 2017)", LARSOptions, optimizer(_lars), _needs
    ),
}
