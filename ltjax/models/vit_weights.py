"""Weights of Vision Transformers under the names of timm, torchvision and CLIP.

All of them are first brought to timm's names. A joint projection [3 W, W] of queries,
keys and values is cut into three; kernels are transposed, and those of the attention
get an axis for the heads.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ltjax.models.published import (
    CLIP,
    HALVES,
    IMAGENET,
    Array,
    Converted,
    Published,
    kernel,
    renamed,
)


class _Scheme(NamedTuple):
    """A way to name the arrays.

    Attributes:
        family: for messages.
        mark: the name of the array of patches, by which a file is recognized.
        prefix: of the names that belong to the network; what else the file holds (a
            text tower) is left out.
        renames: (pattern, replacement), in turn, to timm's names.
        normalization: (mean, std).
        fixed: options that all networks of the scheme share.
        guessed: options that usually are so.
    """

    family: str
    mark: str
    prefix: str
    renames: tuple[tuple[str, str], ...]
    normalization: tuple
    fixed: Mapping[str, object]
    guessed: Mapping[str, object]


_SCHEMES = (
    _Scheme(
        "timm ViT",
        "patch_embed.proj.weight",
        "",
        (),
        HALVES,
        {"activation": "gelu", "eps": 1e-6},
        {},
    ),
    _Scheme(
        "torchvision ViT",
        "conv_proj.weight",
        "",
        (
            (r"^class_token$", "cls_token"),
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"\.ln_(\d)\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
            (r"^encoder\.ln\.", "norm."),
            (r"^heads\.head\.", "head."),
        ),
        IMAGENET,
        {"activation": "gelu", "eps": 1e-6},
        {},
    ),
    _Scheme(
        "open_clip",
        "visual.conv1.weight",
        "visual.",
        (
            (r"^class_embedding$", "cls_token"),
            (r"^positional_embedding$", "pos_embed"),
            (r"^conv1\.", "patch_embed.proj."),
            (r"^ln_pre\.", "norm_pre."),
            (r"^ln_post\.", "norm."),
            (r"^transformer\.resblocks\.", "blocks."),
            (r"\.ln_(\d)\.", r".norm\1."),
            (r"\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.c_fc\.", ".mlp.fc1."),
            (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        ),
        CLIP,
        {"eps": 1e-5},
        {"activation": "quick_gelu"},
    ),
    _Scheme(
        "CLIP of Hugging Face",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.",
        (
            (r"^embeddings\.class_embedding$", "cls_token"),
            (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
            (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
            (r"^pre_layrnorm\.", "norm_pre."),  # so spelled there
            (r"^post_layernorm\.", "norm."),
            (r"^encoder\.layers\.", "blocks."),
            (r"\.layer_norm(\d)\.", r".norm\1."),
            (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
        ),
        CLIP,
        {"eps": 1e-5},
        {"activation": "quick_gelu"},
    ),
)

_LEFT_OUT = ("vision_model.embeddings.position_ids",)
_PROJECTION = "visual_projection.weight"  # beside the prefix, at Hugging Face
_HEAD_DIMS = {1280: 80, 1408: 88}  # of a head by the width, where it is not 64

_RULES = (
    (r"cls_token", "backbone.token"),
    (r"pos_embed", "backbone.positions"),
    (r"patch_embed\.proj\.(\w+)", "backbone.patches.{0}"),
    (r"norm_pre\.(\w+)", "backbone.input_norm.{0}"),
    (r"blocks\.(\d+)\.(norm\d)\.(\w+)", "backbone.block{0}.{1}.{2}"),
    (r"blocks\.(\d+)\.attn\.q\.(\w+)", "backbone.block{0}.attention.query.{1}"),
    (r"blocks\.(\d+)\.attn\.k\.(\w+)", "backbone.block{0}.attention.key.{1}"),
    (r"blocks\.(\d+)\.attn\.v\.(\w+)", "backbone.block{0}.attention.value.{1}"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", "backbone.block{0}.attention.out.{1}"),
    (r"blocks\.(\d+)\.mlp\.fc(\d)\.(\w+)", "backbone.block{0}.dense{1}.{2}"),
    (r"blocks\.(\d+)\.ls(\d)\.gamma", "backbone.block{0}.scale{1}"),
    (r"norm\.(\w+)", "backbone.norm.{0}"),
    (r"projection\.weight", "backbone.projection.weight"),
    (r"head\.(\w+)", "head.{0}"),
)


def describe(shapes: Mapping[str, tuple[int, ...]], told: Mapping) -> Published | None:
    """The network of a file, read off its arrays; None if it is not a ViT.

    Args:
        shapes: name -> shape.
        told: what a JSON file beside it says.
    """
    scheme = _scheme_of(shapes)
    if scheme is None:
        return None
    # Names and shapes are enough: one zero stands for every array.
    zero = np.float32(0)
    stand_ins = {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}
    names = {name: x.shape for name, x in _brought(stand_ins, scheme).items()}
    width, _, patch, _ = names["patch_embed.proj.weight"]
    found = [re.match(r"blocks\.(\d+)\.", name) for name in names]
    options: dict[str, object] = {
        "patch": patch,
        "width": width,
        "depth": len({m[1] for m in found if m}),
        "mlp_ratio": names.get("blocks.0.mlp.fc1.weight", (4 * width,))[0] / width,
        "pool": "cls" if "cls_token" in names else "mean",
        "input_norm": "norm_pre.weight" in names,
        "patch_bias": "patch_embed.proj.bias" in names,
        "layer_scale": 1e-5 if "blocks.0.ls1.gamma" in names else 0.0,
        "projection": names.get("projection.weight", (0,))[0],
    }
    heads = max(width // _HEAD_DIMS.get(width, 64), 1)
    guessed = {"num_heads": heads, **scheme.guessed}
    if scheme.family == "timm ViT" and options["input_norm"]:
        # What timm keeps of CLIP's networks.
        guessed |= {"activation": "quick_gelu", "eps": 1e-5}
    options |= {**scheme.fixed, **guessed}
    sure = _told_options(told)
    options |= sure
    return Published(
        scheme.family,
        "vit",
        options,
        *scheme.normalization,
        guessed=frozenset({*guessed, "layer_scale"} - sure.keys()),
    )


def convert(tensors: Mapping[str, Array], options: Mapping) -> Converted:
    """Arrays by their names here.

    Args:
        tensors: name there -> array.
        options: of the network: "num_heads" counts.

    Returns:
        `Converted`.
    """
    scheme = _scheme_of(tensors)
    assert scheme is not None  # as `describe` has found
    arrays, unknown = {}, []
    for name, value in _brought(tensors, scheme).items():
        target = renamed(name, _RULES)
        if target is None:
            unknown.append(name)
            continue
        place, _, leaf = target.rpartition(".")
        module = place.rpartition(".")[2]
        if leaf in ("token", "positions"):
            value = value.reshape(1, -1, value.shape[-1])
        elif leaf == "weight" and value.ndim > 1:
            value, target = kernel(value), f"{place}.kernel"
        elif leaf == "weight":
            target = f"{place}.scale"
        if ".attention." in target:
            value = _by_head(value, module, int(options["num_heads"]))
        arrays[f"params.{target}"] = value
    return Converted(arrays, unknown)


def _by_head(value: Array, module: str, heads: int) -> Array:
    """A kernel [W, W] or bias [W] of the attention with an axis for the heads."""
    width = value.shape[0]
    if module == "out":
        return value if value.ndim == 1 else value.reshape(heads, -1, value.shape[-1])
    return value.reshape(*(width,) * (value.ndim - 1), heads, -1)


def _scheme_of(names: Mapping) -> _Scheme | None:
    return next((scheme for scheme in _SCHEMES if scheme.mark in names), None)


def _brought(tensors: Mapping[str, Array], scheme: _Scheme) -> dict[str, Array]:
    """The network's own arrays under timm's names, queries, keys and values apart."""
    found: dict[str, Array] = {}
    for name, value in tensors.items():
        if name == _PROJECTION and scheme.prefix == "vision_model.":
            found["projection.weight"] = value
        if not name.startswith(scheme.prefix) or name in _LEFT_OUT:
            continue
        new = name.removeprefix(scheme.prefix)
        if new == "proj":  # [W, E], not a layer's weight [E, W]
            found["projection.weight"] = value.T
            continue
        for pattern, replacement in scheme.renames:
            new = re.sub(pattern, replacement, new)
        if ".attn.qkv." in new:
            for part, piece in zip("qkv", np.split(value, 3), strict=True):
                found[new.replace(".attn.qkv.", f".attn.{part}.")] = piece
        else:
            found[new] = value
    return found


def _told_options(told: Mapping) -> dict[str, object]:
    """Options that a JSON file beside the weights knows."""
    vision = told.get("vision_config", told)
    sure: dict[str, object] = {}
    if "num_attention_heads" in vision:
        sure["num_heads"] = vision["num_attention_heads"]
    if vision.get("hidden_act") in ("gelu", "quick_gelu"):
        sure["activation"] = vision["hidden_act"]
    of_clip = told.get("model_cfg", {})
    if of_clip:
        quick = of_clip.get("quick_gelu", False)
        sure["activation"] = "quick_gelu" if quick else "gelu"
    return sure
