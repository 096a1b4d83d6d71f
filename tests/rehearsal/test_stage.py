"""The stage is the host: its interfaces, addresses, routes, sets, rules; and it leaves nothing."""

import json
import os
import socket
import tempfile
from pathlib import Path

import pytest

from geofence.context import open_sets
from geofence.errors import KernelRefused
from geofence.kernel import iptables, tap
from geofence.kernel.iptables import Iptables, Variant
from geofence.kernel.namespace import privately
from geofence.model import Family, Fence, Forward, Prefix
from geofence.prefixes import format_address, parse_address, parse_prefix
from geofence.rehearsal import host, trial
from geofence.rehearsal.corpus import Probe
from geofence.rehearsal.host import HostState, Interface
from geofence.rehearsal.packets import ICMP, ICMPV6, TCP, UDP, VRRP, Kind, addresses_in
from geofence.rehearsal.stage import SetCopy, Stage, interfaces_of
from geofence.rehearsal.talks import Guest
from tests import lab

SSH = Kind(TCP, 22)
FOREIGN = {Family.INET: "198.51.100.7", Family.INET6: "2001:db8:7::7"}
families = pytest.mark.parametrize("family", list(Family))
variants = pytest.mark.parametrize("variant", lab.VARIANTS)


@pytest.fixture(autouse=True)
def _namespaces(request):
    """Require that namespaces can be made; each test makes its own, so there is none to empty."""
    if why := request.config.stash[lab.WHY_NO_KERNEL]:
        pytest.skip(why)


def interface(name: str, *texts: str) -> Interface:
    """Give an interface with addresses, written with their prefix lengths."""
    found = (text.split("/") for text in texts)
    return Interface(name, tuple((parse_address(one), int(length)) for one, length in found))


ETH0 = interface("eth0", "203.0.113.5/24", "2001:db8:5::5/64")


def hosted(*interfaces: Interface, rules="", variant="nft", **more) -> HostState:
    """Give a host with these interfaces, and these lines in the filter tables of both families."""
    text = f"*filter\n{rules}\nCOMMIT\n"
    tables = tuple((Iptables(family, Variant(variant)), text) for family in Family)
    return HostState(rules=tables if rules else (), interfaces=interfaces or (ETH0,), **more)


def on(state: HostState, act, *sets: SetCopy):
    """Make the stage in a namespace of its own, and give what an act finds there."""
    return privately(lambda: act(Stage(state, sets)))


def passes(stage: Stage, source: str, kind: Kind = SSH, turn: int = 0) -> bool:
    return stage.gets_in(Probe(parse_address(source), kind, ""), turn)


def ip(*command: str):
    return json.loads(lab.run("ip", "-json", *command) or "[]")


