"""What would lock somebody out is refused, and nothing else is."""

import dataclasses
import datetime

import pytest

from geofence import enabled, lockout, rules
from geofence.disk import Disk
from geofence.enforce import enforce
from geofence.errors import ConfigError, ListRefused
from geofence.kernel import iptables
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family, Fence, Prefix, Private, Style
from geofence.peers import ssh_peers
from geofence.prefixes import format_address, parse_address, parse_trusted
from geofence.store import Store
from tests.fakes import FakeSets
from tests.lists import lists

BOTH = lists("133.11.0.0/16", "2001:200::/32")
GATE = Fence(name="JP", countries=("JP",))
ALLOW = dataclasses.replace(GATE, style=Style.ALLOW, target="SERVICES")
JUDGING = dataclasses.replace(GATE, private=Private.JUDGE)
NOW = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)


@pytest.fixture
def sets():
    found = FakeSets()
    enforce("JP", BOTH, found)
    return found


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "state", Disk())


def store_active(store, of):
    staged = store.stage("JP", of, countries=["JP"], source="rir", origins=(), now=NOW)
    store.promote("JP", staged.number)


def another(name, **more):
    return Fence(name=name, countries=(name,), **more)


def enable(fence, state):
    tables = [Iptables(family, Variant.NFT) for family in Family]
    goals = rules.wanted(fence, tables, trusting=False)
    record = enabled.record_of(fence, goals, NOW)
    (state / fence.name).mkdir(parents=True)
    enabled.store(enabled.files(record, goals), fence.name, state, Disk())


IPV4, IPV6 = (Family.INET,), (Family.INET6,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {}, id="both-families"),
        pytest.param({"families": IPV4}, {"families": IPV4}, id="one-family"),
        pytest.param({"families": IPV6}, {}, id="a-family-of-both"),
        pytest.param({}, {"families": IPV6}, id="a-family-of-both-the-other-way"),
    ],
)
def test_two_gates_are_refused(one, other, tmp_path):
    fences = [another("JP", **one), another("KR", **other)]
    with pytest.raises(ConfigError, match="would let nobody in: JP and KR") as caught:
        lockout.refuse_two_gates(fences, tmp_path)
    assert caught.value.still == "nothing was changed"
    assert "countries = ['JP', 'KR']" in caught.value.cure
    enable(fences[1], tmp_path)
    with pytest.raises(ConfigError, match="would let nobody in: JP and KR"):
        lockout.refuse_two_gates(fences[:1], tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"families": IPV4}, {"families": IPV6}, id="each-a-family-of-its-own"),
        pytest.param({}, {"style": Style.ALLOW, "target": "SERVICES"}, id="one-lets-in"),
    ],
)
def test_two_fences_that_do_not_meet_are_not(one, other, tmp_path):
    fences = [another("JP", **one), another("KR", **other)]
    lockout.refuse_two_gates(fences, tmp_path)
    enable(fences[1], tmp_path)
    lockout.refuse_two_gates(fences[:1], tmp_path)


def test_a_fence_is_no_second_gate_beside_itself(tmp_path):
    enable(another("JP"), tmp_path)
    lockout.refuse_two_gates([another("JP")], tmp_path)


def test_what_is_asked_for_counts_rather_than_what_was_enabled_before(tmp_path):
    enable(another("JP"), tmp_path)
    asked = [another("JP", families=IPV4), another("KR", families=IPV6)]
    lockout.refuse_two_gates(asked, tmp_path)


def test_full_sets_are_not_refused(store, sets):
    store_active(store, BOTH)
    lockout.refuse_empty(GATE, store, sets)


@pytest.mark.parametrize("family", list(Family))
def test_a_missing_set_is_refused(family, store, sets):
    store_active(store, BOTH)
    sets.destroy(f"geofence-JP-{family}")
    with pytest.raises(ListRefused, match=f"the set geofence-JP-{family} does not exist") as caught:
        lockout.refuse_empty(GATE, store, sets)
    assert caught.value.still == "nothing was changed"
    assert "geofence restore" in caught.value.cure


def test_a_set_of_another_kind_is_refused(store, sets):
    sets.destroy("geofence-JP-inet")
    sets.create("geofence-JP-inet", Family.INET, 1, timed=True)
    with pytest.raises(ListRefused, match="geofence-JP-inet has a timeout"):
        lockout.refuse_empty(GATE, store, sets)


@pytest.mark.parametrize("family", list(Family))
def test_an_empty_set_is_refused(family, store, sets):
    store_active(store, BOTH)
    enforce("JP", {family: dataclasses.replace(BOTH[family], prefixes=())}, sets)
    with pytest.raises(ListRefused, match=f"the set geofence-JP-{family} is empty") as caught:
        lockout.refuse_empty(GATE, store, sets)
    assert "geofence restore" in caught.value.cure


def without_ipv6():
    return {**BOTH, Family.INET6: dataclasses.replace(BOTH[Family.INET6], prefixes=())}


def test_an_empty_set_of_a_country_without_ipv6_is_not(store, sets):
    store_active(store, without_ipv6())
    enforce("JP", without_ipv6(), sets)
    lockout.refuse_empty(GATE, store, sets)


def test_an_empty_set_is_refused_where_nothing_says_that_it_is_meant(store, sets):
    enforce("JP", without_ipv6(), sets)
    with pytest.raises(ListRefused, match="inet6 is empty"):
        lockout.refuse_empty(GATE, store, sets)
    store_active(store, {Family.INET: BOTH[Family.INET]})
    with pytest.raises(ListRefused, match="inet6 is empty"):
        lockout.refuse_empty(GATE, store, sets)


