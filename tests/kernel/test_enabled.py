"""Packets that meet an enabled fence: both styles, both variants, both families."""

import bisect
import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from geofence.kernel.tap import Device, Ears, ip_batch, settle
from geofence.model import Family
from geofence.prefixes import parse_address
from geofence.rehearsal.packets import (
    ACK,
    ICMP,
    ICMPV6,
    IGMP,
    SYN,
    TCP,
    UDP,
    VRRP,
    Kind,
    addresses_of,
    frame,
    ip,
    of_kind,
    packet_in,
    sequence_of,
    tcp,
)
from tests import lab

HOST = {Family.INET: "203.0.113.5", Family.INET6: "2001:db8:5::5"}
FOREIGN = {Family.INET: "8.8.8.8", Family.INET6: "2001:4860:4860::8888"}
MEMBER = {Family.INET: "133.11.0.1", Family.INET6: "2001:200::1"}
TRUSTED = {Family.INET: "198.51.100.9", Family.INET6: "2001:db8:99::9"}
SSH = Kind(TCP, 22)
ALL_HOSTS, VRRP_GROUP = (parse_address(text) for text in ("224.0.0.1", "224.0.0.18"))
VRRP_GROUP6 = parse_address("ff02::12")

# What a host lives by, whoever sends it, and its nearest neighbours, which it does not.
SPECIAL = {
    Family.INET: [
        (Kind(UDP, 68, 67), True), (Kind(UDP, 67, 68), False), (Kind(UDP, 68, 66), False),
        (Kind(IGMP, 0, 0, ALL_HOSTS), True), (Kind(IGMP), False),
        (Kind(VRRP, 0, 0, VRRP_GROUP), True), (Kind(VRRP), False),
        (Kind(ICMP, 8), False), (Kind(ICMP, 13), False), (Kind(TCP, 80), False),
        (Kind(UDP, 53), False),
    ],
    Family.INET6: [
        *((Kind(ICMPV6, number), True) for number in (130, 131, 132, 133, 134, 135, 136, 143)),
        *((Kind(ICMPV6, number), False) for number in (128, 129, 137, 138, 144)),
        (Kind(UDP, 546, 547), True), (Kind(UDP, 547, 546), False),
        (Kind(VRRP, 0, 0, VRRP_GROUP6), True), (Kind(VRRP), False),
        (Kind(TCP, 80), False), (Kind(UDP, 53), False),
    ],
}  # fmt: skip
PRIVATE = {
    Family.INET: [
        "10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0",
        "192.168.255.255", "169.254.0.1", "169.254.255.255",
    ],
    Family.INET6: ["fc00::1", "fdff:ffff::1", "fe80::1", "febf::1"],
}  # fmt: skip
BESIDE_PRIVATE = {
    Family.INET: ["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "169.253.255.255"],
    Family.INET6: ["fbff::1", "fe00::1", "fe7f::1", "fec0::1"],
}


class Line:
    """The host's interface, and what got past INPUT."""

    def __init__(self) -> None:
        self._device = Device("eth0", 1)
        for name, value in (("ipv4/conf/all/rp_filter", "0"), ("ipv4/conf/eth0/rp_filter", "0")):
            Path("/proc/sys/net", name).write_text(value)
        ip_batch(
            [
                f"address add {HOST[Family.INET]}/32 dev eth0",
                f"address add {HOST[Family.INET6]}/128 dev eth0 nodad",
                "neigh replace 169.254.1.1 lladdr 02:00:00:01:00:01 dev eth0 nud permanent",
                "neigh replace fe80::ffff lladdr 02:00:00:01:00:01 dev eth0 nud permanent",
                "route add 0.0.0.0/0 via 169.254.1.1 dev eth0 onlink",
                "route add ::/0 via fe80::ffff dev eth0 onlink",
            ]
        )
        settle(parse_address(one) for one in HOST.values())
        protocols = [(Family.INET, one) for one in (ICMP, IGMP, TCP, UDP, VRRP)]
        protocols += [(Family.INET6, one) for one in (ICMPV6, TCP, UDP, VRRP)]
        self._ears = Ears(protocols)
        groups = {Family.INET: VRRP_GROUP, Family.INET6: VRRP_GROUP6}
        for family, (_, group) in groups.items():
            self._ears.join(family, VRRP, group.to_bytes(family.bits // 8, "big"), "eth0")

    def close(self) -> None:
        self._device.close()
        self._ears.close()

    def passes(self, source: str, kind: Kind, sport: int = 40000) -> bool:
        """Send a packet, and tell whether INPUT let it in."""
        address = parse_address(source)
        packet = of_kind(kind, address, parse_address(HOST[address[0]]), sport)
        return self.arrives(packet, address[0], kind.protocol)

    def arrives(self, packet: bytes, family: Family, protocol: int) -> bool:
        self._ears.heard(family, protocol)
        self._device.write(frame(packet, self._device.mac, self._device.gateway_mac))
        return self._ears.heard(family, protocol)


@contextlib.contextmanager
def connection(line: Line, family: Family) -> Iterator[bytes]:
    """Let this host begin a connection abroad, and give the answer that comes back."""
    with socket.socket(family.af, socket.SOCK_STREAM) as ours:
        ours.setblocking(False)
        ours.bind((HOST[family], 0))
        line._device.read()
        with contextlib.suppress(BlockingIOError):
            ours.connect((FOREIGN[family], 443))
        here, there = parse_address(HOST[family]), parse_address(FOREIGN[family])
        (sent,) = [
            packet
            for one in line._device.read()
            if (packet := packet_in(one)) and addresses_of(packet) == (here, there)
        ]
        sequence = sequence_of(sent)
        ports = 443, ours.getsockname()[1]
        segment = tcp(there, here, ports, flags=SYN | ACK, numbers=(1, sequence + 1))
        yield ip(TCP, there, here, segment)


@pytest.fixture(params=lab.VARIANTS)
def enabled(request, kernel, geofence, tmp_path):
    """Enable Japan, with one trusted address of each family, and give the line to the host."""
    lines = []

    def enable(style: str, *options: str) -> Line:
        variant = request.param
        config = tmp_path / "geofence.toml"
        text = f'trusted = ["{TRUSTED[Family.INET]}", "{TRUSTED[Family.INET6]}"]\n'
        text += '[fence.JP]\ncountries = ["JP"]\nsource = "bundled"\n'
        if style == "allow":
            text += 'style = "allow"\ntarget = "SERVICES"\nposition = 3\n'
        config.write_text(text)
        for program in ("iptables", "ip6tables"):
            rules = ["*filter", *HOST_RULES[style], "COMMIT", ""]
            lab.run(f"{program}-{variant}-restore", stdin="\n".join(rules))
        assert geofence("--config", config, "update").status == 0
        answer = geofence("--config", config, "enable", *options)
        assert (answer.status, answer.err) == (0, "")
        save = lab.run(f"iptables-{variant}-save")
        assert "-A INPUT -j ALLOW-JP-INPUT" in save
        lines.append(Line())
        return lines[-1]

    yield enable
    for line in lines:
        line.close()


# A gate only narrows: something of the host's own has to be there for the variant to be in use.
HOST_RULES = {
    "gate": ("-A INPUT -p tcp -m tcp --dport 23 -j DROP",),
    "allow": (
        ":SERVICES - [0:0]",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -j DROP",
        "-A SERVICES -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A SERVICES -j REJECT",
    ),
}


@pytest.mark.parametrize("style", ["gate", "allow"])
def test_both_ends_of_every_prefix_pass_and_their_neighbours_do_not(enabled, style):
    line = enabled(style)
    for family in Family:
        networks = sorted(
            ipaddress.ip_network(text) for text in lab.saved_entries(f"geofence-JP-{family}")
        )
        firsts = [int(one.network_address) for one in networks]
        lasts = [int(one.broadcast_address) for one in networks]
        sources = {*firsts, *lasts, *(one - 1 for one in firsts), *(one + 1 for one in lasts)}
        assert len(sources) > len(networks) * 2
        wrong = []
        for number in sorted(sources):
            place = bisect.bisect_right(firsts, number) - 1
            within = place >= 0 and number <= lasts[place]
            source = str(ipaddress.ip_address(number.to_bytes(family.bits // 8, "big")))
            if line.passes(source, SSH) != within:
                wrong.append((source, within))
        assert wrong == []


def test_a_gate_lets_pass_what_is_not_about_countries(enabled):
    line = enabled("gate", "--without-rehearsal")
    for family in Family:
        for kind, passes in SPECIAL[family]:
            assert (line.passes(FOREIGN[family], kind), str(kind)) == (passes, str(kind))
            assert line.passes(MEMBER[family], kind), kind
            assert line.passes(TRUSTED[family], kind), kind
        for source in PRIVATE[family]:
            assert line.passes(source, SSH), source
        for source in BESIDE_PRIVATE[family]:
            assert not line.passes(source, SSH), source


def test_a_gate_only_narrows(enabled):
    line = enabled("gate", "--without-rehearsal")
    telnet = Kind(TCP, 23)
    for sources in (MEMBER, TRUSTED):
        for family in Family:
            assert not line.passes(sources[family], telnet)


def test_style_allow_lets_members_reach_the_services_and_nobody_else_anything(enabled):
    line = enabled("allow", "--without-rehearsal")
    for family in Family:
        for sources in (MEMBER, TRUSTED):
            assert line.passes(sources[family], SSH)
            assert not line.passes(sources[family], Kind(TCP, 80))
        for source in (FOREIGN[family], *PRIVATE[family]):
            assert not line.passes(source, SSH), source


@pytest.mark.parametrize("style", ["gate", "allow"])
def test_answers_from_abroad_pass_and_the_same_packet_unasked_does_not(enabled, style):
    line = enabled(style, "--without-rehearsal")
    for family in Family:
        there, here = parse_address(FOREIGN[family]), parse_address(HOST[family])
        unasked = ip(TCP, there, here, tcp(there, here, (443, 50555), flags=SYN | ACK))
        assert not line.arrives(unasked, family, TCP)
        with connection(line, family) as answer:
            assert line.arrives(answer, family, TCP)


@pytest.mark.parametrize("style", ["gate", "allow"])
def test_loopback_passes(enabled, style):
    enabled(style, "--without-rehearsal")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((address, 0))
            one.settimeout(2)
            one.sendto(b"geofence", one.getsockname())
            assert one.recv(16) == b"geofence"
