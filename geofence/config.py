"""Read geofence.toml into a Config, whole or not at all."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from geofence import codec, sources
from geofence.errors import ConfigError, UsageError
from geofence.model import Family, Fence, Forward, Limits, OnMissing, Private, Style
from geofence.ownership import require_trusted_owner
from geofence.prefixes import parse_address, parse_trusted
from geofence.tomlkeys import choices, line_of, refuse_unknown_keys

DEFAULT_PATH = Path("/etc/geofence/geofence.toml")
_CURE = "nothing was changed; mend the file and run again"
_FENCE_NAME = re.compile(r"[A-Z][A-Z0-9-]{0,10}", re.ASCII)  # set names end at 31 bytes
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,27}", re.ASCII)  # iptables(8)
_NO_TARGETS = {
    "DROP", "REJECT", "RETURN", "LOG", "QUEUE", "NFQUEUE", "INPUT", "FORWARD", "OUTPUT",
    "PREROUTING", "POSTROUTING",
}  # fmt: skip
_OWN_CHAIN = re.compile(r"ALLOW-[A-Z][A-Z0-9-]*-INPUT", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\+?", re.ASCII)  # + at the end: any that begin so
_ALIASES = {"UK": "GB"}  # the registries write GB, ISO 3166-1

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """``[fetch]``: what a download may cost. Each unit is in the key's name."""

    connect_timeout_seconds: float = 10.0  # of one attempt
    read_timeout_seconds: float = 30.0  # without a single byte
    reach_seconds: float = 15.0  # to find any way to the host: name service and route
    deadline_seconds: float = 600.0  # of all downloads together, retries included
    attempts: int = 4
    retry_pause_seconds: float = 1.0  # before the second attempt; then twice that, and so on
    max_wire_bytes: int = 64 * 2**20  # of one file; the largest real one has 18 MB
    max_decoded_bytes: int = 256 * 2**20
    max_lines: int = 2_000_000
    max_line_bytes: int = 1024
    checksum_pause_seconds: float = 60.0  # a publisher's .md5 can be behind its file
    max_cache_age_days: float = 35.0  # of a registry's file that serves while it is down
    ca_file: str = ""  # certificate authorities; none: the system's of Python requests
    proxy: str = ""  # http://host:port; the environment's proxies are not used


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """``[store]``: what is kept."""

    keep_generations: int = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _FenceTable:
    countries: list[str]
    source: str = "rir"
    origins: list[str] = dataclasses.field(default_factory=list)
    families: list[Family] = dataclasses.field(default_factory=list)
    must_allow: list[str] = dataclasses.field(default_factory=list)
    must_not_allow: list[str] = dataclasses.field(default_factory=list)
    style: Style = Style.GATE
    target: str = ""
    position: int = 1
    private: Private = Private.RETURN
    forward: Forward = Forward.NONE
    outside: list[str] = dataclasses.field(default_factory=list)
    on_missing: OnMissing | None = None  # none: as the whole file says
    judge: Limits | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    trusted: list[str] = dataclasses.field(default_factory=list)
    on_missing: OnMissing = OnMissing.BUNDLED
    fence: dict[str, _FenceTable] = dataclasses.field(default_factory=dict)
    judge: Limits = Limits()
    fetch: FetchLimits = FetchLimits()
    store: StoreLimits = StoreLimits()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the file says, with every default filled in."""

    path: Path | None = None  # none: there is no file
    fences: tuple[Fence, ...] = ()
    trusted: tuple[str, ...] = ()  # prefixes, addresses, and @FILE for a file of them
    on_missing: OnMissing = OnMissing.BUNDLED
    limits: Limits = Limits()
    fetch: FetchLimits = FetchLimits()
    store: StoreLimits = StoreLimits()


def load(path: Path | None) -> Config:
    """Read a configuration file; without one named, the default file if there is one."""
    chosen = path or DEFAULT_PATH
    try:
        require_trusted_owner(chosen)
        text = chosen.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path is None:
            return Config()
        raise ConfigError(f"{path}: no such file", cure="check --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{chosen}: cannot be read: {error}", cure=_CURE) from error
    return parse(text, chosen)


def parse(text: str, path: Path) -> Config:
    """Read the text of a configuration file. Raises ConfigError that names line and key."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}", cure=_CURE) from error
    try:
        refuse_unknown_keys(tables, _File, "")
        file = _file(tables)
        _require_positive(file)
        _require_proxy(file)
        _require_trusted(file)
        fences = tuple(_fence(name, table, file, tables) for name, table in file.fence.items())
    except ValueError as error:
        raise ConfigError(f"{path}{line_of(text, str(error))}: {error}", cure=_CURE) from error
    return Config(
        path=path,
        fences=fences,
        trusted=tuple(file.trusted),
        on_missing=file.on_missing,
        limits=file.judge,
        fetch=file.fetch,
        store=file.store,
    )


def fence_of_countries(codes: list[str], config: Config) -> Fence:
    """Give the one fence of the union of the countries that a command line names.

    If the configuration has a fence of that name, it is that one, with its own limits.
    """
    try:
        countries = normal_countries(codes)
    except ValueError as error:
        raise UsageError(f"--country: {error}") from error
    name = "-".join(countries)
    if not _FENCE_NAME.fullmatch(name):
        raise UsageError(
            f"--country: the name {name} is longer than 11 characters",
            cure=f"give the fence a name in {config.path or DEFAULT_PATH}:"
            f" [fence.NAME] countries = {list(countries)}",
        )
    for fence in config.fences:
        if fence.name == name:
            if fence.countries != countries:
                raise ConfigError(
                    f"{config.path}: fence {name} holds {' '.join(fence.countries)},"
                    f" and --country asks for {' '.join(countries)}",
                    cure="run geofence update without --country, or rename the fence",
                )
            return fence
    return Fence(name=name, countries=countries, limits=config.limits)


