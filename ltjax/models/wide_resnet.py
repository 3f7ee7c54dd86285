"""Pre-activation wide residual networks: WRN-28-2 of semi-supervised learning."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax.models.norms import DTYPES, NORMS, Normalized, check_norm, make_norm
from ltjax.options import option

_SLOPE = 0.1  # of LeakyReLU below zero


def _conv(width: int, size: int, stride: int, dtype: str, name: str) -> nn.Conv:
    """Convolution without bias, N(0, 2 / (k^2 C_out))."""
    side = size // 2
    return nn.Conv(
        width,
        (size, size),
        strides=stride,
        padding=((side, side),) * 2,
        use_bias=False,
        kernel_init=variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )


class WideBlock(nn.Module):
    """Norm, activation, 3x3, twice; a 1x1 projection where the width changes.

    Attributes:
        width: channels.
        stride: of the first convolution and the projection.
        first: whether the shortcut takes the activated input too, as in the first block
            of the network.
        norm: normalization.
        dtype: of the computation.
        norm_decay: of its running statistics.
    """

    width: int
    stride: int
    first: bool
    norm: str
    dtype: str
    norm_decay: float = 0.99

    @nn.compact
    def __call__(self, x, *, train: bool, mask=None):
        """[B, H, W, C] to [B, H / stride, W / stride, width]."""
        norm = make_norm(
            self.norm,
            train=train,
            mask=mask,
            dtype=self.dtype,
            decay=self.norm_decay,
        )
        active = nn.leaky_relu(norm(x, "norm1"), _SLOPE)
        y = _conv(self.width, 3, self.stride, self.dtype, "conv1")(active)
        y = nn.leaky_relu(norm(y, "norm2"), _SLOPE)
        y = _conv(self.width, 3, 1, self.dtype, "conv2")(y)
        shortcut = active if self.first else x
        if x.shape[-1] != self.width:
            project = _conv(self.width, 1, self.stride, self.dtype, "project")
            shortcut = project(shortcut)
        return shortcut + y


class WideResNet(Normalized, nn.Module):
    """A wide residual network for 32x32 images.

    Attributes:
        depth: layers, 6n + 4.
        widen: factor of the widths 16, 32, 64.
        norm: normalization.
        dtype: of the computation; parameters stay float32.
        norm_decay: of the running statistics of batch normalization: 0.999 in the
            released codes of FixMatch, ReMixMatch and ABC, 0.9 in that of DARP.

    References:
        Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016; LeakyReLU 0.1 and
        the activated first shortcut as in the code of MixMatch and its successors.
    """

    depth: int = option(28, "layers, 6n + 4", low=10)
    widen: int = option(2, "factor of the widths 16, 32, 64", low=1)
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)
    norm_decay: float = option(0.99, "of the running batch statistics", low=0, below=1)

    head_init = "uniform"

    def __post_init__(self):
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(
                f"WideResNet: depth is {self.depth}, expected 6n + 4 with n >= 1, such"
                " as 10, 16, 28, 40"
            )
        check_norm("WideResNet", self.norm)
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return 64 * self.widen

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, 64 widen]."""
        if inputs.ndim != 4:
            raise ValueError(
                f"WideResNet: inputs have shape {inputs.shape}, expected [B, H, W, C]"
            )
        norm = make_norm(
            self.norm,
            train=train,
            mask=mask,
            dtype=self.dtype,
            decay=self.norm_decay,
        )
        x = _conv(16, 3, 1, self.dtype, "stem")(inputs)
        for stage in range(3):
            for block in range((self.depth - 4) // 6):
                x = WideBlock(
                    width=16 * self.widen * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    first=stage == 0 and block == 0,
                    norm=self.norm,
                    norm_decay=self.norm_decay,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train, mask=mask)
        x = nn.leaky_relu(norm(x, "norm"), _SLOPE)
        return jnp.mean(x, axis=(1, 2))
