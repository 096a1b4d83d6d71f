"""A copy of the host in a private network namespace, and packets that come in to it."""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import ruletext
from geofence.errors import GeofenceError, KernelRefused
from geofence.kernel import iptables
from geofence.kernel.ipset import KernelSets
from geofence.kernel.tap import Device, Ears, ip_batch, settle
from geofence.model import Address, Family, Prefix
from geofence.prefixes import format_address, format_prefix, parse_address
from geofence.programs import run
from geofence.rehearsal.corpus import Probe
from geofence.rehearsal.host import HostState, Interface
from geofence.rehearsal.packets import (
    ICMP,
    ICMPV6,
    IGMP,
    TCP,
    UDP,
    VRRP,
    addresses_in,
    frame,
    of_kind,
)

_PROTOCOLS = (
    *((Family.INET, one) for one in (ICMP, IGMP, TCP, UDP, VRRP)),
    *((Family.INET6, one) for one in (ICMPV6, TCP, UDP, VRRP)),
)
_VRRP_GROUPS = {
    Family.INET: bytes.fromhex("e0000012"),
    Family.INET6: bytes.fromhex("ff020000000000000000000000000012"),
}
_MADE_UP = {
    Family.INET: (parse_address("192.0.2.1"), 32),
    Family.INET6: (parse_address("2001:db8::1"), 128),
}
"""What the outside interface is called where it has no address of a family, RFC 5737, RFC 3849."""
_GATEWAY = {Family.INET: "169.254.255.254", Family.INET6: "fe80::ffff"}
_EVERYWHERE = {Family.INET: "0.0.0.0/0", Family.INET6: "::/0"}
_DEVICE_NAME = re.compile(r"[^/:%\s]{0,14}[^/:%\s+]")  # a + at the end stands for any end
_SPORT = 40000
_MOST_DEVICES = 64
_MOST_OWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCopy:
    """A set of geofence's as it is to be on the stage."""

    name: str
    family: Family
    prefixes: tuple[Prefix, ...]
    timed: bool = False


class Stage:
    """The namespace this process is in, made like a host; it lasts as long as the process."""

    def __init__(self, state: HostState, sets: Sequence[SetCopy]) -> None:
        self._state = state
        _use_own_lock()
        _network_settings()
        interfaces = self._interfaces = interfaces_of(state)
        _make_room({one.name for one in interfaces})
        self.devices = {
            one.name: Device(one.name, number) for number, one in enumerate(interfaces, 1)
        }
        self._own = {
            (one.name, family): _own(one, family) for one in interfaces for family in Family
        }
        ip_batch(_configuration(interfaces, self.devices, state.outside))
        settle(address for one in interfaces for address, _ in one.addresses)
        families = iptables.families()
        self._ears = Ears(key for key in _PROTOCOLS if key[0] in families)
        for family in families:
            self._ears.join(family, VRRP, _VRRP_GROUPS[family], state.outside)
        _load_sets(state.sets, sets)
        _load_rules(state)

    @property
    def tables(self) -> list[iptables.Iptables]:
        """Every filter table there is."""
        return iptables.everywhere()

    @property
    def outside(self) -> str:
        """Name the interface by which the world comes in."""
        return self._state.outside

    def own(self, family: Family, interface: str) -> Address:
        """Give the host's own address on an interface, or that on the outside one."""
        return self._own[interface, family] or self._own[self._state.outside, family]  # type: ignore[return-value]

    def every_own(self, family: Family) -> list[Address]:
        """Give the host's own addresses of a family; of very many the first."""
        found = (own for one in self._interfaces for own, _ in one.addresses if own[0] is family)
        return list(dict.fromkeys(found))[:_MOST_OWN]

    def way_of(self, source: Address) -> str:
        """Name the interface by which a source comes in."""
        way = self._state.way_of(source)
        return way if way in self.devices else self._state.outside

    def gets_in(self, probe: Probe, turn: int) -> bool:
        """Send a probe, and tell whether INPUT let it in; a turn is a conversation of its own."""
        if probe.inside:
            return self._is_forwarded(probe, turn)
        family, way = probe.source[0], self.way_of(probe.source)
        here: Iterable[Address] = [self.own(family, way)]
        if probe.owner and probe.kind.destination is None:
            here = self.every_own(family)  # whichever address lets an owner in
        packets = (of_kind(probe.kind, probe.source, own, _SPORT + turn) for own in here)
        return any(self.arrives(one, family, probe.kind.protocol, way) for one in packets)

    def _is_forwarded(self, probe: Probe, turn: int) -> bool:
        """Send a probe from outside, and tell whether it leaves by the inner interface."""
        outside, inner = self._state.outside, self.devices[probe.inside]
        own = self.own(probe.source[0], outside)
        inner.read()
        self.come_in(of_kind(probe.kind, probe.source, own, _SPORT + turn), outside)
        return any(source == probe.source for source, _ in addresses_in(inner.read()))

    def arrives(self, packet: bytes, family: Family, protocol: int, way: str) -> bool:
        """Let a packet come in, and tell whether INPUT let it through."""
        self._ears.heard(family, protocol)
        self.come_in(packet, way)
        return self._ears.heard(family, protocol)

    def heard(self, family: Family, protocol: int) -> bool:
        """Tell whether INPUT let anything through since the last time."""
        return self._ears.heard(family, protocol)

    def come_in(self, packet: bytes, way: str) -> None:
        """Let a packet come in by an interface."""
        device = self.devices[way]
        device.write(frame(packet, device.mac, device.gateway_mac))

    def counted(self) -> dict[str, int]:
        """Give the packets that each rule and each policy has counted so far."""
        found: dict[str, int] = {}
        for one in self.tables:
            table = ""
            for line in one.save_all(counters=True).splitlines():
                if line.startswith("*"):
                    table = line[1:]
                elif line.startswith("["):
                    counters, _, rule = line.partition(" ")
                    key = f"{one}, table {table}: {rule}"
                    found[key] = found.get(key, 0) + int(counters[1:].partition(":")[0])
                elif line.startswith(":") and " - " not in line:
                    chain, policy, counters = line[1:].split()
                    key = f"{one}, table {table}: the policy {policy} of {chain}"
                    found[key] = int(counters[1:].partition(":")[0])
        return found


