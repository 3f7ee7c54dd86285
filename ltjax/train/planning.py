"""The host's plan of every step: which rows, in which order, for which program."""

import functools
import itertools
from collections.abc import Callable

import numpy as np

from ltjax.data.feed import replica_plan
from ltjax.methods.gradient_rule import GradientRule
from ltjax.methods.method import Method, Program
from ltjax.resampling.samplers import Sampler


class StepPlan:
    """What the host decides about a step; a pure function of its number.

    Can be pickled (worker processes of the streaming feed call it).

    Args:
        sampler: of one replica.
        seeds: of the replicas.
        labels: [N] of the training set.
        rule: whose `program` and, if it has one, `arrange` decide the rest.
        method: whose stages are part of the program.
    """

    def __init__(
        self,
        sampler: Sampler,
        seeds: list[int],
        labels: np.ndarray,
        rule: GradientRule,
        method: Method,
    ):
        self._draw: Callable = replica_plan(sampler, seeds)
        self._labels = np.asarray(labels)
        self._rule_program, self._arrange_rows = rule.program, rule.arrange
        self._stage = method.program
        self._programs = tuple(
            Program(stage, inner)
            for stage, inner in itertools.product(method.programs, rule.programs)
        )
        # The loop asks for a step's rows and its program; the feed runs a little ahead.
        self._arranged = functools.lru_cache(maxsize=64)(self._arrange)

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(indices int32, mask bool), both [R, B] (with companions [R, B, C])."""
        if self._arrange_rows is None:
            return self._draw(step)
        return self._arranged(step)[:2]

    @property
    def programs(self) -> tuple[Program, ...]:
        """Every value of `program`."""
        return self._programs

    def program(self, step: int) -> Program:
        """Static key of the compiled program of `step`, the same for all replicas."""
        inner = self._rule_program(step)
        if self._arrange_rows is not None and inner != "plain":
            inner = inner, self._arranged(step)[2]
        return Program(self._stage(step), inner)

    def _arrange(self, step: int):
        arrange = self._arrange_rows
        assert arrange is not None  # only then is an arranged step asked for
        indices, mask = self._draw(step)
        rows = 0
        for r in range(len(indices)):
            # Companions follow their row; the first column is the main stream's.
            own, real = (x[r].reshape(len(x[r]), -1)[:, 0] for x in (indices, mask))
            found = arrange(step, self._labels[own], real)
            indices[r] = indices[r][found.permutation]
            mask[r] = mask[r][found.permutation]
            rows = max(rows, found.rows)
        return indices, mask, rows

    def __getstate__(self):
        # Workers only draw rows: what traces (the method's functions) stays here.
        kept = {"_draw", "_labels", "_arrange_rows"}
        return {k: v for k, v in self.__dict__.items() if k in kept}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._arranged = functools.lru_cache(maxsize=64)(self._arrange)
