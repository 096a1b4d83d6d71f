"""One updater at a time, and one writer at a time: two flock(2) locks in the state directory."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from geofence.disk import refusals
from geofence.errors import Busy

UPDATER, WRITER = "update.lock", "lock"
WRITER_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


@contextlib.contextmanager
def updater(state: Path) -> Iterator[None]:
    """Hold ``update.lock`` from the start of an update to its end; it is not waited for."""
    with _held(state / UPDATER, wait_seconds=0.0, who="update"):
        yield


@contextlib.contextmanager
def writer(state: Path) -> Iterator[None]:
    """Hold ``lock`` while the kernel or the state is written; it is waited for up to 10 s."""
    with _held(state / WRITER, wait_seconds=WRITER_WAIT_SECONDS, who="run"):
        yield


@contextlib.contextmanager
def _held(path: Path, *, wait_seconds: float, who: str) -> Iterator[None]:
    deadline = time.monotonic() + wait_seconds
    while (descriptor := _take(path)) is None:
        if time.monotonic() >= deadline:
            raise Busy(
                f"another {who} is at work ({_holder(path)}, lock {path})",
                cure="try again when it has ended",
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def _take(path: Path) -> int | None:
    """Take the lock and write our pid into it, or tell that it is held.

    Whoever removed the file meanwhile would let two of us in, each holding its own: the lock
    counts only while the path still leads to the file that is locked.
    """
    with refusals("open the lock", path):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), path.stat())
        except (BlockingIOError, FileNotFoundError):
            ours = False
        except BaseException:
            os.close(descriptor)
            raise
        if not ours:
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):  # a full disk takes no pid, and need not
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor


def _open(path: Path) -> int:
    """Open the lock's file; for reading alone where a boot finds its disk read-only."""
    try:
        return os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        if error.errno != errno.EROFS or path.name != WRITER:
            raise
        return os.open(path, _FLAGS | os.O_RDONLY)


def _holder(path: Path) -> str:
    try:
        return f"pid {int(path.read_text())}"
    except (OSError, ValueError):
        return "pid unknown"
