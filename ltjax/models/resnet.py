"""Residual networks for ImageNet-sized images: ResNet-10 to 152 and ResNeXt-50."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax._checks import check_choice
from ltjax.models.norms import DTYPES, NORMS, Normalized, check_norm, make_norm
from ltjax.options import option


def conv(
    width: int, size: int, *, stride: int = 1, groups: int = 1, dtype, name: str
) -> nn.Conv:
    """Convolution without bias, padded by half its size, N(0, 2/(size^2 width)).

    Args:
        width: output channels.
        size: of the square kernel.
        stride: in both directions.
        groups: channel groups that do not mix.
        dtype: of the computation.
        name: of the layer.

    Returns:
        The Linen layer.
    """
    side = size // 2
    return nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=((side, side), (side, side)),
        feature_group_count=groups,
        use_bias=False,
        kernel_init=variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )


class Block(nn.Module):
    """Residual block; a 1x1 convolution shapes the shortcut where shapes change.

    Attributes:
        kind: "basic" (two 3x3 convolutions, `width` channels out) or "bottleneck"
            (1x1, 3x3 with the stride, 1x1; 4 `width` channels out).
        width: "planes" w of the stage.
        stride: of the first (basic) or of the 3x3 convolution (bottleneck).
        groups: of the 3x3 convolution of a bottleneck.
        group_width: channels of a group per 64 of `width`; 64 with one group is the
            plain bottleneck.
        norm: see `ltjax.models.norms`.
        dtype: of the computation.
    """

    kind: str
    width: int
    stride: int
    groups: int
    group_width: int
    norm: str
    dtype: str

    @nn.compact
    def __call__(self, x, *, train: bool, mask=None):
        """Maps [B, H, W, C] to [B, H/stride, W/stride, width or 4 width]."""
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        if self.kind == "basic":
            out = self.width
            layers = [(out, 3, self.stride, 1), (out, 3, 1, 1)]
        else:
            out = 4 * self.width
            inner = self.width * self.group_width // 64 * self.groups
            layers = [
                (inner, 1, 1, 1),
                (inner, 3, self.stride, self.groups),
                (out, 1, 1, 1),
            ]
        shortcut = x
        if x.shape[-1] != out or self.stride != 1:
            shortcut = conv(
                out, 1, stride=self.stride, dtype=self.dtype, name="shortcut"
            )(x)
            shortcut = norm(shortcut, "shortcut_norm")
        for i, (width, size, stride, groups) in enumerate(layers, start=1):
            x = conv(
                width,
                size,
                stride=stride,
                groups=groups,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = norm(x, f"norm{i}")
            if i < len(layers):
                x = nn.relu(x)
        return nn.relu(x + shortcut)


class ResNet(Normalized, nn.Module):
    """ResNet and ResNeXt for ImageNet-LT, Places-LT and iNaturalist.

    A 7x7 stem with stride 2, 3x3 max pooling with stride 2, four stages (strides
    1, 2, 2, 2), average pooling. For images of 32 pixels the stem is a 3x3 convolution
    without stride or pooling. Parameters without the head: ResNet-10 4,905,792,
    ResNet-50 23,508,032, ResNet-101 42,500,160, ResNet-152 58,143,808, ResNeXt-50
    (32 groups of 4) 22,979,904.

    Attributes:
        blocks: number of blocks of each stage.
        block: "basic" or "bottleneck".
        widths: "planes" of each stage. (64, 128, 256, 1024) is the ETF paper's ResNet
            with 4096 features, so that the frame of 1000 classes fits with room.
        groups: groups of the 3x3 convolutions of bottlenecks.
        group_width: channels of a group per 64 planes.
        stem: "large" (7x7, stride 2, pooling) or "small" (3x3), which the published
            self-supervised networks have for CIFAR.
        norm: "batch" (published), "group", "layer", "frozen" or "none".
        dtype: of the computation; parameters stay float32.

    References:
        K. He et al., Deep residual learning for image recognition, CVPR 2016. As in
        common code, the stride is in the 3x3 convolution, not in the first 1x1.
        S. Xie et al., Aggregated residual transformations for deep neural networks,
        CVPR 2017. ResNet-10: Z. Liu et al., Large-scale long-tailed recognition in an
        open world, CVPR 2019.
    """

    blocks: tuple[int, ...] = option((3, 4, 6, 3), "blocks of each stage", low=1)
    block: str = option("bottleneck", "kind", choices=("basic", "bottleneck"))
    widths: tuple[int, ...] = option(
        (64, 128, 256, 512), "channels of each stage, before the expansion", low=1
    )
    groups: int = option(1, "of the 3x3 convolutions", low=1)
    group_width: int = option(64, "channels of a group, at width 64", low=1)
    stem: str = option(
        "large",
        "first convolution: 7x7 with stride 2 and pooling, or 3x3 for small images",
        choices=("large", "small"),
    )
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"

    def __post_init__(self):
        check_choice("ResNet", "stem", self.stem, ("large", "small"))
        check_choice("ResNet", "block", self.block, ("basic", "bottleneck"))
        check_norm("ResNet", self.norm)
        if len(self.blocks) != len(self.widths):
            raise ValueError(
                f"ResNet: widths are {self.widths}, expected one for each of the"
                f" {len(self.blocks)} stages"
            )
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise ValueError("ResNet: groups need block='bottleneck'")
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.widths[-1] * (4 if self.block == "bottleneck" else 1)

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of the modules from the input on, those of one depth together."""
        norm = ("stem_norm",) if self.norm != "none" else ()
        blocks = (
            (f"stage{stage}_block{block}",)
            for stage, count in enumerate(self.blocks, 1)
            for block in range(1, count + 1)
        )
        return ("stem", *norm), *blocks

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, D]."""
        if inputs.ndim != 4:
            raise ValueError(
                f"ResNet: inputs have shape {inputs.shape}, expected [B, H, W, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        side, stride = (7, 2) if self.stem == "large" else (3, 1)
        stem = conv(self.widths[0], side, stride=stride, dtype=self.dtype, name="stem")
        x = nn.relu(norm(stem(inputs), "stem_norm"))
        if self.stem == "large":
            padding = ((1, 1), (1, 1))
            x = nn.max_pool(x, (3, 3), (2, 2), padding)  # pyright: ignore[reportArgumentType]
        stages = zip(self.blocks, self.widths, strict=True)
        for stage, (count, width) in enumerate(stages):
            for block in range(count):
                x = Block(
                    kind=self.block,
                    width=width,
                    stride=2 if stage > 0 and block == 0 else 1,
                    groups=self.groups,
                    group_width=self.group_width,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train, mask=mask)
        return jnp.mean(x, axis=(1, 2))
