"""A small U-Net that sees the noise in an image, and the head that tells it.

What it is asked about comes as a dict: "image" [B, H, W, C], "time" [B] and optionally
"label" [B] (a class, or -1 for none) and "control" [B, H, W, 1]
(edges, say). A bare image is one without noise: time 0, no label, no control.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import zeros_init

from ltjax.models.forward import Activation
from ltjax.models.low_rank import LOW_RANK, with_low_rank
from ltjax.models.norms import DTYPES, make_norm
from ltjax.models.own_control import CONTROL, with_own_control
from ltjax.options import option


def time_code(time: jax.Array, width: int) -> jax.Array:
    """Sines and cosines of a step [B] at geometric wavelengths, [B, width]."""
    half = width // 2
    rates = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / half)
    phase = time.astype(jnp.float32)[:, None] * rates[None, :]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


class _Part(nn.Module):
    """What the blocks share."""

    dtype: str

    def norm(self, x, name: str):
        return nn.silu(make_norm("group", train=False, dtype=self.dtype)(x, name))

    def conv(self, x, width: int, name: str, size: int = 3, **options):
        return nn.Conv(width, (size, size), dtype=self.dtype, name=name, **options)(x)


class _Block(_Part):
    """A residual block that is told the time and the label."""

    width: int

    @nn.compact
    def __call__(self, x, told):
        y = self.conv(self.norm(x, "norm1"), self.width, "conv1")
        shift = nn.Dense(self.width, dtype=self.dtype, name="told")(nn.silu(told))
        y = self.norm(y + shift[:, None, None, :], "norm2")
        y = self.conv(y, self.width, "conv2", kernel_init=zeros_init())
        if x.shape[-1] != self.width:
            x = self.conv(x, self.width, "skip", 1)
        return x + y


class _Attention(_Part):
    """Self-attention over all positions, one head."""

    @nn.compact
    def __call__(self, x):
        batch, height, width, channels = x.shape
        y = make_norm("group", train=False, dtype=self.dtype)(x, "norm")
        y = y.reshape(batch, height * width, channels)
        query, key, value = (
            nn.Dense(channels, dtype=self.dtype, name=name)(y)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bic,bjc->bij", query, key) / channels**0.5
        y = jnp.einsum("bij,bjc->bic", nn.softmax(scores), value)
        out = nn.Dense(channels, kernel_init=zeros_init(), dtype=self.dtype, name="out")
        return x + out(y).reshape(x.shape)


class _Level(_Part):
    """A block, with attention where the image is small."""

    width: int
    attends: int

    @nn.compact
    def __call__(self, x, told):
        x = _Block(self.dtype, self.width, name="block")(x, told)
        if max(x.shape[1:3]) <= self.attends:
            x = _Attention(self.dtype, name="attention")(x)
        return x


class Encoder(_Part):
    """The way down: what every level hands over, and the bottom."""

    widths: tuple[int, ...]
    attends: int

    @nn.compact
    def __call__(self, image, told, hint: Any = 0.0):
        """`hint` is added to what the first convolution makes of the image."""
        x = self.conv(image, self.widths[0], "stem") + hint
        kept = []
        for k, width in enumerate(self.widths):
            x = _Level(self.dtype, width, self.attends, name=f"down{k}")(x, told)
            kept.append(x)
            if k + 1 < len(self.widths):
                x = self.conv(x, width, f"halve{k}", strides=2)
        return kept, _Level(self.dtype, x.shape[-1], self.attends, name="bottom")(
            x, told
        )


class Control(_Part):
    """A copy of the encoder that sees a control image; zero when it is new.

    References:
        Zhang, Rao, Agrawala, "Adding Conditional Control to Text-to-Image Diffusion
        Models", ICCV 2023: zero convolutions before and after the copy.
    """

    widths: tuple[int, ...]
    attends: int

    @nn.compact
    def __call__(self, image, told, control):
        """What is added to each level, and to the bottom."""
        zero = {"kernel_init": zeros_init()}
        hint = nn.silu(self.conv(control, self.widths[0], "hint1"))
        hint = self.conv(hint, self.widths[0], "hint2", 1, **zero)
        encoder = Encoder(self.dtype, self.widths, self.attends, name="encoder")
        kept, bottom = encoder(image, told, hint)
        more = [
            self.conv(x, x.shape[-1], f"out{k}", 1, **zero) for k, x in enumerate(kept)
        ]
        return more, self.conv(bottom, bottom.shape[-1], "out_bottom", 1, **zero)


class DiffusionUNet(nn.Module):
    """Predicts features of the noise in an image, at full resolution.

    Attributes:
        width: channels at full resolution; must be even.
        multipliers: width of each level in units of it; every level halves the sides.
        attends: largest side at which a level has attention.
        labels: classes that can be told.
        control: whether there is a second encoder for a control image. Its parameters
            lie at the top level under "control".
        low_rank: rank of updates of attention and 1 x 1 convolutions, which lie at
            the top level under "low_rank"; 0 = none.
        norm: "group"; there is no other.
        dtype: of the computation; parameters stay float32.

    References:
        Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020,
        with one block a level; Ho and Salimans, "Classifier-Free Diffusion Guidance",
        2022, for the label.
    """

    width: int = option(64, "channels at full resolution, even", low=2)
    multipliers: tuple[int, ...] = option(
        (1, 2, 2), "width of each level; each one halves the sides", low=1
    )
    attends: int = option(8, "largest side of a level with attention", low=0)
    labels: int = option(10, "classes that can be told", low=1)
    control: bool = option(False, "whether a second encoder sees a control image")
    low_rank: int = option(0, "rank of updates of the weights; 0 = none", low=0)
    norm: str = option("group", "normalization", choices=("group",))
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"
    rows_independent = True
    dense = True  # a feature for every pixel

    def __post_init__(self):
        if self.width % 2 or not self.multipliers:
            raise ValueError(
                f"DiffusionUNet: width is {self.width} and multipliers"
                f" {self.multipliers}, expected an even width and a level at least"
            )
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features of a pixel."""
        return self.width * self.multipliers[0]

    @property
    def adapters(self) -> tuple[str, ...]:
        """Modules that `wrap` puts at the top level of the parameters."""
        return (CONTROL,) * self.control + (LOW_RANK,) * bool(self.low_rank)

    def wrap(self, model: Any) -> Any:
        """The model with its adapters at the top level of the parameters."""
        if self.control:
            model = with_own_control(model)
        return with_low_rank(model, rank=self.low_rank) if self.low_rank else model

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C], or a dict of them and conditions, to [B, H, W, D]."""
        asked = dict(inputs) if isinstance(inputs, Mapping) else {"image": inputs}
        image, factor = asked["image"], 2 ** (len(self.multipliers) - 1)
        if image.ndim != 4 or any(side % factor for side in image.shape[1:3]):
            raise ValueError(
                f"DiffusionUNet: inputs have shape {image.shape}, expected [B, H, W, C]"
                f" with H and W multiples of {factor}"
            )
        widths = tuple(self.width * m for m in self.multipliers)
        told = self.told(asked, len(image))
        encoder = Encoder(self.dtype, widths, self.attends, name="encoder")
        kept, x = encoder(image, told)
        if self.control and ("control" in asked or self.is_initializing()):
            control = asked.get("control", jnp.zeros((*image.shape[:3], 1)))
            second = Control(self.dtype, widths, self.attends, name="control")
            more, bottom = second(image, told, control)
            kept, x = [a + b for a, b in zip(kept, more, strict=True)], x + bottom
        x = Activation(name="bottom")(x)
        for k in reversed(range(len(widths))):
            if k + 1 < len(widths):
                batch, height, width, channels = x.shape
                shape = (batch, 2 * height, 2 * width, channels)
                x = jax.image.resize(x, shape, method="nearest")
                x = nn.Conv(widths[k], (3, 3), dtype=self.dtype, name=f"double{k}")(x)
            x = jnp.concatenate([x, kept[k]], axis=-1)
            x = _Level(self.dtype, widths[k], self.attends, name=f"level{k}")(x, told)
            x = Activation(name=f"up{k}")(x)
        return nn.silu(make_norm("group", train=False, dtype=self.dtype)(x, "norm"))

    def told(self, asked: Mapping[str, Any], rows: int) -> jax.Array:
        """[B, 4 width] of the time and the label."""
        time = jnp.broadcast_to(asked.get("time", jnp.zeros(rows)), (rows,))
        label = jnp.broadcast_to(asked.get("label", jnp.full(rows, -1)), (rows,))
        label = jnp.where(label < 0, self.labels, label)
        wide = 4 * self.width
        x = nn.Dense(wide, dtype=self.dtype, name="time1")(time_code(time, self.width))
        x = nn.Dense(wide, dtype=self.dtype, name="time2")(nn.silu(x))
        return x + nn.Embed(self.labels + 1, wide, dtype=self.dtype, name="label")(
            label
        )


class NoiseHead(nn.Module):
    """The predicted noise of every pixel, from features.

    Attributes:
        channels: of the images.
    """

    num_classes: int = 0  # a head is told; this one has none
    channels: int = option(1, "of the images", low=1)

    rows_independent = True

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"noise": [B, H, W, C]}, zero when the network is new."""
        conv = nn.Conv(self.channels, (3, 3), kernel_init=zeros_init(), name="noise")
        return {"noise": conv(features)}
