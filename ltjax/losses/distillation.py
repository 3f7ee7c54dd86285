r"""Knowledge distillation, and the flatter teacher that suits a long tail."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax._checks import check_floating, check_range, check_where, shape_of
from ltjax._numerics import at_least_float32, mask_rows, mask_values


def distillation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    temperature: float | ArrayLike = 2.0,
    power: float | ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of a student from a teacher, both softened.

    .. math:: \ell = T^2\, \mathrm{KL}\big( q \,\|\, \mathrm{softmax}(z_s / T) \big),
              \qquad q \propto \mathrm{softmax}(z_t / T)^{\mathrm{power}}

    A power below one makes "virtual examples" of a teacher more balanced; it is the
    teacher temperature T / power. The teacher carries no gradient. A student's loss is
    usually (1 - a) times its own loss plus a times this.

    Args:
        student_logits: [..., K] float.
        teacher_logits: [..., K] float.
        temperature: T > 0.
        power: exponent of the teacher's distribution; 0.5 in DiVE.
        where: optional [...] bool; False entries cost 0.

    Returns:
        [...] float32 >= 0, not reduced.

    Raises:
        ValueError: if shapes disagree or a readable option is out of range.
        TypeError: if logits are not floating point.

    Example:
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0]])
        >>> print(f"{distillation(student, teacher)[0]:.4f}")
        0.4438

    Limits: equal logits and power = 1 cost 0; a large temperature tends to half the
    variance of the logits' difference over the classes.

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; He et al.,
        "Distilling Virtual Examples for Long-tailed Recognition", ICCV 2021 (power).
    """
    caller = "distillation"
    check_floating(caller, "student_logits", student_logits)
    check_floating(caller, "teacher_logits", teacher_logits)
    shape = shape_of(student_logits)
    if not shape or shape_of(teacher_logits) != shape:
        raise ValueError(
            f"{caller}: teacher_logits have shape {shape_of(teacher_logits)}, expected"
            f" the shape of student_logits {shape}, classes last"
        )
    check_where(caller, where, shape[:-1])
    check_range(caller, "temperature", temperature, low=0.0, open_low=True)
    check_range(caller, "power", power, low=0.0)
    student, teacher = mask_rows(
        where, at_least_float32(student_logits), at_least_float32(teacher_logits)
    )
    dtype = student.dtype
    temperature, power = (jnp.asarray(x).astype(dtype) for x in (temperature, power))
    softened = power / temperature * jax.lax.stop_gradient(teacher).astype(dtype)
    target = jax.nn.log_softmax(softened)
    gap = target - jax.nn.log_softmax(student / temperature)
    kl = jnp.sum(jnp.exp(target) * gap, axis=-1)
    return mask_values(jnp.square(temperature) * jnp.maximum(kl, 0.0), where)
