"""Ready-made ip_set netlink messages: many elements packed into one, and unpacked from one.

pyroute2 sends an element a message, and decodes a dump attribute by attribute into objects; at
a country's size either holds the set open for a second. The layout is that of
linux/netfilter/ipset/ip_set.h and netlink(7); numbers are in the machine's byte order except
where an attribute says that it is in the network's.
"""

import struct
from collections.abc import Iterator, Sequence

from geofence.model import Family, Prefix

_NFNL_SUBSYS_IPSET = 6
_CMD_LIST = 7
_CMD_ADD = 9
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_DUMP = 0x1, 0x4, 0x200, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
_NESTED, _NET_BYTEORDER, _TYPE_MASK = 0x8000, 0x4000, 0x3FFF
_ATTR_PROTOCOL, _ATTR_SETNAME, _ATTR_DATA, _ATTR_ADT, _ATTR_LINENO = 1, 2, 7, 8, 9
_ATTR_IP, _ATTR_CIDR, _ATTR_TIMEOUT, _ATTR_FLAGS = 1, 3, 6, 8  # inside an element
_ATTR_IPADDR = {Family.INET: 1, Family.INET6: 2}
_PROTOCOL = 6  # every kernel since 2.6.39 speaks it
_NFNETLINK_V0 = 0

_NLMSGHDR = struct.Struct("=IHHII")
_NFGENMSG = struct.Struct(">BBH")
_NLA = struct.Struct("=HH")
_INT = struct.Struct("=i")
_LINENO = struct.Struct("=I")
_TIMEOUT = struct.Struct(">I")
_ELEMENT = {
    # DATA{ IP{ IPADDR }, CIDR, LINENO }
    Family.INET: struct.Struct("=HHHHHH4sHHB3xHHI"),
    Family.INET6: struct.Struct("=HHHHHH16sHHB3xHHI"),
}
MESSAGE_ELEMENTS = 1000  # a nested attribute holds 65,535 bytes; an IPv6 element takes 44


def add_messages(
    name: str, family: Family, prefixes: Sequence[Prefix], timeouts: Sequence[int] = ()
) -> Iterator[bytes]:
    """Write the messages that add prefixes to a set, each to be acknowledged before the next.

    An element's line number, which a refusal names, is its place in ``prefixes`` from 1.
    ``timeouts``, in seconds, 0 for never, are for a set that has them.
    """
    for start in range(0, len(prefixes), MESSAGE_ELEMENTS):
        chunk = prefixes[start : start + MESSAGE_ELEMENTS]
        elements = b"".join(
            _timed(_elements(family, chunk, start + 1), timeouts[start : start + MESSAGE_ELEMENTS])
            if timeouts
            else _elements(family, chunk, start + 1)
        )
        yield _message(
            _CMD_ADD,
            _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_EXCL,
            family,
            _text(_ATTR_SETNAME, name)
            + _NLA.pack(_NLA.size + len(elements), _ATTR_ADT | _NESTED)
            + elements
            + _NLA.pack(8, _ATTR_LINENO)
            + _LINENO.pack(start + 1),
        )


def list_message(name: str) -> bytes:
    """Write the message that asks for all elements of a set."""
    return _message(
        _CMD_LIST, _NLM_F_REQUEST | _NLM_F_DUMP, Family.INET, _text(_ATTR_SETNAME, name)
    )


def messages(buffer: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut what a socket received into messages: their type and their payload."""
    offset = 0
    while offset + _NLMSGHDR.size <= len(buffer):
        length, kind, *_ = _NLMSGHDR.unpack_from(buffer, offset)
        yield kind, buffer[offset + _NLMSGHDR.size : offset + length]
        offset += _aligned(length)


def error_of(payload: bytes) -> tuple[int, int]:
    """Read an NLMSG_ERROR: the code (0: done as asked), and the line of the element, 0 if none."""
    code: int = -_INT.unpack_from(payload)[0]
    echoed = payload[4 + _NLMSGHDR.size + _NFGENMSG.size :]
    for kind, value in _attributes(echoed):
        if kind == _ATTR_LINENO and len(value) == _LINENO.size:
            return code, _LINENO.unpack(value)[0]
    return code, 0


def elements_of(payload: bytes, family: Family) -> Iterator[Prefix]:
    """Read the elements in one message of a dump.

    Raises ValueError on one that geofence did not put there, as a ``nomatch`` one.
    """
    for kind, value in _attributes(payload[_NFGENMSG.size :]):
        if kind == _ATTR_ADT:
            for _, element in _attributes(value):
                yield _prefix(family, element)


def _elements(family: Family, prefixes: Sequence[Prefix], line: int) -> Iterator[bytes]:
    pack = _ELEMENT[family].pack
    size = _ELEMENT[family].size
    octets = family.bits // 8
    data, ip = _ATTR_DATA | _NESTED, _ATTR_IP | _NESTED
    address_kind = _ATTR_IPADDR[family] | _NET_BYTEORDER
    for number, (address, length) in enumerate(prefixes, line):
        yield pack(
            size, data,
            8 + octets, ip,
            4 + octets, address_kind, address.to_bytes(octets, "big"),
            5, _ATTR_CIDR, length,
            8, _ATTR_LINENO, number,
        )  # fmt: skip


def _timed(elements: Iterator[bytes], timeouts: Sequence[int]) -> Iterator[bytes]:
    """Lengthen each element by its timeout."""
    kind = _ATTR_TIMEOUT | _NET_BYTEORDER
    for element, seconds in zip(elements, timeouts, strict=True):
        length, data = _NLA.unpack_from(element)
        timeout = _NLA.pack(_NLA.size + _TIMEOUT.size, kind) + _TIMEOUT.pack(seconds)
        yield _NLA.pack(length + len(timeout), data) + element[_NLA.size :] + timeout


def _message(command: int, flags: int, family: Family, attributes: bytes) -> bytes:
    body = (
        _NFGENMSG.pack(family.af, _NFNETLINK_V0, 0)
        + _NLA.pack(5, _ATTR_PROTOCOL)
        + struct.pack("=B3x", _PROTOCOL)
        + attributes
    )
    kind = _NFNL_SUBSYS_IPSET << 8 | command
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), kind, flags, 1, 0) + body


def _text(kind: int, text: str) -> bytes:
    value = text.encode() + b"\0"
    return (_NLA.pack(_NLA.size + len(value), kind) + value).ljust(
        _aligned(_NLA.size + len(value)), b"\0"
    )


def _attributes(buffer: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _NLA.size <= len(buffer):
        length, kind = _NLA.unpack_from(buffer, offset)
        if length < _NLA.size:
            raise ValueError("a netlink attribute without a length")
        yield kind & _TYPE_MASK, buffer[offset + _NLA.size : offset + length]
        offset += _aligned(length)


def _prefix(family: Family, element: bytes) -> Prefix:
    address, length = None, family.bits
    for kind, value in _attributes(element):
        if kind == _ATTR_IP:
            ((_, octets),) = _attributes(value)
            address = int.from_bytes(octets, "big")
        elif kind == _ATTR_CIDR:
            length = value[0]
        elif kind == _ATTR_FLAGS and any(value):
            raise ValueError("an element with flags (nomatch?)")
    if address is None:
        raise ValueError("an element without an address")
    return Prefix(address, length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
