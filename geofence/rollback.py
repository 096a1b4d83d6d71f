"""Go back to an older generation, and stay there until the publisher serves a different list."""

import contextlib

from geofence import locks
from geofence.enforce import enforced
from geofence.errors import DiskError, GeofenceError, UsageError
from geofence.force import Host, put_in_force, repair, what_stays
from geofence.judge import Candidate, Circumstances, judge
from geofence.model import Fence, Generation
from geofence.prefixes import digest
from geofence.store import Held, Store


def rollback(fence: Fence, number: int | None, host: Host) -> tuple[Generation, tuple[str, ...]]:
    """Enforce another stored generation and make it the active one; number None: the one before.

    What is rolled back is not taken again by an update until its publisher serves a
    different list. Raises ListRefused if that would shut out an SSH peer of the moment.
    """
    store = host.store
    with what_stays(fence.name, host), host.open_sets() as sets, locks.writer(store.directory):
        mended = repair(fence.name, store, sets)
        active = mended.generation
        wanted = _wanted(fence.name, number, active, store)
        met = Circumstances(
            active=None,
            origins=(),
            enforced=enforced(fence.name, sets),
            snapshot={},
            peers=host.peers(),
            today=host.now().date(),
            accept_change=False,
        )
        judge(fence, Candidate(lists=wanted.lists, shares={}, origins=()), met)
        before = store.held(fence.name)
        store.hold(fence.name, _hold_after(before, active, wanted))
        try:
            left = put_in_force(fence.name, wanted, store, sets)
        except BaseException:
            with contextlib.suppress(GeofenceError):
                store.hold(fence.name, before)
            raise
        return wanted, (*mended.warnings, *mended.drift, *left)


def _hold_after(before: Held | None, active: Generation | None, wanted: Generation) -> Held | None:
    """Give what is held once ``wanted`` took the place of ``active``."""
    digests = list(before.digests) if before else []
    newest = before.generation if before else 0
    if active and wanted.number < active.number:
        digests.append(digest(active.lists))
        newest = max(newest, active.number)
    left = tuple(dict.fromkeys(one for one in digests if one != digest(wanted.lists)))
    return Held(generation=newest, digests=left) if left else None


def _wanted(fence: str, number: int | None, active: Generation | None, store: Store) -> Generation:
    if number is not None:
        if number not in store.numbers(fence):
            raise UsageError(
                f"there is no generation {number}", cure="geofence history shows what there is"
            )
        return store.read(fence, number)
    for older in reversed(store.numbers(fence)):
        if active and older < active.number:
            with contextlib.suppress(DiskError):
                return store.read(fence, older)
    raise UsageError(
        "there is no sound generation before the active one",
        cure="geofence history shows what there is",
    )
