"""Gradient rules of the literature: SAM, its adaptive and its class-wise forms."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ltjax import sharpness
from ltjax.methods.gradient_rule import (
    GradientRule,
    Parts,
    RuleFacts,
    classes,
    columns,
    compacted,
    plain,
    rows_of,
    starting_at,
)
from ltjax.options import Component, NoOptions, live, option

PATH = "gradient"  # of the config section


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
class FocalSAMOptions(SharpOptions):
    """Of Focal-SAM."""

    rho: float = option(0.2, "radius", low=0, sweep=True)
    focal_gamma: float = option(3.0, "exponent of 1 - pi_y", low=0, sweep=True)
    focal_lambda: float = option(0.5, "weight of the sharpness", low=0, sweep=True)


# --------------------------------------------------------------------------- rules


def sam(options: SAMOptions | ASAMOptions) -> GradientRule:
    """SAM and, with a scale rule in its options, ASAM."""

    def terms(parts: Parts, state, batch, program):
        now = live(PATH, options, state.hyper)
        return sharpness.sam(rows_of(parts), rho=now.rho, base=columns(parts)[1])

    return GradientRule(terms)


def imbsam(options: ImbSAMOptions, is_tail) -> GradientRule:
    """ImbSAM: the tail's gradient at the tail's worst point, the head's at theta."""

    def terms(parts: Parts, state, batch, program, rows=None):
        labels, base = classes("imbsam", parts)
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
        labels, base = classes("sse_sam", parts)
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


def focal_sam(options: FocalSAMOptions, class_counts) -> GradientRule:
    """Focal-SAM: sharpness weighted by lambda (1 - pi_y)^gamma."""

    def terms(parts: Parts, state, batch, program):
        labels, base = classes("focal_sam", parts)
        now = live(PATH, options, state.hyper)
        coefficients = sharpness.focal_coefficients(
            class_counts, gamma=now.focal_gamma, lam=now.focal_lambda
        )
        return sharpness.focal_sam(labels, coefficients, rho=now.rho, base=base)

    return GradientRule(terms)


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


def sharp_facts(options: SharpOptions) -> RuleFacts:
    """What is known of a rule with the shared options."""
    compacts = isinstance(options, TailOptions) and options.compaction
    by_class = isinstance(options, (TailOptions, FocalSAMOptions))
    return RuleFacts(options.scope != "global", compacts, reads_labels=by_class)


def sharp_needs(options: SharpOptions, config: Any) -> list[str]:
    """Faults of a config with the shared options of a rule."""
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
    faults = sharp_needs(options, config)
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


def _tail(options, setting) -> np.ndarray:
    return np.asarray(sharpness.tail_classes(setting.class_counts, eta=options.eta))


def _asam(options: ASAMOptions, setting) -> GradientRule:
    scale = sharpness.asam(eta=options.eta, rule=options.tensors)
    return sam(options)._replace(options={"scale": scale})


PLAIN = Component("ordinary gradient", NoOptions, lambda o, s: plain())
SAM = Component(
    "SAM (Foret 2021)", SAMOptions, sharp(lambda o, s: sam(o)), sharp_needs, sharp_facts
)
ASAM = Component(
    "adaptive SAM (Kwon 2021)", ASAMOptions, sharp(_asam), sharp_needs, sharp_facts
)
IMBSAM = Component(
    "ImbSAM: SAM for tail classes only (Zhou 2023)",
    ImbSAMOptions,
    sharp(lambda o, s: imbsam(o, _tail(o, s))),
    _tail_needs,
    sharp_facts,
)
SSE_SAM = Component(
    "SSE-SAM: head and tail perturbed apart, then tail only (Lyu 2025)",
    SSESAMOptions,
    sharp(lambda o, s: sse_sam(o, _tail(o, s), switch=s.steps(o.switch))),
    _tail_needs,
    sharp_facts,
)
FOCAL_SAM = Component(
    "Focal-SAM: class-weighted sharpness (Li 2025)",
    FocalSAMOptions,
    sharp(lambda o, s: focal_sam(o, s.class_counts)),
    sharp_needs,
    sharp_facts,
)
