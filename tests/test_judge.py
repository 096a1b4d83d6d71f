"""What the judge refuses, and what it lets pass: each limit, just below it and just above."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import pytest

from geofence.aggregate import aggregate
from geofence.errors import ListRefused
from geofence.judge import Candidate, Circumstances, confirmed_origins, judge, strip_bogons
from geofence.model import Family, Fence, Limits, Lists, Origin, PrefixList, Range
from geofence.prefixes import count, parse_address, ranges_of
from tests.lists import generation, lists, prefix_list

TODAY = datetime.date(2026, 11, 26)
JP = Fence(name="JP", countries=("JP",))
BASE = {Family.INET: 0x14000000, Family.INET6: 0x2400 << 112}  # 20.0.0.0 and 2400::
SLASH64 = 1 << 64
OTHER = 10**7


def sized(*parts: tuple[int, int], family: Family = Family.INET) -> Lists:
    """Make a list of parts: where each begins (from a base), and its size, in the family's unit."""
    unit = 1 if family is Family.INET else SLASH64
    base = BASE[family]
    found = [Range(base + at * unit, base + (at + size) * unit - 1) for at, size in parts if size]
    return {family: aggregate(family, found)}


def judged(
    new: Lists,
    *,
    fence: Fence = JP,
    old: Lists | None = None,
    shares: Mapping[Family, Mapping[str, int]] | None = None,
    origins: tuple[Origin, ...] = (),
    known: tuple[Origin, ...] = (),
    enforced: Lists | None = None,
    snapshot: Lists | None = None,
    peers: tuple[str, ...] = (),
    accept_change: bool = False,
) -> tuple[str, ...]:
    """Judge a list; ``old`` is the active generation's, if there is one."""
    return judge(
        fence,
        Candidate(lists=new, shares=shares or {}, origins=origins),
        Circumstances(
            active=generation(41, old) if old else None,
            origins=known,
            enforced=enforced or {},
            snapshot=snapshot or {},
            peers=frozenset(map(parse_address, peers)),
            today=TODAY,
            accept_change=accept_change,
        ),
    )


def refusal(new: Lists, **met) -> ListRefused:
    with pytest.raises(ListRefused) as refused:
        judged(new, **met)
    assert refused.value.what.startswith("list refused: ")
    assert refused.value.status == 65
    return refused.value


def apnic(date: str | None, *families: Family) -> Origin:
    day = datetime.date.fromisoformat(date) if date else None
    return Origin(publisher="apnic", location="apnic.txt", date=day, families=families)


def test_the_same_list_again_passes_without_a_word():
    same = lists("192.0.2.0/24", "2001:db8::/32")
    assert judged(same, old=same) == ()
    assert judged(same, snapshot=same) == ()


def test_an_empty_list_is_refused_whatever_is_accepted():
    nothing = {family: PrefixList(family, ()) for family in Family}
    assert "it is empty" in str(refusal(nothing))
    assert "it is empty" in str(refusal(nothing, accept_change=True))
    assert "it is empty" in str(refusal({}))


def test_a_country_without_ipv6_passes():
    assert judged({**lists("192.0.2.0/24"), Family.INET6: PrefixList(Family.INET6, ())}) == ()


@pytest.mark.parametrize(
    ("family", "good", "bad", "found"),
    [
        (Family.INET, 99 * 256, "10.0.0.0/24", "256 IPv4 addresses, 1.0 %"),
        (Family.INET6, 99 << 32, "fc00::/32", "4,294,967,296 IPv6 /64s, 1.0 %"),
    ],
)
def test_bogons_are_left_out_below_the_limit_and_the_list_refused_at_it(family, good, bad, found):
    bogon = prefix_list(family, bad)
    address = bad.partition("/")[0]

    (right,) = sized((0, good + 256), family=family).values()
    mixed = aggregate(family, [*ranges_of(right), *ranges_of(bogon)])
    kept, warning = strip_bogons(mixed, 1.0)
    assert kept == right
    assert warning.startswith("left out: ")
    assert f"nobody's ({address})" in warning
    (right,) = sized((0, good), family=family).values()
    mixed = aggregate(family, [*ranges_of(right), *ranges_of(bogon)])
    with pytest.raises(ListRefused) as refused:
        strip_bogons(mixed, 1.0)
    assert f"list refused: {found}, are special-purpose or multicast" in refused.value.what
    assert refused.value.what.endswith(f"({address}), limit 1 %")
    assert "judge.max_bogon_percent" in refused.value.cure


