"""Try one fence on a stage: without it, with it, and what a packet met that was judged wrong."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from geofence import rules, ruletext
from geofence.kernel.iptables import Iptables
from geofence.model import Address, Family, Fence, Forward, Style
from geofence.rehearsal import corpus, kinds, talks, verdicts
from geofence.rehearsal.corpus import Model, Probe
from geofence.rehearsal.host import HostState
from geofence.rehearsal.packets import TCP, Kind
from geofence.rehearsal.stage import SetCopy, Stage, interfaces_of
from geofence.rules import Goal
from geofence.ruletext import Own

_BURST = 150  # more than the usual limit rule lets through at once
_FORWARDED_DIRECTLY = Kind(TCP, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is tried: a host, one fence on it, and who must get in."""

    state: HostState
    sets: tuple[SetCopy, ...]
    fence: Fence
    goals: tuple[Goal, ...]
    models: Mapping[Family, Model]
    owners: Mapping[Address, corpus.Way]  # and where they come to
    ports: tuple[int, ...]  # of SSH
    ends: bool = True  # whether both ends of every prefix are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A packet, or a conversation by its name; what should have become of it, and what did."""

    what: Probe | str
    expected: bool
    actual: bool


@dataclass(slots=True, kw_only=True)
class Result:
    """What a trial found."""

    packets: int = 0
    wrong: list[Seen] = field(default_factory=list)
    suspects: list[Probe] = field(default_factory=list)  # trusted, and nothing let them in
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unproved: bool = False  # the host's own rules hid what the chain does


def try_out(setup: Setup) -> Result:
    """Try every packet, in the namespace this process is in."""
    stage, result = Stage(setup.state, setup.sets), Result()
    _without(setup, stage)
    for model in setup.models.values():
        probes = _probes(setup, model, stage, result)
        talked = _talks(setup, model.family)
        before = [stage.gets_in(one, 1) for one in probes]
        said = {name: talk(stage) for name, talk in talked.items()}
        meanwhile = _meanwhile(setup, model, stage, probes)
        _with(setup, model.family)
        now = [stage.gets_in(one, 3) for one in probes]
        found = list(zip(probes, before, meanwhile, now, strict=True))
        result.packets += len(probes) * 2 + len(talked)
        result.wrong += [
            Seen(what=probe, expected=due, actual=new)
            for probe, old, cut, new in found
            if (due := verdicts.due(model, probe, old, cut=cut)) != new
        ]
        result.wrong += _talked(stage, talked, said, result)
        result.failures += verdicts.overall(model, _kinds(setup, model), _unnamed(setup), found)
        suspects, notes = verdicts.unheard(model, found)
        result.suspects += suspects
        result.notes += notes
        result.unproved |= any(
            not old
            for probe, old, _, _ in found
            if probe.why.startswith(("first", "last")) and not probe.inside
        )
        _without(setup, stage)
    return result


def without(setup: Setup, family: Family, what: Probe | str) -> bool | None:
    """Try one packet, or one conversation, without the fence, and nothing else before it."""
    stage = Stage(setup.state, setup.sets)
    _without(setup, stage)
    return _one(setup, stage, family, what)


def meanwhile(setup: Setup, family: Family, what: Probe) -> bool:
    """Try one packet with a chain that is one DROP, or one jump to the target."""
    stage = Stage(setup.state, setup.sets)
    _without(setup, stage)
    (cut,) = _meanwhile(setup, setup.models[family], stage, [what])
    return cut


def within(setup: Setup, family: Family, what: Probe | str) -> tuple[bool | None, str]:
    """Try one packet, or one conversation, with the fence, and name the rule that decided."""
    stage = Stage(setup.state, setup.sets)
    _without(setup, stage)
    _with(setup, family)
    before = stage.counted()
    passed = _one(setup, stage, family, what)
    return passed, verdicts.decider(before, stage.counted(), passed=bool(passed))


def _one(setup: Setup, stage: Stage, family: Family, what: Probe | str) -> bool | None:
    if isinstance(what, str):
        return _talks(setup, family)[what](stage)
    return stage.gets_in(what, 1)


def family_of(setup: Setup, what: Probe | str) -> Family:
    """Tell what family a packet or a conversation is of."""
    if not isinstance(what, str):
        return what.source[0]
    return next(family for family in setup.models if what in _talks(setup, family))


