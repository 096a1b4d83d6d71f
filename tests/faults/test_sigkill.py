"""SIGKILL at points all over a run: one whole list is enforced, and the next run mends the rest."""

import itertools
import os
import signal
import subprocess
import sys

import pytest

from geofence.kernel.ipset import KernelSets
from tests.fakes import Counted
from tests.faults.lists import Scene, real_sets

# Every system call by which an update touches the kernel's sets or the disk.
TOUCHING = ["sendto", "write", "rename", "symlink", "unlink", "mkdir", "fsync", "fchmod", "flock"]
EVERY = int(os.environ.get("GEOFENCE_KILL_EVERY", "4"))  # one in so many; `make sweep`: all


@pytest.fixture
def sets(kernel):
    with real_sets() as real:
        yield real


def test_killed_before_every_call_of_a_door(tmp_path, sets):
    old = new = None
    for number in itertools.count(1):
        directory = tmp_path / str(number)
        directory.mkdir()
        scene = Scene(directory, sets)
        scene.update(scene.old)
        old = old or scene.live()
        killed = _killed_at(scene, number)
        if killed:
            _whole(scene, old, new)
            scene.update(scene.new)
        new = new or scene.live()
        assert (scene.leftovers(), scene.live(), scene.active()) == ([], new, new)
        if not killed:
            break
    assert number > 30, "the run has more calls than that"
    assert old != new


@pytest.mark.slow
@pytest.mark.parametrize("call", TOUCHING)
def test_killed_at_system_calls_of_the_real_command(tmp_path, sets, call):
    scene = Scene(tmp_path, sets)
    scene.update(scene.old)
    old = scene.live()
    new = None
    for number in itertools.count(1, EVERY if call == "sendto" else 1):
        if not _strace_kills(scene, call, number):
            break
        _whole(scene, old, new)
        scene.update(scene.new)
        new = new or scene.live()
        assert (scene.leftovers(), scene.live(), scene.active()) == ([], new, new)
        scene.update(scene.old)
        assert scene.live() == old
    assert number > 1, f"the command was never killed at {call}"


def _whole(scene, old, new):
    """Assert that after the kill every set is one whole list, and that a boot finds one."""
    live = scene.live()
    assert set(live) == set(old), "a set is missing"
    for family, prefixes in live.items():
        assert prefixes == old[family] or new is None or prefixes == new[family]
        assert prefixes, "a set is empty"
    active = scene.active()
    assert active in (old, new) or new is None


def _killed_at(scene, number: int) -> bool:
    """Update in a child that is killed before its n-th call; False if it came to its end."""
    pid = os.fork()
    if pid == 0:
        calls = itertools.count(1)

        def kill(_call, _name, _arguments):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            scene.sets = KernelSets()
            scene.update(
                scene.new,
                watch_sets=lambda real: Counted(real, kill),
                watch_disk=lambda real: Counted(real, kill),
            )
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _strace_kills(scene, call: str, number: int) -> bool:
    """Run the command under strace, which kills it at its n-th call; False if it never does."""
    inject = f"inject={call}:signal=KILL:when={number}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    command += [sys.executable, "-m", "geofence", "--state-dir", str(scene.state), "-q", "update"]
    command += ["--country", "LI", "--source", "plain", "--accept-change", "--from"]
    done = subprocess.run(
        [*command, str(scene.new)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return False
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return True