def addresses(name: str) -> set[str]:
    """Give the addresses of an interface that it was given, not those that it gave itself."""
    (found,) = ip("address", "show", "dev", name)
    told = {f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"]}
    return {one for one in told if not one.startswith("fe80::")}


@families
@pytest.mark.parametrize(
    "kind",
    [SSH, Kind(UDP, 53), Kind(VRRP), "echo", "vrrp-group"],
    ids=str,
)
def test_an_open_host_hears_every_protocol(family, kind):
    if kind == "echo":
        kind = {Family.INET: Kind(ICMP, 8), Family.INET6: Kind(ICMPV6, 128)}[family]
    if kind == "vrrp-group":
        group = {Family.INET: "224.0.0.18", Family.INET6: "ff02::12"}[family]
        kind = Kind(VRRP, 0, 0, parse_address(group))
    assert on(hosted(), lambda stage: passes(stage, FOREIGN[family], kind))


@variants
@families
def test_a_rule_of_the_hosts_own_decides_on_the_stage(family, variant):
    state = hosted(rules="-A INPUT -p tcp --dport 22 -j DROP", variant=variant)
    telnet = Kind(TCP, 23)
    found = on(state, lambda stage: [passes(stage, FOREIGN[family], one) for one in (SSH, telnet)])
    assert found == [False, True]


def test_each_turn_is_a_connection_of_its_own():
    rules = "-A INPUT -m conntrack --ctstate NEW -p tcp -j ACCEPT\n-A INPUT -p tcp -j DROP"

    def act(stage):
        return [passes(stage, FOREIGN[Family.INET], turn=turn) for turn in (1, 2, 3)]

    assert on(hosted(rules=rules), act) == [True, True, True]


def test_the_interface_has_the_hosts_own_addresses():
    two = interface("eth0", "203.0.113.5/24", "203.0.113.6/24", "2001:db8:5::5/64")

    def act(stage):
        return addresses("eth0"), [stage.own(family, "eth0") for family in Family]

    assert on(hosted(two), act) == (
        {"203.0.113.5/32", "203.0.113.6/32", "2001:db8:5::5/128"},
        [parse_address("203.0.113.5"), parse_address("2001:db8:5::5")],
    )


@pytest.mark.parametrize(
    ("given", "made_up"),
    [
        pytest.param(["2001:db8:5::5/64"], "192.0.2.1", id="no-ipv4"),
        pytest.param(["203.0.113.5/24"], "2001:db8::1", id="no-ipv6"),
        pytest.param([], "192.0.2.1", id="neither"),
    ],
)
def test_an_outside_interface_without_an_address_is_given_one(given, made_up):
    def act(stage):
        return addresses("eth0"), [passes(stage, one) for one in FOREIGN.values()]

    found, passed = on(hosted(interface("eth0", *given)), act)
    assert made_up in {one.partition("/")[0] for one in found}
    assert passed == [True, True]


def test_an_inner_interface_without_an_address_is_given_none():
    rules = "-A INPUT -i docker0 -j DROP"

    def act(stage):
        return addresses("docker0"), stage.own(Family.INET, "docker0")

    assert on(hosted(rules=rules), act) == (set(), parse_address("203.0.113.5"))


def test_a_link_local_address_is_no_address_to_come_to():
    def act():
        lab.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
        lab.run("ip", "link", "set", "eth0", "up")
        lab.run("ip", "address", "add", "fe80::5/64", "dev", "eth0", "nodad")
        lab.run("ip", "address", "add", "169.254.0.5/16", "dev", "eth0", "scope", "link")
        return host.read([])

    state = privately(act)
    assert set(state.interfaces) == {Interface("other"), Interface("eth0")}
    state = hosted(Interface("eth0"))
    assert on(state, lambda stage: [passes(stage, one) for one in FOREIGN.values()]) == [True, True]


def test_a_point_to_point_address_is_the_hosts_own_end():
    def act():
        lab.run("ip", "link", "add", "tun0", "type", "veth", "peer", "name", "other")
        lab.run("ip", "link", "set", "other", "up")
        lab.run("ip", "address", "add", "10.8.0.1", "peer", "10.8.0.2", "dev", "tun0")
        lab.run("ip", "link", "set", "tun0", "up")
        return host.read([parse_address("10.8.0.2")])

    state = privately(act)
    assert interface("tun0", "10.8.0.1/32") in state.interfaces
    assert state.way_of(parse_address("10.8.0.2")) == "tun0"


@pytest.mark.parametrize(
    ("routes", "outside"),
    [
        pytest.param(["-4 route add default via 203.0.113.1 dev eth1"], "eth1", id="by-ipv4"),
        pytest.param(["-6 route add default via fe80::1 dev eth1"], "eth1", id="by-ipv6"),
        pytest.param(["-6 route add unreachable default dev lo"], "eth0", id="unreachable"),
        pytest.param([], "eth0", id="none"),
        pytest.param(
            ["-4 route add default nexthop via 203.0.113.1 dev eth1"
             " nexthop via 198.51.100.1 dev eth0"],
            "eth1",
            id="two-at-once",
        ),
    ],
)  # fmt: skip
def test_the_world_comes_in_by_the_default_route(routes, outside):
    def act():
        lab.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0")
        for name, address in (("eth0", "198.51.100.5/24"), ("eth1", "203.0.113.5/24")):
            lab.run("ip", "link", "set", name, "up")
            lab.run("ip", "address", "add", address, "dev", name)
        for route in routes:
            lab.run("ip", *route.split())
        return host.read([]).outside

    assert privately(act) == outside


@pytest.mark.parametrize(
    ("address", "neighbour", "family"),
    [
        pytest.param("10.8.0.0/31", "10.8.0.1", Family.INET, id="31"),
        pytest.param("10.8.0.1/32", "10.8.0.2", Family.INET, id="32"),
        pytest.param("10.8.0.1/0", "10.8.0.2", Family.INET, id="0"),
        pytest.param("2001:db8:8::/127", "2001:db8:8::1", Family.INET6, id="127"),
        pytest.param("2001:db8:8::1/128", "2001:db8:8::2", Family.INET6, id="128"),
    ],
)
def test_who_is_at_the_other_end_of_a_line_comes_in_by_it(address, neighbour, family):
    peer = parse_address(neighbour)
    state = hosted(
        ETH0,
        interface("tun0", address),
        rules="-A INPUT ! -i tun0 -j DROP",
        routes=((peer, "tun0"),),
    )

    def act(stage):
        own = stage.own(family, "tun0")
        return stage.way_of(peer), format_address(*own), passes(stage, neighbour)

    assert on(state, act) == ("tun0", address.partition("/")[0], True)


def test_the_networks_behind_inner_interfaces_are_reached_by_them():
    state = hosted(
        ETH0,
        interface("docker0", "172.17.0.1/16", "fd17::1/64"),
        interface("tun0", "10.8.0.0/31", "10.9.0.1/32", "10.10.0.1/0", "2001:db8:8::/127"),
    )
    there = ["172.17.3.3", "fd17::9", "10.8.0.1", "2001:db8:8::1", "10.9.0.2", "203.0.113.9"]
    there += FOREIGN.values()

    def act(stage):
        return [ip("route", "get", one)[0]["dev"] for one in there]

    ways = ["docker0", "docker0", "tun0", "tun0", "eth0", "eth0", "eth0", "eth0"]
    assert on(state, act) == ways


@pytest.mark.parametrize("name", ["eth0.100", "wg-office", "enp0s31f6u1u2u3", "br-0123456789a"])
def test_an_interface_may_have_any_name(name):
    state = hosted(interface(name, "203.0.113.5/24"), rules=f"-A INPUT -i {name} -j DROP")
    state = HostState(rules=state.rules, interfaces=state.interfaces, outside=name)

    def act(stage):
        return stage.outside, [*stage.devices], [passes(stage, one) for one in FOREIGN.values()]

    assert on(state, act) == (name, [name], [False, False])


def names(stage: Stage) -> list[str]:
    """Give the interfaces there are, as the kernel has them."""
    assert [*stage.devices] == [name for _, name in socket.if_nameindex() if name != "lo"]
    return [*stage.devices]


def test_an_interface_that_only_a_rule_names_is_there_and_no_pattern():
    rules = "-A INPUT -i veth+ -j DROP\n-A FORWARD -i ppp0 -o wg0 -j ACCEPT\n-A INPUT -i lo -j DROP"
    assert on(hosted(rules=rules), names) == ["eth0", "ppp0", "wg0"]


def test_a_name_that_no_interface_can_have_is_passed_over():
    rules = "-A INPUT -i eth0:1 -j DROP\n-A INPUT -i eth%d -j DROP"
    assert on(hosted(rules=rules), names) == ["eth0"]


def test_an_interface_with_neither_address_nor_rule_is_left_out():
    state = hosted(Interface("dummy0"), ETH0, Interface("docker0"), rules="-A INPUT -i docker0")
    assert on(state, names) == ["eth0", "docker0"]


def test_an_outside_interface_that_is_not_among_them_is_made():
    assert on(hosted(interface("eth1", "10.0.0.1/8")), names) == ["eth0", "eth1"]


def test_an_owner_comes_in_by_an_interface_that_only_the_route_names():
    peer = parse_address("10.8.0.2")
    state = hosted(rules="-A INPUT -i eth0 -j DROP", routes=((peer, "wg0"),))
    assert on(state, lambda stage: (names(stage), passes(stage, "10.8.0.2"))) == (
        ["eth0", "wg0"],
        True,
    )


def test_of_very_many_interfaces_some_are_made_the_outside_one_among_them(monkeypatch):
    monkeypatch.setattr("geofence.rehearsal.stage._MOST_DEVICES", 3)
    many = [interface(f"br{number}", f"10.{number}.0.1/16") for number in range(5)]
    peer = parse_address("10.4.0.9")
    state = hosted(*many, ETH0, routes=((peer, "br4"),))

    def act(stage):
        return len(stage.devices), stage.way_of(peer), passes(stage, "10.4.0.9")

    assert on(state, act) == (3, "eth0", True)
    assert [one.name for one in interfaces_of(state)] == ["eth0", "br0", "br1"]


def test_a_guest_is_behind_an_interface_that_is_made(monkeypatch):
    monkeypatch.setattr("geofence.rehearsal.stage._MOST_DEVICES", 3)
    many = [interface(f"br{number}", f"10.{number}.0.1/16") for number in range(5)]
    fence = Fence(name="JP", countries=("JP",), forward=Forward.FORWARD, outside=("eth0",))
    setup = trial.Setup(
        state=hosted(*many, ETH0), sets=(), fence=fence, goals=(), models={}, owners={}, ports=()
    )
    assert trial._guests(setup) == [
        Guest(parse_address("10.0.0.2"), "br0"),
        Guest(parse_address("10.1.0.2"), "br1"),
    ]


def test_two_interfaces_may_have_the_same_address_and_the_same_network():
    twice = [interface(name, "10.0.0.1/24", "fd00::1/64") for name in ("br0", "br1")]

    def act(stage):
        return [addresses(name) for name in ("br0", "br1")]

    assert on(hosted(ETH0, *twice), act) == [{"10.0.0.1/32", "fd00::1/128"}] * 2


def test_an_address_that_an_interface_has_twice_is_given_once():
    twice = interface("eth0", "203.0.113.5/24", "203.0.113.5/32")
    assert "203.0.113.5/32" in on(hosted(twice), lambda _: addresses("eth0"))


def test_a_device_that_the_namespace_was_born_with_makes_room():
    def act():
        lab.run("ip", "link", "add", "tunl0", "type", "veth", "peer", "name", "eth0")
        lab.run("ip", "link", "set", "tunl0", "up")
        stage = Stage(hosted(ETH0, interface("tunl0", "10.42.0.1/32")), ())
        return addresses("tunl0"), passes(stage, FOREIGN[Family.INET])

    assert privately(act) == ({"10.42.0.1/32"}, True)


@pytest.mark.parametrize(
    ("guest", "source"), [("172.17.0.2", "198.51.100.7"), ("fd17::2", "2001:db8:7::7")]
)
def test_a_forwarded_packet_leaves_by_the_inner_interface(guest, source):
    docker = interface("docker0", "172.17.0.1/16", "fd17::1/64")
    direct = Kind(TCP, 80, 0, parse_address(guest))
    probe = Probe(parse_address(source), direct, "", inside="docker0")
    assert on(hosted(ETH0, docker), lambda stage: stage.gets_in(probe, 1))
    state = hosted(ETH0, docker, rules="-A FORWARD -o docker0 -j DROP")
    assert not on(state, lambda stage: stage.gets_in(probe, 1))


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        pytest.param("ipv4/conf/all/rp_filter ipv4/conf/default/rp_filter", "1", id="rp_filter"),
        pytest.param("ipv6/conf/all/disable_ipv6", "1", id="disable_ipv6"),
        pytest.param("ipv6/conf/default/disable_ipv6", "1", id="disable_ipv6-default"),
        pytest.param("ipv6/conf/all/accept_dad ipv6/conf/default/accept_dad", "2", id="dad"),
    ],
)
def test_the_settings_of_a_new_namespace_do_not_decide(settings, value):
    peer = parse_address("10.8.0.2")
    state = hosted(rules="-A INPUT -i wg0", routes=((peer, "wg0"),))

    def act():
        for name in settings.split():
            Path("/proc/sys/net", name).write_text(value)
        stage = Stage(state, ())
        return [passes(stage, one) for one in (*FOREIGN.values(), "10.8.0.2")]

    assert privately(act) == [True, True, True]


