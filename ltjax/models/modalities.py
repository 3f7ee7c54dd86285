"""Several modalities: an encoder for each, and a head that adds up what they say.

References:
    Hua et al., "ReconBoost: Boosting Can Achieve Modality Reconcilement", ICML 2024,
    and the released code, for the head and the boost rate.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.heads import LinearHead
from ltjax.models.mlp import MLP
from ltjax.models.norms import DTYPES, NORMS, Normalized
from ltjax.models.small_conv import Conv1D, Conv2D
from ltjax.options import option


class Modalities(Normalized, nn.Module):
    """An encoder for each modality, side by side.

    Images go through two-dimensional convolutions, signals through one-dimensional
    ones, feature vectors through dense layers. Features are those of the modalities,
    in the order of `names`; the encoder of each is a module of its name.

    Attributes:
        names: of the modalities, the keys of the inputs.
        widths: of the layers of every encoder.
        norm: "batch", "group", "layer", "frozen" or "none".
        dtype: of the computation; parameters stay float32.
    """

    names: tuple[str, ...] = option(("image", "signal"), "of the modalities, in order")
    widths: tuple[int, ...] = option((32, 64, 64), "of every encoder's layers", low=1)
    norm: str = option("batch", "normalization", choices=NORMS)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"

    def __post_init__(self):
        if len(set(self.names)) < max(len(self.names), 2):
            raise ValueError(
                f"Modalities: names are {self.names}, expected two or more different"
                " names"
            )
        super().__post_init__()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self.names

    @property
    def num_features(self) -> int:
        """Width of the features of all modalities."""
        return len(self.names) * self.widths[-1]

    def _encoder(self, name: str, rank: int) -> nn.Module:
        shared: dict[str, Any] = {"norm": self.norm, "dtype": self.dtype, "name": name}
        if rank == 2:
            return MLP(hidden=self.widths, **shared)
        strides = (2,) * len(self.widths)
        conv = Conv1D if rank == 3 else Conv2D
        return conv(widths=self.widths, strides=strides, pool="mean", **shared)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None) -> jax.Array:
        """A dict of inputs [B, ...] to features [B, M D]."""
        found = sorted(inputs) if isinstance(inputs, Mapping) else "one array"
        if found != sorted(self.names):
            raise ValueError(
                f"Modalities: inputs are {found}, expected a dict of"
                f" {', '.join(map(repr, self.names))} (model.names)"
            )
        return jnp.concatenate(
            [
                self._encoder(name, inputs[name].ndim)(
                    inputs[name], train=train, mask=mask
                )
                for name in self.names
            ],
            axis=-1,
        )


class FusionHead(nn.Module):
    r"""Logits of each modality, and their sum times a learned rate.

    .. math:: z = \rho \sum_m \phi_m

    Attributes:
        num_classes: K.
        num_modalities: M, number of equal parts of the features.
        hidden: width of a dense layer before the classifier; 0 for none.
        shared: whether one classifier (and hidden layer) serves all modalities;
            otherwise each has its own.
    """

    num_classes: int
    num_modalities: int = option(2, "M, equal parts of the features", low=2)
    hidden: int = option(256, "width of a dense layer before; 0 = none", low=0)
    shared: bool = option(True, "one classifier for all modalities, or one for each")

    rows_independent = True

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> Mapping[str, jax.Array]:
        """{"logits" [B, K], "modality_logits" [B, M, K], "boost_rate" [B]}."""
        if features.shape[-1] % self.num_modalities:
            raise ValueError(
                f"FusionHead: there are {features.shape[-1]} features, expected a"
                f" multiple of num_modalities = {self.num_modalities}"
            )
        parts = jnp.stack(jnp.split(features, self.num_modalities, axis=-1), axis=1)
        if self.shared:
            logits = self._classified(parts, "", train)
        else:
            logits = jnp.stack(
                [
                    self._classified(parts[:, m], f"{m + 1}", train)
                    for m in range(self.num_modalities)
                ],
                axis=1,
            )
        rate = self.param("boost_rate", nn.initializers.ones, ())
        return {
            "logits": rate * jnp.sum(logits, axis=1),
            "modality_logits": logits,
            "boost_rate": jnp.broadcast_to(rate, features.shape[:1]),
        }

    def _classified(self, x, suffix: str, train: bool) -> jax.Array:
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, name=f"hidden{suffix}")(x))
        head = LinearHead(self.num_classes, name=f"classifier{suffix}")
        return head(x, train=train)[1]
