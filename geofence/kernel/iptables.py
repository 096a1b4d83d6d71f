"""The host's rules, read and changed by iptables-save(8) and iptables-restore(8), and nft(8).

iptables comes in two variants that do not see each other's rules, and both may be at work.
"""

import contextlib
import enum
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from geofence import ruletext
from geofence.errors import Busy, GeofenceError, KernelRefused, NoPermission
from geofence.model import Family
from geofence.programs import Done, run, which

TABLES = ("raw", "mangle", "nat", "filter", "security")
_PREFIX = {Family.INET: "iptables", Family.INET6: "ip6tables"}
_LEGACY_NAMES = {
    Family.INET: Path("/proc/net/ip_tables_names"),
    Family.INET6: Path("/proc/net/ip6_tables_names"),
}
_IPV6 = Path("/proc/net/if_inet6")
_WAIT_SECONDS = 10  # for the lock /run/xtables.lock
_LOCKED = 4  # RESOURCE_PROBLEM of iptables: the lock is held


class Variant(enum.StrEnum):
    """Which part of the kernel holds the rules: nf_tables, or the older x_tables."""

    NFT = "nft"
    LEGACY = "legacy"


class Rules(Protocol):
    """The filter table of one family and one variant."""

    @property
    def family(self) -> Family:
        """Its address family."""

    @property
    def variant(self) -> Variant:
        """The part of the kernel that holds it."""

    def save(self) -> str:
        """Print the filter table as iptables-save does. Raises KernelRefused, NoPermission."""

    def restore(self, text: str) -> None:
        """Change the table in one transaction, or not at all. Raises Busy, KernelRefused."""


@dataclass(frozen=True, slots=True)
class Iptables:
    """One family's rules of one variant, by its programs."""

    family: Family
    variant: Variant

    def save(self) -> str:
        """Print the filter table as iptables-save does."""
        return self.save_table("filter")

    def save_table(self, table: str, *, counters: bool = False) -> str:
        """Print one table; nothing if the kernel has none of that name yet."""
        if self.variant is Variant.LEGACY and table not in self._legacy_tables():
            return ""  # looking at it would make it
        done = run([_program(self.family, self.variant, "save"), *(["-c"] * counters), "-t", table])
        if done.returncode:
            raise _refused(f"read the table {table} of {self}", done)
        return done.stdout

    def save_all(self, *, counters: bool = False) -> str:
        """Print every table that there is."""
        program = _program(self.family, self.variant, "save")
        done = run([program, *(["-c"] * counters)])
        if done.returncode:
            raise _refused(f"read the rules of {self}", done)
        return done.stdout

    def load(self, text: str) -> None:
        """Load whole tables, as a boot does, each in one transaction."""
        program = _program(self.family, self.variant, "restore")
        done = run([program, f"--wait={_WAIT_SECONDS}"], text)
        if done.returncode:
            raise _refused(f"load the rules of {self}", done, text)

    def restore(self, text: str) -> None:
        """Change the table in one transaction, or not at all."""
        program = _program(self.family, self.variant, "restore")
        # before 1.6.2 there is no --wait: written so, it is complained of and passed over
        done = run([program, "--noflush", f"--wait={_WAIT_SECONDS}"], text)
        if done.returncode == _LOCKED and "holding" in done.stderr:  # or it cannot be opened
            raise Busy(
                "another program holds the lock of iptables (/run/xtables.lock)",
                cure="try again when it has ended",
            )
        if done.returncode:
            raise _refused(f"change the rules of {self}", done, text)

    def _legacy_tables(self) -> Sequence[str]:
        try:
            return _LEGACY_NAMES[self.family].read_text().split()
        except OSError:
            return ()

    def __str__(self) -> str:
        return f"{_PREFIX[self.family]} ({self.variant})"


def has_ipv6() -> bool:
    """Tell whether the kernel speaks IPv6 at all; without it there are no rules for it."""
    return _IPV6.exists()


def families() -> tuple[Family, ...]:
    """Give the families that this kernel speaks."""
    return tuple(Family) if has_ipv6() else (Family.INET,)


def present(family: Family) -> tuple[Iptables, ...]:
    """Give the variants whose programs are installed, the one called iptables first."""
    default = _default(family)
    found = [variant for variant in Variant if _find(family, variant, "restore")]
    return tuple(Iptables(family, one) for one in sorted(found, key=lambda one: one is not default))


def everywhere() -> list[Iptables]:
    """Give every variant of every family that the kernel speaks.

    Raises KernelRefused where no program is there that could look at any.
    """
    found = [one for family in families() for one in present(family)]
    if not found:
        raise KernelRefused(
            "iptables-save and iptables-restore are not to be found",
            still="nothing was looked at, and nothing was changed",
            cure="install the package iptables, or mend PATH",
        )
    return found


