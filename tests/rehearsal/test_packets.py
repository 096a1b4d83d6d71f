"""Every packet that a rehearsal sends is what it says, read by a decoder of its own."""

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofence.kernel import tap
from geofence.kernel.namespace import privately
from geofence.model import Family
from geofence.prefixes import parse_address
from geofence.rehearsal import packets
from geofence.rehearsal.packets import ACK, ICMP, ICMPV6, IGMP, PUSH, SYN, TCP, UDP, VRRP, Kind
from tests import lab

HOST = {Family.INET: "192.0.2.1", Family.INET6: "2001:db8::1"}
PEER = {Family.INET: "198.51.100.7", Family.INET6: "2001:db8:7::7"}
GATEWAY = {Family.INET: "169.254.255.254", Family.INET6: "fe80::ffff"}
families = pytest.mark.parametrize("family", list(Family))
addresses = {one: st.tuples(st.just(one), st.integers(0, 2**one.bits - 1)) for one in Family}
pairs = st.one_of(*(st.tuples(addresses[one], addresses[one]) for one in Family))
ports = st.integers(0, 65535)


@dataclass
class Decoded:
    source: str
    destination: str
    protocol: int
    hops: int
    body: bytes


def decoded(packet: bytes) -> Decoded:
    """Read a packet field by field, and insist on its lengths and checksums."""
    if packet[0] >> 4 == 6:
        length, protocol, hops = struct.unpack("!4xHBB", packet[:8])
        ends, body = packet[8:40], packet[40:]
        assert packet[:4] == b"\x60\0\0\0"
        assert length == len(body)
        source, destination = socket.inet_ntop(10, ends[:16]), socket.inet_ntop(10, ends[16:])
    else:
        assert packet[0] == 0x45
        length, fragment, hops, protocol = struct.unpack("!2xH2xHBB", packet[:10])
        ends, body = packet[12:20], packet[20:]
        assert (length, fragment) == (len(packet), 0)
        assert ones_sum(packet[:20]) == 0xFFFF
        source, destination = socket.inet_ntoa(ends[:4]), socket.inet_ntoa(ends[4:])
    if protocol in (TCP, UDP, ICMPV6):
        pseudo = ends + len(body).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
        assert ones_sum(pseudo + body) == 0xFFFF
    elif protocol in (ICMP, IGMP):
        assert ones_sum(body) == 0xFFFF
    return Decoded(source, destination, protocol, hops, body)


