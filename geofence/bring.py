"""Bring one file here, whole: from its server, from our copy of it, or from the disk."""

import datetime
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geofence import documents
from geofence.cache import Cache, Cached
from geofence.config import FetchLimits
from geofence.errors import SourceUnavailable
from geofence.fetch import Body, Fetcher, Validators, Watch
from geofence.sources import Document, Publication

# ``MD5 (name) = sum``, ``sum  name``, or the sum alone, with or without a newline
_MD5 = re.compile(rb"\s*(?:MD5 ?\([^()\r\n]*\) ?= ?)?([0-9a-fA-F]{32})(?:[ \t]+\*?[\w.-]+)?\s*")
_CHECKSUM_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """One file, here whole: new, or the cached copy."""

    document: Document
    keep: Callable[[], None] | None
    warnings: tuple[str, ...] = ()


class Bringer:
    """Brings files into one directory, for one run."""

    def __init__(
        self,
        scratch: Path,
        fetcher: Fetcher,
        cache: Cache,
        limits: FetchLimits,
        now: datetime.datetime,
    ) -> None:
        self._scratch = scratch
        self._fetcher = fetcher
        self._cache = cache
        self._limits = limits
        self._now = now

    def from_server(self, publication: Publication, watch: Watch) -> Brought:
        """Bring what the server has, or our copy of it if the server says that it is the same."""
        if cached := self._cache.get(publication.url):
            body = self._fetch(publication, watch, known=cached.validators)
            if body:
                return self._verified(publication, body, watch)
            if copy := self._copied(publication, cached):
                return copy
        return self._verified(publication, self._fetch_anew(publication, watch), watch)

    def _fetch(self, publication: Publication, watch: Watch, *, known: Validators) -> Body | None:
        target = self._scratch / _file_name(publication.url)
        return self._fetcher.fetch(
            publication.url, publication.hosts, target, known=known, watch=watch
        )

    def _fetch_anew(self, publication: Publication, watch: Watch) -> Body:
        body = self._fetch(publication, watch, known=Validators())
        assert body
        return body

    def _verified(self, publication: Publication, body: Body, watch: Watch) -> Brought:
        """Hold a file against its checksum; fetch it once more if that does not fit."""
        fits, complaint = self._held_against_checksum(publication, body, watch)
        if not fits:
            time.sleep(
                min(self._limits.checksum_pause_seconds, max(0.0, self._fetcher.remaining()))
            )
            body = self._fetch_anew(publication, watch)
            fits, complaint = self._held_against_checksum(publication, body, watch)
        if not fits:
            raise SourceUnavailable(complaint, cure="try again later")
        return self._new(publication, body, (complaint,) if complaint else ())

    def _held_against_checksum(
        self, publication: Publication, body: Body, watch: Watch
    ) -> tuple[bool, str]:
        """Tell whether the file fits its published MD5, and what there is to say about it."""
        if not publication.checksum_url:
            return True, ""
        try:
            published = self._checksum(publication, watch)
        except SourceUnavailable as error:
            return True, f"{publication.publisher}: taken without its checksum: {error.what}"
        if published == body.md5:
            return True, ""
        return False, (
            f"{publication.url}: MD5 {body.md5}, and {publication.checksum_url} says {published}"
        )

    def _checksum(self, publication: Publication, watch: Watch) -> str:
        target = self._scratch / _file_name(publication.checksum_url)
        small = Watch(reached=watch.reached)
        body = self._fetcher.fetch(
            publication.checksum_url, publication.hosts, target, known=Validators(), watch=small
        )
        small_enough = body and target.stat().st_size <= _CHECKSUM_BYTES
        found = _MD5.fullmatch(target.read_bytes()) if small_enough else None
        if not found:
            raise SourceUnavailable(f"{publication.checksum_url} holds no MD5")
        return found[1].decode().lower()

    def _new(self, publication: Publication, body: Body, warnings: tuple[str, ...]) -> Brought:
        document = documents.document(
            body.path,
            publisher=publication.publisher,
            location=publication.url,
            limits=self._limits,
        )
        return Brought(
            document=document,
            keep=lambda: self._cache.put(publication.url, body, self._now),
            warnings=warnings,
        )

    def _copied(self, publication: Publication, cached: Cached) -> Brought | None:
        """Take a copy out of the cache, which may be deleted at any time; None if it was."""
        target = self._scratch / _file_name(publication.url)
        try:
            shutil.copyfile(cached.path, target)
        except OSError:
            return None
        document = documents.document(
            target,
            publisher=publication.publisher,
            location=publication.url,
            limits=self._limits,
        )
        if document.sha256 != cached.sha256:
            return None
        return Brought(
            document=document,
            keep=lambda: self._cache.confirm(publication.url, cached, self._now),
        )

    def copy_that_serves(self, publication: Publication, error: SourceUnavailable) -> Brought:
        """Let a young enough copy stand in for a registry's file that cannot be had."""
        cached = self._cache.get(publication.url) if publication.cache_serves else None
        copy = self._copied(publication, cached) if cached else None
        if not (cached and copy):
            raise error
        days = (self._now - cached.checked) / datetime.timedelta(days=1)
        if days > self._limits.max_cache_age_days:
            raise SourceUnavailable(
                f"{error.what}; its cached file is {days:.0f} days old,"
                f" limit {self._limits.max_cache_age_days:g}",
                cure=error.cure,
            ) from error
        return Brought(
            document=copy.document,
            keep=None,
            warnings=(
                f"{publication.publisher}: {error.what}; its cached file of"
                f" {cached.checked:%Y-%m-%d} serves",
            ),
        )

    def from_disk(self, publication: Publication, watch: Watch) -> Brought:
        """Copy a file that somebody named, for it may be a pipe, whose writer may never come."""
        watch.reached = True
        origin = publication.url
        target = self._scratch / _file_name(origin)
        documents.copy_bounded(Path(origin), target, self._limits)
        document = documents.document(target, publisher="", location=origin, limits=self._limits)
        return Brought(document=document, keep=None)


def _file_name(url: str) -> str:
    return hashlib.sha256(os.fsencode(url)).hexdigest()[:16]
