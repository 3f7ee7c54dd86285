r"""What the learners from two views of an image share, the temperature among it.

The temperature of a contrastive loss may oscillate over the epochs t (TS),

.. math:: \tau(t) = (\tau_+ - \tau_-)\, \tfrac12 (1 + \cos(2 \pi t / T)) + \tau_-

A high one tells groups apart, which suits the head, a low one instances, which suits
the tail. The gradient goes as 1 / temperature.

References:
    Kukleva, Boehle, Schiele, Kuehne, Rupprecht, "Temperature Schedules for
    Self-Supervised Contrastive Methods on Long-Tail Data", ICLR 2023: 0.1 to 1 with a
    period of 400 of 2000 epochs. The released code counts half periods, and its epochs
    from 1 on; see `ltjax.schedules.temperature_schedule`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax._numerics import l2_normalize
from ltjax.methods.method import Method, MethodFacts, Setting, evaluated, even_part
from ltjax.options import ConfigError, live, option
from ltjax.schedules import temperature_schedule

VIEWS = ("view1", "view2")
CONSTANT = "constant"


def temperature_option(default: float, more: str = "") -> Any:
    """The temperature of a learner whose published value is not the usual one."""
    about = "of the similarities; with a schedule its lowest value" + more
    return option(default, about, above=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class TemperatureOptions:
    """Of a temperature that may oscillate."""

    temperature: float = temperature_option(0.2, ", published 0.1")
    temperature_shape: str = option(
        CONSTANT,
        "of its schedule over the epochs",
        choices=(CONSTANT, "cosine", "step"),
    )
    temperature_high: float = option(
        1.0, "highest value of the schedule", above=0, sweep=True
    )
    temperature_period: str = option(
        "400 epochs", "from one highest value to the next", duration=True
    )


@dataclasses.dataclass(frozen=True)
class BatchContrastOptions(TemperatureOptions):
    """Of learners that compare the views of a batch with each other."""

    block: int = option(
        0, "views whose similarities are in memory at a time; 0 = all", low=0
    )


@dataclasses.dataclass(frozen=True)
class ContrastOptions(BatchContrastOptions):
    """Of learners whose loss is NT-Xent, which has a focal form."""

    focal_gamma: float = option(
        0.0, "focusing exponent of the focal form; 0 = NT-Xent", low=0
    )


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Of learners that take both views through one network."""

    joint: bool = option(
        True, "whether both views go through together and share batch statistics"
    )


def temperature_of(
    options: TemperatureOptions, setting: Setting
) -> Callable[[Any], jax.Array]:
    """A function state -> temperature at its step.

    Raises:
        ConfigError: if the period of a schedule has no step.
    """
    shape, epoch = options.temperature_shape, setting.steps_per_epoch
    period = setting.steps(options.temperature_period)
    if shape != CONSTANT and not period:
        raise ConfigError(
            [
                "config.method.temperature_period is"
                f" {options.temperature_period!r} = 0 steps, expected at least one"
            ]
        )

    def temperature(state):
        now = live("method", options, state.hyper)
        if shape == CONSTANT:
            return jnp.asarray(now.temperature, jnp.float32)
        return temperature_schedule(
            state.step,
            steps_per_epoch=epoch,
            period=period / epoch,
            low=now.temperature,
            high=now.temperature_high,
            shape=shape,
        )

    return temperature


def view_outputs(
    setting: Setting,
    params: Any,
    model_state: Any,
    batch: Any,
    *,
    key: Any,
    joint: bool,
) -> tuple[dict, dict, Any]:
    """Outputs of both views in training mode, and the model state after them.

    Args:
        setting: whose network "main" is meant.
        params: of the network.
        model_state: before the pass.
        batch: with both views and "mask".
        key: for dropout.
        joint: whether both go through together; otherwise the second one follows the
            first, each with batch statistics of its own.

    Returns:
        (outputs of "view1", of "view2", model state).
    """
    network, mask = setting.networks["main"], batch["mask"]

    def forward(model_state, inputs, mask, key):
        return network.forward(
            params,
            model_state,
            inputs,
            train=True,
            rngs={"dropout": key},
            mask=mask if setting.padded else None,
        )

    views = [batch[name] for name in VIEWS]
    if joint:
        # Side by side, so that the rows of a sharded batch stay where they are.
        both = jnp.stack(views, axis=1)
        outputs, model_state = forward(
            model_state,
            both.reshape(-1, *both.shape[2:]),
            jnp.stack([mask, mask], axis=1).ravel(),
            key,
        )
        pairs = {name: x.reshape(-1, 2, *x.shape[1:]) for name, x in outputs.items()}
        first, second = ({name: x[:, k] for name, x in pairs.items()} for k in (0, 1))
        return first, second, model_state
    keys = jax.random.split(key)
    first, model_state = forward(model_state, views[0], mask, keys[0])
    second, model_state = forward(model_state, views[1], mask, keys[1])
    return first, second, model_state


