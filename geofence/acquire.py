"""Bring everything a source publishes here: from its servers all at once, or from named files."""

import contextlib
import datetime
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geofence import documents
from geofence.cache import Cache, Cached
from geofence.config import FetchLimits
from geofence.errors import (
    DiskError,
    GeofenceError,
    NoPermission,
    SourceUnavailable,
    UsageError,
)
from geofence.fetch import Body, Fetcher, Validators, Watch, netloc
from geofence.scratch import scratch
from geofence.sources import Document, Publication, Source, bundled

Progress = Callable[[str, int, int | None], None]
"""Told again and again: the file, bytes received, bytes expected (None: unknown)."""

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.5
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# ``MD5 (name) = sum``, ``sum  name``, or the sum alone, with or without a newline
_MD5 = re.compile(rb"\s*(?:MD5 ?\([^()\r\n]*\) ?= ?)?([0-9a-fA-F]{32})(?:[ \t]+\*?[\w.-]+)?\s*")
_CHECKSUM_BYTES = 4096


@dataclass(slots=True, kw_only=True)
class Acquired:
    """The documents of a source, and what to note in the cache once they proved to be a list."""

    documents: tuple[Document, ...]
    warnings: tuple[str, ...] = ()
    _keep: list[Callable[[], None]] = field(default_factory=list)

    def keep(self) -> None:
        """Let the cache have the downloads: what was no list must never serve instead of one.

        A cache that cannot be written costs the next run some time, and this one a warning.
        """
        try:
            for act in self._keep:
                act()
        except (DiskError, NoPermission) as error:
            self.warnings += (f"the downloads were not kept: {error.what}",)


@contextlib.contextmanager
def acquired(
    source: Source,
    origins: Sequence[str],
    *,
    cache: Cache,
    limits: FetchLimits,
    now: datetime.datetime,
    progress: Progress,
) -> Iterator[Acquired]:
    """Give the source's documents; they are gone when the block ends.

    ``origins`` are files and URLs to read instead of the source's own. Raises
    SourceUnavailable when one cannot be had whole, and UsageError when a source without
    an address of its own is given none.
    """
    if source.name == bundled.BUNDLED.name and not origins:
        yield Acquired(documents=(bundled.document(),))
        return
    if not origins and not source.publications:
        raise UsageError(f"source {source.name} has no address of its own: name one with --from")
    with scratch() as directory:
        bring = _Bringer(directory, Fetcher(limits), cache, limits, now)
        if origins:
            yield bring.named(origins, source, progress)
        else:
            yield bring.published(source.publications, progress)