def ones_sum(data: bytes) -> int:
    """Add 16-bit words with end-around carry; 0xffff where the checksum in them is right."""
    total = 0
    for place in range(0, len(data), 2):
        total += data[place] << 8 | (data[place + 1] if place + 1 < len(data) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return total


def made(kind: Kind, family: Family, sport: int = 40001) -> Decoded:
    """Make the packet of a kind from the peer to the host, and decode it."""
    ends = parse_address(PEER[family]), parse_address(HOST[family])
    return decoded(packets.of_kind(kind, *ends, sport))


@families
def test_a_packet_goes_from_its_source_to_the_host_and_seems_to_come_from_the_link(family):
    found = made(Kind(TCP, 22), family)
    assert (found.source, found.destination) == (PEER[family], HOST[family])
    assert (found.protocol, found.hops) == (TCP, 255)


@families
def test_the_first_tcp_packet_is_a_lone_syn(family):
    body = made(Kind(TCP, 22), family).body
    sport, dport, number, answer, offset, flags, window, _, urgent = struct.unpack(
        "!HHIIBBHHH", body
    )
    assert (sport, dport, number, answer, urgent) == (40001, 22, 1, 0, 0)
    assert (offset >> 4, offset & 0xF, flags) == (5, 0, SYN)
    assert window > 0


@families
def test_a_segment_carries_flags_numbers_and_data(family):
    ends = parse_address(PEER[family]), parse_address(HOST[family])
    segment = packets.tcp(*ends, (5, 6), flags=ACK | PUSH, numbers=(7, 8), data=b"odd")
    body = decoded(packets.ip(TCP, *ends, segment)).body
    assert struct.unpack("!HHII", body[:12]) == (5, 6, 7, 8)
    assert (body[13], body[20:]) == (0x18, b"odd")


@families
def test_a_datagram_tells_its_length(family):
    body = made(Kind(UDP, 53), family).body
    assert struct.unpack("!HHH", body[:6]) == (40001, 53, len(body))
    assert body[8:] == b"geofence"


@families
def test_a_source_port_of_the_kinds_own_wins(family):
    for protocol in (TCP, UDP):
        body = made(Kind(protocol, 546, 547), family).body
        assert struct.unpack("!HH", body[:4]) == (547, 546)


@pytest.mark.parametrize(
    ("family", "protocol", "type_"), [(Family.INET, 1, 8), (Family.INET6, 58, 128)]
)
def test_pings_are_echo_requests_told_apart_by_their_identifier(family, protocol, type_):
    found = made(packets.echo(family), family, sport=777)
    assert found.protocol == protocol
    assert struct.unpack("!BB2xHH", found.body[:8]) == (type_, 0, 777, 1)


def test_neighbour_discovery_is_long_enough_for_its_target():
    assert len(made(Kind(ICMPV6, 135), Family.INET6).body) >= 24  # RFC 4861, 4.3


def test_igmp_asks_everybody():
    everybody = parse_address("224.0.0.1")
    found = made(Kind(IGMP, 0, 0, everybody), Family.INET)
    assert (found.destination, found.protocol) == ("224.0.0.1", 2)
    assert (found.body[0], found.body[4:]) == (0x11, b"\0\0\0\0")
    assert len(found.body) == 8


@families
def test_vrrp_is_of_version_3(family):
    found = made(Kind(VRRP), family)
    assert (found.protocol, found.body[0]) == (112, 0x31)
    assert len(found.body) == 8


@given(pairs, ports, ports, st.binary(max_size=99))
def test_whatever_is_in_them_udp_checksums_are_right_and_never_absent(ends, one, other, data):
    source, to = ends
    found = decoded(packets.ip(UDP, source, to, packets.udp(source, to, (one, other), data)))
    assert found.body[6:8] != b"\0\0"
    assert found.body[8:] == data


@given(pairs, ports, ports, st.integers(0, 2**32 - 1), st.binary(max_size=99))
def test_what_a_packet_holds_is_read_back(ends, one, other, number, data):
    source, to = ends
    segment = packets.tcp(source, to, (one, other), flags=ACK, numbers=(number, 9), data=data)
    packet = packets.ip(TCP, source, to, segment)
    decoded(packet)
    assert packets.addresses_of(packet) == ends
    assert packets.ports_of(packet) == (one, other)
    assert packets.sequence_of(packet) == number
    assert packets.protocol_of(packet) == TCP
    data = packets.frame(packet, b"\x02" * 6, b"\x04" * 6)
    assert packets.packet_in(data) == packet
    assert packets.addresses_in([data, b"\x02" * 12 + b"\x08\x06" + packet]) == [ends]


@given(st.one_of(*(st.tuples(addresses[one], addresses[one]) for one in Family)), st.binary())
def test_icmp_checksums_are_right(ends, data):
    source, to = ends
    protocol = {Family.INET: ICMP, Family.INET6: ICMPV6}[ends[0][0]]
    message = packets.icmp(source, to, (3, 4), data)
    assert decoded(packets.ip(protocol, source, to, message)).body[:2] == b"\3\4"


def test_a_udp_checksum_of_zero_is_sent_as_all_ones():
    ends = parse_address("0.0.0.0"), parse_address("0.0.0.0")
    # 17 of the protocol, 10 and 10 of the lengths, and what is left to 0xffff as data
    datagram = packets.udp(*ends, (0, 0), (0xFFFF - 17 - 10 - 10).to_bytes(2, "big"))
    assert datagram[6:8] == b"\xff\xff"


def test_a_tcp_checksum_of_zero_is_sent_as_it_is():
    ends = parse_address("0.0.0.0"), parse_address("0.0.0.0")
    rest = 6 + 22 + (5 << 12) + 0xFFFF  # protocol, length, offset and window; ports and numbers: 0
    left = (-rest) % 0xFFFF
    segment = packets.tcp(*ends, (0, 0), flags=0, numbers=(0, 0), data=left.to_bytes(2, "big"))
    assert segment[16:18] == b"\0\0"


@pytest.mark.parametrize("ethertype", ["0806", "8100", "86dc", "0801"])
def test_frames_of_other_protocols_hold_no_packet(ethertype):
    assert packets.packet_in(bytes(12) + bytes.fromhex(ethertype) + b"E" * 40) is None


@pytest.mark.parametrize(
    ("destination", "mac"),
    [
        pytest.param("224.0.0.18", "01005e000012", id="group"),
        pytest.param("239.255.255.250", "01005e7ffffa", id="23-bits"),  # RFC 1112, 6.4
        pytest.param("224.0.0.0", "01005e000000", id="first"),
        pytest.param("223.255.255.255", "0a0b0c0d0e0f", id="before-the-groups"),
        pytest.param("240.0.0.0", "0a0b0c0d0e0f", id="behind-the-groups"),
        pytest.param("ff02::1:ff00:1234", "3333ff001234", id="solicited-node"),  # RFC 2464, 7
        pytest.param("ff02::12", "333300000012", id="group-6"),
        pytest.param("feff::1", "0a0b0c0d0e0f", id="before-the-groups-6"),
        pytest.param("2001:db8::e0", "0a0b0c0d0e0f", id="host-6"),
    ],
)
def test_groups_have_an_address_of_their_own_on_the_link(destination, mac):
    to = parse_address(destination)
    own, other = bytes.fromhex("0a0b0c0d0e0f"), bytes.fromhex("020000000002")
    ethertype = {Family.INET: "0800", Family.INET6: "86dd"}[to[0]]
    packet = packets.of_kind(Kind(UDP, 9), (to[0], 7), to, 1)
    frame = packets.frame(packet, own, other)
    assert frame[:14].hex() == f"{mac}020000000002{ethertype}"
    assert frame[14:] == packet


@pytest.mark.parametrize(
    ("source", "to", "number"),
    [
        pytest.param("2001:db8:0:0:e000::1", "2001:db8::1", 1, id="a-source-like-an-ipv4-group"),
        pytest.param("192.0.2.1", "192.0.2.2", 0xFF000000, id="data-like-an-ipv6-group"),
    ],
)
def test_only_the_destination_makes_a_group(source, to, number):
    ends = parse_address(source), parse_address(to)
    segment = packets.tcp(*ends, (1, 2), flags=ACK, numbers=(number, 0))
    mac = b"\x02\0\0\0\0\x01"
    assert packets.frame(packets.ip(TCP, *ends, segment), mac, b"\0" * 6).startswith(mac)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind(TCP, 22), "tcp to port 22"),
        (Kind(UDP, 68, 67), "udp 67 to port 68"),
        (Kind(ICMP, 8), "icmp type 8"),
        (Kind(ICMPV6, 135), "icmpv6 type 135"),
        (Kind(IGMP), "igmp"),
        (Kind(VRRP, 0, 0, parse_address("224.0.0.18")), "vrrp to 224.0.0.18"),
        (Kind(TCP, 80, 0, parse_address("2001:db8::2")), "tcp to port 80 to 2001:db8::2"),
    ],
)
def test_a_kind_is_named_as_a_rule_would(kind, name):
    assert str(kind) == name


