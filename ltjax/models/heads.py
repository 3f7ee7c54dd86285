"""Classifier heads: features [B, D] to (features as the classifier sees them, logits).

Every head is a Linen module `(features, *, train, mask=None) -> (features, logits)`
that computes in float32 and lies under the name "head" in the parameters. Kernels
are [D, K], one column per class.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling
from jax.typing import ArrayLike

from ltjax._checks import check_choice, shape_of
from ltjax._numerics import l2_normalize
from ltjax.classifiers import class_frame, permute_frame, rotate_frame
from ltjax.models.norms import make_norm
from ltjax.options import option


def uniform_fan_in(fan_in: int) -> Callable[..., jax.Array]:
    r"""Initializer U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default.

    Args:
        fan_in: number of inputs of the layer.

    Returns:
        Function (key, shape, dtype) -> array.
    """
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def unit_columns(key, shape, dtype=jnp.float32):
    """Initializer: U(-1, 1), then every column scaled to unit norm.

    Args:
        key: random key.
        shape: (D, K).
        dtype: of the result.

    Returns:
        [D, K].
    """
    return l2_normalize(jax.random.uniform(key, shape, dtype, -1.0, 1.0), axis=0)


def etf_columns(key, shape, dtype=jnp.float32):
    """Initializer: a simplex ETF in random orientation, solved where none fits.

    Args:
        key: random key.
        shape: (D, K).
        dtype: of the result.

    Returns:
        [D, K] with unit columns.
    """
    dim, num_classes = shape
    return jnp.asarray(class_frame(key, dim=dim, num_classes=num_classes), dtype)


FRAMES = {"etf": etf_columns, "random": unit_columns}
KERNEL_INITS = ("auto", "uniform", "he", *FRAMES)


class _Conditioned:
    """A head that may normalize its features over the batch, and to unit length."""

    batch_norm: bool
    normalize: str

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        return not self.batch_norm

    @property
    def affine(self) -> bool:
        """Whether the logits are an affine function of the features."""
        return self.normalize == "none" and not self.batch_norm

    def _condition(self, features, *, train: bool, mask):
        """Features as the classifier sees them."""
        name = type(self).__name__
        check_choice(name, "normalize", self.normalize, ("l2", "none"))
        if self.batch_norm:
            features = make_norm("batch", train=train, mask=mask)(features, "norm")
        if self.normalize == "l2":
            features = l2_normalize(features, floor=1e-8)
        return features


class LinearHead(_Conditioned, nn.Module):
    r"""The ordinary linear classifier, logits = s h W + b.

    Attributes:
        num_classes: K.
        kernel_init: "uniform" (or "auto") for U(+-1/sqrt(D)) (PyTorch's default), "he"
            for N(0, 2/D), untruncated (the published CIFAR residual networks), or a
            name of `FRAMES`: "etf" starts at a simplex ETF and learns on.
        use_bias: whether there is a bias b [K].
        init_bias: "uniform" (or "auto") for U(+-1/sqrt(D)), "sigmoid" for -log(K - 1),
            which makes every one-vs-rest probability 1/K at the start (class-balanced
            sigmoid and focal losses), or a number.
        batch_norm: whether a batch normalization (learned scale and bias) comes first.
        normalize: "l2" for unit features or "none".
        scale: s. Unit features leave the logits' size to the kernel's norm, which
            weight decay holds down; more than 1 makes up for it.

    References:
        K. He et al., Deep residual learning for image recognition, CVPR 2016.
        Y. Cui et al., Class-balanced loss based on effective number of samples,
        CVPR 2019, section 5.1 (initial bias).
    """

    num_classes: int
    kernel_init: str = option(
        "auto",
        "uniform, he, etf or random; auto = what the network is published with",
        choices=KERNEL_INITS,
    )
    use_bias: bool = option(True, "whether there is a bias")
    init_bias: str | float = option(
        "auto", "uniform, sigmoid or a number; auto = what the loss is published with"
    )
    batch_norm: bool = option(False, "whether a batch normalization comes first")
    normalize: str = option("none", "l2 for unit features", choices=("l2", "none"))
    scale: float = option(1.0, "factor of the logits")

    ordinary = True  # with these options

    def __post_init__(self):
        if isinstance(self.init_bias, str):
            choices = ("auto", "uniform", "sigmoid")
            check_choice("LinearHead", "init_bias", self.init_bias, choices)
        super().__post_init__()

    @staticmethod
    def class_vectors(params, frames) -> jax.Array:
        """The kernel [D, K]."""
        return params["kernel"]

    def _bias_init(self, fan_in: int):
        if isinstance(self.init_bias, str):
            if self.init_bias != "sigmoid":
                return uniform_fan_in(fan_in)
            return nn.initializers.constant(-math.log(max(self.num_classes - 1, 1)))
        return nn.initializers.constant(self.init_bias)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None):
        """(features, logits)."""
        features = self._condition(features, train=train, mask=mask)
        dim = features.shape[-1]
        kernel_inits = {
            "auto": uniform_fan_in(dim),
            "uniform": uniform_fan_in(dim),
            "he": variance_scaling(2.0, "fan_in", "normal"),
            **FRAMES,
        }
        check_choice("LinearHead", "kernel_init", self.kernel_init, kernel_inits)
        kernel_init = kernel_inits[self.kernel_init]
        kernel = self.param("kernel", kernel_init, (dim, self.num_classes))
        logits = features @ kernel
        if self.scale != 1.0:
            logits = self.scale * logits
        if self.use_bias:
            bias = self.param("bias", self._bias_init(dim), (self.num_classes,))
            logits = logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))
        return features, logits


class TwoLinearHeads(nn.Module):
    """Two linear classifiers on the same features: "logits", and "branch" [B, P].

    ABC and ACR predict with the second one; ReMixMatch's tells four rotations apart.

    Attributes:
        num_classes: K.
        outputs: P, of the second one; 0 for K.
    """

    num_classes: int
    outputs: int = option(0, "of the second classifier; 0 = the classes", low=0)

    rows_independent = True
    affine = True

    @staticmethod
    def class_vectors(params, frames) -> jax.Array:
        """The kernel [D, K] of the first one."""
        return params["main"]["kernel"]

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None) -> dict[str, jax.Array]:
        """{"logits": [B, K], "branch": [B, P]}."""
        main = LinearHead(self.num_classes, name="main")
        branch = LinearHead(self.outputs or self.num_classes, name="branch")
        return {
            "logits": main(features, train=train, mask=mask)[1],
            "branch": branch(features, train=train, mask=mask)[1],
        }


class CosineHead(nn.Module):
    r"""The normalized linear classifier ("NormedLinear") that LDAM needs.

    .. math:: z_k = \frac{h^\top w_k}{\max(\|h\|, 10^{-12})\max(\|w_k\|, 10^{-12})}

    The logits lie in [-1, 1]; the loss brings the scale. There is no bias. Weight decay
    on the kernel does not change the function but keeps the angles learning: keep it.
    Value and gradient are finite at h = 0.

    Attributes:
        num_classes: K.

    References:
        K. Cao et al., Learning imbalanced datasets with label-distribution-aware margin
        loss, NeurIPS 2019, section 3.4; initialization as in the official code.
    """

    num_classes: int

    rows_independent = True

    @staticmethod
    def class_vectors(params, frames) -> jax.Array:
        """The columns [D, K] at unit norm, as the cosines see them."""
        return l2_normalize(params["kernel"], axis=0)

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None):
        """(features, cosines)."""
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param("kernel", unit_columns, shape)
        return features, l2_normalize(features) @ l2_normalize(kernel, axis=0)


class FrameHead(_Conditioned, nn.Module):
    r"""A fixed classifier: logits = s h M with a frame M [D, K] (ETF classifier).

    The frame is not a parameter: it lies in the collection "frames" of the model state,
    so that it gets no gradient and no decay but is saved. The features that the head
    returns are those the frame sees; dot regression takes them together with the frame.

    Attributes:
        num_classes: K.
        frame: a name of `FRAMES`, a [D, K] array, or a function (key, (D, K)) ->
            array.
        batch_norm: whether a batch normalization (learned scale and bias) comes first.
        normalize: "l2" for unit features (floor 1e-8 on the norm) or "none".
        scale: s, the square root of the norm budgets' product. Dot regression does not
            see it; cross-entropy of unit features needs more than 1 to be confident.
        seed: of a named frame; with -1 it comes from that of the run, and changes
            together with the parameters at the start.
        permutation: seed of the order in which classes get the vectors; 0 for that of
            the frame.
        rotation: seed of a further rotation; 0 for none.

    References:
        Y. Yang et al., Inducing neural collapse in imbalanced learning: do we really
        need a learnable classifier at the end of deep neural network?, NeurIPS 2022,
        equation 2. Batch and l2 normalization before the frame are in the official
        code, not in the paper; its ImageNet head has no l2 normalization. Permuted and
        rotated frames: see `ltjax.classifiers.rotate_frame`.
    """

    num_classes: int
    frame: str | ArrayLike | Callable[..., ArrayLike] = option(
        "etf", "the class vectors", choices=FRAMES
    )
    batch_norm: bool = option(True, "whether a batch normalization comes first")
    normalize: str = option("l2", "l2 for unit features", choices=("l2", "none"))
    scale: float = option(1.0, "factor of the logits")
    seed: int = option(-1, "of the frame; -1 = that of the run", low=-1)
    permutation: int = option(
        0, "seed of the order in which classes get its vectors; 0 = its own", low=0
    )
    rotation: int = option(0, "seed of a further rotation; 0 = none", low=0)

    def __post_init__(self):
        if isinstance(self.frame, str):
            check_choice("FrameHead", "frame", self.frame, FRAMES)
        super().__post_init__()

    @staticmethod
    def class_vectors(params, frames) -> jax.Array:
        """The frame [D, K]."""
        return frames["frame"]

    @nn.compact
    def __call__(self, features, *, train: bool, mask=None):
        """(features, logits)."""
        features = self._condition(features, train=train, mask=mask)
        expected = (features.shape[-1], self.num_classes)

        def build():
            frame = FRAMES[self.frame] if isinstance(self.frame, str) else self.frame
            if callable(frame):
                own = self.seed >= 0
                key = jax.random.key(self.seed) if own else self.make_rng("params")
                frame = frame(key, expected)
            if shape_of(frame) != expected:
                raise ValueError(
                    f"FrameHead: frame has shape {shape_of(frame)}, expected"
                    f" {expected} (features, classes)"
                )
            if self.permutation:
                frame, _ = permute_frame(self.permutation, frame)
            if self.rotation:
                frame = rotate_frame(self.rotation, frame)
            return jnp.asarray(frame, jnp.float32)

        frame = self.variable("frames", "frame", build).value
        return features, self.scale * (features @ frame)
