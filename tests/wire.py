"""Packets on a wire of our own: written to a tap-like device, judged by the kernel, read back.

A packet written to a tun device has been judged when the write returns. What got past INPUT
is read from a raw socket of its protocol at once; nothing has to be waited for.
"""

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geofence.kernel.tap import settle
from geofence.prefixes import parse_address
from tests import lab

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_UDP = 17
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20
_PORT = 9  # discard

HOST = {4: "192.0.2.1", 6: "2001:db8::1"}


@dataclass
class Wire:
    """A network device whose other end is in our hands."""

    name: str
    _device: int
    _sockets: dict[int, socket.socket]

    def passes(self, source: str) -> bool:
        """Send one UDP packet from an address, and tell whether INPUT let it in."""
        address = ipaddress.ip_address(source)
        os.write(self._device, packet(source, HOST[address.version], b"geofence"))
        return self.received(address.version) == 1

    def send(self, ready: bytes) -> None:
        """Send a packet that was made before."""
        os.write(self._device, ready)

    def received(self, version: int) -> int:
        """Count the packets that came through since the last time."""
        return len(self.marks(version))

    def marks(self, version: int) -> list[bytes]:
        """Give the last byte of each packet that came through since the last time."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := self._sockets[version].recv(128):
                found.append(data[-1:])
        return found


@contextlib.contextmanager
def wire(name: str = "eth0") -> Iterator[Wire]:
    """Make a device in this (private) namespace; it goes when the block ends."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    sockets = {
        4: socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _UDP),
        6: socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _UDP),
    }
    try:
        for one in sockets.values():
            with contextlib.suppress(PermissionError):  # without root the default has to do
                one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        for setting in ("all", name):
            Path(f"/proc/sys/net/ipv4/conf/{setting}/rp_filter").write_text("0")
        lab.run("ip", "address", "add", f"{HOST[4]}/32", "dev", name)
        lab.run("ip", "-6", "address", "add", f"{HOST[6]}/128", "dev", name, "nodad")
        lab.run("ip", "link", "set", name, "up")
        lab.run("ip", "route", "add", "default", "dev", name)
        lab.run("ip", "-6", "route", "add", "default", "dev", name)
        settle([parse_address(HOST[6])])
        yield Wire(name, device, sockets)
    finally:
        for one in sockets.values():
            one.close()
        os.close(device)


def packet(source: str, destination: str, payload: bytes) -> bytes:
    """Make a UDP packet (RFC 768) over IPv4 (RFC 791) or IPv6 (RFC 8200)."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    length = 8 + len(payload)
    pseudo = one.packed + other.packed + struct.pack("!II", length, _UDP)
    udp = struct.pack("!HHHH", 40000, _PORT, length, 0) + payload
    checksum = _checksum(pseudo + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", checksum) + udp[8:]
    if one.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + one.packed + other.packed + udp
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0, one.packed, other.packed
    )
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def gate(variant: str, fence: str) -> None:
    """Put a rule into INPUT of both families that drops whoever is not in the fence's set."""
    for program, family in (("iptables", "inet"), ("ip6tables", "inet6")):
        rule = f"! --match-set geofence-{fence}-{family} src".split()
        lab.run(f"{program}-{variant}", "-w", "-A", "INPUT", "-m", "set", *rule, "-j", "DROP")
