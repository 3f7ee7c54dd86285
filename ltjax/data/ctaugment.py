r"""CTAugment: an augmentation policy that learns which strengths a model still bears.

The policy is an explicit state, a table of rates by parameter and bin, that a method
keeps with its own. A step samples a policy per example (`sample`), applies it
(`apply`), and feeds back how well the model classified labeled examples under uniform
"probe" policies (`update`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax._checks import check_range, check_rank, check_where, shape_of
from ltjax.data import _image_families as families
from ltjax.data._image_choice import apply_one_of

# Operation -> bins of its parameters, in the order of the released code.
_BINS = {
    "autocontrast": (17,),
    "blur": (17,),
    "brightness": (17,),
    "color": (17,),
    "contrast": (17,),
    "erase": (17,),
    "equalize": (17,),
    "invert": (17,),
    "identity": (),
    "posterize": (8,),
    "rescale": (17, 6),
    "rotate": (17,),
    "sharpness": (17,),
    "shear_x": (17,),
    "shear_y": (17,),
    "smooth": (17,),
    "solarize": (17,),
    "translate_x": (17,),
    "translate_y": (17,),
}
OPS = tuple(_BINS)
_MAX_BINS = 17
_COUNTS = np.array([(*bins, 0, 0)[:2] for bins in _BINS.values()])  # [ops, 2]
_EXISTS = np.arange(_MAX_BINS) < _COUNTS[..., None]  # [ops, 2, bins]
_BLENDED = ("autocontrast", "blur", "equalize", "invert", "smooth")
_GRAY = 127.0


class Rates(NamedTuple):
    """The state.

    Attributes:
        rates: float32 [19, 2, 17], by operation (`OPS`), parameter and bin: how well
            the model does when the parameter is in this bin, in [0, 1]. Bins that do
            not exist are 0.
    """

    rates: jax.Array


class Policy(NamedTuple):
    """What happens to one example.

    Attributes:
        op: int32 [depth], index into `OPS`.
        level: float32 [depth, 2] in [0, 1), of both parameters.
    """

    op: jax.Array
    level: jax.Array


def init() -> Rates:
    """The state before any feedback: every bin has rate 1.

    Returns:
        Rates.

    Example:
        >>> int(init().rates.sum())
        303
    """
    return Rates(jnp.asarray(_EXISTS, jnp.float32))


def sample(
    key: jax.Array,
    state: Rates,
    *,
    depth: int = 2,
    threshold: ArrayLike = 0.8,
    decay: ArrayLike = 0.99,
    probe: bool = False,
) -> Policy:
    r"""Draws the policy of one example.

    The operations are uniform, with replacement. A bin is drawn with weights

    .. math:: q_b = r_b + 1 - \rho, \qquad
        w_b \propto q_b \, [q_b \ge \vartheta \max_c q_c]

    and the level is uniform inside of it.

    Args:
        key: of this example.
        state: Rates.
        depth: number of operations.
        threshold: :math:`\vartheta`.
        decay: :math:`\rho`, of the rates.
        probe: levels are uniform instead, for the examples that `update` learns from.

    Returns:
        Policy (op [depth], level [depth, 2]).

    Example:
        >>> policy = sample(jax.random.key(0), init())
        >>> policy.op.shape, policy.level.shape
        ((2,), (2, 2))

    References:
        Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution
        Alignment and Augmentation Anchoring", ICLR 2020, sec. 3.2.2.
    """
    check_range("sample", "depth", depth, low=1)
    op_key, bin_key, level_key = jax.random.split(key, 3)
    op = jax.random.randint(op_key, (depth,), 0, len(OPS), jnp.int32)
    level = jax.random.uniform(level_key, (depth, 2))
    if probe:
        return Policy(op, level)
    rates = state.rates[op]
    exists = jnp.asarray(_EXISTS)[op]
    quality = jnp.where(exists, rates + (1 - decay), 0.0)
    best = jnp.max(quality, axis=-1, keepdims=True)
    weights = jnp.where(quality >= threshold * best, quality, 0.0)
    # A parameter that does not exist has no bins; its draw is not used.
    logits = jnp.where(exists, jnp.log(weights), -jnp.inf)
    none = ~jnp.any(exists, axis=-1, keepdims=True)
    chosen = jax.random.categorical(bin_key, jnp.where(none, 0.0, logits))
    counts = jnp.maximum(jnp.asarray(_COUNTS)[op], 1)
    return Policy(op, (chosen + level) / counts)


def apply(
    key: jax.Array,
    image: ArrayLike,
    policy: Policy,
    *,
    cutout: bool = True,
    fill: families.Color = 0.0,
) -> jax.Array:
    """Applies a policy to one image.

    Args:
        key: of this example, for the places of squares.
        image: [H, W, C], 3 channels or one, uint8 or floating in [0, 255].
        policy: Policy of this example.
        cutout: whether a gray square of nearly half the side follows, as in FixMatch.
        fill: color of what geometric operations bring into view, scalar or [C].

    Returns:
        [H, W, C] of the same dtype.

    Example:
        >>> policy = Policy(jnp.array([OPS.index("invert")]), jnp.ones((1, 2)))
        >>> image = jnp.ones((8, 8, 3), jnp.uint8)
        >>> out = jax.jit(apply, static_argnames="cutout")
        >>> out(jax.random.key(0), image, policy, cutout=False).min().item()
        254

    References:
        Berthelot et al., ICLR 2020, app. D, and the released code, except that
        translations are up to 0.3 of the side as in the paper: the code moves by up to
        0.3 pixels, which rounds to none.
    """
    x, whole = families.pixels("apply", image)
    height, width = x.shape[:2]
    keys = jax.random.split(key, policy.op.shape[0] + 1)

    def center(key):
        place = jax.random.uniform(key, (2,)) * jnp.asarray([height, width])
        return jnp.floor(place).astype(jnp.int32)

    def layer(x, step):
        key, op, level = step
        values, kernel = _arguments(level, height, width)
        blended = jnp.asarray([name in _BLENDED for name in OPS])[op]
        changed = apply_one_of(
            *(x, op, values[op]),
            ops=OPS,
            whole=whole,
            amount=jnp.where(blended, level[0], 1.0),
            center=center(key),
            kernel=kernel,
            fill=fill,
            patch=_GRAY,
        )
        return changed, None

    x, _ = jax.lax.scan(layer, x, (keys[:-1], policy.op, policy.level))
    if cutout:
        size = _square(jnp.float32(1.0), height, width)
        x = families.erased(x, center(keys[-1]), size, _GRAY)
    return families.image_like(x, whole)


def _arguments(level, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Argument of every operation at this level, and the kernel of "rescale"."""
    first, second = level[0], level[1]
    centered = 2 * first - 1
    strengths = {
        **dict.fromkeys(("brightness", "color", "contrast"), 0.1 + 1.9 * first),
        "sharpness": 0.1 + 1.9 * first,
        "erase": _square(first, height, width),
        "posterize": 1 + jnp.floor(first * 7.999),
        "rescale": 0.25 * first,
        "rotate": jnp.round(centered * 45),
        "shear_x": 0.3 * centered,
        "shear_y": 0.3 * centered,
        "solarize": jnp.floor(first * 255.999),
        "translate_x": 0.3 * width * centered,
        "translate_y": 0.3 * height * centered,
    }
    zero = jnp.zeros((), jnp.float32)
    values = jnp.stack([strengths.get(name, zero) for name in OPS])
    return values, jnp.floor(second * 5.99).astype(jnp.int32)


