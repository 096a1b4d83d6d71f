"""No change of a single rule that changes a verdict passes the rehearsal.

Which changes do not is known without a packet: rules with one target commute with each other,
and a LOG decides nothing. Everything else has to be caught.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import pytest

from geofence.context import open_sets
from geofence.errors import KernelRefused
from geofence.kernel.namespace import privately
from geofence.model import Family, Fence, Style
from geofence.rehearsal import _copies, _setup, host, trial
from tests.rehearsal import plays

ALLOW = Fence(name="JP", countries=("JP",), style=Style.ALLOW, target="SERVICES")
SERVICES = (
    ":INPUT DROP [0:0]",
    ":SERVICES - [0:0]",
    "-A INPUT -i lo -j ACCEPT",
    "-A SERVICES -p tcp -m tcp --dport 22 -j ACCEPT",
    "-A SERVICES -j REJECT",
)


def mutants(body: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give every rule removed, swapped with the next, with another target, and negated."""
    for n, rule in enumerate(body):
        before, behind = tuple(body[:n]), tuple(body[n + 1 :])
        yield f"without: {rule}", (*before, *behind)
        if behind:
            yield f"later: {rule}", (*before, behind[0], rule, *behind[1:])
        for target in ("ACCEPT", "DROP", "RETURN"):
            other = re.sub(r"-j (RETURN|DROP|SERVICES)$", f"-j {target}", rule)
            if other != rule:
                yield f"{target} instead: {rule}", (*before, other, *behind)
        for match in re.findall(
            r"(?:^| )((?:-i|-s|-d|--ctstate|--match-set|--sport|--dport) )", rule
        ):
            yield f"not {match}: {rule}", (*before, rule.replace(match, f"! {match}", 1), *behind)
        if "," in rule:
            for state in ("RELATED", "ESTABLISHED"):
                shorter = rule.replace("RELATED,ESTABLISHED", state)
                yield f"only {state}: {rule}", (*before, shorter, *behind)


def meaning(body: Sequence[str]) -> list[tuple[str, set[str]]]:
    """Give what decides: runs of rules with one target, which commute, without what only logs.

    Behind a rule without a match nothing is reached.
    """
    runs: list[tuple[str, set[str]]] = []
    for rule in body:
        target = rule.split()[rule.split().index("-j") + 1]
        if target == "LOG":
            continue
        if not runs or runs[-1][0] != target:
            runs.append((target, set()))
        runs[-1][1].add(rule)
        if rule.startswith("-j"):
            break
    return runs


def found_wrong(play, family: Family) -> bool:
    """Tell whether a rehearsal finds anything wrong, without naming what decided."""
    with open_sets() as sets:
        state = host.read([*play.owners])
        setup = _setup(play, play.fences[0], state, _copies(play, state, sets))
    setup = dataclasses.replace(setup, models={family: setup.models[family]})
    bare = [trial.on_bare_host(setup, verdict, ends=True) for verdict in ("ACCEPT", "DROP")]
    try:
        return any(trials(one) for one in (setup, *bare))
    except KernelRefused:
        return True


def trials(setup: trial.Setup) -> list[object]:
    """Give what a trial on one host finds wrong; that nobody gets in counts on the real one."""
    result = privately(lambda: trial.try_out(setup))
    return [*result.wrong, *(result.failures if setup.owners else [])]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("style", list(Style))
def test_every_mutant_that_means_another_thing_is_caught(style, family):
    fence = plays.GATE if style is Style.GATE else ALLOW
    plays.in_force()
    if style is Style.ALLOW:
        for one in Family:
            plays.host_rules("nft", *SERVICES, family=one)
    play = plays.play("nft", fence, trusting=["198.51.100.77", "2001:db8:77::1"])
    body = plays.body_of(play, family)
    assert not found_wrong(play, family)
    missed = [
        name
        for name, mutant in mutants(body)
        if meaning(mutant) != meaning(body)
        and not found_wrong(plays.with_body(play, family, mutant), family)
    ]
    assert missed == []


@pytest.mark.usefixtures("kernel")
def test_a_missing_rule_is_caught_on_legacy_too():
    plays.in_force()
    play = plays.play("legacy")
    body = plays.body_of(play, Family.INET)
    for n in range(len(body)):
        mutant = (*body[:n], *body[n + 1 :])
        if meaning(mutant) != meaning(body):
            assert found_wrong(plays.with_body(play, Family.INET, mutant), Family.INET), body[n]


def test_what_means_the_same_is_known():
    log = '-m limit --limit 10/min -j LOG --log-prefix "x"'
    assert meaning(["-s 10.0.0.0/8 -j RETURN", "-i lo -j RETURN", "-j DROP"]) == meaning(
        ["-i lo -j RETURN", log, "-s 10.0.0.0/8 -j RETURN", "-j DROP", "-i lo -j ACCEPT"]
    )
    assert meaning(["-i lo -j RETURN", "-j DROP"]) != meaning(["-j DROP", "-i lo -j RETURN"])
