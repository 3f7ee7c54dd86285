"""What produced a number: versions, code, hardware."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess

import jax

import ltjax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@functools.cache
def versions() -> dict[str, object]:
    """{"versions": {package: version}, "code": version or git revision}."""
    found = {"python": platform.python_version(), "ltjax": ltjax.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": found, "code": _revision() or ltjax.__version__}


def hardware() -> dict[str, object]:
    """{"hardware": {"platform", "device", "devices", "processes", "cpu", "cores"}}."""
    devices = jax.devices()
    return {
        "hardware": {
            "platform": devices[0].platform,
            "device": devices[0].device_kind,
            "devices": len(devices),
            "processes": jax.process_count(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        }
    }


def _cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _revision() -> str:
    """Short git revision of a source checkout, "+" appended if the package differs.

    Other files may: a results file grows while an experiment writes it.
    """
    package = pathlib.Path(ltjax.__file__).resolve().parent
    if not (package.parent / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        args = ["git", "-C", str(package), *arguments]
        done = subprocess.run(args, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()

    try:
        revision = git("describe", "--always")
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return revision + "+" if revision and changes else revision
