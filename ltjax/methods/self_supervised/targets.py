"""A momentum network that gives each view of a batch its target (BYOL, MoCLR)."""

import dataclasses
from typing import Any

from ltjax._numerics import moving_average
from ltjax.methods.method import Setting
from ltjax.methods.self_supervised import pairs
from ltjax.options import live, option
from ltjax.schedules import target_decay

TARGETS = ("target1", "target2")  # of the first and the second views


@dataclasses.dataclass(frozen=True)
class TargetOptions(pairs.ViewOptions):
    """Of learners with a momentum network."""

    joint: bool = option(
        False, "whether both views go through together and share batch statistics"
    )
    momentum: float = option(
        0.99,
        "of the momentum network at the start; 1 at the end of the run",
        low=0,
        high=1,
        sweep=True,
    )


def start(key: Any, params: Any, model_state: Any) -> dict[str, Any]:
    """The first method state: a copy of the network."""
    return {"target": {"params": params, "model_state": model_state}}


def targets_of(options: TargetOptions, setting: Setting) -> tuple[Any, Any]:
    """(`prepare`, `update`) of a method with a momentum network.

    In a step it projects both views as it is, in training mode with batch statistics of
    its own; after the optimizer it follows the new parameters, with a momentum that
    rises to 1 by half a cosine. Whatever the gradient rule, both happen once.
    """

    def prepare(state, batch, *, key, program):
        kept = state.method_state
        target = kept["target"]
        first, second, model_state = pairs.view_outputs(
            setting,
            target["params"],
            target["model_state"],
            batch,
            key=key,
            joint=options.joint,
        )
        found = (first["projection"], second["projection"])
        target = {**target, "model_state": model_state}
        more = dict(zip(TARGETS, found, strict=True))
        return {**kept, "target": target}, {**batch, **more}

    def update(state, batch, aux):
        target = state.method_state["target"]
        decay = target_decay(
            state.step - 1,
            total_steps=setting.total_steps,
            base=live("method", options, state.hyper).momentum,
        )
        params = moving_average(target["params"], state.params, decay)
        return {**state.method_state, "target": {**target, "params": params}}

    return prepare, update
