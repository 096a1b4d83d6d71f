"""The addresses that always pass: those the owner configured, and passes for a time.

STATE/passes.json   every pass, with its end as a date
"""

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import codec
from geofence.disk import Disk, translated
from geofence.enforce import discard, refuse_foreign, swap_all
from geofence.errors import ConfigError, DiskError, KernelRefused
from geofence.kernel import Sets
from geofence.model import Address, Family, Prefix, staging_name, trusted_name
from geofence.ownership import require_trusted_owner
from geofence.prefixes import format_prefix, parse_prefix, parse_trusted, quote, range_of

MAX_SECONDS = 2_147_483  # of a timeout, ipset(8): 24 days, 20 hours
_NEVER = 0
_STAYS = "the trusted addresses stay as they were"
_TIME = re.compile(r"(\d{1,9})([smhdw]?)", re.ASCII)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A prefix that was let in by hand, from one date until another, or for good."""

    prefix: str
    since: datetime.datetime
    until: datetime.datetime | None = None

    def at(self, now: datetime.datetime) -> "Pass":
        """Give the pass as it is at a time; before its beginning the clock must have been set back.

        Then its end is as far away as it was at first, and no farther.
        """
        if self.until is None or now >= self.since:
            return self
        return dataclasses.replace(self, since=now, until=now + (self.until - self.since))


Trusted = Mapping[Family, Mapping[Prefix, datetime.datetime | None]]
"""The prefixes of each family, and until when; None: for good."""


def configured(entries: Sequence[str], directory: Path) -> Iterator[tuple[Family, Prefix]]:
    """Read the configuration's ``trusted``; ``@FILE`` is a file of prefixes, a line each.

    Raises ConfigError that names the file and the line.
    """
    for entry in entries:
        if not entry.startswith("@"):
            yield parse_trusted(entry)
            continue
        path = directory / entry[1:]
        try:
            require_trusted_owner(path)
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"trusted: {entry}: cannot be read: {error}",
                still=_STAYS,
                cure="mend the file, or take it out of the configuration",
            ) from error
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            try:
                if text:
                    yield parse_trusted(text)
            except ValueError as error:
                raise ConfigError(
                    f"trusted: {path}:{number}: {error}", still=_STAYS, cure="mend the line"
                ) from None


class Passes:
    """The passes of a state directory."""

    def __init__(self, state: Path, disk: Disk) -> None:
        self._path = state / "passes.json"
        self._disk = disk

    def read(self, now: datetime.datetime) -> tuple[Pass, ...]:
        """Give the passes that are still valid. Raises DiskError if the file is damaged."""
        try:
            found = codec.from_json(self._path.read_bytes(), tuple[Pass, ...])
            for one in found:
                parse_prefix(one.prefix)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise translated("read", self._path, error) from error
        except ValueError as error:
            raise DiskError(
                f"{self._path} is damaged: {error}", cure=f"mend it, or remove it: {self._path}"
            ) from error
        valid = (one.at(now) for one in found)
        return tuple(one for one in valid if one.until is None or one.until > now)

    def write(self, passes: Sequence[Pass]) -> None:
        """Store the passes."""
        self._disk.write(self._path, codec.to_json(tuple(passes)))


def together(prefixes: Iterable[tuple[Family, Prefix]], passes: Sequence[Pass]) -> Trusted:
    """Put what is configured and what was let in by hand together; for good wins."""
    found: dict[Family, dict[Prefix, datetime.datetime | None]] = {one: {} for one in Family}
    for one in passes:
        family, prefix = parse_prefix(one.prefix)
        found[family][prefix] = one.until
    for family, prefix in prefixes:
        found[family][prefix] = None
    return found


def apply(trusted: Trusted, sets: Sets, now: datetime.datetime) -> bool:
    """Let the kernel's trusted sets hold these; tell whether any prefix came or went.

    They are always loaded anew, for the time that is left of a pass cannot be compared. If one
    of the sets cannot be had, both are as they were.
    """
    wanted = {family: _valid(trusted[family], now) for family in trusted}
    before = {family: _held_as_far_as_readable(sets, family) for family in wanted}
    names = [trusted_name(family) for family in wanted]
    try:
        for family, prefixes in wanted.items():
            _stage(family, prefixes, sets, now)
        swap_all(names, sets)
    finally:
        discard(names, sets)  # one that cannot go does no harm, and goes the next time
    return any(before[family] != tuple(sorted(wanted[family])) for family in wanted)


def held(sets: Sets, family: Family) -> tuple[Prefix, ...]:
    """Read a trusted set back from the kernel; nothing if there is none that is ours."""
    name = trusted_name(family)
    header = sets.header(name)
    if header is None:
        return ()
    refuse_foreign(name, family, header, timed=True)
    return sets.read(name, family)


def trusts(sets: Sets, address: Address) -> bool:
    """Tell whether the kernel's trusted sets let an address pass."""
    return any(within((address[0], prefix), address) for prefix in held(sets, address[0]))


def within(prefix: tuple[Family, Prefix], address: Address) -> bool:
    """Tell whether an address is in a prefix."""
    first, last = range_of(*prefix)
    return address[0] is prefix[0] and first <= address[1] <= last


def left(until: datetime.datetime | None, now: datetime.datetime) -> int:
    """Give the seconds that are left of a pass, as a set's timeout; 0: for good."""
    if until is None:
        return _NEVER
    return min(MAX_SECONDS, max(1, int((until - now).total_seconds())))


def pass_of(text: str, seconds: int | None, now: datetime.datetime) -> Pass:
    """Make a pass of what somebody typed; None: for good. Raises ValueError that quotes it."""
    family, prefix = parse_trusted(text)
    until = None if seconds is None else now + datetime.timedelta(seconds=seconds)
    return Pass(prefix=format_prefix(family, prefix), since=now, until=until)


def seconds_of(text: str) -> int:
    """Read ``30m``, ``2h``, ``3d``, ``1w`` or a number of seconds. Raises ValueError."""
    match = _TIME.fullmatch(text)
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not seconds:
        raise ValueError(f"{quote(text)} is no time: 30m, 2h, 3d, 1w, or a number of seconds")
    if seconds > MAX_SECONDS:
        raise ValueError(f"{quote(text)} is longer than the kernel can count: at most 24 days")
    return seconds


def _valid(
    prefixes: Mapping[Prefix, datetime.datetime | None], now: datetime.datetime
) -> Mapping[Prefix, datetime.datetime | None]:
    return {prefix: until for prefix, until in prefixes.items() if until is None or until > now}


def _held_as_far_as_readable(sets: Sets, family: Family) -> tuple[Prefix, ...] | None:
    """Read a trusted set; None if it is absent, or holds what nobody of us put there."""
    name = trusted_name(family)
    header = sets.header(name)
    refuse_foreign(name, family, header, timed=True)
    if header is None:
        return None
    with contextlib.suppress(KernelRefused):
        return sets.read(name, family)
    return None


def _stage(
    family: Family,
    prefixes: Mapping[Prefix, datetime.datetime | None],
    sets: Sets,
    now: datetime.datetime,
) -> None:
    staging = staging_name(trusted_name(family))
    if sets.header(staging):
        sets.destroy(staging)
    sets.create(staging, family, len(prefixes), timed=True)
    sets.add(staging, family, tuple(prefixes), [left(until, now) for until in prefixes.values()])