def on_bare_host(setup: Setup, verdict: str, *, ends: bool) -> Setup:
    """Give the same fence on a host whose own rules give everything one verdict.

    What the chain lets RETURN is seen where that is ACCEPT, and what it ends itself where it is
    DROP; style allow meets the verdict in its target.
    """
    policy = verdict if setup.fence.style is Style.GATE else "DROP"
    text = f"*filter\n:INPUT {policy}\n"
    if setup.fence.style is Style.ALLOW and setup.fence.target != "ACCEPT":
        text += f":{setup.fence.target} -\n-A {setup.fence.target} -j {verdict}\n"
    if setup.fence.forward is Forward.DOCKER_USER:
        text += ":DOCKER-USER -\n-A FORWARD -j DOCKER-USER\n"
    tables = [Iptables(goal.rules.family, goal.rules.variant) for goal in setup.goals]
    state = dataclasses.replace(
        setup.state, rules=tuple((one, f"{text}COMMIT\n") for one in tables), native=(), sets=""
    )
    return dataclasses.replace(setup, state=state, owners={}, ends=ends)


def _probes(setup: Setup, model: Model, stage: Stage, result: Result) -> list[Probe]:
    """Choose the packets: a few of every kind, and one from all ends of all prefixes."""
    kinds = _kinds(setup, model)
    found = list(dict.fromkeys(corpus.sampled(model, kinds, setup.owners)))
    found += _forwarded(setup, model)
    if not setup.ends:
        return found
    kind = next((one for one in kinds if _all_get_in(model, stage, one)), None)
    if kind is None:
        result.unproved = True
        kind = kinds[0]
    return found + list(corpus.ends(model, kind))


def _kinds(setup: Setup, model: Model) -> tuple[Kind, ...]:
    named = kinds.services(model.family, setup.ports, setup.state.tables)
    return (*named, *_unnamed(setup))


def _unnamed(setup: Setup) -> tuple[Kind, ...]:
    return kinds.unnamed(setup.ports, setup.state.tables)


def _all_get_in(model: Model, stage: Stage, kind: Kind) -> bool:
    """Tell whether the host's own rules let members in by a kind, however many come."""
    sources = [(model.family, prefix.address) for prefix in model.members.prefixes[:_BURST]]
    if not sources:
        return False
    many = (sources * _BURST)[:_BURST]
    return all(stage.gets_in(Probe(one, kind, ""), 10 + turn) for turn, one in enumerate(many))


def _forwarded(setup: Setup, model: Model) -> list[Probe]:
    """Send to what is forwarded: the published ports, and straight to a guest."""
    found: list[Probe] = []
    for guest in _guests(setup):
        if guest.address[0] is model.family:
            direct = dataclasses.replace(_FORWARDED_DIRECTLY, destination=guest.address)
            targets = (*kinds.published(_tables_of(setup.state, model.family)), direct)
            found += corpus.forwarded(model, guest.inside, targets)
    return found


def _guests(setup: Setup) -> list[talks.Guest]:
    """Give an address in the network behind each inner interface, if traffic is forwarded."""
    found = []
    for one in interfaces_of(setup.state) if setup.fence.forward else ():
        if one.name in (*setup.fence.outside, setup.state.outside):
            continue
        for (family, number), length in one.addresses:
            if length < family.bits - 1:
                network = number >> family.bits - length << family.bits - length
                guest = network + 2 if number == network + 1 else network + 1
                found.append(talks.Guest((family, guest), one.name))
    return found


def _talks(setup: Setup, family: Family) -> dict[str, talks.Talk]:
    return talks.talks(family, setup.owners, _guests(setup))


def _tables_of(state: HostState, family: Family) -> list[ruletext.Table]:
    return [ruletext.read(text, "nat") for one, text in state.rules if one.family is family]


def _meanwhile(setup: Setup, model: Model, stage: Stage, probes: Sequence[Probe]) -> list[bool]:
    gate = model.fence.style is Style.GATE
    if gate and model.fence.position == 1:
        return [False] * len(probes)
    body = ("-j DROP",) if gate else (f"-j {model.fence.target}",)
    rules.reach(
        [
            Goal(goal.rules, Own(chain=goal.own.chain, body=body, jumps=goal.own.jumps))
            for goal in setup.goals
            if goal.rules.family is model.family
        ]
    )
    return [stage.gets_in(one, 2) for one in probes]


def _without(setup: Setup, stage: Stage) -> None:
    rules.reach(rules.nothing_of(setup.fence.name, stage.tables))


def _with(setup: Setup, family: Family) -> None:
    rules.reach([goal for goal in setup.goals if goal.rules.family is family])


def _talked(
    stage: Stage,
    talked: Mapping[str, talks.Talk],
    said: Mapping[str, bool | None],
    result: Result,
) -> list[Seen]:
    wrong = []
    for name, talk in talked.items():
        now, due = talk(stage), verdicts.talk_due(name, said[name])
        if due is None or now is None:
            result.notes.append(f"the host's own rules do not let it begin: {name}")
        elif due != now:
            wrong.append(Seen(what=name, expected=due, actual=now))
        elif not due:
            result.notes.append(f"the host's own rules drop it: {name}")
    return wrong
