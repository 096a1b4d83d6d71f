"""What ``status`` says, as text and as a document. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geofence.model import Family, Generation, Origin, set_name
from geofence.report import Document, origin_facts, ranges_count, size_text, whence

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping

    from geofence.enforce import Live
    from geofence.pending import Pending, Reverted


@dataclass(frozen=True, slots=True, kw_only=True)
class EnabledStatus:
    """Since when a fence is enabled, in which tables, and which do not hold its rules now."""

    at: datetime.datetime
    tables: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceStatus:
    """A fence as the kernel has it, against what the disk says."""

    fence: str
    generation: Generation | None
    damaged: tuple[str, ...]
    confirmed: datetime.datetime | None
    origins: tuple[Origin, ...]
    live: Mapping[Family, Live]
    drift: tuple[str, ...]
    now: datetime.datetime
    enabled: EnabledStatus | None = None

    @property
    def breach(self) -> tuple[str, ...]:
        """The tables in which an enabled fence has not the rules it was given."""
        return self.enabled.missing if self.enabled else ()


def status_facts(status: FenceStatus) -> Document:
    """Give the facts of one fence's state."""
    generation = status.generation
    return {
        "fence": status.fence,
        "generation": generation.number if generation else None,
        "countries": list(generation.countries) if generation else [],
        "source": generation.source if generation else None,
        "created": generation.created.isoformat() if generation else None,
        "age_seconds": _age(generation.created, status.now) if generation else None,
        "confirmed": status.confirmed.isoformat() if status.confirmed else None,
        "origins": [origin_facts(origin) for origin in status.origins],
        "in_sync": not status.drift,
        "drift": list(status.drift),
        "enabled": _enabled_facts(status.enabled),
        "families": {
            family: _live_facts(status.fence, family, live) for family, live in status.live.items()
        },
        "warnings": list(status.damaged),
    }


def status_text(status: FenceStatus) -> list[str]:
    """Tell of one fence's state."""
    lines = [f"{status.fence}: {_generation_text(status)}"]
    for family, live in status.live.items():
        name = set_name(status.fence, family)
        if live.header is None:
            lines.append(f"  {name}: absent")
            continue
        size = f"{live.header.entries:,} prefixes"
        if live.prefixes:
            size += f", {size_text(family, ranges_count(live.prefixes))}"
        lines.append(
            f"  {name}: {size}; {_use(live.header.references)}; room for"
            f" {live.header.maxelem:,} prefixes"
        )
    lines += [f"  drift: {drift}" for drift in status.drift]
    if not status.drift:
        lines.append("  the kernel holds what the disk says")
    return lines + _enabled_text(status.enabled)


def _enabled_facts(enabled: EnabledStatus | None) -> Document | None:
    if enabled is None:
        return None
    return {
        "since": enabled.at.isoformat(),
        "tables": list(enabled.tables),
        "in_place": not enabled.missing,
        "missing": list(enabled.missing),
    }


def _enabled_text(enabled: EnabledStatus | None) -> list[str]:
    if enabled is None:
        return ["  not enabled: geofence enable puts its rules in place"]
    if enabled.missing:
        where = " and ".join(enabled.missing)
        return [f"  enabled, but its chain or its jump is missing in {where}: geofence repair"]
    return [f"  enabled since {enabled.at:%Y-%m-%d %H:%M}, in {' and '.join(enabled.tables)}"]


def waiting_facts(change: Pending | None) -> Document | None:
    """Give the facts of a change that waits to be confirmed."""
    if change is None:
        return None
    return {"fences": list(change.fences), "seconds_left": math.ceil(change.left())}


def waiting_text(change: Pending | None, reverted: Reverted | None) -> list[str]:
    """Tell of a change that waits to be confirmed, or that nobody confirmed."""
    if change and (seconds := math.ceil(change.left())):
        return [
            f"{' '.join(change.fences)}: waits to be confirmed: the old rules come back in"
            f" {seconds} s (geofence confirm keeps the new ones)"
        ]
    if change:
        return [f"{' '.join(change.fences)}: was not confirmed: the old rules are due (geofence"
                " repair brings them back at once)"]  # fmt: skip
    if reverted:
        return [
            f"{' '.join(reverted.fences)}: was not confirmed: the old rules came back at"
            f" {reverted.at:%Y-%m-%d %H:%M:%S} UTC"
        ]
    return []


def _live_facts(fence: str, family: Family, live: Live) -> Document:
    facts: Document = {"set": set_name(fence, family), "exists": live.header is not None}
    if live.header:
        facts |= {
            "entries": live.header.entries,
            "references": live.header.references,
            "maxelem": live.header.maxelem,
            "memory_bytes": live.header.memory_bytes,
        }
    if live.prefixes:
        facts["addresses"] = family.in_units(ranges_count(live.prefixes))
    return facts


def _generation_text(status: FenceStatus) -> str:
    generation = status.generation
    if generation is None:
        return "no generation is stored"
    confirmed = f", confirmed {_ago(status.confirmed, status.now)}" if status.confirmed else ""
    return (
        f"generation {generation.number}, {_ago(generation.created, status.now)}{confirmed}"
        f" ({whence(status.origins)})"
    )


def _use(references: int) -> str:
    """Say how many rules (or sets of sets) refer to a set."""
    if not references:
        return "no rule refers to it"
    return f"{references} {'rule refers' if references == 1 else 'rules refer'} to it"


def _age(then: datetime.datetime, now: datetime.datetime) -> int:
    return max(0, int((now - then).total_seconds()))


def _ago(then: datetime.datetime, now: datetime.datetime) -> str:
    seconds = _age(then, now)
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if number := seconds // length:
            return f"{number} {name}{'' if number == 1 else 's'} ago"
    return "just now"
