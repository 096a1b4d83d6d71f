"""Bring everything a source publishes here: from its servers all at once, or from named files."""

import contextlib
import datetime
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from geofence.bring import Bringer, Brought
from geofence.cache import Cache
from geofence.config import FetchLimits
from geofence.errors import (
    DiskError,
    GeofenceError,
    NoPermission,
    SourceUnavailable,
    UsageError,
)
from geofence.fetch import Fetcher, Watch, netloc
from geofence.scratch import scratch
from geofence.sources import Document, Publication, Source, bundled

Progress = Callable[[str, int, int | None], None]
"""Told again and again: the file, bytes received, bytes expected (None: unknown)."""

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.5
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


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
        fetcher = Fetcher(limits)
        everything = _Everything(Bringer(directory, fetcher, cache, limits, now), fetcher, limits)
        if origins:
            yield everything.named(origins, source, progress)
        else:
            yield everything.published(source.publications, progress)


class _Job:
    """One download in a thread of its own, which may be left behind if it never ends."""

    def __init__(self, publication: Publication, act: Callable[[Watch], Brought]) -> None:
        self.publication = publication
        self.watch = Watch()
        self._act = act
        self._brought: Brought | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or so long."""
        self._thread.join(seconds)

    def result(self) -> Brought:
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


@dataclass(frozen=True, slots=True)
class _Everything:
    bring: Bringer
    fetcher: Fetcher
    limits: FetchLimits

    def published(self, publications: Sequence[Publication], progress: Progress) -> Acquired:
        """Bring all that a source publishes, side by side; cached copies may serve for some."""
        failures: list[GeofenceError] = []
        replaced: list[GeofenceError] = []
        brought: list[Brought] = []
        for job in self._finished(publications, progress):
            try:
                brought.append(job.result())
            except SourceUnavailable as error:
                try:
                    brought.append(self.bring.copy_that_serves(job.publication, error))
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
        while running := [job for job in jobs if job.running()]:
            for job in jobs:
                progress(job.publication.url, job.watch.received, job.watch.expected)
            waited = time.monotonic() - started
            overdue = self.fetcher.remaining() < -_GRACE_SECONDS
            unreachable = waited > self.limits.reach_seconds + _GRACE_SECONDS
            if all(overdue or (unreachable and not job.watch.reached) for job in running):
                break
            running[0].wait(_POLL_SECONDS)
        for job in jobs:
            progress(job.publication.url, job.watch.received, job.watch.received)
        return jobs

    def _act(self, publication: Publication) -> Callable[[Watch], Brought]:
        one = self.bring.from_server if _URL.match(publication.url) else self.bring.from_disk
        return lambda watch: one(publication, watch)


def _acquired(brought: Sequence[Brought]) -> Acquired:
    return Acquired(
        documents=tuple(one.document for one in brought),
        warnings=tuple(warning for one in brought for warning in one.warnings),
        _keep=[one.keep for one in brought if one.keep],
    )


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
