"""The nouns: frozen values that every other module speaks of; no I/O, no clock."""

import dataclasses
import datetime
import enum
import socket
from collections.abc import Mapping
from typing import NamedTuple


class Family(enum.StrEnum):
    """An address family, by the name that ipset(8) gives it."""

    INET = "inet"
    INET6 = "inet6"

    @property
    def bits(self) -> int:
        """Bits of an address."""
        return 32 if self is Family.INET else 128

    @property
    def af(self) -> int:
        """The number of the family in socket(7)."""
        return socket.AF_INET if self is Family.INET else socket.AF_INET6

    @property
    def label(self) -> str:
        """The family as a person says it."""
        return "IPv4" if self is Family.INET else "IPv6"

    @property
    def unit(self) -> str:
        """What sizes are counted in: single addresses, or /64 networks (one LAN each, RFC 4291)."""
        return "addresses" if self is Family.INET else "/64s"

    def in_units(self, addresses: int) -> int:
        """Convert a number of addresses to the family's unit, rounded down."""
        return addresses if self is Family.INET else addresses >> 64


class Prefix(NamedTuple):
    """A network: its first address as an integer, and its length in bits."""

    address: int
    length: int


class Range(NamedTuple):
    """Addresses from ``first`` to ``last``, both included."""

    first: int
    last: int


@dataclasses.dataclass(frozen=True, slots=True)
class PrefixList:
    """One family's allowlist: sorted by address, disjoint, aggregated, without host bits."""

    family: Family
    prefixes: tuple[Prefix, ...]


Address = tuple[Family, int]
"""One address, as an integer."""

Lists = Mapping[Family, PrefixList]
"""What a fence allows: a list for each of its families."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the judge lets pass. Each is a key of ``[judge]``, its unit in its name."""

    max_removed_percent: float = 15.0  # of the active generation's addresses
    max_added_percent: float = 100.0  # of the active generation's addresses
    small_change_addresses: int = 4096  # IPv4; smaller changes are never refused for size
    small_change_slash64s: int = 2**32  # IPv6, in /64s: less than one /32, the usual allocation
    max_bogon_percent: float = 1.0  # of the list's addresses; below it they are stripped
    max_share_inet_percent: float = 45.0  # of all IPv4, for any one country; US has 37.4
    max_share_inet6_percent: float = 5.0  # of 2000::/3, for any one country; US has 0.03
    min_snapshot_covered_percent: float = 50.0  # of the bundled snapshot, for a first list
    max_snapshot_percent: float = 200.0  # of the bundled snapshot's size, for a first list
    max_backdate_days: int = 3  # registries' servers are not in step


class Style(enum.StrEnum):
    """What the chain of a fence does: narrow what the host lets in, or let in what it drops."""

    GATE = "gate"
    ALLOW = "allow"


class Private(enum.StrEnum):
    """What a gate does with private, unique local and link-local sources (RFC 1918, 4193, 4291)."""

    RETURN = "return"
    JUDGE = "judge"


class Forward(enum.StrEnum):
    """Where forwarded traffic meets the fence, if at all."""

    NONE = ""
    FORWARD = "FORWARD"
    DOCKER_USER = "DOCKER-USER"


class OnMissing(enum.StrEnum):
    """What serves at boot when nothing sound is stored of a fence."""

    BUNDLED = "bundled"
    TRUSTED_ONLY = "trusted-only"
    OPEN = "open"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A name, the countries it lets in, and where their list comes from."""

    name: str
    countries: tuple[str, ...]
    source: str = "rir"
    origins: tuple[str, ...] = ()  # files or URLs instead of the source's own
    families: tuple[Family, ...] = ()  # those it is restricted to; none: both
    must_allow: tuple[str, ...] = ()
    must_not_allow: tuple[str, ...] = ()
    limits: Limits = Limits()
    style: Style = Style.GATE
    target: str = ""  # of style allow: where the fence's members go
    position: int = 1  # of the jump in INPUT, from 1
    private: Private = Private.RETURN
    forward: Forward = Forward.NONE
    outside: tuple[str, ...] = ()  # interfaces by which forwarded traffic comes in
    on_missing: OnMissing = OnMissing.BUNDLED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a list came from: its publisher, its address, and the date that stands inside it.

    ``families`` are those that the list is in force for; a fence may have each from elsewhere.
    """

    publisher: str
    location: str
    date: datetime.date | None = None
    sha256: str = ""
    families: tuple[Family, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a source says of the countries that were asked for, parsed but not aggregated.

    ``ranges`` holds, for every family the source brings, the ranges of each country; a list
    that does not tell countries apart has them all under ``""``.
    """

    source: str
    ranges: Mapping[Family, Mapping[str, list[Range]]]
    origins: tuple[Origin, ...]
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A list that passed the judge, stored under a number."""

    number: int
    countries: tuple[str, ...]
    source: str
    created: datetime.datetime
    origins: tuple[Origin, ...]
    lists: Lists


def staging_name(set_name: str) -> str:
    """Name the set that is filled beside the live one."""
    return f"{set_name}-next"


def set_name(fence: str, family: Family) -> str:
    """Name the kernel set of a fence; at most 31 bytes with ``-next``, ipset(8)."""
    return f"geofence-{fence}-{family}"


def trusted_name(family: Family) -> str:
    """Name the kernel set of the addresses that always pass."""
    return f"geofence-trusted-{family}"


def chain_name(fence: str) -> str:
    """Name the chain of a fence; at most 28 bytes, iptables(8)."""
    return f"ALLOW-{fence}-INPUT"
