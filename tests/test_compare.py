"""What changes between two lists is told by addresses, largest first, whatever the prefixes."""

import pytest

from geofence.compare import compare
from geofence.model import Family, Prefix, PrefixList
from geofence.prefixes import format_prefix
from tests.lists import lists, prefix_list

OLD = lists("192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32")


def written(family: Family, prefixes: tuple[Prefix, ...]) -> list[str]:
    return [format_prefix(family, prefix) for prefix in prefixes]


def test_the_same_lists_differ_in_nothing():
    for family, change in compare(OLD, OLD).items():
        assert (change.added, change.removed) == ((), ())
        assert (change.added_addresses, change.removed_addresses) == (0, 0)
        assert change.prefixes == len(OLD[family].prefixes)


def test_two_halves_in_place_of_a_whole_are_no_change():
    halves = prefix_list(Family.INET, "192.0.2.0/25", "192.0.2.128/25")
    change = compare(lists("192.0.2.0/24"), {Family.INET: halves})[Family.INET]
    assert (change.added, change.removed, change.addresses) == ((), (), 256)


def test_what_came_and_what_went_is_told_largest_first():
    new = lists("192.0.2.64/26", "198.51.100.0/24", "203.0.113.7/32", "2001:db8::/32")
    change = compare(OLD, new)[Family.INET]
    assert written(Family.INET, change.added) == ["198.51.100.128/25", "203.0.113.7/32"]
    assert written(Family.INET, change.removed) == ["192.0.2.128/25", "192.0.2.0/26"]
    assert (change.added_addresses, change.removed_addresses) == (129, 192)
    assert (change.prefixes, change.addresses) == (3, 64 + 256 + 1)


def test_what_is_equally_large_is_told_in_address_order():
    change = compare({}, lists("203.0.113.0/24", "192.0.2.0/24"))[Family.INET]
    assert written(Family.INET, change.added) == ["192.0.2.0/24", "203.0.113.0/24"]


def test_what_is_gone_is_told_in_the_fewest_prefixes():
    old = {Family.INET: prefix_list(Family.INET, "192.0.2.0/25", "192.0.2.128/25")}
    change = compare(old, {Family.INET: PrefixList(Family.INET, ())})[Family.INET]
    assert written(Family.INET, change.removed) == ["192.0.2.0/24"]


@pytest.mark.parametrize("family", Family)
def test_a_family_that_only_the_new_list_has_is_all_added(family):
    change = compare({}, OLD)[family]
    assert change.family is family
    assert set(change.added) == set(OLD[family].prefixes)
    assert change.added_addresses == change.addresses
    assert change.removed == ()


def test_families_come_in_the_same_order_always():
    assert list(compare({}, dict(reversed([*OLD.items()])))) == [Family.INET, Family.INET6]
