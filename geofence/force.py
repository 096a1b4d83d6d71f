"""Put a stored generation in force, and keep it there: restore and repair; no network.

This is the right half of the flow, and the boot path: nothing here imports what only a
download needs.
"""

import contextlib
import datetime
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from geofence import locks
from geofence.enforce import clean, enforce, enforced
from geofence.errors import DiskError, GeofenceError
from geofence.kernel import Sets
from geofence.model import Address, Fence, Generation
from geofence.store import Store

OpenSets = Callable[[], contextlib.AbstractContextManager[Sets]]
"""Open the kernel's sets of this network namespace. Raises NoPermission, KernelRefused."""

_SIGNALS_THAT_WAIT = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


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

    No generation: nothing sound is stored; after a restore the bundled snapshot is in force.
    """

    generation: Generation | None
    changed: bool
    warnings: tuple[str, ...]


def restore(fence: Fence, host: Host) -> Mended:
    """Enforce the active generation again, from disk.

    Where nothing sound is stored, the bundled snapshot of the fence's countries serves.
    """
    store = host.store
    with host.open_sets() as sets, locks.writer(store.prepare()):
        mended = repair(fence.name, store, sets)
        if mended.generation:
            return mended
        if not fence.countries:
            raise DiskError(
                f"nothing sound is stored of {fence.name}: {'; '.join(mended.warnings)}",
                cure="geofence update --country CC",
            )
        return _enforce_snapshot(fence, sets, mended.warnings)


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
    changed, left = enforce(fence, found.generation.lists, sets)
    return Mended(generation=found.generation, changed=changed, warnings=(*warnings, *left))


def put_in_force(fence: str, generation: Generation, store: Store, sets: Sets) -> tuple[str, ...]:
    """Load, verify, swap, promote; a generation that the kernel refuses leaves no trace."""
    try:
        with unparted():
            _, left = enforce(fence, generation.lists, sets)
            store.promote(fence, generation.number)
    except BaseException:
        with contextlib.suppress(GeofenceError):
            store.discard(fence)
        with contextlib.suppress(GeofenceError):
            repair(fence, store, sets)
        raise
    return left


@contextlib.contextmanager
def what_stays(fence: str, store: Store) -> Iterator[None]:
    """Let an error on its way out say what is still in force."""
    try:
        yield
    except GeofenceError as error:
        if not error.still:
            error.still = _still(fence, store)
        raise


def _still(fence: str, store: Store) -> str:
    try:
        generation = store.active(fence).generation
    except GeofenceError:
        return "nothing was changed"
    if generation is None:
        return f"no list of {fence} is in force, and nothing was changed"
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


@contextlib.contextmanager
def unparted() -> Iterator[None]:
    """Let no signal end the process between swap and promote; it is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS_THAT_WAIT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enforce_snapshot(fence: Fence, sets: Sets, warnings: tuple[str, ...]) -> Mended:
    # Only here does the boot path need what parses and aggregates a list.
    from geofence.candidate import snapshot_lists
    from geofence.sources import bundled

    changed, left = enforce(fence.name, snapshot_lists(fence), sets)
    note = f"nothing sound is stored: the bundled snapshot of {bundled.date()} serves"
    return Mended(generation=None, changed=changed, warnings=(*warnings, note, *left))
