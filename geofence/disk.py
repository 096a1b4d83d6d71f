"""Put files on the disk so that after a power cut they are there whole, or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geofence.errors import DiskError, GeofenceError, NoPermission

TEMPORARY = ".tmp-"
"""How the name of everything begins that is not finished; the next run removes it."""

_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750


@contextlib.contextmanager
def refusals(act: str, path: Path) -> Iterator[None]:
    """Turn the disk's refusal of an act into an error that names the act and the path."""
    try:
        yield
    except OSError as error:
        raise translated(act, path, error) from error


def translated(act: str, path: Path, error: OSError) -> GeofenceError:
    """Say in our words what the disk refused: a full one is not a forbidden one."""
    what = f"cannot {act} {path}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPermission(what, cure="run geofence as root, or name a directory of your own")
    cures = {
        errno.ENOSPC: "make room on that file system (df, df -i)",
        errno.EDQUOT: "raise the quota of that file system",
        errno.EROFS: "mount that file system read-write",
    }
    return DiskError(what, cure=cures.get(error.errno or 0, "look at the file system and its log"))


class Disk:
    """The few things geofence does to a disk, each durable when it returns.

    A rename is on the disk only when the directory that holds the name is; both are fsynced,
    fsync(2), rename(2). An fsync that failed is never repeated on the same file.
    """

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it, for root alone to write."""
        with refusals("make the directory", path):
            for directory in (*reversed(path.parents), path):
                if not directory.is_dir():
                    directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
                    _sync_directory(directory.parent)

    def temporary_directory(self, parent: Path) -> Path:
        """Make an unfinished directory."""
        with refusals("make a directory in", parent):
            path = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
            path.chmod(_DIRECTORY_MODE)
            return path

    def write(self, path: Path, content: bytes, *, mode: int = _FILE_MODE) -> None:
        """Write a file, or leave what was there."""
        with refusals("write", path):
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                temporary.rename(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_directory(path.parent)

    def adopt(self, source: Path, target: Path) -> None:
        """Give a finished file or directory its name, in the same directory."""
        with refusals("rename to", target):
            source.rename(target)
            _sync_directory(target.parent)

    def point(self, link: Path, target: str) -> None:
        """Let a symbolic link point to another name beside it, in one step."""
        with refusals("replace", link):
            temporary = Path(tempfile.mktemp(prefix=TEMPORARY, dir=link.parent))  # noqa: S306
            temporary.symlink_to(target)
            try:
                temporary.rename(link)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_directory(link.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, a link, or a directory with all that is in it; gone is fine."""
        if not os.path.lexists(path):
            return  # on a read-only disk removing nothing would be refused too
        with refusals("remove", path), contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def sweep(self, directory: Path) -> None:
        """Remove what a killed run left unfinished in a directory."""
        with refusals("read", directory):
            unfinished = [path for path in directory.iterdir() if path.name.startswith(TEMPORARY)]
        for path in unfinished:
            self.remove(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
