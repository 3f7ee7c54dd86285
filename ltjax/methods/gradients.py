"""Gradient rules: how the weights of an objective become terms of a sharp gradient.

A method says what it minimizes, as weights over per-example losses; a rule says at
which point of parameter space each share of it is differentiated. Rules are built once
per run from class counts; what may vary in a sweep is read from `state.hyper`.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import sharpness
from ltjax.sharpness import Term


class Part(NamedTuple):
    """One entry of a method's losses.

    Attributes:
        labels: [B] int, the class that decides between head and tail.
        base: [B] weights of the objective, padding zero, already normalized.
    """

    labels: jax.Array
    base: jax.Array


Parts = Mapping[str, Part]


class GradientRule(NamedTuple):
    """How a gradient is taken.

    Attributes:
        terms: (parts, state, batch, program) -> tuple of `Term`.
        program: step -> static key of the compiled program for that step. Stages that
            change the cost are programs of their own; the host knows the step.
        programs: every value that `program` takes.
        options: keyword arguments of `ltjax.sharpness.sharp_value_and_grad`.
    """

    terms: Callable[..., tuple[Term, ...]]
    program: Callable[[int], Hashable] = lambda step: None
    programs: tuple[Hashable, ...] = (None,)
    options: Mapping[str, Any] = {}


def _columns(parts: Parts):
    """Labels and base weights: vectors for one part, dicts by part for several."""
    if len(parts) == 1:
        (part,) = parts.values()
        return part.labels, part.base
    labels = {name: part.labels for name, part in parts.items()}
    return labels, {name: part.base for name, part in parts.items()}


def _rows(batch) -> int:
    return batch["label"].shape[0]


def _late(state, name: str, late: float, switch: int):
    """hyper[name], and `late` from step `switch` on (late < 0: unchanged)."""
    rho = state.hyper[name]
    return rho if late < 0 else jnp.where(state.step >= switch, late, rho)


def plain() -> GradientRule:
    """The ordinary gradient of the objective."""

    def terms(parts: Parts, state, batch, program):
        _, base = _columns(parts)
        return sharpness.plain(_rows(batch), base=base)

    return GradientRule(terms)


def sam(*, rho_late: float = -1.0, rho_switch: int = 0) -> GradientRule:
    """SAM (and, with a scale rule in its options, ASAM); rho from `hyper`."""

    def terms(parts: Parts, state, batch, program):
        _, base = _columns(parts)
        rho = _late(state, "rho", rho_late, rho_switch)
        return sharpness.sam(_rows(batch), rho=rho, base=base)

    return GradientRule(terms)


def imbsam(is_tail, *, tail_scale: float = 1.0, normalize="batch") -> GradientRule:
    """ImbSAM: the tail's gradient at the tail's worst point, the head's at theta."""

    def terms(parts: Parts, state, batch, program):
        labels, base = _columns(parts)
        return sharpness.imbsam(
            labels,
            is_tail,
            rho=state.hyper["rho"],
            tail_scale=tail_scale,
            normalize=normalize,
            base=base,
        )

    return GradientRule(terms)


def sse_sam(is_tail, *, switch: int) -> GradientRule:
    """SSE-SAM: two perturbations before step `switch`, the tail's only from it on."""

    def terms(parts: Parts, state, batch, program):
        labels, base = _columns(parts)
        return sharpness.sse_sam(
            labels,
            is_tail,
            rho_head=state.hyper["rho_head"],
            rho_tail=state.hyper["rho_tail"],
            stage=program,
            base=base,
        )

    return GradientRule(terms, lambda step: 1 if step < switch else 2, (1, 2))


def rwsam(density_weights: np.ndarray) -> GradientRule:
    """rwSAM: the ascent weighted by inverse feature density, looked up by example."""
    table = np.asarray(density_weights, np.float32)

    def terms(parts: Parts, state, batch, program):
        _, base = _columns(parts)
        weights = jnp.asarray(table)[batch["index"]]
        return sharpness.rwsam(weights, rho=state.hyper["rho"], base=base)

    return GradientRule(terms)


def focal_sam(
    class_counts, *, rho_late: float = -1.0, rho_switch: int = 0
) -> GradientRule:
    """Focal-SAM: sharpness weighted by lambda (1 - pi_y)^gamma, both from `hyper`."""

    def terms(parts: Parts, state, batch, program):
        labels, base = _columns(parts)
        coefficients = sharpness.focal_coefficients(
            class_counts,
            gamma=state.hyper["focal_gamma"],
            lam=state.hyper["focal_lambda"],
        )
        rho = _late(state, "rho", rho_late, rho_switch)
        return sharpness.focal_sam(labels, coefficients, rho=rho, base=base)

    return GradientRule(terms)


def starting_at(rule: GradientRule, step: int) -> GradientRule:
    """`rule` from `step` on and the plain gradient before (late SAM)."""
    if step <= 0:
        return rule
    ordinary = plain()

    def terms(parts: Parts, state, batch, program):
        chosen = ordinary if program == "plain" else rule
        return chosen.terms(parts, state, batch, program)

    def program(now: int):
        return "plain" if now < step else rule.program(now)

    return GradientRule(terms, program, ("plain", *rule.programs), rule.options)


RULES: dict[str, str] = {
    "plain": "ordinary gradient",
    "sam": "SAM (Foret 2021)",
    "asam": "adaptive SAM (Kwon 2021)",
    "imbsam": "ImbSAM: SAM for tail classes only (Zhou 2023)",
    "sse_sam": "SSE-SAM: head and tail perturbed apart, then tail only (Lyu 2025)",
    "rwsam": "rwSAM: ascent weighted by inverse density (Liu 2022)",
    "focal_sam": "Focal-SAM: class-weighted sharpness (Li 2025)",
}


def build_rule(config, class_counts, *, steps: Callable[[str], int]) -> GradientRule:
    """The rule of a config's gradient section.

    Args:
        config: the section; `config.name` is one of `RULES`.
        class_counts: [K].
        steps: duration text -> steps.

    Returns:
        The rule with its options.
    """
    is_tail = sharpness.tail_classes(class_counts, eta=config.eta)
    late = {"rho_late": config.rho_late, "rho_switch": steps(config.rho_switch)}
    if config.name in ("sam", "asam"):
        rule = sam(**late)
    elif config.name == "imbsam":
        rule = imbsam(
            is_tail, tail_scale=config.tail_scale, normalize=config.group_normalize
        )
    elif config.name == "sse_sam":
        rule = sse_sam(is_tail, switch=steps(config.switch))
    elif config.name == "rwsam":
        rule = rwsam(np.load(config.density_weights, allow_pickle=False))
    elif config.name == "focal_sam":
        rule = focal_sam(class_counts, **late)
    else:
        rule = plain()
    scale = config.asam
    if config.name == "asam" and scale == "none":
        scale = "weights_only"
    options: dict[str, Any] = {"stats": config.stats}
    if scale != "none":
        options["scale"] = sharpness.asam(eta=config.asam_eta, rule=scale)
    if config.perturb == "norm":
        options["mask"] = sharpness.normalization_only
    elif config.perturb == "head":
        options["mask"] = sharpness.only_under("head")
    scope = config.scope
    options["scope"] = int(scope) if scope.isdigit() else scope
    return starting_at(rule._replace(options=options), steps(config.late))
