"""What changes between two lists of a fence, by addresses, largest first."""

from dataclasses import dataclass

from geofence.aggregate import aggregate
from geofence.model import Family, Lists, Prefix, PrefixList
from geofence.prefixes import count, difference, ranges_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One family's change. Sizes are numbers of addresses."""

    family: Family
    prefixes: int  # in the new list
    addresses: int  # in the new list
    added: tuple[Prefix, ...]  # largest first
    removed: tuple[Prefix, ...]  # largest first
    added_addresses: int
    removed_addresses: int


def compare(old: Lists, new: Lists) -> dict[Family, Change]:
    """Compare two lists of a fence; a family that only the new one has is all added."""
    return {
        family: _compare(old.get(family, PrefixList(family, ())), new[family])
        for family in sorted(new)
    }


def _compare(old: PrefixList, new: PrefixList) -> Change:
    family, before, after = new.family, ranges_of(old), ranges_of(new)
    added, removed = difference(after, before), difference(before, after)
    return Change(
        family=family,
        prefixes=len(new.prefixes),
        addresses=count(after),
        added=_largest_first(aggregate(family, added)),
        removed=_largest_first(aggregate(family, removed)),
        added_addresses=count(added),
        removed_addresses=count(removed),
    )


def _largest_first(prefixes: PrefixList) -> tuple[Prefix, ...]:
    return tuple(sorted(prefixes.prefixes, key=lambda prefix: (prefix.length, prefix.address)))