@families
def test_an_error_holds_the_packet_that_it_is_about(family):
    router, host, peer = (parse_address(one[family]) for one in (GATEWAY, HOST, PEER))
    about = packets.of_kind(Kind(UDP, 53), host, peer, 40001)
    found = decoded(packets.unreachable(router, about, host))
    assert (found.source, found.destination) == (GATEWAY[family], HOST[family])
    assert found.protocol == {Family.INET: 1, Family.INET6: 58}[family]
    assert found.body[:2] == {Family.INET: b"\3\3", Family.INET6: b"\1\4"}[family]  # the port
    assert found.body[4:] == b"\0" * 4 + about


def test_an_error_holds_no_more_than_fits_every_link():
    router, host, peer = (parse_address(one[Family.INET6]) for one in (GATEWAY, HOST, PEER))
    about = packets.ip(UDP, host, peer, packets.udp(host, peer, (1, 2), bytes(1400)))
    assert len(packets.unreachable(router, about, host)) <= 1280  # RFC 4443, 2.4 (c)


def on_a_wire(act):
    """Run an act in a namespace with a device, the host's addresses, and a way abroad."""

    def there():
        device = tap.Device("eth0", 1)
        mac = ":".join(f"{octet:02x}" for octet in device.gateway_mac)
        lines = []
        for family in Family:
            dad = " nodad" if family is Family.INET6 else ""
            lines += [
                f"address add {HOST[family]}/{family.bits} dev eth0{dad}",
                f"neigh replace {GATEWAY[family]} lladdr {mac} dev eth0 nud permanent",
            ]
            everywhere = {Family.INET: "0.0.0.0/0", Family.INET6: "::/0"}[family]
            lines.append(f"route add {everywhere} via {GATEWAY[family]} dev eth0 onlink")
        tap.ip_batch(lines)
        tap.settle(parse_address(one) for one in HOST.values())
        return act(device)

    return privately(there)


