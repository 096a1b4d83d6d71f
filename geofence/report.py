"""What a verb says: text for people and a document for scripts, of the same values. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geofence.model import Family, Generation, Origin, Prefix, PrefixList, set_name
from geofence.prefixes import count, format_prefix, range_of, ranges_of

if TYPE_CHECKING:  # the boot path reports too, and must not import what a download needs
    import datetime
    from collections.abc import Iterable, Mapping, Sequence

    from geofence.compare import Change
    from geofence.enforce import Live
    from geofence.errors import GeofenceError
    from geofence.pending import Pending, Reverted
    from geofence.persistence import Persistence
    from geofence.rehearsal import Report
    from geofence.switch import Switched
    from geofence.update import Outcome

SCHEMA = 1
_SHOWN_PREFIXES = 10

Document = dict[str, Any]


def document(exit_status: int, **facts: Any) -> Document:
    """Begin every document the same way."""
    return {"schema": SCHEMA, "ok": exit_status == 0, "exit": exit_status, **facts}


def error_document(error: Exception, status: int, **facts: Any) -> Document:
    """Say in a document what went wrong."""
    return document(status, **facts, error={"kind": type(error).__name__, "message": str(error)})


def error_text(error: GeofenceError, fence: str = "") -> str:
    """Say on standard error what went wrong: three parts, the later two indented."""
    return f"geofence: {fence}: {error}" if fence else f"geofence: {error}"


def update_document(outcome: Outcome) -> Document:
    """Tell of an update as the contract has it."""
    return document(0, **update_facts(outcome))


def update_facts(outcome: Outcome) -> Document:
    """Give the facts of one fence's update."""
    return {
        "fence": outcome.fence,
        "changed": outcome.changed,
        "dry_run": outcome.dry_run,
        "source": outcome.source,
        "generation": outcome.generation,
        "held": outcome.held,
        "families": {family: _change_facts(change) for family, change in outcome.changes.items()},
        "origins": [_origin_facts(origin) for origin in outcome.origins],
        "warnings": list(outcome.warnings),
    }


def update_text(outcome: Outcome, *, verbose: bool) -> list[str]:
    """Tell of an update in a few lines, and what changed, largest first."""
    generation = f"generation {outcome.generation}"
    if outcome.held:
        head = f"{generation} stays in force"
    elif outcome.dry_run:
        head = "would change" if outcome.changed else f"nothing would change from {generation}"
    elif outcome.changed:
        head = f"{generation} is in force"
    else:
        head = f"{generation} is in force and up to date"
    lines = [f"{outcome.fence}: {head} ({_whence(outcome.origins)})"]
    for change in outcome.changes.values():
        lines += _change_text(change, _shown(outcome, verbose=verbose))
    return lines


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
        "origins": [_origin_facts(origin) for origin in status.origins],
        "in_sync": not status.drift,
        "drift": list(status.drift),
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
            size += f", {_size(family, ranges_count(live.prefixes))}"
        lines.append(
            f"  {name}: {size}; {_use(live.header.references)}; room for"
            f" {live.header.maxelem:,} prefixes"
        )
    lines += [f"  drift: {drift}" for drift in status.drift]
    if not status.drift:
        lines.append("  the kernel holds what the disk says")
    return lines


def switched_text(names: str, done: Switched, reboot: Persistence) -> list[str]:
    """Tell that fences are enabled."""
    where = " and ".join(done.tables)
    state = "is enabled" if done.changed else "is enabled, as it was"
    lines = [f"{names}: {state}, in {where}"]
    if done.report:
        lines.append(
            f"  rehearsed with {done.report.packets:,} packets in {done.report.seconds:.1f} s"
        )
    if done.confirm_seconds is not None:
        lines.append(
            f"  the old rules come back in {done.confirm_seconds} s unless you say, from a new"
            " session: geofence confirm"
        )
    if reboot.back:
        lines.append(f"  a reboot brings it back (by {reboot.by})")
    else:
        lines.append(f"  a reboot does NOT bring it back: {reboot.cure}")
    return lines


