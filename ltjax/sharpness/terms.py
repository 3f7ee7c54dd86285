r"""The sharpness-aware family as lists of terms (ascent weights, descent weights, rho).

Every first-order method of the family applies, for a short list of terms k,

.. math:: \sum_k \nabla \Big[\sum_i d_{k,i}\, \ell_i\Big](\theta + \epsilon_k), \qquad
          \epsilon_k = \rho_k\, D^2 g_k / (\|D g_k\| + \delta), \quad
          g_k = \nabla \Big[\sum_i a_{k,i}\, \ell_i\Big](\theta)

so a method is nothing but its weights over the per-example losses. The constructors
below build them from labels; `ltjax.sharpness.gradient` executes them.

**Class weights, masks and the choice of mean live here**, in one vector `base` [B]: the
descent weights of the plain reduction, so that sum_i base_i l_i is the loss that plain
SGD would minimize (1/B, w_i/B, w_i/sum w, 0 for padding; see `reduction_weights`). A
constructor multiplies it by its own per-example factor (a group's indicator, a focal
coefficient, a density weight), which is the same as putting the class weight inside the
per-example loss. For losses with several named parts `base`, and where they differ
`labels`, are dicts with the parts' names (mixup: two parts, two label vectors, lambda
and 1 - lambda in `base`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_choice, check_range, shape_of
from ltjax._numerics import mask_values
from ltjax.sharpness.weights import (
    Weights,
    base_weights,
    class_table,
    compact_groups,
    label_rows,
    split_groups,
    sum_to_one,
    times_class_value,
)

# The factor on ImbSAM's tail gradient: the paper's objective, and the released code
# since 2023-09-15 (a re-weighting that the paper does not have).
IMBSAM_TAIL_SCALE = {"paper": 1.0, "official-2023-09": 2.0}


class Term(NamedTuple):
    """One term of a sharpness-aware gradient; a pytree.

    Attributes:
        ascent: [B] weights of the loss whose gradient gives the perturbation, a dict of
            such vectors by part, or None for a term taken at the unperturbed point.
        descent: [B] weights of the loss whose gradient is applied, or a dict.
        rho: radius of the perturbation, a scalar that may be traced; ignored if
            `ascent` is None.
    """

    ascent: Weights | None
    descent: Weights
    rho: ArrayLike


def plain(
    batch_size: int, *, base: Weights | None = None, where: ArrayLike | None = None
) -> tuple[Term, ...]:
    """Terms of the ordinary gradient.

    Args:
        batch_size: B.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.

    Returns:
        One unperturbed term.

    Example:
        >>> print(plain(2)[0].descent)
        [0.5 0.5]
    """
    return (_unperturbed(base_weights("plain", batch_size, base, where)),)


def sam(
    batch_size: int,
    *,
    rho: ArrayLike,
    base: Weights | None = None,
    where: ArrayLike | None = None,
) -> tuple[Term, ...]:
    r"""Terms of sharpness-aware minimization: the gradient at the worst near-by point.

    With the scale rule `asam` the same terms are ASAM; with class weights in `base`
    they are SAM on a re-weighted loss.

    Args:
        batch_size: B.
        rho: radius >= 0, may be traced.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.

    Returns:
        One term, (base, base, rho).

    Example:
        >>> print(sam(2, rho=0.05)[0].ascent)
        [0.5 0.5]

    Limits: rho=0 is the plain gradient.

    References:
        Foret et al., "Sharpness-Aware Minimization for Efficiently Improving
        Generalization", ICLR 2021, Algorithm 1; Kwon et al., "ASAM", ICML 2021;
        Rangwani et al., "Escaping Saddle Points for Effective Generalization on
        Class-Imbalanced Data", NeurIPS 2022 (re-weighted).
    """
    base = base_weights("sam", batch_size, base, where)
    return (_perturbed("sam", base, base, rho),)


def imbsam(
    labels: ArrayLike | Mapping[str, ArrayLike],
    is_tail: ArrayLike,
    *,
    rho: ArrayLike,
    tail_scale: ArrayLike = 1.0,
    normalize: str = "batch",
    base: Weights | None = None,
    where: ArrayLike | None = None,
    tail_rows: int | None = None,
    blocks: int = 1,
) -> tuple[Term, ...]:
    r"""Terms of ImbSAM: tail classes sharpness-aware, head classes ordinary.

    .. math:: \nabla L_{head}(\theta) + \kappa \nabla L_{tail}(\theta + \epsilon_{tail})

    Args:
        labels: [B] int, or a dict of such vectors by part.
        is_tail: [K] bool, from `tail_classes`.
        rho: radius >= 0, may be traced.
        tail_scale: kappa; see `IMBSAM_TAIL_SCALE`.
        normalize: "batch" divides both groups' sums by the batch size (the paper);
            "group_mean" scales each group's weights to sum to one, which multiplies the
            tail by one over its share of the batch.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.
        tail_rows: optional static K: all tail rows lie among the first K rows (of every
            block: the first K / blocks), see `ltjax.sharpness.compaction`. Then the
            tail term has length K; 0 leaves it out. A tail row elsewhere gives NaN.
        blocks: number of equal blocks of rows, one per device.

    Returns:
        (head term, tail term).

    Raises:
        ValueError: if shapes disagree, an option is unknown, or rho < 0.

    Example:
        >>> is_tail = jnp.array([False, True])
        >>> head, tail = imbsam(jnp.array([0, 1, 0, 0]), is_tail, rho=0.05)
        >>> print(head.descent, tail.descent)
        [0.25 0.   0.25 0.25] [0.   0.25 0.   0.  ]

    Limits: without tail classes plain SGD; with tail classes only SAM.

    References:
        Zhou et al., "ImbSAM", ICCV 2023 (normalize="batch", tail_scale=1). The released
        code doubles the tail gradient since 2023-09-15; the re-implementation by the
        authors of SSE-SAM takes group means.
    """
    check_choice("imbsam", "normalize", normalize, ("batch", "group_mean"))
    head, tail = split_groups("imbsam", labels, is_tail, base, where)
    if normalize == "group_mean":
        head, tail = sum_to_one(head), sum_to_one(tail)
    head, tail = compact_groups(head, tail, tail_rows, blocks)
    terms = [_unperturbed(head)]
    if tail is not None:
        descent = jax.tree.map(lambda t: tail_scale * t, tail)
        terms.append(_perturbed("imbsam", tail, descent, rho))
    return tuple(terms)


def sse_sam(
    labels: ArrayLike | Mapping[str, ArrayLike],
    is_tail: ArrayLike,
    *,
    rho_head: ArrayLike,
    rho_tail: ArrayLike,
    stage: int,
    base: Weights | None = None,
    where: ArrayLike | None = None,
    tail_rows: int | None = None,
    blocks: int = 1,
) -> tuple[Term, ...]:
    r"""Terms of SSE-SAM: head and tail perturbed separately at first, then tail only.

    .. math:: \text{stage 1: } \nabla L_{head}(\theta + \epsilon_{head})
              + \nabla L_{tail}(\theta + \epsilon_{tail}), \qquad
              \text{stage 2: } \nabla L_{head}(\theta)
              + \nabla L_{tail}(\theta + \epsilon_{tail})

    Both groups' sums are divided by the full batch size, and both perturbations start
    from the same theta; stage 1 is therefore not SAM. Stage 2 costs less, so `stage` is
    static. Where one program must serve both, keep stage 1 and let a traced `rho_head`
    become 0: the same gradient at stage 1's price.

    Args:
        labels: [B] int, or a dict of such vectors by part.
        is_tail: [K] bool, from `tail_classes`.
        rho_head: radius of the head's perturbation, may be traced.
        rho_tail: radius of the tail's perturbation, may be traced.
        stage: 1 or 2, see `sse_switch_epoch`.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.
        tail_rows: as in `imbsam`.
        blocks: as in `imbsam`.

    Returns:
        (head term, tail term).

    Raises:
        ValueError: if shapes disagree, stage is not 1 or 2, or a radius is negative.

    Example:
        >>> terms = sse_sam(jnp.array([0, 1]), jnp.array([False, True]), rho_head=0.05,
        ...                 rho_tail=0.1, stage=2)
        >>> terms[0].ascent is None, float(terms[1].rho) > 0
        (True, True)

    Limits: both radii 0 is plain SGD; stage 2 is ImbSAM.

    References:
        Lyu et al., "SSE-SAM: Balancing Head and Tail Classes Gradually through
        Stage-Wise SAM", AAAI 2025. The released code recomputes the gradient at theta
        for each group (four forwards); the result is the same.
    """
    check_choice("sse_sam", "stage", stage, (1, 2))
    head, tail = split_groups("sse_sam", labels, is_tail, base, where)
    head, tail = compact_groups(head, tail, tail_rows, blocks)
    if stage == 1:
        terms = [_perturbed("sse_sam", head, head, rho_head, name="rho_head")]
    else:
        terms = [_unperturbed(head)]
    if tail is not None:
        terms.append(_perturbed("sse_sam", tail, tail, rho_tail, name="rho_tail"))
    return tuple(terms)


def rwsam(
    weights: ArrayLike,
    *,
    rho: ArrayLike,
    base: Weights | None = None,
    where: ArrayLike | None = None,
) -> tuple[Term, ...]:
    r"""Terms of re-weighted SAM: a weighted ascent, an unweighted descent.

    Args:
        weights: [B] float >= 0, one per example: `density_weights` looked up by the
            example's index. Their common scale does not matter.
        rho: radius >= 0, may be traced.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.

    Returns:
        One term, (weights * base, base, rho).

    Raises:
        ValueError: if weights is not a vector or rho < 0.

    Example:
        >>> (term,) = rwsam(jnp.array([1.0, 3.0]), rho=0.1)
        >>> print(term.ascent, term.descent)
        [0.5 1.5] [0.5 0.5]

    Limits: equal weights give SAM.

    References:
        Liu et al., "Self-supervised Learning is More Robust to Dataset Imbalance", ICLR
        2022, sec. 5 and Algorithm 1. The default branch of the released SimSiam loss
        ignores the weights; the paper's equation is followed.
    """
    if len(shape_of(weights)) != 1:
        raise ValueError(f"rwsam: weights have shape {shape_of(weights)}, expected [B]")
    base = base_weights("rwsam", shape_of(weights)[0], base, where)
    weights = jnp.asarray(weights)
    ascent = jax.tree.map(
        lambda b: mask_values(weights.astype(b.dtype) * b, where), base
    )
    return (_perturbed("rwsam", ascent, base, rho),)


def focal_sam(
    labels: ArrayLike | Mapping[str, ArrayLike],
    coefficients: ArrayLike,
    *,
    rho: ArrayLike,
    base: Weights | None = None,
    where: ArrayLike | None = None,
) -> tuple[Term, ...]:
    r"""Terms of Focal-SAM: class-wise sharpness weighted by c_y, in one perturbation.

    .. math:: \nabla \tfrac1B \sum_i (1 - c_{y_i}) \ell_i(\theta)
              + \nabla \tfrac1B \sum_i c_{y_i} \ell_i(\theta + \epsilon)

    Args:
        labels: [B] int, or a dict of such vectors by part.
        coefficients: [K] c >= 0, from `focal_coefficients`; may be traced and exceed 1.
        rho: radius >= 0, may be traced.
        base: optional [B] descent weights of the reduction, default the mean.
        where: optional [B] bool; False rows get weight 0.

    Returns:
        (unperturbed term, perturbed term).

    Raises:
        ValueError: if shapes disagree or rho < 0.

    Example:
        >>> rest, focal = focal_sam(jnp.array([0, 1]), jnp.array([0.25, 1.5]), rho=0.1)
        >>> print(rest.descent, focal.descent)
        [ 0.375 -0.25 ] [0.125 0.75 ]

    Limits: c = 1 is SAM, c = 0 is SGD, c = the tail's indicator is ImbSAM.

    References:
        Li et al., "Focal-SAM: Focal Sharpness-Aware Minimization for Long-Tailed
        Classification", ICML 2025, Algorithm 1.
    """
    base = base_weights("focal_sam", label_rows("focal_sam", labels), base, where)
    table = class_table("focal_sam", "coefficients", coefficients)
    focal = times_class_value(table, labels, base, where)
    rest = times_class_value(1 - table, labels, base, where)
    return (_unperturbed(rest), _perturbed("focal_sam", focal, focal, rho))


def ascend_on(terms: tuple[Term, ...], *parts: str) -> tuple[Term, ...]:
    """Restricts the ascent of every term to some named parts of the loss.

    GLMC with SAM leaves its contrastive part out of the ascent but not of the descent.

    Args:
        terms: terms whose weights are dicts by part.
        *parts: names of the parts that take part in the ascent.

    Returns:
        The terms with the other parts removed from `ascent`.

    Raises:
        ValueError: if a term has plain vectors, or lacks one of the parts.

    Example:
        >>> base = {"ce": jnp.ones(2) / 2, "contrastive": jnp.ones(2) / 2}
        >>> (term,) = ascend_on(sam(2, rho=0.1, base=base), "ce")
        >>> sorted(term.ascent), sorted(term.descent)
        (['ce'], ['ce', 'contrastive'])
    """

    def restrict(term: Term) -> Term:
        if term.ascent is None:
            return term
        if not isinstance(term.ascent, Mapping) or set(parts) - set(term.ascent):
            have = sorted(term.ascent) if isinstance(term.ascent, Mapping) else "[B]"
            raise ValueError(
                f"ascend_on: parts {sorted(parts)} expected in the ascent weights, but"
                f" they are {have}; pass `base` as a dict with one vector per part"
            )
        return term._replace(ascent={name: term.ascent[name] for name in parts})

    return tuple(restrict(term) for term in terms)


# ---------------------------------------------------------------- building blocks


def _unperturbed(descent: Weights) -> Term:
    return Term(None, descent, jnp.zeros((), jnp.result_type(float)))


def _perturbed(
    caller: str, ascent: Weights, descent: Weights, rho: ArrayLike, name: str = "rho"
) -> Term:
    check_range(caller, name, rho, low=0.0)
    if shape_of(rho) != ():
        raise ValueError(
            f"{caller}: {name} has shape {shape_of(rho)}, expected a scalar"
        )
    return Term(ascent, descent, jnp.asarray(rho, jnp.result_type(float)))
