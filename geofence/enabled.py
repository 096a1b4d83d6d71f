"""Which fences are enabled, and the rules that a boot puts back, in the state directory.

STATE/JP/enabled/enabled.json            what the rules were made of
STATE/JP/enabled/inet.nft.rules          for iptables-nft-restore --noflush; or inet.legacy.rules
STATE/JP/enabled/SHA256SUMS
"""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import codec, rules, ruletext, whole
from geofence.disk import Disk
from geofence.errors import GeofenceError
from geofence.kernel import iptables
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family, Fence, Forward, Private, Style, chain_name
from geofence.rules import Goal

_SCHEMA = 1
_HOME = "enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How a fence was enabled; the keys of ``[fence.NAME]`` that its rules are made of."""

    schema: int
    fence: str
    at: datetime.datetime
    variants: dict[Family, Variant]
    families: tuple[Family, ...]
    style: Style
    target: str
    position: int
    private: Private
    forward: Forward
    outside: tuple[str, ...]

    def fence_as_enabled(self, fence: Fence) -> Fence:
        """Give a fence the rules it was enabled with, for one that is not configured any more."""
        return dataclasses.replace(
            fence,
            families=self.families,
            style=self.style,
            target=self.target,
            position=self.position,
            private=self.private,
            forward=self.forward,
            outside=self.outside,
        )


def record_of(fence: Fence, goals: Sequence[Goal], now: datetime.datetime) -> Record:
    """Make the record of a fence that is enabled with these goals."""
    return Record(
        schema=_SCHEMA,
        fence=fence.name,
        at=now,
        variants={goal.rules.family: goal.rules.variant for goal in goals},
        families=fence.families,
        style=fence.style,
        target=fence.target,
        position=fence.position,
        private=fence.private,
        forward=fence.forward,
        outside=fence.outside,
    )


def files(record: Record, goals: Sequence[Goal]) -> dict[str, str]:
    """Write what a boot needs to enable the fence again: each file's name and text."""
    written = {
        f"{goal.rules.family}.{goal.rules.variant}.rules": ruletext.loading(goal.own)
        for goal in goals
    }
    written["enabled.json"] = codec.to_json(record).decode()
    return written


def store(files: Mapping[str, str], fence: str, state: Path, disk: Disk) -> None:
    """Record that a fence is enabled, in one step."""
    disk.make_directory(state / fence)
    content = {name: text.encode() for name, text in files.items()}
    whole.put(state / fence / _HOME, content, disk)


def forget(fence: str, state: Path, disk: Disk) -> None:
    """Record that a fence is not enabled."""
    whole.drop(state / fence / _HOME, disk)


def read(fence: str, state: Path) -> Record | None:
    """Tell how a fence was enabled; None if it is not, or its record is damaged."""
    try:
        found = codec.from_json(whole.content(state / fence / _HOME, "enabled.json") or b"", Record)
    except ValueError:
        return None
    return found if found.schema == _SCHEMA and found.fence == fence else None


def goals(fence: str, state: Path) -> tuple[Goal, ...]:
    """Say what the tables hold while a fence is enabled.

    A file of rules that is damaged is made anew from the record, where that is sound.
    """
    found: dict[Family, Goal] = {}
    record = read(fence, state)
    if record:
        tables = [Iptables(family, variant) for family, variant in record.variants.items()]
        again = record.fence_as_enabled(Fence(name=fence, countries=()))
        found = {goal.rules.family: goal for goal in rules.wanted(again, tables, trusting=True)}
    for family in Family:
        for variant in Variant:
            if text := whole.content(state / fence / _HOME, f"{family}.{variant}.rules"):
                own = ruletext.loaded(text.decode(), chain_name(fence))
                found[family] = Goal(Iptables(family, variant), own)
    return tuple(found[family] for family in iptables.families() if family in found)


def damaged(state: Path) -> dict[str, str]:
    """Name the fences whose record of being enabled is damaged, and say what is wrong."""
    with contextlib.suppress(OSError):
        return {
            home.name: wrong
            for home in sorted(state.iterdir())
            if os.path.lexists(home / _HOME) and (wrong := whole.damage(home / _HOME))
        }
    return {}


def all_of(state: Path) -> dict[str, Record]:
    """Give every enabled fence's record."""
    found = {}
    with contextlib.suppress(OSError, GeofenceError):
        for home in sorted(state.iterdir()):
            if record := read(home.name, state):
                found[home.name] = record
    return found
