"""Commit-confirm: what was there comes back by itself unless somebody confirms the new rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from geofence.disk import Disk
from geofence.rules import Goal


def refuse_if_waiting(state: Path) -> None:
    """Raise Busy while a change waits to be confirmed; finish one that nobody watches any more."""


def arm(
    goals: Sequence[Goal],
    records: Mapping[str, Mapping[str, str]],
    seconds: int,
    state: Path,
    disk: Disk,
) -> None:
    """Note what the tables hold now, and start the watchers that bring it back in time."""
    raise NotImplementedError


def cancel(state: Path) -> None:
    """Let nobody bring anything back: what is in force now was decided on since."""
