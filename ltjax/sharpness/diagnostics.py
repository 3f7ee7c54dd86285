"""Sharpness by class: what a step's losses at theta + eps say about each class."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_integers, check_rank, check_where, shape_of
from ltjax._numerics import at_least_float32, class_indices, mask_values
from ltjax.sharpness.passes import SharpOutput


def class_gap(
    rise: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Sharpness gap of every class, as sums and counts to be added up over steps.

    .. math:: s_c = \sum_{y_i = c} [\ell_i(\theta + \epsilon) - \ell_i(\theta)], \qquad
              \text{gap}_c = s_c / n_c

    Args:
        rise: [B] float, an entry of `SharpOutput.rises`.
        labels: [B] int.
        num_classes: K.
        where: optional [B] bool; False rows are not counted.

    Returns:
        (sums [K] in nats, counts [K]), both float32 (float64 for float64 rises).
        Labels outside [0, K) are not counted.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if labels are not integers.

    Example:
        >>> rise = jnp.array([0.5, 1.0, 0.25])
        >>> sums, counts = class_gap(rise, jnp.array([0, 1, 0]), 3)
        >>> print(sums, counts)
        [0.75 1.   0.  ] [2. 1. 0.]
    """
    check_rank("class_gap", "rise", rise, 1, "[B]")
    check_integers("class_gap", "labels", labels)
    if shape_of(labels) != shape_of(rise):
        raise ValueError(
            f"class_gap: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(rise)}"
        )
    check_where("class_gap", where, shape_of(rise))
    rise = mask_values(at_least_float32(rise), where)
    classes = jnp.arange(num_classes, dtype=jnp.int32)
    members = class_indices(labels)[:, None] == classes[None, :]
    counted = members if where is None else members & jnp.asarray(where)[:, None]
    sums = jnp.sum(jnp.where(counted, rise[:, None], 0), axis=0)
    return sums, jnp.sum(counted, axis=0, dtype=rise.dtype)


def group_gaps(
    rise: ArrayLike,
    labels: ArrayLike,
    groups: Mapping[str, ArrayLike],
    *,
    where: ArrayLike | None = None,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    r"""Sharpness gap of groups of classes, as (sum, count) pairs.

    .. math:: s_G = \sum_{y_i \in G} [\ell_i(\theta + \epsilon) - \ell_i(\theta)],
              \qquad \text{gap}_G = s_G / n_G

    Args:
        rise: [B] float, an entry of `SharpOutput.rises`.
        labels: [B] int.
        groups: name -> [K] bool, such as many, medium and few (`shot_groups`).
        where: optional [B] bool; False rows are not counted.

    Returns:
        name -> (sum in nats, count), to be added up over steps. Labels outside [0, K)
        are in no group.

    Raises:
        ValueError: if shapes disagree.
        TypeError: if labels are not integers.

    Example:
        >>> rise, few = jnp.array([0.5, 1.0, 0.25]), jnp.array([False, True])
        >>> gaps = group_gaps(rise, jnp.array([0, 1, 1]), {"few": few, "many": ~few})
        >>> [(name, float(s), float(n)) for name, (s, n) in gaps.items()]
        [('few', 1.25, 2.0), ('many', 0.5, 1.0)]
    """
    check_rank("group_gaps", "rise", rise, 1, "[B]")
    check_integers("group_gaps", "labels", labels)
    if shape_of(labels) != shape_of(rise):
        raise ValueError(
            f"group_gaps: labels have shape {shape_of(labels)}, expected"
            f" {shape_of(rise)}"
        )
    check_where("group_gaps", where, shape_of(rise))
    rise = mask_values(at_least_float32(rise), where)
    labels = class_indices(labels)
    gaps = {}
    for name, members in groups.items():
        check_rank("group_gaps", f"groups[{name!r}]", members, 1, "[K]")
        members = jnp.asarray(members)
        inside = (labels >= 0) & (labels < members.shape[0])
        counted = inside & members[jnp.where(inside, labels, 0)]
        if where is not None:
            counted &= jnp.asarray(where)
        total = jnp.sum(jnp.where(counted, rise, 0))
        gaps[name] = (total, jnp.sum(counted, dtype=rise.dtype))
    return gaps


def sharpness_metrics(out: SharpOutput) -> dict[str, tuple[jax.Array, jax.Array]]:
    """A step's sharpness numbers as (sum, count) pairs by name.

    Args:
        out: what `sharp_value_and_grad` returned.

    Returns:
        "term<k>/<name>" -> (value, 1) for every perturbed term k; norms and gaps count
        only where the perturbation is active, so that their means are over the steps
        that had one.

    Example:
        >>> numbers = {"gap": jnp.array(0.25), "active": jnp.ones(())}
        >>> out = SharpOutput(jnp.ones(()), jnp.ones(2), {}, (numbers,), (jnp.ones(2),))
        >>> [float(v) for v in sharpness_metrics(out)["term0/gap"]]
        [0.25, 1.0]
    """
    metrics = {}
    for k, (numbers, rise) in enumerate(zip(out.terms, out.rises, strict=True)):
        if rise is None:  # an unperturbed term
            continue
        active = numbers["active"]
        for name, value in numbers.items():
            count = jnp.ones_like(active) if name == "active" else active
            metrics[f"term{k}/{name}"] = (value * count, count)
    return metrics
