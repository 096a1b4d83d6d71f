"""Switch fences on and off: check, rehearse, apply to both families or neither, record."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geofence import (
    confirm,
    enabled,
    lockout,
    locks,
    missing,
    owners,
    pending,
    rehearsal,
    remarks,
    rules,
    trusted,
    trustfiles,
)
from geofence.disk import Disk
from geofence.enforce import enforced
from geofence.errors import GeofenceError, ListRefused
from geofence.force import Host, repair
from geofence.kernel import Sets, iptables
from geofence.kernel.iptables import Iptables
from geofence.kernel.namespace import NoNamespace
from geofence.model import Address, Family, Fence, Lists
from geofence.peers import ssh_ports, ssh_sessions
from geofence.rehearsal import Play, Report
from geofence.rehearsal.corpus import Way
from geofence.rules import Goal
from geofence.trusted import Trusted
from geofence.unparted import unparted


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall(Host):
    """A host, and what its rules need beside it."""

    disk: Disk
    trusted: Callable[[], Trusted]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for."""

    fences: tuple[Fence, ...]
    confirm_seconds: int | None = None  # none: it needs no confirmation
    without_rehearsal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What was done, and what is to be said."""

    changed: bool
    tables: tuple[str, ...] = ()
    report: Report | None = None  # none: there was no rehearsal
    confirm_seconds: int | None = None  # none: nothing waits to be confirmed
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the tables are to hold of some fences, and who is trusted beside them."""

    fences: tuple[Fence, ...]
    tables: tuple[Iptables, ...]
    trusted: Trusted
    goals: Mapping[str, tuple[Goal, ...]]

    @property
    def every(self) -> list[Goal]:
        """All goals, whichever fence they are of."""
        return [goal for found in self.goals.values() for goal in found]


def enable(request: Request, host: Firewall) -> Switched:
    """Put the chain and its jumps where they belong, if a rehearsal says that nobody is lost.

    On any error both families' rules are as they were.
    """
    state = host.store.prepare()
    with _as_they_were(), host.open_sets() as sets, locks.writer(state):
        confirm.refuse_if_waiting(state, host.disk)
        return _enable(request, host, sets, _chosen(request.fences))


def mend(request: Request, host: Firewall) -> Switched:
    """Put back what another tool took away of enabled fences: their sets, chain and jumps."""
    state = host.store.prepare()
    with _as_they_were(), host.open_sets() as sets, locks.writer(state):
        confirm.refuse_if_waiting(state, host.disk)
        mended = [repair(fence.name, host.store, sets) for fence in request.fences]
        drift = [line for one in mended for line in (*one.warnings, *one.drift)]
        done = _enable(request, host, sets, _recorded(request.fences, state))
    return replace(done, changed=done.changed or bool(drift), warnings=(*drift, *done.warnings))


def disable(fences: Sequence[str], host: Firewall) -> Switched:
    """Take out exactly what ``enable`` put in, of both families and variants. Sets stay."""
    state = host.store.prepare()
    with locks.writer(state), unparted(), confirm.overruled(fences, state, host.disk):
        tables = iptables.everywhere()
        goals = [goal for fence in fences for goal in rules.nothing_of(fence, tables)]
        changed = rules.reach(goals)
        for fence in fences:
            _forget(fence, state, host.disk)
    return Switched(
        changed=bool(changed),
        tables=tuple(dict.fromkeys(str(goal.rules) for goal in changed)),
        warnings=tuple(remarks.kept(fences, tables)),
    )


def rehearse(request: Request, host: Firewall, addresses: Sequence[Address]) -> Report:
    """Rehearse what ``enable`` would do, and change nothing; the addresses must get in too."""
    with host.open_sets() as sets, locks.writer(host.store.prepare()):
        plan = _allowed(request.fences, host, sets, _chosen(request.fences))
        return _rehearsed(plan, host, sets, addresses)


@contextlib.contextmanager
def _as_they_were() -> Iterator[None]:
    """Let an error on its way out say what is in force, if it does not."""
    try:
        yield
    except GeofenceError as error:
        error.still = error.still or "the rules are as they were"
        raise


def _forget(fence: str, state: Path, disk: Disk) -> None:
    try:
        enabled.forget(fence, state, disk)
    except GeofenceError as error:
        error.still = (
            f"the rules of {fence} are out, but it is still stored as enabled: a reboot brings"
            " them back"
        )
        error.cure = f"{error.cure}; then run geofence disable again"
        raise


def _enable(request: Request, host: Firewall, sets: Sets, tables: tuple[Iptables, ...]) -> Switched:
    plan, peers = _allowed(request.fences, host, sets, tables), host.peers()
    for fence in request.fences:
        lockout.refuse_to_lock_out(
            fence, peers, plan.trusted, sets, rehearsed=not request.without_rehearsal
        )
    report = None if request.without_rehearsal else _rehearsed(plan, host, sets)
    if report:
        rehearsal.refuse(report)
    trusted.apply(plan.trusted, sets, host.now())
    trustfiles.remember(plan.trusted, host.store.directory, host.disk)
    changed, warnings = _apply(plan, request.confirm_seconds, host)
    return Switched(
        changed=changed,
        tables=tuple(str(one) for one in tables),
        report=report,
        confirm_seconds=request.confirm_seconds if changed else None,
        warnings=(
            *(report.notes if report else ()),
            *remarks.enabled(plan.fences, tables, plan.goals),
            *warnings,
        ),
    )


