"""What the state directory holds for the next boot, and whether the sh hook can use it."""

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import enabled, install, missing, pending, trustfiles, whole
from geofence.model import Family, OnMissing, Prefix
from geofence.trusted import Trusted

_DAMAGED = "they are damaged, or not there"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """What is stored for sh, and what is wrong with it."""

    trusted: str  # what is wrong with the trusted addresses; nothing: they are as they should be
    damaged_records: tuple[str, ...]  # fences
    overdue: bool  # a change that should have been taken back
    unrecorded: tuple[str, ...]  # fences of a change that was confirmed and is not recorded
    installed: bool
    installed_damaged: bool
    snapshots: frozenset[str]  # fences whose own snapshot is whole
    on_missing: Mapping[str, OnMissing | None]


def boot_state(
    state: Path, fences: Sequence[str], wanted: Trusted | None, now: datetime.datetime
) -> BootState:
    """Read the state directory; ``wanted`` is who should be trusted, None where nobody knows.

    Raises DiskError if a change that was confirmed cannot be read.
    """
    confirmed = pending.read(state, pending.CONFIRMED)
    waits = pending.read(state)
    reverting = os.path.lexists(state / pending.REVERTING)
    return BootState(
        trusted=_trusted(state, wanted, now),
        damaged_records=tuple(_damaged_records(state)),
        overdue=reverting or (waits is not None and not waits.left()),
        unrecorded=confirmed.fences if confirmed else (),
        installed=install.is_installed(state),
        installed_damaged=install.is_damaged(state),
        snapshots=frozenset(
            name
            for name in fences
            if not whole.damage(state / name / "bundled") and missing.stored_snapshot(name, state)
        ),
        on_missing={name: missing.on_missing(name, state) for name in fences},
    )


def _trusted(state: Path, wanted: Trusted | None, now: datetime.datetime) -> str:
    expected = (state / "trusted", state / "passes.json", *state.glob("*/enabled"))
    if wanted is None or not any(os.path.lexists(path) for path in expected):
        return ""
    if whole.damage(state / "trusted"):
        return _DAMAGED
    try:
        stored = trustfiles.remembered(state)
    except ValueError:
        return _DAMAGED
    for family in Family:
        if _ends(stored.get(family, {}), now) != _ends(wanted.get(family, {}), now):
            return f"those of {family.label} are others than are configured and let in"
    return ""


def _ends(
    prefixes: Mapping[Prefix, datetime.datetime | None], now: datetime.datetime
) -> Mapping[Prefix, int | None]:
    """Give until when each prefix is trusted, in the seconds that the files have."""
    return {
        prefix: None if until is None else int(until.timestamp())
        for prefix, until in prefixes.items()
        if until is None or until > now
    }


def _damaged_records(state: Path) -> Iterator[str]:
    for home in sorted(path for path in state.glob("*") if path.is_dir()):
        if not os.path.lexists(home / "enabled"):
            continue
        record = enabled.read(home.name, state)
        if (
            record is None
            or whole.damage(home / "enabled")
            or not all(
                (home / "enabled" / f"{family}.{variant}.rules").exists()
                for family, variant in record.variants.items()
            )
        ):
            yield home.name
