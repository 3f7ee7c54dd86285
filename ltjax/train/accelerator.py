"""A GPU that is there and that JAX does not use."""

import os
import pathlib
import shutil

import jax

_DRIVER = pathlib.Path("/proc/driver/nvidia")


def unused_gpu() -> str | None:
    """What to tell where an NVIDIA GPU is present and JAX sees only CPUs, or None.

    Nothing is said if the platform was chosen (JAX_PLATFORMS=cpu).
    """
    chosen = jax.config.values["jax_platforms"] or os.environ.get("JAX_PLATFORMS")
    present = _DRIVER.exists() or shutil.which("nvidia-smi") is not None
    if not present or chosen or jax.default_backend() != "cpu":
        return None
    return (
        "this machine has an NVIDIA GPU, but JAX sees only CPUs; install"
        f' its GPU support with: pip install "jax[cuda13]=={jax.__version__}"'
        " (cuda12 for drivers older than 580), or set JAX_PLATFORMS=cpu"
    )
