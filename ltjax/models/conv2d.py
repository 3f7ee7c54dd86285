"""A small convolutional network for 28x28 and 32x32 images (MNIST and the like)."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax._checks import check_choice
from ltjax.models.norms import couples_rows, make_norm


class Conv2D(nn.Module):
    """Strided convolutions, each followed by normalization and ReLU, then pooling.

    Attributes:
        widths: channels of the layers; the last one is the number of features.
        strides: one per layer.
        kernel_size: odd; padded by half of it on every side.
        norm: "batch", "group", "layer", "frozen" or "none".
        pool: "flatten" keeps the positions, which suits centered digits, "mean"
            averages over them.
        size: height and width of the images; with "flatten" it fixes the number of
            features.
        dtype: of the computation; parameters stay float32.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    strides: tuple[int, ...] = (2, 2, 2)
    kernel_size: int = 5
    norm: str = "batch"
    pool: str = "flatten"
    size: int = 28
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
        check_choice("Conv2D", "pool", self.pool, ("mean", "flatten"))
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        size = self.size
        for stride in self.strides:
            size = -(-size // stride)
        return self.widths[-1] * (size**2 if self.pool == "flatten" else 1)

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        return not couples_rows(self.norm)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W] or [B, H, W, C] to features [B, D]."""
        x = inputs[..., None] if inputs.ndim == 3 else inputs
        square = x.shape[1:3] == (self.size, self.size)
        if x.ndim != 4 or (self.pool == "flatten" and not square):
            raise ValueError(
                f"Conv2D: inputs have shape {inputs.shape}, expected"
                f" [B, {self.size}, {self.size}] or [B, {self.size}, {self.size}, C]"
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
        if self.pool == "flatten":
            return x.reshape(len(x), -1)
        return jnp.mean(x, axis=(1, 2))
