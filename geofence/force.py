"""Put a stored generation in force, and keep it there: restore and repair; no network.

This is the right half of the flow, and the boot path: nothing here imports what only a
download needs.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from geofence import locks, missing
from geofence.enforce import clean, enforce, enforced
from geofence.errors import DiskError, GeofenceError
from geofence.kernel import Sets
from geofence.model import Address, Family, Fence, Generation, Lists, OnMissing, set_name
from geofence.prefixes import digest
from geofence.store import Store
from geofence.unparted import unparted

OpenSets = Callable[[], contextlib.AbstractContextManager[Sets]]
"""Open the kernel's sets of this network namespace. Raises NoPermission, KernelRefused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The real things, or a test's: what a list is stored in and enforced by."""

    store: Store
    open_sets: OpenSets
    peers: Callable[[], frozenset[Address]]
    now: Callable[[], datetime.datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What is in force now, whether packets met something else before, and what is to be said.

    No generation: nothing sound is stored; after a restore ``serves`` names what is in force.
    """

    generation: Generation | None
    changed: bool
    warnings: tuple[str, ...]
    serves: str = ""

    @property
    def drift(self) -> tuple[str, ...]:
        """Say that packets met something else than what is stored, if they did."""
        if not (self.changed and self.generation):
            return ()
        return (f"the kernel did not hold generation {self.generation.number}: it does again",)


def restore(fence: Fence, host: Host) -> Mended:
    """Enforce the active generation again, from disk.

    Where nothing sound is stored, the fence's ``on_missing`` says what serves.
    """
    store = host.store
    with host.open_sets() as sets, locks.writer(store.prepare()):
        mended = repair(fence.name, store, sets)
        if mended.generation:
            return mended
        if fence.on_missing is OnMissing.BUNDLED:
            return _enforce_snapshot(fence, store, sets, mended.warnings)
        return _enforce_policy(fence, sets, mended.warnings)


def enforce_everything(fence: str, host: Host) -> None:
    """Let every country pass, where nothing is in force: better than nobody."""
    with host.open_sets() as sets, locks.writer(host.store.prepare()):
        _fill(fence, missing.EVERYTHING, sets)


def repair(fence: str, store: Store, sets: Sets) -> Mended:
    """Finish or undo what a killed run left, and enforce the active generation; without network.

    A generation that was staged and is what the kernel holds becomes the active one; else what
    was active is enforced again, all families. Staging sets and unfinished files go.
    """
    warnings = []
    staged = store.staged(fence)
    if staged and enforced(fence, sets) == staged.lists:
        store.promote(fence, staged.number)
        warnings.append(f"an interrupted update to generation {staged.number} was finished")
    else:
        store.discard(fence)
    store.sweep(fence)
    found = store.active(fence)
    warnings += [f"not used: {damage}" for damage in found.damaged]
    if found.generation is None:
        warnings += clean(fence, sets)
        return Mended(generation=None, changed=False, warnings=tuple(warnings))
    if store.active_number(fence) is None:
        with contextlib.suppress(GeofenceError):
            store.promote(fence, found.generation.number)
    _release(fence, found.generation, store)
    changed, left = enforce(fence, found.generation.lists, sets)
    return Mended(generation=found.generation, changed=changed, warnings=(*warnings, *left))


def _release(fence: str, active: Generation, store: Store) -> None:
    """Cease to hold the active list, as a rollback that was killed half-way would leave it."""
    held = store.held(fence)
    if not held or digest(active.lists) not in held.digests:
        return
    left = tuple(one for one in held.digests if one != digest(active.lists))
    with contextlib.suppress(GeofenceError):
        store.hold(fence, dataclasses.replace(held, digests=left) if left else None)


def put_in_force(fence: str, generation: Generation, store: Store, sets: Sets) -> tuple[str, ...]:
    """Load, verify, swap, promote; a generation that is refused on the way leaves no trace."""
    before = enforced(fence, sets)
    there = [name for name in _names(fence) if sets.header(name)]
    try:
        with unparted():
            _, left = enforce(fence, generation.lists, sets)
            store.promote(fence, generation.number)
    except BaseException:
        with contextlib.suppress(GeofenceError):
            store.discard(fence)
        with contextlib.suppress(GeofenceError):
            if repair(fence, store, sets).generation is None:
                _as_before(fence, before, there, sets)
        raise
    return left


