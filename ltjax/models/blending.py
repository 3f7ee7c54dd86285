r"""A classifier on several sets of feature maps, blended channel by channel.

.. math:: x = \sum_f w_f \odot x_f, \qquad
          w_{\cdot c} = \mathrm{softmax}_f\, G(x_f)_c

The small network G is the same for every set.

References:
    Meng et al., "Suppress Content Shift: Better Diffusion Features via Off-the-Shelf
    Generation Techniques", NeurIPS 2024, released code ("amalgamation"); its optional
    sparsity term, whose weight is searched at random, is left out.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.norms import make_norm
from ltjax.options import option


def blend(sets: jax.Array, scores: jax.Array) -> jax.Array:
    """The weighted sum of feature maps.

    Args:
        sets: [B, F, h, w, c].
        scores: [B, F, c], whose softmax over F are the weights.

    Returns:
        [B, h, w, c]; the set itself for F = 1 or equal sets.

    Example:
        >>> sets = jnp.stack([jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))], axis=1)
        >>> blend(sets, jnp.zeros((1, 2, 3)))[0, 0, 0].tolist()
        [0.5, 0.5, 0.5]
    """
    weights = jax.nn.softmax(scores, axis=1)
    return jnp.einsum("bfhwc,bfc->bhwc", sets, weights)


class BlendingHead(nn.Module):
    """Feature maps [B, F, h, w, c] to logits; one map [B, h, w, c] is a set of one.

    Attributes:
        num_classes: K.
        pixels: whether each pixel gets logits, [B, h, w, K], or the image, [B, K].
        width: of the gates' convolution.
        dropout: after it; needs `rngs={"dropout": key}`.
    """

    num_classes: int
    pixels: bool = option(False, "whether each pixel is classified")
    width: int = option(128, "of the gates' convolution", low=1)
    dropout: float = option(0.5, "of the gates", low=0, below=1)

    rows_independent = False  # the gates normalize over the batch

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"logits", "blended": [B, h, w, c]}."""
        sets = features if features.ndim == 5 else features[:, None]
        rows, count, *shape = sets.shape
        x = sets.reshape(rows * count, *shape)
        every = None if mask is None else jnp.repeat(mask, count)
        x = nn.relu(nn.Conv(self.width, (3, 3), name="conv")(x))
        x = make_norm("batch", train=train, mask=every)(x, "norm")
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        scores = nn.Dense(shape[-1], name="gates")(jnp.mean(x, axis=(1, 2)))
        blended = blend(sets, scores.reshape(rows, count, -1))
        seen = blended if self.pixels else jnp.mean(blended, axis=(1, 2))
        logits = nn.Dense(self.num_classes, name="classifier")(seen)
        return {"logits": logits, "blended": blended}