def _allowed(
    fences: tuple[Fence, ...], host: Firewall, sets: Sets, tables: tuple[Iptables, ...]
) -> _Plan:
    """Say what the tables are to hold, and refuse what is known to be wrong before any packet."""
    owners.refuse(iptables.everywhere(), iptables.native_tables())
    lockout.refuse_two_gates(fences, host.store.directory)
    for fence in fences:
        lockout.refuse_target(fence, tables)
        lockout.refuse_empty(fence, host.store, sets)
    return _plan(fences, tables, host.trusted())


def _plan(fences: tuple[Fence, ...], tables: tuple[Iptables, ...], wanted: Trusted) -> _Plan:
    trusting = any(wanted.values())
    return _Plan(
        fences=fences,
        tables=tables,
        trusted=wanted,
        goals={one.name: rules.wanted(one, tables, trusting=trusting) for one in fences},
    )


def _chosen(fences: Sequence[Fence]) -> tuple[Iptables, ...]:
    """Choose a variant for each family that the fences are about and that the kernel speaks."""
    asked = {family for fence in fences for family in fence.families or tuple(Family)}
    return tuple(iptables.chosen(family) for family in iptables.families() if family in asked)


def _recorded(fences: Sequence[Fence], state: Path) -> tuple[Iptables, ...]:
    """Give the tables that fences were enabled in, though somebody has emptied them since."""
    found = {
        family: Iptables(family, variant)
        for fence in fences
        if (record := enabled.read(fence.name, state))
        for family, variant in record.variants.items()
    }
    return tuple(
        found[one.family] if found.get(one.family) in iptables.present(one.family) else one
        for one in _chosen(fences)
    )


def _apply(
    plan: _Plan, confirm_seconds: int | None, host: Firewall
) -> tuple[bool, tuple[str, ...]]:
    """Change the rules, under the eyes of a watcher if that is asked for; record it."""
    state, disk, now = host.store.directory, host.disk, host.now()
    for fence in plan.fences:
        missing.write_on_missing(fence, state, disk)
    records = {
        one.name: enabled.files(
            enabled.record_of(one, plan.goals[one.name], now), plan.goals[one.name]
        )
        for one in plan.fences
    }
    if confirm_seconds is not None and not rules.present(plan.every):
        with confirm.watched(plan.every, records, confirm_seconds, state, disk) as warnings:
            return bool(rules.reach(plan.every)), warnings
    with unparted():
        before = rules.reach(plan.every)
        _record(records, before, state, disk)
        pending.forget(state, disk)
    return bool(before), ()


def _record(
    records: Mapping[str, Mapping[str, str]], before: Sequence[Goal], state: Path, disk: Disk
) -> None:
    """Record what was enabled; where the disk does not take it, put the rules back."""
    known = enabled.all_of(state)
    try:
        for name, files in records.items():
            enabled.store(files, name, state, disk)
    except BaseException as error:
        rules.reach(before)
        for name in records.keys() - known:
            with contextlib.suppress(GeofenceError):
                enabled.forget(name, state, disk)
        if isinstance(error, GeofenceError):
            error.still = error.still or "the rules are as they were"
        raise


def _rehearsed(
    plan: _Plan, host: Firewall, sets: Sets, addresses: Sequence[Address] = ()
) -> Report:
    """Rehearse a plan. Raises ListRefused where no rehearsal can be made."""
    came_to, ports = ssh_sessions(), ssh_ports()
    anywhere = Way(port=min(ports))
    owners = {
        one: Way(port=there.port, own=there.own) if (there := came_to.get(one)) else anywhere
        for one in (*sorted(host.peers()), *addresses)
    }
    play = Play(
        fences=plan.fences,
        goals=plan.goals,
        lists={fence.name: _meant(fence, host, sets) for fence in plan.fences},
        trusted={family: tuple(prefixes) for family, prefixes in plan.trusted.items()},
        owners={one: way for one, way in owners.items() if not lockout.is_loopback(one)},
        ssh_ports=sorted({*ports, *(way.port for way in owners.values())}),
        trusting=any(plan.trusted.values()),
    )
    try:
        return rehearsal.rehearse(play, sets)
    except NoNamespace as error:
        raise ListRefused(
            f"no rehearsal could be made: no private network namespace: {error}",
            still=lockout.UNCHANGED,
            cure="run geofence as root; or take the risk: --without-rehearsal",
        ) from error


def _meant(fence: Fence, host: Firewall, sets: Sets) -> Lists:
    """Give the list that the fence is meant to let in: the stored one, else the kernel's."""
    generation = host.store.active(fence.name).generation
    return generation.lists if generation else enforced(fence.name, sets)
