"""Who is on this host by SSH at this moment: the people an update must not shut out."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from geofence.model import Address, Family
from geofence.prefixes import host, parse_address

_PROC = Path("/proc")
SSH_PORT = 22
_ESTABLISHED = "01"  # TCP_ESTABLISHED, as /proc/net/tcp writes it, proc(5)
_CONNECTION_FIELDS = 4  # of SSH_CONNECTION, ssh(1): client, its port, server, its port
_WORD_DIGITS = 8


def ssh_peers() -> frozenset[Address]:
    """Give the addresses at the other end of SSH sessions of this moment."""
    return frozenset(ssh_sessions())


def ssh_sessions() -> dict[Address, int]:
    """Give who is here by SSH, and the port of this host that each came to.

    From SSH_CONNECTION, also of parent processes (sudo drops it), and from the established
    connections to the ports named there and to port 22. What cannot be read is left out.
    """
    connections = dict(_ssh_connections())
    return dict(_established({*connections.values(), SSH_PORT})) | connections


def by_ssh() -> bool:
    """Tell whether somebody runs us through SSH."""
    return any(True for _ in _ssh_connections())


def _ssh_connections() -> Iterator[tuple[Address, int]]:
    """Read SSH_CONNECTION of this process and of those above it: peer, and our port."""
    pid = os.getpid()
    seen = set()
    own = os.environ.get("SSH_CONNECTION")
    for value in [own, *_parents_values(pid)]:
        if value is None or value in seen:
            continue
        seen.add(value)
        fields = value.split()
        if len(fields) != _CONNECTION_FIELDS or not fields[3].isdecimal():
            continue
        try:
            yield host(*parse_address(fields[0].partition("%")[0])), int(fields[3])
        except ValueError:
            continue


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


def _established(ports: set[int]) -> Iterator[tuple[Address, int]]:
    """Read the peers of established TCP connections to our ports, and the port of each."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, remote, state, *_ = line.split()
            port = int(local.rpartition(":")[2], 16)
            if state == _ESTABLISHED and port in ports:
                yield host(*_proc_address(remote.rpartition(":")[0])), port


def _proc_address(digits: str) -> Address:
    """Read an address as /proc/net/tcp has it: 32-bit words in the machine's byte order."""
    words = [digits[i : i + _WORD_DIGITS] for i in range(0, len(digits), _WORD_DIGITS)]
    octets = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    family = Family.INET if len(words) == 1 else Family.INET6
    return family, int.from_bytes(octets, "big")