def normal_countries(codes: list[str]) -> tuple[str, ...]:
    """Sort country codes, each once, in upper case, UK as GB. Raises ValueError."""
    countries = set()
    for code in codes:
        if not _COUNTRY.fullmatch(code):
            raise ValueError(f"{code!r} is no country code of two letters (ISO 3166-1 alpha-2)")
        countries.add(_ALIASES.get(code.upper(), code.upper()))
    return tuple(sorted(countries))


def _file(tables: Mapping[str, Any]) -> _File:
    """Read all tables. Raises ValueError that begins with the place, ``fence.JP.countries``."""
    fences = tables.get("fence", {})
    for name, table in fences.items() if isinstance(fences, dict) else ():
        _convert(table, _FenceTable, f"fence.{name}")  # msgspec would not tell which of them
    return _convert(tables, _File, "")


def _convert(table: Any, kind: type[T], where: str) -> T:
    try:
        return codec.convert(table, kind)
    except ValueError as error:
        what, _, place = str(error).partition(" - at `$")
        if what.startswith("Invalid enum value"):
            what += f"; known: {', '.join(choices(kind, place))}"
        path = f"{where}{place.removesuffix('`')}".removeprefix(".")
        raise ValueError(f"{path}: {what}") from None


def _fence(name: str, table: _FenceTable, file: _File, tables: Mapping[str, Any]) -> Fence:
    where = f"fence.{name}"
    if not _FENCE_NAME.fullmatch(name):
        raise ValueError(
            f"{where}: a fence's name is a capital letter and up to ten of A-Z, 0-9 and -"
        )
    if table.source not in sources.by_name():
        known = ", ".join(sources.by_name())
        raise ValueError(f"{where}.source: there is no source {table.source!r}; known: {known}")
    if table.source == "plain" and not table.origins:
        raise ValueError(f"{where}.origins: source plain has no address of its own: name one here")
    if not table.countries:
        raise ValueError(f"{where}.countries: empty")
    for key in ("must_allow", "must_not_allow"):
        for address in getattr(table, key):
            _named(f"{where}.{key}", parse_address, address)
    _require_rules(where, table)
    own = tables["fence"][name].get("judge", {})
    return Fence(
        name=name,
        countries=_named(f"{where}.countries", normal_countries, table.countries),
        source=table.source,
        origins=tuple(table.origins),
        families=tuple(dict.fromkeys(table.families)),
        must_allow=tuple(table.must_allow),
        must_not_allow=tuple(table.must_not_allow),
        limits=dataclasses.replace(file.judge, **own),
        style=table.style,
        target=table.target,
        position=table.position,
        private=table.private,
        forward=table.forward,
        outside=tuple(dict.fromkeys(table.outside)),
        on_missing=table.on_missing or file.on_missing,
    )


def _require_rules(where: str, table: _FenceTable) -> None:
    """Refuse what makes no chain, or one that would do another thing than it says."""
    gate = table.style is Style.GATE
    if gate and table.target:
        raise ValueError(f"{where}.target: only style allow has a target")
    if not gate and not _CHAIN.fullmatch(table.target):
        raise ValueError(
            f"{where}.target: style allow needs the name of the chain that its members go to,"
            f" and {table.target!r} is none"
        )
    if not gate and (table.target in _NO_TARGETS or _OWN_CHAIN.fullmatch(table.target)):
        raise ValueError(
            f"{where}.target: {table.target} cannot let members in: name a chain of yours that"
            " accepts, or ACCEPT"
        )
    if table.position < 1:
        raise ValueError(f"{where}.position: {table.position} is out of range; the first rule is 1")
    if table.forward and not gate:
        raise ValueError(f"{where}.forward: style allow drops nothing; forwarding needs a gate")
    if table.forward and not table.outside:
        raise ValueError(f'{where}.outside: name the outside interface, as in ["eth0"]')
    if table.outside and not table.forward:
        raise ValueError(f"{where}.outside: is about forwarded traffic, and forward is not set")
    for interface in table.outside:
        if not _INTERFACE.fullmatch(interface):
            raise ValueError(f"{where}.outside: {interface!r} is no name of an interface")


def _require_trusted(file: _File) -> None:
    for entry in file.trusted:
        if not entry.startswith("@"):
            _named("trusted", parse_trusted, entry)


def _named(where: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _require_proxy(file: _File) -> None:
    if file.fetch.proxy and not re.match(r"https?://[^/]", file.fetch.proxy):
        raise ValueError(f"fetch.proxy: {file.fetch.proxy!r} is not http://host:port")


def _require_positive(file: _File) -> None:
    """Refuse a limit that is negative, or zero where that would forbid everything."""
    tables: dict[str, Any] = {"judge": file.judge, "fetch": file.fetch, "store": file.store}
    tables |= {f"fence.{name}.judge": table.judge for name, table in file.fence.items()}
    may_be_zero = {"judge", *(name for name in tables if name.startswith("fence."))}
    for where, table in tables.items():
        for field in dataclasses.fields(table) if table else ():
            value = getattr(table, field.name)
            if isinstance(value, str):
                continue
            least = 0 if where in may_be_zero or field.name == "checksum_pause_seconds" else 1e-9
            if not least <= value < float("inf"):
                raise ValueError(f"{where}.{field.name}: {value} is out of range")
