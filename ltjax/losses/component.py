"""A loss as a component: what training code may ask of it, whatever it is called."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax.options import Component, NoOptions, options_of


class LossContext(NamedTuple):
    """What a loss may depend on besides outputs, labels and its options.

    Attributes:
        class_counts: [K], of the labels that the method is given.
        phase: int32 scalar, 0 before the late phase (`weights.start`), 1 in it.
        params: of the network.
        model_state: of the network, after the forward pass.
        class_vectors: [D, K] of the head, or None if it has none.
        mask: [B] bool, False = padding; None where every row is real.
        memory: what a loss with a `Memory` keeps between steps.
    """

    class_counts: np.ndarray
    phase: jax.Array
    params: Any
    model_state: Any
    class_vectors: jax.Array | None = None
    mask: jax.Array | None = None
    memory: Any = None


class Memory(NamedTuple):
    """What a loss keeps between steps, as (a part of) the method state.

    Attributes:
        init: (key, params, model_state) -> memory.
        update: (memory, state, batch, aux) -> memory, after the optimizer; `state.step`
            is that of the next batch.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]


class Loss(NamedTuple):
    """A loss that is ready to be trained with.

    Attributes:
        fn: (outputs, labels, options, context) -> [B] in nats. `options` are those of
            its section, swept ones traced.
        affine: for losses of the form CE(scale * z + shift, y): (options, context) ->
            (scale, shift), scalars or [K]; None for the others.
        confidence: options -> factor of the logits at prediction, so that their softmax
            is the probability that the loss trained; None for 1. Never changes the
            predicted class.
        memory: what it keeps between steps, or None.
    """

    fn: Callable[..., jax.Array]
    affine: Callable[..., tuple[Any, Any]] | None = None
    confidence: Callable[[Any], Any] | None = None
    memory: Memory | None = None


class LossFacts(NamedTuple):
    """What is known of a loss before it is made.

    Attributes:
        head: the head that it is meant for.
        heads: others that it may be used with.
        init_bias: what a linear head's bias starts at.
        couples_batch: whether the value of a row depends on the other rows. Then
            accumulation, micro-batches and compaction would make another loss of it.
        compares_rows: whether it is one of pairs of rows, so that every row has to be
            of one class.
        affine: whether `Loss.affine` exists.
        remembers: whether it keeps something between steps.
        multi_label: whether its labels are several of an example, multi-hot [B, K].
    """

    head: str = "linear"
    heads: tuple[str, ...] = ("cosine", "etf")
    init_bias: str = "uniform"
    couples_batch: bool = False
    compares_rows: bool = False
    affine: bool = False
    remembers: bool = False
    multi_label: bool = False


def loss_component(
    about: str,
    fn: Callable[..., jax.Array],
    options: type = NoOptions,
    *,
    counts: bool = False,
    affine: Callable[..., tuple[Any, Any]] | None = None,
    confidence: Callable[[Any], Any] | None = None,
    **facts: Any,
) -> Component:
    """The component of a public loss of (logits, labels[, class_counts]).

    Args:
        about: one line, with the paper.
        fn: whose keyword arguments are the fields of `options`.
        options: dataclass of options.
        counts: whether `fn` takes the class counts.
        affine: see `Loss`.
        confidence: see `Loss`.
        **facts: fields of `LossFacts`.

    Returns:
        A `Component` whose `make` gives a `Loss`.
    """

    def on_logits(outputs: Mapping, labels, options, context: LossContext):
        statistics = (context.class_counts,) if counts else ()
        chosen = {name: getattr(options, name) for name in options_of(type(options))}
        return fn(outputs["logits"], labels, *statistics, **chosen)

    loss = Loss(on_logits, affine, confidence)
    told = LossFacts(affine=affine is not None, **facts)
    return Component(
        about, options, lambda options, setting: loss, facts=lambda options: told
    )
