"""Networks and heads by name; in code, the modules can be built directly."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ltjax.models.blending import BlendingHead
from ltjax.models.class_scale import learnable_scaling
from ltjax.models.components import HeadOptions, module_component
from ltjax.models.densenet import DenseNet
from ltjax.models.diffusion_unet import DiffusionUNet, NoiseHead
from ltjax.models.experts import ExpertHead, ExpertResNetCifar
from ltjax.models.forward import Classifier, Model, from_linen
from ltjax.models.heads import CosineHead, FrameHead, LinearHead, TwoLinearHeads
from ltjax.models.mlp import MLP
from ltjax.models.modalities import FusionHead, Modalities
from ltjax.models.own import OwnNetwork
from ltjax.models.projection import (
    CenteringHead,
    ClassifyingHead,
    DistillingHead,
    PredictionHead,
    ProjectionHead,
)
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.models.second_norms import with_second_norms
from ltjax.models.small_conv import Conv1D, Conv2D
from ltjax.models.table import ModelTable
from ltjax.models.unet import UNet
from ltjax.models.vit import ViT
from ltjax.models.wide_resnet import WideResNet
from ltjax.options import Component, nearest, options_of, read_options


def _cifar(depth: int, size: str) -> Component:
    about = f"CIFAR ResNet-{depth}, {size} M parameters"
    return module_component(ResNetCifar, about, depth=depth)


def _resnet(about: str, block: str, blocks: tuple[int, ...], **fixed) -> Component:
    return module_component(ResNet, about, block=block, blocks=blocks, **fixed)


def _vit(about: str, width: int, num_heads: int) -> Component:
    return module_component(
        ViT, about, patch=16, width=width, depth=12, num_heads=num_heads
    )


_NETWORKS: dict[str, Component] = {
    "mlp": module_component(MLP, "dense layers for feature vectors"),
    "conv1d": module_component(Conv1D, "three convolutions for 1-D signals (MNIST-1D)"),
    "conv2d": module_component(Conv2D, "three convolutions for small images (MNIST)"),
    "resnet_cifar": module_component(
        ResNetCifar, "CIFAR ResNet of any depth=6n+2, width=16"
    ),
    "resnet20": _cifar(20, "0.27"),
    "resnet32": _cifar(32, "0.46"),
    "resnet44": _cifar(44, "0.66"),
    "resnet56": _cifar(56, "0.85"),
    "resnet110": _cifar(110, "1.7"),
    "resnet32_experts": module_component(
        ExpertResNetCifar,
        "CIFAR ResNet-32 that splits into experts (Wang 2021)",
        depth=32,
    ),
    "densenet_bc": module_component(
        DenseNet, "DenseNet-BC for CIFAR: depth=100, growth=12"
    ),
    "resnet10": _resnet("ResNet-10, 4.9 M parameters", "basic", (1, 1, 1, 1)),
    "resnet18": _resnet("ResNet-18, 11.2 M parameters", "basic", (2, 2, 2, 2)),
    "resnet34": _resnet("ResNet-34, 21.3 M parameters", "basic", (3, 4, 6, 3)),
    "resnet50": _resnet("ResNet-50, 23.5 M parameters", "bottleneck", (3, 4, 6, 3)),
    "resnet101": _resnet("ResNet-101, 42.5 M parameters", "bottleneck", (3, 4, 23, 3)),
    "resnet152": _resnet("ResNet-152, 58.1 M parameters", "bottleneck", (3, 8, 36, 3)),
    "resnext50": _resnet(
        "ResNeXt-50 32x4d, 23.0 M parameters",
        "bottleneck",
        (3, 4, 6, 3),
        groups=32,
        group_width=4,
    ),
    "resnet": module_component(ResNet, "ResNet, ResNeXt of any blocks=(3, 4, 6, 3)"),
    "vit": module_component(
        ViT, "Vision Transformer of any patch=4, width=192, depth=12"
    ),
    "wrn28_2": module_component(
        WideResNet, "wide ResNet-28-2, 1.47 M parameters", depth=28, widen=2
    ),
    "modalities": module_component(
        Modalities, "an encoder for each of several modalities (image, signal)"
    ),
    "unet": module_component(UNet, "small U-Net: a feature for every pixel"),
    "diffusion_unet": module_component(
        DiffusionUNet, "U-Net that is told a time and a class, for denoising (Ho 2020)"
    ),
    "vit_s16": _vit("ViT-S/16, 21.7 M parameters", 384, 6),
    "vit_b16": _vit("ViT-B/16, 85.8 M parameters", 768, 12),
}
MODELS = ModelTable(_NETWORKS)


def _scaled(options: HeadOptions, config) -> list[str]:
    if options.class_scale != "inverse_norm":
        return []
    return [
        "config.head.class_scale is 'inverse_norm', which starts from the norms of a"
        f" linear head's columns, but the head is {config.head.name!r}, expected"
        " 'linear'"
    ]


def _experts(options: Any, config) -> list[str]:
    faults = []
    if options.class_scale != "none":
        faults.append(
            f"config.head.class_scale is {options.class_scale!r}, which would scale the"
            " mean of the experts only, expected 'none'"
        )
    parts = config.model.facts.experts
    if options.own_features and parts != options.num_experts:
        faults.append(
            f"config.head.own_features needs a network with features for each of"
            f" num_experts = {options.num_experts} experts, but model"
            f" {config.model.name!r} has {parts} part(s)"
        )
    return faults


def _fusion(options: Any, config) -> list[str]:
    faults, names = [], config.model.facts.modalities
    if options.class_scale != "none":
        faults.append(
            f"config.head.class_scale is {options.class_scale!r}, which would scale the"
            " sum of the modalities only, expected 'none'"
        )
    if len(names) != options.num_modalities:
        faults.append(
            f"config.head.num_modalities is {options.num_modalities}, but model"
            f" {config.model.name!r} has {len(names)} modalities"
        )
    return faults


def _head(module: type, about: str, **more) -> Component:
    return module_component(
        module, about, base=HeadOptions, needed={"num_classes": 2}, **more
    )


HEADS: dict[str, Component] = {
    "linear": _head(LinearHead, "a dense layer"),
    "two_linear": _head(
        TwoLinearHeads,
        "two dense layers side by side (ABC, ACR, CoSSL)",
        needs=_scaled,
        outputs=0,
    ),
    "linear_rotation": _head(
        TwoLinearHeads,
        "a dense layer, and one that tells four rotations apart (ReMixMatch)",
        needs=_scaled,
        outputs=4,
    ),
    "cosine": _head(
        CosineHead, "cosines of features and class vectors (LDAM)", needs=_scaled
    ),
    "etf": _head(
        FrameHead,
        "a fixed frame, by default a simplex ETF (Yang 2022)",
        kinds={"frame": str},
        needs=_scaled,
    ),
    "experts": _head(
        ExpertHead,
        "several classifiers, by default cosines, that predict by their mean",
        needs=_experts,
    ),
    "fusion": _head(
        FusionHead,
        "logits of each modality and their sum times a learned rate (Hua 2024)",
        needs=_fusion,
    ),
    "projection": _head(
        ProjectionHead,
        "an MLP for contrastive losses; gives no logits (SimCLR, Chen 2020)",
        needs=_scaled,
    ),
    "classifying": _head(
        ClassifyingHead,
        "a projection beside a linear classifier (PaCo, Cui 2021)",
        needs=_scaled,
    ),
    "centering": _head(
        CenteringHead,
        "a projection beside a classifier whose columns become centers (Zhu 2022)",
        needs=_scaled,
    ),
    "distilling": _head(
        DistillingHead,
        "a projection with regressors of several teachers (DnC, Tian 2021)",
        needs=_scaled,
    ),
    "prediction": _head(
        PredictionHead,
        "a projection and a predictor on top of it (BYOL, Grill 2020)",
        needs=_scaled,
    ),
    "blending": _head(
        BlendingHead,
        "a classifier on sets of feature maps, blended by gates (Meng 2024)",
        needs=_scaled,
    ),
    "noise": _head(
        NoiseHead, "the noise of every pixel; gives no logits (Ho 2020)", needs=_scaled
    ),
}


def assemble(
    backbone: nn.Module | Model,
    head: nn.Module,
    *,
    describe: str,
    freeze_backbone: bool = False,
    class_scale: str = "none",
    class_scale_power: float = 0.5,
    norm_sets: int = 1,
) -> Model:
    """A `Model` of a backbone and a head.

    Args:
        backbone: see `Classifier`; or a `Model`, which has its head already.
        head: likewise.
        describe: one line for logs.
        freeze_backbone: see `Classifier`.
        class_scale: see `HeadOptions`.
        class_scale_power: likewise.
        norm_sets: 2 for a second set of batch normalization layers, see
            `ltjax.models.second_norms`.

    Returns:
        A `Model`; its parameters lie under "backbone" and "head", and where the
        backbone's `wrap` puts those of its adapters.
    """
    if isinstance(backbone, Model):
        model = backbone
    else:
        module = Classifier(backbone, head, freeze_backbone)
        told = f"{describe}, {module.num_features} features"
        model = from_linen(module, describe=told)
        model = getattr(backbone, "wrap", lambda model: model)(model)
    if norm_sets > 1:
        model = with_second_norms(model)
    if class_scale == "none":
        return model
    power = class_scale_power if class_scale == "inverse_norm" else 0.0
    return learnable_scaling(model, getattr(head, "num_classes"), power=power)  # noqa: B009


def published_start(
    head_options: Any, backbone: nn.Module, init_bias: str
) -> dict[str, Any]:
    """What "auto" means for a head on this backbone and with this loss."""
    found = {}
    if getattr(head_options, "kernel_init", "") == "auto":
        found["kernel_init"] = getattr(backbone, "head_init", "uniform")
    if getattr(head_options, "init_bias", "") == "auto":
        found["init_bias"] = init_bias
    return found


def build_model(
    name: str,
    *,
    num_classes: int,
    head: str = "linear",
    dtype: str = "float32",
    norm: str | None = None,
    head_options: Mapping[str, Any] | None = None,
    freeze_backbone: bool = False,
    models: Mapping[str, Component] = MODELS,
    **options,
) -> Model:
    """Builds a network and its head by name.

    Args:
        name: a key of `models`.
        num_classes: K.
        head: a key of `HEADS`: "linear", "cosine" (needed by LDAM), "etf" (a fixed
            frame), "projection", "prediction", "classifying" or "centering".
        dtype: of the backbone's computation, "float32" or "bfloat16". Parameters, batch
            statistics, head and outputs stay float32.
        norm: "batch", "group", "layer", "frozen" or "none"; None keeps the network's
            own choice.
        head_options: attributes of the head, such as {"init_bias": "sigmoid"}.
        freeze_backbone: see `Classifier`.
        models: table name -> `Component`, for a project with own networks.
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
    component = _find("name", name, models)
    if num_classes < 1:
        raise ValueError(
            f"build_model: num_classes is {num_classes}, expected at least 1"
        )
    if norm is not None:
        options["norm"] = norm
    options["dtype"] = _dtype_name(dtype)
    chosen = _read(component, options, f"build_model: {name!r}")
    backbone = component.make(chosen, {})
    if isinstance(backbone, OwnNetwork):
        raise ValueError(
            f"build_model: name is {name!r}, a network of your own, which is fitted to"
            " the shape of its inputs; expected ltjax.models.OwnNetwork(...).model"
        )
    head_component = _find("head", head, HEADS)
    given = dict(head_options or {})
    arrays = {k: v for k, v in given.items() if k == "frame" and not isinstance(v, str)}
    named = {k: v for k, v in given.items() if k not in arrays}
    of_head = _read(head_component, named, f"build_model: head {head!r}")
    more = published_start(of_head, backbone, "uniform")
    made = head_component.make(of_head, {"num_classes": num_classes, **more, **arrays})
    return assemble(
        backbone,
        made,
        freeze_backbone=freeze_backbone,
        describe=describe_network(name, chosen, head, num_classes),
        class_scale=of_head.class_scale,
        class_scale_power=of_head.class_scale_power,
    )


def describe_network(name: str, options: Any, head: str, num_classes: int) -> str:
    """One line for logs: what a network is made of."""
    told = ", ".join(
        f"{o.name}={getattr(options, o.name)}"
        for o in options_of(type(options)).values()
    )
    return f"{name} ({told}), {head} head, {num_classes} classes"


def _dtype_name(dtype: Any) -> str:
    try:
        return jnp.dtype(dtype).name
    except TypeError:  # what it may be is said where options are read
        return str(dtype)


def _find(kind: str, name: str, table: Mapping[str, Component]) -> Component:
    if name not in table:
        raise ValueError(
            f"build_model: {kind} is {name!r}, unknown{nearest(name, table)}"
        )
    return table[name]


def _read(component: Component, values: Mapping[str, Any], caller: str) -> Any:
    known = options_of(component.options)
    for key in values:
        if key not in known:
            raise ValueError(f"{caller} has no option {key!r}{nearest(key, known)}")
    options, faults = read_options(component.options, values)
    if faults:
        told = [fault.removeprefix("config").lstrip(".: ") for fault in faults]
        raise ValueError("; ".join(f"{caller}: {fault}" for fault in told))
    return options
