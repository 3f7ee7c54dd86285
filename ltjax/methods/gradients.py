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
        arrange: None, or (step, labels [B], mask [B]) -> (permutation [B], rows): an
            order of the batch's rows that the rule wants. Then the program of a step is
            (program(step), rows), rows the largest over the replicas.
        options: keyword arguments of `ltjax.sharpness.sharp_value_and_grad`.
    """

    terms: Callable[..., tuple[Term, ...]]
    program: Callable[[int], Hashable] = lambda step: None
    programs: tuple[Hashable, ...] = (None,)
    arrange: Callable[..., Any] | None = None
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


def imbsam(
    is_tail, *, tail_scale: float = 1.0, normalize: str = "batch", blocks: int = 1
) -> GradientRule:
    """ImbSAM: the tail's gradient at the tail's worst point, the head's at theta."""

    def terms(parts: Parts, state, batch, program, rows=None):
        labels, base = _columns(parts)
        return sharpness.imbsam(
            labels,
            is_tail,
            rho=state.hyper["rho"],
            tail_scale=tail_scale,
            normalize=normalize,
            base=base,
            tail_rows=rows,
            blocks=blocks,
        )

    return GradientRule(terms)


def sse_sam(is_tail, *, switch: int, blocks: int = 1) -> GradientRule:
    """SSE-SAM: two perturbations before step `switch`, the tail's only from it on."""

    def terms(parts: Parts, state, batch, program, rows=None):
        labels, base = _columns(parts)
        return sharpness.sse_sam(
            labels,
            is_tail,
            rho_head=state.hyper["rho_head"],
            rho_tail=state.hyper["rho_tail"],
            stage=program,
            base=base,
            tail_rows=rows,
            blocks=blocks,
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


def compacted(
    rule: GradientRule, is_tail, *, batch_size: int, blocks: int = 1
) -> GradientRule:
    """`rule` with its tail term on its own rows; exact if rows are independent.

    Args:
        rule: `imbsam` or `sse_sam`, made with the same `blocks`.
        is_tail: [K] bool.
        batch_size: B.
        blocks: number of devices along the batch, which share the tail rows.

    Returns:
        A rule whose programs are (program of `rule`, rows of the tail term).
    """
    buckets = sharpness.compaction.default_buckets(batch_size, blocks)

    def terms(parts: Parts, state, batch, program):
        inner, rows = program
        return rule.terms(parts, state, batch, inner, rows=rows)

    def arrange(step: int, labels, mask):
        return sharpness.compaction.plan(labels, is_tail, buckets, blocks, where=mask)

    programs = tuple((p, rows) for p in rule.programs for rows in buckets)
    return GradientRule(terms, rule.program, programs, arrange, rule.options)


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

    programs = ("plain", *rule.programs)
    return rule._replace(terms=terms, program=program, programs=programs)


RULES: dict[str, str] = {
    "plain": "ordinary gradient",
    "sam": "SAM (Foret 2021)",
    "asam": "adaptive SAM (Kwon 2021)",
    "imbsam": "ImbSAM: SAM for tail classes only (Zhou 2023)",
    "sse_sam": "SSE-SAM: head and tail perturbed apart, then tail only (Lyu 2025)",
    "rwsam": "rwSAM: ascent weighted by inverse density (Liu 2022)",
    "focal_sam": "Focal-SAM: class-weighted sharpness (Li 2025)",
    "cc_sam": "CC-SAM: class-conditional radii on the classifier (Zhou 2023)",
}


def build_rule(
    config, class_counts, *, steps: Callable[[str], int], batch_size: int
) -> GradientRule:
    """The rule of a config's gradient section.

    Args:
        config: the section; `config.name` is one of `RULES`. (CC-SAM's rule is plain:
            it is a second loss, `ltjax.methods.class_conditional`.)
        class_counts: [K].
        steps: duration text -> steps.
        batch_size: B.

    Returns:
        The rule with its options.
    """
    is_tail = sharpness.tail_classes(class_counts, eta=config.eta)
    late = {"rho_late": config.rho_late, "rho_switch": steps(config.rho_switch)}
    blocks = config.blocks
    if config.name in ("sam", "asam"):
        rule = sam(**late)
    elif config.name == "imbsam":
        rule = imbsam(
            is_tail,
            tail_scale=config.tail_scale,
            normalize=config.group_normalize,
            blocks=blocks,
        )
    elif config.name == "sse_sam":
        rule = sse_sam(is_tail, switch=steps(config.switch), blocks=blocks)
    elif config.name == "rwsam":
        rule = rwsam(np.load(config.density_weights, allow_pickle=False))
    elif config.name == "focal_sam":
        rule = focal_sam(class_counts, **late)
    else:
        rule = plain()
    options = _options(config)
    if config.compaction:
        rule = compacted(rule, is_tail, batch_size=batch_size, blocks=blocks)
        options |= {"rows_independent": True, "blocks": blocks}
    return starting_at(rule._replace(options=options), steps(config.late))


def _options(config) -> dict[str, Any]:
    """Keyword arguments of `sharp_value_and_grad` that a gradient section asks for."""
    options: dict[str, Any] = {"stats": config.stats}
    scale = config.asam
    if config.name == "asam" and scale == "none":
        scale = "weights_only"
    if scale != "none":
        options["scale"] = sharpness.asam(eta=config.asam_eta, rule=scale)
    if config.perturb == "norm":
        options["mask"] = sharpness.normalization_only
    elif config.perturb == "head":
        options["mask"] = sharpness.only_under("head")
    scope = config.scope
    options["scope"] = int(scope) if scope.isdigit() else scope
    return options
