"""Fences to rehearse: a short list, in the kernel, and the rules that would be applied."""

import dataclasses
from collections.abc import Sequence

from geofence import rules
from geofence.context import open_sets
from geofence.enforce import enforce
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family, Fence, PrefixList
from geofence.prefixes import parse_address, parse_prefix, parse_trusted
from geofence.rehearsal import Play, Report, rehearse
from geofence.rehearsal.corpus import Way
from geofence.rules import Goal
from geofence.ruletext import Own
from tests import lab

OWNER = "133.11.0.9"
JAPAN = ("133.11.0.0/16", "153.120.0.0/15", "210.171.224.0/20", "2001:200::/32", "2400:4000::/22")
GATE = Fence(name="JP", countries=("JP",))


def members(*prefixes: str):
    """Give prefixes as the lists of a fence."""
    found = [parse_prefix(text) for text in prefixes]
    return {
        family: PrefixList(family, tuple(sorted(one for of, one in found if of is family)))
        for family in Family
    }


def in_force(lists=None, fence: str = "JP") -> None:
    """Load lists into the fence's sets, and make the trusted ones."""
    with open_sets() as sets:
        enforce(fence, lists or members(*JAPAN), sets)


def play(
    variant: str = "nft",
    fence: Fence = GATE,
    *,
    lists=None,
    owners: Sequence[str] = (OWNER,),
    trusting: Sequence[str] = (),
) -> Play:
    """Say what ``enable`` would rehearse."""
    tables = [Iptables(family, Variant(variant)) for family in Family]
    return Play(
        fences=[fence],
        goals={fence.name: rules.wanted(fence, tables, trusting=bool(trusting))},
        lists={fence.name: lists or members(*JAPAN)},
        trusted={
            family: tuple(prefix for of, prefix in map(parse_trusted, trusting) if of is family)
            for family in Family
        },
        owners={parse_address(text): Way(22) for text in owners},
        ssh_ports=[22],
        trusting=bool(trusting),
    )


def with_body(one: Play, family: Family, body: Sequence[str]) -> Play:
    """Put another text into the chain of one family."""
    goals = [
        Goal(goal.rules, dataclasses.replace(goal.own, body=tuple(body)))
        if goal.rules.family is family
        else goal
        for goal in one.goals["JP"]
    ]
    return dataclasses.replace(one, goals={"JP": goals})


def body_of(one: Play, family: Family) -> tuple[str, ...]:
    """Give the text of the chain of one family."""
    (own,) = [goal.own for goal in one.goals["JP"] if goal.rules.family is family]
    assert isinstance(own, Own)
    assert own.body
    return own.body


def rehearsed(one: Play) -> Report:
    """Rehearse it on the host that this namespace is."""
    with open_sets() as sets:
        return rehearse(one, sets)


def host_rules(variant: str, *lines: str, family: Family = Family.INET) -> None:
    """Give the host rules of its own in the filter table."""
    program = "iptables" if family is Family.INET else "ip6tables"
    text = "\n".join(["*filter", *lines, "COMMIT", ""])
    lab.run(f"{program}-{variant}-restore", stdin=text)


def complaints(report: Report) -> str:
    """Give everything that a rehearsal found wrong."""
    return "\n".join([*map(str, report.wrong), *report.failures])
