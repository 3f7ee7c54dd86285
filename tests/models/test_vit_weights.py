"""Vision Transformers from published names: against numpy, and four ways to name."""

import json
import math
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from ltjax.models import ViT
from ltjax.models.pretrained import describe_file

WIDTH, HEADS, DEPTH, PATCH, SIDE, EMBED = 8, 2, 2, 4, 8, 6


def timm_arrays(rng, *, clip=False, layer_scale=False, classes=0):
    """Random weights as timm names them."""
    sizes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, (SIDE // PATCH) ** 2 + 1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if clip:
        sizes |= {"norm_pre.weight": (WIDTH,), "norm_pre.bias": (WIDTH,)}
    else:
        sizes["patch_embed.proj.bias"] = (WIDTH,)
    for k in range(DEPTH):
        layers = {
            "norm1": (WIDTH,),
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "norm2": (WIDTH,),
            "mlp.fc1": (4 * WIDTH, WIDTH),
            "mlp.fc2": (WIDTH, 4 * WIDTH),
        }
        for name, shape in layers.items():
            sizes[f"blocks.{k}.{name}.weight"] = shape
            sizes[f"blocks.{k}.{name}.bias"] = shape[:1]
        if layer_scale:
            sizes |= {f"blocks.{k}.ls{n}.gamma": (WIDTH,) for n in (1, 2)}
    if classes:
        sizes |= {"head.weight": (classes, WIDTH), "head.bias": (classes,)}
    return {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in sizes.items()
    }


def erf_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def forward(arrays, images, *, eps, gelu):
    """The class token [B, W] after the last normalization, in float64."""
    a = {name: np.asarray(value, np.float64) for name, value in arrays.items()}

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        x = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps)
        return x * a[f"{name}.weight"] + a[f"{name}.bias"]

    def dense(x, name):
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    batch, grid = len(images), SIDE // PATCH
    patches = images.reshape(batch, 3, grid, PATCH, grid, PATCH)
    patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid**2, -1)
    x = patches @ a["patch_embed.proj.weight"].reshape(WIDTH, -1).T
    x = x + a.get("patch_embed.proj.bias", 0)
    token = np.broadcast_to(a["cls_token"], (batch, 1, WIDTH))
    x = np.concatenate([token, x], 1) + a["pos_embed"]
    if "norm_pre.weight" in a:
        x = norm(x, "norm_pre")
    for k in range(DEPTH):
        place = f"blocks.{k}"
        y = dense(norm(x, f"{place}.norm1"), f"{place}.attn.qkv")
        q, key, v = y.reshape(batch, -1, 3, HEADS, WIDTH // HEADS).transpose(
            2, 0, 3, 1, 4
        )
        scores = q @ key.swapaxes(-1, -2) / math.sqrt(WIDTH // HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, -1, WIDTH)
        x = x + a.get(f"{place}.ls1.gamma", 1) * dense(y, f"{place}.attn.proj")
        y = gelu(dense(norm(x, f"{place}.norm2"), f"{place}.mlp.fc1"))
        x = x + a.get(f"{place}.ls2.gamma", 1) * dense(y, f"{place}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def saved(folder, arrays, **told):
    """The file of these arrays, with the number of heads beside it."""
    file = folder / "weights.safetensors"
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, file)
    more = {"num_attention_heads": HEADS, **told}
    (folder / "config.json").write_text(json.dumps(more))
    return file


IMAGES = np.random.default_rng(1).normal(size=(3, 3, SIDE, SIDE))


@pytest.mark.parametrize("layer_scale", [False, True])
def test_outputs_are_those_of_the_definition(layer_scale, tmp_path, converted):
    rng = np.random.default_rng(0)
    given = timm_arrays(rng, layer_scale=layer_scale, classes=5)
    file = saved(tmp_path, given)
    published = describe_file(file)
    assert published.family == "timm ViT" and published.mean == (0.5, 0.5, 0.5)
    assert "num_heads" not in published.guessed  # the JSON says it
    found = converted(file, ViT(**published.options), 5)(IMAGES.transpose(0, 2, 3, 1))
    features = forward(given, IMAGES, eps=1e-6, gelu=erf_gelu)
    logits = features @ given["head.weight"].T.astype(np.float64) + given["head.bias"]
    np.testing.assert_allclose(found["features"], features, atol=1e-5)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)


