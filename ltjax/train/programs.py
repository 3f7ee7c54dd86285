"""Programs of a loop in which nothing else may be read from the device."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit(function, **options)` that is free to compile under a transfer guard.

    A device array that `function` closes over becomes a constant of its program: XLA
    reads it while compiling, which on a GPU or TPU is a transfer to the host. That is
    no fault of the step, so the calls that compile may read; all others are guarded.

    Args:
        function: to be compiled; its static arguments are passed by keyword.
        **options: of `jax.jit`.

    Returns:
        The compiled function. Each value of the static arguments is compiled at its
        first call; arguments of other shapes or dtypes are not expected.
    """
    jitted, seen = jax.jit(function, **options), set()

    def call(*args: Any, **static: Any) -> Any:
        key = tuple(static.items())
        if key in seen:
            return jitted(*args, **static)
        with jax.transfer_guard_device_to_host("allow"):
            result = jitted(*args, **static)
        seen.add(key)
        return result

    return call
