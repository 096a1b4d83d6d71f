"""A change that waits to be confirmed: what is noted of it on disk, and who may decide on it.

STATE/pending.json     it waits
STATE/confirmed.json   somebody confirmed it, and it is being recorded
STATE/reverting.json   the old rules are being brought back
STATE/reverted.json    when that was last done

The first three are one file under three names: whoever renames it decides, and nobody else.
"""

import contextlib
import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import codec, enabled, rules, ruletext
from geofence.disk import Disk, translated
from geofence.errors import DiskError, GeofenceError
from geofence.kernel.iptables import Iptables, Rules, Variant
from geofence.model import Family
from geofence.rules import Goal
from geofence.ruletext import Own

WAITING, CONFIRMED, REVERTING = "pending.json", "confirmed.json", "reverting.json"
_REVERTED = "reverted.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one table held of a fence before the change, and what it is to hold after it."""

    family: Family
    variant: Variant
    before: Own
    after: Own

    @property
    def rules(self) -> Iptables:
        """The table itself."""
        return Iptables(self.family, self.variant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A change, until when it may be confirmed, and what is to be recorded then."""

    schema: int = _SCHEMA
    at: datetime.datetime
    boot: str
    deadline: float  # seconds of CLOCK_BOOTTIME, which goes on while the host is suspended
    tables: tuple[Table, ...]
    records: dict[str, dict[str, str]]

    @property
    def fences(self) -> tuple[str, ...]:
        """The fences it is about."""
        return tuple(self.records)

    def left(self) -> float:
        """Give the seconds that are left to confirm it; none after a reboot."""
        if self.boot != _boot():
            return 0.0
        return max(0.0, self.deadline - time.clock_gettime(time.CLOCK_BOOTTIME))

    def in_place(self) -> bool:
        """Tell whether the tables hold it, wherever other tools have pushed our jumps since."""
        return all(rules.in_place(Goal(table.rules, table.after)) for table in self.tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """When the old rules came back, and of which fences."""

    at: datetime.datetime
    fences: tuple[str, ...]


def change_to(
    goals: Sequence[Goal], records: Mapping[str, Mapping[str, str]], seconds: int
) -> Pending:
    """Note what the tables hold now, and what they are to hold for so many seconds."""
    return Pending(
        at=datetime.datetime.now(datetime.UTC),
        boot=_boot(),
        deadline=time.clock_gettime(time.CLOCK_BOOTTIME) + seconds,
        tables=tuple(
            Table(
                family=goal.rules.family,
                variant=goal.rules.variant,
                before=_held(goal.rules, goal.own.chain),
                after=goal.own,
            )
            for goal in goals
        ),
        records={name: dict(files) for name, files in records.items()},
    )


def write(change: Pending, state: Path, disk: Disk) -> None:
    """Let a change wait to be confirmed."""
    disk.remove(state / _REVERTED)
    disk.write(state / WAITING, codec.to_json(change))


def read(state: Path, name: str = WAITING) -> Pending | None:
    """Read the change that goes by a name, if there is one. Raises DiskError if it is damaged."""
    path = state / name
    try:
        found = codec.from_json(path.read_bytes(), Pending)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise translated("read", path, error) from error
    except ValueError as error:
        found, why = None, str(error)
    if found is None or found.schema != _SCHEMA:
        raise DiskError(
            f"{path} is damaged: {why if found is None else 'another version wrote it'}",
            cure=f"look at the rules (iptables-save), then remove it: {path}",
        )
    return found


def in_hand(state: Path) -> Pending | None:
    """Read the change that waits, or that is being taken back."""
    return read(state) or read(state, REVERTING)


def claim(state: Path, name: str, disk: Disk) -> bool:
    """Decide on the change that waits by giving it another name; tell whether nobody else has."""
    if not os.path.lexists(state / WAITING):
        return False  # a read-only disk would refuse that too
    try:
        disk.adopt(state / WAITING, state / name)
    except GeofenceError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    return True


def record(change: Pending, state: Path, disk: Disk) -> None:
    """Record the fences of a change that was confirmed as enabled; then it is over."""
    for fence, files in change.records.items():
        enabled.store(files, fence, state, disk)
    disk.remove(state / CONFIRMED)


def revert(change: Pending, state: Path, disk: Disk) -> None:
    """Bring back what geofence had in the tables, and nothing else; then the change is over.

    A disk that takes nothing is no reason to leave the new rules where they are.
    """
    rules.reach([Goal(table.rules, table.before) for table in change.tables])
    done = Reverted(at=datetime.datetime.now(datetime.UTC), fences=change.fences)
    with contextlib.suppress(GeofenceError):
        disk.write(state / _REVERTED, codec.to_json(done))
    with contextlib.suppress(GeofenceError):
        disk.remove(state / REVERTING)


def reverted(state: Path) -> Reverted | None:
    """Tell when the old rules last came back, unless something was decided on since."""
    try:
        return codec.from_json((state / _REVERTED).read_bytes(), Reverted)
    except (OSError, ValueError):
        return None


def forget(state: Path, disk: Disk) -> None:
    """Drop whatever was noted: what is in force now was decided on since."""
    for name in (WAITING, CONFIRMED, REVERTING, _REVERTED):
        disk.remove(state / name)


def _held(table: Rules, chain: str) -> Own:
    return ruletext.own(ruletext.read(table.save()), chain)


def _boot() -> str:
    return _BOOT_ID.read_text().strip()
