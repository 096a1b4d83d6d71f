"""Load it all in a private network namespace, send real packets, and report the verdicts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence import ruletext
from geofence.errors import KernelRefused
from geofence.kernel import Sets
from geofence.kernel.namespace import privately
from geofence.model import (
    Address,
    Family,
    Fence,
    Lists,
    Prefix,
    PrefixList,
    set_name,
    trusted_name,
)
from geofence.rehearsal import host, trial, verdicts
from geofence.rehearsal.corpus import STANDS_FOR_TRUSTED, Model, Probe, Way, merged
from geofence.rehearsal.stage import SetCopy
from geofence.rehearsal.trial import Result, Seen, Setup
from geofence.rules import Goal

_MOST_NAMED = 5
_MOST_TRIED_ALONE = 12
_MOST_ROUTED = 16
_PASSES = {True: "pass", False: "be dropped"}
_PASSED = {True: "passed", False: "was dropped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A verdict that is not as it should be."""

    packet: str
    expected: str  # pass, or drop
    actual: str
    rule: str

    def __str__(self) -> str:
        """Name packet, expected and actual verdict, and the rule that decided."""
        return f"{self.packet}: should {self.expected}, {self.actual}, by {self.rule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal found."""

    packets: int = 0
    seconds: float = 0.0
    wrong: tuple[Wrong, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What is rehearsed: fences with the rules they are to get, and who must get in."""

    fences: Sequence[Fence]
    goals: Mapping[str, Sequence[Goal]]
    lists: Mapping[str, Lists]  # what each fence is meant to let in
    trusted: Mapping[Family, Sequence[Prefix]]
    owners: Mapping[Address, Way]  # and where they come to
    ssh_ports: Sequence[int]
    trusting: bool


def rehearse(play: Play, sets: Sets) -> Report:
    """Rehearse one fence after the other, each beside those before it.

    Raises NoNamespace where this process may not make one, and KernelRefused if the host's
    own rules, or the new ones, do not load.
    """
    started = time.monotonic()
    state = host.read([*play.owners, *_routed(play)])
    copies = _copies(play, state, sets)
    packets, wrong, failures, notes = 0, list[Wrong](), list[str](), [*state.notes]
    for fence in play.fences:
        setup = _setup(play, fence, state, copies)
        result = _tried(setup)
        bare = [
            trial.on_bare_host(setup, verdict, ends=ends)
            for verdict, ends in (("ACCEPT", result.unproved), ("DROP", False))
        ]
        for one, found in ((setup, result), *((one, _tried(one)) for one in bare)):
            packets += found.packets
            wrong += _again(one, found)
        outside, odd = _outside(fence, state)
        failures += [*result.failures, *outside]
        notes += [*odd, *result.notes]
    return Report(
        packets=packets,
        seconds=time.monotonic() - started,
        wrong=tuple(dict.fromkeys(wrong)),
        failures=tuple(dict.fromkeys(failures)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _routed(play: Play) -> list[Address]:
    """Give the trusted addresses whose way in is looked up; of a long list the first few."""
    return [
        (family, prefix.address)
        for family, prefixes in play.trusted.items()
        for prefix in prefixes[:_MOST_ROUTED]
    ]


def _tried(setup: Setup) -> Result:
    return privately(lambda: trial.try_out(setup))


def _setup(play: Play, fence: Fence, state: host.HostState, copies: tuple[SetCopy, ...]) -> Setup:
    goals = tuple(play.goals[fence.name])
    return Setup(
        state=state,
        sets=copies,
        fence=fence,
        goals=goals,
        models={
            family: Model(
                fence=fence,
                members=play.lists[fence.name].get(family, PrefixList(family, ())),
                trusted=merged(family, _trusted(play, family)),
                strays=_strays(play, fence, family, copies),
                trusting=play.trusting,
            )
            for family in dict.fromkeys(goal.rules.family for goal in goals)
        },
        owners={one: _known(way, state) for one, way in play.owners.items()},
        ports=tuple(play.ssh_ports),
    )


def _known(way: Way, state: host.HostState) -> Way:
    """Forget an address of the host's that the stage will not have."""
    there = {address for one in state.interfaces for address, _ in one.addresses}
    return way if way.own in there else Way(way.port)


def _strays(
    play: Play, fence: Fence, family: Family, copies: Sequence[SetCopy]
) -> tuple[Prefix, ...]:
    """Give what the kernel's set of a fence has, and the list that is meant has not."""
    meant = frozenset(play.lists[fence.name].get(family, PrefixList(family, ())).prefixes)
    name = set_name(fence.name, family)
    (held,) = [one.prefixes for one in copies if one.name == name] or [()]
    return tuple(one for one in held if one not in meant)


def _outside(fence: Fence, state: host.HostState) -> tuple[list[str], list[str]]:
    """Say what is wrong with the interfaces that forwarded traffic is to come in by."""
    names = {one.name for one in state.interfaces}
    failures = [
        f"{fence.name}: `outside` names {one}, and there is no such interface"
        for one in fence.outside
        if not one.endswith("+") and one not in names
    ]
    met = any(
        state.outside == one or (one.endswith("+") and state.outside.startswith(one[:-1]))
        for one in fence.outside
    )
    if not fence.forward or met:
        return failures, []
    return failures, [
        f"{fence.name}: the way to the world is {state.outside}, which `outside` does not name:"
        " what is forwarded from there does not meet the fence"
    ]


def _copies(play: Play, state: host.HostState, sets: Sets) -> tuple[SetCopy, ...]:
    """Copy every set of geofence's as the kernel has it, which is what the rules will meet."""
    names = {
        set_name(fence.name, family)
        for fence in play.fences
        for family in fence.families or tuple(Family)
    }
    for table in state.tables:
        names |= {name for name in ruletext.sets_named(table) if name.startswith(host.OWN_SETS)}
    found = []
    for name in sorted(names - {trusted_name(family) for family in Family}):
        header = sets.header(name)
        if header and header.family:
            prefixes = sets.read(name, header.family)
            found.append(SetCopy(name=name, family=header.family, prefixes=prefixes))
    return (
        *found,
        *(
            SetCopy(
                name=trusted_name(family),
                family=family,
                prefixes=_trusted(play, family),
                timed=True,
            )
            for family in Family
        ),
    )


def _trusted(play: Play, family: Family) -> tuple[Prefix, ...]:
    return tuple(dict.fromkeys((*play.trusted.get(family, ()), STANDS_FOR_TRUSTED[family])))


def _again(setup: Setup, result: Result) -> list[Wrong]:
    """Try each wrong verdict alone: what a limit, or another packet, had done is not there then.

    Without the fence and with it in a namespace each, for rules may remember who came before.
    """
    found: list[Wrong] = []
    suspects = [one.what for one in _most_telling(result.wrong)] + [*result.suspects]
    for what in suspects[:_MOST_TRIED_ALONE]:
        if len(found) == _MOST_NAMED:
            break
        if wrong := _alone(setup, what):
            found.append(wrong)
    return found


def _alone(setup: Setup, what: Probe | str) -> Wrong | None:
    family = trial.family_of(setup, what)
    old = privately(lambda: trial.without(setup, family, what))
    if isinstance(what, str):
        due = verdicts.talk_due(what, old)
    else:
        cut = privately(lambda: trial.meanwhile(setup, family, what))
        due = verdicts.due(setup.models[family], what, bool(old), cut=cut)
    new, rule = privately(lambda: trial.within(setup, family, what))
    if None in (due, new) or due == new:
        return None
    return Wrong(
        packet=str(what), expected=_PASSES[bool(due)], actual=_PASSED[bool(new)], rule=rule
    )


def _most_telling(wrong: Sequence[Seen]) -> list[Seen]:
    """Put the owner first, and one of each kind of packet before the next of the same kind."""
    seen: dict[object, int] = {}
    ranked: list[tuple[bool, int, int, Seen]] = []
    for one in wrong:
        kind = one.what if isinstance(one.what, str) else one.what.kind
        seen[kind] = seen.get(kind, 0) + 1
        owners = not isinstance(one.what, str) and one.what.owner
        ranked.append((not owners, seen[kind], len(ranked), one))
    return [one for *_, one in sorted(ranked, key=lambda found: found[:3])]


def refuse(report: Report) -> None:
    """Raise KernelRefused if a rehearsal found anything wrong."""
    said = [str(one) for one in report.wrong] + list(report.failures)
    if said:
        raise KernelRefused(
            "the rehearsal failed: " + "\n  ".join(said),
            still="the rules are as they were",
            cure="geofence rehearse shows it again, without changing anything",
        )
