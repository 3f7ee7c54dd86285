"""Strong views by a policy that is learned beside the network: CTAugment.

A method keeps the rates in its own state. In every step it makes strong views by them,
classifies probes of labelled examples, and moves the rates by how well that went. Both
kinds of images pass together: the pool of operations is large, its program too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.data import ctaugment
from ltjax.data.transforms import normalize


class LearnedViews(NamedTuple):
    """Functions of normalized images [N, H, W, C], one key for each position.

    Attributes:
        init: () -> rates, before any feedback.
        vary: (key, images, rates, probe) -> (images, policies). Images are changed as
            strongly as the rates allow; where `probe` [N] bool, by any strength alike.
        update: (rates, policies, proximity [N], *, where) -> rates, see
            `ctaugment.update`.
    """

    init: Callable[[], Any]
    vary: Callable[..., tuple[jax.Array, Any]]
    update: Callable[..., Any]


def learned_views(
    mean: ArrayLike,
    std: ArrayLike,
    *,
    depth: int = 2,
    threshold: float = 0.8,
    decay: float = 0.99,
) -> LearnedViews:
    """CTAugment of images that are normalized already.

    Args:
        mean: [C], that was subtracted from pixels in [0, 1].
        std: [C], that they were divided by.
        depth: operations of a policy.
        threshold: of a bin's rate, relative to the best one of its parameter.
        decay: of the rates.

    Returns:
        `LearnedViews`.

    Example:
        >>> views = learned_views([0.5], [0.25])
        >>> images, probe = jnp.zeros((2, 8, 8, 1)), jnp.array([False, True])
        >>> vary = jax.jit(views.vary)
        >>> vary(jax.random.key(0), images, views.init(), probe)[0].shape
        (2, 8, 8, 1)

    References:
        Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution
        Alignment and Augmentation Anchoring", ICLR 2020, sec. 3.2.2.
    """
    shift, scale = (jnp.asarray(x, jnp.float32)[None, None] for x in (mean, std))

    def vary(key, images, rates, probe):
        def one(key, image, probe):
            policy_key, place_key = jax.random.split(key)
            policy, tested = (
                ctaugment.sample(
                    policy_key,
                    rates,
                    depth=depth,
                    threshold=threshold,
                    decay=decay,
                    probe=alike,
                )
                for alike in (False, True)
            )
            level = jnp.where(probe, tested.level, policy.level)
            policy = policy._replace(level=level)  # of the same operations
            pixels = jnp.clip(255 * (image * scale + shift), 0.0, 255.0)
            pixels = ctaugment.apply(place_key, pixels, policy, cutout=False)
            return normalize(pixels / 255, mean=mean, std=std), policy

        return jax.vmap(one)(jax.random.split(key, len(images)), images, probe)

    def update(rates, policies, proximity, *, where=None):
        return ctaugment.update(rates, policies, proximity, decay=decay, where=where)

    return LearnedViews(ctaugment.init, vary, update)
