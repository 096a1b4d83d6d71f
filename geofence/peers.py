"""Who is on this host by SSH at this moment: the people an update must not shut out."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from geofence.model import Address, Family
from geofence.prefixes import host, parse_address

_PROC = Path("/proc")
SSH_PORT = 22
_ESTABLISHED, _LISTENING = "01", "0A"  # TCP_ESTABLISHED, TCP_LISTEN in /proc/net/tcp, proc(5)
_INODE_FIELD = 10
_SERVERS = ("sshd", "sshd-session", "sshd-auth", "dropbear")
_PORT = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_PORTS = 1 << 16
_CONNECTION_FIELDS = 4  # of SSH_CONNECTION, ssh(1): client, its port, server, its port
_WORD_DIGITS = 8


class Session(NamedTuple):
    """Where somebody came to by SSH: a port of this host, and which of its addresses."""

    port: int
    own: Address


def ssh_peers() -> frozenset[Address]:
    """Give the addresses at the other end of SSH sessions of this moment."""
    return frozenset(ssh_sessions())


def ssh_sessions() -> dict[Address, Session]:
    """Give who is here by SSH, and where each came to.

    From SSH_CONNECTION, also of parent processes (sudo drops it), and from the established
    connections that an SSH server holds, or that go to port 22 or a port named there. What
    cannot be read is left out.
    """
    connections = dict(_ssh_connections())
    ports = {session.port for session in connections.values()} | {SSH_PORT}
    return dict(_tcp(_ESTABLISHED, ports)) | connections


def ssh_ports() -> frozenset[int]:
    """Give the ports at which people come by SSH: those a server listens at, else port 22."""
    listening = {session.port for _, session in _tcp(_LISTENING, set())}
    return frozenset(listening or {SSH_PORT})


def by_ssh() -> bool:
    """Tell whether somebody runs us through SSH."""
    return any(True for _ in _ssh_connections())


def _ssh_connections() -> Iterator[tuple[Address, Session]]:
    """Read SSH_CONNECTION of this process and of those above it."""
    pid = os.getpid()
    seen = set()
    own = os.environ.get("SSH_CONNECTION")
    for value in [own, *_parents_values(pid)]:
        if value is None or value in seen:
            continue
        seen.add(value)
        fields = value.split()
        if len(fields) != _CONNECTION_FIELDS or not _PORT.fullmatch(fields[3]):
            continue
        if int(fields[3]) >= _PORTS:
            continue
        try:
            peer, here = (_unscoped(field) for field in (fields[0], fields[2]))
        except ValueError:
            continue
        yield peer, Session(int(fields[3]), here)


def _unscoped(text: str) -> Address:
    return host(*parse_address(text.partition("%")[0]))


def _parents_values(pid: int) -> Iterator[str]:
    """Give SSH_CONNECTION of every process above, as far as we may read it."""
    while pid > 1:
        environment = b""
        with contextlib.suppress(OSError):  # another user's is not for us to read
            environment = (_PROC / str(pid) / "environ").read_bytes()
        try:
            # pid (comm) state ppid ...: comm may hold blanks and parentheses, proc(5)
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
        for variable in environment.split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == b"SSH_CONNECTION":
                yield value.decode("ascii", "replace")


def _tcp(wanted: str, ports: set[int]) -> Iterator[tuple[Address, Session]]:
    """Read the TCP sockets in a state that are of our ports, or that an SSH server holds."""
    servers = _sockets_of_servers()
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, remote, state, *_, inode = line.split()[:_INODE_FIELD]
            own, _, port = local.rpartition(":")
            if state == wanted and (int(port, 16) in ports or inode in servers):
                peer = host(*_proc_address(remote.rpartition(":")[0]))
                yield peer, Session(int(port, 16), host(*_proc_address(own)))


def _sockets_of_servers() -> frozenset[str]:
    """Give the inodes of the sockets that SSH servers hold, whatever their port."""
    found = set()
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if (process / "comm").read_text().strip() in _SERVERS:
                links = (descriptor.readlink() for descriptor in (process / "fd").iterdir())
                found |= {str(one)[8:-1] for one in links if str(one).startswith("socket:[")}
    return frozenset(found)


def _proc_address(digits: str) -> Address:
    """Read an address as /proc/net/tcp has it: 32-bit words in the machine's byte order."""
    words = [digits[i : i + _WORD_DIGITS] for i in range(0, len(digits), _WORD_DIGITS)]
    octets = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    family = Family.INET if len(words) == 1 else Family.INET6
    return family, int.from_bytes(octets, "big")
