r"""The switch step and the weight power that a pilot run's bound asks for.

TLA + ADRW has two numbers that its authors tune by hand for each data set: when the
second phase starts, and how strong its class weights are. The summands of the bound
say both. The first phase has done its work when the frequent classes' part has stopped
shrinking; the weights of the second,

.. math:: \alpha_y \propto \pi_y^{-\nu},

make the summands :math:`\alpha_y \tilde\beta_y \sqrt{\pi_y} [1 - \mathrm{softmax}(B +
\tau_2 \log \pi)_y]` as equal as they can be at that point.

References:
    Wang et al., NeurIPS 2023, Propositions 2-3 and Algorithm 1. The choice is ours.
"""

import os
import pathlib
import re
import zipfile
from typing import Any, NamedTuple

import numpy as np

from ltjax._archives import check_members
from ltjax._seal import BrokenSeal, unsealed
from ltjax.class_stats import log_prior
from ltjax.durations import duration_steps
from ltjax.metrics.bound import bound_terms, choose_switch_epoch, choose_weight_power
from ltjax.options import ConfigError


class BoundSchedule(NamedTuple):
    """A choice for `weights.start` and `weights.power`.

    Attributes:
        step: first step of the second phase.
        power: nu, the mean over the pilot's replicas.
        powers: [R], theirs.
    """

    step: int
    power: float
    powers: np.ndarray


def choose_bound_schedule(
    workdir: str | os.PathLike,
    *,
    tau_late: float = 1.0,
    window: int = 5,
    tolerance: float = 0.01,
) -> BoundSchedule:
    """The second phase that the history of a pilot run asks for.

    Args:
        workdir: of a run with the evaluator "bound", evaluated often in its first
            phase; later evaluations are not looked at.
        tau_late: strength of the second phase's logit adjustment.
        window: evaluations without progress that count as a stop.
        tolerance: smallest relative progress over a window, in [0, 1).

    Returns:
        A `BoundSchedule`. The history is the mean over replicas.

    Raises:
        ConfigError: if workdir holds no such history, it is shorter than the window, or
            the frequent classes' part is still shrinking at its end.
    """
    steps, summands, lowest, counts = _first_phase(pathlib.Path(workdir))
    if len(steps) <= window:
        raise ConfigError(
            f"bound: {workdir} was evaluated {len(steps)} time(s) in its first phase,"
            f" expected more than {window} (evaluate more often)"
        )
    history = summands.mean(axis=1)
    chosen = choose_switch_epoch(history, counts, window=window, tolerance=tolerance)
    if chosen is None:
        raise ConfigError(
            f"bound: in {workdir} the frequent classes' part is still shrinking at step"
            f" {steps[-1]}, the last of its first phase; train a longer pilot or allow"
            f" a larger tolerance than {tolerance}"
        )
    shift = tau_late * np.asarray(log_prior(counts))
    powers = np.array(
        [
            choose_weight_power(bound_terms(b, counts, shift=shift).summand, counts)
            for b in lowest[chosen]
        ]
    )
    return BoundSchedule(steps[chosen], float(powers.mean()), powers)


def _first_phase(workdir: pathlib.Path):
    """Steps [T], summands and smallest scores [T, R, K], class counts [K]."""
    config, info = (_facts(workdir, name) for name in ("config.json", "run.json"))
    counts = np.asarray(info["class_counts"])
    start = duration_steps(
        config["weights"]["start"],
        steps_per_epoch=info["steps_per_epoch"],
        batch_size=config["batch_size"],
        total_steps=info["total_steps"],
    )
    late = start or np.inf  # weights from the first step on: there is one phase
    steps, rows = [], []
    for step, path in _diagnostics(workdir):
        try:
            check_members(path)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ConfigError(f"bound: {path} is damaged: {error}") from None
        with np.load(path) as arrays:
            if step < late and "bound_summand" in arrays:
                steps.append(step)
                rows.append((arrays["bound_summand"], arrays["bound_min_score"]))
    if not steps:
        raise ConfigError(
            f"bound: {workdir} holds no evaluation with the bound's quantities; run it"
            " with config.evaluators = {'classification': {}, 'bound': {}}"
        )
    summands, lowest = (np.stack(part) for part in zip(*rows, strict=True))
    return steps, summands, lowest, counts


def _facts(workdir: pathlib.Path, name: str) -> dict:
    file = workdir / name
    if not file.is_file():
        raise ConfigError(f"bound: {workdir} does not hold a run (no {name})")
    try:
        return unsealed(file.read_text(errors="replace"))
    except BrokenSeal as error:
        raise ConfigError(f"bound: {file} is damaged: {error}") from None


def _diagnostics(workdir: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    files = (workdir / "evaluation").glob("train_*.npz")
    named = ((re.fullmatch(r"train_(\d+)\.npz", f.name), f) for f in files)
    return sorted((int(match[1]), file) for match, file in named if match)


def apply_bound_schedule(config: Any, workdir: str | os.PathLike, **options) -> None:
    """Sets `weights.start` and `weights.power` of a config from a pilot run.

    Args:
        config: a ConfigDict with its method applied; changed in place.
        workdir: of the pilot.
        **options: `window` and `tolerance` of `choose_bound_schedule`.

    Raises:
        ConfigError: see `choose_bound_schedule`; or if the config's class weights have
            no power.
    """
    if config.weights.name != "inverse_power":
        raise ConfigError(
            f"bound: config.weights.name is {config.weights.name!r}, expected"
            " 'inverse_power' (method=tla_adrw): the bound chooses its power"
        )
    found = choose_bound_schedule(workdir, tau_late=config.loss.tau_late, **options)
    config.weights.start = f"{found.step} steps"
    config.weights.power = round(found.power, 4)