def pair_losses(
    values: jax.Array,
    first: dict,
    second: dict,
    model_state: Any,
    where: jax.Array,
    **metrics: Any,
) -> tuple[dict, dict]:
    """(losses, aux) of a learner, with the rows that its extensions read.

    Args:
        values: [B], the loss of each image.
        first: outputs of the first views.
        second: of the second ones.
        model_state: after the pass.
        where: [B] bool, the real rows.
        **metrics: scalars to report beside the "alignment" of the views.

    Returns:
        What `Method.loss` returns. aux["rows"] holds "loss" [B] and "views", both
        projections.
    """
    views = first["projection"], second["projection"]
    one, two = (l2_normalize(view) for view in views)
    apart = jnp.sum(jnp.square(one - two), axis=1)
    aligned = (jnp.sum(jnp.where(where, apart, 0.0)), jnp.sum(where))
    aux = {
        "model_state": model_state,
        "outputs": first,
        "rows": {"loss": values, "views": views},
        "metrics": {
            "alignment": aligned,
            **{name: (value, 1.0) for name, value in metrics.items()},
        },
    }
    return {"views": values}, aux


def nt_xent(
    options: ContrastOptions,
    first: dict,
    second: dict,
    *,
    temperature: jax.Array,
    where: jax.Array,
) -> jax.Array:
    """NT-Xent of the projections in both views' outputs, or its focal form, [B]."""
    views = first["projection"], second["projection"]
    block = options.block or None
    common = {"temperature": temperature, "where": where, "block": block}
    if options.focal_gamma:
        return losses.focal_nt_xent(*views, gamma=options.focal_gamma, **common)
    return losses.nt_xent(*views, **common)


def told(options: TemperatureOptions, temperature: jax.Array) -> dict[str, jax.Array]:
    """The temperature as a metric, if it changes."""
    changes = options.temperature_shape != CONSTANT
    return {"temperature": temperature} if changes else {}


def pair_method(
    setting: Setting, loss: Callable[..., Any], *, labelled: bool = False, **more: Any
) -> Method:
    """A method of one part, "views", whose rows weigh the same, judged by "knn".

    Args:
        setting: network and rule.
        loss: see `Method`.
        labelled: whether the rule may tell the classes of the rows apart.
        **more: further fields of `Method`.

    Returns:
        A `Method`.
    """
    rule = setting.rule

    def terms(state, batch, aux, *, program):
        parts = {"views": even_part(batch, batch["label"] if labelled else None)}
        return rule.terms(parts, state, batch, program.rule)

    def predict(state, inputs):
        return evaluated(setting, state, inputs)

    fields = {"predict": predict, "evaluators": ("knn",), **more}
    return Method(loss=loss, terms=terms, **fields)


def pair_facts(
    *, head: str = "projection", labelled: bool = False, **more: Any
) -> MethodFacts:
    """Facts of a method that reads two views, and labels if it is told so."""
    return MethodFacts(
        head=head,
        reads_labels=labelled,
        reads_loss=False,
        reads_weights=False,
        views=VIEWS,
        **more,
    )


def contrast_needs(options: Any, config: Any) -> list[str]:
    """Faults of a config whose images have no others to be contrasted with."""
    if config.batch_size > 1:
        return []
    return [
        f"config.batch_size is {config.batch_size}, expected at least 2: method"
        f" {config.method.name!r} contrasts the images of a batch with each other"
    ]


def output_width(
    network: Any, params: Any, model_state: Any, *, output: str = "projection"
) -> int:
    """Width of what the head makes of features; nothing is computed."""
    features = jnp.zeros((1, network.num_features))
    project = functools.partial(network.classify, train=False)
    outputs, _ = jax.eval_shape(project, params, model_state, features)
    return outputs[output].shape[-1]