def _use_own_lock() -> None:
    """Let iptables not wait for the host's lock: a file without a name, that leaves nothing."""
    descriptor, path = tempfile.mkstemp()
    Path(path).unlink()
    os.environ["XTABLES_LOCKFILE"] = f"/proc/{os.getpid()}/fd/{descriptor}"


def _make_room(names: Collection[str]) -> None:
    """Rename the devices that every new namespace has, tunl0 say, where the host has them too."""
    for number, name in socket.if_nameindex():
        if name in names:
            ip_batch([f"link set dev {name} down", f"link set dev {name} name gfold{number}"])


def _network_settings() -> None:
    """Let packets in whatever their source, and make addresses usable at once."""
    for name, value in (
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/accept_local", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv4/icmp_echo_ignore_all", "1"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/all/forwarding", "1"),
    ):
        with contextlib.suppress(OSError):  # a kernel without it does not need it
            Path("/proc/sys/net", name).write_text(value)


def interfaces_of(state: HostState) -> list[Interface]:
    """Give the interfaces that matter: the outside one, those with addresses, those named."""
    named = frozenset[str]()
    for table in state.tables:
        named |= ruletext.interfaces_named(table)
    known = {one.name: one for one in state.interfaces if one.addresses}
    for name in (state.outside, *(way for _, way in state.routes), *sorted(named)):
        if name != "lo" and _DEVICE_NAME.fullmatch(name):
            known.setdefault(name, Interface(name))
    first = known.pop(state.outside)
    made_up = [_MADE_UP[one] for one in iptables.families() if _own(first, one) is None]
    outside = Interface(first.name, (*first.addresses, *made_up))
    return [outside, *known.values()][:_MOST_DEVICES]


def _own(one: Interface, family: Family) -> Address | None:
    return next((address for address, _ in one.addresses if address[0] is family), None)


def _configuration(
    interfaces: Sequence[Interface], devices: dict[str, Device], outside: str
) -> list[str]:
    """Write what gives every interface its addresses, and its network behind a gateway."""
    lines = ["link set dev lo up"]
    for one in interfaces:
        addresses = dict.fromkeys(address for address, _ in one.addresses)
        for family in iptables.families():
            via = _GATEWAY[family]
            mac = ":".join(f"{octet:02x}" for octet in devices[one.name].gateway_mac)
            lines.append(f"neigh replace {via} lladdr {mac} dev {one.name} nud permanent")
            if one.name == outside:
                lines.append(f"route add {_EVERYWHERE[family]} via {via} dev {one.name} onlink")
        lines += [_address_line(address, one.name) for address in addresses]
        lines += _network_lines(one) if one.name != outside else []
    return lines


def _address_line(address: Address, device: str) -> str:
    nodad = " nodad" if address[0] is Family.INET6 else ""
    return f"address add {format_address(*address)}/{address[0].bits} dev {device}{nodad}"


def _network_lines(one: Interface) -> Iterable[str]:
    networks = {
        (family, Prefix(number >> family.bits - length << family.bits - length, length))
        for (family, number), length in one.addresses
        if 0 < length < family.bits
    }
    for family, prefix in sorted(networks):
        network = format_prefix(family, prefix)
        yield f"route replace {network} via {_GATEWAY[family]} dev {one.name} onlink"


def _load_sets(foreign: str, copies: Sequence[SetCopy]) -> None:
    sets = KernelSets()
    try:
        for one in copies:
            sets.create(one.name, one.family, len(one.prefixes), timed=one.timed)
            sets.add(one.name, one.family, one.prefixes)
    finally:
        sets.close()
    if foreign:
        done = run(["ipset", "-exist", "restore"], foreign)
        if done.returncode:
            raise KernelRefused(f"cannot rehearse with the host's sets: {done.stderr.strip()}")


def _load_rules(state: HostState) -> None:
    try:
        for one, text in state.rules:
            if text.strip():
                one.load(text)
        for _, _, text in state.native:
            iptables.load_native(text)
    except GeofenceError as error:
        raise KernelRefused(
            f"the host's own rules cannot be rehearsed: {error.what}",
            cure="take out or mend what is named; or take the risk: --without-rehearsal",
        ) from error
