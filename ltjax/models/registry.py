"""Networks by name, for configs; in code, the modules can be built directly."""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ltjax.models._lookup import build_module, lookup_name
from ltjax.models.densenet import DenseNet
from ltjax.models.forward import Classifier, Model, from_linen
from ltjax.models.heads import make_head
from ltjax.models.mlp import MLP
from ltjax.models.norms import check_norm
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.models.small_conv import Conv1D, Conv2D
from ltjax.models.vit import ViT


def _named(module_class, **preset):
    """A builder of `module_class` whose `preset` attributes belong to the name."""

    def build(**options):
        clash = sorted(preset.keys() & options.keys())
        if clash:
            raise ValueError(
                f"build_model: option {clash[0]!r} is fixed by the name to"
                f" {preset[clash[0]]!r}, expected another name or the module"
                f" {module_class.__name__} itself"
            )
        return build_module("build_model", module_class, **preset, **options)

    return build


_basic = functools.partial(_named, ResNet, block="basic")
_bottleneck = functools.partial(_named, ResNet, block="bottleneck")

MODELS = {
    "mlp": (_named(MLP), "dense layers for feature vectors"),
    "conv1d": (_named(Conv1D), "three convolutions for 1-D signals (MNIST-1D)"),
    "conv2d": (_named(Conv2D), "three convolutions for small images (MNIST)"),
    "resnet_cifar": (_named(ResNetCifar), "CIFAR ResNet of any depth=6n+2, width=16"),
    "resnet20": (_named(ResNetCifar, depth=20), "CIFAR ResNet-20, 0.27 M parameters"),
    "resnet32": (_named(ResNetCifar, depth=32), "CIFAR ResNet-32, 0.46 M parameters"),
    "resnet44": (_named(ResNetCifar, depth=44), "CIFAR ResNet-44, 0.66 M parameters"),
    "resnet56": (_named(ResNetCifar, depth=56), "CIFAR ResNet-56, 0.85 M parameters"),
    "resnet110": (_named(ResNetCifar, depth=110), "CIFAR ResNet-110, 1.7 M parameters"),
    "densenet_bc": (_named(DenseNet), "DenseNet-BC for CIFAR: depth=100, growth=12"),
    "resnet10": (_basic(blocks=(1, 1, 1, 1)), "ResNet-10, 4.9 M parameters"),
    "resnet18": (_basic(blocks=(2, 2, 2, 2)), "ResNet-18, 11.2 M parameters"),
    "resnet34": (_basic(blocks=(3, 4, 6, 3)), "ResNet-34, 21.3 M parameters"),
    "resnet50": (_bottleneck(blocks=(3, 4, 6, 3)), "ResNet-50, 23.5 M parameters"),
    "resnet101": (_bottleneck(blocks=(3, 4, 23, 3)), "ResNet-101, 42.5 M parameters"),
    "resnet152": (_bottleneck(blocks=(3, 8, 36, 3)), "ResNet-152, 58.1 M parameters"),
    "resnext50": (
        _bottleneck(blocks=(3, 4, 6, 3), groups=32, group_width=4),
        "ResNeXt-50 32x4d, 23.0 M parameters",
    ),
    "vit": (_named(ViT), "Vision Transformer of any patch=4, width=192, depth=12"),
    "vit_s16": (
        _named(ViT, patch=16, width=384, depth=12, num_heads=6),
        "ViT-S/16, 21.7 M parameters",
    ),
    "vit_b16": (
        _named(ViT, patch=16, width=768, depth=12, num_heads=12),
        "ViT-B/16, 85.8 M parameters",
    ),
}


def build_model(
    name: str,
    *,
    num_classes: int,
    head: str = "linear",
    dtype: str = "float32",
    norm: str | None = None,
    head_options: Mapping[str, Any] | None = None,
    freeze_backbone: bool = False,
    models: Mapping[str, tuple] = MODELS,
    **options,
) -> Model:
    """Builds a network and its head by name.

    Args:
        name: a key of `models`.
        num_classes: K.
        head: a key of `ltjax.models.heads.HEADS`: "linear", "cosine" (needed by LDAM)
            or "etf" (needs `head_options={"frame": ...}`).
        dtype: of the backbone's computation, "float32" or "bfloat16". Parameters, batch
            statistics, head and outputs stay float32.
        norm: "batch", "group", "layer", "frozen" or "none"; None keeps the network's
            own choice.
        head_options: attributes of the head, such as {"init_bias": "sigmoid"}.
        freeze_backbone: see `Classifier`.
        models: table name -> (builder, description), for a project with own networks.
        **options: attributes of the backbone, such as `width` or `hidden`.

    Returns:
        A `Model`; its parameters lie under "backbone" and "head".

    Raises:
        ValueError: for an unknown name, head, option, norm or dtype, naming the
            nearest valid one.

    Example:
        >>> build_model("resnet32", num_classes=100, head="cosine").num_features
        64
    """
    builder, _ = lookup_name("build_model", "name", name, models)
    _check_dtype(dtype)
    if norm is not None:
        check_norm("build_model", norm)
        options["norm"] = norm
    backbone = builder(dtype=str(jnp.dtype(dtype)), **options)
    head_options = dict(head_options or {})
    if head == "linear":
        head_options.setdefault("kernel_init", backbone.head_init)
    module = Classifier(
        backbone,
        make_head(head, num_classes=num_classes, **head_options),
        freeze_backbone,
    )
    told = {"norm": backbone.norm, "dtype": backbone.dtype, **options}
    told = ", ".join(f"{key}={value}" for key, value in told.items())
    return from_linen(
        module,
        describe=f"{name} ({told}), {module.num_features} features,"
        f" {head} head, {num_classes} classes",
    )


def _check_dtype(dtype) -> None:
    try:
        floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise ValueError(
            f"build_model: dtype is {dtype!r}, expected 'float32' or 'bfloat16'"
        )
