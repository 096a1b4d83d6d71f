"""A candidate is of the whole fence: what was brought, what stays, and what is filled up."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import pytest

from geofence.candidate import Brought, aggregated, completed, snapshot_lists
from geofence.errors import ListRefused
from geofence.model import Family, Fence, Limits, Listing, Lists, Origin, PrefixList, Range
from geofence.prefixes import parse_prefix, range_of
from geofence.sources import bundled
from tests.lists import generation, lists, prefix_list

JP = Fence(name="JP", countries=("JP",))
BOTH = Fence(name="A", countries=("JP", "US"))
INET, INET6 = Family
APNIC = Origin(publisher="apnic", location="apnic.txt", date=datetime.date(2026, 11, 20))


def ranges(*texts: str) -> list[Range]:
    return [range_of(*parse_prefix(text)) for text in texts]


Texts = Mapping[str, Sequence[str]]


def listing(inet: Texts | None, inet6: Texts | None = None) -> Listing:
    """Make what a source says; a family that is None is one that it does not bring."""
    brought = {INET: inet, INET6: inet6}
    return Listing(
        source="rir",
        ranges={
            family: {country: ranges(*texts) for country, texts in of.items()}
            for family, of in brought.items()
            if of is not None
        },
        origins=(APNIC,),
        warnings=("said by the source",),
    )


def brought(of: Lists) -> Brought:
    return Brought(listing=listing({}), lists=of, shares={family: {} for family in of}, warnings=())


def test_the_countries_of_a_fence_are_one_list_and_each_has_its_share():
    of = {"JP": ["20.0.0.0/24", "20.0.2.0/24"], "US": ["20.0.1.0/24", "20.0.2.128/25"]}
    found = aggregated(listing(of, {"JP": ["2400::/32"]}), BOTH, tuple(Family))
    assert found.lists == lists("20.0.0.0/23", "20.0.2.0/24", "2400::/32")
    assert found.shares == {INET: {"JP": 512, "US": 384}, INET6: {"JP": 1 << 96}}
    assert found.warnings == ("said by the source",)


def test_a_family_that_is_not_wanted_is_left_out():
    found = aggregated(listing({"JP": ["20.0.0.0/24"]}, {"JP": ["2400::/32"]}), JP, (INET6,))
    assert (set(found.lists), set(found.shares)) == ({INET6}, {INET6})


def test_a_family_without_prefixes_is_an_empty_list_and_a_warning():
    found = aggregated(listing({"JP": ["20.0.0.0/24"]}, {}), JP, tuple(Family))
    assert found.lists[INET6] == PrefixList(INET6, ())
    assert found.shares[INET6] == {}
    assert found.warnings[1:] == ("rir has no IPv6 prefixes of JP: the IPv6 set is empty",)


def test_a_family_that_is_not_brought_is_no_empty_one():
    found = aggregated(listing({"JP": ["20.0.0.0/24"]}), JP, tuple(Family))
    assert set(found.lists) == {INET}
    assert found.warnings == ("said by the source",)


def test_what_belongs_to_no_country_is_left_out_with_a_warning():
    of = {"JP": ["20.0.0.0/16", "10.0.0.0/24"]}
    found = aggregated(listing(of), JP, tuple(Family))
    assert found.lists == lists("20.0.0.0/16")
    assert found.warnings[1].startswith("left out: 256 IPv4 addresses, 0.389 %")
    strict = dataclasses.replace(JP, limits=Limits(max_bogon_percent=0.1))
    with pytest.raises(ListRefused, match="nobody's"):
        aggregated(listing(of), strict, tuple(Family))


def test_what_was_brought_whole_needs_nothing_else():
    new, old = lists("20.0.0.0/24", "2400::/32"), lists("20.9.0.0/24", "2409::/32")
    candidate, warnings = completed(brought(new), JP, generation(1, old), restricted=False)
    assert (candidate.lists, warnings) == (new, ())
    assert candidate.origins == (dataclasses.replace(APNIC, families=(INET, INET6)),)


@pytest.mark.parametrize("restricted", [True, False])
def test_a_family_that_was_not_brought_stays_with_its_origins(restricted):
    old = lists("20.9.0.0/24", "2409::/32")
    ripe = Origin(publisher="ripencc", location="ripe.txt", families=(INET6,))
    gone = Origin(publisher="arin", location="arin.txt", families=(INET,))
    active = generation(1, old, origins=(APNIC, ripe, gone))
    candidate, warnings = completed(
        brought(lists("20.0.0.0/24")), JP, active, restricted=restricted
    )
    assert candidate.lists == {**lists("20.0.0.0/24"), INET6: old[INET6]}
    assert candidate.origins == (
        dataclasses.replace(APNIC, families=(INET,)),
        dataclasses.replace(APNIC, families=(INET6,)),
        ripe,
    )
    assert warnings == ()


def test_a_family_that_nobody_has_comes_from_the_snapshot_with_a_warning():
    candidate, warnings = completed(brought(lists("20.0.0.0/24")), JP, None, restricted=False)
    assert candidate.lists == {**lists("20.0.0.0/24"), INET6: snapshot_lists(JP)[INET6]}
    assert warnings == (
        f"rir brought no IPv6: it is that of the bundled snapshot of {bundled.date()}",
    )
    assert [(origin.publisher, origin.families) for origin in candidate.origins] == [
        ("apnic", (INET,)),
        ("bundled", (INET6,)),
    ]
    assert set(candidate.shares) == {INET}


def test_a_family_that_the_active_generation_lacks_comes_from_the_snapshot_too():
    active = generation(1, lists("20.0.0.0/24"))
    candidate, warnings = completed(brought(lists("20.0.0.0/24")), JP, active, restricted=False)
    assert candidate.lists[INET6] == snapshot_lists(JP)[INET6]
    assert len(warnings) == 1


def test_a_fence_of_one_family_is_not_filled_up():
    candidate, warnings = completed(brought(lists("20.0.0.0/24")), JP, None, restricted=True)
    assert (candidate.lists, warnings) == (lists("20.0.0.0/24"), ())


def test_families_are_in_the_same_order_whichever_was_brought():
    old = lists("20.9.0.0/24", "2409::/32")
    candidate, _ = completed(brought(lists("2400::/32")), JP, generation(1, old), restricted=False)
    assert list(candidate.lists) == [INET, INET6]


def test_what_was_stored_of_other_countries_does_not_stay():
    active = generation(1, lists("20.9.0.0/24", "2409::/32"), countries=("KR",))
    candidate, warnings = completed(brought(lists("20.0.0.0/24")), JP, active, restricted=False)
    assert candidate.lists[INET6] == snapshot_lists(JP)[INET6]
    assert "bundled snapshot" in warnings[0]


def test_a_family_of_other_countries_that_has_to_stay_is_a_warning():
    active = generation(1, lists("20.9.0.0/24", "2409::/32"), countries=("KR",))
    candidate, warnings = completed(brought(lists("20.0.0.0/24")), JP, active, restricted=True)
    assert candidate.lists[INET6] == prefix_list(INET6, "2409::/32")
    assert warnings == ("IPv6 stays that of KR: it was not brought",)


def test_the_snapshot_has_the_union_of_the_countries_and_both_families():
    joined = snapshot_lists(Fence(name="A", countries=("CF", "LI")))
    for country in ("CF", "LI"):
        alone = snapshot_lists(Fence(name=country, countries=(country,)))
        assert set(alone[INET].prefixes) <= set(joined[INET].prefixes)
    assert joined[INET6] == snapshot_lists(Fence(name="LI", countries=("LI",)))[INET6]
    assert snapshot_lists(Fence(name="CF", countries=("CF",)))[INET6].prefixes == ()


def test_the_snapshot_does_not_know_every_code():
    with pytest.raises(ListRefused, match="no prefixes of XX in the bundled snapshot"):
        snapshot_lists(Fence(name="XX", countries=("XX",)))
