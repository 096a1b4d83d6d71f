"""What a verb says: text for people and a document for scripts, of the same values. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geofence.model import Family, Generation, Origin, Prefix, PrefixList
from geofence.prefixes import count, format_prefix, range_of, ranges_of

if TYPE_CHECKING:  # the boot path reports too, and must not import what a download needs
    from collections.abc import Iterable, Mapping, Sequence

    from geofence.compare import Change
    from geofence.errors import GeofenceError
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
        "origins": [origin_facts(origin) for origin in outcome.origins],
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
    lines = [f"{outcome.fence}: {head} ({whence(outcome.origins)})"]
    for change in outcome.changes.values():
        lines += _change_text(change, _shown(outcome, verbose=verbose))
    return lines


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
        "origins": [origin_facts(origin) for origin in found.origins],
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
        f" {whence(found.origins)}"
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
        f"  {family.label}: {change.prefixes:,} prefixes, {size_text(family, change.addresses)};"
        f" added {size_text(family, change.added_addresses)},"
        f" removed {size_text(family, change.removed_addresses)}"
    ]
    for sign, prefixes in (("+", change.added), ("-", change.removed)):
        shown = prefixes[:most]
        lines += [
            f"    {sign} {format_prefix(family, prefix):<20}"
            f" {size_text(family, _addresses(family, prefix))}"
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


def origin_facts(origin: Origin) -> Document:
    """Give the facts of where a list came from."""
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


def whence(origins: Sequence[Origin]) -> str:
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


def _addresses(family: Family, prefix: Prefix) -> int:
    first, last = range_of(family, prefix)
    return last - first + 1


def size_text(family: Family, addresses: int) -> str:
    """Say how many addresses, in the unit of the family."""
    return f"{family.in_units(addresses):,} {family.unit}"


def warnings_text(fence: str, warnings: Iterable[str]) -> list[str]:
    """Say warnings on standard error."""
    return [f"geofence: {fence}: warning: {warning}" for warning in warnings]
