"""Put the whole test run into a private network namespace, and say what could not be run.

Nothing below this file can reach the host's own firewall: the process that runs the tests, and
whatever it starts, lives in a namespace of its own from before the first test is collected.
"""

import os
import subprocess
from pathlib import Path

import pytest

from geofence.kernel.namespace import NoNamespace, enter
from tests import lab

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    """Leave the host's network before anything is imported that could look at it."""
    config.stash[lab.WHY_NO_KERNEL] = _leave_the_host()


def _leave_the_host() -> str:
    """Enter the private namespace; tell why not, if that is not permitted."""
    host = Path("/proc/self/ns/net").readlink()
    try:
        enter()
    except NoNamespace as error:
        return f"no private network namespace: {error}"
    if Path("/proc/self/ns/net").readlink() == host:
        raise pytest.UsageError("the private network namespace is the host's own")
    os.environ["XTABLES_LOCKFILE"] = f"/tmp/geofence-tests-{os.getpid()}.lock"
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return ""


def pytest_unconfigure():
    Path(os.environ.get("XTABLES_LOCKFILE", "/nonexistent")).unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter):
    """End by saying what was skipped and why, or that nothing was."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({str(report.longrepr[2]) for report in skipped})
    terminalreporter.write_line(f"skipped: {len(skipped)}" if skipped else "nothing was skipped")
    for reason in reasons:
        terminalreporter.write_line(f"  {reason}")


@pytest.fixture(autouse=True)
def _own_directories(tmp_path, monkeypatch):
    """Never use the host's state, cache or SSH session."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "default-state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "default-cache"))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(
        "geofence.peers._PROC", tmp_path / "no-proc"
    )  # nor who runs the tests by SSH
    monkeypatch.setattr("geofence.config.DEFAULT_PATH", tmp_path / "no-such-geofence.toml")


@pytest.fixture
def kernel(request):
    """Require the private namespace, and leave it as empty as it was."""
    if why := request.config.stash[lab.WHY_NO_KERNEL]:
        pytest.skip(why)
    lab.empty_kernel()
    yield
    lab.empty_kernel()


@pytest.fixture
def shared_data():
    """Give the folder of real published files, which is not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real published files is not there")
    return SHARED_DATA


@pytest.fixture
def geofence(tmp_path, capsys):
    """Run geofence in this process on a state directory of the test's own."""
    return lab.Geofence(tmp_path / "state", capsys)