def test_a_source_that_is_the_hosts_own_address_is_judged_by_the_rules():
    two = interface("eth0", "203.0.113.5/24", "203.0.113.6/24")
    assert on(hosted(two), lambda stage: passes(stage, "203.0.113.6"))


@variants
def test_what_rules_and_policies_counted_is_read(variant):
    rules = (
        ":INPUT DROP [0:0]\n:OWN - [0:0]\n-A INPUT -j OWN\n-A OWN -p tcp -j ACCEPT\n"
        "-A OWN -p udp -j ACCEPT\n-A OWN -p udp -j ACCEPT"
    )

    def act(stage):
        before = stage.counted()
        for kind in (SSH, SSH, Kind(UDP, 53), Kind(ICMP, 8)):
            passes(stage, FOREIGN[Family.INET], kind)
        after = stage.counted()
        moved = {key: count - before.get(key, 0) for key, count in after.items()}
        return {key: by for key, by in moved.items() if by and "OUTPUT" not in key}

    where = f"iptables ({variant}), table filter:"
    assert on(hosted(rules=rules, variant=variant), act) == {
        f"{where} -A INPUT -j OWN": 4,
        f"{where} -A OWN -p tcp -j ACCEPT": 2,
        f"{where} -A OWN -p udp -j ACCEPT": 1,  # two of the same count as one
        f"{where} the policy DROP of INPUT": 1,
    }  # fmt: skip


