"""Read and write prefixes strictly, and compare prefix lists by the addresses they hold."""

import bisect
import hashlib
import re
import socket
from collections.abc import Iterable, Iterator, Sequence

from geofence.model import Family, Lists, Prefix, PrefixList, Range

# Only what every publisher writes. netaddr and ipaddress also take blanks, netmasks, octal
# numbers, full-width digits or a missing length; each of these has been a damaged list once.
_INET = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})/(0|[1-9]\d?)", re.ASCII)
# An IPv6 address may end in dots, for inet_ntop(3) writes ::/80 so.
_INET6 = re.compile(r"([0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44})/(0|[1-9]\d{0,2})", re.ASCII)
_QUOTED_CHARACTERS = 80
_SHORTEST_TRUSTED = {Family.INET: 8, Family.INET6: 16}  # 10.0.0.0/8 may be somebody's own
_IPV4_MAPPED = 0xFFFF  # ::ffff:0:0/96, RFC 4291, 2.5.5.2


def quote(text: str | bytes) -> str:
    """Quote a piece of somebody else's text in printable ASCII, at most 80 characters."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    shown = ascii(text[:_QUOTED_CHARACTERS])
    if len(text) <= _QUOTED_CHARACTERS and len(shown) <= _QUOTED_CHARACTERS + len("''"):
        return shown
    return f"{shown[: _QUOTED_CHARACTERS + 1]}{shown[0]}..."


def parse_prefix(text: str) -> tuple[Family, Prefix]:
    """Read ``192.0.2.0/24`` or ``2001:db8::/32`` and nothing looser.

    Raises ValueError with a complaint that quotes the text.
    """
    for family, pattern in ((Family.INET, _INET), (Family.INET6, _INET6)):
        if match := pattern.fullmatch(text):
            return family, _checked(family, text, match[1], int(match[2]))
    if _is_address(text):
        raise ValueError(f"{quote(text)} is an address without a prefix length")
    raise ValueError(f"{quote(text)} is not a prefix")


def parse_address(text: str) -> tuple[Family, int]:
    """Read one address as an integer. Raises ValueError that quotes the text."""
    family = Family.INET6 if ":" in text else Family.INET
    try:
        return family, int.from_bytes(socket.inet_pton(family.af, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{quote(text)} is not an IPv4 or IPv6 address") from None


def parse_trusted(text: str) -> tuple[Family, Prefix]:
    """Read a prefix, or an address as the prefix that holds it alone; none that holds everybody.

    An IPv4-mapped address, as servers on IPv6 sockets log it, is the IPv4 address in it.
    Raises ValueError with a complaint that quotes the text.
    """
    if "/" in text:
        family, prefix = parse_prefix(text)
    else:
        family, address = host(*parse_address(text))
        prefix = Prefix(address, family.bits)
    if prefix.length < _SHORTEST_TRUSTED[family]:
        shortest = _SHORTEST_TRUSTED[family]
        raise ValueError(f"{quote(text)} would trust half the world: at least /{shortest}")
    return family, prefix


def parse_ipv4(text: str) -> int:
    """Read an IPv4 address as an integer. Raises ValueError that quotes the text."""
    return _address(Family.INET, text)


def parse_ipv6(text: str) -> int:
    """Read an IPv6 address as an integer. Raises ValueError that quotes the text."""
    return _address(Family.INET6, text)


def format_address(family: Family, address: int) -> str:
    """Write an address as inet_ntop(3) does; for IPv6 that is RFC 5952."""
    return socket.inet_ntop(family.af, address.to_bytes(family.bits // 8, "big"))


def format_prefix(family: Family, prefix: Prefix) -> str:
    """Write a prefix as ``ipset save`` does."""
    return f"{format_address(family, prefix.address)}/{prefix.length}"


def digest(lists: Lists) -> str:
    """Sum up what a fence allows in a sha256: equal for equal prefixes, whatever their source."""
    summed = hashlib.sha256()
    for family in sorted(lists):
        summed.update(f"{family}\n".encode())
        for prefix in lists[family].prefixes:
            summed.update(f"{prefix.address:x}/{prefix.length}\n".encode())
    return summed.hexdigest()


def range_of(family: Family, prefix: Prefix) -> Range:
    """Give the first and last address of a prefix."""
    return Range(prefix.address, prefix.address + (1 << (family.bits - prefix.length)) - 1)


def ranges_of(prefixes: PrefixList) -> list[Range]:
    """Give a list as ranges, sorted and disjoint (two that touch stay two)."""
    return [range_of(prefixes.family, prefix) for prefix in prefixes.prefixes]


def count(ranges: Iterable[Range]) -> int:
    """Count the addresses of disjoint ranges."""
    return sum(last - first + 1 for first, last in ranges)


def intersection(ours: Sequence[Range], theirs: Sequence[Range]) -> list[Range]:
    """Give what is in both of two sorted, disjoint sequences of ranges."""
    common: list[Range] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        first = max(ours[i].first, theirs[j].first)
        last = min(ours[i].last, theirs[j].last)
        if first <= last:
            common.append(Range(first, last))
        if ours[i].last < theirs[j].last:
            i += 1
        else:
            j += 1
    return common


def difference(ours: Sequence[Range], theirs: Sequence[Range]) -> list[Range]:
    """Give what is in ours and not in theirs, two sorted, disjoint sequences of ranges."""
    left: list[Range] = []
    j = 0
    for first, last in ours:
        start = first
        while j < len(theirs) and theirs[j].last < start:
            j += 1
        k = j
        while k < len(theirs) and theirs[k].first <= last:
            if theirs[k].first > start:
                left.append(Range(start, theirs[k].first - 1))
            start = theirs[k].last + 1
            k += 1
        if start <= last:
            left.append(Range(start, last))
    return left


def find(prefixes: PrefixList, address: int) -> Prefix | None:
    """Find the prefix of a list that holds an address."""
    index = bisect.bisect_right(prefixes.prefixes, (address, prefixes.family.bits)) - 1
    if index < 0:
        return None
    prefix = prefixes.prefixes[index]
    return prefix if address <= range_of(prefixes.family, prefix).last else None


def host(family: Family, address: int) -> tuple[Family, int]:
    """Give the IPv4 address inside an IPv4-mapped IPv6 one, else the same."""
    if family is Family.INET6 and address >> 32 == _IPV4_MAPPED:
        return Family.INET, address & 0xFFFFFFFF
    return family, address


def texts(prefixes: PrefixList) -> Iterator[str]:
    """Write every prefix of a list, in address order."""
    return (format_prefix(prefixes.family, prefix) for prefix in prefixes.prefixes)


def _checked(family: Family, text: str, address_text: str, length: int) -> Prefix:
    if length > family.bits:
        raise ValueError(f"{quote(text)} is not a prefix: length over {family.bits}")
    try:
        address = _address(family, address_text)
    except ValueError:
        raise ValueError(f"{quote(text)} is not a prefix") from None
    if address & ((1 << (family.bits - length)) - 1):
        raise ValueError(f"{quote(text)} has host bits set")
    return Prefix(address, length)


def _address(family: Family, text: str) -> int:
    try:
        return int.from_bytes(socket.inet_pton(family.af, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{quote(text)} is not an {family.label} address") from None


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True
