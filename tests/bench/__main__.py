"""Print the table of speeds and sizes: ``make bench``."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from geofence import cli, ipsetfile
from geofence.aggregate import aggregate
from geofence.candidate import snapshot_lists
from geofence.config import FetchLimits
from geofence.documents import document
from geofence.kernel.ipset import KernelSets
from geofence.kernel.messages import add_messages
from geofence.kernel.namespace import enter
from geofence.model import Family, Fence, Prefix, PrefixList
from geofence.prefixes import format_prefix, texts
from geofence.sources.rir import RIR
from tests import lab, stream, wire
from tests.conftest import SHARED_DATA

APNIC = SHARED_DATA / "rir" / "2025-02-13" / "delegated-apnic-latest"
BOOT = Path(__file__).parents[2] / "cron/boot"
JP = Fence(name="JP", countries=("JP",))
ROUNDS = 5
PACKETS = 20_000
UPDATES = 50


def best(act: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Time an act several times and give the shortest, in seconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return min(times)


def row(what: str, ours: str, theirs: str, verdict: str) -> None:
    """Print a row of the table."""
    print(f"{what:<50} {ours:>16} {theirs:>26}  {verdict}")


def ratio(ours: float, theirs: float, reach: float) -> str:
    """Say how ours compares, and whether that is what was to be reached."""
    found = ours / theirs
    return f"ratio {found:.2f}, reach <= {reach:g}{'' if found <= reach else '  MISSED'}"


def limit(value: float, reach: float, unit: str) -> str:
    """Say whether a value is below what was to be reached."""
    return f"reach <= {reach:g} {unit}{'' if value <= reach else '  MISSED'}"


def load() -> None:
    """Bulk load against an ``ipset restore`` child, and against the kernel's own limit."""
    sets = KernelSets()
    for number in (3_000, 60_000, 170_000):
        for family in Family:
            shift = family.bits - 32
            prefixes = tuple(Prefix((0x01000000 + i * 512) << shift, 24) for i in range(number))
            text = ipsetfile.write("X", PrefixList(family, prefixes))

            def ours(family=family, prefixes=prefixes) -> None:
                sets.create("geofence-X", family, len(prefixes))
                sets.add("geofence-X", family, prefixes)
                sets.destroy("geofence-X")

            def child(text=text, family=family) -> None:
                lab.run("ipset", "restore", stdin=text)
                sets.destroy(f"geofence-X-{family}")

            ready = list(add_messages("geofence-X", family, prefixes))

            def kernel_alone(family=family, ready=ready, number=number) -> None:
                sets.create("geofence-X", family, number)
                for message in ready:
                    sets._bulk.send(message)
                    sets._bulk.recv(1 << 16)
                sets.destroy("geofence-X")

            one, other, least = best(ours), best(child), best(kernel_alone)
            what = f"load {number:,} {family.label} prefixes"
            row(what, ms(one), f"ipset restore {ms(other)}", ratio(one, other, 1.0))
            row("", "", f"kernel alone {ms(least)}", ratio(one, least, 10.0))
    sets.close()


def parse() -> None:
    """Parse and aggregate a registry's file against ``aggregate6`` fed the same prefixes."""
    from aggregate6 import aggregate as aggregate6

    file = document(APNIC, publisher="", location=APNIC.name, limits=FetchLimits())

    def ours() -> dict[Family, PrefixList]:
        listing = RIR.parse([file], frozenset({"JP"}))
        return {family: aggregate(family, found["JP"]) for family, found in listing.ranges.items()}

    listing = RIR.parse([file], frozenset({"JP"}))
    raw = [
        format_prefix(family, prefix)
        for family, found in listing.ranges.items()
        for one in found["JP"]
        for prefix in aggregate(family, [one]).prefixes
    ]
    expected = [text for found in ours().values() for text in texts(found)]
    assert sorted(aggregate6(raw)) == sorted(expected), "aggregate6 disagrees"
    one, other = best(ours), best(lambda: aggregate6(raw), 3)
    row(
        "parse and aggregate APNIC's file for JP",
        ms(one),
        f"aggregate6 {ms(other)}",
        ratio(one, other, 1.0),
    )


def read_back() -> None:
    """Read a set's content back, for the verification, against ``ipset save``."""
    sets = KernelSets()
    prefixes = snapshot_lists(JP)[Family.INET].prefixes
    sets.create("geofence-X", Family.INET, len(prefixes))
    sets.add("geofence-X", Family.INET, prefixes)
    one = best(lambda: sets.read("geofence-X", Family.INET))
    other = best(lambda: lab.run("ipset", "save", "geofence-X"))
    row(f"read back {len(prefixes):,} prefixes", ms(one), f"ipset save {ms(other)}", "")
    sets.close()


