"""One contract, two implementations: the tests' fake kernel refuses what the real one refuses."""

import socket
import threading
import time

import pytest

from geofence.errors import Busy, KernelRefused
from geofence.kernel.ipset import KernelSets
from geofence.kernel.messages import MESSAGE_ELEMENTS, list_message
from geofence.model import Family, Prefix
from tests import lab
from tests.fakes import FakeSets

DOC = {
    Family.INET: (Prefix(0xC0000200, 24), Prefix(0xC6336400, 25), Prefix(0xCB007100, 32)),
    Family.INET6: (Prefix(0x20010DB8 << 96, 32), Prefix(0x3FFF << 112, 20)),
}


@pytest.fixture(params=["fake", "real"])
def sets(request):
    if request.param == "fake":
        yield FakeSets()
        return
    request.getfixturevalue("kernel")
    real = KernelSets()
    yield real
    real.close()


@pytest.fixture
def real(kernel):
    sets = KernelSets()
    yield sets
    sets.close()


@pytest.mark.parametrize("family", Family)
def test_what_was_added_is_read_back_in_address_order(sets, family):
    sets.create("a", family, 3)
    sets.add("a", family, tuple(reversed(DOC[family])))
    assert sets.read("a", family) == DOC[family]
    header = sets.header("a")
    assert (header.type, header.family, header.entries) == ("hash:net", family, len(DOC[family]))
    assert not header.timeout
    assert header.references == 0


def test_an_absent_set_has_no_header(sets):
    assert sets.header("absent") is None


def test_swap_exchanges_the_elements_and_leaves_the_names(sets):
    for name, prefixes in (("a", DOC[Family.INET][:1]), ("b", DOC[Family.INET][1:])):
        sets.create(name, Family.INET, 1)
        sets.add(name, Family.INET, prefixes)
    sets.swap("a", "b")
    assert sets.read("a", Family.INET) == DOC[Family.INET][1:]
    assert sets.read("b", Family.INET) == DOC[Family.INET][:1]


def test_rename_moves_a_set_to_a_free_name(sets):
    sets.create("a", Family.INET, 1)
    sets.rename("a", "b")
    assert sets.header("a") is None
    assert sets.header("b") is not None


REFUSED = {
    "create-twice": lambda sets: sets.create("a", Family.INET, 1),
    "element-twice": lambda sets: sets.add("a", Family.INET, DOC[Family.INET][:1] * 2),
    "default-route": lambda sets: sets.add("a", Family.INET, (Prefix(0, 0),)),
    "other-family": lambda sets: sets.add("a", Family.INET6, DOC[Family.INET6]),
    "over-maxelem": lambda sets: sets.add(
        "a", Family.INET, tuple(Prefix(0x01000000 + i, 32) for i in range(131_072))
    ),
    "read-absent": lambda sets: sets.read("absent", Family.INET),
    "swap-absent": lambda sets: sets.swap("a", "absent"),
    "swap-families": lambda sets: sets.swap("a", "six"),
    "rename-taken": lambda sets: sets.rename("a", "six"),
    "destroy-absent": lambda sets: sets.destroy("absent"),
}


@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
def test_the_kernel_refuses(sets, act):
    sets.create("a", Family.INET, 1)
    sets.create("six", Family.INET6, 1)
    with pytest.raises(KernelRefused, match="cannot"):
        act(sets)


def test_a_refused_element_is_named_wherever_it_stands(real):
    real.create("a", Family.INET, 5000)
    prefixes = [Prefix(0x01000000 + (i << 8), 24) for i in range(5000)]
    prefixes[3210] = prefixes[7]
    with pytest.raises(KernelRefused, match=r"cannot add 1\.0\.7\.0/24 .*in the set already"):
        real.add("a", Family.INET, prefixes)


@pytest.mark.parametrize("number", [0, 1, MESSAGE_ELEMENTS, MESSAGE_ELEMENTS + 1, 20_000])
@pytest.mark.parametrize("family", Family)
def test_ipset_save_holds_exactly_what_was_loaded(real, number, family):
    shift = family.bits - 32
    prefixes = tuple(Prefix((0x20000000 + (i << 8)) << shift, 24) for i in range(number))
    real.create("a", family, number)
    real.add("a", family, prefixes)
    assert real.read("a", family) == prefixes
    assert len(lab.saved_entries("a")) == number


def test_every_prefix_length_is_stored_as_given(real):
    prefixes = tuple(Prefix(1 << (32 - length), length) for length in range(32, 0, -1))
    real.create("a", Family.INET, 32)
    real.add("a", Family.INET, prefixes)
    assert real.read("a", Family.INET) == tuple(sorted(prefixes))


def test_the_hash_is_sized_so_that_it_need_not_grow(real):
    prefixes = tuple(Prefix(0x01000000 + (i << 8), 24) for i in range(20_000))
    real.create("a", Family.INET, len(prefixes))
    before = lab.run("ipset", "list", "-t", "a")
    real.add("a", Family.INET, prefixes)
    assert "hashsize 32768 maxelem 65536" in before
    assert "hashsize 32768 maxelem 65536" in lab.run("ipset", "list", "-t", "a")


def test_an_element_with_flags_is_not_taken_for_a_plain_one(real):
    real.create("a", Family.INET, 1)
    lab.run("ipset", "add", "a", "192.0.2.0/24", "nomatch")
    with pytest.raises(KernelRefused, match="nomatch"):
        real.read("a", Family.INET)


def _busy(name: str) -> socket.socket:
    """Begin to dump a set and stop reading: the kernel then refuses to swap it."""
    dump = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    dump.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    dump.bind((0, 0))
    dump.send(list_message(name))
    return dump


def _two_sets(real: KernelSets) -> None:
    for name in ("a", "b"):
        real.create(name, Family.INET, 20_000)
        real.add(name, Family.INET, [Prefix(0x01000000 + (i << 8), 24) for i in range(20_000)])


def test_a_swap_waits_for_somebody_who_reads_the_set(real):
    _two_sets(real)
    dump = _busy("a")
    threading.Timer(0.2, dump.close).start()
    started = time.monotonic()
    real.swap("a", "b")
    assert time.monotonic() - started > 0.15


def test_a_swap_gives_up_on_somebody_who_never_ends_reading(real, monkeypatch):
    monkeypatch.setattr("geofence.kernel.ipset._BUSY_SECONDS", 0.1)
    _two_sets(real)
    with _busy("a"), pytest.raises(Busy, match="somebody is reading the set"):
        real.swap("a", "b")


def test_a_set_that_a_rule_uses_is_not_destroyed(real, monkeypatch):
    monkeypatch.setattr("geofence.kernel.ipset._IN_USE_SECONDS", 0.1)
    real.create("a", Family.INET, 1)
    lab.run("iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", "a", "src", "-j", "RETURN")
    assert real.header("a").references == 1
    with pytest.raises(KernelRefused, match="refers to it"):
        real.destroy("a")