def test_counters_of_every_table_variant_and_family_are_read():
    mangle = "*mangle\n-A PREROUTING -p tcp\nCOMMIT\n"
    accept = "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n"
    state = HostState(
        rules=(
            (Iptables(Family.INET, Variant.NFT), mangle),
            (Iptables(Family.INET, Variant.LEGACY), accept),
            (Iptables(Family.INET6, Variant.NFT), accept),
        ),
        interfaces=(ETH0,),
    )

    def act(stage):
        before = stage.counted()
        for source in FOREIGN.values():
            passes(stage, source)
        return {key for key, count in stage.counted().items() if count > before.get(key, 0)}

    assert {
        "iptables (nft), table mangle: -A PREROUTING -p tcp",
        "iptables (legacy), table filter: -A INPUT -j ACCEPT",
        "ip6tables (nft), table filter: -A INPUT -j ACCEPT",
    } <= on(state, act)


def test_sets_of_geofences_and_of_others_are_there_before_the_rules():
    foreign = "create banned hash:ip family inet\nadd banned 198.51.100.7\n"
    members = SetCopy(
        name="geofence-JP-inet", family=Family.INET, prefixes=(parse_prefix("133.11.0.0/16")[1],)
    )
    passing = SetCopy(
        name="geofence-trusted-inet", family=Family.INET, prefixes=(Prefix(7, 32),), timed=True
    )
    rules = (
        "-A INPUT -m set --match-set banned src -j DROP\n"
        "-A INPUT -m set --match-set geofence-JP-inet src -j DROP"
    )
    only = (Iptables(Family.INET, Variant.NFT), f"*filter\n{rules}\nCOMMIT\n")
    state = HostState(rules=(only,), sets=foreign, interfaces=(ETH0,))

    def act(stage):
        with open_sets() as sets:
            headers = [sets.header(one.name) for one in (members, passing)]
        passed = [passes(stage, one) for one in ("198.51.100.7", "133.11.0.9", "198.51.100.8")]
        return passed, [(one.entries, one.timeout) for one in headers if one]

    assert on(state, act, members, passing) == ([False, False, True], [(1, False), (1, True)])


