"""What tests run: geofence itself, and the kernel's own tools to look over its shoulder."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from geofence import cli

WHY_NO_KERNEL = pytest.StashKey[str]()

VARIANTS = ("nft", "legacy")
"""Both kinds of iptables, as their programs are named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run of geofence gave."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


class Geofence:
    """Runs geofence on one state directory."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = state
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Answer:
        """Run it in this process."""
        self._capsys.readouterr()
        status = cli.main(["--state-dir", str(self.state), *map(str, arguments)])
        captured = self._capsys.readouterr()
        return Answer(status, captured.out, captured.err)


def without_privileges(state: Path, *arguments: str | Path) -> Answer:
    """Run geofence in a process that has no capability at all, as an ordinary user's."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    command = [*drop, sys.executable, "-m", "geofence", "--state-dir", state, *arguments]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def run(*command: str | Path, stdin: str = "") -> str:
    """Run a program that has to succeed, and give its output."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def empty_kernel() -> None:
    """Take every rule and every set out of this (private) namespace."""
    empty_rules()
    run("ipset", "flush")  # a set of sets holds its members
    run("ipset", "destroy")


def empty_rules() -> None:
    """Take every rule out of this (private) namespace."""
    for variant in VARIANTS:
        for program in ("iptables", "ip6tables"):
            tables = [f"{program}-{variant}", "-w"]
            run(*tables, "-P", "INPUT", "ACCEPT")
            run(*tables, "-F")
            run(*tables, "-X")


def saved_entries(name: str) -> list[str]:
    """Give a set's entries as ``ipset save`` writes them, sorted as text."""
    lines = run("ipset", "save", name).splitlines()
    return sorted(line.split()[2] for line in lines if line.startswith("add "))


def set_names() -> list[str]:
    """Name the sets there are."""
    return sorted(run("ipset", "list", "-n").split())


def plain_list(path: Path, *prefixes: str) -> Path:
    """Write a list of prefixes."""
    path.write_text("".join(f"{prefix}\n" for prefix in prefixes))
    return path


@contextlib.contextmanager
def immutable(link: Path) -> Iterator[None]:
    """Let a symbolic link not be replaced: a directory that is not empty stands in its place."""
    target = link.readlink()
    link.unlink()
    (link / "in-the-way").mkdir(parents=True)
    try:
        yield
    finally:
        (link / "in-the-way").rmdir()
        link.rmdir()
        link.symlink_to(target)
