"""Residual networks for 32x32 images, with parameter-free shortcuts (option A)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax.models.norms import DTYPES, NORMS, Normalized, check_norm, make_norm
from ltjax.options import option


def conv3x3(width: int, *, stride: int = 1, dtype, name: str) -> nn.Conv:
    """3x3 convolution without bias, padded by exactly 1 on every side.

    "SAME" would pad a strided convolution by (0, 1) and shift the image. The kernel
    starts as N(0, 2/fan_in), untruncated, where JAX's `he_normal` truncates.

    Args:
        width: output channels.
        stride: in both directions.
        dtype: of the computation.
        name: of the layer.

    Returns:
        The Linen layer.
    """
    return nn.Conv(
        width,
        (3, 3),
        strides=stride,
        padding=((1, 1), (1, 1)),
        use_bias=False,
        kernel_init=variance_scaling(2.0, "fan_in", "normal"),
        dtype=dtype,
        name=name,
    )


def pad_shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
    """Shortcut of option A: every `stride`-th row and column, zero channels around.

    Args:
        x: [B, H, W, C].
        width: channels wanted, C plus an even number.
        stride: step of the subsampling, which starts at index 0.

    Returns:
        [B, ceil(H/stride), ceil(W/stride), width], the input in the middle channels.
    """
    side = (width - x.shape[-1]) // 2
    x = x[:, ::stride, ::stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (side, side)))


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is added.

    Attributes:
        width: output channels.
        stride: of the first convolution.
        norm: see `ltjax.models.norms`.
        dtype: of the computation.
    """

    width: int
    stride: int
    norm: str
    dtype: str

    @nn.compact
    def __call__(self, x, *, train: bool, mask=None):
        """Maps [B, H, W, C] to [B, H/stride, W/stride, width]."""
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        shortcut = pad_shortcut(x, self.width, self.stride)
        x = conv3x3(self.width, stride=self.stride, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(norm(x, "norm1"))
        x = conv3x3(self.width, dtype=self.dtype, name="conv2")(x)
        return nn.relu(norm(x, "norm2") + shortcut)


class ResNetCifar(Normalized, nn.Module):
    """ResNet-20/32/44/56/110 for CIFAR: three stages of (depth - 2)/6 blocks.

    A 3x3 stem, stages of widths w, 2w, 4w (the last two start with stride 2), average
    pooling over what remains (8x8 for 32x32 images) and 4w features. With a 10-way
    linear head ResNet-32 has 464,154 parameters.

    Attributes:
        depth: number of weighted layers, 6n + 2.
        width: w, 16 in the paper. The ETF paper's network for 100 classes has 32.
        norm: "batch" (published), "group" and others for rows that do not depend on
            each other.
        dtype: of the computation; parameters stay float32.

    References:
        K. He et al., Deep residual learning for image recognition, CVPR 2016,
        section 4.2. Details follow the PyTorch version that LDAM-DRW and most
        long-tail code use: untruncated He initialization, channels padded on both
        sides, subsampling instead of average pooling in the shortcut.
    """

    depth: int = option(32, "layers, 6n + 2", low=8)
    width: int = option(16, "channels of the first stage", low=1)
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "he"

    def __post_init__(self):
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(
                f"ResNetCifar: depth is {self.depth}, expected 6n + 2 with n >= 1,"
                " such as 20, 32, 44, 56, 110"
            )
        check_norm("ResNetCifar", self.norm)
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return 4 * self.width

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, 4w]."""
        if inputs.ndim != 4:
            raise ValueError(
                f"ResNetCifar: inputs have shape {inputs.shape}, expected [B, H, W, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        x = conv3x3(self.width, dtype=self.dtype, name="stem")(inputs)
        x = nn.relu(norm(x, "stem_norm"))
        for stage in range(3):
            for block in range((self.depth - 2) // 6):
                x = Block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train, mask=mask)
        return jnp.mean(x, axis=(1, 2))
