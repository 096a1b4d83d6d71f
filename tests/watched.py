"""A host whose fence is switched on for a trial, and the processes that watch over that."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from geofence import pending, ruletext
from geofence.peers import ssh_peers
from geofence.prefixes import format_address
from tests import lab

LIECHTENSTEIN = ("80.66.224.0/20", "82.117.0.0/19", "2a02:e00::/32")
INSIDE = "80.66.224.9"
_DEADLINE_SECONDS = 12.0
_POLL_SECONDS = 0.02


class Host:
    """A fence whose list is in force, and that nobody enabled yet, beside other tools' rules."""

    def __init__(self, directory: Path, geofence: lab.Geofence, variant: str) -> None:
        self.directory = directory
        self.state = geofence.state
        self.variant = variant
        self._geofence = geofence
        self.config = directory / "geofence.toml"
        self.configure()
        for rule in rules_of_others(variant):
            lab.run(*rule)
        plain = lab.plain_list(directory / "list.txt", *LIECHTENSTEIN)
        update = ["-q", "update", "--accept-change", "--source", "plain", "--from", str(plain)]
        assert self(*update).status == 0

    def configure(self, **keys: str) -> None:
        """Write the configuration; whoever runs the tests by SSH is trusted, and not judged."""
        here = [format_address(*peer) for peer in sorted(ssh_peers())]
        lines = [f"trusted = {json.dumps(here)}", "[fence.LI]", 'countries = ["LI"]']
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        self.config.write_text("\n".join(lines) + "\n")
        self.config.chmod(0o600)

    def __call__(self, *arguments: str | Path) -> lab.Answer:
        """Run geofence in this process."""
        return self._geofence("--config", self.config, *arguments)

    def enable(self, *arguments: str) -> lab.Answer:
        """Enable the fence, where a rehearsal is not what is tested."""
        return self("enable", "--without-rehearsal", *arguments)

    def command(self, *arguments: str) -> list[str]:
        """Give the command that runs geofence in a process of its own."""
        words = ["--state-dir", str(self.state), "--config", str(self.config), *arguments]
        return [sys.executable, "-m", "geofence", *words]

    def iptables(self, *words: str) -> None:
        """Change the rules as another tool would."""
        lab.run(f"iptables-{self.variant}", "-w", *words)

    def rules(self) -> list[str]:
        """Read both families' rules, without counters."""
        return rules(self.variant)

    def is_open(self) -> bool:
        """Tell whether nothing of the fence is in the rules."""
        return not any("ALLOW-LI-INPUT" in line for line in self.rules())

    @property
    def files(self) -> set[str]:
        """Name what is noted of a change."""
        return {path.name for path in self.state.glob("*.json")}

    @property
    def waiting(self) -> pending.Pending:
        """Read the change that waits; there is one."""
        found = pending.read(self.state)
        assert found
        return found

    @property
    def is_recorded(self) -> bool:
        """Tell whether the fence is recorded as enabled."""
        return (self.state / "LI" / "enabled").is_dir()


def rules_of_others(variant: str) -> list[list[str]]:
    """Give commands that make a variant the one in use, of both families."""
    addresses = {"iptables": "203.0.113.7", "ip6tables": "2001:db8::7"}
    return [
        [f"{program}-{variant}", "-A", "INPUT", "-s", address, "-j", "DROP"]
        for program, address in addresses.items()
    ]


def rules(variant: str) -> list[str]:
    """Read both families' filter tables, without counters."""
    found = []
    for program in ("iptables", "ip6tables"):
        table = ruletext.read(lab.run(f"{program}-{variant}-save", "-t", "filter"))
        found += [f"{program} {name} {rule}" for name in table.rules for rule in table.rules[name]]
        found += [f"{program} {name}" for name in table.rules if table.policies[name] == "-"]
    return found


def until(true: Callable[[], object], seconds: float = _DEADLINE_SECONDS) -> float:
    """Wait until something is true, and give how long that took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() < started + seconds, "it did not come in time"
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


def watchers() -> set[int]:
    """Find the watchers of this (private) namespace: what left every directory and terminal."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = (process / "ns/net").readlink() == Path("/proc/self/ns/net").readlink()
            python = (process / "exe").readlink() == Path("/proc/self/exe").readlink()
            if ours and python and (process / "cwd").readlink() == Path("/"):
                found.add(int(process.name))
    return found


def kill_watchers() -> int:
    """End every watcher, and tell how many there were."""
    found = watchers()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not watchers() & found)
    return len(found)


@contextlib.contextmanager
def process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the test, in a session of its own, and end it with the block."""
    with subprocess.Popen(  # type: ignore[call-overload]
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options
    ) as running:
        try:
            yield running
        finally:
            running.kill()
