"""May this candidate replace what is enforced? A pure function of values, and its limits.

Sizes are compared by addresses, never by numbers of prefixes: a list can keep 96 % of its lines
and lose 98 % of its addresses.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from geofence import bogons
from geofence.aggregate import aggregate
from geofence.errors import ListRefused
from geofence.model import Address, Family, Fence, Generation, Lists, Origin, PrefixList, Range
from geofence.prefixes import (
    count,
    difference,
    find,
    format_address,
    intersection,
    parse_address,
    ranges_of,
)
from geofence.sources.bundled import BUNDLED

_UNIVERSE = {Family.INET: 1 << 32, Family.INET6: 1 << 125}  # all IPv4; 2000::/3, RFC 4291
_UNIVERSE_NAME = {Family.INET: "of IPv4", Family.INET6: "of 2000::/3"}
_ANOTHER_COUNTRY_PERCENT = 50.0
_LEAST_SHOWN_PERCENT = 0.001
_FUTURE = datetime.timedelta(days=1)
_ACCEPT = "if this is right: run it again with --accept-change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A list that was parsed and aggregated, not yet judged.

    ``shares`` holds the addresses of each country, by family; a list that does not tell
    countries apart has one share, ``""``, of all of them together.
    """

    lists: Lists
    shares: Mapping[Family, Mapping[str, int]]
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Everything else that the judge looks at."""

    active: Generation | None  # what the candidate would replace
    origins: tuple[Origin, ...]  # the active list's, as last confirmed by its publishers
    enforced: Lists  # what packets meet now
    snapshot: Lists  # the bundled list of the same countries, for a first list
    peers: frozenset[Address]  # at the other end of SSH sessions of this moment
    today: datetime.date
    accept_change: bool


@dataclass(slots=True)
class _Findings:
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    overridable: list[str] = field(default_factory=list)


def strip_bogons(prefixes: PrefixList, max_percent: float) -> tuple[PrefixList, str]:
    """Take out what no country has, and say so; refuse a list that is full of it.

    Raises ListRefused over ``max_percent`` of the list's addresses.
    """
    ours = ranges_of(prefixes)
    bad = intersection(ours, bogons.ranges(prefixes.family))
    if not bad:
        return prefixes, ""
    percent = 100 * count(bad) / count(ours)
    family = prefixes.family
    first = format_address(family, bad[0].first)
    found = (
        f"{_size(family, count(bad))} {family.label} {family.unit}, {_percent(percent)}, are"
        f" special-purpose or multicast and nobody's ({first}"
        f"{' and others' if len(bad) > 1 else ''})"
    )
    if percent >= max_percent:
        raise ListRefused(
            f"list refused: {found}, limit {max_percent:g} %",
            cure="look at the list; judge.max_bogon_percent is the limit",
        )
    return aggregate(family, difference(ours, bad)), f"left out: {found}"


def judge(fence: Fence, candidate: Candidate, met: Circumstances) -> tuple[str, ...]:
    """Return warnings, or raise ListRefused with every reason there is."""
    findings = _Findings()
    _not_empty(candidate, findings)
    _shares(fence, candidate, findings)
    _canaries(fence, candidate, findings)
    _peers(candidate, met, findings)
    _dates(fence, candidate, met, findings)
    for family, prefixes in candidate.lists.items():
        if met.active and family in met.active.lists:
            _against_active(fence, prefixes, met.active.lists[family], findings)
        elif family in met.snapshot:
            _against_snapshot(fence, prefixes, met.snapshot[family], findings)
    if met.accept_change:
        findings.warnings += [f"accepted: {reason}" for reason in findings.overridable]
        findings.overridable.clear()
    if reasons := findings.refusals + findings.overridable:
        cure = "look at the list and its publisher" if findings.refusals else _ACCEPT
        raise ListRefused("list refused: " + "; ".join(reasons), cure=cure)
    return tuple(findings.warnings)


def confirmed_origins(
    new: Sequence[Origin], old: Sequence[Origin], today: datetime.date
) -> tuple[Origin, ...]:
    """Give the origins to remember, with the newest date that each publisher's list ever had.

    Else old lists could be played back a few days at a time. A date from the future does not
    count: a publisher's slip, or somebody's trick, would let no later list pass.
    """
    return tuple(
        dataclasses.replace(origin, date=_newest(origin.date, _date_known(origin, old), today))
        for origin in new
    )


def _newest(
    date: datetime.date | None, known: datetime.date | None, today: datetime.date
) -> datetime.date | None:
    if date is None or date > today + _FUTURE:
        return known
    return max(date, known) if known else date


def _not_empty(candidate: Candidate, findings: _Findings) -> None:
    if not any(prefixes.prefixes for prefixes in candidate.lists.values()):
        findings.refusals.append("it is empty")


def _shares(fence: Fence, candidate: Candidate, findings: _Findings) -> None:
    limits = {
        Family.INET: fence.limits.max_share_inet_percent,
        Family.INET6: fence.limits.max_share_inet6_percent,
    }
    for family, shares in candidate.shares.items():
        for country, addresses in shares.items():
            holders = 1 if country else len(fence.countries)
            percent = 100 * addresses / _UNIVERSE[family]
            if percent > limits[family] * holders:
                whose = country or " and ".join(fence.countries)
                findings.refusals.append(
                    f"{whose} would have {_percent(percent)} {_UNIVERSE_NAME[family]},"
                    f" limit {limits[family] * holders:g} %"
                )


def _canaries(fence: Fence, candidate: Candidate, findings: _Findings) -> None:
    for text in fence.must_allow:
        if not _allows(candidate.lists, parse_address(text)):
            findings.refusals.append(f"{text} is in must_allow and not in the list")
    for text in fence.must_not_allow:
        if _allows(candidate.lists, parse_address(text)):
            findings.refusals.append(f"{text} is in must_not_allow and in the list")


def _peers(candidate: Candidate, met: Circumstances, findings: _Findings) -> None:
    for peer in sorted(met.peers):
        if _allows(candidate.lists, peer):
            continue
        if _allows(met.enforced, peer):
            findings.refusals.append(
                f"it would shut out {format_address(*peer)}, which has an SSH session to this"
                " host now and is let in by the list in force"
            )
        elif not _is_bogon(peer):
            findings.warnings.append(
                f"{format_address(*peer)} has an SSH session to this host now and is not in the"
                " list: before a rule drops who is not in it, see to your way in"
            )


def _dates(fence: Fence, candidate: Candidate, met: Circumstances, findings: _Findings) -> None:
    for origin in candidate.origins:
        if origin.date and origin.date > met.today + _FUTURE:
            findings.warnings.append(
                f"{origin.publisher}: dated {origin.date}, and today is {met.today}:"
                " is this host's clock right?"
            )
        before = _date_known(origin, met.origins)
        if not (origin.date and before and origin.date < before):
            continue
        older = f"{origin.publisher}: dated {origin.date}, older than the list in force of {before}"
        days = (before - origin.date).days
        if days > fence.limits.max_backdate_days and origin.publisher != BUNDLED.name:
            findings.refusals.append(older)
        else:
            findings.warnings.append(older)


def _date_known(origin: Origin, known: Sequence[Origin]) -> datetime.date | None:
    """Give the date of the same publisher's list in force, for any of the same families."""
    families = set(origin.families or Family)
    dates = [
        one.date
        for one in known
        if one.publisher == origin.publisher and families & set(one.families or Family) and one.date
    ]
    return max(dates, default=None)


