"""Two processes that start on one workdir at once: one trains, one is refused."""

import pathlib
import time

from experiments.reliability.kills import SUBJECTS, arguments
from experiments.reliability.processes import ltjax


def torment(
    name: str, count: int, place: pathlib.Path, *, seed: int = 0
) -> dict[str, str]:
    """Starts `count` pairs, one after the other.

    Args:
        name: of the row.
        count: number of pairs.
        place: folder for runs and logs.
        seed: unused, the race decides.

    Returns:
        A row of the table.
    """
    survived, slowest = 0, 0.0
    for pair in range(count):
        command = arguments(SUBJECTS["supervised"], place / f"run{pair}")
        logs = [place / f"{pair}_{i}.txt" for i in (0, 1)]
        began = time.monotonic()
        both = [ltjax(command, log) for log in logs]
        ended = dict.fromkeys(range(2))
        while None in ended.values():
            for i, one in enumerate(both):
                if ended[i] is None and one.poll() is not None:
                    ended[i] = time.monotonic() - began
            time.sleep(0.01)
        codes = [one.poll() for one in both]
        refused = codes.index(max(codes))
        if sorted(codes) == [0, 2] and "is in use by" in logs[refused].read_text():
            survived, slowest = survived + 1, max(slowest, ended[refused])
    return {
        "attack": name,
        "attacks": str(count),
        "survived": str(survived),
        "remark": f"refused after {slowest:.1f} s at most",
    }