def in_use(family: Family) -> tuple[Iptables, ...]:
    """Give the variants that hold rules of this family; the one called iptables first."""
    saved = {one: one.save_all() for one in present(family)}
    return tuple(
        one
        for one, text in saved.items()
        if any(ruletext.read(text, name).in_use for name in TABLES)
    )


def chosen(family: Family) -> Iptables:
    """Give the variant to write to: the one that holds rules, else the one called iptables."""
    found = in_use(family) or present(family)
    if not found:
        raise KernelRefused(
            f"{_PREFIX[family]}-restore is not installed", cure="install the package iptables"
        )
    return found[0]


def native_tables() -> tuple[tuple[str, str], ...]:
    """Give family and name of the nft tables that iptables did not make.

    Raises KernelRefused where nft is installed and cannot tell. Without it: none.
    """
    program = which("nft")
    if program is None:
        return ()
    done = run([program, "list", "tables"])
    if done.returncode:
        raise _refused("list the nft tables", done)
    found = (line.split() for line in done.stdout.splitlines() if line.startswith("table "))
    return tuple(
        (family, name) for _, family, name, *_ in found if not _is_iptables_own(family, name)
    )


def unprintable_sets(one: Iptables) -> tuple[str, ...]:
    """Name the nft sets in tables that iptables made; it prints rules that use them wrongly.

    Seen in 1.8.9: ``ip saddr @s drop`` of table ``ip filter`` is printed as ``-A INPUT -j DROP``.
    """
    program = which("nft")
    if one.variant is Variant.LEGACY or program is None:
        return ()
    family = "ip" if one.family is Family.INET else "ip6"
    done = run([program, "list", "sets", family])
    if done.returncode:
        raise _refused(f"list the nft sets of {family}", done)
    table, found = "", []
    for line in done.stdout.splitlines():
        words = line.split()
        if line.startswith("table "):
            table = words[2]
        elif words[:1] == ["set"] and table in TABLES:
            found.append(f"{table} {words[1]}")
    return tuple(found)


def native_text(family: str, name: str) -> str:
    """Print a native nft table as nft(8) reads it."""
    done = run([which("nft") or "nft", "-s", "list", "table", family, name])
    if done.returncode:
        raise _refused(f"read the nft table {family} {name}", done)
    return done.stdout


def load_native(text: str) -> None:
    """Load a native nft table. Raises KernelRefused with nft's own words."""
    done = run([which("nft") or "nft", "-f", "-"], text)
    if done.returncode:
        raise _refused("load an nft table", done)


def _is_iptables_own(family: str, name: str) -> bool:
    """Tell whether iptables-nft made a table: it has that name, and iptables-nft can read it."""
    if family == "ip":
        of = Family.INET
    elif family == "ip6":
        of = Family.INET6
    else:
        return family in ("arp", "bridge") and name in ("filter", "nat", "broute")
    if name not in TABLES or not _find(of, Variant.NFT, "save"):
        return False
    with contextlib.suppress(GeofenceError):
        done = run([_program(of, Variant.NFT, "save"), "-t", name])
        return not done.returncode and "incompatible" not in done.stdout + done.stderr
    return False


@functools.cache
def _default(family: Family) -> Variant | None:
    """Tell which variant the program called iptables is; before 1.8 it says nothing: legacy."""
    program = which(_PREFIX[family])
    if program is None:
        return None
    with contextlib.suppress(GeofenceError):
        said = run([program, "-V"]).stdout
        return Variant.NFT if "nf_tables" in said else Variant.LEGACY
    return None


def _find(family: Family, variant: Variant, act: str) -> str | None:
    named = which(f"{_PREFIX[family]}-{variant}-{act}")
    if named is None and _default(family) is variant:
        return which(f"{_PREFIX[family]}-{act}")
    return named


def _program(family: Family, variant: Variant, act: str) -> str:
    program = _find(family, variant, act)
    if program is None:
        raise KernelRefused(
            f"{_PREFIX[family]}-{variant}-{act} is not installed",
            cure="install the package iptables",
        )
    return program


def _refused(act: str, done: Done, text: str = "") -> GeofenceError:
    """Say what the program said; where it names a line of ours, with that line."""
    said = " ".join(
        line.strip()
        for line in done.stderr.splitlines()
        if line.strip() and not line.startswith(("Try `", "# Warning"))
    )
    if "Permission denied" in said or "must be root" in said:
        return NoPermission(f"cannot {act}: {said}", cure="run geofence as root")
    lines = text.splitlines()
    named = re.search(r"line:? (\d+)", said)
    if named and 0 < int(named[1]) <= len(lines):
        said += f" ({lines[int(named[1]) - 1]})"
    return KernelRefused(f"cannot {act}: {said or f'exit status {done.returncode}'}")
