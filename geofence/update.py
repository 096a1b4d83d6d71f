"""The order of an update: fetch, parse, aggregate, judge, stage, load, verify, swap, promote."""

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence import judge as judging
from geofence import locks, sources
from geofence.acquire import Progress, acquired
from geofence.cache import Cache
from geofence.candidate import Brought, aggregated, completed, snapshot_lists
from geofence.compare import Change, compare
from geofence.config import FetchLimits
from geofence.enforce import enforced
from geofence.errors import (
    DiskError,
    GeofenceError,
    ListRefused,
    NoPermission,
    SourceUnavailable,
    UsageError,
)
from geofence.force import Host, put_in_force, repair, what_stays
from geofence.judge import Candidate, Circumstances
from geofence.kernel import Sets
from geofence.model import Address, Family, Fence, Generation, Lists, Origin
from geofence.prefixes import digest
from geofence.sources import bundled
from geofence.store import Confirmed, Store
from geofence.trusted import trusts


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Host):
    """A host, and what an update needs beside it."""

    cache: Cache
    fetch: FetchLimits
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an update is asked for."""

    fence: Fence
    families: tuple[Family, ...] = ()  # those to update; none: all that the fence has
    accept_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an update, or a trial of one, came to."""

    fence: str
    changed: bool
    dry_run: bool
    source: str
    generation: int | None
    changes: Mapping[Family, Change]
    origins: tuple[Origin, ...]
    warnings: tuple[str, ...]
    held: bool = False  # the publisher still serves what was rolled back


def update(request: Request, parts: Parts) -> Outcome:
    """Fetch, judge, stage, enforce, promote. On any error what was enforced stays enforced."""
    fence, store = request.fence, parts.store
    with what_stays(fence.name, parts), parts.open_sets() as sets, locks.updater(store.prepare()):
        with locks.writer(store.directory):
            mended = repair(fence.name, store, sets)
        brought, warnings = bring(request, parts, fresh=mended.generation is None, keep=True)
        with locks.writer(store.directory):
            outcome = _take(
                request, parts, sets, brought, (*mended.warnings, *mended.drift, *warnings)
            )
            return dataclasses.replace(outcome, changed=outcome.changed or mended.changed)


def _take(
    request: Request, parts: Parts, sets: Sets, brought: Brought, warnings: Sequence[str]
) -> Outcome:
    """Judge what was brought, and put it in force if it is new."""
    fence, store, now = request.fence, parts.store, parts.now()
    active = as_confirmed(store.active(fence.name).generation, fence.name, store)
    candidate, filled = complete(request, brought, active)
    held = said_if_held(fence.name, store, candidate, active)
    if held and active:
        kept = Candidate(lists=active.lists, shares={}, origins=active.origins)
        return _outcome(request, brought, kept, active, (*warnings, *filled, *held), held=True)
    met = circumstances(request, parts, active, enforced(fence.name, sets))
    judged = judging.judge(fence, candidate, met)
    origins = judging.confirmed_origins(candidate.origins, met.origins, met.today)
    said = [*warnings, *filled, *judged]
    generation, changed = active, False
    if active is None or active.lists != candidate.lists:
        generation = store.stage(
            fence.name,
            candidate.lists,
            countries=fence.countries,
            source=brought.listing.source,
            origins=origins,
            now=now,
        )
        said += put_in_force(fence.name, generation, store, sets)
        changed = True
    assert generation
    try:
        store.confirm(fence.name, Confirmed(generation=generation.number, at=now, origins=origins))
        store.hold(fence.name, None)
    except (DiskError, NoPermission) as error:
        said.append(f"in force, but not noted as confirmed: {error.what}")
    return dataclasses.replace(
        _outcome(request, brought, candidate, active, said),
        changed=changed,
        generation=generation.number,
    )


