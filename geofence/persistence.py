"""Tell whether a reboot brings enabled fences back, and by what."""

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from geofence import bootfiles, enabled, install
from geofence.bootfiles import Boot
from geofence.disk import Disk

_INSTALL = "geofence install"


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """Whether enabled fences come back, what brings them, and else the command that makes it so."""

    back: bool
    by: str = ""
    cure: str = ""


def brings_back(root: Path, state: Path, fences: Collection[str]) -> Persistence:
    """Tell whether the host below ``root`` puts these fences' sets and rules back at boot.

    A fence comes back when it is recorded as enabled and something that runs at boot calls the
    hook. Only files are looked at, and nothing is run.
    """
    if any(enabled.read(fence, state) is None for fence in fences):
        return Persistence(
            back=False, cure="geofence confirm, where a change waits for it; else geofence enable"
        )
    if not (_hook_is_there(root, state) and all(_has_a_list(state / fence) for fence in fences)):
        return Persistence(back=False, cure=_cure(root, state))
    boot = Boot(root=root, state=bootfiles.as_seen(root, state), geofence="")
    by = [
        kind.name
        for kind in bootfiles.KINDS
        if kind.rules
        and kind.runs(root)
        and all(bootfiles.in_place(piece, root) for piece in kind.pieces(boot))
    ]
    if not by:
        return Persistence(back=False, cure=_cure(root, state))
    return Persistence(back=True, by=" and ".join(by))


def _cure(root: Path, state: Path) -> str:
    """Give what makes it so: install keeps what somebody has changed, which has to go first."""
    boot = Boot(root=root, state=bootfiles.as_seen(root, state), geofence="")
    steps = install.plan(boot, bootfiles.fitting(root), install.read(state), Disk())
    changed = " ".join(step.path for step in steps if step.kept)
    return f"remove {changed}, which was changed; then: {_INSTALL}" if changed else _INSTALL


def _hook_is_there(root: Path, state: Path) -> bool:
    """Tell whether the sh hook is in its place, and looks into this state directory."""
    told = f"\nSTATE={shlex.quote(str(bootfiles.as_seen(root, state)))}\n"
    try:
        return told in bootfiles.below(root, bootfiles.BOOT).read_text()
    except OSError:
        return False


def _has_a_list(home: Path) -> bool:
    return (home / "active").is_dir() or (home / "bundled").is_dir()
