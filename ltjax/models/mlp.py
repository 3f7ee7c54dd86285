"""Multilayer perceptron for feature vectors and small inputs."""

import flax.linen as nn
from flax.linen.initializers import variance_scaling

from ltjax.models.norms import DTYPES, NORMS, Normalized, make_norm
from ltjax.options import option


class MLP(Normalized, nn.Module):
    """Dense layers, each followed by normalization, ReLU and dropout.

    Inputs of any rank are flattened. Kernels start as N(0, 2/fan_in), biases at 0.

    Attributes:
        hidden: widths of the layers; the last one is the number of features.
        norm: "none", "batch", "layer", "group" or "frozen".
        dropout: probability of dropping a unit; needs `rngs={"dropout": key}`.
        dtype: of the computation; parameters stay float32.
    """

    hidden: tuple[int, ...] = option((256, 256), "widths of the layers", low=1)
    norm: str = option("none", "normalization", choices=NORMS)
    dropout: float = option(0.0, "probability of dropping a unit", low=0, below=1)
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.hidden[-1]

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Inputs [B, ...] to features [B, D]."""
        norm = make_norm(self.norm, train=train, mask=mask, dtype=self.dtype)
        x = inputs.reshape(inputs.shape[0], -1)
        for i, width in enumerate(self.hidden, start=1):
            x = nn.Dense(
                width,
                use_bias=self.norm == "none",
                kernel_init=variance_scaling(2.0, "fan_in", "normal"),
                dtype=self.dtype,
                name=f"dense{i}",
            )(x)
            x = nn.relu(norm(x, f"norm{i}"))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x
