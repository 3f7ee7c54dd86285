"""Checks a built wheel as a stranger meets it: installed alone, used elsewhere.

python tests/check_wheel.py dist
"""

import configparser
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Run in an empty directory, with only the wheel's files in front of the environment's.
USE = """
import importlib, math, pathlib, sys
import numpy as np
import ltjax, ltjax.losses

place = pathlib.Path(sys.argv[1])
for module in (ltjax, ltjax.losses):
    assert place in pathlib.Path(module.__file__).parents, module.__file__
assert ltjax.__version__ == sys.argv[2], ltjax.__version__

logits, counts, y = (1.0, 0.5, -0.2), (100, 20, 5), 2
found = ltjax.losses.logit_adjusted(np.array([logits]), np.array([y]), counts, tau=1.0)
shifted = [n * math.exp(z) for n, z in zip(counts, logits)]
expected = -math.log(shifted[y] / sum(shifted))
assert found.shape == (1,) and math.isclose(found[0], expected, rel_tol=1e-6), found
"""


class Refused(Exception):
    """What is wrong with the wheel."""


def find_wheel(dist: pathlib.Path) -> pathlib.Path:
    wheels = sorted(dist.glob("*.whl"))
    if len(wheels) != 1:
        raise Refused(f"{dist} holds {len(wheels)} wheels, expected one")
    return wheels[0]


def check_contents(wheel: pathlib.Path) -> str:
    """Nothing but the package, all of it, its license and its command; the version."""
    name, version = wheel.name.split("-")[:2]
    meta = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        text = archive.read(f"{meta}/entry_points.txt").decode()
    strays = sorted(n for n in names if n.split("/")[0] not in ("ltjax", meta))
    strays += sorted(n for n in names if "__pycache__" in n or "/tests/" in n)
    if strays:
        raise Refused(f"{wheel.name} holds {strays[0]!r} ({len(strays)} strays)")
    modules = {
        str(path.relative_to(ROOT))
        for kind in ("py", "css", "js")
        for path in (ROOT / "ltjax").rglob(f"*.{kind}")
    }
    missing = sorted(modules - names)
    if missing:
        raise Refused(f"{wheel.name} lacks {missing[0]!r} ({len(missing)} modules)")
    configs = {f"ltjax/_configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    if not configs <= names:
        raise Refused(f"{wheel.name} lacks {sorted(configs - names)[0]!r}")
    if f"{meta}/licenses/LICENSE" not in names:
        raise Refused(f"{wheel.name} holds no license")
    entries = configparser.ConfigParser()
    entries.read_string(text)
    command = entries.get("console_scripts", "ltjax", fallback=None)
    if command != "ltjax.cli:main":
        raise Refused(f"command ltjax is {command!r}, expected 'ltjax.cli:main'")
    return version


def call(what: str, *command, cwd, path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise Refused(f"{what} failed:\n{done.stderr.strip()}")
    return done.stdout


def check_use(wheel: pathlib.Path, version: str, scratch: pathlib.Path) -> None:
    """Installs the wheel without its dependencies; imports it, runs its command."""
    site, empty = scratch / "site", scratch / "empty"
    empty.mkdir()
    python = sys.executable
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call("pip", python, *pip, "--target", site, wheel, cwd=empty, path="")
    use = (python, "-c", USE, site, version)
    call("using the package", *use, cwd=empty, path=site)
    script = site / "bin" / "ltjax"
    listing = call("ltjax list", python, script, "list", "losses", cwd=empty, path=site)
    if "logit adjustment" not in listing:
        raise Refused(f"'ltjax list losses' names no logit adjustment:\n{listing}")
    configs = call("ltjax configs", python, script, "configs", cwd=empty, path=site)
    if "\nmnist1d_lt " not in configs:
        raise Refused(f"'ltjax configs' does not list mnist1d_lt:\n{configs}")
    named = ("sweep", "--config", "mnist1d_lt:method=la", "--grid", "loss.tau=0.5,1")
    plan = ("--workdir", "runs", "--dry-run")
    planned = call("a config", python, script, *named, *plan, cwd=empty, path=site)
    if "2 points in 1 runs" not in planned:
        raise Refused(f"a sweep of --config mnist1d_lt is not planned:\n{planned}")
    left = sorted(path.name for path in empty.iterdir())
    if left:
        raise Refused(f"importing and listing left {left} in the working directory")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python tests/check_wheel.py DIST", file=sys.stderr)
        return 1
    try:
        wheel = find_wheel(pathlib.Path(arguments[0]).resolve())
        version = check_contents(wheel)
        with tempfile.TemporaryDirectory() as scratch:
            check_use(wheel, version, pathlib.Path(scratch).resolve())
    except Refused as fault:
        print(f"check_wheel: {fault}", file=sys.stderr)
        return 1
    print(f"{wheel.name}: installs and works on its own")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
