"""A small convolutional network for 28x28 and 32x32 images (MNIST and the like)."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax.models.norms import couples_rows, make_norm


class Conv2D(nn.Module):
    """Strided convolutions, each followed by normalization and ReLU, then the mean.

    With three 5x5 layers of stride 2 a feature sees 29x29 pixels, all of an MNIST digit.

    Attributes:
        widths: channels of the layers; the last one is the number of features.
        strides: one per layer.
        kernel_size: odd; padded by half of it on every side.
        norm: "batch", "group", "layer", "frozen" or "none".
        dtype: of the computation; parameters stay float32.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    strides: tuple[int, ...] = (2, 2, 2)
    kernel_size: int = 5
    norm: str = "batch"
    dtype: str = "float32"

    head_init = "uniform"

    def __post_init__(self):
        if len(self.strides) != len(self.widths):
            raise ValueError(
                f"Conv2D: strides are {self.strides}, expected one for each of the"
                f" {len(self.widths)} widths"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"Conv2D: kernel_size is {self.kernel_size}, expected an odd number"
            )
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.widths[-1]

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        return not couples_rows(self.norm)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W] or [B, H, W, C] to features [B, D]."""
        x = inputs[..., None] if inputs.ndim == 3 else inputs
        if x.ndim != 4:
            raise ValueError(
                f"Conv2D: inputs have shape {inputs.shape}, expected [B, H, W] or"
                " [B, H, W, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        side = self.kernel_size // 2
        layers = zip(self.widths, self.strides, strict=True)
        for i, (width, stride) in enumerate(layers, start=1):
            x = nn.Conv(
                width,
                (self.kernel_size,) * 2,
                strides=stride,
                padding=((side, side),) * 2,
                use_bias=self.norm == "none",
                kernel_init=variance_scaling(2.0, "fan_in", "normal"),
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(norm(x, f"norm{i}"))
        return jnp.mean(x, axis=(1, 2))
