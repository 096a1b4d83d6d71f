"""The addresses that always pass: those the owner configured, and passes for a time.

STATE/passes.json              every pass, with its end as a date
STATE/trusted/FAMILY.ipset     what the sh hook loads at boot: the configured prefixes
STATE/trusted/FAMILY.passes    and the passes, a line each: PREFIX, and its end in epoch seconds
STATE/trusted/SHA256SUMS
"""

import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import codec, ipsetfile
from geofence.disk import Disk, translated
from geofence.enforce import refuse_foreign
from geofence.errors import ConfigError, DiskError
from geofence.kernel import Sets
from geofence.model import Family, Prefix, staging_name, trusted_name
from geofence.prefixes import format_prefix, parse_prefix, parse_trusted

MAX_SECONDS = 2_147_483  # of a timeout, ipset(8): 24 days, 20 hours
_NEVER = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A prefix that was let in by hand, until a date or for good."""

    prefix: str
    until: datetime.datetime | None = None


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
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"trusted: {entry}: {error}", cure="the trusted addresses stay as they were"
            ) from error
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            try:
                if text:
                    yield parse_trusted(text)
            except ValueError as error:
                raise ConfigError(
                    f"trusted: {path}:{number}: {error}",
                    cure="the trusted addresses stay as they were; mend the line",
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
        return tuple(one for one in found if one.until is None or one.until > now)

    def write(self, passes: Sequence[Pass]) -> None:
        """Store the passes."""
        self._disk.write(self._path, codec.to_json(tuple(passes)))


def together(prefixes: Iterator[tuple[Family, Prefix]], passes: Sequence[Pass]) -> Trusted:
    """Put what is configured and what was let in by hand together; for good wins."""
    found: dict[Family, dict[Prefix, datetime.datetime | None]] = {one: {} for one in Family}
    for one in passes:
        family, prefix = parse_prefix(one.prefix)
        found[family][prefix] = one.until
    for family, prefix in prefixes:
        found[family][prefix] = None
    return found


def apply(trusted: Trusted, sets: Sets, now: datetime.datetime) -> bool:
    """Let the kernel's trusted sets hold these, in one step each; tell whether any changed."""
    changed = [_apply(family, trusted[family], sets, now) for family in trusted]
    return any(changed)


def remember(trusted: Trusted, state: Path, disk: Disk) -> None:
    """Store the trusted addresses for the sh hook, which cannot read a configuration."""
    files = {
        name: content
        for family, prefixes in sorted(trusted.items())
        for name, content in _files(family, prefixes).items()
    }
    sums = "".join(f"{hashlib.sha256(one).hexdigest()}  {name}\n" for name, one in files.items())
    files["SHA256SUMS"] = sums.encode()
    home = state / "trusted"
    if all(_content(home / name) == content for name, content in files.items()):
        return
    disk.make_directory(home)
    disk.sweep(home)
    for name, content in files.items():
        disk.write(home / name, content)


def remembered(state: Path) -> Trusted:
    """Read back what was stored for the hook; nothing of a family whose files are damaged."""
    found: dict[Family, dict[Prefix, datetime.datetime | None]] = {}
    for family in Family:
        found[family] = {}
        for line in _lines(state / "trusted" / f"{family}.ipset"):
            words = line.split()
            if words[:1] == ["add"]:
                _, prefix = parse_prefix(words[2])
                found[family][prefix] = None
        for line in _lines(state / "trusted" / f"{family}.passes"):
            text, until = line.split()
            _, prefix = parse_prefix(text)
            found[family][prefix] = datetime.datetime.fromtimestamp(int(until), datetime.UTC)
    return found


def held(sets: Sets, family: Family) -> tuple[Prefix, ...]:
    """Read a trusted set back from the kernel; nothing if there is none that is ours."""
    name = trusted_name(family)
    header = sets.header(name)
    if header is None:
        return ()
    refuse_foreign(name, family, header, timed=True)
    return sets.read(name, family)


def left(until: datetime.datetime | None, now: datetime.datetime) -> int:
    """Give the seconds that are left of a pass, as a set's timeout; 0: for good."""
    if until is None:
        return _NEVER
    return min(MAX_SECONDS, max(1, int((until - now).total_seconds())))


def pass_of(text: str, until: datetime.datetime | None) -> Pass:
    """Make a pass of what somebody typed. Raises ValueError that quotes it."""
    family, prefix = parse_trusted(text)
    return Pass(prefix=format_prefix(family, prefix), until=until)


def _apply(
    family: Family,
    wanted: Mapping[Prefix, datetime.datetime | None],
    sets: Sets,
    now: datetime.datetime,
) -> bool:
    name, prefixes = trusted_name(family), tuple(sorted(wanted))
    staging = staging_name(name)
    before = sets.header(name)
    refuse_foreign(name, family, before, timed=True)
    same = before is not None and sets.read(name, family) == prefixes
    if same and not any(wanted.values()):
        return False
    if sets.header(staging):
        sets.destroy(staging)
    sets.create(staging, family, len(prefixes), timed=True)
    try:
        sets.add(staging, family, prefixes, [left(wanted[prefix], now) for prefix in prefixes])
        if before:
            sets.swap(name, staging)
        else:
            sets.rename(staging, name)
    finally:
        if sets.header(staging):
            sets.destroy(staging)
    return not same


def _files(family: Family, prefixes: Mapping[Prefix, datetime.datetime | None]) -> dict[str, bytes]:
    name = trusted_name(family)
    sizes = (
        f"hashsize {ipsetfile.hashsize(len(prefixes))} maxelem {ipsetfile.maxelem(len(prefixes))}"
    )
    lines = [f"create {name} hash:net family {family} {sizes} timeout 0"]
    ends = []
    for prefix, until in sorted(prefixes.items()):
        if until is None:
            lines.append(f"add {name} {format_prefix(family, prefix)}")
        else:
            ends.append(f"{format_prefix(family, prefix)} {int(until.timestamp())}\n")
    return {
        f"{family}.ipset": ("\n".join(lines) + "\n").encode(),
        f"{family}.passes": "".join(ends).encode(),
    }


def _lines(path: Path) -> list[str]:
    content = _content(path)
    sums = _content(path.with_name("SHA256SUMS")) or b""
    if content is None or f"{hashlib.sha256(content).hexdigest()}  {path.name}" not in sums.decode(
        "ascii", "replace"
    ):
        return []
    return content.decode("ascii").splitlines()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
