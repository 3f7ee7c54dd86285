"""The contract between a method of the literature and the training engine."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Method(NamedTuple):
    """A method as pure functions of the train state; the engine knows no other face.

    `state` is the engine's train state: `step`, `hyper`, `model_state`, `method_state`
    and the rest are read from it, never from a closure.

    Attributes:
        init: (key, params, model_state) -> method_state, whatever the method keeps
            between steps (None for most).
        loss: (params, state, batch, *, key) -> (losses, aux). `losses` is a dict
            name -> [B] float32 in nats; `aux` a dict with the new "model_state", the
            model's "outputs" and what `terms` and `update` need.
        terms: (state, batch, aux, *, program) -> tuple of `ltjax.sharpness.Term`: which
            weighted sums of the losses the gradient ascends and descends. `program` is
            the static choice of the host (`None` for most rules).
        update: (state, batch, aux) -> method_state, after the optimizer.
        predict: (state, inputs) -> outputs with "logits" adjusted as the method
            predicts (post-hoc corrections included).
        adjustment: state -> (weight, scale, shift), scalars or [K], if the loss at this
            step has the form weight_y CE(scale * z + shift, y); None if it has not.
    """

    init: Callable[..., Any]
    loss: Callable[..., Any]
    terms: Callable[..., Any]
    update: Callable[..., Any]
    predict: Callable[..., Any]
    adjustment: Callable[[Any], tuple[Any, Any, Any]] | None = None
