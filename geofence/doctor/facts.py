"""Gather once what the findings are made of: the kernel, the state directory, the host's files."""

import contextlib
import datetime
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geofence import enabled, pending, ruletext, trusted
from geofence.chain import body
from geofence.doctor.anybody import native_drops
from geofence.doctor.bootstate import BootState, boot_state
from geofence.doctor.startup import Startup, startup
from geofence.enabled import Record
from geofence.enforce import Live, live
from geofence.errors import GeofenceError, KernelRefused
from geofence.force import OpenSets, fallback_fence
from geofence.kernel import Sets, iptables
from geofence.kernel.iptables import Iptables, Variant
from geofence.locks import WRITER
from geofence.model import Family, Fence, Prefix, set_name, staging_name, trusted_name
from geofence.pending import Pending
from geofence.prefixes import format_prefix
from geofence.programs import run
from geofence.ruletext import Table
from geofence.store import Found, Store

_GLOBAL_SCOPE = "00"  # of /proc/net/if_inet6
_UNIQUE_LOCAL = ("fc", "fd")  # RFC 4193: nobody outside can reach it
_RTF_REJECT = 0x200  # linux/ipv6_route.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All rules of one family and one variant."""

    name: str
    family: Family
    variant: Variant
    tables: Mapping[str, Table]

    @property
    def filter(self) -> Table:
        """The table that fences are in."""
        return self.tables["filter"]

    @property
    def in_use(self) -> bool:
        """Whether there is anything in it but empty chains that accept."""
        return any(table.in_use for table in self.tables.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What there is on a host."""

    complaints: tuple[GeofenceError, ...]  # of the configuration, and of what is stored
    fences: Mapping[str, Fence]  # configured, stored or enabled
    configured: frozenset[str]
    records: Mapping[str, Record]  # of the enabled ones
    stored: Mapping[str, Found]
    live: Mapping[str, Mapping[Family, Live]]
    staging: tuple[str, ...]
    distrusted: tuple[str, ...]  # prefixes that should be in the kernel's trusted sets
    trusting: bool
    families: tuple[Family, ...]  # that this kernel speaks
    rules: tuple[Held, ...]
    unreadable: tuple[GeofenceError, ...]  # rules that could not be looked at
    native_tables: tuple[tuple[str, str], ...]
    native_drops: tuple[tuple[str, str], ...]  # tables, and what in them
    outside: frozenset[str]  # interfaces with a default route
    reachable_by_ipv6: bool
    tracks_connections: bool
    foreign_namespace: bool
    writable: tuple[Path, ...]  # parts of the state that others than root may write
    waiting: Pending | None
    startup: Startup
    boot_state: BootState | None  # none: it cannot be read

    def expected(self, name: str) -> Fence:
        """Give an enabled fence as it was enabled."""
        return self.records[name].fence_as_enabled(self.fences[name])

    def bodies(self, name: str, family: Family) -> tuple[tuple[str, ...], ...]:
        """Give what the chain of an enabled fence may hold."""
        fence = self.expected(name)
        return tuple(body(fence, family, trusting=trusting) for trusting in (True, False))

    def of_family(self, family: Family) -> tuple[Held, ...]:
        """Give the rules of a family, of each variant."""
        return tuple(one for one in self.rules if one.family is family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The host to look at: the real parts, or a test's."""

    root: Path
    store: Store
    open_sets: OpenSets
    configured: Callable[[], Sequence[Fence]]
    trusted: Callable[[], trusted.Trusted]


def gather(patient: Patient) -> Facts:
    """Look at everything once. Raises NoPermission where even that is not permitted."""
    state = patient.store.directory
    complaints: list[GeofenceError] = []
    configured = _heard(patient.configured, (), complaints)
    meant = _heard(patient.trusted, None, complaints)
    wanted = meant or {}
    waiting = _heard(lambda: pending.in_hand(state), None, complaints)
    records = enabled.all_of(state)
    fences = {fence.name: fence for fence in configured}
    for name in (*patient.store.fences(), *records):
        fences.setdefault(name, fallback_fence(name))
    unreadable: list[GeofenceError] = []
    native = _heard(iptables.native_tables, (), unreadable)
    with patient.open_sets() as sets:
        return Facts(
            complaints=tuple(complaints),
            fences=fences,
            configured=frozenset(fence.name for fence in configured),
            records=records,
            stored={name: patient.store.active(name) for name in fences},
            live={name: {one: live(name, one, sets) for one in Family} for name in fences},
            staging=tuple(_staging(fences, sets, state)),
            distrusted=tuple(_distrusted(wanted, sets)),
            trusting=any(wanted.values()),
            families=iptables.families(),
            rules=tuple(_rules(unreadable)),
            unreadable=tuple(unreadable),
            native_tables=native,
            native_drops=_heard(lambda: _native_drops(native), (), unreadable),
            outside=frozenset(_outside(patient.root)),
            reachable_by_ipv6=_reachable_by_ipv6(patient.root),
            tracks_connections=(patient.root / "proc/sys/net/netfilter/nf_conntrack_max").exists(),
            foreign_namespace=_foreign_namespace(patient.root),
            writable=tuple(_writable(state)),
            waiting=waiting,
            startup=startup(patient.root, state, tuple(records)),
            boot_state=_heard(
                lambda: boot_state(state, tuple(fences), meant, _now()), None, complaints
            ),
        )


def _heard(act: Callable[[], Any], otherwise: Any, complaints: list[GeofenceError]) -> Any:
    """Do what may find something wrong; that is a finding then, and no end of the examination."""
    try:
        return act()
    except GeofenceError as error:
        if not any(str(error) == str(one) for one in complaints):
            complaints.append(error)
        return otherwise


def _rules(unreadable: list[GeofenceError]) -> Iterator[Held]:
    for one in _heard(iptables.everywhere, (), unreadable):
        text = _heard(one.save_all, None, unreadable)
        if text is not None:
            yield _held(one, text)


def _held(one: Iptables, text: str) -> Held:
    return Held(
        name=str(one),
        family=one.family,
        variant=one.variant,
        tables={name: ruletext.read(text, name) for name in iptables.TABLES},
    )


def _native_drops(native: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    if not native:
        return ()
    done = run(["nft", "-j", "-t", "list", "ruleset"])
    if done.returncode:
        done = run(["nft", "-j", "list", "ruleset"])  # before 0.9.1 there is no --terse
    try:
        return tuple(native_drops(json.loads(done.stdout)["nftables"], native))
    except (ValueError, KeyError) as error:
        raise KernelRefused(
            f"cannot read the nft rules as JSON: {done.stderr.strip() or error}",
            cure="look yourself whether one of these drops: nft list ruleset",
        ) from error


def _staging(fences: Mapping[str, Fence], sets: Sets, state: Path) -> Iterator[str]:
    """Name the staging sets that are there although nobody is filling them."""
    names = [set_name(fence, family) for fence in fences for family in Family]
    names += [trusted_name(family) for family in Family]
    found = [staging_name(name) for name in names if sets.header(staging_name(name))]
    if found and _idle(state / WRITER):
        yield from (name for name in found if sets.header(name))


def _idle(lock: Path) -> bool:
    """Tell whether nobody writes at this moment."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _distrusted(wanted: trusted.Trusted, sets: Sets) -> Iterator[str]:
    """Give who should be trusted, and is not by the kernel."""
    for family, prefixes in wanted.items():
        held: tuple[Prefix, ...] = ()
        with contextlib.suppress(GeofenceError):
            held = trusted.held(sets, family)
        yield from (format_prefix(family, prefix) for prefix in prefixes if prefix not in held)


def _outside(root: Path) -> Iterator[str]:
    """Name the interfaces that a default route leads to, proc(5)."""
    for line in text_of(root / "proc/net/route").splitlines()[1:]:
        interface, destination, *_, mask, _, _, _ = line.split()
        if int(destination, 16) == int(mask, 16) == 0:
            yield interface
    for line in text_of(root / "proc/net/ipv6_route").splitlines():
        destination, length, *_, flags, interface = line.split()
        if int(destination, 16) == int(length, 16) == 0 and not int(flags, 16) & _RTF_REJECT:
            yield interface


def _reachable_by_ipv6(root: Path) -> bool:
    """Tell whether the host has an address that others can reach by IPv6."""
    rows = [line.split() for line in text_of(root / "proc/net/if_inet6").splitlines()]
    return any(
        scope == _GLOBAL_SCOPE and not address.startswith(_UNIQUE_LOCAL)
        for address, _, _, scope, *_ in rows
    )


def _foreign_namespace(root: Path) -> bool:
    """Tell whether this is another network than that of the host's first process."""
    try:
        ours = (root / "proc/self/ns/net").readlink()
        return ours != (root / "proc/1/ns/net").readlink()
    except OSError:
        return False


def _writable(state: Path) -> Iterator[Path]:
    """Give the directories and files of the state that others could write."""
    for path in (state, *state.glob("*"), *state.glob("*/*"), *state.glob("*/*/*")):
        with contextlib.suppress(OSError):
            about = path.lstat()
            loose = about.st_mode & (stat.S_IWGRP if about.st_gid not in (0, os.getegid()) else 0)
            loose |= about.st_mode & stat.S_IWOTH
            foreign = about.st_uid not in (0, os.geteuid())
            if foreign or (loose and not path.is_symlink()):
                yield path


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def text_of(path: Path) -> str:
    """Read a file of the host; nothing if it is not there, or not to be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
