"""Switch fences on and off: check, rehearse, apply to both families or neither, record."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import (
    confirm,
    enabled,
    locks,
    missing,
    owners,
    pending,
    rehearsal,
    rules,
    ruletext,
    trusted,
)
from geofence.chain import PRIVATE
from geofence.disk import Disk
from geofence.enforce import enforced, live
from geofence.errors import ConfigError, GeofenceError, ListRefused
from geofence.force import Host, repair
from geofence.kernel import Sets, iptables
from geofence.kernel.namespace import NoNamespace
from geofence.model import (
    Address,
    Family,
    Fence,
    Lists,
    Prefix,
    Private,
    Style,
    chain_name,
    set_name,
)
from geofence.peers import SSH_PORT, ssh_sessions
from geofence.prefixes import find, format_address, parse_prefix, range_of
from geofence.rehearsal import Play, Report
from geofence.rules import Goal
from geofence.trusted import Trusted
from geofence.unparted import unparted

_UNCHANGED = "nothing was changed"
_LOOPBACK = ("127.0.0.0/8", "::1/128")


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


def enable(request: Request, host: Firewall) -> Switched:
    """Put the chain and its jumps where they belong, if a rehearsal says that nobody is lost.

    On any error both families' rules are as they were.
    """
    state = host.store.prepare()
    with host.open_sets() as sets, locks.writer(state):
        confirm.refuse_if_waiting(state, host.disk)
        return _enable(request, host, sets)


def mend(request: Request, host: Firewall) -> Switched:
    """Put back what another tool took away of enabled fences: their sets, chain and jumps."""
    state = host.store.prepare()
    with host.open_sets() as sets, locks.writer(state):
        confirm.refuse_if_waiting(state, host.disk)
        drift = _mend_sets(request.fences, host, sets)
        done = _enable(request, host, sets)
    return Switched(
        changed=done.changed or bool(drift),
        tables=done.tables,
        report=done.report,
        confirm_seconds=done.confirm_seconds,
        warnings=(*drift, *done.warnings),
    )


def disable(fences: Sequence[str], host: Firewall) -> Switched:
    """Take out exactly what ``enable`` put in, of both families and variants. Sets stay."""
    state = host.store.prepare()
    with locks.writer(state), unparted(), confirm.overruled(fences, state, host.disk):
        tables = [one for family in iptables.families() for one in iptables.present(family)]
        goals = [goal for fence in fences for goal in rules.nothing_of(fence, tables)]
        changed = rules.reach(goals)
        for fence in fences:
            enabled.forget(fence, state, host.disk)
    return Switched(
        changed=bool(changed),
        tables=tuple(str(goal.rules) for goal in changed),
        warnings=tuple(_kept(fences, tables)),
    )


def in_kernel() -> tuple[str, ...]:
    """Name the fences that have a chain in the kernel, in any variant."""
    found = {
        name
        for family in iptables.families()
        for one in iptables.present(family)
        for name in ruletext.fences(ruletext.read(one.save()))
    }
    return tuple(sorted(found))


def _enable(request: Request, host: Firewall, sets: Sets) -> Switched:
    state = host.store.directory
    tables = _tables(request.fences)
    owners.refuse(tables, iptables.native_tables())
    _refuse_two_gates(request.fences, state)
    for fence in request.fences:
        _refuse_empty(fence, host, sets)
    wanted = host.trusted()
    peers = host.peers()
    for fence in request.fences:
        _refuse_to_lock_out(fence, peers, wanted, sets, rehearsed=not request.without_rehearsal)
    trusting = any(wanted.values())
    goals = {one.name: rules.wanted(one, tables, trusting=trusting) for one in request.fences}
    report = _rehearsed(request, goals, wanted, host, sets)
    trusted.apply(wanted, sets, host.now())
    trusted.remember(wanted, state, host.disk)
    changed, warnings = _apply(request, goals, host)
    return Switched(
        changed=changed,
        tables=tuple(str(one) for one in tables),
        report=report,
        confirm_seconds=request.confirm_seconds if changed else None,
        warnings=(*_warnings(request, tables), *warnings),
    )


def _tables(fences: Sequence[Fence]) -> tuple[iptables.Iptables, ...]:
    """Choose a variant for each family that the fences are about and that the kernel speaks."""
    asked = {family for fence in fences for family in fence.families or tuple(Family)}
    return tuple(iptables.chosen(family) for family in iptables.families() if family in asked)


def _mend_sets(fences: Sequence[Fence], host: Firewall, sets: Sets) -> list[str]:
    mended = [repair(fence.name, host.store, sets) for fence in fences]
    return [line for one in mended for line in (*one.warnings, *one.drift)]


def _apply(
    request: Request, goals: Mapping[str, Sequence[Goal]], host: Firewall
) -> tuple[bool, tuple[str, ...]]:
    """Change the rules, under the eyes of a watcher if that is asked for; record it."""
    state, every = host.store.directory, [goal for found in goals.values() for goal in found]
    for fence in request.fences:
        missing.write_on_missing(fence, state, host.disk)
    records = {
        fence.name: enabled.files(
            enabled.record_of(fence, goals[fence.name], host.now()), goals[fence.name]
        )
        for fence in request.fences
    }
    if request.confirm_seconds is not None and not rules.present(every):
        with confirm.watched(every, records, request.confirm_seconds, state, host.disk) as warnings:
            return bool(rules.reach(every)), warnings
    with unparted():
        before = rules.reach(every)
        _record(records, before, state, host.disk)
        pending.forget(state, host.disk)
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


def rehearse_only(request: Request, host: Firewall, addresses: Sequence[Address]) -> Report:
    """Rehearse what ``enable`` would do, and change nothing; the addresses must get in too."""
    with host.open_sets() as sets:
        for fence in request.fences:
            _refuse_empty(fence, host, sets)
        tables = _tables(request.fences)
        wanted = host.trusted()
        trusting = any(wanted.values())
        goals = {one.name: rules.wanted(one, tables, trusting=trusting) for one in request.fences}
        return _rehearse(request, goals, wanted, host, sets, addresses)


def _rehearsed(
    request: Request,
    goals: Mapping[str, Sequence[Goal]],
    wanted: Trusted,
    host: Firewall,
    sets: Sets,
) -> Report | None:
    """Rehearse, and refuse what a real packet shows to be wrong."""
    if request.without_rehearsal:
        return None
    report = _rehearse(request, goals, wanted, host, sets)
    rehearsal.refuse(report)
    return report


def _rehearse(
    request: Request,
    goals: Mapping[str, Sequence[Goal]],
    wanted: Trusted,
    host: Firewall,
    sets: Sets,
    addresses: Sequence[Address] = (),
) -> Report:
    came_to = ssh_sessions()
    owners = {one: came_to.get(one, SSH_PORT) for one in (*sorted(host.peers()), *addresses)}
    play = Play(
        fences=request.fences,
        goals=goals,
        lists={fence.name: _meant(fence, host, sets) for fence in request.fences},
        trusted={family: tuple(prefixes) for family, prefixes in wanted.items()},
        owners={one: port for one, port in owners.items() if not _is_loopback(one)},
        ssh_ports=sorted({*owners.values(), SSH_PORT}),
        trusting=any(wanted.values()),
    )
    try:
        return rehearsal.rehearse(play, sets)
    except NoNamespace as error:
        raise ListRefused(
            f"no rehearsal could be made: no private network namespace: {error}",
            still=_UNCHANGED,
            cure="run geofence as root; or take the risk: --without-rehearsal",
        ) from error


def _meant(fence: Fence, host: Firewall, sets: Sets) -> Lists:
    """Give the list that the fence is meant to let in: the stored one, else the kernel's."""
    generation = host.store.active(fence.name).generation
    return generation.lists if generation else enforced(fence.name, sets)


