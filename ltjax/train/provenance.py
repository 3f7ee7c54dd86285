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
    """Short git revision of a source checkout, "+" appended if it has changes."""
    root = pathlib.Path(ltjax.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        args = ["git", "-C", str(root), "describe", "--always", "--dirty=+"]
        done = subprocess.run(args, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
