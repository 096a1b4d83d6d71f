"""Findings about the fences' chains, and the rules of the host around them."""

from collections.abc import Iterator

from geofence import ruletext
from geofence.chain import jumps
from geofence.doctor.anybody import DROPS, before, steps, verdict
from geofence.doctor.facts import Facts, Held
from geofence.doctor.finding import Finding
from geofence.model import Family, Forward, Style, chain_name

_REPAIR = "geofence repair"


def in_place(facts: Facts) -> Iterator[Finding]:
    """A chain or a jump that is gone, or not as it was put there."""
    for name, family, found in _homes(facts):
        if not found:
            yield Finding(
                id="chain-missing",
                fence=name,
                what=f"its chain is not there for {family.label}: nobody is kept out",
                cure=_REPAIR,
            )
        recorded = facts.records[name].variants.get(family)
        for held in found:
            if len(found) == 1 or held.variant is recorded:
                yield from _as_put(facts, name, held)


def recorded(facts: Facts) -> Iterator[Finding]:
    """A chain that is at work, and of which the next boot knows nothing."""
    waiting = facts.waiting.fences if facts.waiting else ()
    if facts.boot_state:  # these have findings of their own
        waiting += facts.boot_state.unrecorded + facts.boot_state.damaged_records
    for held in facts.rules:
        for name in ruletext.fences(held.filter):
            at_work = ruletext.own(held.filter, chain_name(name)).jumps
            if at_work and name not in facts.records and name not in waiting:
                yield Finding(
                    id="not-recorded",
                    fence=name,
                    what=f"its chain is in {held.name}, and it is not stored that it is enabled",
                    cure="geofence enable, or geofence disable",
                )


def in_one_variant(facts: Facts) -> Iterator[Finding]:
    """A chain of ours in both variants: both are asked."""
    for name, family, found in _homes(facts):
        if len(found) > 1:
            yield Finding(
                id="chain-twice",
                fence=name,
                what=f"its chain for {family.label} is in {' and in '.join(h.name for h in found)}",
                cure="geofence disable; geofence enable",
            )


def reached(facts: Facts) -> Iterator[Finding]:
    """A rule before the jump that lets everybody in, or for style allow keeps everybody out."""
    for name, _, found in _homes(facts):
        fence = facts.expected(name)
        ways = ["INPUT"] if fence.forward is Forward.NONE else ["INPUT", "FORWARD"]
        for held in found:
            for way in ways:
                yield from _behind(facts, name, held, way)


def foreign_jumps(facts: Facts) -> Iterator[Finding]:
    """Rules that lead to a chain of ours and that geofence did not make, nor will take out."""
    for held in facts.rules:
        for name in ruletext.fences(held.filter):
            for jump in ruletext.foreign_jumps(held.filter, chain_name(name)):
                yield Finding(
                    id="foreign-jump",
                    fence=name,
                    what=f"{held.name}: a rule that is not geofence's leads to its chain:"
                    f" -A {jump.chain} {jump.rule}",
                    cure=f"take it out: -D {jump.chain} {jump.rule}",
                )


def nothing_drops(facts: Facts) -> Iterator[Finding]:
    """A fence of style allow on a host that lets everybody in anyway."""
    for name, _, found in _homes(facts):
        if facts.expected(name).style is not Style.ALLOW:
            continue
        for held in found:
            after = (
                step
                for step in steps(held.filter, "INPUT", facts.outside)
                if step.chain != chain_name(name)
            )
            what, step = verdict(after, held.filter.policies.get("INPUT", ""))
            if what != "DROP" and _met(held, name, facts):
                why = str(step) if step else "no rule drops, and the policy of INPUT is ACCEPT"
                yield Finding(
                    id="nothing-drops",
                    fence=name,
                    what=f"{held.name}: who is not let in by the fence gets in all the same: {why}",
                    cure='add a last rule to INPUT that drops, or use style = "gate"',
                )


def connections(facts: Facts) -> Iterator[Finding]:
    """Connections that are not tracked: their answers are taken for strangers."""
    if not facts.records:
        return
    if not facts.tracks_connections:
        yield Finding(
            id="conntrack",
            what="the kernel does not track connections: a gate drops the answers to what the host"
            " asks others",
            cure="modprobe nf_conntrack, and let it be loaded at boot: /etc/modules-load.d",
        )
    for held in facts.rules:
        for chain in ("PREROUTING", "OUTPUT"):
            for step in steps(held.tables["raw"], chain, facts.outside):
                if step.target == "NOTRACK" or (step.target == "CT" and "--notrack" in step.rule):
                    yield Finding(
                        id="untracked",
                        what=f"{held.name}: the table raw exempts everybody from the tracking of"
                        f" connections, and a gate drops the answers to what the host asks: {step}",
                        cure=f"take it out, or narrow it: -t raw -D {chain} {step.rule}",
                    )


def _homes(facts: Facts) -> Iterator[tuple[str, Family, tuple[Held, ...]]]:
    """Give each enabled fence and family, and the variants that hold its chain."""
    for name, record in facts.records.items():
        for family in facts.families:
            if family in (record.families or tuple(Family)):
                held = facts.of_family(family)
                yield (
                    name,
                    family,
                    tuple(one for one in held if chain_name(name) in one.filter.rules),
                )


def _as_put(facts: Facts, name: str, held: Held) -> Iterator[Finding]:
    there = ruletext.own(held.filter, chain_name(name))
    if there.body not in facts.bodies(name, held.family):
        yield Finding(
            id="chain-changed",
            fence=name,
            what=f"{held.name}: somebody changed its chain",
            cure=_REPAIR,
        )
    wanted = sorted(jump.rule for jump in jumps(facts.expected(name)))
    if sorted(jump.rule for jump in there.jumps) != wanted:
        yield Finding(
            id="jump-missing",
            fence=name,
            what=f"{held.name}: {len(there.jumps)} of {len(wanted)} rules lead to its chain",
            cure=_REPAIR,
        )


def _met(held: Held, name: str, facts: Facts) -> bool:
    """Tell whether a packet from outside comes to the fence's chain at all."""
    chain = chain_name(name)
    return before(held.filter, "INPUT", chain, facts.outside) is None


def _behind(facts: Facts, name: str, held: Held, way: str) -> Iterator[Finding]:
    fence = facts.expected(name)
    step = before(held.filter, way, chain_name(name), facts.outside)
    if step is None or (step.target in DROPS and fence.style is not Style.ALLOW):
        return
    lets = "keeps everybody out" if step.target in DROPS else "lets everybody in"
    first = "geofence repair puts the jump first again"
    if fence.position > 1 and way == "INPUT":
        first = f"set position = 1 for the fence (it is {fence.position}); then: geofence enable"
    yield Finding(
        id="behind-drop" if step.target in DROPS else "behind-accept",
        fence=name,
        what=f"{held.name}: a rule {lets} before the fence is asked: {step}",
        cure=f"take it out (-D {step.chain} {step.rule}), or narrow it; or: {first}",
    )