def _is_loopback(address: Address) -> bool:
    return any(_holds(*parse_prefix(text), address) for text in _LOOPBACK)


def _refuse_two_gates(fences: Sequence[Fence], state: Path) -> None:
    asked = {fence.name: (fence.style, fence.families) for fence in fences}
    there = {name: (one.style, one.families) for name, one in enabled.all_of(state).items()}
    gates = {
        name: families or tuple(Family)
        for name, (style, families) in {**there, **asked}.items()
        if style is Style.GATE
    }
    of_family = ([name for name in gates if family in gates[name]] for family in Family)
    if len(names := max(of_family, key=len)) > 1:
        countries = sorted({code for fence in fences for code in fence.countries})
        raise ConfigError(
            f"two gates on the same traffic would let nobody in: {' and '.join(sorted(names))}",
            still=_UNCHANGED,
            cure=f"make one fence of them: [fence.NAME] countries = {countries}; or choose one:"
            " --fence NAME",
        )


def _refuse_empty(fence: Fence, host: Firewall, sets: Sets) -> None:
    """Refuse a fence whose set is missing, or empty though its list is not."""
    generation = host.store.active(fence.name).generation
    for family in fence.families or tuple(Family):
        if family not in iptables.families():
            continue
        found = live(fence.name, family, sets)
        name = set_name(fence.name, family)
        if found.prefixes is None:
            raise ListRefused(
                found.drift,
                still=_UNCHANGED,
                cure="geofence restore, or geofence update; then enable again",
            )
        meant = generation and family in generation.lists and not generation.lists[family].prefixes
        if not found.prefixes.prefixes and not meant:
            raise ListRefused(
                f"the set {name} is empty: the fence would let nobody in",
                still=_UNCHANGED,
                cure="geofence restore, or geofence update; then enable again",
            )