def packets() -> None:
    """Cost of a packet that matches nothing: one set against a chain of all prefixes."""
    lab.empty_kernel()
    cli.main(
        [
            "--state-dir",
            tempfile.mkdtemp(),
            "-q",
            "update",
            "--country",
            "JP",
            "--source",
            "bundled",
        ]
    )
    prefixes = list(texts(snapshot_lists(JP)[Family.INET]))
    for variant in lab.VARIANTS:
        lab.empty_rules()
        with wire.wire() as line:
            packet = wire.packet("8.8.8.8", wire.HOST[4], b"x")

            def send(line=line, packet=packet) -> None:
                for _ in range(PACKETS):
                    line.send(packet)

            bare = best(send, 3)
            rule = "-A INPUT -m set --match-set geofence-JP-inet src -j DROP"
            lab.run(f"iptables-{variant}", *rule.split())
            with_set = best(send, 3)
            lab.empty_rules()
            chain = [f"-A INPUT -s {prefix} -j DROP" for prefix in prefixes]
            rules = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *chain, "COMMIT", ""])
            lab.run(f"iptables-{variant}-restore", stdin=rules)
            linear = best(send, 3)
            lab.empty_rules()
        one, other = ((seconds - bare) / PACKETS * 1e6 for seconds in (with_set, linear))
        row(
            f"a packet that matches nothing, iptables-{variant}",
            f"{one:.2f} us",
            f"{len(prefixes):,} rules {other:.2f} us",
            "",
        )


def updates_under_load() -> None:
    """Packets lost and let in while the list is replaced under a constant stream."""
    for variant in lab.VARIANTS:
        lab.empty_kernel()
        directory = Path(tempfile.mkdtemp())
        old, new = stream.lists(directory)
        first = ["-q", "update", "--country", "JP", "--source", "plain", "--from", str(old)]
        cli.main(["--state-dir", str(directory), *first])
        result = stream.during_updates(UPDATES, variant, directory, old, new)
        print(f"{UPDATES} updates, iptables-{variant}: {result}")


def processes() -> None:
    """Whole processes: their time and their memory."""
    state = tempfile.mkdtemp()
    geofence = [sys.executable, "-m", "geofence", "--state-dir", state, "-q"]
    update = ["--state-dir", state, "-q", "update", "--country", "JP"]
    if APNIC.exists():
        for name in ("apnic", "afrinic", "lacnic"):
            update += ["--from", str(APNIC.with_name(f"delegated-{name}-latest"))]
    else:
        update += ["--source", "bundled"]
    lab.empty_kernel()
    seconds = best(lambda: lab.run(sys.executable, "-m", "geofence", *update), 1)
    lab.empty_kernel()
    memory = int(lab.run(sys.executable, "-c", _MEMORY, tempfile.mkdtemp(), *update[2:])) / 1024
    row("update of JP, whole process", ms(seconds), "", "")
    row("update of JP, peak memory", f"{memory:.0f} MiB", "", limit(memory, 96, "MiB"))

    def restore() -> None:
        lab.run("ipset", "destroy")
        lab.run(*geofence, "restore")

    seconds = best(restore)
    row("restore of JP, whole process", ms(seconds), "", limit(seconds, 0.35, "s"))
    hook = Path(state) / "boot"
    hook.write_text(BOOT.read_text().replace("STATE=/var/lib/geofence", f"STATE={state}"))
    seconds = best(lambda: lab.run("sh", hook, "pre-start"), 20)
    by_python = best(lambda: lab.run(*geofence, "hook", "pre-start"))
    row(
        "sh hook: both sets of JP before the rules",
        ms(seconds),
        f"geofence hook {ms(by_python)}",
        limit(seconds, 0.05, "s"),
    )
    lab.run("sh", hook, "pre-start")
    rehearsed = json.loads(lab.run(*geofence, "--json", "rehearse"))
    row(
        f"rehearse JP: {rehearsed['packets']:,} packets",
        ms(rehearsed["seconds"]),
        "",
        f"{rehearsed['seconds'] / rehearsed['packets'] * 1e6:.0f} us a packet, all told",
    )
    seconds = best(lambda: lab.run(*geofence, "enable", "--without-rehearsal"))
    row("enable JP, both families, without the rehearsal", ms(seconds), "", "")
    seconds = best(lambda: lab.run(sys.executable, "-m", "geofence", "--help"))
    row("--help, whole process", ms(seconds), "", limit(seconds, 0.15, "s"))


# The most resident memory of this process alone, in KiB, proc(5); getrusage(2) would count
# the parent's at the moment of the fork.
_MEMORY = """
import sys
from geofence.cli import main
status = main(["--state-dir", *sys.argv[1:]])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""


def ms(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1000:.1f} ms"


def main() -> None:
    """Measure everything in a private network namespace."""
    enter()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    lab.run("ip", "link", "set", "lo", "up")
    row("what", "geofence", "instead", "")
    load()
    read_back()
    if APNIC.exists():
        parse()
    else:
        print("parse and aggregate: not measured, the registries' real files are not here")
    packets()
    processes()
    updates_under_load()


if __name__ == "__main__":
    main()
