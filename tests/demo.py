"""Show the main job in a private network namespace, with real packets: ``make demo``."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geofence import cli
from geofence.kernel import ipset
from geofence.kernel.namespace import NoNamespace, enter
from tests import wire

JAPAN = ("133.11.0.1", "153.120.0.1", "210.171.224.1", "2001:200::1", "2400:4000::1")
ELSEWHERE = ("8.8.8.8", "151.101.1.1", "193.0.6.139", "2001:4860:4860::8888", "2a00:1450::1")

_OURS = Path("/proc/self/ns/net")


class _Namespaces:
    """The host's network namespace and a private one, and the way between them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._host = os.open(_OURS, os.O_RDONLY)
        enter()
        self._private = os.open(_OURS, os.O_RDONLY)
        self._depth = 0
        self.can_return = self._libc.setns(self._host, 0) == 0

    @property
    def is_inside(self) -> bool:
        """Tell whether we are in the private namespace, or were when it was left for another."""
        return self._depth > 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the private namespace for the length of a block."""
        if not self.can_return:
            yield
            return
        self._libc.setns(self._private, 0)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._libc.setns(self._host, 0)


def main() -> int:
    """Run the demonstration and give its exit status."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        namespaces = _Namespaces()
    except NoNamespace as error:
        print(f"this demonstration needs a private network namespace: {error}", file=sys.stderr)
        return 77
    before = _firewall()
    state = tempfile.mkdtemp(prefix="geofence-demo-")
    try:
        return _show(namespaces, state) or _untouched(namespaces, before)
    finally:
        shutil.rmtree(state)


def _show(namespaces: _Namespaces, state: str) -> int:
    _let_sets_be_private(namespaces)
    say("The real update, downloads and all; its sets are made in a private network namespace.")
    if not namespaces.can_return:
        print("(without root the namespace has no network: the bundled snapshot serves)")
    if status := _geofence(state, "update", "--country", "JP"):
        return status
    say("What the kernel enforces, read back:")
    if status := _geofence(state, "status"):
        return status
    os.environ.setdefault("XTABLES_LOCKFILE", f"{state}/xtables.lock")
    say("The fence goes up there too, after a rehearsal with real packets:")
    with namespaces.inside():
        if status := _geofence(state, "enable"):
            return status
    say("Real packets that meet it, from these sources:")
    with namespaces.inside(), wire.wire() as line:
        verdicts = {source: line.passes(source) for source in (*JAPAN, *ELSEWHERE)}
    for source, passes in verdicts.items():
        where = "Japan" if source in JAPAN else "elsewhere"
        print(f"  {source:<22} {where:<10} {'passes' if passes else 'is dropped'}")
    right = all(passes == (source in JAPAN) for source, passes in verdicts.items())
    if not right:
        print("this is not as it should be", file=sys.stderr)
    return 0 if right else 1


def _geofence(state: str, *arguments: str) -> int:
    print(f"$ geofence {' '.join(arguments)}", flush=True)
    return cli.main(["--state-dir", state, *arguments])


def _let_sets_be_private(namespaces: _Namespaces) -> None:
    """Open the sockets that speak with ip_set inside: a socket stays where it was made."""
    make = ipset.KernelSets.__init__

    def make_inside(self: ipset.KernelSets) -> None:
        if namespaces.is_inside:  # or in the rehearsal's own, further in
            make(self)
            return
        with namespaces.inside():
            make(self)

    ipset.KernelSets.__init__ = make_inside  # type: ignore[method-assign]


def _untouched(namespaces: _Namespaces, before: str) -> int:
    if not namespaces.can_return:
        say("The host could not be touched: this process may not change it.")
        return 0
    same = _firewall() == before
    say(f"The host's own sets and rules: {'the same as before' if same else 'CHANGED'}.")
    return 0 if same else 1


def _firewall() -> str:
    """Read all sets and rules of the namespace we are in, without counters."""
    commands = ("ipset save", "iptables-nft-save", "ip6tables-nft-save", "nft list tables")
    done = [
        subprocess.run(command.split(), capture_output=True, text=True, check=False)
        for command in commands
    ]
    lines = "".join(one.stdout for one in done).splitlines()
    return "\n".join(line for line in lines if not line.startswith((":", "#")))


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