def _refuse_to_lock_out(
    fence: Fence, peers: frozenset[Address], wanted: Trusted, sets: Sets, *, rehearsed: bool
) -> None:
    """Refuse a fence that somebody who is here by SSH would not pass."""
    out = sorted(
        format_address(*peer)
        for peer in peers
        if not _would_pass(fence, peer, wanted, sets, rehearsed=rehearsed)
    )
    if out:
        raise ListRefused(
            f"{fence.name}: would shut out {', '.join(out)}, who is on this host by SSH now",
            still=_UNCHANGED,
            cure=f"geofence trust {out[0]}; then enable again",
        )


def _would_pass(
    fence: Fence, peer: Address, wanted: Trusted, sets: Sets, *, rehearsed: bool
) -> bool:
    family, address = peer
    if fence.families and family not in fence.families:
        return True  # the fence is not about this family
    passing = (*_LOOPBACK, *PRIVATE[family])
    if fence.style is Style.GATE and fence.private is Private.JUDGE:
        passing = _LOOPBACK
    judged = fence.style is Style.ALLOW and not rehearsed  # who is sent on is all that is known
    if not judged and any(_holds(*parse_prefix(text), peer) for text in passing):
        return True
    if any(_holds(family, prefix, peer) for prefix in wanted[family]):
        return True
    found = live(fence.name, family, sets).prefixes
    return found is not None and find(found, address) is not None


def _holds(family: Family, prefix: Prefix, address: Address) -> bool:
    first, last = range_of(family, prefix)
    return address[0] is family and first <= address[1] <= last


def _warnings(request: Request, tables: Sequence[iptables.Iptables]) -> list[str]:
    said = []
    for rule in tables:
        others = [one for one in iptables.in_use(rule.family) if one != rule]
        said += [
            f"{other} holds rules too; both are asked, and what either drops is dropped;"
            f" the fence is in {rule}"
            for other in others
        ]
    if not iptables.has_ipv6():
        said.append("this kernel speaks no IPv6: there is nothing to fence")
    for fence in request.fences:
        if fence.families and Family.INET6 not in fence.families and iptables.has_ipv6():
            said.append(f"{fence.name} is about IPv4 alone: IPv6 stays as open as it is")
        for one in tables:
            jumps = ruletext.foreign_jumps(ruletext.read(one.save()), chain_name(fence.name))
            said += [f"{one}: a rule that is not geofence's leads to its chain too: -A {jump.chain}"
                     f" {jump.rule}" for jump in jumps]  # fmt: skip
    return said


def _kept(fences: Sequence[str], tables: Sequence[iptables.Iptables]) -> list[str]:
    """Say which chains stay, empty, because somebody else's rule leads to them."""
    return [
        f"{one}: the chain {chain_name(fence)} stays, empty, for this rule leads to it:"
        f" -A {jump.chain} {jump.rule}"
        for fence in fences
        for one in tables
        for jump in ruletext.foreign_jumps(ruletext.read(one.save()), chain_name(fence))
    ]