def bring(
    request: Request, parts: Parts, *, fresh: bool, keep: bool
) -> tuple[Brought, tuple[str, ...]]:
    """Fetch, parse, aggregate. On a host without any list the bundled snapshot may serve."""
    fence = request.fence
    source = sources.by_name().get(fence.source)
    if source is None:
        raise UsageError(
            f"there is no source {fence.source}", cure=f"known: {', '.join(sources.by_name())}"
        )
    wanted = request.families or fence.families or tuple(Family)
    countries = frozenset(fence.countries)
    if source.name == "plain" and fresh:
        snapshot_lists(fence)  # the list does not tell whose it is: somebody must know the codes
    try:
        with acquired(
            source,
            fence.origins,
            cache=parts.cache,
            limits=parts.fetch,
            now=parts.now(),
            progress=parts.progress,
        ) as got:
            listing = source.parse(got.documents, countries)
            brought = aggregated(listing, fence, wanted)
            if keep:
                got.keep()
            own = () if fence.origins else source.warnings
            return brought, (*own, *got.warnings, *brought.warnings)
    except SourceUnavailable as error:
        if not fresh or fence.origins:
            raise
        return _bundled_instead(fence, wanted, error, parts.now().date())


def _bundled_instead(
    fence: Fence, wanted: Sequence[Family], error: SourceUnavailable, today: datetime.date
) -> tuple[Brought, tuple[str, ...]]:
    try:
        listing = bundled.BUNDLED.parse([bundled.document()], frozenset(fence.countries))
    except ListRefused:
        raise error from None
    brought = aggregated(listing, fence, wanted)
    note = (
        f"the bundled snapshot of {bundled.date()} serves, {(today - bundled.date()).days} days"
        f" old, because nothing is stored and the source is not to be had: {error.what}"
    )
    return brought, (note, *brought.warnings)


def complete(
    request: Request, brought: Brought, active: Generation | None
) -> tuple[Candidate, tuple[str, ...]]:
    """Make a candidate of the whole fence of what was brought, and what was not."""
    restricted = bool(request.families or request.fence.families)
    return completed(brought, request.fence, active, restricted=restricted)


def circumstances(
    request: Request, parts: Parts, active: Generation | None, now_enforced: Lists
) -> Circumstances:
    """Gather everything that the judge looks at beside the candidate."""
    fence = request.fence
    snapshot: Lists = {}
    if active is None or set(active.lists) != set(Family):
        with contextlib.suppress(ListRefused):  # a country that only other sources know
            snapshot = snapshot_lists(fence)
    return Circumstances(
        active=active,
        origins=active.origins if active else (),
        enforced=now_enforced or (active.lists if active else {}),
        snapshot=snapshot,
        peers=_at_risk(parts),
        today=parts.now().date(),
        accept_change=request.accept_change,
    )


def _at_risk(parts: Parts) -> frozenset[Address]:
    """Give those who are here by SSH, but not whom the kernel trusts whatever the list says."""
    peers = parts.peers()
    with contextlib.suppress(GeofenceError), parts.open_sets() as sets:
        return frozenset(peer for peer in peers if not trusts(sets, peer))
    return peers


def said_if_held(
    fence: str, store: Store, candidate: Candidate, active: Generation | None
) -> tuple[str, ...]:
    """Say so if this is a list that was rolled back."""
    held = store.held(fence)
    summed = digest(candidate.lists)
    if not held or summed not in held.digests or (active and digest(active.lists) == summed):
        return ()
    return (
        "the publisher still serves a list that was rolled back; waiting for a different one"
        f" (to take it all the same: geofence rollback {held.generation})",
    )


def _outcome(
    request: Request,
    brought: Brought,
    candidate: Candidate,
    active: Generation | None,
    warnings: Sequence[str],
    *,
    held: bool = False,
) -> Outcome:
    return Outcome(
        fence=request.fence.name,
        changed=False,
        dry_run=False,
        source=brought.listing.source,
        generation=active.number if active else None,
        changes=compare(active.lists if active else {}, candidate.lists),
        origins=candidate.origins,
        warnings=tuple(warnings),
        held=held,
    )


def as_confirmed(active: Generation | None, fence: str, store: Store) -> Generation | None:
    """Give the active generation the origins that its publishers last confirmed it with."""
    confirmed = store.confirmed(fence)
    if active and confirmed and confirmed.generation == active.number:
        return dataclasses.replace(active, origins=confirmed.origins)
    return active
