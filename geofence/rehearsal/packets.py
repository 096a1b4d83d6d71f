"""Packets as bytes: IPv4 and IPv6 with TCP, UDP, ICMP and the like, in Ethernet frames. Pure."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from geofence.model import Address, Family
from geofence.prefixes import format_address

ICMP, IGMP, TCP, UDP, ICMPV6, VRRP = 1, 2, 6, 17, 58, 112  # IANA protocol numbers
SYN, ACK, PUSH = 0x02, 0x10, 0x08  # TCP flags, RFC 9293
ECHO_REQUEST = {Family.INET: 8, Family.INET6: 128}
UNREACHABLE = {Family.INET: 3, Family.INET6: 1}  # destination unreachable, RFC 792 and 4443
_ICMP_OF = {Family.INET: ICMP, Family.INET6: ICMPV6}
_ETHERTYPE = {Family.INET: 0x0800, Family.INET6: 0x86DD}
_HOP_LIMIT = 255  # what neighbour discovery insists on, RFC 4861
_PORT_UNREACHABLE = {Family.INET: 3, Family.INET6: 4}
_MULTICAST_INET, _MULTICAST_INET6 = 0xE, 0xFF  # 224.0.0.0/4 and ff00::/8: their first bits
_ADDRESS_BYTES = {Family.INET: 4, Family.INET6: 16}
_INET_HEADER_BYTES, _INET6_HEADER_BYTES = 20, 40
_NAMES = {ICMP: "icmp", IGMP: "igmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6", VRRP: "vrrp"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a packet is, whoever sends it; ``number`` is the port it goes to, or the ICMP type."""

    protocol: int
    number: int = 0
    sport: int = 0  # 0: any
    destination: Address | None = None  # none: the host's own address

    def __str__(self) -> str:
        """Name it as a rule would."""
        name = _NAMES[self.protocol]
        if self.protocol in (TCP, UDP):
            name += f" {self.sport} to port" if self.sport else " to port"
            name += f" {self.number}"
        elif self.protocol in (ICMP, ICMPV6):
            name += f" type {self.number}"
        return f"{name} to {format_address(*self.destination)}" if self.destination else name


def echo(family: Family) -> Kind:
    """Give the echo request of a family."""
    return Kind(_ICMP_OF[family], ECHO_REQUEST[family])


def of_kind(kind: Kind, source: Address, destination: Address, sport: int) -> bytes:
    """Make the packet of a kind; the first of its conversation."""
    to = kind.destination or destination
    if kind.protocol == TCP:
        body = tcp(source, to, (kind.sport or sport, kind.number), flags=SYN)
    elif kind.protocol == UDP:
        body = udp(source, to, (kind.sport or sport, kind.number), b"geofence")
    elif kind.protocol in (ICMP, ICMPV6):
        body = icmp(source, to, (kind.number, 0), struct.pack("!HH", sport, 1) + b"\0" * 16)
    elif kind.protocol == IGMP:
        body = _summed(struct.pack("!BBH4x", 0x11, 100, 0), 2)  # general query, RFC 2236
    else:
        body = struct.pack("!BBBBHH", 0x31, 1, 100, 0, 100, 0)  # VRRP version 3
    return ip(kind.protocol, source, to, body)


def ip(protocol: int, source: Address, destination: Address, body: bytes) -> bytes:
    """Put an IP header in front (RFC 791, RFC 8200)."""
    family, _ = source
    one, other = _packed(source), _packed(destination)
    if family is Family.INET6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, _HOP_LIMIT)
        return head + one + other + body
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, _HOP_LIMIT, protocol, 0, one, other
    )
    return _summed(header, 10) + body


def tcp(
    source: Address,
    destination: Address,
    ports: tuple[int, int],
    *,
    flags: int,
    numbers: tuple[int, int] = (1, 0),
    data: bytes = b"",
) -> bytes:
    """Make a TCP segment (RFC 9293); ``numbers``: sequence and acknowledgement."""
    head = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 65535, 0, 0)
    return _with_pseudo(TCP, source, destination, head + data, 16)


def udp(source: Address, destination: Address, ports: tuple[int, int], data: bytes) -> bytes:
    """Make a UDP datagram (RFC 768)."""
    head = struct.pack("!HHHH", *ports, 8 + len(data), 0)
    return _with_pseudo(UDP, source, destination, head + data, 6)


