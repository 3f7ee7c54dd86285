r"""AUCSeg: pixel-wise training, an AUC loss over all pixels, and a memory of the tail.

.. math:: \ell_{\mathrm{pixelwise}} + w\, \frac{1}{K(K-1)} \sum_{i \ne j}
          \frac{1}{N_i N_j} \sum_{p: y_p = i} \sum_{q: y_q = j}
          \tfrac12 \big( 1 - \sigma(z_{pi}) + \sigma(z_{qi}) \big)^2

over the pixels of the batch, across images, and its K classes. Before the step, the
tail classes of the batch go into the memory, and every image gets regions of tail
classes that it lacks (`tail_memory`).

References:
    Han et al., "AUCSeg: AUC-oriented Pixel-level Long-tail Semantic Segmentation",
    NeurIPS 2024: weight 4 on ADE20K, 1 on Cityscapes and COCO-Stuff; memory of 5;
    sample share 0.05, 1 and 0.05, size 0.4, 1 and 0.1. The pixel-wise loss is a mean
    over images of means over pixels, as in `pixelwise`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses import pixel_auc
from ltjax.methods.method import Method, MethodFacts, Part, Setting, even_part
from ltjax.methods.segmentation import pixelwise, tail_memory
from ltjax.methods.segmentation.tail_memory import TailMemory
from ltjax.metrics.segmentation import IGNORED
from ltjax.options import Component, ConfigError, NoOptions, live, option


@dataclasses.dataclass(frozen=True)
class AUCSegOptions:
    """Of AUCSeg."""

    weight: float = option(1.0, "w, of the AUC loss", low=0, sweep=True)
    memory: int = option(5, "M, regions kept of each tail class; 0 = none", low=0)
    share: float = option(1.0, "of the missing tail classes", above=0, high=1)
    resize: float = option(0.4, "size of a region in images", above=0, high=1)
    tail: tuple[int, ...] = option(
        (), "the tail classes; () = the half with the fewest pixels", low=0
    )


def tail_classes(options: AUCSegOptions, class_counts: np.ndarray) -> np.ndarray:
    """[T] the classes that the memory keeps, in ascending order."""
    if not options.tail:
        rarest = np.argsort(class_counts, kind="stable")[: len(class_counts) // 2]
        return np.sort(rarest)
    found = np.unique(options.tail)
    if len(found) < len(options.tail) or found[-1] >= len(class_counts):
        raise ConfigError(
            [
                f"config.method.tail is {options.tail}, expected different classes"
                f" below {len(class_counts)}"
            ]
        )
    return found


def aucseg(options: AUCSegOptions, setting: Setting) -> Method:
    """AUCSeg on the column "targets" [N, H, W].

    Args:
        options: see `AUCSegOptions`.
        setting: the network "main" gives logits [B, H, W, K].

    Returns:
        A `Method` whose state is the memory, or None without one.
    """
    plain, rule = pixelwise.pixelwise(NoOptions(), setting), setting.rule
    tail = tail_classes(options, setting.class_counts)

    def init(key, params, model_state):
        if not options.memory:
            return None
        shape = setting.input_shape
        return tail_memory.empty_memory(len(tail), options.memory, shape)._asdict()

    def prepare(state, batch, *, key, program):
        if not options.memory:
            return state.method_state, batch
        store_key, paste_key = jax.random.split(key)
        images, targets = batch["inputs"], batch["targets"]
        memory = TailMemory(**state.method_state)
        memory = tail_memory.store(
            memory, store_key, images, targets, batch["mask"], tail
        )

        def one(key, image, target):
            return tail_memory.paste(
                memory,
                key,
                image,
                target,
                tail=tail,
                share=options.share,
                resize=options.resize,
            )

        keys = jax.random.split(paste_key, len(images))
        images, targets, pasted = jax.vmap(one)(keys, images, targets)
        more = {"inputs": images, "targets": targets, "pasted": pasted}
        return memory._asdict(), {**batch, **more}

    def loss(params, state, batch, *, key, program):
        losses, aux = plain.loss(params, state, batch, key=key, program=program)
        targets, mask = batch["targets"].astype(jnp.int32), batch["mask"]
        valid = (targets != IGNORED) & mask[:, None, None]
        known = jnp.where(valid, targets, 0)
        values = pixel_auc(aux["outputs"]["logits"], known, where=valid)
        # Their mean over real images is the mean over the batch's valid pixels.
        images = jnp.sum(mask) / jnp.maximum(jnp.sum(valid), 1)
        losses["auc"] = images * jnp.sum(values, axis=(1, 2))
        if options.memory:
            pasted = jnp.sum(batch["pasted"] * mask)
            aux["metrics"]["pasted"] = (pasted, jnp.sum(mask))
        return losses, aux

    def terms(state, batch, aux, *, program):
        weight = live("method", options, state.hyper).weight
        classes, base = even_part(batch, batch["label"])
        parts = {"label": Part(classes, base), "auc": Part(classes, weight * base)}
        return rule.terms(parts, state, batch, program.rule)

    return plain._replace(init=init, prepare=prepare, loss=loss, terms=terms)


AUCSEG = Component(
    "AUCSeg: pixel AUC and a memory of the tail (Han 2024)",
    AUCSegOptions,
    aucseg,
    pixelwise.pixel_needs,
    lambda options: MethodFacts(
        dense=True,
        couples_batch=True,
        columns=("targets",),
        pixel_columns=("targets",),
    ),
)
