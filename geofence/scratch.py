"""A directory for unfinished downloads, gone afterwards, also if the run was killed."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geofence.disk import refusals

_TRIES = 5
_PREFIX = ".geofence-download-"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory of our own; first remove those whose runs were killed.

    Each is locked by its run, and the kernel unlocks it however the run ends.
    """
    with refusals("make a temporary directory in", Path(os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108
        _sweep(Path(tempfile.gettempdir()))
        path, lock = _locked_directory()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _locked_directory() -> tuple[Path, int]:
    """Make a directory and lock it; another one if a sweeping run came in between."""
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _lock(path)
        if lock is not None:
            return path, lock
        shutil.rmtree(path, ignore_errors=True)
    raise OSError(errno.ENOLCK, "directories cannot be locked there")


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        if (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a directory of ours and give the lock's descriptor; None if it is not to be had."""
    try:
        lock = os.open(path, _FLAGS)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        about = os.fstat(lock)
        if about.st_uid == os.geteuid() and os.path.samestat(about, path.stat()):
            return lock
    os.close(lock)
    return None
