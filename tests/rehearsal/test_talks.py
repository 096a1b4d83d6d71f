"""Each conversation succeeds on an open host, fails without the rule it needs, or cannot begin."""

import dataclasses
import socket
import struct

import pytest

from geofence.kernel.iptables import Iptables, Variant
from geofence.kernel.namespace import privately
from geofence.model import Family
from geofence.prefixes import format_address, parse_address
from geofence.rehearsal import packets, talks
from geofence.rehearsal.corpus import Way
from geofence.rehearsal.host import HostState, Interface
from geofence.rehearsal.stage import Stage
from geofence.rehearsal.talks import Guest
from tests import lab
from tests.rehearsal import plays

families = pytest.mark.parametrize("family", list(Family))
variants = pytest.mark.parametrize("variant", lab.VARIANTS)

OWNER = {Family.INET: parse_address("133.11.0.9"), Family.INET6: parse_address("2001:200::9")}
GUEST = {Family.INET: parse_address("172.17.0.2"), Family.INET6: parse_address("fd17::2")}
INTERFACES = (
    Interface("eth0", ((parse_address("203.0.113.5"), 24), (parse_address("2001:db8:5::5"), 64))),
    Interface("docker0", ((parse_address("172.17.0.1"), 16), (parse_address("fd17::1"), 64))),
)
LOOPBACK, UDP, TCP, RELATED, SESSION, GUESTS = EVERY = (
    "loopback", "UDP", "TCP", "error", "session", "begins",
)  # fmt: skip

# one rule for each: what is not let in by its rule is dropped
LO = "-A INPUT -i lo -j ACCEPT"
ANSWERS = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"
ERRORS = "-A INPUT -m conntrack --ctstate RELATED -j ACCEPT"
SSH = "-A INPUT -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT"
FORWARDED = "-A FORWARD -i docker0 -j ACCEPT"
CLOSED = (":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", LO, ANSWERS, ERRORS, SSH, FORWARDED)


@pytest.fixture(autouse=True)
def _namespaces(request):
    """Require that namespaces can be made; each test makes its own, so there is none to empty."""
    if why := request.config.stash[lab.WHY_NO_KERNEL]:
        pytest.skip(why)


def all_of(family: Family) -> dict[str, talks.Talk]:
    """Give every conversation by one telling word of its name."""
    found = talks.talks(family, {OWNER[family]: Way(22)}, [Guest(GUEST[family], "docker0")])
    assert len(found) == len(EVERY)
    return {word: talk for word in EVERY for name, talk in found.items() if f" {word} " in name}


def host(*rules: str, variant="nft", **more) -> HostState:
    text = "\n".join(["*filter", *rules, "COMMIT", ""])
    tables = [Iptables(family, Variant(variant)) for family in Family]
    state = tuple((one, text) for one in tables) if rules else ()
    return HostState(rules=state, interfaces=INTERFACES, **more)


def said(family: Family, state: HostState, *words: str) -> dict[str, bool | None]:
    """Hold conversations on a stage, and give what became of each."""

    def act():
        stage = Stage(state, ())
        return {word: all_of(family)[word](stage) for word in words or EVERY}

    return privately(act)


@families
def test_an_open_host_lets_all_of_them_succeed(family):
    assert said(family, host()) == dict.fromkeys(EVERY, True)


@variants
@families
def test_so_does_a_closed_one_with_a_rule_for_each(family, variant):
    assert said(family, host(*CLOSED, variant=variant)) == dict.fromkeys(EVERY, True)


@variants
@families
@pytest.mark.parametrize(
    ("missing", "fails"),
    [
        pytest.param(LO, {LOOPBACK}, id="loopback"),
        pytest.param(ANSWERS, {UDP, TCP, SESSION}, id="established"),
        pytest.param(ERRORS, {RELATED}, id="related"),
        pytest.param(SSH, {SESSION}, id="ssh"),
        pytest.param(FORWARDED, {GUESTS}, id="forwarded"),
    ],
)
def test_without_its_rule_each_fails_and_no_other(missing, fails, family, variant):
    rules = [rule for rule in CLOSED if rule != missing]
    found = said(family, host(*rules, variant=variant))
    assert found == {word: word not in fails for word in EVERY}


@families
def test_where_nothing_may_leave_what_the_host_begins_does_not_begin(family):
    found = said(family, host(":OUTPUT DROP [0:0]"))
    assert found == {**dict.fromkeys(EVERY), GUESTS: True}


@families
@pytest.mark.parametrize(
    ("protocol", "port", "words"),
    [
        ("udp", 53, {UDP, RELATED}),
        ("udp", 123, {UDP, RELATED}),
        ("udp", 443, {UDP, RELATED}),
        ("tcp", 443, {TCP}),
        ("tcp", 80, {TCP}),
        ("tcp", 53, {TCP}),
        ("udp", 67, set()),
    ],
)
def test_one_usual_port_that_may_be_spoken_to_abroad_is_found(family, protocol, port, words):
    allowed = f"-A OUTPUT -p {protocol} -m {protocol} --dport {port} -j ACCEPT"
    found = said(family, host(":OUTPUT DROP [0:0]", allowed), UDP, TCP, RELATED)
    assert found == {word: word in words or None for word in (UDP, TCP, RELATED)}