def icmp(source: Address, destination: Address, what: tuple[int, int], body: bytes) -> bytes:
    """Make an ICMP or ICMPv6 message of type and code (RFC 792, RFC 4443)."""
    message = struct.pack("!BBH", *what, 0) + body
    if source[0] is Family.INET:
        return _summed(message, 2)
    return _with_pseudo(ICMPV6, source, destination, message, 2)


def unreachable(source: Address, about: bytes, destination: Address) -> bytes:
    """Make the error that says that a packet's port is unreachable; RELATED to its connection."""
    family = source[0]
    what = UNREACHABLE[family], _PORT_UNREACHABLE[family]
    body = icmp(source, destination, what, b"\0" * 4 + about[:96])
    return ip(_ICMP_OF[family], source, destination, body)


def ports_of(packet: bytes) -> tuple[int, int]:
    """Give source and destination port of a TCP or UDP packet without IP options."""
    first, second = struct.unpack_from("!HH", packet, _header_bytes(packet))
    return first, second


def sequence_of(packet: bytes) -> int:
    """Give the sequence number of a TCP packet without IP options."""
    number: int = struct.unpack_from("!I", packet, _header_bytes(packet) + 4)[0]
    return number


def protocol_of(packet: bytes) -> int:
    """Give the protocol of a packet without extension headers."""
    return packet[9] if _family_of(packet) is Family.INET else packet[6]


def addresses_of(packet: bytes) -> tuple[Address, Address]:
    """Give source and destination of a packet."""
    family = _family_of(packet)
    first = 12 if family is Family.INET else 8
    octets = _ADDRESS_BYTES[family]
    fields = packet[first : first + octets], packet[first + octets : first + 2 * octets]
    one, other = (int.from_bytes(field, "big") for field in fields)
    return (family, one), (family, other)


def frame(packet: bytes, mac: bytes, from_mac: bytes) -> bytes:
    """Put an Ethernet header in front; a group has its own address (RFC 1112, RFC 2464)."""
    family = _family_of(packet)
    if family is Family.INET and packet[16] >> 4 == _MULTICAST_INET:
        mac = b"\x01\x00\x5e" + bytes([packet[17] & 0x7F]) + packet[18:20]
    elif family is Family.INET6 and packet[24] == _MULTICAST_INET6:
        mac = b"\x33\x33" + packet[36:40]
    return mac + from_mac + _ETHERTYPE[family].to_bytes(2, "big") + packet


def addresses_in(frames: Iterable[bytes]) -> list[tuple[Address, Address]]:
    """Give source and destination of every IP packet in some frames."""
    return [addresses_of(found) for one in frames if (found := packet_in(one))]


def packet_in(data: bytes) -> bytes | None:
    """Take the IP packet out of an Ethernet frame; None if it holds none."""
    ethertype = int.from_bytes(data[12:14], "big")
    return data[14:] if ethertype in _ETHERTYPE.values() else None


def _header_bytes(packet: bytes) -> int:
    return _INET_HEADER_BYTES if _family_of(packet) is Family.INET else _INET6_HEADER_BYTES


def _family_of(packet: bytes) -> Family:
    return Family.INET6 if packet[0] >> 4 == 6 else Family.INET  # noqa: PLR2004, the IP version


def _packed(address: Address) -> bytes:
    family, number = address
    return number.to_bytes(_ADDRESS_BYTES[family], "big")


def _with_pseudo(
    protocol: int, source: Address, destination: Address, message: bytes, place: int
) -> bytes:
    """Put the checksum over pseudo header and message in its place."""
    pseudo = _packed(source) + _packed(destination) + struct.pack("!II", len(message), protocol)
    total = _checksum(pseudo + message) or (0xFFFF if protocol == UDP else 0)
    return message[:place] + total.to_bytes(2, "big") + message[place + 2 :]


def _summed(data: bytes, place: int) -> bytes:
    return data[:place] + _checksum(data).to_bytes(2, "big") + data[place + 2 :]


def _checksum(data: bytes) -> int:
    """RFC 1071: the ones' complement sum, of which 0xffff is the modulus."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF - total if total else 0