def reboot_facts(reboot: Persistence) -> Document:
    """Give what a reboot does to enabled fences."""
    return {"back": reboot.back, "by": reboot.by, "cure": reboot.cure}


def rehearsal_text(names: str, rehearsed: Report) -> list[str]:
    """Tell what a rehearsal found."""
    sent = f"{rehearsed.packets:,} packets in {rehearsed.seconds:.1f} s"
    said = [*map(str, rehearsed.wrong), *rehearsed.failures]
    head = "not as it should be" if said else "every verdict is as it should be"
    lines = [f"{names}: rehearsed with {sent}: {head}"]
    return lines + [f"  {line}" for line in said] + [f"  note: {line}" for line in rehearsed.notes]


def rehearsal_document(names: Sequence[str], rehearsed: Report, status: int) -> Document:
    """Give the facts of a rehearsal."""
    return document(
        status,
        fences=list(names),
        packets=rehearsed.packets,
        seconds=round(rehearsed.seconds, 3),
        wrong=[
            {"packet": one.packet, "expected": one.expected, "actual": one.actual, "rule": one.rule}
            for one in rehearsed.wrong
        ],
        failures=list(rehearsed.failures),
        notes=list(rehearsed.notes),
    )


def disabled_text(names: str, done: Switched) -> list[str]:
    """Tell that fences are disabled."""
    if not done.changed:
        return [f"{names}: no rule of it was there" if names else "no fence is enabled"]
    return [f"{names}: is disabled: its chain and jumps are gone from {', '.join(done.tables)}"]


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


def switched_document(names: Sequence[str], done: Switched, **more: Any) -> Document:
    """Give the facts of fences that were switched on or off."""
    return document(
        0,
        fences=list(names),
        changed=done.changed,
        tables=list(done.tables),
        rehearsed=done.report.packets if done.report else None,
        confirm_seconds=done.confirm_seconds,
        warnings=list(done.warnings),
        **more,
    )


def history_facts(number: int, active: int | None, found: Generation | str) -> Document:
    """Give the facts of one stored generation, or what is wrong with it."""
    facts: Document = {"generation": number, "active": number == active}
    if isinstance(found, str):
        return {**facts, "damaged": found}
    return {
        **facts,
        "created": found.created.isoformat(),
        "source": found.source,
        "countries": list(found.countries),
        "origins": [_origin_facts(origin) for origin in found.origins],
        "families": {family: _list_facts(prefixes) for family, prefixes in found.lists.items()},
    }


def history_text(number: int, active: int | None, found: Generation | str) -> str:
    """Tell of one stored generation in a line."""
    mark = "*" if number == active else " "
    if isinstance(found, str):
        return f"{mark} {number:>4}  {found}"
    sizes = ", ".join(
        f"{len(prefixes.prefixes):,} {family.label}" for family, prefixes in found.lists.items()
    )
    return (
        f"{mark} {number:>4}  {found.created:%Y-%m-%d %H:%M}  {sizes} prefixes,"
        f" {_whence(found.origins)}"
    )


def diff_facts(changes: Mapping[Family, Change]) -> Document:
    """Give every prefix that differs, largest first."""
    return {
        family: {
            **_change_facts(change),
            "added_prefixes": [_prefix_facts(family, prefix) for prefix in change.added],
            "removed_prefixes": [_prefix_facts(family, prefix) for prefix in change.removed],
        }
        for family, change in changes.items()
    }


def diff_text(changes: Mapping[Family, Change]) -> list[str]:
    """Tell every prefix that differs, largest first."""
    return [line for change in changes.values() for line in _change_text(change, None)]


def ranges_count(prefixes: PrefixList) -> int:
    """Count the addresses of a list."""
    return count(ranges_of(prefixes))


def _shown(outcome: Outcome, *, verbose: bool) -> int | None:
    """Tell how many of the prefixes that change are shown; None: all."""
    if verbose:
        return None
    return _SHOWN_PREFIXES if outcome.dry_run else 0


