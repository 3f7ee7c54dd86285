"""The host's plan of every step: which rows, in which order, for which program."""

import functools
from collections.abc import Callable, Hashable

import numpy as np

from ltjax.data.feed import replica_plan
from ltjax.methods.gradients import GradientRule
from ltjax.resampling.samplers import Sampler


class StepPlan:
    """What the host decides about a step; a pure function of its number.

    Can be pickled (worker processes of the streaming feed call it).

    Args:
        sampler: of one replica.
        seeds: of the replicas.
        labels: [N] of the training set.
        rule: whose `program` and, if it has one, `arrange` decide the rest.
    """

    def __init__(
        self, sampler: Sampler, seeds: list[int], labels: np.ndarray, rule: GradientRule
    ):
        self._draw: Callable = replica_plan(sampler, seeds)
        self._labels = np.asarray(labels)
        self._rule = rule
        # The loop asks for a step's rows and its program; the feed runs a little ahead.
        self._arranged = functools.lru_cache(maxsize=64)(self._arrange)

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(indices int32, mask bool), both [R, B]."""
        if self._rule.arrange is None:
            return self._draw(step)
        return self._arranged(step)[:2]

    def program(self, step: int) -> Hashable:
        """Static key of the compiled program of `step`, the same for all replicas."""
        inner = self._rule.program(step)
        if self._rule.arrange is None or inner == "plain":
            return inner
        return inner, self._arranged(step)[2]

    def _arrange(self, step: int):
        arrange = self._rule.arrange
        assert arrange is not None  # else nobody asks for an arranged step
        indices, mask = self._draw(step)
        rows = 0
        for r in range(len(indices)):
            found = arrange(step, self._labels[indices[r]], mask[r])
            indices[r] = indices[r][found.permutation]
            mask[r] = mask[r][found.permutation]
            rows = max(rows, found.rows)
        return indices, mask, rows

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_arranged"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._arranged = functools.lru_cache(maxsize=64)(self._arrange)