def test_a_fence_of_one_family_needs_no_set_of_the_other(store, sets):
    sets.destroy("geofence-JP-inet6")
    lockout.refuse_empty(dataclasses.replace(GATE, families=IPV4), store, sets)
    with pytest.raises(ListRefused):
        lockout.refuse_empty(dataclasses.replace(GATE, families=IPV6), store, sets)


def test_a_kernel_without_ipv6_needs_no_set_of_it(store, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(iptables, "_IPV6", tmp_path / "absent")
    sets.destroy("geofence-JP-inet6")
    lockout.refuse_empty(GATE, store, sets)


MEMBER, MEMBER6 = "133.11.0.9", "2001:200::9"
STRANGER, STRANGER6 = "198.51.100.7", "2001:db8::7"
TRUSTED, TRUSTED6 = "203.0.113.9", "2001:db8:77::1"
PRIVATE = ("10.1.2.3", "172.31.0.1", "192.168.1.7", "169.254.1.1", "fd00::1", "fe80::1")
LOOPBACK = ("127.0.0.1", "127.9.9.9", "::1")


def trusted(*texts):
    found: dict[Family, dict[Prefix, None]] = {family: {} for family in Family}
    for family, prefix in map(parse_trusted, texts):
        found[family][prefix] = None
    return found


def shut_out(fence, peer, sets, *, rehearsed=True) -> bool:
    try:
        lockout.refuse_to_lock_out(
            fence,
            frozenset({parse_address(peer)}),
            trusted(TRUSTED, TRUSTED6),
            sets,
            rehearsed=rehearsed,
        )
    except ListRefused:
        return True
    return False


@pytest.mark.parametrize("rehearsed", [True, False])
@pytest.mark.parametrize("fence", [GATE, JUDGING, ALLOW])
def test_members_and_trusted_are_not_shut_out_and_strangers_are(fence, rehearsed, sets):
    for peer in (MEMBER, MEMBER6, TRUSTED, TRUSTED6):
        assert not shut_out(fence, peer, sets, rehearsed=rehearsed), peer
    for peer in (STRANGER, STRANGER6, "203.0.113.8", "133.12.0.0", "2001:201::", "11.0.0.0"):
        assert shut_out(fence, peer, sets, rehearsed=rehearsed), peer


@pytest.mark.parametrize(
    ("fence", "rehearsed", "private", "loopback"),
    [
        (GATE, True, False, False),
        (GATE, False, False, False),
        (JUDGING, True, True, False),
        (JUDGING, False, True, False),
        (ALLOW, True, False, False),  # the rehearsal has seen what the host does with them
        (ALLOW, False, True, True),
    ],
)
def test_who_is_near_is_shut_out_only_by(fence, rehearsed, private, loopback, sets):
    for peer in PRIVATE:
        assert shut_out(fence, peer, sets, rehearsed=rehearsed) is private, peer
    for peer in LOOPBACK:
        assert shut_out(fence, peer, sets, rehearsed=rehearsed) is loopback, peer


def test_style_allow_that_judges_private_sources_is_no_gate(sets):
    fence = dataclasses.replace(ALLOW, private=Private.JUDGE)
    assert not shut_out(fence, PRIVATE[0], sets)


def test_a_fence_shuts_nobody_out_of_a_family_that_it_is_not_about(sets):
    one = dataclasses.replace(GATE, families=IPV4)
    assert not shut_out(one, STRANGER6, sets)
    assert shut_out(one, STRANGER, sets)
    both = dataclasses.replace(GATE, families=tuple(Family))
    assert shut_out(both, STRANGER6, sets)


def test_without_a_set_everybody_is_shut_out(sets):
    sets.destroy("geofence-JP-inet")
    assert shut_out(GATE, MEMBER, sets)
    assert not shut_out(GATE, MEMBER6, sets)
    assert not shut_out(GATE, TRUSTED, sets)


def test_all_who_are_shut_out_are_named_and_the_first_told_how_to_be_let_in(sets):
    peers = frozenset(map(parse_address, (STRANGER, MEMBER, STRANGER6, "198.51.100.3")))
    with pytest.raises(ListRefused) as caught:
        lockout.refuse_to_lock_out(GATE, peers, trusted(), sets, rehearsed=True)
    assert caught.value.what == (
        "JP: would shut out 198.51.100.3, 198.51.100.7, 2001:db8::7, who is on this host by SSH now"
    )
    assert caught.value.still == "nothing was changed"
    assert caught.value.cure == "geofence trust 198.51.100.3; then enable again"


@pytest.mark.parametrize(("address", "out"), [(STRANGER, True), (MEMBER, False)])
def test_who_is_here_over_an_ipv6_socket_is_judged_by_the_ipv4_address(
    address, out, sets, monkeypatch
):
    monkeypatch.setenv("SSH_CONNECTION", f"::ffff:{address} 50000 ::ffff:192.0.2.1 22")
    (peer,) = ssh_peers()
    assert shut_out(dataclasses.replace(GATE, families=IPV4), format_address(*peer), sets) is out


def test_nobody_is_here_and_nobody_is_shut_out():
    lockout.refuse_to_lock_out(GATE, frozenset(), trusted(), FakeSets(), rehearsed=True)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.0", True),
        ("127.255.255.255", True),
        ("::1", True),
        ("126.255.255.255", False),
        ("128.0.0.0", False),
        ("::", False),
        ("::2", False),
    ],
)
def test_which_addresses_are_the_hosts_own_loopback(address, loopback):
    assert lockout.is_loopback(parse_address(address)) is loopback
