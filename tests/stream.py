"""A constant stream of packets while the real update replaces a list, again and again."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from geofence.candidate import snapshot_lists
from geofence.model import Fence
from geofence.prefixes import texts
from tests import lab, wire

ALLOWED = {4: "1.0.16.7", 6: "2001:200::7"}  # in both lists
FOREIGN = {4: "8.8.8.8", 6: "2001:4860:4860::8888"}  # in neither
_AT_ONCE = 500

_LOOP = """
import sys
from geofence.cli import main
state, number, old, new = sys.argv[1:]
for one in range(int(number)):
    status = main(["--state-dir", state, "-q", "update", "--country", "JP", "--source", "plain",
                   "--from", (new, old)[one % 2]])
    if status:
        sys.exit(status)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the packets; of each kind (allowed and foreign, IPv4 and IPv6) ``sent``."""

    sent: int
    lost: int
    leaked: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.sent:,} packets of each kind, {self.sent / self.seconds:,.0f} a second:"
            f" {self.lost} lost, {self.leaked} let in"
        )


def lists(directory: Path, every: int = 1) -> tuple[Path, Path]:
    """Write Japan's list, or every n-th of its prefixes, and the same without one in twelve."""
    both = snapshot_lists(Fence(name="JP", countries=("JP",))).values()
    japan = [[*texts(found)][::every] for found in both]
    less = [text for found in japan for number, text in enumerate(found) if number % 12 != 11]
    old = lab.plain_list(directory / "old", *japan[0], *japan[1])
    return old, lab.plain_list(directory / "new", *less)


def enable(variant: str, state: Path) -> None:
    """Enable the fence in one variant: the one that holds something already."""
    telnet = ["-A", "INPUT", "-p", "tcp", "--dport", "23", "-j", "DROP"]
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program}-{variant}", "-w", *telnet)
    arguments = ["--state-dir", str(state), "-q", "enable", "--without-rehearsal"]
    lab.run(sys.executable, "-m", "geofence", *arguments)


def during_updates(number: int, variant: str, state: Path, old: Path, new: Path) -> Result:
    """Send packets of all four kinds for as long as so many updates take; the first list is old."""
    kinds = [
        wire.packet(source[version], wire.HOST[version], mark)
        for source, mark in ((ALLOWED, b"A"), (FOREIGN, b"F"))
        for version in (4, 6)
    ]
    sent, got = 0, {b"A": 0, b"F": 0}
    command = [sys.executable, "-c", _LOOP, str(state), str(number), str(old), str(new)]
    with wire.wire() as line:
        enable(variant, state)
        with subprocess.Popen(command) as updates:
            started = time.monotonic()
            while updates.poll() is None:
                for _ in range(_AT_ONCE):
                    for ready in kinds:
                        line.send(ready)
                    for version in (4, 6):
                        for mark in line.marks(version):
                            got[mark] += 1
                    sent += 1
            seconds = time.monotonic() - started
    assert updates.returncode == 0, "an update failed"
    return Result(sent=sent, lost=2 * sent - got[b"A"], leaked=got[b"F"], seconds=seconds)
