r"""Denoising diffusion: how images become noise, and the loss of telling it from them.

.. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad
          \epsilon \sim N(0, I), \qquad t = 0, 1, \dots, T

with :math:`\bar\alpha_0 = 1`: at t = 0 there is no noise. A network is trained to
predict :math:`\epsilon` from :math:`x_t` and t; `ddim_step` walks back with what it
predicts.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import (
    check_choice,
    check_where,
    check_whole,
    dtype_of,
    is_concrete,
    shape_of,
)
from ltjax._numerics import at_least_float32, mask_rows

SCHEDULES = ("cosine", "linear", "scaled_linear")
_COSINE_OFFSET, _LARGEST_BETA = 0.008, 0.999


def noise_schedule(schedule: str = "cosine", *, steps: int = 1000) -> np.ndarray:
    r"""The share of the image's variance that is left at every step.

    .. math:: \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)

    Args:
        schedule: "cosine" (betas from :math:`\cos^2`, at most 0.999), "linear" (betas
            from 1e-4 to 0.02 in 1000 steps; with other numbers of steps their product
            stays the same to first order) or "scaled_linear" (square roots of the betas
            are linear, from 0.00085 to 0.012, as in latent diffusion).
        steps: T.

    Returns:
        [T + 1] float64, from 1 downwards.

    Raises:
        ValueError: for an unknown schedule or T < 1.
        TypeError: if T is not an integer.

    Example:
        >>> noise_schedule("linear", steps=1000)[[0, 1, 1000]].round(5).tolist()
        [1.0, 0.9999, 4e-05]

    References:
        Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020
        (linear); Nichol and Dhariwal, ICML 2021, equation 17 (cosine, s = 0.008);
        Rombach et al., CVPR 2022, released configs (scaled linear).
    """
    check_choice("noise_schedule", "schedule", schedule, SCHEDULES)
    check_whole("noise_schedule", "steps", steps, low=1)
    if schedule == "cosine":
        time = np.arange(steps + 1) / steps
        level = (time + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * np.pi / 2
        left = np.cos(level) ** 2
        betas = np.minimum(1 - left[1:] / left[:-1], _LARGEST_BETA)
    else:
        more = 1000 / steps
        low, high = (1e-4, 0.02) if schedule == "linear" else (0.00085, 0.012)
        if schedule == "linear":
            betas = np.linspace(more * low, more * high, steps)
        else:
            betas = more * np.linspace(low**0.5, high**0.5, steps) ** 2
        betas = np.minimum(betas, _LARGEST_BETA)
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def noised(images: ArrayLike, noise: ArrayLike, kept: ArrayLike) -> jax.Array:
    r"""Noisy images, :math:`\sqrt{\bar\alpha} x_0 + \sqrt{1 - \bar\alpha} \epsilon`.

    Args:
        images: [B, ...] float, x_0.
        noise: [B, ...] float, epsilon.
        kept: [B] in [0, 1], or a scalar; :math:`\bar\alpha` of each row.

    Returns:
        [B, ...] float32.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> noised(jnp.full((1, 2), 2.0), jnp.ones((1, 2)), jnp.array([0.36])).tolist()
        [[2.0, 2.0]]
    """
    x, noise = _pair("noised", images=images, noise=noise)
    signal, spread = _levels("noised", "kept", kept, x)
    return signal * x + spread * noise


def denoising(
    predicted: ArrayLike, noise: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Mean squared error of the predicted noise, of each example.

    .. math:: \ell_i = \frac1D \lVert \epsilon_\theta(x_{t_i}, t_i) - \epsilon_i
              \rVert^2

    Args:
        predicted: [B, ...] float, what the network says.
        noise: [B, ...] float, what was added.
        where: optional [B] bool; False rows get 0.

    Returns:
        [B] float32.

    Raises:
        ValueError: if the shapes disagree.
        TypeError: if `where` is not bool.

    Example:
        >>> denoising(jnp.zeros((2, 2)), jnp.array([[1.0, 1.0], [3.0, 1.0]])).tolist()
        [1.0, 5.0]

    Limits: the variance of the noise, 1 on average, for a network that predicts 0.

    References:
        Ho, Jain, Abbeel, NeurIPS 2020, equation 14 ("simple"); the mean over entries
        instead of their sum, as in the released code.
    """
    noise, told = _pair("denoising", noise=noise, predicted=predicted)
    check_where("denoising", where, told.shape[:1])
    told, noise = mask_rows(where, told, noise) if where is not None else (told, noise)
    return jnp.mean(jnp.square(told - noise), axis=tuple(range(1, told.ndim)))


