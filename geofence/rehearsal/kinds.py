"""What kinds of packets there are to send: services, what a host on a link lives by. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator

from geofence import ruletext
from geofence.model import Family
from geofence.rehearsal.packets import ICMP, ICMPV6, IGMP, TCP, UDP, VRRP, Kind, echo

_UNNAMED_PORT = 61003
_MOST_NAMED_PORTS = 256
_MOST_PUBLISHED = 8
_DPORT = re.compile(r"--(?:(?:d|destination-)?ports|dport|destination-port) (\S+)")
_LIVED_BY = (135, 136, 134, 133, 130, 131, 132, 143)  # neighbour discovery and MLD
_NEARLY_LIVED_BY = (1, 2, 127, 129, 137, 142, 144)
_GROUPS = {
    Family.INET: ((Family.INET, 0xE0000001), (Family.INET, 0xE0000012)),
    Family.INET6: ((Family.INET6, 0xFF02 << 112 | 1), (Family.INET6, 0xFF02 << 112 | 0x12)),
}


def lived_by(family: Family, kind: Kind) -> bool:
    """Tell whether a host on a link lives by packets of a kind."""
    if family is Family.INET:
        multicast = kind.destination is not None
        vrrp = (VRRP, _GROUPS[family][1])
        dhcp = (kind.protocol, kind.sport, kind.number) == (UDP, 67, 68)
        return dhcp or (kind.protocol == IGMP and multicast) or vrrp == (
            kind.protocol, kind.destination,
        )  # fmt: skip
    return (
        (kind.protocol == ICMPV6 and kind.number in _LIVED_BY)
        or (kind.protocol, kind.sport, kind.number) == (UDP, 547, 546)
        or (kind.protocol, kind.destination) == (VRRP, _GROUPS[family][1])
    )


def services(
    family: Family, ssh_ports: Collection[int], tables: Iterable[ruletext.Table]
) -> tuple[Kind, ...]:
    """Give the kinds of packets that people come with: to SSH, to ports rules name, pings."""
    named = {TCP: list[int](), UDP: list[int]()}
    for table in tables:
        for rules in table.rules.values():
            for rule in rules:
                found = [*_ports(rule)]
                for protocol, name in ((TCP, "-p tcp"), (UDP, "-p udp")):
                    if name in rule:
                        named[protocol] += [port for pair in found for port in pair]
    kinds = [Kind(TCP, port) for port in sorted(ssh_ports)]
    kinds += [Kind(TCP, port) for port in sorted(set(named[TCP]))[:_MOST_NAMED_PORTS]]
    kinds += [echo(family)]
    kinds += [Kind(UDP, port) for port in sorted(set(named[UDP]))[:_MOST_NAMED_PORTS]]
    return tuple(dict.fromkeys(kinds))


def unnamed(ssh_ports: Iterable[int], tables: Iterable[ruletext.Table]) -> tuple[Kind, ...]:
    """Give kinds that go to a port which no rule names; none, if the rules name all."""
    ranges = [(port, port) for port in ssh_ports]
    ranges += [
        found
        for table in tables
        for rules in table.rules.values()
        for rule in rules
        for found in _ports(rule)
    ]
    for port in range(_UNNAMED_PORT, 0, -1):
        if not any(first <= port <= last for first, last in ranges):
            return Kind(TCP, port), Kind(UDP, port)
    return ()


def special(family: Family) -> tuple[Kind, ...]:
    """Give the kinds that a host on a link lives by, and those that are nearly so."""
    everybody, routers = _GROUPS[family]
    if family is Family.INET:
        dhcp = [Kind(UDP, number, sport) for sport in (66, 67, 68) for number in (67, 68, 69)]
        icmp = [Kind(ICMP, number) for number in (0, 5, 9, 13)]
        return (
            *dhcp, Kind(TCP, 68, 67), *icmp,
            Kind(IGMP, 0, 0, everybody), Kind(IGMP), Kind(VRRP, 0, 0, routers), Kind(VRRP),
            Kind(VRRP, 0, 0, everybody),
        )  # fmt: skip
    dhcp = [Kind(UDP, number, sport) for sport in (546, 547, 548) for number in (545, 546, 547)]
    icmp = [Kind(ICMPV6, number) for number in (*_LIVED_BY, *_NEARLY_LIVED_BY)]
    return (
        *dhcp, Kind(TCP, 546, 547), *icmp,
        Kind(VRRP, 0, 0, routers), Kind(VRRP), Kind(VRRP, 0, 0, everybody),
    )  # fmt: skip


def published(tables: Iterable[ruletext.Table]) -> tuple[Kind, ...]:
    """Give the ports of the host that a DNAT rule leads elsewhere, as Docker publishes them."""
    found = [
        Kind(TCP if "-p tcp" in rule else UDP, port)
        for table in tables
        for rules in table.rules.values()
        for rule in rules
        if ruletext.target_of(rule) == "DNAT"
        for port, _ in _ports(rule)
    ]
    return tuple(dict.fromkeys(found))[:_MOST_PUBLISHED]


def _ports(rule: str) -> Iterator[tuple[int, int]]:
    for found in _DPORT.findall(rule):
        for part in found.split(","):
            first, _, last = part.partition(":")
            if first.isdecimal() and (last or first).isdecimal():
                yield int(first), int(last or first)
