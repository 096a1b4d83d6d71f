"""Directories of small files that are replaced as a whole, each file held to its digest.

NAME -> NAME-SUM   a symbolic link, replaced by rename: all of it is the old one or the new one
NAME/SHA256SUMS    as sha256sum(1) writes it, for sh
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from geofence.disk import Disk
from geofence.errors import GeofenceError

SUMS = "SHA256SUMS"
_SUM_DIGITS = 12


def sums(files: Mapping[str, bytes]) -> bytes:
    """Write the digests of files as sha256sum(1) does."""
    return "".join(f"{sha256(content)}  {name}\n" for name, content in files.items()).encode()


def sha256(content: bytes) -> str:
    """Give a digest in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def put(home: Path, files: Mapping[str, bytes], disk: Disk) -> bool:
    """Let a name lead to exactly these files, in one step; tell whether it did not before."""
    digests = sums(files)
    every = {**files, SUMS: digests}
    if all(_bytes(home / name) == content for name, content in every.items()):
        return False
    new = home.with_name(f"{home.name}-{sha256(digests)[:_SUM_DIGITS]}")
    try:
        disk.remove(new)  # what a killed run left of it
        disk.make_directory(new)
        for name, content in every.items():
            disk.write(new / name, content)
        if home.is_dir() and not home.is_symlink():
            disk.remove(home)
        disk.point(home, new.name)
    except BaseException:
        with contextlib.suppress(GeofenceError):
            disk.remove(new)
        raise
    _sweep(home, disk, keep=new)
    return True


def drop(home: Path, disk: Disk) -> None:
    """Let a name lead to nothing."""
    disk.remove(home)
    _sweep(home, disk)


def content(home: Path, name: str) -> bytes | None:
    """Read one of the files; None unless every byte of it is as it was written."""
    found = _bytes(home / name)
    if found is None or f"{sha256(found)}  {name}" not in _lines(home):
        return None
    return found


def damage(home: Path) -> str:
    """Tell what is wrong with the files; nothing, if all are there, and as they were written."""
    listed = [line.split()[-1] for line in _lines(home)]
    there = {path.name for path in home.iterdir()} if home.is_dir() else set()
    if there != {*listed, SUMS}:
        return f"{home} does not hold the files that its {SUMS} names"
    wrong = [name for name in listed if content(home, name) is None]
    return f"{home / wrong[0]} does not match its digest" if wrong else ""


def _sweep(home: Path, disk: Disk, keep: Path | None = None) -> None:
    """Remove what the name led to before; what cannot be removed goes the next time."""
    with contextlib.suppress(GeofenceError):
        for old in home.parent.glob(f"{home.name}-" + "[0-9a-f]" * _SUM_DIGITS):
            if old != keep:
                disk.remove(old)


def _lines(home: Path) -> list[str]:
    lines = (_bytes(home / SUMS) or b"").decode("ascii", "replace").splitlines()
    return [line for line in lines if line]


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
