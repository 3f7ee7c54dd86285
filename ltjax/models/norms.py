"""One factory for the normalization layers of every backbone.

Batch normalization couples the rows of a batch; the other kinds do not, which is what
running only the tail rows of a batch (ImbSAM, SSE-SAM) needs.

PyTorch keeps the unbiased batch variance in its running average, Flax the biased one:
they differ by m / (m - 1), where m counts the rows and positions of a batch.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax._checks import check_choice

NORMS = ("batch", "group", "layer", "frozen", "none")
DTYPES = ("float32", "bfloat16")  # of the computation; parameters stay float32


def check_norm(caller: str, kind: str) -> None:
    """Checks that `kind` is one of `NORMS`.

    Args:
        caller: name for the message.
        kind: name of a normalization.

    Raises:
        ValueError: if it is not.
    """
    check_choice(caller, "norm", kind, NORMS)


def couples_rows(kind: str) -> bool:
    """Whether, in train mode, the output of a row depends on the other rows.

    Args:
        kind: one of `NORMS`.

    Returns:
        True for "batch" only.

    Example:
        >>> couples_rows("batch"), couples_rows("frozen")
        (True, False)
    """
    check_norm("couples_rows", kind)
    return kind == "batch"


class Normalized:
    """A network whose examples can meet in its normalization layers only."""

    norm: str

    @property
    def rows_independent(self) -> bool:
        """Whether train mode couples no two examples."""
        return not couples_rows(self.norm)


def num_groups(channels: int) -> int:
    """Groups for group normalization: at most 32, of at least 4 channels if possible.

    The 32 of the paper would leave groups of one channel (instance normalization) in
    the 16 to 64 channels of small networks.

    Args:
        channels: width of the layer.

    Returns:
        A divisor of `channels`.

    Example:
        >>> [num_groups(c) for c in (6, 16, 64, 512)]
        [1, 4, 16, 32]

    References:
        Y. Wu, K. He, Group normalization, ECCV 2018.
    """
    most = min(32, max(1, channels // 4))
    return max(g for g in range(1, most + 1) if channels % g == 0)


def make_norm(
    kind: str,
    *,
    train: bool,
    mask: jax.Array | None = None,
    dtype=None,
    decay: float = 0.9,
) -> Callable[..., jax.Array]:
    """Makes the normalization function of a compact Linen method.

    Args:
        kind: "batch" (epsilon 1e-5, running averages r <- d r + (1 - d) batch),
            "group", "layer" (each example over its channels, at each position),
            "frozen" (batch normalization that uses its running averages in train mode
            too, for fine-tuning), "none" (identity).
        train: whether "batch" takes the statistics of the batch, and updates its
            averages.
        mask: [B] bool, True = real; other rows do not count in the statistics of
            "batch". If no row is real, all count (they are zeros).
        dtype: of the result; the statistics are taken in at least float32.
        decay: d, of the running averages.

    Returns:
        `norm(x, name, **options)`, to be called inside a compact method: normalizes x
        [B, ..., C] with parameters "scale" and "bias" [C] under `name`; options are
        those of the Linen layer (`scale_init`, ...).

    Raises:
        ValueError: if `kind` is unknown.
    """
    check_norm("make_norm", kind)

    def batch_norm(x, name, **options):
        layer = nn.BatchNorm(
            use_running_average=not train or kind == "frozen",
            momentum=decay,
            epsilon=1e-5,
            dtype=dtype,
            name=name,
            **options,
        )
        if mask is None:
            return layer(x)
        counted = mask | ~jnp.any(mask)
        return layer(x, mask=counted.reshape(counted.shape + (1,) * (x.ndim - 1)))

    def group_norm(x, name, **options):
        groups = num_groups(x.shape[-1])
        return nn.GroupNorm(
            num_groups=groups, epsilon=1e-5, dtype=dtype, name=name, **options
        )(x)

    def layer_norm(x, name, **options):
        return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name=name, **options)(x)

    def identity(x, name, **options):
        return x

    return {
        "batch": batch_norm,
        "frozen": batch_norm,
        "group": group_norm,
        "layer": layer_norm,
        "none": identity,
    }[kind]
