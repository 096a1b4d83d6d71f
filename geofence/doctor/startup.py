"""What the host's files say of the next boot: what starts, and what it loads."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import ruletext
from geofence.model import Family
from geofence.owners import OWNERS
from geofence.persistence import Persistence, brings_back
from geofence.ruletext import Table

_SAVED_RULES = {
    "etc/iptables/rules.v4": Family.INET,  # Debian: iptables-persistent
    "etc/iptables/rules.v6": Family.INET6,
    "etc/sysconfig/iptables": Family.INET,  # RHEL: iptables-services
    "etc/sysconfig/ip6tables": Family.INET6,
    "etc/iptables/iptables.rules": Family.INET,  # Arch
    "etc/iptables/ip6tables.rules": Family.INET6,
    "etc/iptables/rules-save": Family.INET,  # Alpine
    "etc/iptables/rules6-save": Family.INET6,
}
_SAVED_SETS = ("etc/iptables/ipsets", "etc/sysconfig/ipset", "etc/ipset.conf", "etc/ipset.d/*",
               "etc/sysconfig/ipset.d/*")  # fmt: skip
_NFT_FILES = ("etc/nftables.conf", "etc/sysconfig/nftables.conf")
_STAGING = re.compile(r"^create (geofence-\S+-next) ", re.MULTILINE)
_FLUSH = re.compile(r"^\s*flush\s+ruleset\b", re.MULTILINE)
_OTHERS = ("ufw", "nftables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """What will be at the next boot."""

    persistence: Persistence | None  # none: nothing is enabled
    starts: frozenset[str]  # those of the units and scripts we know
    saved_rules: Mapping[str, tuple[Family, Table]]  # by path
    saved_staging: tuple[tuple[str, str], ...]  # path, and set
    flushing: tuple[str, ...]  # nft files that flush everything
    ufw_calls_us: bool


def startup(root: Path, state: Path, fences: Sequence[str]) -> Startup:
    """Read the files below a root."""
    units = {unit for owner in OWNERS for unit in owner.units} | set(_OTHERS)
    ufw = ((root / "etc/ufw/ufw.conf"), "ENABLED=yes")
    starts = frozenset(unit for unit in units if _starts(root, unit))
    if ufw[1] not in _text(ufw[0]).splitlines():
        starts -= {"ufw"}
    return Startup(
        persistence=brings_back(root, state, fences) if fences else None,
        starts=starts,
        saved_rules=dict(_saved_rules(root)),
        saved_staging=tuple(_saved_staging(root)),
        flushing=tuple(f"/{name}" for name in _NFT_FILES if _FLUSH.search(_text(root / name))),
        ufw_calls_us="geofence" in _text(root / "etc/ufw/before.init"),
    )


def _saved_rules(root: Path) -> Iterator[tuple[str, tuple[Family, Table]]]:
    for name, family in _SAVED_RULES.items():
        if text := _text(root / name):
            yield f"/{name}", (family, ruletext.read(text))


def _saved_staging(root: Path) -> Iterator[tuple[str, str]]:
    for pattern in _SAVED_SETS:
        for path in sorted(root.glob(pattern)):
            for name in _STAGING.findall(_text(path)):
                yield f"/{path.relative_to(root)}", name


def _starts(root: Path, unit: str) -> bool:
    """Tell whether systemd, or a SysV init, starts something at boot."""
    own = root / "etc/systemd/system"
    masked = own / f"{unit}.service"
    if masked.is_symlink() and str(masked.readlink()) == "/dev/null":
        return False
    return any(
        True
        for pattern in (
            f"etc/systemd/system/*.wants/{unit}.service",
            f"etc/rc[2345].d/S[0-9][0-9]{unit}",
            f"etc/rc.d/rc[2345].d/S[0-9][0-9]{unit}",
        )
        for _ in root.glob(pattern)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
