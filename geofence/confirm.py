"""Commit-confirm: what was there comes back by itself unless somebody confirms the new rules."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import locks, pending, watcher
from geofence.disk import Disk
from geofence.errors import Busy, GeofenceError
from geofence.pending import CONFIRMED, REVERTING, WAITING, Pending
from geofence.rules import Goal

_UNCHANGED = "nothing was changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether new rules were confirmed; if not, why not."""

    confirmed: bool
    fences: tuple[str, ...] = ()
    why: str = ""


@contextlib.contextmanager
def watched(
    goals: Sequence[Goal],
    records: Mapping[str, Mapping[str, str]],
    seconds: int,
    state: Path,
    disk: Disk,
) -> Iterator[tuple[str, ...]]:
    """Let a block change the rules under the eyes of watchers; give what is to be said of them.

    The writer lock is held. If the block fails, what the tables held before is there again.
    """
    state = state.absolute()
    change = pending.change_to(goals, records, seconds)
    warnings = _arm(change, seconds, state, disk)
    try:
        yield warnings
    except BaseException:
        _take_back(change, state, disk)
        raise
    if not _exists(state, WAITING, CONFIRMED, REVERTING):
        pending.revert(change, state, disk)  # a watcher did so before the block had ended
        raise Busy(
            f"the change took longer than the {seconds} s after which it was to be taken back",
            still="the old rules are in force",
            cure="run it again, with more seconds",
        )


def confirm(state: Path, disk: Disk) -> Answer:
    """Keep the new rules, and record them as enabled, if it is not too late."""
    change = pending.read(state)
    if change and change.left():
        if not change.in_place():
            return Answer(
                confirmed=False,
                fences=change.fences,
                why="the new rules are not in place, and the old ones come back in"
                f" {_seconds(change)} s; geofence disable is quicker",
            )
        pending.claim(state, CONFIRMED, disk)
    done = finish(state, disk)
    if done.confirmed:
        return done
    return Answer(confirmed=False, fences=done.fences, why=_why_not(state))


def finish(state: Path, disk: Disk) -> Answer:
    """Bring to an end what a watcher or a run that is no more has left half done."""
    if not _is_left(state):
        return Answer(confirmed=False)
    with locks.writer(state):
        return _finish(state, disk)


def refuse_if_waiting(state: Path, disk: Disk) -> None:
    """Raise Busy while a change waits; finish one that nobody watches. The lock is held."""
    _finish(state, disk)
    if change := pending.read(state):
        raise busy(change)


def busy(change: Pending) -> Busy:
    """Say that a change waits."""
    return Busy(
        f"a change of {' '.join(change.fences)} waits to be confirmed,"
        f" for {_seconds(change)} s yet",
        still="the new rules are in force until then",
        cure="geofence confirm, or geofence disable",
    )


@contextlib.contextmanager
def overruled(fences: Sequence[str], state: Path, disk: Disk) -> Iterator[None]:
    """Let a block decide on these fences, and nobody else. The lock is held.

    A block that fails has decided nothing: then the old rules come back in time.
    """
    found = [pending.read(state, name) for name in (WAITING, REVERTING, CONFIRMED)]
    if not all(set(change.fences) <= set(fences) for change in found if change):
        refuse_if_waiting(state, disk)
    pending.claim(state, REVERTING, disk)
    yield
    pending.forget(state, disk)


def _arm(change: Pending, seconds: int, state: Path, disk: Disk) -> tuple[str, ...]:
    """Note the change, and start both watchers; the second is a help, and not needed."""
    pending.write(change, state, disk)
    try:
        watcher.start(change, state)
        why = watcher.start_timer(seconds, state)
    except BaseException as error:
        pending.forget(state, disk)
        if isinstance(error, GeofenceError):
            error.still = error.still or _UNCHANGED
        raise
    if not why:
        return ()
    return (
        "no timer of systemd could be set, so that a detached process alone brings the old rules"
        f" back: {why}",
    )


def _take_back(change: Pending, state: Path, disk: Disk) -> None:
    """Bring the old rules back at once; where that fails, the watchers go on trying."""
    with contextlib.suppress(GeofenceError):
        pending.claim(state, REVERTING, disk)
        pending.revert(change, state, disk)
        pending.forget(state, disk)


def _is_left(state: Path) -> bool:
    if _exists(state, CONFIRMED, REVERTING):
        return True
    change = pending.read(state)
    return change is not None and not change.left()


def _finish(state: Path, disk: Disk) -> Answer:
    change = pending.read(state)
    if change and not change.left():
        pending.claim(state, REVERTING, disk)
    if change := pending.read(state, REVERTING):
        try:
            pending.revert(change, state, disk)
        except GeofenceError as error:
            error.still = error.still or "the rules that nobody confirmed are in force"
            raise
        return Answer(confirmed=False, fences=change.fences)
    if change := pending.read(state, CONFIRMED):
        try:
            pending.record(change, state, disk)
        except GeofenceError as error:
            error.still = (
                "the new rules are confirmed and stay, but it is not stored that they are enabled:"
                " a reboot would not bring them back"
            )
            error.cure = f"{error.cure}; then run geofence confirm again"
            raise
        return Answer(confirmed=True, fences=change.fences)
    return Answer(confirmed=False)


def _exists(state: Path, *names: str) -> bool:
    return any(os.path.lexists(state / name) for name in names)


def _why_not(state: Path) -> str:
    if done := pending.reverted(state):
        return f"it is too late: the old rules came back at {done.at:%Y-%m-%d %H:%M:%S} UTC"
    return "nothing waits to be confirmed"


def _seconds(change: Pending) -> int:
    return math.ceil(change.left())
