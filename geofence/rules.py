"""Change the rules of both families, or of neither, and never another tool's."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from geofence import chain, ruletext
from geofence.errors import GeofenceError, KernelRefused
from geofence.kernel.iptables import Rules
from geofence.model import Family, Fence, Forward, chain_name
from geofence.ruletext import Own
from geofence.unparted import unparted

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Goal:
    """What one table is to hold of a fence."""

    rules: Rules
    own: Own


def wanted(fence: Fence, tables: Sequence[Rules], *, trusting: bool) -> tuple[Goal, ...]:
    """Say what the tables hold when the fence is enabled; a fence of one family has one chain."""
    families = fence.families or tuple(Family)
    return tuple(
        Goal(
            rules,
            Own(
                chain=chain_name(fence.name),
                body=chain.body(fence, rules.family, trusting=trusting),
                jumps=_present_jumps(fence, rules),
            ),
        )
        for rules in tables
        if rules.family in families
    )


def nothing_of(fence: str, tables: Sequence[Rules]) -> tuple[Goal, ...]:
    """Say what the tables hold when the fence is disabled."""
    gone = Own(chain=chain_name(fence), body=None, jumps=())
    return tuple(Goal(rules, gone) for rules in tables)


def reach(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """Make every table hold its goal, or leave all as they were; give what they held before.

    Only those that had to be changed are given: none, if all held it already.
    """
    before: list[Goal] = []
    with unparted():
        try:
            for goal in goals:
                held = ruletext.read(goal.rules.save())
                if not ruletext.holds(held, goal.own):
                    before.append(Goal(goal.rules, _held(held, goal.own)))
                    _reach(goal)
        except BaseException as error:
            _undo(before, error)
            raise
    return tuple(before)


def present(goals: Sequence[Goal]) -> bool:
    """Tell whether every table holds its goal."""
    return all(ruletext.holds(ruletext.read(goal.rules.save()), goal.own) for goal in goals)


def in_place(goal: Goal) -> bool:
    """Tell whether a table holds its goal, wherever other tools have pushed our jumps since."""
    there = ruletext.own(ruletext.read(goal.rules.save()), goal.own.chain)
    if goal.own.body is None:
        return not there.jumps and not there.body
    return there.body == goal.own.body and _places(there) == _places(goal.own)


def fences_in(tables: Sequence[Rules]) -> tuple[str, ...]:
    """Name the fences that have a chain in one of the tables."""
    found = {name for one in tables for name in ruletext.fences(ruletext.read(one.save()))}
    return tuple(sorted(found))


def _places(own: Own) -> list[tuple[str, str]]:
    return sorted((jump.chain, jump.rule) for jump in own.jumps)


def _held(table: ruletext.Table, goal: Own) -> Own:
    return ruletext.own(table, goal.chain)


def _undo(before: Sequence[Goal], cause: BaseException) -> None:
    """Put back what was changed; what cannot be is said with the cause."""
    failed = []
    for goal in reversed(before):
        try:
            if not present([goal]):  # what was refused changed nothing
                _reach(goal)
        except GeofenceError as error:
            failed.append(f"{goal.rules} could not be put back: {error.what}")
    if isinstance(cause, GeofenceError):
        cause.still = "; ".join(failed) or cause.still or "the rules are as they were"


def _reach(goal: Goal) -> None:
    """Change one table in one transaction, anew if another tool changed it meanwhile.

    The jump is insisted on, once; its place is where it was asked for when it was made, and
    another tool's insertion may move it.
    """
    refusal: GeofenceError | None = None
    for _ in range(_ATTEMPTS):
        before = goal.rules.save()
        table = ruletext.read(before)
        text = ruletext.transaction(goal.own, table)
        try:
            goal.rules.restore(text)
        except KernelRefused as error:
            refusal = error
            if _same_rules(before, goal.rules.save()):
                raise
            continue
        if in_place(goal):
            return
    raise refusal or KernelRefused(
        f"{goal.rules} does not hold the chain {goal.own.chain} after it was loaded",
        cure="another tool changes the rules at the same time: end it, and run this again",
    )


def _same_rules(one: str, other: str) -> bool:
    return ruletext.read(one).rules == ruletext.read(other).rules


def _present_jumps(fence: Fence, rules: Rules) -> tuple[chain.Jump, ...]:
    """Give the fence's jumps; where a family has no DOCKER-USER, FORWARD has them."""
    found = chain.jumps(fence)
    if fence.forward is not Forward.DOCKER_USER:
        return found
    with contextlib.suppress(GeofenceError):
        if "DOCKER-USER" in ruletext.read(rules.save()).rules:
            return found
    return tuple(
        chain.Jump("FORWARD", jump.rule, jump.position) if jump.chain == "DOCKER-USER" else jump
        for jump in found
    )
