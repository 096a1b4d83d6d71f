"""From what a source brought to a candidate for the whole fence: union, aggregate, fill up."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from geofence.aggregate import aggregate
from geofence.judge import Candidate, strip_bogons
from geofence.model import Family, Fence, Generation, Listing, Lists, Origin, PrefixList
from geofence.prefixes import count, ranges_of
from geofence.sources import bundled


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A listing, aggregated: one list a family, and each country's share of it."""

    listing: Listing
    lists: Lists
    shares: Mapping[Family, Mapping[str, int]]
    warnings: tuple[str, ...]


def aggregated(listing: Listing, fence: Fence, wanted: Collection[Family]) -> Brought:
    """Join the countries of a listing, and leave out what belongs to no country.

    Raises ListRefused when there is too much of that.
    """
    lists, shares, warnings = {}, {}, list(listing.warnings)
    for family, countries in listing.ranges.items():
        if family not in wanted:
            continue
        each = {country: aggregate(family, ranges) for country, ranges in countries.items()}
        shares[family] = {country: count(ranges_of(prefixes)) for country, prefixes in each.items()}
        whole, warning = strip_bogons(_union(family, each), fence.limits.max_bogon_percent)
        lists[family] = whole
        if warning:
            warnings.append(warning)
        if not whole.prefixes:
            warnings.append(
                f"{listing.source} has no {family.label} prefixes of"
                f" {' '.join(fence.countries)}: the {family.label} set is empty"
            )
    return Brought(listing=listing, lists=lists, shares=shares, warnings=tuple(warnings))


def completed(
    brought: Brought, fence: Fence, active: Generation | None, *, restricted: bool
) -> tuple[Candidate, tuple[str, ...]]:
    """Make a candidate of the whole fence, and say what its families were filled up with.

    A family that was not brought stays as the active generation has it; where there is none, or
    it is of other countries, it comes from the bundled snapshot, unless the fence is restricted
    to other families.
    """
    lists = dict(brought.lists)
    origins = _for(tuple(brought.lists), brought.listing.origins)
    warnings: list[str] = []
    missing = [family for family in Family if family not in lists]
    of_others = active is not None and active.countries != fence.countries
    stored = () if active is None or (of_others and not restricted) else active.lists
    carried = [family for family in missing if family in stored]
    if active and carried:
        lists |= {family: active.lists[family] for family in carried}
        origins += _for(carried, active.origins)
        warnings += [
            f"{family.label} stays that of {' '.join(active.countries)}: it was not brought"
            for family in carried
            if of_others
        ]
    filled = [] if restricted else [family for family in missing if family not in carried]
    if filled:
        snapshot = aggregated(snapshot_listing(fence.countries), fence, filled)
        lists |= snapshot.lists
        origins += _for(filled, snapshot.listing.origins)
        warnings += [
            f"{brought.listing.source} brought no {family.label}: it is that of the bundled"
            f" snapshot of {bundled.date()}"
            for family in filled
        ]
    ordered = {family: lists[family] for family in Family if family in lists}
    return (
        Candidate(lists=ordered, shares=brought.shares, origins=tuple(origins)),
        tuple(warnings),
    )


def snapshot_listing(countries: Collection[str]) -> Listing:
    """Read the bundled snapshot. Raises ListRefused for a country that it does not know."""
    return bundled.BUNDLED.parse([bundled.document()], frozenset(countries))


def snapshot_lists(fence: Fence) -> Lists:
    """Give the bundled snapshot's lists of a fence's countries, both families."""
    return aggregated(snapshot_listing(fence.countries), fence, tuple(Family)).lists


def _for(families: Sequence[Family], origins: Iterable[Origin]) -> list[Origin]:
    """Give the origins that are in force for some of these families, and note for which."""
    return [
        dataclasses.replace(origin, families=both)
        for origin in origins
        if (both := tuple(family for family in families if family in (origin.families or Family)))
    ]


def _union(family: Family, each: Mapping[str, PrefixList]) -> PrefixList:
    if len(each) == 1:
        return next(iter(each.values()))
    return aggregate(family, [found for prefixes in each.values() for found in ranges_of(prefixes)])
