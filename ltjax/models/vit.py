"""Vision Transformers, pre-norm, with a class token, mean pooling, or all pixels."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import normal, xavier_uniform, zeros_init

from ltjax._checks import check_choice
from ltjax.models.norms import DTYPES
from ltjax.options import option


def quick_gelu(x: jax.Array) -> jax.Array:
    """The product x sigmoid(1.702 x), the approximation that CLIP was trained with."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATIONS = {
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "gelu": functools.partial(nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
}


POOLS = ("cls", "mean", "pixels")


class _Block(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)), each branch scaled if asked for."""

    num_heads: int
    mlp_width: int
    dropout: float
    activation: str
    eps: float
    layer_scale: float
    dtype: str

    @nn.compact
    def __call__(self, x, *, train: bool):
        def drop(y):
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        def scaled(y, name):
            if not self.layer_scale:
                return y
            start = nn.initializers.constant(self.layer_scale)
            scale = self.param(name, start, (x.shape[-1],))
            return y * scale.reshape((1,) * (y.ndim - 1) + (-1,)).astype(y.dtype)

        activation = ACTIVATIONS[self.activation]
        y = nn.LayerNorm(epsilon=self.eps, dtype=self.dtype, name="norm1")(x)
        y = nn.MultiHeadDotProductAttention(
            self.num_heads,
            kernel_init=xavier_uniform(),
            dtype=self.dtype,
            name="attention",
        )(y)
        x = x + scaled(drop(y), "scale1")
        y = nn.LayerNorm(epsilon=self.eps, dtype=self.dtype, name="norm2")(x)
        for name, width in (("dense1", self.mlp_width), ("dense2", x.shape[-1])):
            y = nn.Dense(
                width,
                kernel_init=xavier_uniform(),
                bias_init=normal(1e-6),
                dtype=self.dtype,
                name=name,
            )(y)
            y = drop(activation(y) if name == "dense1" else y)
        return x + scaled(y, "scale2")


class ViT(nn.Module):
    """The Vision Transformer for images of one size.

    Attributes:
        patch: height and width of a patch; must divide the images'.
        width: of the tokens, and the number of features.
        depth: blocks.
        num_heads: of the attention; must divide the width.
        mlp_ratio: hidden width of a block's MLP over the token width.
        pool: "cls" takes a class token, "mean" the mean over patches, "pixels" gives a
            feature for every pixel: its patches' ones, bilinear. The last two have no
            such token.
        dropout: probability of dropping a unit; needs `rngs={"dropout": key}`.
        activation: of the MLPs, a key of `ACTIVATIONS`. The authors' JAX code has the
            tanh form of GELU, PyTorch's networks the exact one, CLIP's `quick_gelu`.
        eps: of every layer normalization; 1e-6, in CLIP 1e-5.
        input_norm: whether a layer normalization comes before the first block (CLIP).
        patch_bias: whether the patches' convolution has a bias (not in CLIP).
        layer_scale: start of a learned scale of each channel on both branches of every
            block (DINOv2: 1e-5); 0 = none.
        projection: width of a last linear layer without bias (CLIP); 0 = none.
        norm: "layer"; there is no other.
        dtype: of the computation; parameters stay float32.

    References:
        A. Dosovitskiy et al., An image is worth 16x16 words: transformers for image
        recognition at scale, ICLR 2021; initialization as in the authors' code.
        A. Radford et al., Learning transferable visual models from natural language
        supervision, ICML 2021 (`input_norm`, `projection`, `quick_gelu`).
        H. Touvron et al., Going deeper with image transformers, ICCV 2021
        (`layer_scale`).
        R. Strudel et al., Segmenter: transformer for semantic segmentation, ICCV 2021,
        the linear decoder (`pool="pixels"`): a linear head commutes with the bilinear
        map, so that logits of patches may as well be computed at the pixels.
    """

    patch: int = option(4, "side of a patch in pixels", low=1)
    width: int = option(192, "of the tokens", low=1)
    depth: int = option(12, "number of blocks", low=1)
    num_heads: int = option(3, "of the attention; divides the width", low=1)
    mlp_ratio: float = option(4.0, "width of the MLP per width", above=0)
    pool: str = option(
        "cls", "token, mean, or a feature for every pixel", choices=POOLS
    )
    dropout: float = option(0.0, "probability of dropping a unit", low=0, below=1)
    activation: str = option("gelu_tanh", "of the MLPs", choices=ACTIVATIONS)
    eps: float = option(1e-6, "of the layer normalizations", above=0)
    input_norm: bool = option(False, "a normalization before the first block (CLIP)")
    patch_bias: bool = option(True, "whether the patches' convolution has a bias")
    layer_scale: float = option(0.0, "start of the branches' scales; 0 = none", low=0)
    projection: int = option(0, "width of a last linear layer; 0 = none", low=0)
    norm: str = option("layer", "normalization", choices=("layer",))
    dtype: str = option("float32", "of the computation", choices=DTYPES)

    head_init = "uniform"
    rows_independent = True

    def __post_init__(self):
        check_choice("ViT", "norm", self.norm, ("layer",))
        check_choice("ViT", "pool", self.pool, POOLS)
        check_choice("ViT", "activation", self.activation, ACTIVATIONS)
        if self.width % self.num_heads:
            raise ValueError(
                f"ViT: width is {self.width}, expected a multiple of num_heads ="
                f" {self.num_heads}"
            )
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.projection or self.width

    @property
    def dense(self) -> bool:
        """Whether there is a feature for every pixel."""
        return self.pool == "pixels"

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of the parameters from the input on, those of one depth together."""
        blocks = ((f"block{k}",) for k in range(1, self.depth + 1))
        token = ("token",) if self.pool == "cls" else ()
        norm = ("input_norm",) if self.input_norm else ()
        projection = ("projection",) if self.projection else ()
        first = ("patches", *token, "positions", *norm)
        return first, *blocks, ("norm", *projection)

    @nn.compact
    def __call__(self, inputs, *, train: bool, mask=None):
        """Images [B, H, W, C] to features [B, D], with "pixels" [B, H, W, D]."""
        sides = inputs.shape[1:3]
        if inputs.ndim != 4 or any(side % self.patch for side in sides):
            raise ValueError(
                f"ViT: inputs have shape {inputs.shape}, expected [B, H, W, C] with H"
                f" and W multiples of the patch, {self.patch}"
            )
        patches = nn.Conv(
            self.width,
            (self.patch, self.patch),
            strides=self.patch,
            padding="VALID",
            use_bias=self.patch_bias,
            dtype=self.dtype,
            name="patches",
        )(inputs)
        x = patches.reshape(len(inputs), -1, self.width)
        if self.pool == "cls":
            token = self.param("token", zeros_init(), (1, 1, self.width))
            token = jnp.broadcast_to(token, (len(x), 1, self.width))
            x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        shape = (1, x.shape[1], self.width)
        x = x + self.param("positions", normal(0.02), shape).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        norm = functools.partial(nn.LayerNorm, epsilon=self.eps, dtype=self.dtype)
        if self.input_norm:
            x = norm(name="input_norm")(x)
        for k in range(1, self.depth + 1):
            x = _Block(
                self.num_heads,
                int(self.mlp_ratio * self.width),
                self.dropout,
                self.activation,
                self.eps,
                self.layer_scale,
                self.dtype,
                name=f"block{k}",
            )(x, train=train)
        x = norm(name="norm")(x)
        if not self.dense:
            x = x[:, 0] if self.pool == "cls" else jnp.mean(x, axis=1)
        if self.projection:
            x = nn.Dense(
                self.projection, use_bias=False, dtype=self.dtype, name="projection"
            )(x)
        if not self.dense:
            return x
        grid = x.reshape(*patches.shape[:3], self.num_features)
        return jax.image.resize(
            grid, (*inputs.shape[:3], self.num_features), "bilinear"
        )
