"""Gradient rules: how the weights of an objective become terms of a sharp gradient.

A method says what it minimizes, as weights over per-example losses; a rule says at
which point of parameter space each share of it is differentiated. Rules are built once
per run from class counts; what may vary in a sweep is read from `state.hyper`.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ltjax import sharpness
from ltjax.methods.method import Part
from ltjax.options import Component, NoOptions, live, option
from ltjax.sharpness import Term

Parts = Mapping[str, Part]
PATH = "gradient"  # of the config section


class Auxiliary(NamedTuple):
    """A second loss that takes a share of the objective (CC-SAM's perturbed one).

    The objective becomes (1 - share) * loss + share * auxiliary loss.

    Attributes:
        loss: (params, state, memory, batch, aux) -> ([B], kept); `aux` is the main
            loss's, `kept` a dict of scalars for `update`.
        share: state -> scalar in [0, 1].
        init: (key, params, model_state) -> memory.
        update: (memory, state, batch, kept) -> memory.
    """

    loss: Callable[..., Any]
    share: Callable[[Any], Any]
    init: Callable[..., Any]
    update: Callable[..., Any]


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
        is_tail: [K] bool, the classes that the rule treats as tail, or None.
        auxiliary: a second loss, or None.
    """

    terms: Callable[..., tuple[Term, ...]]
    program: Callable[[int], Hashable] = lambda step: None
    programs: tuple[Hashable, ...] = (None,)
    arrange: Callable[..., Any] | None = None
    options: Mapping[str, Any] = {}
    is_tail: np.ndarray | None = None
    auxiliary: Auxiliary | None = None

    @property
    def has_tail(self) -> bool:
        """Whether head and tail classes are treated apart."""
        return self.is_tail is not None


class RuleFacts(NamedTuple):
    """What is known of a rule before it is made.

    Attributes:
        groups_rows: whether groups of rows (`scope`) have perturbations of their own.
        compacts: whether a term may run on some rows only.
        has_auxiliary: whether it brings a second loss.
        couples_batch: whether what it adds couples the rows of the batch.
        reads_labels: whether it tells classes apart by their counts.
    """

    groups_rows: bool = False
    compacts: bool = False
    has_auxiliary: bool = False
    couples_batch: bool = False
    reads_labels: bool = False


# ------------------------------------------------------------------------- options


@dataclasses.dataclass(frozen=True)
class SharpOptions:
    """Shared by the rules that perturb the parameters."""

    late: str = option("0 steps", "plain gradient before this step", duration=True)
    perturb: str = option(
        "all",
        "which parameters are perturbed: all, normalization layers (SAM-ON), the head",
        choices=("all", "norm", "head"),
    )
    stats: str = option(
        "first",
        "which passes update the batch statistics",
        choices=("first", "every", "none"),
    )
    scope: str = option(
        "global",
        "rows that share a perturbation: global, shard, or a number of rows",
    )


@dataclasses.dataclass(frozen=True)
class SAMOptions(SharpOptions):
    """Of SAM."""

    rho: float = option(0.1, "radius", low=0, sweep=True)


@dataclasses.dataclass(frozen=True)
class ASAMOptions(SharpOptions):
    """Of adaptive SAM."""

    rho: float = option(0.5, "radius, in units of the weights' size", low=0, sweep=True)
    tensors: str = option(
        "weights_only", "which tensors are scaled", choices=("weights_only", "all")
    )
    eta: float = option(0.0, "added to the weights' size", low=0)


@dataclasses.dataclass(frozen=True)
class TailOptions(SharpOptions):
    """Shared by the rules that treat tail classes apart."""

    compaction: bool = option(False, "the tail's term runs on its own rows only")
    blocks: int = option(1, "compaction: devices that share the batch", low=1)


@dataclasses.dataclass(frozen=True)
class ImbSAMOptions(TailOptions):
    """Of ImbSAM."""

    rho: float = option(0.05, "radius", low=0, sweep=True)
    eta: int = option(20, "a class with fewer examples is tail", low=0)
    tail_scale: float = option(1.0, "factor of the tail's gradient", low=0)
    group_normalize: str = option(
        "batch",
        "the groups' losses are sums over the batch, or means over the group",
        choices=("batch", "group_mean"),
    )


@dataclasses.dataclass(frozen=True)
class SSESAMOptions(TailOptions):
    """Of SSE-SAM."""

    rho_head: float = option(0.05, "radius of the head classes", low=0, sweep=True)
    rho_tail: float = option(0.1, "radius of the tail classes", low=0, sweep=True)
    eta: int = option(100, "a class with fewer examples is tail", low=0)
    switch: str = option("70%", "end of the first stage", duration=True)


@dataclasses.dataclass(frozen=True)
class RwSAMOptions(SAMOptions):
    """Of rwSAM."""

    density_weights: str = option(
        "",
        "file (.npy) with one weight per training example, from"
        " ltjax.sharpness.density_weights",
        file=True,
    )


@dataclasses.dataclass(frozen=True)
class FocalSAMOptions(SharpOptions):
    """Of Focal-SAM."""

    rho: float = option(0.2, "radius", low=0, sweep=True)
    focal_gamma: float = option(3.0, "exponent of 1 - pi_y", low=0, sweep=True)
    focal_lambda: float = option(0.5, "weight of the sharpness", low=0, sweep=True)


# --------------------------------------------------------------------------- rules


def _columns(parts: Parts) -> tuple[Any, Any]:
    """Labels and base weights: vectors for one part, dicts by part for several."""
    if len(parts) == 1:
        (part,) = parts.values()
        return part.labels, part.base
    labels = {name: part.labels for name, part in parts.items()}
    return labels, {name: part.base for name, part in parts.items()}


def _classes(caller: str, parts: Parts) -> tuple[Any, Any]:
    """`_columns` for rules that need to know each row's class."""
    missing = [name for name, part in parts.items() if part.labels is None]
    if missing:
        raise ValueError(
            f"{caller}: the part {missing[0]!r} of the objective has no classes,"
            " expected a rule that does not tell head from tail"
        )
    return _columns(parts)


def _rows(parts: Parts) -> int:
    return next(iter(parts.values())).base.shape[0]


def plain() -> GradientRule:
    """The ordinary gradient of the objective."""

    def terms(parts: Parts, state, batch, program):
        return sharpness.plain(_rows(parts), base=_columns(parts)[1])

    return GradientRule(terms)


def sam(options: SAMOptions | ASAMOptions) -> GradientRule:
    """SAM and, with a scale rule in its options, ASAM."""

    def terms(parts: Parts, state, batch, program):
        now = live(PATH, options, state.hyper)
        return sharpness.sam(_rows(parts), rho=now.rho, base=_columns(parts)[1])

    return GradientRule(terms)


def imbsam(options: ImbSAMOptions, is_tail) -> GradientRule:
    """ImbSAM: the tail's gradient at the tail's worst point, the head's at theta."""

    def terms(parts: Parts, state, batch, program, rows=None):
        labels, base = _classes("imbsam", parts)
        return sharpness.imbsam(
            labels,
            is_tail,
            rho=live(PATH, options, state.hyper).rho,
            tail_scale=options.tail_scale,
            normalize=options.group_normalize,
            base=base,
            tail_rows=rows,
            blocks=options.blocks,
        )

    return GradientRule(terms, is_tail=is_tail)


def sse_sam(options: SSESAMOptions, is_tail, *, switch: int) -> GradientRule:
    """SSE-SAM: two perturbations before step `switch`, the tail's only from it on."""

    def terms(parts: Parts, state, batch, program, rows=None):
        labels, base = _classes("sse_sam", parts)
        now = live(PATH, options, state.hyper)
        return sharpness.sse_sam(
            labels,
            is_tail,
            rho_head=now.rho_head,
            rho_tail=now.rho_tail,
            stage=program,
            base=base,
            tail_rows=rows,
            blocks=options.blocks,
        )

    return GradientRule(
        terms, lambda step: 1 if step < switch else 2, (1, 2), is_tail=is_tail
    )


def rwsam(options: RwSAMOptions, density_weights: np.ndarray) -> GradientRule:
    """rwSAM: the ascent weighted by inverse feature density, looked up by example."""
    table = np.asarray(density_weights, np.float32)

    def terms(parts: Parts, state, batch, program):
        weights = jnp.asarray(table)[batch["index"]]
        rho = live(PATH, options, state.hyper).rho
        return sharpness.rwsam(weights, rho=rho, base=_columns(parts)[1])

    return GradientRule(terms)


def focal_sam(options: FocalSAMOptions, class_counts) -> GradientRule:
    """Focal-SAM: sharpness weighted by lambda (1 - pi_y)^gamma."""

    def terms(parts: Parts, state, batch, program):
        labels, base = _classes("focal_sam", parts)
        now = live(PATH, options, state.hyper)
        coefficients = sharpness.focal_coefficients(
            class_counts, gamma=now.focal_gamma, lam=now.focal_lambda
        )
        return sharpness.focal_sam(labels, coefficients, rho=now.rho, base=base)

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

    options = {**rule.options, "rows_independent": True, "blocks": blocks}
    return rule._replace(
        terms=terms,
        programs=tuple((p, rows) for p in rule.programs for rows in buckets),
        arrange=arrange,
        options=options,
    )


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


# ---------------------------------------------------------------------- components


def sharp(rule_of: Callable[..., GradientRule]) -> Callable[..., GradientRule]:
    """A component's `make` from (options, setting) -> rule, with the shared options."""

    def make(options: SharpOptions, setting) -> GradientRule:
        rule = rule_of(options, setting)
        rule = rule._replace(options={**_pass_options(options), **rule.options})
        if isinstance(options, TailOptions) and options.compaction:
            rule = compacted(
                rule,
                rule.is_tail,
                batch_size=setting.batch_size,
                blocks=options.blocks,
            )
        return starting_at(rule, setting.steps(options.late))

    return make


def _pass_options(options: SharpOptions) -> dict[str, Any]:
    """Keyword arguments of `sharp_value_and_grad` that the shared options ask for."""
    chosen: dict[str, Any] = {"stats": options.stats}
    masks = {"norm": sharpness.normalization_only, "head": sharpness.only_under("head")}
    if options.perturb in masks:
        chosen["mask"] = masks[options.perturb]
    scope = options.scope
    chosen["scope"] = int(scope) if scope.isdigit() else scope
    return chosen


def _facts(options: SharpOptions) -> RuleFacts:
    compacts = isinstance(options, TailOptions) and options.compaction
    by_class = isinstance(options, (TailOptions, FocalSAMOptions))
    return RuleFacts(options.scope != "global", compacts, reads_labels=by_class)


def _needs(options: SharpOptions, config) -> list[str]:
    faults, scope, size = [], options.scope, config.batch_size
    if scope not in ("global", "shard") and (
        not scope.isdigit() or int(scope) < 1 or size % int(scope)
    ):
        faults.append(
            f"config.gradient.scope is {scope!r}, expected 'global', 'shard' or a"
            f" divisor of batch_size = {size}"
        )
    return faults


def _tail_needs(options: TailOptions, config) -> list[str]:
    faults = _needs(options, config)
    if not options.compaction:
        return faults
    if config.batch_size % options.blocks:
        faults.append(
            f"config.gradient.blocks is {options.blocks}, expected a divisor of"
            f" batch_size = {config.batch_size}"
        )
    if options.scope != "global":
        faults.append(
            f"config.gradient.compaction is set, but scope is {options.scope!r}: groups"
            " of rows need all of theirs, expected scope = 'global'"
        )
    if config.method.facts.mixes:
        faults.append(
            "config.gradient.compaction needs each row to be one example of the batch,"
            " expected a method that does not mix examples (method.mixup = 0)"
        )
    for name in ("model", "head"):
        network = getattr(config, name)
        if not network.facts.rows_independent:
            faults.append(
                "config.gradient.compaction is set, but batch normalization couples the"
                f" rows of {network.name}, so a term cannot run on some rows only; use"
                " model.norm='group' (or compaction=False)"
            )
    return faults


def _rwsam_needs(options: RwSAMOptions, config) -> list[str]:
    if options.density_weights:
        return _needs(options, config)
    return [
        "config.gradient.density_weights is empty, but rwsam needs a .npy file with"
        " one weight per training example (ltjax.sharpness.density_weights)",
        *_needs(options, config),
    ]


def _tail(options, setting) -> np.ndarray:
    return np.asarray(sharpness.tail_classes(setting.class_counts, eta=options.eta))


def _asam(options: ASAMOptions, setting) -> GradientRule:
    scale = sharpness.asam(eta=options.eta, rule=options.tensors)
    return sam(options)._replace(options={"scale": scale})


def _rwsam(options: RwSAMOptions, setting) -> GradientRule:
    table = np.load(options.density_weights, allow_pickle=False)
    if table.shape != (setting.num_examples,):
        raise ValueError(
            f"rwsam: {options.density_weights} holds weights of shape {table.shape},"
            f" expected one for each of the {setting.num_examples} training examples"
        )
    return rwsam(options, table)


PLAIN = Component("ordinary gradient", NoOptions, lambda o, s: plain())
SAM = Component(
    "SAM (Foret 2021)", SAMOptions, sharp(lambda o, s: sam(o)), _needs, _facts
)
ASAM = Component("adaptive SAM (Kwon 2021)", ASAMOptions, sharp(_asam), _needs, _facts)
IMBSAM = Component(
    "ImbSAM: SAM for tail classes only (Zhou 2023)",
    ImbSAMOptions,
    sharp(lambda o, s: imbsam(o, _tail(o, s))),
    _tail_needs,
    _facts,
)
SSE_SAM = Component(
    "SSE-SAM: head and tail perturbed apart, then tail only (Lyu 2025)",
    SSESAMOptions,
    sharp(lambda o, s: sse_sam(o, _tail(o, s), switch=s.steps(o.switch))),
    _tail_needs,
    _facts,
)
RWSAM = Component(
    "rwSAM: ascent weighted by inverse density (Liu 2022)",
    RwSAMOptions,
    sharp(_rwsam),
    _rwsam_needs,
    _facts,
)
FOCAL_SAM = Component(
    "Focal-SAM: class-weighted sharpness (Li 2025)",
    FocalSAMOptions,
    sharp(lambda o, s: focal_sam(o, s.class_counts)),
    _needs,
    _facts,
)
