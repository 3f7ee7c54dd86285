r"""How far a generative network drifts from the image that it was given.

Its features are taken from a noised image, so that it imagines details that the image
did not have. The drift of a regenerated image says how much, and how far a technique
that steers the network is worth using (GATE).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_range,
    check_rank,
    check_seed,
    check_whole,
    dtype_of,
    shape_of,
)
from ltjax._numerics import l2_normalize


def sobel_edges(images: ArrayLike) -> jax.Array:
    """Sobel gradient magnitudes of the mean channel, 1 at each image's strongest.

    Args:
        images: [B, H, W, C] float.

    Returns:
        [B, H, W] float32 in [0, 1]; zeros for a constant image. Pixels beyond the
        border are those on it.

    Raises:
        ValueError: if images do not have four axes.

    Example:
        >>> sobel_edges(jnp.array([0.0, 0, 1, 1]).reshape(1, 1, 4, 1)).tolist()
        [[[0.0, 1.0, 1.0, 0.0]]]
    """
    check_rank("sobel_edges", "images", images, 4, "[B, H, W, C]")
    if 0 in shape_of(images)[1:]:
        raise ValueError(
            f"sobel_edges: images have shape {shape_of(images)}, expected at least one"
            " pixel and channel each"
        )
    gray = jnp.mean(jnp.asarray(images, jnp.float32), axis=-1)
    x = jnp.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    columns = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    across = rows[:, :, 2:] - rows[:, :, :-2]
    down = columns[:, 2:] - columns[:, :-2]
    size = jnp.sqrt(jnp.square(across) + jnp.square(down))
    largest = jnp.max(size, axis=(1, 2), keepdims=True)
    return size / jnp.where(largest > 0, largest, 1.0)


def edge_f1(images: ArrayLike, others: ArrayLike, *, threshold: float = 0.3):
    """F1 of the edge pixels of one image as a prediction of another's.

    Args:
        images: [B, H, W, C] float.
        others: [B, H, W, C] float.
        threshold: an edge is where `sobel_edges` exceed it.

    Returns:
        [B] float32; 1 if neither has an edge.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> x = jnp.array([0.0, 0, 1, 1]).reshape(1, 1, 4, 1)
        >>> edge_f1(x, x[:, :, ::-1]).tolist(), edge_f1(x, jnp.zeros_like(x)).tolist()
        ([1.0], [0.0])
    """
    _same_shape("edge_f1", images=images, others=others)
    first, second = (sobel_edges(x) > threshold for x in (images, others))
    both = jnp.sum(first & second, axis=(1, 2))
    total = jnp.sum(first, axis=(1, 2)) + jnp.sum(second, axis=(1, 2))
    return jnp.where(total > 0, 2 * both / jnp.maximum(total, 1), 1.0)


def peak_signal_to_noise(images: ArrayLike, others: ArrayLike, *, peak: float = 1.0):
    r"""PSNR in decibels, :math:`10 \log_{10}(peak^2 / \mathrm{MSE})`.

    Args:
        images: [B, ...] float.
        others: [B, ...] float.
        peak: largest difference that two pixels can have.

    Returns:
        [B] float32, infinite for equal images.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> peak_signal_to_noise(jnp.zeros((1, 4)), jnp.full((1, 4), 0.1)).tolist()
        [20.0]
    """
    _same_shape("peak_signal_to_noise", images=images, others=others)
    away = jnp.asarray(images, jnp.float32) - jnp.asarray(others, jnp.float32)
    error = jnp.mean(jnp.square(away), axis=tuple(range(1, away.ndim)))
    return 10 * jnp.log10(peak**2 / error)


def drift(features: ArrayLike, others: ArrayLike) -> jax.Array:
    r"""One minus the cosine of an image's features before and after regeneration.

    .. math:: d_i = 1 - \cos(\phi(\hat x_i), \phi(x_i))

    Args:
        features: [B, D] float, of the images.
        others: [B, D] float, of what they became.

    Returns:
        [B] float32 in [0, 2].

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> drift(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])).tolist()
        [1.0]

    References:
        Meng et al., "Suppress Content Shift: Better Diffusion Features via
        Off-the-Shelf Generation Techniques", NeurIPS 2024 (GATE). The paper's protocol
        is not public; this is ours: DDIM from 0.6 T, a frozen encoder, the cosine.
    """
    _same_shape("drift", features=features, others=others)
    x, y = (l2_normalize(jnp.asarray(f, jnp.float32)) for f in (features, others))
    return 1 - jnp.sum(x * y, axis=-1)


def linear_cka(features: ArrayLike, others: ArrayLike) -> float:
    r"""Centered kernel alignment of two sets of features with linear kernels.

    .. math:: \frac{\lVert Y^\top X \rVert_F^2}
              {\lVert X^\top X \rVert_F \lVert Y^\top Y \rVert_F}

    of centered columns. One minus it is the content shift of features at a noisy image
    from those of the clean one.

    Args:
        features: [N, D] float.
        others: [N, E] float, of the same examples.

    Returns:
        A float in [0, 1], the same for rotated or scaled features; NaN if one of them
        is constant.

    Raises:
        ValueError: if the numbers of rows differ.

    Example:
        >>> x = np.array([[1.0, 0], [0, 1], [-1, -1]])
        >>> round(linear_cka(x, 3 * x @ np.array([[0.0, -1], [1, 0]])), 6)
        1.0

    References:
        Kornblith et al., "Similarity of Neural Network Representations Revisited",
        ICML 2019, equation 3.
    """
    for name, value in (("features", features), ("others", others)):
        check_rank("linear_cka", name, value, 2, "[N, D]")
    x, y = (np.asarray(f, np.float64) for f in (features, others))
    if len(x) != len(y):
        raise ValueError(
            f"linear_cka: others have {len(y)} rows, expected {len(x)} as features"
        )
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.sum(np.square(y.T @ x)) / scale) if scale > 0 else float("nan")


class Benefit(NamedTuple):
    """By how much a technique lowers the drift.

    Attributes:
        mean: over images, drift without it minus drift with it.
        low: end of the bootstrap interval.
        high: likewise.
    """

    mean: float
    low: float
    high: float

    @property
    def recommended(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low > 0


def gate_benefit(
    plain: ArrayLike,
    steered: ArrayLike,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Benefit:
    """The benefit of a technique, with a paired bootstrap interval over images.

    Args:
        plain: [N] drift of each image without a technique.
        steered: [N] with it.
        level: of the interval.
        draws: bootstrap samples.
        seed: of these.

    Returns:
        `Benefit`.

    Raises:
        ValueError: if shapes disagree or a number is out of range.

    Example:
        >>> gate_benefit([0.5, 0.5, 0.6], [0.3, 0.3, 0.4], draws=10).recommended
        True

    References:
        Meng et al., NeurIPS 2024 (GATE); see `drift`.
    """
    caller = "gate_benefit"
    check_range(caller, "level", level, low=0, high=1, open_low=True)
    check_whole(caller, "draws", draws, low=1)
    check_seed(caller, "seed", seed)
    _same_shape(caller, plain=plain, steered=steered)
    gain = np.asarray(plain, np.float64) - np.asarray(steered, np.float64)
    check_rank(caller, "plain", gain, 1, "[N]")
    rows = np.random.default_rng(seed).integers(0, len(gain), (draws, len(gain)))
    means = gain[rows].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Benefit(float(gain.mean()), float(low), float(high))


def _same_shape(caller: str, **pair) -> None:
    """Checks that both are arrays of numbers, with an axis for the examples."""
    (first, one), (second, other) = pair.items()
    dtype_of(caller, first, one)
    dtype_of(caller, second, other)
    if shape_of(one) != shape_of(other) or not shape_of(one):
        raise ValueError(
            f"{caller}: {first} have shape {shape_of(one)} and {second}"
            f" {shape_of(other)}, expected the same, at least [N]"
        )
