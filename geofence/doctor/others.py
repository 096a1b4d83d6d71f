"""Findings about other programs' rules in the kernel."""

from collections.abc import Iterator

from geofence import owners as owning
from geofence import ruletext
from geofence.doctor.anybody import steps, verdict
from geofence.doctor.facts import Facts, Held
from geofence.doctor.finding import Finding
from geofence.model import Family, Forward
from geofence.ruletext import words_of

_EARLY = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", "INPUT"),
          ("security", "INPUT"))  # fmt: skip


def readable(facts: Facts) -> Iterator[Finding]:
    """Rules that could not be looked at."""
    for error in facts.unreadable:
        yield Finding(
            id="unreadable",
            what=error.what,
            cure=error.cure or "see what made these rules: nft list ruleset",
        )


def owners(facts: Facts) -> Iterator[Finding]:
    """Programs that will write all rules anew, without ours."""
    tables = [held.filter.rules for held in facts.rules]
    for owner in owning.among(tables, facts.native_tables).values():
        yield Finding(
            id="owner",
            what=f"{owner.name} rules this host's firewall, and will undo what geofence writes",
            cure=owner.cure,
        )


def both_variants(facts: Facts) -> Iterator[Finding]:
    """Rules in both variants of iptables, each of which may drop."""
    for family in Family:
        used = [held for held in facts.of_family(family) if held.in_use]
        if facts.records and len(used) > 1:
            names = " and ".join(held.name for held in used)
            yield Finding(
                id="both-variants",
                what=f"{names} both hold rules: both are asked, and what either drops is dropped",
                cure="move all rules into one of them, and empty the other:"
                f" {_tool(used[1])} -F; and the chains of its other tables",
            )


def drops(facts: Facts) -> Iterator[Finding]:
    """Tables beside ours that drop whom the fence lets in."""
    if not facts.records:
        return
    for native, why in facts.native_drops:
        yield Finding(
            id="other-table-drops",
            what=f"the nft table {native} drops too, by {why}, whoever the fence lets in",
            cure=f"see that it lets in whom you serve: nft list table {native}",
        )
    for held in facts.rules:
        for name, chain in _EARLY:
            table = held.tables[name]
            found = (
                step
                for step in steps(table, chain, facts.outside)
                if "-d" not in words_of(step.rule)  # Docker guards its containers so
            )
            what, step = verdict(found, table.policies.get(chain, ""))
            if what == "DROP":
                yield Finding(
                    id="other-table-drops",
                    what=f"{held.name}: the table {name} drops everybody:"
                    f" {step or f'the policy of {chain}'}",
                    cure=f"take it out: {_tool(held)} -t {name} -L {chain}",
                )


def forwarded(facts: Facts) -> Iterator[Finding]:
    """Published ports of containers, whose packets never come through INPUT."""
    for name in facts.records:
        if facts.expected(name).forward is not Forward.NONE:
            continue
        for held in facts.rules:
            published = _published(held)
            if published:
                docker = "DOCKER" in held.filter.rules
                yield Finding(
                    id="forwarded",
                    fence=name,
                    what=f"{held.name}: ports are forwarded to"
                    f" {'containers' if docker else 'other hosts'}, past INPUT and the fence:"
                    f" {published[0]}",
                    cure=f'set forward = "{"DOCKER-USER" if docker else "FORWARD"}" and outside ='
                    f" {_outside(facts)} for the fence; then: geofence enable",
                )


def ipv6(facts: Facts) -> Iterator[Finding]:
    """A fence of IPv4 on a host that is reached by IPv6 too."""
    for name in facts.records:
        families = facts.expected(name).families
        if families and Family.INET6 not in families and facts.reachable_by_ipv6:
            yield Finding(
                id="ipv6-open",
                fence=name,
                what="it is about IPv4 alone, and the host can be reached by IPv6",
                cure="take `families` out of the fence's configuration; then: geofence update;"
                " geofence enable",
            )


def _published(held: Held) -> list[str]:
    """Give the rules that lead strangers on to another host, or to a container."""
    return [
        f"-A {chain} {rule}"
        for chain, rules in held.tables["nat"].rules.items()
        for rule in rules
        if chain not in {"OUTPUT", "DOCKER_OUTPUT"}
        and ruletext.target_of(rule) == "DNAT"
        and "--to-destination 127." not in rule
    ] + [
        f"-A DOCKER {rule}"
        for rule in held.filter.rules.get("DOCKER", ())
        if ruletext.target_of(rule) == "ACCEPT"
    ]


def _outside(facts: Facts) -> str:
    return str(sorted(facts.outside) or ["eth0"]).replace("'", '"')


def _tool(held: Held) -> str:
    return f"{'iptables' if held.family is Family.INET else 'ip6tables'}-{held.variant}"