@families
@pytest.mark.parametrize(
    "flags", ["SYN,ACK SYN", "SYN,ACK,PSH ACK", "PSH PSH"], ids=["first", "handshake", "data"]
)
def test_a_session_needs_every_segment(family, flags):
    rule = f"-A INPUT -p tcp -m tcp --tcp-flags {flags} -j DROP"
    assert said(family, host(rule), SESSION) == {SESSION: False}


def heard_back(word: str, family: Family) -> list[tuple[int, int]]:
    """Hold a conversation; give flags and acknowledgement of what the host then sent."""

    def act():
        stage = Stage(host(), ())
        all_of(family)[word](stage)
        sent = map(packets.packet_in, stage.devices["eth0"].read())
        segments = [one for one in sent if one and packets.protocol_of(one) == packets.TCP]
        start = 20 if family is Family.INET else 40
        return [struct.unpack_from("!IxB", one, start + 8) for one in segments]

    return [(flags, number) for number, flags in privately(act)]


@families
def test_the_host_takes_the_data_of_a_session(family):
    acknowledged = 1000 + 1 + len(b"geofence")
    assert heard_back(SESSION, family)[0] == (packets.ACK, acknowledged)


@families
def test_the_host_takes_the_answer_to_its_connection(family):
    assert heard_back(TCP, family)[0] == (packets.ACK, 1000 + 1)


@families
def test_a_session_whose_answer_never_leaves_does_not_begin(family):
    rule = "-A OUTPUT -p tcp -m tcp --sport 22 -j DROP"
    assert said(family, host(rule), SESSION) == {SESSION: None}


def test_a_session_to_a_port_that_is_taken_does_not_begin():
    def act():
        stage = Stage(host(), ())
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 22))
            taken.listen()
            return all_of(Family.INET)[SESSION](stage)

    assert privately(act) is None


@families
def test_a_session_comes_in_by_the_way_that_leads_to_its_owner(family):
    state = host("-A INPUT -i eth0 -j DROP", routes=((OWNER[family], "docker0"),))
    assert said(family, state, SESSION) == {SESSION: True}


@variants
@families
def test_a_session_that_succeeded_does_not_help_the_next(family, variant):
    program = f"{'iptables' if family is Family.INET else 'ip6tables'}-{variant}"
    owner = format_address(*OWNER[family])

    def act():
        stage = Stage(host(*CLOSED, variant=variant), ())
        talk = all_of(family)[SESSION]
        before = talk(stage)
        lab.run(program, "-D", *SSH.split()[1:])
        lab.run(program, "-A", "INPUT", "!", "-s", owner, "-p", "tcp", "-j", "ACCEPT")
        return before, talk(stage)

    assert privately(act) == (True, False)


@variants
@families
def test_an_answer_that_came_in_does_not_help_the_next(family, variant):
    program = f"{'iptables' if family is Family.INET else 'ip6tables'}-{variant}"

    def act():
        stage, found = Stage(host(*CLOSED, variant=variant), ()), all_of(family)
        before = [found[word](stage) for word in (LOOPBACK, UDP, TCP, RELATED)]
        for rule in (LO, ANSWERS, ERRORS):
            lab.run(program, "-D", *rule.split()[1:])
        return before, [found[word](stage) for word in (LOOPBACK, UDP, TCP, RELATED)]

    assert privately(act) == ([True] * 4, [False] * 4)


def test_only_those_of_the_family_take_part():
    owners, guests = (
        dict.fromkeys(OWNER.values(), Way(22)),
        [Guest(one, "br0") for one in GUEST.values()],
    )
    names = [*talks.talks(Family.INET6, owners, guests)]
    assert "data in a session from 2001:200::9 to port 22" in names
    assert "a connection that fd17::2 begins abroad, from behind br0" in names
    assert not any("133.11" in name or "172.17" in name or "IPv4" in name for name in names)
    assert len(names) == len(EVERY)


def test_an_owner_has_a_session_to_the_port_he_came_to():
    rules = (":INPUT DROP [0:0]", "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT")

    def act():
        stage = Stage(host(*rules), ())
        found = talks.talks(Family.INET, {OWNER[Family.INET]: Way(2222)})
        return found["data in a session from 133.11.0.9 to port 2222"](stage)

    assert privately(act) is True


@pytest.mark.usefixtures("kernel")
def test_an_owner_who_came_to_another_port_is_not_asked_for_port_22():
    plays.in_force()
    another = "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT"
    plays.host_rules("nft", ":INPUT DROP [0:0]", LO, ANSWERS, ERRORS, another)
    owners = {parse_address(plays.OWNER): Way(2222)}
    play = dataclasses.replace(plays.play("nft"), owners=owners, ssh_ports=[22, 2222])
    assert plays.complaints(plays.rehearsed(play)) == ""


def test_no_socket_is_left_open():
    def act():
        stage, found = Stage(host(":OUTPUT DROP [0:0]", "-A OUTPUT -p udp -j ACCEPT"), ()), []
        for talk in all_of(Family.INET).values():
            talk(stage)
        with socket.socket() as one:
            found.append(one.fileno())
        for talk in all_of(Family.INET).values():
            talk(stage)
        with socket.socket() as one:
            found.append(one.fileno())
        return found[0] == found[1]

    assert privately(act)