def test_a_list_without_bogons_stays_as_it_is_even_if_none_are_allowed():
    clean = sized((0, 1000))[Family.INET]
    assert strip_bogons(clean, 0.0) == (clean, "")
    assert strip_bogons(PrefixList(Family.INET6, ()), 0.0)[1] == ""


def test_one_bogon_is_too_much_if_none_are_allowed():
    with pytest.raises(ListRefused, match=r"10\.0\.0\.0 and others"):
        strip_bogons(prefix_list(Family.INET, "8.0.0.0/7", "10.0.0.0/32", "127.0.0.0/32"), 0.0)


@pytest.mark.parametrize(
    ("family", "most", "step", "says"),
    [
        (Family.INET, (1 << 32) * 45 // 100, 1, "would have 45.0 % of IPv4, limit 45 %"),
        (Family.INET6, (1 << 125) * 5 // 100, 1 << 80, "would have 5.0 % of 2000::/3, limit 5 %"),
    ],
)
def test_no_country_has_more_than_its_share_of_all_addresses(family, most, step, says):
    some = lists("192.0.2.0/24")
    assert judged(some, shares={family: {"JP": most}}) == ()
    assert says in str(refusal(some, shares={family: {"JP": most + step}}))
    assert says in str(refusal(some, shares={family: {"JP": most + step}}, accept_change=True))


def test_each_country_has_a_share_of_its_own():
    some, both = lists("192.0.2.0/24"), Fence(name="A", countries=("JP", "US"))
    of_ipv4 = (1 << 32) // 100
    apart = {Family.INET: {"JP": 40 * of_ipv4, "US": 40 * of_ipv4}}
    assert judged(some, fence=both, shares=apart) == ()
    assert judged(some, fence=both, shares={Family.INET: {"": 89 * of_ipv4}}) == ()
    too_much = refusal(some, fence=both, shares={Family.INET: {"": 91 * of_ipv4}})
    assert "JP and US would have 91.0 % of IPv4, limit 90 %" in str(too_much)
    one = refusal(some, fence=both, shares={Family.INET: {"JP": of_ipv4, "US": 46 * of_ipv4}})
    assert "US would have 46.0 % of IPv4, limit 45 %" in str(one)


@pytest.mark.parametrize("family", Family)
def test_more_than_fifteen_percent_gone_is_refused(family):
    unit = 1 if family is Family.INET else 1 << 20
    old = sized((0, 100_000 * unit), family=family)
    assert judged(sized((0, 85_000 * unit), family=family), old=old) == ()
    refused = refusal(sized((0, 84_999 * unit), family=family), old=old)
    assert refused.what == (
        f"list refused: 15.0 % of the {family.label} addresses that are enforced now are gone,"
        " limit 15 %"
    )
    assert "--accept-change" in refused.cure


@pytest.mark.parametrize("family", Family)
def test_more_than_twice_the_addresses_are_refused(family):
    unit = 1 if family is Family.INET else 1 << 20
    old = sized((0, 100_000 * unit), family=family)
    assert judged(sized((0, 200_000 * unit), family=family), old=old) == ()
    refused = refusal(sized((0, 200_001 * unit), family=family), old=old)
    assert refused.what == (
        f"list refused: 100.0 % {family.label} addresses more than are enforced now, limit 100 %"
    )


@pytest.mark.parametrize(("family", "small"), [(Family.INET, 4096), (Family.INET6, 2**32)])
def test_a_small_change_is_never_refused_for_its_size(family, small):
    old = sized((0, small + 10), family=family)
    assert judged(sized((small - 1, 11), family=family), old=old) == ()
    assert "are gone" in str(refusal(sized((small, 10), family=family), old=old))
    few = sized((0, 10), family=family)
    assert judged(sized((0, small + 9), family=family), old=few) == ()
    assert "more than are enforced" in str(refusal(sized((0, small + 10), family=family), old=few))
    none = {family: PrefixList(family, ())}
    assert judged(sized((0, small - 1), family=family), old=none) == ()
    refused = refusal(sized((0, small), family=family), old=none)
    assert f"{small:,} {family.label} {family.unit} where there were none" in str(refused)


def test_sizes_are_of_addresses_and_not_of_lines():
    lines = [(2 * i * 256, 256) for i in range(24)]
    old = sized((OTHER, 2**19), *lines)
    assert "98.8 % of the IPv4 addresses" in str(refusal(sized(*lines), old=old))
    assert judged(sized((OTHER, 2**19)), old=old) == ()


@pytest.mark.parametrize(("gone", "says"), [(50_000, False), (50_001, True)])
def test_when_most_is_gone_it_looks_like_another_countrys_list(gone, says):
    refused = refusal(sized((gone, 100_000)), old=sized((0, 100_000)))
    assert ("this looks like another country's list" in str(refused)) is says


def test_a_whole_other_list_of_the_same_size_is_refused():
    refused = refusal(sized((OTHER, 100_000)), old=sized((0, 100_000)))
    assert "100.0 % of the IPv4 addresses that are enforced now are gone" in str(refused)


@pytest.mark.parametrize("family", Family)
def test_a_family_that_vanished_is_refused_however_small(family):
    old = lists("192.0.2.0/24", "2001:db8::/64")
    refused = refusal({**old, family: PrefixList(family, ())}, old=old)
    assert refused.what == f"list refused: no {family.label} prefixes, and there were 1"
    assert judged({**old, family: PrefixList(family, ())}, old=old, accept_change=True)


@pytest.mark.parametrize("family", Family)
def test_a_first_list_covers_half_of_the_snapshot(family):
    snapshot = sized((0, 1000), family=family)
    assert judged(sized((500, 500), family=family), snapshot=snapshot) == ()
    refused = refusal(sized((501, 999), family=family), snapshot=snapshot)
    assert refused.what == (
        f"list refused: it has 49.9 % of the {family.label} addresses that the bundled snapshot"
        " has for JP, at least 50 % expected: this looks like another country's list"
    )
    assert "--accept-change" in refused.cure


@pytest.mark.parametrize("family", Family)
def test_a_first_list_is_at_most_twice_as_large_as_the_snapshot(family):
    snapshot = sized((0, 1000), family=family)
    assert judged(sized((0, 2000), family=family), snapshot=snapshot) == ()
    refused = refusal(sized((0, 2010), family=family), snapshot=snapshot)
    assert refused.what == (
        f"list refused: its {family.label} addresses are 201.0 % of the bundled snapshot's for JP,"
        " limit 200 %"
    )


def test_a_first_list_without_a_family_that_the_snapshot_has_is_refused():
    new = {**lists("192.0.2.0/24"), Family.INET6: PrefixList(Family.INET6, ())}
    refused = refusal(new, snapshot=lists("192.0.2.0/24", "2001:db8::/32"))
    assert refused.what.endswith("0 % of the IPv6 addresses that the bundled snapshot has for JP,"
                                 " at least 50 % expected")  # fmt: skip


def test_a_family_that_the_snapshot_does_not_know_is_a_warning():
    new = lists("192.0.2.0/24", "2001:db8::/32")
    snapshot = {**lists("192.0.2.0/24"), Family.INET6: PrefixList(Family.INET6, ())}
    assert judged(new, snapshot=snapshot) == (
        "the bundled snapshot knows no IPv6 prefixes of JP, and this list has 1",
    )
    without = {**new, Family.INET6: PrefixList(Family.INET6, ())}
    assert judged(without, snapshot=snapshot) == ()


def test_the_snapshot_judges_the_family_alone_that_is_not_active():
    old = lists("192.0.2.0/24")
    new = lists("192.0.2.0/24", "2001:db8::/32")
    other = lists("203.0.113.0/24", "2001:db8:ffff::/48")
    refused = refusal(new, old=old, snapshot=other)
    assert "IPv4" not in refused.what
    assert "IPv6" in refused.what


@pytest.mark.parametrize(
    ("date", "refused"),
    [
        ("2026-11-21", False),
        ("2026-11-20", False),
        ("2026-11-17", False),
        ("2026-11-16", True),
        ("2020-01-01", True),
        (None, False),
    ],
)
def test_a_list_is_not_older_than_the_one_in_force_by_more_than_three_days(date, refused):
    same, known = lists("192.0.2.0/24"), (apnic("2026-11-20"),)
    older = f"apnic: dated {date}, older than the list in force of 2026-11-20"
    met: dict[str, Any] = {"old": same, "origins": (apnic(date),), "known": known}
    if refused:
        assert refusal(same, **met).what == f"list refused: {older}"
        assert refusal(same, **met, accept_change=True).what == f"list refused: {older}"
    else:
        warned = date is not None and date < "2026-11-20"
        assert judged(same, **met) == ((older,) if warned else ())


def test_an_older_bundled_snapshot_warns_and_never_blocks():
    same = lists("192.0.2.0/24")
    new, old = (
        Origin(publisher="bundled", location="", date=datetime.date(year, 6, 17))
        for year in (2026, 2025)
    )
    (warning,) = judged(same, old=same, origins=(old,), known=(new,))
    assert warning == "bundled: dated 2025-06-17, older than the list in force of 2026-06-17"


def test_dates_are_compared_within_a_publisher_and_with_what_is_known():
    same, old = lists("192.0.2.0/24"), apnic("2020-01-01")
    bundled = Origin(publisher="bundled", location="", date=datetime.date(2026, 6, 17))
    assert judged(same, old=same, origins=(old,), known=(bundled,)) == ()
    assert judged(same, old=same, origins=(old,), known=(apnic(None),)) == ()
    assert judged(same, old=same, origins=(old,), known=()) == ()
    ripe = Origin(publisher="ripencc", location="", date=datetime.date(2026, 11, 20))
    known = (apnic("2026-11-20"), ripe)
    assert "apnic" in str(refusal(same, old=same, origins=(ripe, old), known=known))


def test_dates_are_compared_within_a_family():
    same = lists("192.0.2.0/24", "2001:db8::/32")
    known = (apnic("2026-11-20", Family.INET), apnic("2026-11-01", Family.INET6))
    for origins in (known, known[::-1]):
        inet = (apnic("2026-11-10", Family.INET),)
        assert "of 2026-11-20" in str(refusal(same, old=same, origins=inet, known=origins))
        inet6 = (apnic("2026-11-10", Family.INET6), known[0])
        assert judged(same, old=same, origins=inet6, known=origins) == ()
        both = (apnic("2026-11-10"),)
        assert "of 2026-11-20" in str(refusal(same, old=same, origins=both, known=origins))


@pytest.mark.parametrize(("date", "warned"), [("2026-11-27", False), ("2026-11-28", True)])
def test_a_date_from_the_future_warns_and_is_not_remembered(date, warned):
    same, future = lists("192.0.2.0/24"), apnic(date)
    clock = f"apnic: dated {date}, and today is 2026-11-26: is this host's clock right?"
    assert judged(same, old=same, origins=(future,)) == ((clock,) if warned else ())
    before = (apnic("2026-11-20"), Origin(publisher="arin", location="", date=TODAY))
    (remembered,) = confirmed_origins((future,), before, TODAY)
    assert remembered == (apnic("2026-11-20") if warned else future)
    (remembered,) = confirmed_origins((future,), (), TODAY)
    assert remembered == (apnic(None) if warned else future)


def test_what_must_be_allowed_is_allowed():
    fence = dataclasses.replace(JP, must_allow=("192.0.2.7", "2001:db8::7"))
    good = lists("192.0.2.0/24", "2001:db8::/32")
    assert judged(good, fence=fence) == ()
    refused = refusal(lists("192.0.2.128/25", "2001:db8::/32"), fence=fence, accept_change=True)
    assert refused.what == "list refused: 192.0.2.7 is in must_allow and not in the list"
    without = refusal(lists("192.0.2.0/24"), fence=fence)
    assert without.what == "list refused: 2001:db8::7 is in must_allow and not in the list"


def test_what_must_not_be_allowed_is_not_allowed():
    fence = dataclasses.replace(JP, must_not_allow=("192.0.2.7", "2001:db8::7"))
    assert judged(lists("192.0.2.8/29"), fence=fence) == ()
    refused = refusal(lists("192.0.2.0/29"), fence=fence, accept_change=True)
    assert refused.what == "list refused: 192.0.2.7 is in must_not_allow and in the list"
    assert "2001:db8::7" in str(refusal(lists("2001:db8::/64"), fence=fence))


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::7"])
def test_nobody_with_an_ssh_session_is_shut_out(peer):
    in_force = lists("192.0.2.0/24", "2001:db8::/32")
    other = lists("203.0.113.0/24", "2001:db8:ffff::/48")
    refused = refusal(other, enforced=in_force, peers=(peer,), accept_change=True)
    assert f"it would shut out {peer}, which has an SSH session" in refused.what
    assert judged(in_force, enforced=in_force, peers=(peer,)) == ()


def test_whoever_was_not_let_in_by_the_list_in_force_is_not_missed():
    new = lists("203.0.113.0/24")
    assert judged(new, enforced=lists("192.0.2.0/24"), peers=("198.51.100.7",)) == ()
    assert judged(new, enforced={}, peers=("192.0.2.7",)) == ()


def test_accepting_lets_size_and_overlap_pass_and_says_so():
    old = {**sized((0, 100_000)), **sized((0, 2**33), family=Family.INET6)}
    new = {**sized((OTHER, 300_000)), Family.INET6: PrefixList(Family.INET6, ())}
    warnings = judged(new, old=old, accept_change=True)
    assert [warning.partition(": ")[0] for warning in warnings] == ["accepted"] * 3
    first = judged(new, snapshot=old, accept_change=True)
    assert [warning.partition(": ")[0] for warning in first] == ["accepted"] * 3


def everything_wrong() -> dict[str, Any]:
    return {
        "fence": dataclasses.replace(
            JP, must_allow=("192.0.2.7",), must_not_allow=("20.152.150.128",)
        ),
        "old": sized((0, 100_000)),
        "shares": {Family.INET: {"JP": 1 << 31}},
        "origins": (apnic("2020-01-01"),),
        "known": (apnic("2026-11-20"),),
        "enforced": sized((0, 100_000)),
        "peers": ("20.0.0.1",),
    }


def test_all_reasons_stand_in_one_message():
    refused = refusal(sized((OTHER, 300_000)), **everything_wrong())
    reasons = refused.what.removeprefix("list refused: ").split("; ")
    assert [reason.split()[0] for reason in reasons] == [
        "JP", "192.0.2.7", "20.152.150.128", "it", "apnic:", "100.0", "300.0",
    ]  # fmt: skip
    assert "--accept-change" not in refused.cure


def test_accepting_a_change_accepts_nothing_but_the_size_of_it():
    refused = refusal(sized((OTHER, 300_000)), **everything_wrong(), accept_change=True)
    assert len(refused.what.split("; ")) == 5
    assert "enforced now" not in refused.what


@pytest.mark.parametrize(
    ("limits", "new"),
    [
        (Limits(max_removed_percent=5), sized((0, 94_000))),
        (Limits(max_added_percent=5), sized((0, 106_000))),
        (Limits(small_change_addresses=0, max_removed_percent=0), sized((0, 99_999))),
    ],
    ids=["removed", "added", "small"],
)
def test_a_limit_of_the_fences_own_counts(limits, new):
    fence = dataclasses.replace(JP, limits=limits)
    old = sized((0, 100_000))
    assert judged(new, old=old) == ()
    refusal(new, old=old, fence=fence)


def test_the_snapshots_limits_and_the_date_limit_are_the_fences_own():
    limits = Limits(
        min_snapshot_covered_percent=90,
        max_snapshot_percent=110,
        max_backdate_days=0,
        max_share_inet_percent=1,
        max_share_inet6_percent=1,
        small_change_slash64s=0,
    )
    fence, old = dataclasses.replace(JP, limits=limits), sized((0, 1000))
    few = refusal(sized((0, 899)), snapshot=old, fence=fence)
    assert few.what.endswith("at least 90 % expected")
    assert "limit 110 %" in str(refusal(sized((0, 1101)), snapshot=old, fence=fence))
    dated = {"origins": (apnic("2026-11-19"),), "known": (apnic("2026-11-20"),)}
    assert "older" in str(refusal(old, old=old, fence=fence, **dated))
    shares = {Family.INET: {"JP": 1 << 26}, Family.INET6: {"JP": 1 << 120}}
    assert str(refusal(old, fence=fence, shares=shares)).count("limit 1 %") == 2
    inet6 = sized((0, 100), family=Family.INET6)
    assert "are gone" in str(refusal(sized((0, 80), family=Family.INET6), old=inet6, fence=fence))
    assert count(ranges_of(inet6[Family.INET6])) == 100 * SLASH64
