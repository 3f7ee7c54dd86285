"""Constants of a program may be read from the device while it is compiled."""

import jax
import jax.numpy as jnp
import pytest

from ltjax.train.programs import compiled


def guard():
    return jax.config.jax_transfer_guard_device_to_host


def test_the_guard_is_lifted_for_the_first_call_of_each_program_only():
    # On the CPU nothing is refused, so that the setting itself has to be looked at.
    scale, found = jnp.float32(3), []

    def step(x, *, program):
        found.append((program, guard()))
        return x * scale + program

    run = compiled(step, static_argnames="program")
    x = jnp.arange(2.0)
    with jax.transfer_guard("disallow"):
        results = [run(x, program=p) for p in (0, 1, 0, 1)]
        assert guard() == "disallow"
    assert found == [(0, "allow"), (1, "allow")]
    assert [r.tolist() for r in results] == [[0, 3], [1, 4]] * 2


def test_a_call_that_fails_leaves_the_guard_as_it_was():
    def step(x):
        raise ZeroDivisionError

    run, x = compiled(step), jnp.ones(2)
    with jax.transfer_guard("disallow"):
        with pytest.raises(ZeroDivisionError):
            run(x)
        assert guard() == "disallow"
