"""One process at a time in a workdir.

The lock is `flock` on `<workdir>/.lock`, which the kernel gives up when the process
that holds it ends, however it ends. What the file says is for people only.
"""

import contextlib
import datetime
import json
import logging
import os
import pathlib
import platform
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOG = logging.getLogger(__name__)
_NAME = ".lock"
_HELD: set[int] = set()  # file descriptors


class WorkdirInUse(OSError):
    """Another process is running in the workdir."""


def _forget_in_child() -> None:
    # A forked child shares the lock; one that outlives its parent must not keep it.
    while _HELD:
        os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextlib.contextmanager
def workdir_lock(workdir: str | os.PathLike, *, primary: bool = True) -> Iterator[None]:
    """Holds `workdir` for this process, or refuses at once.

    What a killed process has left is taken over. Where the file system knows no locks
    this is said, and nothing is locked.

    Args:
        workdir: created if need be, and removed again if it is left empty.
        primary: whether this is process 0 of the run. The others lock nothing.

    Raises:
        WorkdirInUse: naming the process that holds it, its host and since when.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as workdir:
        ...     with workdir_lock(workdir):
        ...         try:
        ...             with workdir_lock(workdir):
        ...                 pass
        ...         except WorkdirInUse as refusal:
        ...             print("in use" in str(refusal))
        True
    """
    if not primary:
        yield
        return
    path = pathlib.Path(workdir, _NAME)
    missing = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
    descriptor = _acquire(path)
    if descriptor is None:
        yield
        return
    _HELD.add(descriptor)
    try:
        _say_who(descriptor, path)
        yield
    finally:
        # Removed before it is given up: whoever opened it meanwhile sees that what it
        # gets is no longer the file of that name, and tries again.
        with contextlib.suppress(OSError):
            path.unlink()
            for folder in missing:
                folder.rmdir()  # unless there is something in it
        _HELD.discard(descriptor)
        os.close(descriptor)


def _acquire(path: pathlib.Path) -> int | None:
    """An open, locked descriptor of the file that bears the name."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            if path.is_symlink():
                raise
            continue  # whoever made the folder has just removed it
        try:
            if fcntl is None:
                raise OSError("not on this platform")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise WorkdirInUse(
                f"workdir {path.parent} is in use by {_holder(path)}; wait for it, end"
                " it, or use another workdir"
            ) from None
        except OSError as error:
            os.close(descriptor)
            _LOG.warning(
                "%s cannot be locked (%s): make sure that no other process uses it",
                path.parent,
                error,
            )
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # removed between opening and locking


def _say_who(descriptor: int, path: pathlib.Path) -> None:
    left = _read(path)
    who = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode() + b"\n", 0)
    if left:
        _LOG.info("taking over %s from %s, which has ended", path.parent, _name(left))


def _holder(path: pathlib.Path) -> str:
    """Who holds the lock, as soon as the file says so.

    Whoever has only just locked it may not have written it yet, and then it still says
    who held it before.
    """
    for _ in range(50):
        who = _read(path)
        if who and not _has_ended(who):
            return _name(who)
        time.sleep(0.01)
    return "another process"


def _read(path: pathlib.Path) -> dict | None:
    with contextlib.suppress(OSError, ValueError):
        who = json.loads(path.read_text())
        if isinstance(who, dict) and {"pid", "host", "since"} <= who.keys():
            return who
    return None


def _name(who: dict) -> str:
    return f"process {who['pid']} on {who['host']} (since {who['since']})"


def _has_ended(who: dict) -> bool:
    """Whether that process was of this host and has ended."""
    if who["host"] != platform.node():
        return False
    try:
        os.kill(who["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, TypeError):
        pass
    return False
