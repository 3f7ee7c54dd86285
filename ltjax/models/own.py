"""Networks from outside: Flax Linen and NNX modules as their users wrote them.

A module is called as `module(inputs)`, with `train`, `training` or `deterministic` and
with `mask` where its signature has them, and returns features [B, D] (a head is put on
top), logits [B, K], or both by name. Everything else is found by tracing it once.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax._checks import shape_of
from ltjax.models.forward import Model
from ltjax.models.headed import by_name, with_head, with_own_head
from ltjax.models.linen_adapter import Functions, linen_functions
from ltjax.options import ConfigError

RETURNS = ("auto", "features", "logits")
_EXPECTED = (
    "a Flax Linen module, a Flax NNX module, a function of rngs that makes one, or an"
    " ltjax.models.Model"
)


def is_nnx(network: Any) -> bool:
    """Whether it is a Flax NNX module: whoever has made one has imported NNX."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(network, nnx.Module)


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
    """A network from outside that has not seen the shape of its inputs yet.

    Attributes:
        make: number of classes -> the network.
        label: what messages call it.
        for_classes: whether it was told the number of classes, so that a bare array
            are logits; None if nobody knows.
        returns: what a bare array is: "features", "logits", or "auto" to find out.
        rows_independent: whether its user says that train mode couples no two examples.
    """

    make: Callable[[int], Any]
    label: str
    for_classes: bool | None = None
    returns: str = "auto"
    rows_independent: bool = False

    def model(
        self,
        sample: Any,
        num_classes: int,
        head: nn.Module,
        *,
        usual_head: bool = True,
        freeze_backbone: bool = False,
        describe: str = "",
    ) -> Model:
        """The network as the library knows one.

        Args:
            sample: inputs [1, ...] or their shape and dtype.
            num_classes: K.
            head: for a network of features.
            usual_head: whether nobody asked for this head; a network that gives logits
                is refused for any other.
            freeze_backbone: see `ltjax.models.Classifier`.
            describe: one line for logs.

        Returns:
            `Model`. Its parameters lie under "backbone" and "head": those of the last
            dense layer of a Linen module, if the logits come straight from it.

        Raises:
            ConfigError: naming what the module takes or returns, and what was expected.

        Example:
            >>> from ltjax.models import LinearHead
            >>> net = OwnNetwork(lambda num_classes: nn.Dense(5), "net")
            >>> model = net.model(jnp.zeros((1, 8)), 3, LinearHead(3))
            >>> model.num_features
            5
        """
        made = self.make(num_classes)
        functions = None if isinstance(made, Model) else self._functions(made)
        sample = jax.ShapeDtypeStruct(shape_of(sample), jnp.result_type(sample))
        traced = None if functions is None else _trace(functions, sample, self.label)
        kind = "logits" if traced is None else self._kind(traced.outputs, num_classes)
        if kind == "logits" and not usual_head:
            raise self._fault(
                "gives logits itself, but another head is asked for (by config.head, or"
                " by the method or loss); expected a network that returns features"
            )
        if functions is None or traced is None:
            return made
        if self.rows_independent and functions.couples(traced.model_state):
            raise self._fault(
                "has batch statistics, but model.rows_independent says that no example"
                " depends on another"
            )
        options = {"independent": self.rows_independent, "frozen": freeze_backbone}
        named = by_name(traced.outputs, kind)
        if kind == "features":
            width = named["features"].shape[-1]
            model = with_head(functions, head, width, **options)
        else:
            width = named["features"].shape[-1] if "features" in named else traced.width
            model = with_own_head(functions, traced.head, width, **options)
        told = f"{describe or self.label}, {width} features"
        return model._replace(describe=told)

    def _functions(self, made: Any) -> Functions:
        if isinstance(made, nn.Module):
            return linen_functions(made, self.label)
        if is_nnx(made):
            from ltjax.models.nnx_adapter import nnx_functions

            return Functions(*nnx_functions(made))
        if callable(made) and not isinstance(made, type):
            if "rngs" in inspect.signature(made).parameters:
                from flax import nnx

                from ltjax.models.nnx_adapter import nnx_functions

                found = nnx.eval_shape(lambda: made(rngs=nnx.Rngs(0)))
                if isinstance(found, nnx.Module):
                    return Functions(*nnx_functions(found, lambda r: made(rngs=r)))
        said = repr(made) if isinstance(made, type) else f"a {type(made).__name__}"
        raise self._fault(f"is {said}, expected {_EXPECTED}")

    def _kind(self, outputs: Any, num_classes: int) -> str:
        """Whether a module returns features or logits; refuses everything else."""
        pair = isinstance(outputs, tuple) and len(outputs) == 2
        if pair or isinstance(outputs, Mapping):
            named = by_name(outputs, "")
            for kind, classes in (("logits", num_classes), ("features", None)):
                if kind in named:
                    self._check(named[kind], classes)
                    return kind
            names = ", ".join(map(str, named)) or "nothing"
            raise self._fault(f"returns {names}, expected 'logits' or 'features'")
        if isinstance(outputs, tuple) or not hasattr(outputs, "shape"):
            raise self._fault(
                f"returns {type(outputs).__name__}, expected features [B, D], logits"
                " [B, K], or a dict of these names"
            )
        kind = self.returns
        fits = outputs.ndim == 2 and outputs.shape[-1] == num_classes
        if kind == "auto":
            logits = fits if self.for_classes is None else self.for_classes
            kind = "logits" if logits else "features"
            if fits and not logits:
                raise self._fault(
                    f"returns [B, {num_classes}] for data of {num_classes} classes, but"
                    " does not take num_classes; expected model.returns = 'logits' or"
                    " 'features'"
                )
        self._check(outputs, num_classes if kind == "logits" else None)
        return kind

    def _check(self, array: Any, num_classes: int | None) -> None:
        what = "features" if num_classes is None else "logits"
        shape = ", ".join(["B", *map(str, array.shape[1:])])
        if array.ndim != 2:
            hint = "; average over positions first" if array.ndim > 2 else ""
            raise self._fault(f"returns {what} [{shape}], expected [B, D]{hint}")
        if num_classes is not None and array.shape[-1] != num_classes:
            raise self._fault(
                f"returns logits [{shape}], but the data have {num_classes} classes;"
                " expected a network that takes num_classes, or model.returns ="
                " 'features'"
            )

    def _fault(self, text: str) -> ConfigError:
        return ConfigError([f"config.model.name: {self.label} {text}"])


class _Traced(NamedTuple):
    """Shapes, and the dense layer whose output the logits are, with its width."""

    model_state: Any
    outputs: Any
    head: tuple[str, ...] | None
    width: int


def _trace(functions: Functions, sample: Any, label: str) -> _Traced:
    head: tuple[str, ...] | None = None
    width = 0

    def go(key, inputs):
        nonlocal head, width
        params, model_state = functions.init(key, inputs)
        seen: list[tuple] = []
        outputs, _ = functions.call(
            params, model_state, inputs, train=False, watch=lambda *x: seen.append(x)
        )
        logits = by_name(outputs, "logits").get("logits")
        for path, taken, given in seen:
            if given is logits and taken.ndim == 2:
                head, width = path, taken.shape[-1]
        return model_state, outputs

    try:
        model_state, outputs = jax.eval_shape(go, jax.random.key(0), sample)
    except ConfigError:
        raise
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        raise ConfigError(
            [
                f"config.model.name: {label} cannot be called with inputs of shape"
                f" {tuple(sample.shape)}: {type(error).__name__}: {text}"
            ]
        ) from error
    return _Traced(model_state, outputs, head, width)
