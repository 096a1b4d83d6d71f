"""Sets are loaded beside the live ones, verified by content, and swapped only all together."""

import pytest

from geofence.enforce import clean, enforce, live
from geofence.errors import KernelRefused
from geofence.model import Family, Prefix, PrefixList
from tests.fakes import Counted, FakeSets

OLD = {
    Family.INET: PrefixList(Family.INET, (Prefix(0xC0000200, 24),)),
    Family.INET6: PrefixList(Family.INET6, (Prefix(0x20010DB8 << 96, 32),)),
}
NEW = {
    Family.INET: PrefixList(Family.INET, (Prefix(0xC6336400, 24), Prefix(0xCB007100, 24))),
    Family.INET6: PrefixList(Family.INET6, (Prefix(0x3FFF << 112, 20),)),
}


@pytest.fixture
def sets():
    sets = FakeSets()
    enforce("X", OLD, sets)
    return sets


def held(sets):
    return {family: live("X", family, sets).prefixes for family in Family}


def test_the_new_lists_take_the_place_of_the_old_and_leave_nothing(sets):
    assert enforce("X", NEW, sets) == (True, ())
    assert held(sets) == NEW
    assert sorted(sets.held) == ["geofence-X-inet", "geofence-X-inet6"]


def test_what_is_held_already_is_not_loaded_again(sets):
    calls = []
    watched = Counted(sets, lambda _n, name, _arguments: calls.append(name))
    assert enforce("X", OLD, watched) == (False, ())
    assert {"create", "add", "swap"}.isdisjoint(calls)


def test_every_family_is_verified_before_any_is_swapped(sets):
    calls = []
    enforce("X", NEW, Counted(sets, lambda _n, name, _arguments: calls.append(name)))
    first_swap = calls.index("swap")
    assert calls[:first_swap].count("add") == calls.count("add") == 2
    assert "add" not in calls[first_swap:]


def test_when_the_second_swap_is_refused_the_first_is_undone(sets):
    swaps = []

    def refuse_the_second(_number, name, arguments):
        swaps.extend([arguments] if name == "swap" else [])
        if name == "swap" and len(swaps) == 2:
            raise KernelRefused("refused by the test")

    with pytest.raises(KernelRefused):
        enforce("X", NEW, Counted(sets, refuse_the_second))
    assert held(sets) == OLD
    assert sorted(sets.held) == ["geofence-X-inet", "geofence-X-inet6"]


def test_when_the_second_set_cannot_be_named_the_first_is_taken_away_again():
    def refuse_inet6(_number, name, arguments):
        if name == "rename" and "geofence-X-inet6" in arguments:
            raise KernelRefused("refused by the test")

    sets = FakeSets()
    with pytest.raises(KernelRefused):
        enforce("X", NEW, Counted(sets, refuse_inet6))
    assert sets.held == {}


class LosesOne(FakeSets):
    """Acknowledges every element and keeps all but the last, as an empty message would."""

    def add(self, name, family, prefixes, timeouts=()):
        super().add(name, family, prefixes[:-1], timeouts)


class ChangesOne(FakeSets):
    """Keeps the right number of elements, one of them wrong."""

    def add(self, name, family, prefixes, timeouts=()):
        changed = Prefix(prefixes[-1].address, prefixes[-1].length + 1)
        super().add(name, family, (*prefixes[:-1], changed), timeouts)


@pytest.mark.parametrize("kind", [LosesOne, ChangesOne])
def test_a_set_that_does_not_hold_what_was_loaded_is_never_swapped_in(sets, kind):
    lying = kind()
    lying.held = sets.held
    with pytest.raises(KernelRefused, match=r"holds 1 entries after 2|does not hold the prefixes"):
        enforce("X", NEW, lying)
    assert held(sets) == OLD


def test_a_stale_staging_set_is_destroyed_before_it_is_filled(sets):
    sets.create("geofence-X-inet-next", Family.INET6, 9)
    assert enforce("X", NEW, sets)[0]
    assert held(sets) == NEW


def test_a_staging_set_that_cannot_be_destroyed_is_a_warning(sets):
    sets.create("geofence-X-inet-next", Family.INET, 1)

    def refuse(_number, name, _arguments):
        if name == "destroy":
            raise KernelRefused("the set is in use")

    assert clean("X", Counted(sets, refuse)) == ("left behind: the set is in use",)
