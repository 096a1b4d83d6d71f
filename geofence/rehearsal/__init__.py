"""Load it all in a private network namespace, send real packets, and report the verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence.model import Address, Fence
from geofence.rules import Goal
from geofence.trusted import Trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal found."""

    packets: int = 0
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def rehearse(
    fences: Sequence[Fence],
    goals: Mapping[str, Sequence[Goal]],
    trusted: Trusted,
    peers: frozenset[Address],
) -> Report:
    """Rehearse."""
    return Report()