def _change_text(change: Change, most: int | None) -> list[str]:
    family = change.family
    lines = [
        f"  {family.label}: {change.prefixes:,} prefixes, {_size(family, change.addresses)};"
        f" added {_size(family, change.added_addresses)},"
        f" removed {_size(family, change.removed_addresses)}"
    ]
    for sign, prefixes in (("+", change.added), ("-", change.removed)):
        shown = prefixes[:most]
        lines += [
            f"    {sign} {format_prefix(family, prefix):<20}"
            f" {_size(family, _addresses(family, prefix))}"
            for prefix in shown
        ]
        if 0 < len(shown) < len(prefixes):
            lines.append(f"    {sign} and {len(prefixes) - len(shown):,} more, smaller (-v)")
    return lines


def _change_facts(change: Change) -> Document:
    units = change.family.in_units
    return {
        "prefixes": change.prefixes,
        "addresses": units(change.addresses),
        "added": units(change.added_addresses),
        "removed": units(change.removed_addresses),
    }


def _list_facts(prefixes: PrefixList) -> Document:
    return {
        "prefixes": len(prefixes.prefixes),
        "addresses": prefixes.family.in_units(ranges_count(prefixes)),
    }


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


def _origin_facts(origin: Origin) -> Document:
    return {
        "publisher": origin.publisher,
        "location": origin.location,
        "date": origin.date.isoformat() if origin.date else None,
        "sha256": origin.sha256,
        "families": list(origin.families),
    }


def _prefix_facts(family: Family, prefix: Prefix) -> Document:
    return {
        "prefix": format_prefix(family, prefix),
        "addresses": family.in_units(_addresses(family, prefix)),
    }


def _generation_text(status: FenceStatus) -> str:
    generation = status.generation
    if generation is None:
        return "no generation is stored"
    confirmed = f", confirmed {_ago(status.confirmed, status.now)}" if status.confirmed else ""
    return (
        f"generation {generation.number}, {_ago(generation.created, status.now)}{confirmed}"
        f" ({_whence(status.origins)})"
    )


def _use(references: int) -> str:
    """Say how many rules (or sets of sets) refer to a set."""
    if not references:
        return "no rule refers to it"
    return f"{references} {'rule refers' if references == 1 else 'rules refer'} to it"


def _whence(origins: Sequence[Origin]) -> str:
    """Say who published what is in force: once, or for each family if they differ."""
    said = {
        family: ", ".join(origin.publisher for origin in found) + _dates(found)
        for family in Family
        if (found := [origin for origin in origins if family in origin.families])
    }
    if len(set(said.values())) == 1:
        return f"from {next(iter(said.values()))}"
    return "; ".join(f"{family.label} from {text}" for family, text in said.items())


def _dates(origins: Sequence[Origin]) -> str:
    """Say of which dates the lists are: one, or the oldest and the newest."""
    dates = sorted({origin.date for origin in origins if origin.date})
    if not dates:
        return ""
    return f" of {dates[0]}" if len(dates) == 1 else f" of {dates[0]} to {dates[-1]}"


def _age(then: datetime.datetime, now: datetime.datetime) -> int:
    return max(0, int((now - then).total_seconds()))


def _ago(then: datetime.datetime, now: datetime.datetime) -> str:
    seconds = _age(then, now)
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if number := seconds // length:
            return f"{number} {name}{'' if number == 1 else 's'} ago"
    return "just now"


def _addresses(family: Family, prefix: Prefix) -> int:
    first, last = range_of(family, prefix)
    return last - first + 1


def _size(family: Family, addresses: int) -> str:
    return f"{family.in_units(addresses):,} {family.unit}"


def warnings_text(fence: str, warnings: Iterable[str]) -> list[str]:
    """Say warnings on standard error."""
    return [f"geofence: {fence}: warning: {warning}" for warning in warnings]
