"""Network devices whose other end is in our hands, and ears behind INPUT, in a namespace of ours.

A frame written to a tap device has been judged by the whole stack when the write returns: what
got past INPUT is read from a raw socket of its protocol at once; nothing has to be waited for.
Where /dev/net/tun is closed a veth pair serves, with an AF_PACKET socket on its far end.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from geofence.errors import KernelRefused, NoPermission
from geofence.model import Address, Family
from geofence.programs import run

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20
_FRAME_BYTES = 2048
_RTF_LOCAL = 0x80000000  # linux/ipv6_route.h
_SETTLE_SECONDS, _SETTLE_PAUSE_SECONDS = 2.0, 0.001
_TUN = Path("/dev/net/tun")


class Device:
    """A device of this namespace; frames written to it arrive at it, what it sends is read."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.mac = b"\x02\x00\x00\x00" + number.to_bytes(2, "big")
        self.gateway_mac = b"\x02\x00\x00\x01" + number.to_bytes(2, "big")
        self._far: int | socket.socket
        try:
            self._far = _tap(name)
        except OSError:
            self._far = _veth(name, number)
        mac = ":".join(f"{octet:02x}" for octet in self.mac)
        ip_batch([f"link set dev {name} address {mac}", f"link set dev {name} up"])

    def close(self) -> None:
        """Take the device away."""
        if isinstance(self._far, int):
            os.close(self._far)
        else:
            self._far.close()
            ip_batch([f"link del dev {self.name}"])

    def write(self, frame: bytes) -> None:
        """Let a frame arrive."""
        if isinstance(self._far, int):
            os.write(self._far, frame)
        else:
            self._far.send(frame)

    def read(self) -> list[bytes]:
        """Give the frames that were sent since the last time."""
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                if isinstance(self._far, int):
                    found.append(os.read(self._far, _FRAME_BYTES))
                    continue
                data, (*_, kind, _, _) = self._far.recvfrom(_FRAME_BYTES)
                if kind != socket.PACKET_OUTGOING:  # what we wrote ourselves
                    found.append(data)
        return found


class Ears:
    """A raw socket for each protocol: it hears what INPUT let through, listener or not."""

    def __init__(self, protocols: Iterable[tuple[Family, int]]) -> None:
        self._sockets = {key: self._ear(*key) for key in protocols}

    def _ear(self, family: Family, protocol: int) -> socket.socket:
        try:
            ear = socket.socket(family.af, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        except PermissionError as error:
            raise NoPermission(
                "cannot open a raw socket", cure="run geofence as root, or with CAP_NET_RAW too"
            ) from error
        with contextlib.suppress(PermissionError):  # without root the default has to do
            ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        return ear

    def join(self, family: Family, protocol: int, group: bytes, device: str) -> None:
        """Take part in a multicast group."""
        number = struct.pack("@i", socket.if_nametoindex(device))
        ear = self._sockets[family, protocol]
        if family is Family.INET:
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + b"\0" * 4 + number)
        else:
            ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + number)

    def close(self) -> None:
        """Stop listening."""
        for ear in self._sockets.values():
            ear.close()

    def heard(self, family: Family, protocol: int) -> bool:
        """Tell whether anything came through since the last time."""
        heard = False
        ear = self._sockets[family, protocol]
        try:
            while True:
                ear.recv(64)
                heard = True
        except BlockingIOError:
            return heard


def ip_batch(commands: Iterable[str]) -> None:
    """Run commands of ip(8) in this namespace. Raises KernelRefused with its words."""
    done = run(["ip", "-batch", "-"], "\n".join(commands) + "\n")
    if done.returncode:
        raise KernelRefused(f"cannot set up a private network: {done.stderr.strip()}")


def settle(addresses: Iterable[Address]) -> None:
    """Wait until packets to IPv6 addresses that were just given are taken in.

    The kernel makes their local routes in a work queue, also where duplicate address detection
    is off. Raises KernelRefused if that takes longer than 2 s.
    """
    wanted = {f"{number:032x}" for family, number in addresses if family is Family.INET6}
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not wanted <= _local_routes():
        if time.monotonic() > deadline:
            raise KernelRefused("the kernel does not take packets to an address it was given")
        time.sleep(_SETTLE_PAUSE_SECONDS)


def _local_routes() -> set[str]:
    """Read the addresses that the kernel takes IPv6 packets to, in 32 hexadecimal digits."""
    found = set()
    for line in Path("/proc/net/ipv6_route").read_text().splitlines():
        destination, *_, flags, _ = line.split()
        if int(flags, 16) & _RTF_LOCAL:
            found.add(destination)
    return found


def _tap(name: str) -> int:
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
    except BaseException:
        os.close(device)
        raise
    return device


def _veth(name: str, number: int) -> socket.socket:
    far = f"gf{number}"
    ip_batch([f"link add {name} type veth peer name {far}", f"link set dev {far} up"])
    end = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL)
    )
    end.bind((far, _ETH_P_ALL))
    return end
