"""Two watchers who bring the old rules back in time, whatever became of who changed them.

The first is a detached process, which any host can have. The second is a transient timer of
systemd, for logind may kill every process of a session that ends, KillUserProcesses of
logind.conf(5).
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from geofence import locks, pending
from geofence.disk import Disk
from geofence.errors import GeofenceError, KernelRefused
from geofence.pending import Pending

_ANSWER_SECONDS = 10.0
_TICK_SECONDS = 0.25  # sleep(3) does not count a suspension: look at the clock after it
_LOCK_ATTEMPTS = 3  # of 10 s each; then without it: a hanging run must not keep the owner out
_PATIENCE_SECONDS = 600.0
_PAUSE_SECONDS = 0.5
_STANDARD = (0, 1, 2)  # input, output, error
_IGNORED = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE)

_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)
_INIT_NETWORK, _OUR_NETWORK = Path("/proc/1/ns/net"), Path("/proc/self/ns/net")


def start(change: Pending, state: Path) -> None:
    """Start the first watcher; when this returns it has answered. Raises KernelRefused."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _detach(writer, change, state)
        os.waitpid(child, 0)
    except OSError as error:
        os.close(reader)
        raise KernelRefused(f"cannot start a process: {error.strerror}") from error
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        there, _, _ = select.select([pipe], [], [], _ANSWER_SECONDS)
        if not (there and pipe.read(1)):
            raise KernelRefused("the watcher that brings the old rules back did not answer")


def start_timer(seconds: int, state: Path) -> str:
    """Start the second watcher where systemd runs; tell why it could not be."""
    program = shutil.which("systemd-run")
    if not _SYSTEMD.is_dir() or program is None or not _is_network_of_init():
        return ""
    timer = [f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms"]
    path = [f"--setenv=PYTHONPATH={value}" for value in [os.environ.get("PYTHONPATH")] if value]
    act = ["--", sys.executable, "-m", "geofence.watcher", str(state)]
    why = _run([program, "--collect", *timer, *path, *act])
    return why and _run([program, *timer, *path, *act])  # --collect is of systemd 236


def watch(change: Pending, state: Path) -> None:
    """Wait as long as a change may be confirmed, and bring the old rules back if it is not."""
    while (left := change.deadline - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        if not _undecided(change, state):
            return
        time.sleep(min(left, _TICK_SECONDS))
    if _undecided(change, state):
        bring_back(change, state)


def bring_back(change: Pending, state: Path) -> None:
    """Bring the old rules back, if nobody confirmed the new ones, and try for minutes."""
    disk = Disk()
    with contextlib.suppress(GeofenceError):  # a disk that takes nothing: then unclaimed
        pending.claim(state, pending.REVERTING, disk)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        with contextlib.suppress(Exception), _locked_if_possible(state):
            if _undecided(change, state):
                pending.revert(change, state, disk)
            return
        time.sleep(_PAUSE_SECONDS)


def main(state: Path) -> int:
    """Be the second watcher: bring back what is due, also what the first left half done."""
    for name in (pending.WAITING, pending.REVERTING):
        change = pending.read(state, name)
        if change and not change.left():
            bring_back(change, state)
    return 0


def _detach(writer: int, change: Pending, state: Path) -> None:
    """Leave everything that could end with whoever started us; never return."""
    try:
        os.setsid()
        if os.fork() == 0:
            for one in _IGNORED:
                signal.signal(one, signal.SIG_IGN)
            os.chdir("/")
            _close_all_but(writer)
            os.write(writer, b".")
            os.close(writer)
            watch(change, state)
    finally:
        os._exit(0)


def _close_all_but(kept: int) -> None:
    """Let go of the terminal, and of the locks: flock(2) holds while any copy is open."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in _STANDARD:
        os.dup2(null, standard)
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number not in {*_STANDARD, kept}:
            with contextlib.suppress(OSError):  # the one that the directory was read by is closed
                os.close(number)


def _undecided(change: Pending, state: Path) -> bool:
    """Tell whether a change still waits, or is being taken back by who may not get to the end."""
    if not state.is_dir():
        return True  # whoever took the state away has not said that the new rules shall stay
    try:
        return pending.in_hand(state) == change
    except GeofenceError:
        return True  # nothing says that anybody decided


@contextlib.contextmanager
def _locked_if_possible(state: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(_LOCK_ATTEMPTS):
            with contextlib.suppress(GeofenceError):
                stack.enter_context(locks.writer(state))
                break
        yield


def _is_network_of_init() -> bool:
    """Tell whether what systemd starts would see our rules: they are of a network namespace."""
    try:
        return _INIT_NETWORK.readlink() == _OUR_NETWORK.readlink()
    except OSError:
        return False


def _run(command: list[str]) -> str:
    """Run a command, and tell what went wrong."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
