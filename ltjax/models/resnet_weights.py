"""Weights of residual networks under the names that torchvision and timm give them.

Kernels are [out, in, H, W] there and [H, W, in, out] here; both keep the stride in the
3x3 convolution and pad by half a kernel, so that the functions are the same.
"""

import re
from collections.abc import Mapping

import numpy as np

from ltjax.models.published import (
    IMAGENET,
    Array,
    Converted,
    Published,
    kernel,
    renamed,
)

_BLOCK, _OURS = r"layer(\d)\.(\d+)\.", "backbone.stage{0}_block{1}"
_RULES = (
    (r"conv1\.weight", "backbone.stem.kernel"),
    (r"bn1\.(\w+)", "backbone.stem_norm.{0}"),
    (
        r"layer(\d)\.(\d+)\.conv(\d)\.weight",
        "backbone.stage{0}_block{1}.conv{2}.kernel",
    ),
    (r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)", "backbone.stage{0}_block{1}.norm{2}.{3}"),
    (
        r"layer(\d)\.(\d+)\.downsample\.0\.weight",
        "backbone.stage{0}_block{1}.shortcut.kernel",
    ),
    (
        r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)",
        "backbone.stage{0}_block{1}.shortcut_norm.{2}",
    ),
    (r"fc\.weight", "head.kernel"),
    (r"fc\.bias", "head.bias"),
)
_NORM = {"weight": "scale", "bias": "bias"}
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
_COUNTER = "num_batches_tracked"  # the running averages have a fixed momentum


def describe(shapes: Mapping[str, tuple[int, ...]], told: Mapping) -> Published | None:
    """The network of a file, read off its arrays; None if it is not a ResNet.

    Args:
        shapes: name -> shape.
        told: what a JSON file beside it says.
    """
    if not {"conv1.weight", "layer1.0.conv1.weight"} <= shapes.keys():
        return None
    found = [re.match(r"layer(\d)\.(\d+)\.", name) for name in shapes]
    places = {(int(m[1]), int(m[2])) for m in found if m}
    stages = sorted({stage for stage, _ in places})
    bottleneck = "layer1.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    outs = [shapes[f"layer{s}.0.{last}.weight"][0] for s in stages]
    widths = tuple(out // 4 if bottleneck else out for out in outs)
    options = {
        "blocks": tuple(sum(stage == s for stage, _ in places) for s in stages),
        "block": "bottleneck" if bottleneck else "basic",
        "widths": widths,
        "groups": 1,
        "group_width": 64,
    }
    if bottleneck:
        inner, per_group = shapes["layer1.0.conv2.weight"][:2]
        options["groups"] = inner // per_group
        options["group_width"] = per_group * 64 // widths[0]
    return Published("resnet", "resnet", options, *IMAGENET)


def convert(tensors: Mapping[str, Array], options: Mapping) -> Converted:
    """Arrays by their names here.

    Args:
        tensors: name there -> array.
        options: of the network, from `describe`.

    Returns:
        `Converted`.
    """
    arrays, unknown = {}, []
    for name, value in tensors.items():
        target = renamed(name, _RULES)
        if target is None:
            unknown.append(name)
            continue
        place, _, leaf = target.rpartition(".")
        if leaf in _STATISTICS:
            arrays[f"model_state.batch_stats.{place}.{_STATISTICS[leaf]}"] = value
        elif leaf == "kernel":
            arrays[f"params.{target}"] = kernel(value)
        elif leaf != _COUNTER:
            leaf = leaf if place == "head" else _NORM.get(leaf, leaf)
            arrays[f"params.{place}.{leaf}"] = np.asarray(value)
    return Converted(arrays, unknown)