def _against_active(
    fence: Fence, prefixes: PrefixList, active: PrefixList, findings: _Findings
) -> None:
    family, new, old = prefixes.family, ranges_of(prefixes), ranges_of(active)
    gone, added, before = count(difference(old, new)), count(difference(new, old)), count(old)
    small = {
        Family.INET: fence.limits.small_change_addresses,
        Family.INET6: fence.limits.small_change_slash64s << 64,
    }[family]
    if not before:
        if added >= small:
            findings.overridable.append(
                f"{_size(family, added)} {family.label} {family.unit} where there were none"
            )
        return
    if not new:
        findings.overridable.append(f"no {family.label} prefixes, and there were {len(old):,}")
        return
    if gone >= small and 100 * gone / before > fence.limits.max_removed_percent:
        percent = 100 * gone / before
        hint = ": this looks like another country's list" if _mostly(percent) else ""
        findings.overridable.append(
            f"{_percent(percent)} of the {family.label} addresses that are enforced now are gone,"
            f" limit {fence.limits.max_removed_percent:g} %{hint}"
        )
    if added >= small and 100 * added / before > fence.limits.max_added_percent:
        findings.overridable.append(
            f"{_percent(100 * added / before)} {family.label} addresses more than are enforced"
            f" now, limit {fence.limits.max_added_percent:g} %"
        )


def _against_snapshot(
    fence: Fence, prefixes: PrefixList, snapshot: PrefixList, findings: _Findings
) -> None:
    family, new, known = prefixes.family, ranges_of(prefixes), ranges_of(snapshot)
    if not known:
        if new:
            findings.warnings.append(
                f"the bundled snapshot knows no {family.label} prefixes of"
                f" {' '.join(fence.countries)}, and this list has {len(new):,}"
            )
        return
    covered = 100 * count(intersection(new, known)) / count(known)
    if covered < fence.limits.min_snapshot_covered_percent:
        hint = ": this looks like another country's list" if new and _mostly(100 - covered) else ""
        findings.overridable.append(
            f"it has {_percent(covered)} of the {family.label} addresses that the bundled snapshot"
            f" has for {' '.join(fence.countries)},"
            f" at least {fence.limits.min_snapshot_covered_percent:g} % expected{hint}"
        )
    size = 100 * count(new) / count(known)
    if size > fence.limits.max_snapshot_percent:
        findings.overridable.append(
            f"its {family.label} addresses are {_percent(size)} of the bundled snapshot's for"
            f" {' '.join(fence.countries)}, limit {fence.limits.max_snapshot_percent:g} %"
        )


def _mostly(percent: float) -> bool:
    return percent > _ANOTHER_COUNTRY_PERCENT


def _is_bogon(address: Address) -> bool:
    """Tell whether an address belongs to no country: a private one, say."""
    family, number = address
    return bool(intersection([Range(number, number)], bogons.ranges(family)))


def _allows(lists: Lists, address: Address) -> bool:
    family, number = address
    return family in lists and find(lists[family], number) is not None


def _percent(value: float) -> str:
    if 0 < value < _LEAST_SHOWN_PERCENT:
        return f"under {_LEAST_SHOWN_PERCENT:g} %"
    return f"{value:.3g} %" if value < 1 else f"{value:.1f} %"


def _size(family: Family, addresses: int) -> str:
    units = family.in_units(addresses)
    return f"{units:,}" if units or not addresses else "under 1"
