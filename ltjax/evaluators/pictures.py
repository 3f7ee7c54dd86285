"""A few pictures of a split with the true and the predicted class of their pixels."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ltjax.evaluators.evaluator import Evaluator, EvaluatorSetting, Sweep
from ltjax.options import Component, option


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """Of the pictures that an evaluation keeps."""

    count: int = option(6, "pictures, the first of the split", low=1)
    side: int = option(96, "pixels of the longer side; larger ones are thinned", low=8)


def displayed(inputs) -> Any:
    """Inputs as pictures: each stretched to [0, 255], gray ones in three channels.

    Args:
        inputs: [B, H, W, C] float, however they were normalized.

    Returns:
        uint8 [B, H, W, 3]; of two or more than three channels the first.
    """
    if inputs.shape[-1] != 3:
        inputs = jnp.repeat(inputs[..., :1], 3, axis=-1)
    low = inputs.min(axis=(1, 2, 3), keepdims=True)
    high = inputs.max(axis=(1, 2, 3), keepdims=True)
    stretched = 255 * (inputs - low) / jnp.maximum(high - low, 1e-12)
    return jnp.round(stretched).astype(jnp.uint8)


def make(options: PictureOptions, setting: EvaluatorSetting) -> Evaluator:
    """Pictures for the report: input, truth and prediction.

    Args:
        options: see `PictureOptions`.
        setting: the method's prediction, with "logits" [B, H, W, K], K <= 255.

    Returns:
        `Evaluator` with the arrays "pictures/input", "pictures/true" and
        "pictures/predicted", uint8 [R, count, H, W(, 3)], and no metric.

    Raises:
        ValueError: (when judging) if the examples have no class for each pixel.
    """

    def judge(state, batch, extra):
        if "targets" not in batch:
            raise ValueError(
                "pictures: the examples have no 'targets', expected data with a class"
                " for each pixel, as for the evaluator 'segmentation'"
            )
        inputs = jnp.asarray(batch["inputs"], jnp.float32)
        step = -(-max(inputs.shape[1:3]) // options.side)
        predicted = setting.predict(state, batch["inputs"])["logits"].argmax(-1)
        maps = {"true": batch["targets"], "predicted": predicted}
        thin = {
            name: x[:, ::step, ::step].astype(jnp.uint8) for name, x in maps.items()
        }
        return {"input": displayed(inputs[:, ::step, ::step]), **thin}

    def arrays(found: Any, extra: Any, about: Any) -> dict[str, np.ndarray]:
        return {
            f"pictures/{name}": np.asarray(found[name])[:, : options.count]
            for name in ("input", "true", "predicted")
        }

    return Evaluator(judge=Sweep(judge), arrays=arrays, summarize=lambda arrays: {})


PICTURES = Component(
    "a few pictures with true and predicted pixels, for the report",
    PictureOptions,
    make,
)
