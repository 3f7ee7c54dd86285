"""Three convolutions for one-dimensional signals (MNIST-1D)."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax._checks import check_choice
from ltjax.models.norms import couples_rows, make_norm


class Conv1D(nn.Module):
    """Strided convolutions, each followed by normalization and ReLU, then pooling.

    Attributes:
        widths: channels of the layers.
        kernel_size: of every layer; padded by half of it on both sides.
        strides: one per layer.
        norm: "batch", "group", "layer", "frozen" or "none".
        pool: "mean" averages over positions, which suits the randomly shifted digits
            of MNIST-1D, "flatten" keeps them.
        length: of the signals; with "flatten" it fixes the number of features.
        dtype: of the computation; parameters stay float32.
    """

    widths: tuple[int, ...] = (32, 64, 64)
    kernel_size: int = 5
    strides: tuple[int, ...] = (2, 2, 2)
    norm: str = "batch"
    pool: str = "mean"
    length: int = 40
    dtype: str = "float32"

    head_init = "uniform"

    def __post_init__(self):
        if len(self.strides) != len(self.widths):
            raise ValueError(
                f"Conv1D: strides are {self.strides}, expected one for each of the"
                f" {len(self.widths)} widths"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"Conv1D: kernel_size is {self.kernel_size}, expected an odd number"
            )
        check_choice("Conv1D", "pool", self.pool, ("mean", "flatten"))
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        length = self.length
        for stride in self.strides:
            length = -(-length // stride)
        return self.widths[-1] * (length if self.pool == "flatten" else 1)

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        return not couples_rows(self.norm)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Signals [B, L] or [B, L, C] to features [B, D]."""
        x = inputs[..., None] if inputs.ndim == 2 else inputs
        if x.ndim != 3 or (self.pool == "flatten" and x.shape[1] != self.length):
            raise ValueError(
                f"Conv1D: inputs have shape {inputs.shape}, expected [B, {self.length}]"
                f" or [B, {self.length}, channels]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        side = self.kernel_size // 2
        layers = zip(self.widths, self.strides, strict=True)
        for i, (width, stride) in enumerate(layers, start=1):
            x = nn.Conv(
                width,
                (self.kernel_size,),
                strides=stride,
                padding=((side, side),),
                use_bias=self.norm == "none",
                kernel_init=variance_scaling(2.0, "fan_in", "normal"),
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(norm(x, f"norm{i}"))
        return jnp.mean(x, axis=1) if self.pool == "mean" else x.reshape(len(x), -1)
