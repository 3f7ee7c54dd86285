"""The optax chain of a run, made inside the traced step from `hyper`.

Learning rate and weight decay are read from `hyper`, so replicas may differ in them;
the schedule is a factor of the state's own step, so the chain keeps no counter.
"""

from collections.abc import Callable, Hashable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import schedules
from ltjax.train.config import ConfigError, OptimizerConfig, duration_steps

SCHEDULES = ("constant", "warmup_multistep", "cosine")
OPTIMIZERS = ("sgd", "adamw")


def lr_factor(
    config: OptimizerConfig, *, steps_per_epoch: int, batch_size: int, total_steps: int
) -> Callable[[Any], jax.Array]:
    """The schedule of `config`: step -> factor of the base learning rate.

    Args:
        config: the optimizer section.
        steps_per_epoch: steps.
        batch_size: examples.
        total_steps: of the run.

    Returns:
        A function of a (traced) int step.
    """
    warmup = duration_steps(
        config.warmup,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        total_steps=total_steps,
    )
    if warmup >= total_steps:
        raise ConfigError(
            [
                f"config.optimizer.warmup is {config.warmup!r} = {warmup} steps,"
                f" expected less than the run's {total_steps}"
            ]
        )
    if config.schedule == "constant":
        if not warmup:
            return schedules.constant
        return lambda step: jnp.minimum((step + 1).astype(jnp.float32) / warmup, 1.0)
    if config.schedule == "warmup_multistep":
        if warmup % steps_per_epoch:
            raise ConfigError(
                [
                    f"config.optimizer.warmup is {config.warmup!r} = {warmup} steps,"
                    " but 'warmup_multistep' changes the rate by epochs: expected a"
                    f" multiple of the {steps_per_epoch} steps of an epoch"
                ]
            )
        return lambda step: schedules.warmup_multistep(
            step,
            steps_per_epoch=steps_per_epoch,
            warmup_epochs=warmup // steps_per_epoch,
            milestones=config.milestones,
            factors=config.factors,
        )
    return lambda step: schedules.cosine(
        step,
        total_steps=total_steps,
        warmup_steps=warmup,
        steps_per_epoch=steps_per_epoch if config.per_epoch else 1,
    )


def _has_kernel_rank(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _not_head_bias(params):
    def keep(path, _):
        return [key.key for key in path] != ["head", "bias"]

    return jax.tree_util.tree_map_with_path(keep, params)


# Which leaves decay. Sigmoid losses start at a biased head that decay would undo.
DECAY = {"all": None, "kernels": _has_kernel_rank, "not_head_bias": _not_head_bias}


def _module_path(path) -> str:
    return "/".join(str(key.key) for key in path)


def _under(path: str, module: str) -> bool:
    """Whether a leaf lies under a module, whose names may be patterns (stage4_*)."""
    names, wanted = path.split("/"), module.split("/")
    return len(names) >= len(wanted) and all(map(fnmatchcase, names, wanted))


def _trains(modules: str, path) -> bool:
    name = _module_path(path)
    return modules == "all" or any(_under(name, m) for m in modules.split(","))


def _partition(modules: str):
    """Labels for optax.partition: leaves under one of the modules train."""

    def labels(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "train" if _trains(modules, path) else "keep", params
        )

    return labels


def hold_fixed(config: OptimizerConfig, params: Any) -> Any:
    """`params`, without gradient where `config.train` says that they stay."""

    def leaf(path, value):
        return value if _trains(config.train, path) else jax.lax.stop_gradient(value)

    return jax.tree_util.tree_map_with_path(leaf, params)


def trains_backbone(config: OptimizerConfig) -> bool:
    """Whether anything under "backbone" trains."""
    names = config.train.split(",")
    return config.train == "all" or any(n.startswith("backbone") for n in names)


def check_modules(config: OptimizerConfig, params: Any) -> None:
    """Raises ConfigError for a module path that no parameter lies under."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = [_module_path(path) for path, _ in leaves]
    trained = [] if config.train == "all" else config.train.split(",")
    faults = [
        f"config.optimizer names {prefix!r}, but no parameter lies there; there are"
        f" {', '.join(sorted({'/'.join(p.split('/')[:2]) for p in paths}))}"
        for prefix in (*trained, *config.lr_factors)
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


def make_optimizer(
    config: OptimizerConfig, factor: Callable[[Any], jax.Array]
) -> Callable[..., optax.GradientTransformation]:
    r"""`make_tx(hyper, step) -> optax.GradientTransformation` of `config`.

    SGD is the published recipe: coupled decay, then momentum, then the rate,
    :math:`g \mathrel{+}= \lambda w,\; v = \mu v + g,\; w \mathrel{-}= \eta v`; AdamW
    decouples the decay.

    Args:
        config: the optimizer section.
        factor: from `lr_factor`.

    Returns:
        A function to be called inside the traced step.
    """
    mask = DECAY[config.decay]

    def make_tx(hyper, step) -> optax.GradientTransformation:
        chain = []
        if config.clip_norm > 0:
            chain.append(optax.clip_by_global_norm(config.clip_norm))
        decay = optax.add_decayed_weights(hyper["weight_decay"], mask)
        if config.name == "sgd":
            momentum = optax.trace(config.momentum, nesterov=config.nesterov)
            chain += [decay, momentum]
        else:
            chain += [optax.scale_by_adam(), decay]
        chain.append(optax.scale(-hyper["lr"] * factor(step)))
        if config.lr_factors:
            chain.append(_scale_by_module(config.lr_factors))
        tx = optax.chain(*chain)
        if config.train != "all":
            parts: dict[Hashable, optax.GradientTransformation] = {
                "train": tx,
                "keep": optax.set_to_zero(),
            }
            tx = optax.partition(parts, _partition(config.train))
        return tx

    return make_tx