def test_a_native_table_decides_on_the_stage():
    text = "table inet own { chain in { type filter hook input priority 0; tcp dport 22 drop\n}\n}"
    state = hosted(native=(("inet", "own", text),))
    assert not on(state, lambda stage: passes(stage, FOREIGN[Family.INET]))


BROKEN = {
    "rules": (hosted(rules="-A INPUT -m nosuchmatch -j DROP"), "own rules .* nosuchmatch"),
    "native": (hosted(native=(("inet", "x", "table inet x { what }"),)), "own rules .* nft table"),
    "sets": (hosted(sets="create x hash:nothing\n"), "with the host's sets"),
    "address": (hosted(Interface("eth0", ((parse_address("ff02::1"), 8),))), "a private network"),
}


@pytest.mark.parametrize(("state", "complaint"), BROKEN.values(), ids=BROKEN)
def test_a_failure_is_told_and_nothing_stays(state, complaint, tmp_path, monkeypatch):
    before = lab.run("ip", "link"), children()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KernelRefused, match=complaint):
        on(state, lambda stage: passes(stage, "198.51.100.7"))
    assert (lab.run("ip", "link"), children()) == before
    assert [*tmp_path.iterdir()] == []


@variants
def test_no_file_stays_and_the_hosts_lock_is_not_waited_for(variant, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "absent" / "lock"))
    program = f"iptables-{variant}"

    def act(stage):
        lab.run(program, "-A", "INPUT", "-p", "tcp", "-j", "DROP")
        return passes(stage, FOREIGN[Family.INET]), Path(os.environ["XTABLES_LOCKFILE"]).exists()

    assert on(hosted(rules="-A INPUT -p udp", variant=variant), act) == (False, True)
    assert [*tmp_path.iterdir()] == []


def children() -> set[str]:
    """Give the processes that are children of this one."""
    pid = os.getpid()
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@variants
def test_a_pair_of_devices_serves_as_well(variant, monkeypatch, tmp_path):
    monkeypatch.setattr(tap, "_TUN", tmp_path / "closed")
    docker = interface("docker0", "172.17.0.1/16")
    rules = "-A INPUT -i docker0 -j DROP"
    peer = parse_address("172.17.0.2")
    state = hosted(ETH0, docker, rules=rules, variant=variant, routes=((peer, "docker0"),))

    def act(stage):
        sources = (*FOREIGN.values(), "172.17.0.2")
        return [passes(stage, one) for one in sources], stage.devices["eth0"].read()

    passed, sent = on(state, act)
    assert passed == [True, True, False]
    senders = {source for source, _ in addresses_in(sent)}
    assert not senders & {parse_address(one) for one in FOREIGN.values()}


def test_a_kernel_without_ipv6_needs_nothing_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(iptables, "_IPV6", tmp_path / "absent")
    state = hosted(interface("eth0", "203.0.113.5/24"))

    def act(stage):
        return addresses("eth0"), passes(stage, FOREIGN[Family.INET])

    assert on(state, act) == ({"203.0.113.5/32"}, True)
