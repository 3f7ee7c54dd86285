"""Networks (Flax Linen) and heads as pure functions; see `Model` and `build_model`."""

import importlib
from typing import TYPE_CHECKING, Any

from ltjax.models.densenet import DenseNet
from ltjax.models.forward import Classifier, Model, count_parameters, from_linen
from ltjax.models.heads import CosineHead, FrameHead, LinearHead
from ltjax.models.mlp import MLP
from ltjax.models.modalities import FusionHead, Modalities
from ltjax.models.norms import NORMS, make_norm
from ltjax.models.own import OwnNetwork
from ltjax.models.projection import (
    CenteringHead,
    ClassifyingHead,
    DistillingHead,
    PredictionHead,
    ProjectionHead,
)
from ltjax.models.registry import HEADS, MODELS, build_model
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.models.small_conv import Conv1D, Conv2D
from ltjax.models.vit import ViT

if TYPE_CHECKING:
    from ltjax.models.nnx_adapter import from_nnx, model_from_nnx

__all__ = [
    "HEADS",
    "MLP",
    "MODELS",
    "NORMS",
    "Classifier",
    "Conv1D",
    "Conv2D",
    "CenteringHead",
    "ClassifyingHead",
    "CosineHead",
    "DenseNet",
    "DistillingHead",
    "FrameHead",
    "FusionHead",
    "LinearHead",
    "Modalities",
    "Model",
    "OwnNetwork",
    "PredictionHead",
    "ProjectionHead",
    "ResNet",
    "ResNetCifar",
    "ViT",
    "build_model",
    "count_parameters",
    "from_linen",
    "from_nnx",
    "make_norm",
    "model_from_nnx",
]

# Importing NNX takes longer than Linen, which every command needs.
_OF_NNX = ("from_nnx", "model_from_nnx")


def __getattr__(name: str) -> Any:
    if name not in _OF_NNX:
        raise AttributeError(f"module 'ltjax.models' has no attribute {name!r}")
    return getattr(importlib.import_module("ltjax.models.nnx_adapter"), name)
