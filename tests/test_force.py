"""What an interrupted run left is finished or undone, from disk alone."""

import datetime
from contextlib import nullcontext

import pytest

from geofence.disk import Disk
from geofence.enforce import enforce, enforced
from geofence.errors import DiskError
from geofence.force import Host, fallback_fence, repair, restore
from geofence.model import Family, Fence, Prefix, PrefixList
from geofence.prefixes import digest
from geofence.store import Held, Store
from tests.fakes import FakeSets
from tests.test_enforce import NEW, OLD

NOW = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state", Disk())
    store.prepare()
    return store


@pytest.fixture
def sets():
    return FakeSets()


def stage(store, lists):
    return store.stage("X", lists, countries=["XX"], source="plain", origins=(), now=NOW)


def stored(store, lists):
    store.promote("X", stage(store, lists).number)


def test_a_staged_generation_that_the_kernel_holds_is_promoted(store, sets):
    stored(store, OLD)
    stage(store, NEW)
    enforce("X", NEW, sets)
    mended = repair("X", store, sets)
    assert store.active_number("X") == 2
    assert mended.warnings == ("an interrupted update to generation 2 was finished",)
    assert enforced("X", sets) == NEW


def test_a_staged_generation_that_the_kernel_does_not_hold_is_discarded(store, sets):
    stored(store, OLD)
    stage(store, NEW)
    enforce("X", OLD, sets)
    repair("X", store, sets)
    assert (store.active_number("X"), store.numbers("X")) == (1, (1,))
    assert enforced("X", sets) == OLD


def test_when_only_one_family_was_swapped_both_go_back(store, sets):
    stored(store, OLD)
    stage(store, NEW)
    enforce("X", {**OLD, Family.INET: NEW[Family.INET]}, sets)
    assert repair("X", store, sets).changed
    assert (store.active_number("X"), enforced("X", sets)) == (1, OLD)


def test_a_staged_generation_cut_by_a_crash_is_discarded(store, sets):
    stored(store, OLD)
    stage(store, NEW)
    (store.directory / "X" / "2" / "snapshot.json").write_bytes(b"")
    enforce("X", NEW, sets)
    repair("X", store, sets)
    assert (store.active_number("X"), enforced("X", sets)) == (1, OLD)


def test_the_active_list_is_not_held_after_a_rollback_that_was_killed(store, sets):
    stored(store, OLD)
    stored(store, NEW)
    store.hold("X", Held(generation=2, digests=("another", digest(NEW))))
    repair("X", store, sets)
    assert store.held("X") == Held(generation=2, digests=("another",))
    store.hold("X", Held(generation=2, digests=(digest(NEW),)))
    repair("X", store, sets)
    assert store.held("X") is None


def host(store, sets):
    return Host(store=store, open_sets=lambda: nullcontext(sets), peers=frozenset, now=lambda: NOW)


def test_restore_enforces_the_active_generation(store, sets):
    stored(store, OLD)
    restored = restore(Fence(name="X", countries=()), host(store, sets))
    assert (restored.changed, restored.generation and restored.generation.number) == (True, 1)
    assert enforced("X", sets) == OLD


def test_restore_of_a_configured_fence_without_a_generation_takes_the_snapshot(store, sets):
    restored = restore(Fence(name="X", countries=("LI",)), host(store, sets))
    assert restored.generation is None
    assert "the bundled snapshot" in restored.warnings[0]
    assert enforced("X", sets)[Family.INET].prefixes


def test_restore_without_generation_and_country_says_so_and_touches_nothing(store, sets):
    sets.create("geofence-X-inet", Family.INET, 1)
    sets.add("geofence-X-inet", Family.INET, (Prefix(0xC0000200, 24),))
    with pytest.raises(DiskError, match="nothing sound is stored of X"):
        restore(Fence(name="X", countries=()), host(store, sets))
    assert enforced("X", sets) == {Family.INET: PrefixList(Family.INET, (Prefix(0xC0000200, 24),))}


def test_the_countries_of_a_fence_named_by_its_codes_are_known():
    assert fallback_fence("JP-US").countries == ("JP", "US")
    assert fallback_fence("ASIA").countries == ()
