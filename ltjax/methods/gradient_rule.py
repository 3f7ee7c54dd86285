"""The contract of a gradient rule, and rules made of rules.

A method says what it minimizes, as weights over per-example losses; a rule says at
which point of parameter space each share of it is differentiated. Rules are built once
per run from class counts; what may vary in a sweep is read from `state.hyper`.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax import sharpness
from ltjax.methods.method import Method, Part, Refresh
from ltjax.options import ConfigError
from ltjax.sharpness import Term

Parts = Mapping[str, Part]
RULE = "rule"  # where a rule's memory lies in the method's state


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


class RuleMemory(NamedTuple):
    """What a rule keeps of every training example between steps.

    It lies in the method's state, under `RULE`, and is sharded by row.

    Attributes:
        init: () -> dict of arrays [N, ...], N padded to `Setting.table_size`.
        refreshes: as a method's, but `fn` takes and returns the memory in place of the
            method state; `on` is "host".
    """

    init: Callable[[], Any]
    refreshes: tuple[Refresh, ...] = ()


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
        memory: what it keeps of every example, or None.
    """

    terms: Callable[..., tuple[Term, ...]]
    program: Callable[[int], Hashable] = lambda step: None
    programs: tuple[Hashable, ...] = (None,)
    arrange: Callable[..., Any] | None = None
    options: Mapping[str, Any] = {}
    is_tail: np.ndarray | None = None
    auxiliary: Auxiliary | None = None
    memory: RuleMemory | None = None

    def check_perturbed(self, params: Any) -> None:
        """Raises ConfigError if no leaf of `params` is one that the rule perturbs."""
        if "mask" not in self.options:
            return
        try:
            self.options["mask"](params)
        except ValueError as error:
            raise ConfigError([f"config.gradient.perturb: {error}"]) from None

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


def columns(parts: Parts) -> tuple[Any, Any]:
    """Labels and base weights: vectors for one part, dicts by part for several."""
    if len(parts) == 1:
        (part,) = parts.values()
        return part.labels, part.base
    labels = {name: part.labels for name, part in parts.items()}
    return labels, {name: part.base for name, part in parts.items()}


def classes(caller: str, parts: Parts) -> tuple[Any, Any]:
    """`columns` for rules that need to know each row's class."""
    missing = [name for name, part in parts.items() if part.labels is None]
    if missing:
        raise ValueError(
            f"{caller}: the part {missing[0]!r} of the objective has no classes,"
            " expected a rule that does not tell head from tail"
        )
    return columns(parts)


def rows_of(parts: Parts) -> int:
    """B, the number of rows that the weights are of."""
    return next(iter(parts.values())).base.shape[0]


def plain() -> GradientRule:
    """The ordinary gradient of the objective."""

    def terms(parts: Parts, state, batch, program):
        return sharpness.plain(rows_of(parts), base=columns(parts)[1])

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


def remembering(method: Method, rule: GradientRule) -> Method:
    """A method whose state also holds the memory of its gradient rule.

    Args:
        method: made with `rule`.
        rule: of the method.

    Returns:
        `method` itself if the rule keeps nothing.
    """
    memory = rule.memory
    if memory is None:
        return method

    def beside(new, state):
        return {**(new or {}), RULE: state[RULE]}

    def init(key, params, model_state):
        return {**(method.init(key, params, model_state) or {}), RULE: memory.init()}

    def prepare(state, batch, *, key, program):
        new, batch = method.prepare(state, batch, key=key, program=program)
        return beside(new, state.method_state), batch

    def update(state, batch, aux):
        return beside(method.update(state, batch, aux), state.method_state)

    def of_method(one: Refresh) -> Refresh:
        def on_device(state, gathered):
            return beside(one.fn(state, gathered), state.method_state)

        def on_host(kept, gathered, *, step):
            return beside(one.fn(kept, gathered, step=step), kept)

        return one._replace(fn=on_device if one.on == "device" else on_host)

    def of_rule(one: Refresh) -> Refresh:
        def fn(kept, gathered, *, step):
            return {**kept, RULE: one.fn(kept[RULE], gathered, step=step)}

        return one._replace(fn=fn)

    refreshes = (*map(of_method, method.refreshes), *map(of_rule, memory.refreshes))
    return method._replace(
        init=init,
        prepare=prepare,
        update=update,
        refreshes=refreshes,
        tables=(*method.tables, RULE),
    )
