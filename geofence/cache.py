"""Raw downloads with what their servers said of them, so that an unchanged file is not sent again.

Whoever deletes the directory loses nothing but time. A copy whose bytes do not match what was
noted beside it is not used.
"""

import datetime
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from geofence import codec
from geofence.disk import Disk
from geofence.documents import sha256_of
from geofence.errors import DiskError, NoPermission
from geofence.fetch import Body, Validators

_NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """What stands beside a copy."""

    url: str
    sha256: str
    etag: str
    last_modified: str
    checked: datetime.datetime  # when the server last said that this is its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A copy whose bytes are those that were noted."""

    path: Path
    checked: datetime.datetime
    validators: Validators
    sha256: str


class Cache:
    """A directory of copies by URL."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    def get(self, url: str) -> Cached | None:
        """Give the copy of a URL, if there is a sound one."""
        path = self._path(url)
        try:
            note = codec.from_json(_note(path).read_bytes(), _Note)
            if note.url != url or not note.checked.tzinfo or sha256_of(path) != note.sha256:
                return None
        except (OSError, ValueError, DiskError, NoPermission):
            return None
        return Cached(
            path=path,
            checked=note.checked,
            validators=Validators(etag=note.etag, last_modified=note.last_modified),
            sha256=note.sha256,
        )

    def put(self, url: str, body: Body, now: datetime.datetime) -> None:
        """Keep a download under its URL; it was checked by the caller."""
        self._disk.make_directory(self._directory)
        path = self._path(url)
        self._disk.write(path, body.path.read_bytes())
        self._write_note(url, body.sha256, body.validators, now)

    def confirm(self, url: str, cached: Cached, now: datetime.datetime) -> None:
        """Note that the server said today that the copy is still its file, if it is there."""
        if cached.path.exists():
            self._write_note(url, cached.sha256, cached.validators, now)

    def _write_note(
        self, url: str, sha256: str, validators: Validators, now: datetime.datetime
    ) -> None:
        note = _Note(
            url=url,
            sha256=sha256,
            etag=validators.etag,
            last_modified=validators.last_modified,
            checked=now,
        )
        self._disk.sweep(self._directory)
        self._disk.write(_note(self._path(url)), codec.to_json(note))

    def _path(self, url: str) -> Path:
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", url.partition("://")[2])[-_NAME_CHARACTERS:]
        return self._directory / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