STATES = ("RELATED", "ESTABLISHED", "NEW", "INVALID")


def states(family: Family) -> dict[str, int]:
    """Give how many packets INPUT has seen in each state of conntrack."""
    program = "iptables" if family is Family.INET else "ip6tables"
    lines = lab.run(f"{program}-nft", "-nvxL", "INPUT").splitlines()
    return {state: int(line.split()[0]) for line in lines for state in STATES if state in line}


def count_states(family: Family) -> None:
    program = "iptables" if family is Family.INET else "ip6tables"
    rules = [f"-A INPUT -m conntrack --ctstate {state}" for state in STATES]
    lab.run(f"{program}-nft-restore", stdin="\n".join(["*filter", *rules, "COMMIT", ""]))


@pytest.mark.usefixtures("kernel")
@families
def test_the_kernel_takes_the_error_as_related(family):
    def act(device):
        count_states(family)
        one = socket.socket(family.af, socket.SOCK_DGRAM)
        one.connect((PEER[family], 53))
        one.send(b"geofence")
        (about,) = [
            found
            for data in device.read()
            if (found := packets.packet_in(data)) and packets.protocol_of(found) == UDP
        ]
        before = states(family)
        router, host = parse_address(PEER[family]), parse_address(HOST[family])
        error = packets.unreachable((family, router[1] + 1), about, host)
        device.write(packets.frame(error, device.mac, device.gateway_mac))
        with pytest.raises(ConnectionRefusedError):
            one.send(b"again")
        return {state: count - before[state] for state, count in states(family).items()}

    assert on_a_wire(act) == {"RELATED": 1, "ESTABLISHED": 0, "NEW": 0, "INVALID": 0}


@pytest.mark.usefixtures("kernel")
@families
def test_the_kernel_takes_no_packet_as_damaged(family):
    icmp = {Family.INET: (ICMP, 8), Family.INET6: (ICMPV6, 128)}[family]
    kinds = [Kind(TCP, 22), Kind(UDP, 53), Kind(*icmp), Kind(VRRP)]
    peer, host = parse_address(PEER[family]), parse_address(HOST[family])

    def act(device):
        Path("/proc/sys/net/netfilter/nf_conntrack_checksum").write_text("1")
        count_states(family)
        before = states(family)
        for kind in kinds:
            packet = packets.of_kind(kind, peer, host, 40001)
            device.write(packets.frame(packet, device.mac, device.gateway_mac))
        return {state: count - before[state] for state, count in states(family).items()}

    assert on_a_wire(act) == {"RELATED": 0, "ESTABLISHED": 0, "NEW": len(kinds), "INVALID": 0}
