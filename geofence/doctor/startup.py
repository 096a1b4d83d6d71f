"""What the host's files say of the next boot: what starts, and what it loads."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import bootfiles, ruletext
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
_LOADERS = {
    "etc/iptables/": (bootfiles.NETFILTER_PERSISTENT,),
    "etc/sysconfig/": (bootfiles.IPTABLES_SERVICES, bootfiles.SYSV),
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
    before_sets: frozenset[str]  # those of them that are loaded before the sets are there
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
    persistence = brings_back(root, state, fences) if fences else None
    by = persistence.by.split(" and ") if persistence and persistence.back else []
    return Startup(
        persistence=persistence,
        starts=starts,
        saved_rules=dict(_saved_rules(root)),
        before_sets=frozenset(
            f"/{name}" for name in _SAVED_RULES if not (by and _after_sets(name, root, by))
        ),
        saved_staging=tuple(_saved_staging(root)),
        flushing=tuple(f"/{name}" for name in _NFT_FILES if _FLUSH.search(_text(root / name))),
        ufw_calls_us="geofence" in _text(root / "etc/ufw/before.init"),
    )


def _saved_rules(root: Path) -> Iterator[tuple[str, tuple[Family, Table]]]:
    for name, family in _SAVED_RULES.items():
        if text := _text(root / name):
            yield f"/{name}", (family, ruletext.read(text))


def _after_sets(name: str, root: Path, by: Sequence[str]) -> bool:
    """Tell whether each program that loads a file at boot calls geofence before."""
    return all(
        kind.name in by
        for home, kinds in _LOADERS.items()
        for kind in kinds
        if name.startswith(home) and kind.present(root) and kind.runs(root)
    )


def _saved_staging(root: Path) -> Iterator[tuple[str, str]]:
    for pattern in _SAVED_SETS:
        for path in sorted(root.glob(pattern)):
            for name in _STAGING.findall(_text(path)):
                yield f"/{path.relative_to(root)}", name


def _starts(root: Path, unit: str) -> bool:
    """Tell whether systemd, or a SysV init, starts something at boot."""
    own = root / "etc/systemd/system"
    masked = own / f"{unit}.service"
    if masked.is_symlink() and str(masked.readlink()) == os.devnull:
        return False
    if any(os.path.lexists(home / f"{unit}.service") for home in own.glob("*.wants")):
        return True
    levels = [*root.glob("etc/rc[2-5].d"), *root.glob("etc/rc.d/rc[2-5].d")]
    return any(
        re.fullmatch(rf"S\d\d{re.escape(unit)}", path.name)
        for level in levels
        for path in level.iterdir()
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
