"""What every verb is told: its options, the configuration, where things are, how to speak."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from geofence import codec, config, missing, report
from geofence.disk import Disk
from geofence.errors import ConfigError, GeofenceError, UsageError
from geofence.force import Host, fallback_fence
from geofence.peers import ssh_peers
from geofence.store import Store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from geofence.config import Config
    from geofence.kernel import Sets
    from geofence.letin import Door
    from geofence.model import Family, Fence, Prefix
    from geofence.output import Output
    from geofence.switch import Firewall
    from geofence.trusted import Trusted

_STATE = Path("/var/lib/geofence")
_CACHE = Path("/var/cache/geofence")


class Context:
    """One run of geofence."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self.options = options
        self.output = output
        self.disk = Disk()
        self.state_dir, self.cache_dir = _directories(options.state_dir)

    @functools.cached_property
    def config(self) -> Config:
        """Read the configuration when it is first asked for: not every verb depends on it."""
        return config.load(self.options.config)

    def without_broken_config(self) -> str:
        """Go on without a configuration that cannot be read, and tell what is wrong with it."""
        try:
            self.config  # noqa: B018, for what it raises
        except ConfigError as error:
            self.config = config.Config()
            return error.what
        return ""

    @functools.cached_property
    def store(self) -> Store:
        """Give the state directory's generations."""
        return Store(self.state_dir, self.disk, self.config.store.keep_generations)

    def now(self) -> datetime.datetime:
        """Tell the time, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def host(self) -> Host:
        """Assemble the real parts that need no network."""
        return Host(store=self.store, open_sets=open_sets, peers=ssh_peers, now=self.now)

    def firewall(self) -> Firewall:
        """Assemble the real parts that switch rules."""
        from geofence.switch import Firewall

        return Firewall(
            store=self.store,
            open_sets=open_sets,
            peers=ssh_peers,
            now=self.now,
            disk=self.disk,
            trusted=self.trusted,
        )

    def trusted(self) -> Trusted:
        """Give the addresses that always pass: configured, and let in by hand."""
        from geofence import trusted

        passes = trusted.Passes(self.state_dir, self.disk).read(self.now())
        return trusted.together(self.configured(), passes)

    def door(self) -> Door:
        """Assemble the real parts that let addresses in."""
        from geofence.letin import Door

        return Door(
            store=self.store,
            open_sets=open_sets,
            peers=ssh_peers,
            now=self.now,
            disk=self.disk,
            configured=lambda: tuple(self.configured()),
        )

    def configured(self) -> Iterator[tuple[Family, Prefix]]:
        """Give the addresses that always pass by the configuration."""
        from geofence import trusted

        directory = (self.config.path or config.DEFAULT_PATH).parent
        return trusted.configured(self.config.trusted, directory)

    def fences(self) -> tuple[Fence, ...]:
        """Give the fences that a verb is about: --fence, else the configured and the stored."""
        known = {fence.name: fence for fence in self.all_fences()}
        if self.options.fence is None:
            return tuple(known.values())
        if self.options.fence not in known:
            raise UsageError(
                f"there is no fence {self.options.fence}",
                cure=f"known: {', '.join(known)}" if known else "none is configured or stored",
            )
        return (known[self.options.fence],)

    def all_fences(self) -> tuple[Fence, ...]:
        """Give every fence, configured or stored."""
        known = {fence.name: fence for fence in self.config.fences}
        for name in self.store.fences():
            known.setdefault(name, self.unconfigured(name))
        return tuple(known.values())

    def unconfigured(self, name: str) -> Fence:
        """Make a fence that no configuration describes, of its name and of what is stored."""
        stored = missing.on_missing(name, self.state_dir) if self.config.path is None else None
        fence = fallback_fence(name)
        return dataclasses.replace(fence, on_missing=stored or self.config.on_missing)

    def some_fences(self) -> tuple[Fence, ...]:
        """Give the fences that a verb is about, at least one."""
        if fences := self.fences():
            return fences
        raise UsageError(
            f"no fence is configured, and none is stored in {self.state_dir}",
            cure="start with: geofence update --country CC",
        )

    def one_fence(self) -> Fence:
        """Give the one fence that a verb is about."""
        fences = self.some_fences()
        if len(fences) > 1:
            names = ", ".join(fence.name for fence in fences)
            raise UsageError(f"there are several fences: {names}", cure="choose one: --fence NAME")
        return fences[0]

    def say(self, lines: Iterable[str]) -> None:
        """Print a result for people; nothing with -q or --json."""
        if not (self.options.quiet or self.options.json):
            self.output.out("".join(f"{line}\n" for line in lines))

    def warn(self, fence: str, warnings: Iterable[str]) -> None:
        """Print warnings on standard error; nothing with -q."""
        if not self.options.quiet:
            for line in report.warnings_text(fence, warnings):
                self.output.err(f"{line}\n")

    def complain(self, error: GeofenceError, fence: str = "") -> None:
        """Print an error on standard error, whatever the options."""
        self.output.err(f"{report.error_text(error, fence)}\n")

    def document(self, document: report.Document) -> None:
        """Print the one document of --json."""
        if self.options.json:
            self.output.out(codec.to_json(document).decode())


@contextlib.contextmanager
def open_sets() -> Iterator[Sets]:
    """Open the kernel's sets of this network namespace."""
    from geofence.kernel.ipset import KernelSets

    sets = KernelSets()
    try:
        yield sets
    finally:
        sets.close()


def _directories(named: Path | None) -> tuple[Path, Path]:
    """Find state and cache: --state-dir, else what systemd says, else the contract's."""
    if named:
        return named, named / "cache"
    # systemd gives several directories separated by colons, systemd.exec(5): the first is ours
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    cache = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    return Path(state) if state else _STATE, Path(cache) if cache else _CACHE
