"""A host that was set up before it is booted: its stored lists, its enabled fences, its hook."""

import contextlib
import datetime
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from geofence import bootfiles, enabled, missing, rules, trustfiles
from geofence.bootfiles import Boot
from geofence.disk import Disk
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family, Fence, Prefix, PrefixList
from geofence.prefixes import parse_prefix
from geofence.store import Store
from tests import lab

JP = Fence(name="JP", countries=("JP",))
PREFIXES = {
    "inet": ["192.0.2.0/24", "198.51.100.0/25"],
    "inet6": ["2001:db8::/32", "2001:db9:1:2:3:4:5:0/112"],
}
OLDER = {"inet": ["203.0.113.0/24"], "inet6": ["2001:db8:f::/48"]}
SETS = ["geofence-JP-inet", "geofence-JP-inet6"]
TRUSTED = ["geofence-trusted-inet", "geofence-trusted-inet6"]
OPEN = ["0.0.0.0/1", "128.0.0.0/1"], ["8000::/1", "::/1"]
SHELLS = ("dash", "busybox")


@dataclass(frozen=True, slots=True)
class Host:
    """A state directory, and the sh hook that looks into it."""

    home: Path
    shell: str = "dash"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def script(self) -> Path:
        return self.home / "boot"

    def boot(self, act: str, *, before: tuple[str, ...] = ()) -> lab.Answer:
        """Run the hook as an init script does."""
        done = subprocess.run(
            [*before, *self.command, act],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
        )
        return lab.Answer(done.returncode, done.stdout, done.stderr)

    @property
    def command(self) -> list[str]:
        if self.shell == "busybox":
            return [str(self._applets() / "ash"), str(self.script)]
        return [self.shell, str(self.script)]

    @property
    def environment(self) -> Mapping[str, str]:
        if self.shell == "busybox":
            return {**os.environ, "PATH": f"{self._applets()}:/usr/sbin:/sbin"}
        return {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    def _applets(self) -> Path:
        """Let busybox do all that it can, and the host the rest."""
        home = self.home / "applets"
        if not home.exists():
            home.mkdir()
            subprocess.run(["busybox", "--install", "-s", home], check=True)
        return home


def make(home: Path, shell: str = "dash", geofence: str = "/nonexistent") -> Host:
    """Give a host with nothing stored, and no geofence but the hook."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    host = Host(home, shell)
    boot = Boot(root=home, state=PurePosixPath(host.state), geofence=geofence)
    host.script.write_bytes(bootfiles.script(boot).content)
    host.state.mkdir()
    return host


def lists(prefixes: Mapping[str, list[str]]) -> dict[Family, PrefixList]:
    return {
        Family(family): PrefixList(Family(family), tuple(parse_prefix(one)[1] for one in texts))
        for family, texts in prefixes.items()
    }


def store(state: Path, prefixes: Mapping[str, list[str]] = PREFIXES, fence: str = "JP") -> Path:
    """Store a generation, make it the active one, and give its directory."""
    found = Store(state, Disk())
    staged = found.stage(
        fence, lists(prefixes), countries=["JP"], source="plain", origins=(), now=now()
    )
    found.promote(fence, staged.number)
    return state / fence / str(staged.number)


def enable(state: Path, variant: str = "nft", fence: Fence = JP) -> None:
    """Record that a fence is enabled; that stores the trusted addresses too."""
    if not (state / "trusted").exists():
        trust(state, {})
    tables = [Iptables(family, Variant(variant)) for family in Family]
    goals = rules.wanted(fence, tables, trusting=True)
    record = enabled.record_of(fence, goals, now())
    enabled.store(enabled.files(record, goals), fence.name, state, Disk())


def trust(state: Path, until: Mapping[str, datetime.timedelta | None]) -> None:
    """Store trusted addresses, each with the time that it has left."""
    found: dict[Family, dict[Prefix, datetime.datetime | None]] = {family: {} for family in Family}
    for text, left in until.items():
        family, prefix = parse_prefix(text)
        found[family][prefix] = None if left is None else now() + left
    trustfiles.remember(found, state, Disk())


def sum_up(directory: Path) -> None:
    """Make the digests fit the files, as somebody would who changed one on purpose."""
    names = [line.split()[1] for line in (directory / "SHA256SUMS").read_text().splitlines()]
    (directory / "SHA256SUMS").write_text(
        "".join(
            f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n"
            for name in names
        )
    )


def bundle(state: Path, prefixes: Mapping[str, list[str]] = OLDER) -> None:
    """Store what serves when nothing sound is stored."""
    missing.write_snapshot("JP", lists(prefixes), state, Disk())


def held(fence: str = "JP") -> tuple[list[str], list[str]]:
    """Give what the kernel's sets of a fence hold."""
    inet, inet6 = (lab.saved_entries(f"geofence-{fence}-{family}") for family in Family)
    return inet, inet6


def of(prefixes: Mapping[str, list[str]]) -> tuple[list[str], list[str]]:
    return sorted(prefixes["inet"]), sorted(prefixes["inet6"])


def jumps(variant: str = "nft") -> list[str]:
    """Give the rules of INPUT, both families."""
    return [
        line
        for program in ("iptables", "ip6tables")
        for line in lab.run(f"{program}-{variant}", "-S", "INPUT").splitlines()
        if line.startswith("-A")
    ]


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nothing be written below a directory, not even by root."""
    lab.run("mount", "--bind", directory, directory)
    try:
        lab.run("mount", "-o", "remount,bind,ro", directory)
        yield
    finally:
        lab.run("umount", directory)
