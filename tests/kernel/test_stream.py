"""Packets in flight while the list is replaced: none is lost, and none is let in."""

import subprocess
import sys
import time

import pytest

from geofence.candidate import snapshot_lists
from geofence.model import Fence
from geofence.prefixes import texts
from tests import lab, wire

UPDATES = 100
LEAST_RATE = 10_000  # packets a second, of each of the four kinds

ALLOWED = {4: "1.0.16.7", 6: "2001:200::7"}  # in both lists
FOREIGN = {4: "8.8.8.8", 6: "2001:4860:4860::8888"}  # in neither

_LOOP = """
import sys
from geofence.cli import main
state, old, new = sys.argv[1:]
for number in range({updates}):
    status = main(["--state-dir", state, "-q", "update", "--country", "JP", "--source", "plain",
                   "--from", (new, old)[number % 2]])
    if status:
        sys.exit(status)
"""


@pytest.fixture
def lists(tmp_path):
    """Japan's list, and the same without a good part of it: thousands of entries change."""
    both = snapshot_lists(Fence(name="JP", countries=("JP",))).values()
    japan = [[*texts(found)] for found in both]
    less = [text for found in japan for number, text in enumerate(found) if number % 12 != 11]
    return lab.plain_list(tmp_path / "old", *japan[0], *japan[1]), lab.plain_list(
        tmp_path / "new", *less
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_a_hundred_updates_lose_and_leak_nothing(geofence, kernel, lists, variant):
    old, new = lists
    first = geofence("update", "--country", "JP", "--source", "plain", "--from", old)
    assert first.status == 0, first.err
    kinds = {
        (source[version], version): wire.packet(source[version], wire.HOST[version], mark)
        for source, mark in ((ALLOWED, b"A"), (FOREIGN, b"F"))
        for version in (4, 6)
    }
    command = [sys.executable, "-c", _LOOP.format(updates=UPDATES), geofence.state, old, new]
    sent, got = 0, {b"A": 0, b"F": 0}
    with wire.wire() as line:
        wire.gate(variant, "JP")
        with subprocess.Popen([str(word) for word in command]) as updates:
            started = time.monotonic()
            while updates.poll() is None:
                for _ in range(500):
                    for ready in kinds.values():
                        line.send(ready)
                    for version in (4, 6):
                        for mark in line.marks(version):
                            got[mark] += 1
                    sent += 1
            seconds = time.monotonic() - started
    print(f"{variant}: {sent:,} packets of each kind in {seconds:.1f} s, {UPDATES} updates")
    assert updates.returncode == 0
    assert got == {b"A": 2 * sent, b"F": 0}
    assert sent / seconds > LEAST_RATE
    generations = geofence("history", "--json").document["fences"][0]["generations"]
    assert generations[-1]["generation"] == UPDATES + 1
