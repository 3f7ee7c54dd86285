"""The one thing the rest of the library knows of a network: `init` and `forward`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_where, shape_of
from ltjax._numerics import at_least_float32, mask_rows


class Model(NamedTuple):
    """A network as two pure functions and what a method must know about it.

    Attributes:
        init: (key, sample_inputs) -> (params, model_state). Only the shape and dtype of
            `sample_inputs` matter (a `jax.ShapeDtypeStruct` will do); nothing is
            computed but the initial values.
        forward: (params, model_state, inputs, *, train, rngs=None, mask=None, tap=None)
            -> (outputs, new model_state). `outputs` holds "features" [B, D] and what
            the head makes of them ("logits" [B, K], "projection" [B, P]) in at least
            float32; `rngs` is a dict of keys by name ("dropout"); `mask` [B] bool marks
            real rows, the others do not count in batch statistics and may hold
            anything; `tap`, of Linen networks only, is (name, output) -> output and
            replaces what each normalization layer and each `Activation` gives. `inputs`
            may be a dict of arrays [B, ...] if the network takes one.
        rows_independent: True if in train mode no example's outputs depend on another
            example of the batch (no batch normalization), which is what running only
            some rows of a batch needs.
        num_features: D, the width of `outputs["features"]`.
        describe: one line for logs.
        embed: (params, model_state, inputs) -> [B, D], what the backbone hands to the
            head in evaluation mode; None if the network has no such seam.
        classify: `forward` from there on: takes those features in place of inputs.
        class_vectors: (params, model_state) -> [D, K], one column per class, which the
            head compares `outputs["features"]` with; None if there are none.
        class_centers: (params, model_state) -> [P, K], one column per class among the
            projections, as training sees them; None if the head makes none.
        adopt: (params, fresh) -> params, called once another run's parameters have been
            loaded into all modules but those named in `fresh`: sets what starts from
            them.
        modalities: names of the inputs in a dict; the encoder of each lies under
            "backbone/<name>". () for networks of one array.
        merge: params -> the parameters of a plain network of the same function, where
            some of them are kept apart for training.
    """

    init: Callable[..., tuple[Any, Any]]
    forward: Callable[..., tuple[dict[str, jax.Array], Any]]
    rows_independent: bool
    num_features: int
    describe: str
    embed: Callable[..., jax.Array] | None = None
    classify: Callable[..., tuple[dict[str, jax.Array], Any]] | None = None
    class_vectors: Callable[[Any, Any], jax.Array] | None = None
    class_centers: Callable[[Any, Any], jax.Array] | None = None
    adopt: Callable[[Any, frozenset[str]], Any] = lambda params, fresh: params
    modalities: tuple[str, ...] = ()
    merge: Callable[[Any], Any] = lambda params: params


class Activation(nn.Module):
    """A place in a network that a tap of `Model.forward` can read, by its name."""

    @nn.compact
    def __call__(self, x):
        """The input."""
        return x


class Classifier(nn.Module):
    """A backbone and a head; their parameters lie under these two names.

    Attributes:
        backbone: module `(inputs, *, train, mask) -> features [B, D]` with attributes
            `num_features` and `rows_independent`.
        head: module `(features, *, train, mask) -> (features, logits)`, the first being
            the features as the classifier sees them (normalized by some heads), or ->
            a dict of other outputs; with an attribute `rows_independent`.
        freeze_backbone: keeps the backbone in evaluation mode in train mode too, so
            that its running averages stay as they are while the head trains.
    """

    backbone: nn.Module
    head: nn.Module
    freeze_backbone: bool = False

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.backbone.num_features

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs in a dict; () for one array."""
        return getattr(self.backbone, "modalities", ())

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        body = self.freeze_backbone or self.backbone.rows_independent
        return body and self.head.rows_independent

    def class_vectors(self, params, model_state) -> jax.Array | None:
        """The head's columns [D, K], learned or fixed; None for a head without them."""
        if not hasattr(self.head, "class_vectors"):
            return None
        frames = model_state.get("frames", {})
        return self.head.class_vectors(params.get("head", {}), frames.get("head", {}))

    def class_centers(self, params, model_state) -> jax.Array | None:
        """The classes [P, K] among the projections; None for a head without them."""
        if not hasattr(self.head, "class_centers"):
            return None
        return self.head.class_centers(params["head"])

    def embed(self, inputs, *, train: bool, mask=None) -> jax.Array:
        """Inputs [B, ...] to features [B, D] in float32, before the head."""
        train = train and not self.freeze_backbone
        return at_least_float32(self.backbone(inputs, train=train, mask=mask))

    def classify(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """What the head makes of features [B, D], and the features as it sees them."""
        made = self.head(features, train=train, mask=mask)
        if isinstance(made, Mapping):
            return {"features": features, **made}
        features, logits = made
        return {"logits": logits, "features": features}

    def __call__(self, inputs, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """The outputs of a batch; the head always computes in float32."""
        features = self.embed(inputs, train=train, mask=mask)
        return self.classify(features, train=train, mask=mask)


def from_linen(
    module: nn.Module,
    *,
    rows_independent: bool | None = None,
    num_features: int | None = None,
    describe: str = "",
) -> Model:
    """Makes a Flax Linen module into a `Model`.

    Args:
        module: called as `module(inputs, train=..., mask=...)`, returns a dict of
            arrays [B, ...], such as "logits" and "features". Every collection besides
            "params" becomes part of `model_state` and may change in train mode. Its
            methods `embed`, `classify`, `class_vectors` and `class_centers`, if it has
            them, become those of the model (see `Classifier`).
        rows_independent: see `Model`; by default the module's attribute of that name.
        num_features: D; by default the module's attribute of that name.
        describe: one line for logs; by default the module's class.

    Returns:
        A `Model`.

    Raises:
        TypeError: if `rows_independent` or `num_features` is neither given nor an
            attribute of the module.

    Example:
        >>> from ltjax.models import LinearHead, MLP
        >>> model = from_linen(Classifier(MLP(hidden=(8,)), LinearHead(num_classes=3)))
        >>> params, model_state = model.init(jax.random.key(0), jnp.zeros((1, 5)))
        >>> outputs, _ = model.forward(
        ...     params, model_state, jnp.ones((2, 5)), train=False
        ... )
        >>> outputs["logits"].shape, outputs["features"].shape
        ((2, 3), (2, 8))
    """
    independent = _declared(module, "rows_independent", rows_independent)
    width = _declared(module, "num_features", num_features)

    def init(key: jax.Array, sample_inputs: ArrayLike):
        sample = _each_array(
            lambda x: jax.ShapeDtypeStruct(shape_of(x), jnp.result_type(x)),
            sample_inputs,
        )
        variables = dict(
            module.lazy_init({"params": key}, sample, train=False, mask=None)
        )
        params = variables.pop("params", {})
        return params, variables

    def calling(method: str | None):
        def forward(
            params: Any,
            model_state: Mapping[str, Any],
            inputs: ArrayLike,
            *,
            train: bool,
            rngs: Mapping[str, jax.Array] | None = None,
            mask: ArrayLike | None = None,
            tap: Callable[[str, jax.Array], jax.Array] | None = None,
        ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
            if tap is not None:
                with nn.intercept_methods(tapping(tap)):
                    return forward(
                        params, model_state, inputs, train=train, rngs=rngs, mask=mask
                    )
            inputs = real_rows("forward", inputs, mask)
            mask = None if mask is None else jnp.asarray(mask)
            variables = {"params": params, **model_state}
            options = {"train": train, "mask": mask, "method": method}
            if not train:
                outputs = module.apply(variables, inputs, **options)
                return tidy_outputs(outputs), dict(model_state)
            outputs, changed = module.apply(
                variables,
                inputs,
                rngs=dict(rngs) if rngs else None,
                mutable=list(model_state),
                **options,
            )
            return tidy_outputs(outputs), {**model_state, **changed}

        return forward

    def embed(params: Any, model_state: Mapping[str, Any], inputs: ArrayLike) -> Any:
        variables = {"params": params, **model_state}
        return module.apply(variables, inputs, train=False, method="embed")

    parted = hasattr(module, "embed") and hasattr(module, "classify")
    return Model(
        init,
        calling(None),
        independent,
        width,
        describe or type(module).__name__,
        embed=embed if parted else None,
        classify=calling("classify") if parted else None,
        class_vectors=getattr(module, "class_vectors", None),
        class_centers=getattr(module, "class_centers", None),
        modalities=getattr(module, "modalities", ()),
    )


_TAPPED = (nn.BatchNorm, nn.GroupNorm, nn.LayerNorm, Activation)


def tapping(tap: Callable[[str, jax.Array], jax.Array]) -> Callable[..., Any]:
    """A Flax interceptor that hands what layers give to `tap`.

    Args:
        tap: (name, output) -> output of normalization layers and of every
            `Activation`, see `Model`.

    Returns:
        What `flax.linen.intercept_methods` takes.
    """

    def intercept(call, args, options, context):
        output = call(*args, **options)
        layer, method = context.module, context.method_name
        if method != "__call__" or not isinstance(layer, _TAPPED):
            return output
        return tap("/".join(layer.path), output)

    return intercept


def _declared(module: nn.Module, name: str, given) -> Any:
    value = getattr(module, name, None) if given is None else given
    if value is None:
        raise TypeError(
            f"from_linen: {type(module).__name__} has no attribute {name},"
            f" expected the argument {name}="
        )
    return value


def _each_array(function: Callable[[Any], Any], inputs: Any) -> Any:
    """`function` of the inputs, or of those of each modality."""
    if isinstance(inputs, Mapping):
        return {name: function(x) for name, x in inputs.items()}
    return function(inputs)


def real_rows(caller: str, inputs: Any, mask: ArrayLike | None) -> Any:
    """`inputs` with zeros in padding rows, so that their content can do no harm.

    A NaN there would otherwise reach the gradients, as 0 * NaN.

    Args:
        caller: name for error messages.
        inputs: [B, ...], or a dict of such arrays by modality.
        mask: [B] bool or None, True = real.

    Returns:
        [B, ...] of the dtype of `inputs`, or a dict of them.

    Raises:
        ValueError: if `mask` does not have the shape [B].
        TypeError: if `mask` is not bool.
    """

    def masked(inputs):
        inputs = jnp.asarray(inputs)
        if mask is None:
            return inputs
        check_where(f"{caller} (mask)", mask, inputs.shape[:1])
        return mask_rows(jnp.asarray(mask), inputs)

    return _each_array(masked, inputs)


def tidy_outputs(outputs: Any) -> dict[str, jax.Array]:
    """The outputs with every floating array in at least float32.

    Args:
        outputs: arrays by name.

    Returns:
        A dict with the same names.

    Raises:
        TypeError: if `outputs` is not a mapping.
    """
    if not isinstance(outputs, Mapping):
        raise TypeError(
            f"forward: the module returned {type(outputs).__name__}, expected a dict"
            " of arrays such as 'logits' [B, K] and 'features' [B, D]"
        )
    return {
        name: at_least_float32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for name, x in outputs.items()
    }


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays or shapes.

    Args:
        params: tree of arrays, or of `jax.ShapeDtypeStruct` from `jax.eval_shape`.

    Returns:
        The number as a Python int.

    Example:
        >>> count_parameters({"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)})
        16
    """
    return sum(x.size for x in jax.tree.leaves(params))
