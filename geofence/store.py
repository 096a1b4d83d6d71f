"""Generations on disk: a list that passed, under a number, and which of them is enforced.

JP/41/{inet,inet6}.ipset  snapshot.json  SHA256SUMS
JP/active -> 41           the one to enforce, replaced by rename
JP/staged -> 42           only while 42 is on its way to become the active one
JP/confirmed.json         when the publishers last confirmed the active list, and its dates
JP/held.json              lists that were rolled back, and are not taken again unasked
"""

import contextlib
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from geofence import codec, generation
from geofence.disk import Disk, translated
from geofence.errors import DiskError, GeofenceError, NoPermission
from geofence.model import Generation, Lists, Origin

_NUMBER = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_FENCE = re.compile(r"[A-Z][A-Z0-9-]{0,10}", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """When, and with which origins, an update last ended with this generation in force."""

    generation: int
    at: datetime.datetime
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Digests of the lists that were rolled back, and the newest of their generations."""

    generation: int
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A generation to enforce, and what is wrong with those that should have come before it."""

    generation: Generation | None
    damaged: tuple[str, ...] = ()


class Store:
    """The state directory. Every public method leaves it whole, whatever happens meanwhile."""

    def __init__(self, directory: Path, disk: Disk, keep: int = 8) -> None:
        self.directory = directory
        self._disk = disk
        self._keep = keep

    def prepare(self) -> Path:
        """Make the state directory, so that its locks can be taken, and give it."""
        self._disk.make_directory(self.directory)
        return self.directory

    def fences(self) -> tuple[str, ...]:
        """Name the fences of which there is a generation, also one that is staged."""
        names = self._names(self.directory)
        return tuple(name for name in names if _FENCE.fullmatch(name) and self._has_any(name))

    def _has_any(self, fence: str) -> bool:
        found = self._names(self.directory / fence)
        return any(_NUMBER.fullmatch(name) or name in ("active", "staged") for name in found)

    def numbers(self, fence: str) -> tuple[int, ...]:
        """Give the numbers of a fence's generations, oldest first, the staged one left out."""
        staged, active = self._pointed(fence, "staged"), self.active_number(fence)
        names = self._names(self.directory / fence)
        found = sorted(int(name) for name in names if _NUMBER.fullmatch(name))
        return tuple(number for number in found if number != staged or number == active)

    def _names(self, directory: Path) -> tuple[str, ...]:
        """Name what is in a directory; nothing, if it is not there."""
        try:
            return tuple(sorted(path.name for path in directory.iterdir()))
        except FileNotFoundError:
            return ()
        except NotADirectoryError:
            if directory != self.directory:
                return ()  # somebody's file beside our fences
            raise DiskError(f"{directory} is no directory", cure="look at --state-dir") from None
        except OSError as error:
            raise translated("read", directory, error) from error

    def active_number(self, fence: str) -> int | None:
        """Tell which generation is to be enforced, sound or not."""
        return self._pointed(fence, "active")

    def read(self, fence: str, number: int) -> Generation:
        """Read a generation. Raises DiskError unless every byte is as it was written."""
        directory = self.directory / fence / str(number)
        try:
            return generation.read(lambda name: (directory / name).read_bytes(), fence, number)
        except PermissionError as error:
            raise NoPermission(f"cannot read {directory}", cure="run geofence as root") from error
        except (OSError, ValueError) as error:
            if not directory.exists():
                raise DiskError(f"{fence}: there is no generation {number}") from error
            raise DiskError(f"generation {number} of {fence} is damaged: {error}") from error

    def active(self, fence: str) -> Found:
        """Read the generation to enforce: the active one, or the newest sound one before it.

        Where nothing says which one is active, the newest sound one.
        """
        number, numbers = self.active_number(fence), self.numbers(fence)
        damaged: list[str] = []
        if number is None:
            if not numbers:
                return Found(generation=None)
            damaged.append(f"the link {self.directory / fence / 'active'} leads to no generation")
            chosen = list(reversed(numbers))
        else:
            chosen = [number, *reversed([one for one in numbers if one < number])]
        for one in chosen:
            try:
                return Found(generation=self.read(fence, one), damaged=tuple(damaged))
            except DiskError as error:
                damaged.append(error.what)
        return Found(generation=None, damaged=tuple(damaged))

    def stage(
        self,
        fence: str,
        lists: Lists,
        *,
        countries: Sequence[str],
        source: str,
        origins: Sequence[Origin],
        now: datetime.datetime,
    ) -> Generation:
        """Write a generation that is not active yet; ``promote`` or ``discard`` is to follow."""
        home = self.directory / fence
        self._disk.make_directory(home)
        self.discard(fence)
        number = max([*self.numbers(fence), self.active_number(fence) or 0], default=0) + 1
        staged = Generation(
            number=number,
            countries=tuple(countries),
            source=source,
            created=now,
            origins=tuple(origins),
            lists=lists,
        )
        try:
            self._disk.point(home / "staged", str(number))
            unfinished = self._disk.temporary_directory(home)
            for name, content in generation.files(fence, staged).items():
                self._disk.write(unfinished / name, content)
            self._disk.adopt(unfinished, home / str(number))
        except BaseException:
            with contextlib.suppress(GeofenceError):  # else the next run removes it
                self.sweep(fence)
                self.discard(fence)
            raise
        return staged

    def staged(self, fence: str) -> Generation | None:
        """Read the generation that an interrupted run left staged, if it is whole."""
        number = self._pointed(fence, "staged")
        if number is None:
            return None
        try:
            return self.read(fence, number)
        except DiskError:
            return None

    def promote(self, fence: str, number: int) -> None:
        """Make a generation the one to enforce, from now on and at every boot.

        What there is to tidy up afterwards can wait for the next run.
        """
        home = self.directory / fence
        self._disk.point(home / "active", str(number))
        with contextlib.suppress(DiskError, NoPermission):
            self._disk.remove(home / "staged")
            self._prune(fence, number)

    def discard(self, fence: str) -> None:
        """Remove a generation that was staged and did not become active."""
        home = self.directory / fence
        number = self._pointed(fence, "staged")
        if number is not None and number != self.active_number(fence):
            self._disk.remove(home / str(number))
        self._disk.remove(home / "staged")

    def sweep(self, fence: str) -> None:
        """Remove what a killed run left unfinished."""
        home = self.directory / fence
        if home.is_dir():
            self._disk.sweep(home)

    def confirmed(self, fence: str) -> Confirmed | None:
        """Tell when the active generation was last confirmed by an update."""
        found = self._note(fence, "confirmed.json", Confirmed)
        return found if found and found.generation == self.active_number(fence) else None

    def confirm(self, fence: str, confirmed: Confirmed) -> None:
        """Note that an update ended with this generation in force."""
        self._disk.write(self.directory / fence / "confirmed.json", codec.to_json(confirmed))

    def held(self, fence: str) -> Held | None:
        """Tell which lists were rolled back."""
        return self._note(fence, "held.json", Held)

    def hold(self, fence: str, held: Held | None) -> None:
        """Remember lists that were rolled back; None: forget them."""
        path = self.directory / fence / "held.json"
        if held:
            self._disk.write(path, codec.to_json(held))
        else:
            self._disk.remove(path)

    def _note(self, fence: str, name: str, kind: type[T]) -> T | None:
        """Read a small file that nothing depends on; a damaged one is none."""
        try:
            return codec.from_json((self.directory / fence / name).read_bytes(), kind)
        except (OSError, ValueError):
            return None

    def _pointed(self, fence: str, link: str) -> int | None:
        try:
            target = str((self.directory / fence / link).readlink())
        except PermissionError as error:
            raise NoPermission(
                f"cannot read {self.directory / fence}", cure="run geofence as root"
            ) from error
        except OSError:
            return None
        return int(target) if _NUMBER.fullmatch(target) else None

    def _prune(self, fence: str, active: int) -> None:
        """Keep the newest generations and the active one."""
        surplus = self.numbers(fence)[: -self._keep]
        for number in surplus:
            if number != active:
                self._disk.remove(self.directory / fence / str(number))
