"""Without a route or a name service an update is over within 20 seconds, and a list is in force."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from geofence.sources import bundled
from geofence.sources.rir import RIR
from tests import servers

ROOT = Path(__file__).parents[1]
PROMISE_SECONDS = 20
NAMES = [host for publication in RIR.publications for host in publication.hosts]
SILENT_RESOLVER = "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"

WITNESS = """
import json, socket, subprocess, sys, time

def run(*command):
    return subprocess.run(command, capture_output=True, text=True)

stored, *geofence = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as never_answers:
    never_answers.bind(("127.0.0.1", 53))
    if stored == "stored":
        run(*geofence, "--source", "bundled").check_returncode()
    before = run("ipset", "save").stdout
    started = time.monotonic()
    done = run(*geofence)
    seconds = time.monotonic() - started
    after = run("ipset", "save").stdout
print(json.dumps({
    "status": done.returncode, "err": done.stderr, "seconds": seconds,
    "before": before, "after": after,
}))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A host that reaches nobody."""

    stored: str  # "stored", "nothing"
    resolver: str = ""
    hosts: str = ""
    command: str = "true"


CASES = {
    "unanswered-names-on-a-fresh-host": Case("nothing", resolver=SILENT_RESOLVER),
    "unanswered-names": Case("stored", resolver=SILENT_RESOLVER),
    "no-name-service": Case("stored", resolver="nameserver 127.0.0.9\n"),
    "no-route": Case("stored", hosts=f"192.0.2.1 {' '.join(NAMES)}\n"),
    "black-hole": Case(
        "stored",
        hosts=f"127.0.0.1 {' '.join(NAMES)}\n",
        command="iptables-nft -A INPUT -p tcp --dport 443 -j DROP",
    ),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What came of an update there."""

    status: int
    err: str
    seconds: float
    before: str
    after: str
    state: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Mapping[str, Run]:
    """Run all of them side by side, each in namespaces of its own: most of it is waiting."""
    started = {}
    for name, case in CASES.items():
        directory = tmp_path_factory.mktemp(name)
        (directory / "geofence.toml").touch()
        options = ["--config", "geofence.toml", "--state-dir", "state"]
        geofence = [sys.executable, "-m", "geofence", *options, "update", "--country", "JP"]
        private = ["unshare", "-n", "sh", "-ec", f'ip link set lo up; {case.command}; exec "$@"']
        seeing = servers.seeing(directory, hosts=case.hosts, resolver=case.resolver)
        witness = [sys.executable, "-c", WITNESS, case.stored, *geofence]
        started[name] = (
            directory,
            subprocess.Popen(
                [*private, "sh", *seeing, *witness],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            ),
        )
    done = {}
    for name, (directory, process) in started.items():
        out, _ = process.communicate(timeout=60)
        done[name] = Run(**json.loads(out), state=directory / "state")
    return done


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", CASES)
def test_it_is_over_in_time(name, runs):
    assert runs[name].seconds < PROMISE_SECONDS


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stored == "stored"])
def test_the_stored_list_stays(name, runs):
    run = runs[name]
    assert run.status == 69
    assert "still enforcing generation 1" in run.err
    assert run.before
    assert run.after == run.before
    assert (run.state / "JP" / "active").readlink() == Path("1")


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
def test_on_a_fresh_host_the_bundled_snapshot_serves(runs):
    run = runs["unanswered-names-on-a-fresh-host"]
    assert run.status == 0
    assert f"warning: the bundled snapshot of {bundled.date()} serves" in run.err
    assert "because nothing is stored and the source is not to be had" in run.err
    assert not run.before
    assert "add geofence-JP-inet " in run.after
    assert "add geofence-JP-inet6 " in run.after
