"""The contract between a method that guesses labels and what becomes of its guesses.

A method of the `pseudo_labels` slot hands its probabilities to the treatment once per
step, before it thresholds, sharpens or mixes them, and learns from what comes back.
What a treatment keeps between steps are keys of the method's state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax.methods.method import Refresh
from ltjax.options import Component, NoOptions


def _nothing() -> dict[str, Any]:
    return {}


def _as_guessed(state, guesses, batch, *, features) -> tuple[dict[str, Any], Any]:
    return state.method_state, guesses


class Treatment(NamedTuple):
    """What becomes of guesses before a method learns from them.

    Attributes:
        init: () -> dict, the keys that it adds to the method state.
        apply: (state, guesses [B, m, K], batch, *, features [B, m, D]) ->
            (method_state, guesses), traced, once per step; rows sum to 1. The features
            are those of the pass that guessed.
        estimate: method_state -> [K], the class distribution that it takes the
            unlabelled examples to have; None if it has no opinion.
        refreshes: see `Method`.
        tables: likewise.
    """

    init: Callable[[], dict[str, Any]] = _nothing
    apply: Callable[..., tuple[dict[str, Any], Any]] = _as_guessed
    estimate: Callable[[Any], Any] | None = None
    refreshes: tuple[Refresh, ...] = ()
    tables: tuple[str, ...] = ()


class TreatmentFacts(NamedTuple):
    """What is known of a treatment before it is made.

    Attributes:
        changes: whether guesses may come back as something else.
    """

    changes: bool = True


def _none(options: NoOptions, setting: Any) -> Treatment:
    return Treatment()


NONE = Component(
    "guesses as they are",
    NoOptions,
    _none,
    facts=lambda options: TreatmentFacts(changes=False),
)
