"""kill -9 at random moments: whatever was killed ends at the bits of a calm run."""

import pathlib
import random
from functools import partial
from typing import NamedTuple

from experiments.reliability.processes import (
    is_saving,
    logged_step,
    ltjax,
    same_end,
    start,
)
from ltjax.config_file import load_config

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Subject(NamedTuple):
    """A run that is killed.

    Attributes:
        config: file and arguments of its config.
        changes: fields that are set on top.
        of_stages: fields that are set on top in each stage, such as its length.
    """

    config: str
    changes: dict = {}
    of_stages: dict = {}


# Long enough to be interrupted, with a checkpoint every few dozen milliseconds.
STEPS = {
    "total": "200 steps",
    "log_every": "5 steps",
    "eval_every": "100 steps",
    "checkpoint_every": "20 steps",
}
HALF, THIRD = {"total": "100 steps"}, {"total": "60 steps"}  # of several stages
STREAMING = {"data.feed": "streaming"}
LOW_RANK = (
    {"name": "whole"},
    {"name": "lora", "adapter.name": "lora", "optimizer.train": "lora,head"},
)
SUBJECTS = {
    "supervised": Subject("mnist1d_lt.py:method=ldam_drw,smoke"),
    "sse_sam": Subject("mnist1d_lt.py:method=la,gradient=sse_sam,smoke"),
    "supervised, streaming": Subject("mnist1d_lt.py:method=la,smoke", STREAMING),
    "supervised, 1 worker": Subject(
        "mnist1d_lt.py:method=la,smoke", STREAMING | {"data.workers": 1}
    ),
    "fixmatch": Subject("semi_lt.py:method=fixmatch,smoke"),
    "fixmatch + darp": Subject("semi_lt.py:method=darp,smoke"),
    "proden": Subject("partial_lt.py:method=proden,smoke"),
    "solar with mixup": Subject("partial_lt.py:method=solar,smoke"),
    "rcal": Subject("noisy_lt.py:method=rcal,smoke", {}, HALF),
    "moco": Subject("selfsup_lt.py:method=moco,smoke"),
    "sdclr": Subject("selfsup_lt.py:method=sdclr,smoke"),
    "bcl": Subject("selfsup_lt.py:method=bcl,smoke"),
    "gh": Subject("selfsup_lt.py:method=gh,smoke"),
    "dnc": Subject("selfsup_lt.py:method=dnc,smoke", {}, THIRD),
    "simclr and probe": Subject("selfsup_lt.py:method=simclr,probe,smoke"),
    "auc": Subject("auc_lt.py:method=auc_square,smoke"),
    "low-rank updates": Subject("mnist1d_lt.py:method=la,smoke", {"stages": LOW_RANK}),
    "dense labels": Subject("segmentation_scenes.py:method=ce,smoke"),
    "memory bank": Subject("segmentation_scenes.py:method=aucseg,smoke"),
    "dual variables": Subject("auc_lt.py:method=aucm,binary,smoke"),
    "attacked inputs": Subject("robust_auc.py:method=drauc,smoke"),
    "modality stages": Subject("multimodal_digits.py:method=reconboost,smoke"),
    "experts": Subject("experts_lt.py:method=sade,smoke"),
    "sampled test priors": Subject("experts_lt.py:method=dirmixe,smoke"),
    "router of experts": Subject("experts_lt.py:method=ride_routed,smoke", {}, HALF),
    "denoising": Subject("diffusion_digits.py:method=denoising,smoke"),
    "steered diffusion": Subject(
        "diffusion_digits.py:method=steered,smoke",
        {},
        THIRD | {"evaluators": {"denoising": {}}},  # GATE itself takes much longer
    ),
}


def arguments(subject: Subject, workdir: pathlib.Path) -> list[str]:
    """Of the command that trains a subject."""
    path = f"{ROOT / 'configs' / subject.config}"
    changes = STEPS | subject.changes
    if subject.of_stages:
        stages = load_config(["--config", path]).stages
        changes |= {"stages": tuple(stage | subject.of_stages for stage in stages)}
    return [
        *("train", "--config", path),
        *(f"--config.{key}={value}" for key, value in changes.items()),
        *("--workdir", str(workdir), "--no-tensorboard"),
    ]


def last_stage(workdir: pathlib.Path) -> pathlib.Path:
    """The folder of a run's last stage, or of the run itself."""
    stages = sorted(path for path in workdir.glob("[0-9]_*") if path.is_dir())
    return stages[-1] if stages else workdir


def reached(workdir: pathlib.Path, step: int) -> bool:
    """Whether a run has logged that step."""
    return logged_step(workdir) >= step


def torment(
    name: str, kills: int, place: pathlib.Path, *, seed: int = 0
) -> dict[str, str]:
    """Trains a subject calmly, and again with kills.

    Every second kill waits until a checkpoint is half written.

    Args:
        name: of the subject.
        kills: number of kills, spread over as many runs as it takes.
        place: folder for runs and logs.
        seed: of the moments.

    Returns:
        A row of the table.
    """
    subject, rng = SUBJECTS[name], random.Random(f"{name} {seed}")
    log, calm = place / "log.txt", place / "calm"
    if code := ltjax(arguments(subject, calm), log).wait():
        raise RuntimeError(f"{name}: exit code {code}\n{log.read_text()[-3000:]}")
    total = logged_step(calm)
    done = saving = runs = equal = 0
    while done < kills:
        workdir, runs = place / f"run{runs}", runs + 1
        here = min(kills - done, 3)
        for target in sorted(rng.randrange(total) for _ in range(here)):
            command = ltjax(arguments(subject, workdir), log)
            command.wait_until(partial(reached, workdir, target))
            if done % 2:
                command.wait_until(partial(is_saving, workdir))
            halfway, killed = is_saving(workdir), command.kill() < 0
            done, saving = done + killed, saving + (killed and halfway)
        if code := ltjax(arguments(subject, workdir), log).wait():
            raise RuntimeError(f"{name}: exit code {code}\n{log.read_text()[-3000:]}")
        ends = [last_stage(workdir), last_stage(calm)]
        equal += start(partial(same_end, *ends), log).wait() == 0
    return {
        "attack": f"kill -9: {name}",
        "attacks": str(runs),
        "survived": str(equal),
        "remark": f"{done} kills, {saving} of them while a checkpoint was written",
    }