# Other names for the same arrays, as (pattern, replacement) from timm's.
IN_TORCHVISION = (
    (r"^cls_token$", "class_token"),
    (r"^patch_embed\.proj", "conv_proj"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^blocks\.(\d)\.norm(\d)", r"encoder.layers.encoder_layer_\1.ln_\2"),
    (
        r"^blocks\.(\d)\.attn\.qkv\.",
        r"encoder.layers.encoder_layer_\1.self_attention.in_proj_",
    ),
    (
        r"^blocks\.(\d)\.attn\.proj",
        r"encoder.layers.encoder_layer_\1.self_attention.out_proj",
    ),
    (r"^blocks\.(\d)\.mlp\.fc1", r"encoder.layers.encoder_layer_\1.mlp.0"),
    (r"^blocks\.(\d)\.mlp\.fc2", r"encoder.layers.encoder_layer_\1.mlp.3"),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
)
IN_OPEN_CLIP = (
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^patch_embed\.proj", "conv1"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm(\d)\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"^", "visual."),
)
IN_HUGGING_FACE = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^patch_embed\.proj", "embeddings.patch_embedding"),
    (r"^norm_pre\.", "pre_layrnorm."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.attn\.([qkv])\.", r".self_attn.\1_proj."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"^", "vision_model."),
)


def in_other_words(arrays, rules):
    found = {}
    for name, value in arrays.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def test_torchvisions_names(tmp_path, converted):
    given = timm_arrays(np.random.default_rng(0), classes=5)
    file = saved(tmp_path, in_other_words(given, IN_TORCHVISION))
    published = describe_file(file)
    assert published.family == "torchvision ViT"
    assert published.mean == (0.485, 0.456, 0.406)
    found = converted(file, ViT(**published.options), 5)(IMAGES.transpose(0, 2, 3, 1))
    features = forward(given, IMAGES, eps=1e-6, gelu=erf_gelu)
    np.testing.assert_allclose(found["features"], features, atol=1e-5)


def of_clip(family, rng):
    """(arrays as timm has them, [W, E] projection, arrays under the family's names)."""
    given = timm_arrays(rng, clip=True)
    projection = rng.normal(size=(WIDTH, EMBED)).astype(np.float32)
    if family == "open_clip":
        token, positions = given["cls_token"].ravel(), given["pos_embed"][0]
        flat = {**given, "cls_token": token, "pos_embed": positions}
        named = in_other_words(flat, IN_OPEN_CLIP)
        text = {"positional_embedding": positions, "ln_final.bias": given["norm.bias"]}
        return given, projection, {**named, **text, "visual.proj": projection}
    apart = {}
    for name, value in given.items():
        if ".qkv." in name:
            for part, piece in zip("qkv", np.split(value, 3), strict=True):
                apart[name.replace(".qkv.", f".{part}.")] = piece
        else:
            apart[name] = value.reshape(-1, WIDTH) if name == "pos_embed" else value
    apart["cls_token"] = apart["cls_token"].ravel()
    named = in_other_words(apart, IN_HUGGING_FACE)
    named |= {
        "text_model.final_layer_norm.bias": given["norm.bias"],
        "vision_model.embeddings.position_ids": np.arange(5)[None],
        "visual_projection.weight": projection.T,
    }
    return given, projection, named


@pytest.mark.parametrize("family", ["open_clip", "CLIP of Hugging Face"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_image_tower_of_clip(family, activation, tmp_path, converted):
    given, projection, named = of_clip(family, np.random.default_rng(0))
    heads = {"num_attention_heads": HEADS, "hidden_act": activation}
    file = saved(tmp_path, named, vision_config=heads)
    published = describe_file(file)
    assert published.family == family
    assert published.options["activation"] == activation
    assert published.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    backbone = ViT(**published.options)
    assert backbone.num_features == EMBED
    outputs = converted(file, backbone, 4, fresh=True)
    found = outputs(IMAGES.transpose(0, 2, 3, 1))["features"]
    gelu = quick_gelu if activation == "quick_gelu" else erf_gelu
    features = forward(given, IMAGES, eps=1e-5, gelu=gelu)
    np.testing.assert_allclose(found, features @ projection, atol=2e-5)


def test_what_a_file_does_not_say_is_taken_as_usual(tmp_path):
    _, _, named = of_clip("open_clip", np.random.default_rng(0))
    file = saved(tmp_path, named)
    (tmp_path / "config.json").unlink()
    published = describe_file(file)
    # OpenAI's networks have the quick form; eight channels make one head.
    assert published.options["activation"] == "quick_gelu"
    assert published.options["num_heads"] == 1
    assert published.guessed == {"activation", "num_heads", "layer_scale"}
    transform = {"mean": [0.1], "std": [1]}
    told = {"model_cfg": {"embed_dim": 6}, "preprocess_cfg": transform}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    published = describe_file(file)
    assert published.options["activation"] == "gelu"
    assert (published.mean, published.std) == ((0.1,), (1.0,))
