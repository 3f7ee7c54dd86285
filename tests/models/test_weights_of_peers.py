"""The same network in torchvision or timm, on random weights: equal to 1e-5.

pip install 'ltjax[peers]' && pytest tests/models/test_weights_of_peers.py
"""

import functools
import json

import numpy as np
import pytest

from ltjax.models.pretrained import describe_file
from ltjax.models.registry import MODELS
from ltjax.options import defaults

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

CLASSES = 7


def tv(name, **options):
    return getattr(torchvision.models, name)(
        weights=None, num_classes=CLASSES, **options
    )


def vit(**options):
    small = dict(img_size=32, patch_size=8, embed_dim=64, depth=3, num_heads=4)
    return timm.models.vision_transformer.VisionTransformer(
        num_classes=CLASSES, **{**small, **options}
    )


def clip_vit():
    return vit(
        pre_norm=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-5),
        act_layer=timm.layers.QuickGELU,
    )


# Network, side of its images, name in our table ("" = the generic one).
PEERS = {
    "torchvision resnet18": (lambda: tv("resnet18"), 64, "resnet18"),
    "torchvision resnet50": (lambda: tv("resnet50"), 64, "resnet50"),
    "torchvision resnext50": (lambda: tv("resnext50_32x4d"), 64, "resnext50"),
    "torchvision wide_resnet50": (lambda: tv("wide_resnet50_2"), 32, ""),
    "timm resnet34": (
        lambda: timm.create_model("resnet34", num_classes=CLASSES),
        64,
        "resnet34",
    ),
    "timm vit": (vit, 32, ""),
    "timm vit_small_patch16": (
        lambda: timm.create_model("vit_small_patch16_224", num_classes=CLASSES),
        224,
        "vit_s16",
    ),
    "timm vit, layer scale": (lambda: vit(init_values=1e-1), 32, ""),
    "timm vit of CLIP": (clip_vit, 32, ""),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=3,
            num_heads=4,
            hidden_dim=64,
            mlp_dim=128,
            num_classes=CLASSES,
        ),
        32,
        "",
    ),
}


def randomized(network):
    """The network in evaluation mode, nothing of it at a value that hides a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean") or "norm" in name or "bias" in name:
                value.add_(0.1 * torch.randn(value.shape))
            elif name in ("cls_token", "class_token", "pos_embed"):
                value.normal_(0, 0.5)
            elif "head" in name or name.startswith("fc."):
                value.normal_(0, 0.05)
    return network.eval()


@pytest.mark.parametrize("peer", PEERS)
def test_logits_are_those_of_the_peer(peer, tmp_path, converted):
    from safetensors.torch import save_file

    make, side, name = PEERS[peer]
    network = randomized(make())
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    if name == "vit_s16":
        (tmp_path / "config.json").unlink()  # 384 channels are known to have six
    published = describe_file(file)
    component = MODELS[name or published.name]
    known = defaults(component)
    options = {k: v for k, v in published.options.items() if k in known}
    backbone = component.make(component.options(**options), {})

    images = np.random.default_rng(0).normal(size=(2, 3, side, side))
    with torch.no_grad():
        expected = network(torch.tensor(images, dtype=torch.float32)).numpy()
    found = converted(file, backbone, CLASSES)(images.transpose(0, 2, 3, 1))["logits"]
    scale = np.abs(expected).max()
    assert scale > 0.1  # there is something to compare
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-5)
