"""The scene of every fault: an old list in force, a new one on its way."""

import datetime
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from geofence.cache import Cache
from geofence.config import FetchLimits
from geofence.disk import Disk
from geofence.errors import GeofenceError
from geofence.kernel.ipset import KernelSets
from geofence.model import Family, Fence, Prefix, set_name
from geofence.progress import silent
from geofence.store import Store
from geofence.update import Outcome, Parts, Request, update
from tests import lab
from tests.fakes import Before

# Public addresses, so that the judge takes them; small, so that a fault costs milliseconds.
OLD = ("80.66.224.0/20", "82.117.0.0/19", "91.90.224.0/19", "2a02:e00::/32", "2a02:2f8::/32")
NEW = (*OLD[:2], "91.90.224.0/20", "194.1.160.0/19", OLD[3], "2a03:1480::/32")


Enforced = dict[Family, tuple[Prefix, ...]]


class Scene:
    """A state directory and sets, with doors between them and geofence that can be watched."""

    def __init__(self, directory: Path, sets: Any) -> None:
        self.directory = directory
        self.sets = sets
        self.old = lab.plain_list(directory / "old.txt", *OLD)
        self.new = lab.plain_list(directory / "new.txt", *NEW)
        self.state = directory / "state"

    def update(
        self,
        path: Path,
        *,
        watch_sets: Callable[[Any], Any] = lambda sets: sets,
        watch_disk: Callable[[Any], Any] = lambda disk: disk,
    ) -> Outcome:
        """Run an update of fence LI from a list, through doors that somebody may watch."""
        disk = watch_disk(Disk())
        fence = Fence(name="LI", countries=("LI",), source="plain", origins=(str(path),))
        parts = Parts(
            store=Store(self.state, disk),
            cache=Cache(self.state / "cache", disk),
            open_sets=lambda: nullcontext(watch_sets(self.sets)),
            fetch=FetchLimits(),
            peers=frozenset,
            now=lambda: datetime.datetime.now(datetime.UTC),
            progress=silent,
        )
        return update(Request(fence=fence, accept_change=True), parts)

    def live(self) -> Enforced:
        """Read what packets meet."""
        return {
            family: self.sets.read(set_name("LI", family), family)
            for family in Family
            if self.sets.header(set_name("LI", family))
        }

    def active(self) -> Enforced:
        """Read what a boot would enforce."""
        found = Store(self.state, Disk()).active("LI")
        assert found.generation
        assert not found.damaged
        return {family: found.generation.lists[family].prefixes for family in Family}

    def leftovers(self) -> list[str]:
        """Name what a run must not leave behind: staging sets, unfinished files."""
        sets = [
            f"{set_name('LI', family)}-next"
            for family in Family
            if self.sets.header(f"{set_name('LI', family)}-next")
        ]
        home = self.state / "LI"
        unfinished = [path.name for path in home.iterdir() if path.name.startswith(".tmp-")]
        staged = ["staged"] if (home / "staged").is_symlink() else []
        generations = {path.name for path in home.glob("[0-9]*")}
        known = {str(number) for number in Store(self.state, Disk()).numbers("LI")}
        return [*sets, *unfinished, *staged, *sorted(generations - known)]


@contextmanager
def real_sets():
    """Open the kernel's sets of this (private) namespace."""
    sets = KernelSets()
    try:
        yield sets
    finally:
        sets.close()


def refuse(error: GeofenceError, at: int, *, once: bool) -> Before:
    """Make a watcher that refuses the n-th call, or every call from then on."""

    def watcher(call: int, name: str, _arguments: tuple[object, ...]) -> None:
        if name in ("close", "header", "read") and not once:
            return  # whoever cannot write can still read
        if call == at or (call > at and not once):
            raise type(error)(error.what)

    return watcher
