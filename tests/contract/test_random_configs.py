"""Random configs: refused in words that name the key, or built and able to step."""

import functools

import jax
import pytest

from experiments.reliability.fuzz.configs import COMPONENTS, SMALL, attempt
from experiments.reliability.fuzz.outcomes import Unexplained


def one_step(run):
    """The first step, compiled and taken."""
    state = jax.jit(run.init)(0, run.info.replicas[0]["hyper"])
    rows = run.feed.rows(*(part[0] for part in run.plan(0)))
    batch = run.feed.batch(run.feed.arrays, rows, jax.random.key(0), train=True)
    step = functools.partial(run.step, program=run.program(0))
    return jax.block_until_ready(jax.jit(step)(state, batch))


def try_out(numbers, devices, *, steps):
    """Faults of the draws, and how many were refused, built and stepped."""
    wrong, count, stepped = [], {"refused": 0, "built": 0}, {}
    for number in numbers:
        try:
            with devices(1):
                run = attempt(number)
        except Unexplained as error:
            wrong.append(str(error))
            continue
        count["refused" if run is None else "built"] += 1
        target = COMPONENTS[number % len(COMPONENTS)]
        small = run is not None and run.config.model.name in SMALL
        if small and target not in stepped and len(stepped) < steps:
            try:
                stepped[target] = one_step(run)
            except Exception as error:
                wrong.append(f"{number}: step: {type(error).__name__}: {error}")
    return wrong, count | {"stepped": len(stepped)}


def test_two_hundred_draws(devices):
    wrong, count = try_out(range(200), devices, steps=12)
    assert not wrong, "\n".join(wrong)
    assert count["refused"] > 50 and count["built"] > 50 and count["stepped"] == 12


@pytest.mark.slow
def test_two_thousand_draws(devices):
    wrong, count = try_out(range(200, 2200), devices, steps=len(COMPONENTS))
    assert not wrong, "\n".join(wrong)
    assert count["stepped"] > 40
