"""What methods with an unlabelled stream share: passes over its views, and measures.

The stream lies in the batch under `STREAM`, its leaves are [B, m, ...]: m unlabelled
rows beside every labelled one. Losses over them are means over m, so that they are [B]
like every other part of an objective.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses import consistency
from ltjax.methods.method import Setting
from ltjax.methods.prior_distance import prior_distance
from ltjax.options import ConfigError

STREAM = "unlabelled"


def flat(x: jax.Array) -> jax.Array:
    """[B, m, ...] -> [B m, ...]."""
    return x.reshape(-1, *x.shape[2:])


def views_of(stream: Any, kind: str) -> list[str]:
    """Names of the views of a kind, such as "strong", "strong2".

    Example:
        >>> views_of({"weak": 0, "strong2": 0, "strong": 0, "mask": 0}, "strong")
        ['strong', 'strong2']
    """
    return sorted(n for n in stream if n.rstrip("0123456789") == kind)


def passed(
    setting: Setting,
    params: Any,
    state: Any,
    batch: Any,
    views: Sequence[str],
    *,
    key: Any,
    labelled: Sequence[str] = ("inputs",),
) -> tuple[list[dict], list[dict], Any]:
    """One pass of the labelled rows and the views of the stream, in training mode.

    Args:
        setting: with the network "main".
        params: of the network.
        state: with the `model_state` to start from.
        batch: with a stream.
        views: of the stream.
        key: of dropout.
        labelled: views of the labelled rows.

    Returns:
        Outputs [B, ...] of each labelled view, outputs [B, m, ...] of each view of the
        stream, the network's new model state.
    """
    stream = batch[STREAM]
    rows, ratio = stream["mask"].shape
    inputs = [*(batch[n] for n in labelled), *(flat(stream[n]) for n in views)]
    real = [batch["mask"]] * len(labelled) + [flat(stream["mask"])] * len(views)
    outputs, model_state = setting.networks["main"].forward(
        params,
        state.model_state,
        jnp.concatenate(inputs),
        train=True,
        rngs={"dropout": key},
        mask=jnp.concatenate(real) if setting.padded else None,
    )
    split = len(labelled) * rows

    def take(part, first, shape):
        size = int(np.prod(shape))
        return {
            name: x[first : first + size].reshape(*shape, *x.shape[1:])
            for name, x in part.items()
        }

    own = [take(outputs, k * rows, (rows,)) for k in range(len(labelled))]
    wide = (rows, ratio)
    others = [take(outputs, split + k * rows * ratio, wide) for k in range(len(views))]
    return own, others, model_state


def guessed(
    setting: Setting, state: Any, stream: Any, views: Sequence[str], *, key: Any
) -> list[dict]:
    """Outputs [B, m, ...] of each view of a stream, in training mode.

    The pass does not move the batch statistics and has no gradient.
    """
    shape = stream["mask"].shape
    real = [flat(stream["mask"])] * len(views)
    outputs, _ = setting.networks["main"].forward(
        state.params,
        state.model_state,
        jnp.concatenate([flat(stream[name]) for name in views]),
        train=True,
        rngs={"dropout": key},
        mask=jnp.concatenate(real) if setting.padded else None,
    )
    wide = {
        name: x.reshape(len(views), *shape, *x.shape[1:]) for name, x in outputs.items()
    }
    return [{name: x[k] for name, x in wide.items()} for k in range(len(views))]


def guesses(
    setting: Setting, state: Any, stream: Any, *, key: Any
) -> tuple[jax.Array, jax.Array]:
    """Probabilities [B, m, K] and features of the weak views, see `guessed`."""
    (outputs,) = guessed(setting, state, stream, ("weak",), key=key)
    return jax.nn.softmax(outputs["logits"]), outputs["features"]


def agreement(
    logits: Sequence[jax.Array],
    target: jax.Array,
    weights: jax.Array | None = None,
    *,
    distance: str = "cross_entropy",
) -> jax.Array:
    """[B]: the distance of views from targets, its mean over views and m.

    Args:
        logits: [B, m, K] of each view.
        target: [B, m] classes or [B, m, K] distributions.
        weights: optional [B, m].
        distance: see `ltjax.losses.consistency`.

    Returns:
        float32 [B].
    """
    weights = None if weights is None else weights.ravel()
    found = [
        consistency(flat(z), flat(target), distance=distance, weights=weights)
        for z in logits
    ]
    each = jnp.mean(jnp.stack(found), axis=0)
    return jnp.mean(each.reshape(logits[0].shape[:2]), axis=1)


def decide(probabilities, threshold, mask) -> tuple[jax.Array, jax.Array]:
    """(guessed classes int32, whether they count), of [..., K] probabilities."""
    target = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)
    return target, (jnp.max(probabilities, axis=-1) >= threshold) & mask


def pseudo_label_metrics(setting: Setting, target, confident, stream) -> dict:
    """How many guesses count, and with true labels, how many of these are right.

    Args:
        setting: with the class groups.
        target: int [B, m], guessed classes.
        confident: bool [B, m], which of them count.
        stream: with "mask", and "truth" where it is known.

    Returns:
        "mask_rate", "pseudo_accuracy", and for each class group that is not empty
        "pseudo_precision_<group>" (of the guesses that count) and
        "pseudo_recall_<group>" (of the rows).
    """
    real = stream["mask"]
    metrics = {"mask_rate": (jnp.sum(confident), jnp.sum(real))}
    if "truth" in stream:
        truth = stream["truth"]
        right = confident & (target == truth)
        metrics["pseudo_accuracy"] = (jnp.sum(right), jnp.sum(confident))
        for name, members in setting.groups.items():
            if not members.any():
                continue
            guessed, true = jnp.asarray(members)[target], jnp.asarray(members)[truth]
            metrics[f"pseudo_precision_{name}"] = (
                jnp.sum(right & guessed),
                jnp.sum(confident & guessed),
            )
            metrics[f"pseudo_recall_{name}"] = (
                jnp.sum(right & true),
                jnp.sum(real & true),
            )
    return metrics


def prior_metrics(setting: Setting, estimate: Any) -> dict[str, tuple]:
    """`prior_distance` of an estimate [K] from the classes of the whole stream."""
    return prior_distance(
        estimate, setting.companions[STREAM].source.columns.get("truth")
    )


def given_counts(counts: Sequence[float], setting: Setting) -> np.ndarray:
    """[K] float64, the counts of an option, or the labelled ones if it has none."""
    if counts and len(counts) != setting.num_classes:
        raise ConfigError(
            [
                f"config.pseudo_labels.counts is {tuple(counts)}, expected"
                f" {setting.num_classes} numbers, one for each class"
            ]
        )
    return np.asarray(counts or setting.class_counts.tolist(), np.float64)


def treatment_metrics(setting: Setting, state: Any) -> dict[str, tuple]:
    """`prior_metrics` of the treatment's estimate, if it has one."""
    estimate = setting.treatment.estimate
    if estimate is None:
        return {}
    return prior_metrics(setting, estimate(state.method_state))


def stream_needs(config, views: Sequence[str] = ("weak", "strong")) -> list[str]:
    """Faults of a config whose method reads views of the unlabelled stream."""
    made = config.augment_unlabelled.facts.views
    return [
        f"method {config.method.name!r} needs the view {view!r} of the unlabelled"
        f" stream, but config.augment_unlabelled.name"
        f" {config.augment_unlabelled.name!r} makes {', '.join(made)}"
        for view in views
        if view not in made
    ]


def linear_needs(config) -> list[str]:
    """Faults of a config whose method brings linear heads of its own."""
    if config.loss.facts.head == "linear":
        return []
    return [
        f"config.loss.name is {config.loss.name!r}, which needs the head"
        f" {config.loss.facts.head!r}, but method {config.method.name!r} has linear"
        " heads; expected another loss"
    ]
