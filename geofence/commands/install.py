"""``geofence install``: put in place what brings the fences back at boot."""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from geofence import bootfiles, hook, install, missing, report
from geofence.bootfiles import KINDS, Boot, Kind
from geofence.candidate import snapshot_lists
from geofence.config import DEFAULT_PATH
from geofence.context import Context
from geofence.errors import GeofenceError, UsageError
from geofence.install import Step
from geofence.model import Family, Fence

_HOST = Path("/")


def run(context: Context) -> int:
    """Install what fits this host, or the kinds that are named; 1 if nothing fits, or not all."""
    root, context = at_root(context)
    kinds = _chosen(context.options.kind, root)
    fences = hook.known(context.fences(), context.state_dir, context.unconfigured)
    record = install.read(context.state_dir)
    steps = install.plan(_boot(root, context, fences), kinds, record, context.disk)
    warnings = list(_warnings(steps, kinds, root))
    context.warn("install", warnings)
    if not context.options.dry_run:
        changed = install.install(steps, root, context.state_dir, record, context.disk)
        reload_systemd(root, changed=changed)
    context.say(told(steps))
    for fence in fences:
        try:
            lines, said = _stored(fence, context)
        except GeofenceError as error:
            error.still = (
                f"what brings the fences back at boot is in place; what serves where the list of"
                f" {fence.name} is lost is not stored"
            )
            raise
        context.warn(fence.name, said)
        context.say(lines)
        warnings += [f"{fence.name}: {line}" for line in said]
    status = 0 if kinds and not any(step.kept for step in steps) else 1
    names = [kind.name for kind in kinds]
    context.document(document(status, steps, kinds=names, warnings=warnings))
    return status


def at_root(context: Context) -> tuple[Path, Context]:
    """Give the root of the host that is meant, and a context of its own state."""
    root: Path = (context.options.root or _HOST).absolute()
    if not root.is_dir():
        raise UsageError(
            f"{root} is no directory", still="nothing was changed", cure="look at --root"
        )
    if root == _HOST:
        return root, context
    options = argparse.Namespace(**vars(context.options))
    state = bootfiles.below(root, bootfiles.STATE)
    options.state_dir = options.state_dir or state
    configuration = root / DEFAULT_PATH.relative_to("/")
    if options.config is None and configuration.exists():
        options.config = configuration
    return root, Context(options, context.output)


def told(steps: tuple[Step, ...]) -> list[str]:
    """Say what is done, a path a line."""
    return [f"{step.path}: {step.doing}" for step in steps]


def document(status: int, steps: tuple[Step, ...], **facts: object) -> report.Document:
    """Give what is done to scripts."""
    done = [{"path": step.path, "doing": step.doing, "changed": bool(step.act)} for step in steps]
    return report.document(status, **facts, files=done)


def reload_systemd(root: Path, *, changed: bool) -> None:
    """Let a running systemd read its units anew."""
    if changed and root == _HOST and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=False, stdin=subprocess.DEVNULL)


def _chosen(named: list[str], root: Path) -> tuple[Kind, ...]:
    if not named:
        return bootfiles.fitting(root)
    kinds = {kind.name: kind for kind in KINDS}
    if unknown := [name for name in named if name not in kinds]:
        raise UsageError(
            f"there is no way to boot named {unknown[0]}", cure=f"known: {', '.join(kinds)}"
        )
    return tuple(kinds[name] for name in dict.fromkeys(named))


def _boot(root: Path, context: Context, fences: tuple[Fence, ...]) -> Boot:
    state = context.state_dir
    return Boot(
        root=root,
        state=bootfiles.as_seen(root, state),
        geofence=_program() if root == _HOST else "geofence",
        links=tuple(
            (f"geofence-{set_of}-{family}", bootfiles.as_seen(root, file))
            for set_of, home in (
                *((fence.name, state / fence.name / "active") for fence in fences),
                ("trusted", state / "trusted"),
            )
            for family in Family
            if (file := home / f"{family}.ipset").exists()
        ),
    )


def _program() -> str:
    """Find this program, for a hook that has a PATH of its own."""
    here = Path(sys.argv[0])
    if here.name == "geofence" and os.access(here, os.X_OK):
        return str(here.absolute())
    return shutil.which("geofence") or "geofence"


def _warnings(steps: tuple[Step, ...], kinds: tuple[Kind, ...], root: Path) -> Iterator[str]:
    for step in steps:
        if step.kept:
            yield f"{step.path} is {step.doing}; remove it, and install again"
    if bootfiles.SYSV in kinds:
        yield from bootfiles.sysv_gaps(root)
    if not kinds:
        yield (
            "nothing on this host is known to load rules at boot: let your own script call"
            f" {bootfiles.BOOT} pre-start before it does, and {bootfiles.BOOT} start after"
        )


def _stored(fence: Fence, context: Context) -> tuple[list[str], list[str]]:
    """Store what serves at boot when nothing sound is stored; say so, and what is to be told."""
    state, disk, dry = context.state_dir, context.disk, context.options.dry_run
    wanted = _with_countries(fence, context)
    home = bootfiles.as_seen((context.options.root or _HOST).absolute(), state / fence.name)
    lines, warnings = [], []
    try:
        lists = snapshot_lists(wanted) if wanted.countries else {}
    except GeofenceError as error:
        warnings.append(f"no snapshot for the boot hook: {error.what}")
        lists = {}
    if not wanted.countries:
        warnings.append("no snapshot for the boot hook: it is not known which countries it holds")
    if lists and (dry or missing.write_snapshot(fence.name, lists, state, disk)):
        lines.append(f"{home}/bundled: write the snapshot of {' '.join(wanted.countries)}")
    if dry or missing.write_on_missing(wanted, state, disk):
        lines.append(f"{home}/on_missing: write {wanted.on_missing}")
    return lines, warnings


def _with_countries(fence: Fence, context: Context) -> Fence:
    """Give a fence the countries of its active generation, where its name does not tell them."""
    found = context.store.active(fence.name).generation
    if fence.countries or found is None:
        return fence
    return dataclasses.replace(fence, countries=found.countries)
