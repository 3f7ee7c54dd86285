"""A disk that fills up during a run: exit code 1, and nothing is lost.

Needs the right to mount a small file system in memory.
"""

import contextlib
import pathlib
import random
import subprocess
from collections.abc import Iterator
from functools import partial

from experiments.reliability.kills import SUBJECTS, arguments
from experiments.reliability.processes import ltjax, same_end, start

SIZE = 64 << 20  # bytes
CASES = ("a full disk",)


@contextlib.contextmanager
def small_disk(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of its own, of `SIZE` bytes."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cannot mount a file system: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def torment(
    name: str, count: int, place: pathlib.Path, *, seed: int = 0
) -> dict[str, str]:
    """Fills the disk so that one of the first saves has no room, then makes room.

    Args:
        name: of the row.
        count: number of runs.
        place: folder for runs and logs.
        seed: of the room that is left.

    Returns:
        A row of the table.
    """
    subject, rng, log = SUBJECTS["supervised"], random.Random(seed), place / "log.txt"
    calm = place / "calm"
    if code := ltjax(arguments(subject, calm), log).wait():
        raise RuntimeError(f"exit code {code}\n{log.read_text()[-3000:]}")
    # One checkpoint and a bit, so that the first is saved and a later one is not.
    needed = sum(f.stat().st_size for f in calm.rglob("*") if f.is_file())
    attacks = survived = 0
    for index in range(count):
        with small_disk(place / f"disk{index}") as disk:
            filler = disk / "filler"
            with filler.open("wb") as file:
                file.write(bytes(SIZE - int(needed * rng.uniform(0.3, 0.8))))
            command = arguments(subject, disk / "run")
            first = ltjax(command, log).wait()
            filler.unlink()
            second = ltjax(command, log).wait()
            compare = partial(same_end, disk / "run", calm)
            attacks += first != 0
            survived += first == 1 and second == 0 and start(compare, log).wait() == 0
    return {
        "attack": name,
        "attacks": str(attacks),
        "survived": str(survived),
        "remark": "exit code 1, then the same bits",
    }
