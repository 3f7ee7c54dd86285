"""A small U-Net: images to a feature for every pixel."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax.models.norms import DTYPES, NORMS, Normalized, make_norm
from ltjax.options import option


class UNet(Normalized, nn.Module):
    """Convolutions down and up again, with skip connections at every resolution.

    Attributes:
        width: channels at full resolution, doubled at each of the levels below.
        levels: halvings of the resolution; sides must be multiples of 2^levels.
        norm: normalization of the layers.
        dtype: of the computation; parameters stay float32.

    References:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
        Segmentation", MICCAI 2015; padded convolutions, nearest-neighbour upsampling.
    """

    width: int = option(16, "channels at full resolution", low=1)
    levels: int = option(2, "halvings of the resolution", low=1)
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"
    dense = True  # a feature for every pixel

    @property
    def num_features(self) -> int:
        """Width of the features of a pixel."""
        return self.width

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, H, W, D]."""
        factor = 2**self.levels
        if inputs.ndim != 4 or any(side % factor for side in inputs.shape[1:3]):
            raise ValueError(
                f"UNet: inputs have shape {inputs.shape}, expected [B, H, W, C] with H"
                f" and W multiples of {factor}"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)

        def layer(x, width: int, name: str):
            x = nn.Conv(
                width,
                (3, 3),
                use_bias=self.norm == "none",
                kernel_init=variance_scaling(2.0, "fan_in", "normal"),
                dtype=self.dtype,
                name=name,
            )(x)
            return nn.relu(norm(x, f"{name}_norm"))

        x, kept = inputs, []
        for k in range(self.levels):
            x = layer(x, self.width * 2**k, f"down{k}")
            kept.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = layer(x, self.width * 2**self.levels, "bottom")
        for k in reversed(range(self.levels)):
            batch, height, width, channels = x.shape
            x = jax.image.resize(
                x, (batch, 2 * height, 2 * width, channels), method="nearest"
            )
            x = jnp.concatenate([x, kept[k]], axis=-1)
            x = layer(x, self.width * 2**k, f"up{k}")
        return x