def clean_estimate(noisy: ArrayLike, predicted: ArrayLike, kept: ArrayLike):
    r"""The image that the predicted noise would leave, the inverse of `noised`.

    .. math:: \hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon_\theta)
              / \sqrt{\bar\alpha_t}

    Args:
        noisy: [B, ...] float, x_t.
        predicted: [B, ...] float.
        kept: [B] in (0, 1], or a scalar; :math:`\bar\alpha_t`.

    Returns:
        [B, ...] float32.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> clean_estimate(jnp.full((1, 1), 2.0), jnp.ones((1, 1)), 0.36).tolist()
        [[2.0]]
    """
    x, predicted = _pair("clean_estimate", noisy=noisy, predicted=predicted)
    signal, spread = _levels("clean_estimate", "kept", kept, x, positive=True)
    return (x - spread * predicted) / signal


def ddim_step(
    noisy: ArrayLike, predicted: ArrayLike, kept: ArrayLike, kept_next: ArrayLike
) -> jax.Array:
    r"""A deterministic step from one noise level to another.

    .. math:: x_s = \sqrt{\bar\alpha_s}\, \hat x_0 +
              \sqrt{1 - \bar\alpha_s}\, \epsilon_\theta(x_t, t)

    Args:
        noisy: [B, ...] float, x_t.
        predicted: [B, ...] float, the noise that the network sees in it.
        kept: [B] in (0, 1], or a scalar; :math:`\bar\alpha_t`.
        kept_next: [B] in [0, 1], or a scalar; :math:`\bar\alpha_s`. 1 gives the clean
            estimate.

    Returns:
        [B, ...] float32.

    Raises:
        ValueError: if the shapes disagree.

    Example:
        >>> ddim_step(jnp.full((1, 1), 2.0), jnp.ones((1, 1)), 0.36, 1.0).tolist()
        [[2.0]]

    References:
        Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, equation 12
        with sigma = 0.
    """
    clean = clean_estimate(noisy, predicted, kept)
    signal, spread = _levels("ddim_step", "kept_next", kept_next, clean)
    return signal * clean + spread * at_least_float32(predicted)


def _pair(caller: str, **pair: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both in float32 at least, of one shape [B, ...]."""
    (first, x), (second, other) = pair.items()
    dtype_of(caller, first, x)
    dtype_of(caller, second, other)
    if not shape_of(x):
        raise ValueError(f"{caller}: {first} is a scalar, expected [B, ...]")
    if shape_of(x) != shape_of(other):
        raise ValueError(
            f"{caller}: {second} has shape {shape_of(other)}, expected {shape_of(x)}"
        )
    return at_least_float32(x), at_least_float32(other)


def _levels(
    caller: str, name: str, kept, x, *, positive: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Factors of image and noise, against x [B, ...]."""
    dtype_of(caller, name, kept)
    if shape_of(kept) not in ((), x.shape[:1]):
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(kept)}, expected a scalar or"
            f" {x.shape[:1]}, one for each row"
        )
    if is_concrete(kept):
        shares = np.asarray(kept)
        above = shares > 0 if positive else shares >= 0
        wrong = shares[~(above & (shares <= 1))]
        if wrong.size:
            raise ValueError(
                f"{caller}: {name} is {wrong[0]}, expected numbers in"
                f" {'(' if positive else '['}0, 1]"
            )
    kept = jnp.asarray(kept, x.dtype)
    kept = kept.reshape(kept.shape + (1,) * (x.ndim - kept.ndim))
    return jnp.sqrt(kept), jnp.sqrt(1 - kept)