def _square(level, height: int, width: int) -> jax.Array:
    """Side of the erased square, as published: an even number."""
    return 2 * ((1 + jnp.floor(level * min(height, width) * 0.499)) // 2)


def update(
    state: Rates,
    policy: Policy,
    proximity: ArrayLike,
    *,
    decay: ArrayLike = 0.99,
    where: ArrayLike | None = None,
) -> Rates:
    r"""Moves the rates of the bins that were probed towards how well the model did.

    .. math:: r_b \leftarrow \rho \, r_b + (1 - \rho) \, a_i

    one after the other in the order of the batch, operation and parameter.

    Args:
        state: Rates.
        policy: Policies of the batch, op [B, depth] and level [B, depth, 2], drawn with
            `probe=True`.
        proximity: [B] in [0, 1], a. The paper's 1 - ||p - y||_1 / 2 is the probability
            that the averaged model gives to the label.
        decay: :math:`\rho`.
        where: optional [B] bool; False rows leave no trace.

    Returns:
        Rates.

    Raises:
        ValueError: if shapes disagree.

    Example:
        >>> policy = Policy(jnp.array([[0]]), jnp.zeros((1, 1, 2)))
        >>> rates = update(init(), policy, jnp.array([0.0]), decay=0.75).rates
        >>> rates[0, 0, :2].tolist()
        [0.75, 1.0]

    References:
        Berthelot et al., ICLR 2020, sec. 3.2.2 and released code.
    """
    check_rank("update", "policy.op", policy.op, 2, "[B, depth]")
    size = shape_of(policy.op)[:1]
    if shape_of(proximity) != size:
        raise ValueError(
            f"update: proximity has shape {shape_of(proximity)}, expected {size}"
            " (one number per policy)"
        )
    check_where("update", where, size)
    op = jnp.asarray(policy.op)[..., None]
    counts = jnp.asarray(_COUNTS)[policy.op]
    bins = jnp.floor(0.999 * policy.level * counts).astype(jnp.int32)
    kept = counts > 0
    values = jnp.asarray(proximity, jnp.float32)[:, None, None]
    if where is not None:
        where = jnp.asarray(where)[:, None, None]
        kept, values = kept & where, jnp.where(where, values, 0.0)
    # Events in order. An event counts decay^(number of later ones in the same cell).
    parameter = jnp.arange(2, dtype=jnp.int32).reshape(1, 1, 2)
    cell = ((op * 2 + parameter) * _MAX_BINS + bins).reshape(-1)
    cells = len(OPS) * 2 * _MAX_BINS
    cell = jnp.where(kept.reshape(-1), cell, cells)
    later = jnp.triu(cell[:, None] == cell[None, :], k=1).sum(axis=1)
    values = jnp.broadcast_to(values, kept.shape).reshape(-1)
    gains = (1 - decay) * values * jnp.power(jnp.float32(decay), later)
    flat = state.rates.reshape(-1)
    hits = jnp.zeros_like(flat).at[cell].add(1.0, mode="drop")
    rates = flat * jnp.power(jnp.float32(decay), hits)
    rates = rates.at[cell].add(gains, mode="drop")
    return Rates(rates.reshape(state.rates.shape))