class _Job:
    """One download in a thread of its own, which may be left behind if it never ends."""

    def __init__(self, publication: Publication, act: Callable[[Watch], "_Brought"]) -> None:
        self.publication = publication
        self.watch = Watch()
        self._act = act
        self._brought: _Brought | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> "_Brought":
        if self._error:
            raise self._error
        if self._brought is None:
            if self.watch.reached:
                raise SourceUnavailable(
                    f"{self.publication.url}: not here in time",
                    cure="try again later, or raise fetch.deadline_seconds",
                )
            raise SourceUnavailable(
                f"{self.publication.url}: no answer in time",
                cure="look at this host's name service and route (getent hosts, ip route)",
            )
        return self._brought

    def _run(self) -> None:
        try:
            self._brought = self._act(self.watch)
        except BaseException as error:  # noqa: BLE001, result() raises it where it is waited for
            self._error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Brought:
    """One file, here whole: new, or the cached copy."""

    document: Document
    keep: Callable[[], None] | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bringer:
    scratch: Path
    fetcher: Fetcher
    cache: Cache
    limits: FetchLimits
    now: datetime.datetime

    def published(self, publications: Sequence[Publication], progress: Progress) -> Acquired:
        """Bring all that a source publishes, side by side; cached copies may serve for some."""
        failures: list[GeofenceError] = []
        replaced: list[GeofenceError] = []
        brought: list[_Brought] = []
        for job in self._finished(publications, progress):
            try:
                brought.append(job.result())
            except SourceUnavailable as error:
                try:
                    brought.append(self._copy_that_serves(job.publication, error))
                    replaced.append(error)
                except SourceUnavailable as final:
                    failures.append(final)
        if len(replaced) == len(publications):
            failures = replaced  # copies alone are no news: that is no update
        if failures:
            more = len(failures) - 1
            raise SourceUnavailable(
                failures[0].what + (f", and {more} more of its files" if more else ""),
                cure=failures[0].cure,
            )
        return _acquired(brought)

    def named(self, origins: Sequence[str], source: Source, progress: Progress) -> Acquired:
        """Bring the files and URLs that somebody named; no checksum, no copy that serves."""
        allow_http = any(publication.url.startswith("http:") for publication in source.publications)
        publications = [
            _of_origin(origin, allow_http=allow_http) for origin in dict.fromkeys(origins)
        ]
        return _acquired([job.result() for job in self._finished(publications, progress)])

    def _finished(self, publications: Sequence[Publication], progress: Progress) -> list[_Job]:
        """Start a job for each publication and wait until each has ended or is given up."""
        jobs = [_Job(publication, self._act(publication)) for publication in publications]
        started = time.monotonic()
        while any(job.running() for job in jobs):
            for job in jobs:
                progress(job.publication.url, job.watch.received, job.watch.expected)
            waited = time.monotonic() - started
            overdue = self.fetcher.remaining() < -_GRACE_SECONDS
            unreachable = waited > self.limits.reach_seconds + _GRACE_SECONDS
            if all(
                overdue or (unreachable and not job.watch.reached) for job in jobs if job.running()
            ):
                break
            time.sleep(_POLL_SECONDS)
        for job in jobs:
            progress(job.publication.url, job.watch.received, job.watch.received)
        return jobs

    def _act(self, publication: Publication) -> Callable[[Watch], _Brought]:
        bring = self._bring if _URL.match(publication.url) else self._local
        return lambda watch: bring(publication, watch)

    def _bring(self, publication: Publication, watch: Watch) -> _Brought:
        """Bring what the server has, or our copy of it if the server says that it is the same."""
        if cached := self.cache.get(publication.url):
            body = self._fetch(publication, watch, known=cached.validators)
            if body:
                return self._verified(publication, body, watch)
            if copy := self._copied(publication, cached):
                return copy
        return self._verified(publication, self._fetch_anew(publication, watch), watch)

    def _fetch(self, publication: Publication, watch: Watch, *, known: Validators) -> Body | None:
        target = self.scratch / _file_name(publication.url)
        return self.fetcher.fetch(
            publication.url, publication.hosts, target, known=known, watch=watch
        )

    def _fetch_anew(self, publication: Publication, watch: Watch) -> Body:
        body = self._fetch(publication, watch, known=Validators())
        assert body
        return body

    def _verified(self, publication: Publication, body: Body, watch: Watch) -> _Brought:
        """Hold a file against its checksum; fetch it once more if that does not fit."""
        fits, complaint = self._held_against_checksum(publication, body, watch)
        if not fits:
            time.sleep(min(self.limits.checksum_pause_seconds, max(0.0, self.fetcher.remaining())))
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
        target = self.scratch / _file_name(publication.checksum_url)
        small = Watch(reached=watch.reached)
        body = self.fetcher.fetch(
            publication.checksum_url, publication.hosts, target, known=Validators(), watch=small
        )
        small_enough = body and target.stat().st_size <= _CHECKSUM_BYTES
        found = _MD5.fullmatch(target.read_bytes()) if small_enough else None
        if not found:
            raise SourceUnavailable(f"{publication.checksum_url} holds no MD5")
        return found[1].decode().lower()

    def _new(self, publication: Publication, body: Body, warnings: tuple[str, ...]) -> _Brought:
        document = documents.document(
            body.path,
            publisher=publication.publisher,
            location=publication.url,
            limits=self.limits,
        )
        return _Brought(
            document=document,
            keep=lambda: self.cache.put(publication.url, body, self.now),
            warnings=warnings,
        )

    def _copied(self, publication: Publication, cached: Cached) -> _Brought | None:
        """Take a copy out of the cache, which may be deleted at any time; None if it was."""
        target = self.scratch / _file_name(publication.url)
        try:
            shutil.copyfile(cached.path, target)
        except OSError:
            return None
        document = documents.document(
            target,
            publisher=publication.publisher,
            location=publication.url,
            limits=self.limits,
        )
        if document.sha256 != cached.sha256:
            return None
        return _Brought(
            document=document,
            keep=lambda: self.cache.confirm(publication.url, cached, self.now),
        )

    def _copy_that_serves(self, publication: Publication, error: SourceUnavailable) -> _Brought:
        """Let a young enough copy stand in for a registry's file that cannot be had."""
        cached = self.cache.get(publication.url) if publication.cache_serves else None
        copy = self._copied(publication, cached) if cached else None
        if not (cached and copy):
            raise error
        days = (self.now - cached.checked) / datetime.timedelta(days=1)
        if days > self.limits.max_cache_age_days:
            raise SourceUnavailable(
                f"{error.what}; its cached file is {days:.0f} days old,"
                f" limit {self.limits.max_cache_age_days:g}",
                cure=error.cure,
            ) from error
        return _Brought(
            document=copy.document,
            keep=None,
            warnings=(
                f"{publication.publisher}: {error.what}; its cached file of"
                f" {cached.checked:%Y-%m-%d} serves",
            ),
        )

    def _local(self, publication: Publication, watch: Watch) -> _Brought:
        """Copy a file that somebody named, for it may be a pipe, whose writer may never come."""
        watch.reached = True
        origin = publication.url
        target = self.scratch / _file_name(origin)
        documents.copy_bounded(Path(origin), target, self.limits)
        document = documents.document(target, publisher="", location=origin, limits=self.limits)
        return _Brought(document=document, keep=None)


def _acquired(brought: Sequence[_Brought]) -> Acquired:
    return Acquired(
        documents=tuple(one.document for one in brought),
        warnings=tuple(warning for one in brought for warning in one.warnings),
        _keep=[one.keep for one in brought if one.keep],
    )


def _file_name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _of_origin(origin: str, *, allow_http: bool) -> Publication:
    """Describe a file or URL that somebody named. Raises UsageError for what is neither."""
    if not _URL.match(origin):
        return Publication(publisher="", url=origin, hosts=frozenset())
    scheme = origin.partition(":")[0].lower()
    if scheme != "https" and not (scheme == "http" and allow_http):
        raise UsageError(
            f"--from {origin}: {scheme} is not https",
            cure="fetch the file by other means and name it with --from FILE",
        )
    try:
        host = netloc(origin)
    except ValueError:
        host = ""
    if not host:
        raise UsageError(f"--from {origin}: that names no host")
    return Publication(publisher="", url=origin, hosts=frozenset({host}))
