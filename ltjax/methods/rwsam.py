r"""rwSAM: the ascent weighted by the inverse density of features.

.. math:: w_i \propto \Big( \frac1N \sum_j e^{-\|f_i - f_j\|^2 / 2h^2}
          \Big)^{-\alpha}, \qquad \epsilon \propto \nabla \frac1B \sum_i w_i \ell_i

and the gradient of the even mean at the perturbed point. The weights come from a file,
from features that an earlier run saw (`density_column`), or from the run's own
features, looked at again and again.

References:
    Liu, HaoChen, Gaidon, Ma, "Self-supervised Learning is More Robust to Dataset
    Imbalance", ICLR 2022, algorithm 1: weights once, by a network that was trained
    without rwSAM. No density code was released: unit features of the backbone, the
    bandwidth, the exponent, the clipping and weights that are made anew are ours. The
    released scripts perturb as ASAM does (`adaptive`, radius 2 on ImageNet).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ltjax import sharpness
from ltjax.methods.gradient_rule import (
    RULE,
    GradientRule,
    Parts,
    RuleMemory,
    columns,
)
from ltjax.methods.gradients import (
    PATH,
    ASAMOptions,
    SAMOptions,
    sharp,
    sharp_facts,
    sharp_needs,
)
from ltjax.methods.method import Refresh
from ltjax.options import Component, live, nearest, option


@dataclasses.dataclass(frozen=True)
class RwSAMOptions(SAMOptions):
    """Of rwSAM."""

    adaptive: bool = option(
        False, "radius in units of the weights' size (ASAM), as in the released code"
    )
    density_weights: str = option(
        "",
        "file (.npy) with one weight per training example, from"
        " ltjax.sharpness.density_weights; '' = from features",
        file=True,
    )
    density_column: str = option(
        "", "column of config.columns_from with features; '' = those of the run itself"
    )
    density_start: str = option(
        "10%", "when the run's features are first looked at; before, SAM", duration=True
    )
    density_every: str = option(
        "10%", "interval at which they are looked at again; 0 = never", duration=True
    )
    density_alpha: float = option(0.5, "exponent of the inverse density", low=0)
    density_bandwidth: float = option(
        0.0,
        "of the kernel on unit features; 0 = ltjax.sharpness.median_bandwidth",
        low=0,
    )


def rwsam(
    options: RwSAMOptions,
    setting: Any,
    density_weights: np.ndarray | None = None,
) -> GradientRule:
    """rwSAM: the ascent weighted by inverse feature density, looked up by example.

    Args:
        options: see `RwSAMOptions`.
        setting: the network "main" and the columns of the training set.
        density_weights: [N], or None for those of features: once from a column of them,
            or again and again from the network itself, in evaluation mode.

    Returns:
        A `GradientRule`, with a memory of "weights" [N] unless they are given.
    """
    given = density_weights is not None
    memory = None if given else _densities(options, setting)

    def terms(parts: Parts, state, batch, program):
        if given:
            table = jnp.asarray(density_weights, jnp.float32)
        else:
            table = state.method_state[RULE]["weights"]
        weights = table[batch["index"]]
        rho = live(PATH, options, state.hyper).rho
        return sharpness.rwsam(weights, rho=rho, base=columns(parts)[1])

    usual = ASAMOptions()
    scale = sharpness.asam(eta=usual.eta, rule=usual.tensors)
    passes = {"scale": scale} if options.adaptive else {}
    return GradientRule(terms, memory=memory, options=passes)


def _densities(options: RwSAMOptions, setting: Any) -> RuleMemory:
    """The weights of rwSAM as a table that is made from features between steps."""
    size, network = setting.num_examples, setting.networks["main"]
    column = setting.columns.get(options.density_column)
    start = setting.steps(options.density_start) if column is None else 0
    every = setting.steps(options.density_every) if column is None else 0

    def due(step: int) -> bool:
        again = every and step > start and (step - start) % every == 0
        return step == start or bool(again)

    def gather(state, batch):
        outputs, _ = network.forward(
            state.params, state.model_state, batch["inputs"], train=False
        )
        return outputs["features"]

    def fn(kept, gathered, *, step):
        features = np.asarray(column if gathered is None else gathered, np.float32)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        table = np.ones_like(kept["weights"])
        table[:size] = sharpness.density_weights(
            features / np.maximum(norms, 1e-12),
            bandwidth=options.density_bandwidth or None,
            alpha=options.density_alpha,
        )
        return {"weights": table}

    def init():
        return {"weights": jnp.ones(setting.table_size, jnp.float32)}

    seen = gather if column is None else None
    return RuleMemory(init, (Refresh(due, fn, seen),))


def _needs(options: RwSAMOptions, config) -> list[str]:
    faults, column = sharp_needs(options, config), options.density_column
    if column and options.density_weights:
        faults.append(
            f"config.gradient.density_column is {column!r}, but density_weights is set"
            " too, expected one of them"
        )
    if column and column not in config.columns_from:
        faults.append(
            f"config.gradient.density_column is {column!r}, which config.columns_from"
            f" does not name{nearest(column, config.columns_from)}"
        )
    if config.model.facts.dense and not options.density_weights:
        faults.append(
            f"config.model.name is {config.model.name!r}, which has no feature of a"
            " whole example, expected gradient.density_weights, a file of weights"
        )
    return faults


def _make(options: RwSAMOptions, setting) -> GradientRule:
    if not options.density_weights:
        return rwsam(options, setting)
    try:
        with open(options.density_weights, "rb") as file:
            table = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"rwsam: {options.density_weights} is not a .npy file of weights: {error}"
        ) from None
    if table.shape != (setting.num_examples,):
        raise ValueError(
            f"rwsam: {options.density_weights} holds weights of shape {table.shape},"
            f" expected one for each of the {setting.num_examples} training examples"
        )
    return rwsam(options, setting, table)


RWSAM = Component(
    "rwSAM: ascent weighted by inverse density (Liu 2022)",
    RwSAMOptions,
    sharp(_make),
    _needs,
    sharp_facts,
)
