"""Densely connected networks with bottlenecks and compression for 32x32 images."""

import flax.linen as nn
import jax.numpy as jnp

from ltjax.models.norms import DTYPES, NORMS, Normalized, check_norm, make_norm
from ltjax.models.resnet import conv
from ltjax.options import option


class DenseNet(Normalized, nn.Module):
    """DenseNet-BC: three dense blocks whose layers see all the maps before them.

    A layer is norm, ReLU, 1x1 convolution to 4k channels, norm, ReLU, 3x3 convolution
    to k channels, appended to its input. Between blocks a 1x1 convolution keeps
    `compression` of the channels and 2x2 average pooling halves the map. Depth 100 and
    growth 12 make 769,162 parameters with a 10-way linear head.

    Attributes:
        depth: number of weighted layers, 6n + 4.
        growth: k.
        compression: share of the channels that a transition keeps.
        norm: "batch" (published), "group", "layer", "frozen" or "none".
        dtype: of the computation; parameters stay float32.

    References:
        G. Huang et al., Densely connected convolutional networks, CVPR 2017.
    """

    depth: int = option(100, "layers, 6n + 4", low=10)
    growth: int = option(12, "channels that a layer adds", low=1)
    compression: float = option(
        0.5, "share of the channels that a transition keeps", above=0, high=1
    )
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"

    def __post_init__(self):
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(
                f"DenseNet: depth is {self.depth}, expected 6n + 4 with n >= 1,"
                " such as 40, 100, 190"
            )
        check_norm("DenseNet", self.norm)
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self._channels()[-1]

    def _channels(self) -> list[int]:
        """Channels that enter each of the three blocks, then those that leave."""
        grown = (self.depth - 4) // 6 * self.growth
        entering = [2 * self.growth]
        for _ in range(2):
            entering.append(int((entering[-1] + grown) * self.compression))
        return [*entering, entering[-1] + grown]

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, D]."""
        if inputs.ndim != 4:
            raise ValueError(
                f"DenseNet: inputs have shape {inputs.shape}, expected [B, H, W, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        channels = self._channels()
        x = conv(channels[0], 3, dtype=self.dtype, name="stem")(inputs)
        for block in (1, 2, 3):
            for layer in range(1, (self.depth - 4) // 6 + 1):
                name = f"block{block}_layer{layer}_"
                y = nn.relu(norm(x, name + "norm1"))
                y = conv(4 * self.growth, 1, dtype=self.dtype, name=name + "conv1")(y)
                y = nn.relu(norm(y, name + "norm2"))
                y = conv(self.growth, 3, dtype=self.dtype, name=name + "conv2")(y)
                x = jnp.concatenate([x, y], axis=-1)
            if block < 3:
                name = f"transition{block}_"
                x = nn.relu(norm(x, name + "norm"))
                x = conv(channels[block], 1, dtype=self.dtype, name=name + "conv")(x)
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(norm(x, "last_norm"))
        return jnp.mean(x, axis=(1, 2))