def _as_before(fence: str, before: Lists, there: Collection[str], sets: Sets) -> None:
    """Let packets meet again what they met before anything was stored."""
    enforce(fence, before, sets)
    for name in _names(fence):
        if name not in there and sets.header(name):
            sets.destroy(name)


def _names(fence: str) -> list[str]:
    return [set_name(fence, family) for family in Family]


@contextlib.contextmanager
def what_stays(fence: str, host: Host) -> Iterator[None]:
    """Let an error on its way out say what is still in force, as the kernel has it."""
    try:
        yield
    except GeofenceError as error:
        if not error.still:
            error.still = _still(fence, host)
        raise


def _still(fence: str, host: Host) -> str:
    try:
        generation = host.store.active(fence).generation
    except GeofenceError:
        generation = None
    try:
        with host.open_sets() as sets:
            holds = enforced(fence, sets)
    except GeofenceError:
        if generation is None:
            return "nothing was changed"
        return f"generation {generation.number} is stored; the kernel was not looked at"
    if generation is None:
        if holds:
            return f"nothing sound is stored of {fence}; its sets are in the kernel as they were"
        return f"no list of {fence} is in force, and nothing was changed"
    if holds != generation.lists:
        return f"generation {generation.number} is stored, and the kernel does not hold it"
    prefixes = sum(len(found.prefixes) for found in generation.lists.values())
    return (
        f"still enforcing generation {generation.number} of {generation.created:%Y-%m-%d}"
        f" ({prefixes:,} prefixes)"
    )


def fallback_fence(name: str) -> Fence:
    """Make a fence of a name alone: its countries, if it is made of their codes."""
    codes = name.split("-")
    named = all(len(code) == len("CC") and code.isalpha() for code in codes)
    return Fence(name=name, countries=tuple(codes) if named else ())


def _enforce_snapshot(fence: Fence, store: Store, sets: Sets, warnings: tuple[str, ...]) -> Mended:
    """Let the snapshot serve: the one that comes with geofence, else the one stored for sh."""
    if fence.countries:
        # Only here does the boot path need what parses and aggregates a list.
        from geofence.candidate import snapshot_lists
        from geofence.sources import bundled

        lists, which = snapshot_lists(fence), f"snapshot of {bundled.date()}"
    elif stored := missing.stored_snapshot(fence.name, store.directory):
        lists, which = stored, "snapshot, as geofence install stored it,"
    else:
        raise DiskError(
            f"nothing sound is stored of {fence.name}: {'; '.join(warnings)}",
            cure="geofence update --country CC",
        )
    changed, left = enforce(fence.name, lists, sets)
    note = f"nothing sound is stored: the bundled {which} serves"
    return Mended(
        generation=None,
        changed=changed,
        warnings=(*warnings, note, *left),
        serves="the bundled snapshot",
    )


def _enforce_policy(fence: Fence, sets: Sets, warnings: tuple[str, ...]) -> Mended:
    """Let everybody pass or only who is trusted, but replace no list that is in force."""
    if fence.on_missing is OnMissing.OPEN:
        lists, serves = missing.EVERYTHING, "a set of all addresses"
    else:
        lists, serves = missing.NOTHING, "an empty set (trusted addresses pass)"
    if any(found.prefixes for found in enforced(fence.name, sets).values()):
        serves = "what the kernel held"
    changed, left = _fill(fence.name, lists, sets)
    note = f"nothing sound is stored: {serves} serves"
    return Mended(
        generation=None, changed=changed, warnings=(*warnings, note, *left), serves=serves
    )


def _fill(fence: str, lists: Lists, sets: Sets) -> tuple[bool, tuple[str, ...]]:
    """Enforce lists where no list is in force: of the whole fence, else of families without."""
    held = enforced(fence, sets)
    if any(found.prefixes for found in held.values()):
        lists = {family: lists[family] for family in lists if family not in held}
    return enforce(fence, lists, sets)
