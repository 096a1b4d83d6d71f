"""Conversations on a stage: more than one packet, where only the later ones tell.

Each gives whether its last packet got in, or None if the host's own rules let it not begin.
"""

import contextlib
import itertools
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from geofence.model import Address, Family
from geofence.prefixes import format_address
from geofence.rehearsal import packets
from geofence.rehearsal.corpus import FOREIGN, Way
from geofence.rehearsal.packets import ACK, ICMP, ICMPV6, PUSH, SYN, TCP, UDP
from geofence.rehearsal.stage import Stage

_LOOPBACK = {Family.INET: "127.0.0.1", Family.INET6: "::1"}
_PORTS_OUT = {UDP: (53, 123, 443), TCP: (443, 80, 53)}
_ICMP = {Family.INET: ICMP, Family.INET6: ICMPV6}
SESSION = "data in a session"
_SEQUENCE = 1000
_FIRST_PORT = 50000

Talk = Callable[[Stage], bool | None]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A conversation that the host began: its first packet, and the socket it came from."""

    packet: bytes
    socket: socket.socket


@dataclass(frozen=True, slots=True)
class Guest:
    """Something behind the host that may begin connections of its own, as a container does."""

    address: Address
    inside: str  # the interface that it is behind


def talks(
    family: Family, owners: Mapping[Address, Way], guests: Iterable[Guest] = ()
) -> dict[str, Talk]:
    """Give every conversation by its name; owners come to a port."""
    label = family.label
    found: dict[str, Talk] = {
        f"{label} over the loopback interface": lambda stage: _loopback(stage, family),
        f"the answer to a UDP packet that this host sent abroad ({label})": (
            lambda stage: _answer(stage, family, UDP)
        ),
        f"the answer to a TCP connection that this host began abroad ({label})": (
            lambda stage: _answer(stage, family, TCP)
        ),
        f"an error about a packet that this host sent abroad ({label})": (
            lambda stage: _related(stage, family)
        ),
    }
    for owner, there in owners.items():
        if owner[0] is family:
            name = f"{SESSION} from {format_address(*owner)} to port {there.port}"
            found[name] = _session(owner, there)
    for guest in guests:
        if guest.address[0] is family:
            name = f"a connection that {format_address(*guest.address)} begins abroad"
            found[f"{name}, from behind {guest.inside}"] = _guests(guest)
    return found


def _guests(guest: Guest) -> Talk:
    def talk(stage: Stage) -> bool:
        there = guest.address[0], FOREIGN[guest.address[0]]
        for device in stage.devices.values():
            device.read()
        segment = packets.tcp(guest.address, there, (50001, 443), flags=SYN)
        stage.come_in(packets.ip(TCP, guest.address, there, segment), guest.inside)
        return _sent(stage, there, TCP) is not None

    return talk


def _loopback(stage: Stage, family: Family) -> bool | None:
    with socket.socket(family.af, socket.SOCK_DGRAM) as one:
        stage.heard(family, UDP)
        try:
            one.bind((_LOOPBACK[family], 0))
            one.sendto(b"geofence", one.getsockname())
        except OSError:
            return None
        return stage.heard(family, UDP)


def _answer(stage: Stage, family: Family, protocol: int) -> bool | None:
    begun = _begin(stage, family, protocol)
    if begun is None:
        return None
    here, there = packets.addresses_of(begun.packet)
    ports = packets.ports_of(begun.packet)[::-1]
    if protocol == UDP:
        answer = packets.udp(there, here, ports, b"geofence")
    else:
        numbers = _SEQUENCE, packets.sequence_of(begun.packet) + 1
        answer = packets.tcp(there, here, ports, flags=SYN | ACK, numbers=numbers)
    with begun.socket:
        packet = packets.ip(protocol, there, here, answer)
        return stage.arrives(packet, family, protocol, stage.outside)


def _related(stage: Stage, family: Family) -> bool | None:
    begun = _begin(stage, family, UDP)
    if begun is None:
        return None
    here, there = packets.addresses_of(begun.packet)
    router = family, there[1] + 1
    with begun.socket:
        error = packets.unreachable(router, begun.packet, here)
        return stage.arrives(error, family, _ICMP[family], stage.outside)


def _session(owner: Address, there: Way) -> Talk:
    theirs = itertools.count(_FIRST_PORT)  # conntrack would know another one from the same port

    def talk(stage: Stage) -> bool | None:
        addresses = [there.own] if there.own else stage.every_own(owner[0])
        said = [one_to(stage, own) for own in addresses]
        return True if True in said else said[-1]

    def one_to(stage: Stage, own: Address) -> bool | None:
        family = owner[0]
        with socket.socket(family.af, socket.SOCK_STREAM) as listener:
            try:
                listener.bind((format_address(*own), there.port))
                listener.listen(1)
            except OSError:
                return None
            return _speak(stage, owner, own, (next(theirs), there.port))

    return talk


def _speak(stage: Stage, owner: Address, own: Address, ports: tuple[int, int]) -> bool | None:
    """Shake hands and send data; None if the host's answer never leaves."""
    way = stage.way_of(owner)
    for device in stage.devices.values():
        device.read()

    def arrives(flags: int, numbers: tuple[int, int], data: bytes = b"") -> bool:
        segment = packets.tcp(owner, own, ports, flags=flags, numbers=numbers, data=data)
        return stage.arrives(packets.ip(TCP, owner, own, segment), owner[0], TCP, way)

    if not arrives(SYN, (_SEQUENCE, 0)):
        return False
    answer = _sent(stage, owner, TCP)
    if answer is None:
        return None
    numbers = _SEQUENCE + 1, packets.sequence_of(answer) + 1
    return arrives(ACK, numbers) and arrives(PUSH | ACK, numbers, b"geofence")


def _begin(stage: Stage, family: Family, protocol: int) -> _Begun | None:
    """Let the host send the first packet of a conversation abroad."""
    there = family, FOREIGN[family]
    kind = socket.SOCK_DGRAM if protocol == UDP else socket.SOCK_STREAM
    for port in _PORTS_OUT[protocol]:
        one = socket.socket(family.af, kind)
        one.setblocking(False)
        for device in stage.devices.values():
            device.read()
        with contextlib.suppress(OSError):  # EINPROGRESS of a connection, EPERM of a DROP
            one.connect((format_address(*there), port))
            one.send(b"geofence")
        if sent := _sent(stage, there, protocol):
            return _Begun(sent, one)
        one.close()
    return None


def _sent(stage: Stage, to: Address, protocol: int) -> bytes | None:
    """Give the packet that the host has sent to an address."""
    for device in stage.devices.values():
        for data in device.read():
            packet = packets.packet_in(data)
            if (
                packet
                and packets.protocol_of(packet) == protocol
                and packets.addresses_of(packet)[1] == to
            ):
                return packet
    return None
