"""Small convolutional networks: signals (MNIST-1D) and small images (MNIST)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling

from ltjax._checks import check_choice
from ltjax.models.norms import DTYPES, NORMS, Normalized, make_norm
from ltjax.options import option


class _StridedConvs(Normalized, nn.Module):
    """Strided convolutions, each followed by normalization and ReLU, then pooling."""

    widths: tuple[int, ...] = option((32, 64, 64), "channels of the layers", low=1)
    strides: tuple[int, ...] = option((2, 2, 2), "one per layer", low=1)
    kernel_size: int = option(5, "odd, of every layer", low=1)
    norm: str = option("batch", "normalization", choices=NORMS)
    pool: str = option("mean", "over the positions", choices=("mean", "flatten"))
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"
    rank: ClassVar[int]  # axes that are convolved

    def __post_init__(self):
        name = type(self).__name__
        if len(self.strides) != len(self.widths):
            raise ValueError(
                f"{name}: strides are {self.strides}, expected one for each of the"
                f" {len(self.widths)} widths"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"{name}: kernel_size is {self.kernel_size}, expected an odd number"
            )
        check_choice(name, "pool", self.pool, ("mean", "flatten"))
        super().__post_init__()

    @property
    def extent(self) -> int:
        """Length of every convolved axis."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """Width of the features."""
        extent = self.extent
        for stride in self.strides:
            extent = -(-extent // stride)
        return self.widths[-1] * (extent**self.rank if self.pool == "flatten" else 1)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Inputs [B, *axes] or [B, *axes, C] to features [B, D]."""
        rank, axes = self.rank, (self.extent,) * self.rank
        x = inputs[..., None] if inputs.ndim == rank + 1 else inputs
        fits = x.shape[1:-1] == axes or self.pool == "mean"
        if x.ndim != rank + 2 or not fits:
            shape = ", ".join(map(str, axes))
            raise ValueError(
                f"{type(self).__name__}: inputs have shape {inputs.shape}, expected"
                f" [B, {shape}] or [B, {shape}, C]"
            )
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        side = self.kernel_size // 2
        layers = zip(self.widths, self.strides, strict=True)
        for i, (width, stride) in enumerate(layers, start=1):
            x = nn.Conv(
                width,
                (self.kernel_size,) * rank,
                strides=stride,
                padding=((side, side),) * rank,
                use_bias=self.norm == "none",
                kernel_init=variance_scaling(2.0, "fan_in", "normal"),
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = nn.relu(norm(x, f"norm{i}"))
        if self.pool == "flatten":
            return x.reshape(len(x), -1)
        return jnp.mean(x, axis=tuple(range(1, rank + 1)))


class Conv1D(_StridedConvs):
    """Three convolutions for one-dimensional signals.

    Attributes:
        widths: channels of the layers.
        strides: one per layer.
        kernel_size: odd, of every layer; padded by half of it on both sides.
        norm: "batch", "group", "layer", "frozen" or "none".
        pool: "mean" averages over positions, which suits the randomly shifted digits
            of MNIST-1D, "flatten" keeps them.
        dtype: of the computation; parameters stay float32.
        length: of the signals; with "flatten" it fixes the number of features.
    """

    length: int = option(40, "of the signals; only 'flatten' needs it", low=1)

    rank = 1

    @property
    def extent(self) -> int:
        """Length of the signals."""
        return self.length


class Conv2D(_StridedConvs):
    """Three convolutions for 28x28 and 32x32 images.

    Attributes:
        widths: channels of the layers; the last one is the number of features.
        strides: one per layer.
        kernel_size: odd, of every layer; padded by half of it on every side.
        norm: "batch", "group", "layer", "frozen" or "none".
        pool: "flatten" keeps the positions, which suits centered digits, "mean"
            averages over them.
        dtype: of the computation; parameters stay float32.
        size: height and width of the images; with "flatten" it fixes the number of
            features.
    """

    widths: tuple[int, ...] = option((16, 32, 64), "channels of the layers", low=1)
    pool: str = option("flatten", "over the positions", choices=("mean", "flatten"))
    size: int = option(28, "of the images; only 'flatten' needs it", low=1)

    rank = 2

    @property
    def extent(self) -> int:
        """Height and width of the images."""
        return self.size
