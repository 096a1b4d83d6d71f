"""Read what iptables-save(8) prints of a table, and write what changes it in one step. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence.chain import Jump
from geofence.model import Family, chain_name, set_name

_JUMPS = ("-j", "--jump", "-g", "--goto")

# iptables-save names a protocol where /etc/protocols does, and each version has its own names
_PROTOCOL = re.compile(r"(?<!\S)-p (igmp|vrrp|icmpv6|58)(?!\S)")
_PROTOCOLS = {"igmp": "2", "vrrp": "112", "icmpv6": "ipv6-icmp", "58": "ipv6-icmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table's chains: the policy of each (``-``: it has none), and its rules without ``-A``."""

    policies: Mapping[str, str]
    rules: Mapping[str, tuple[str, ...]]

    @property
    def in_use(self) -> bool:
        """Whether it holds anything but empty chains that accept."""
        own = any(policy != "ACCEPT" for policy in self.policies.values())
        return own or any(self.rules.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a fence has in one table: its chain (None: not there), and the jumps to it."""

    chain: str
    body: tuple[str, ...] | None
    jumps: tuple[Jump, ...]


def read(text: str, table: str = "filter") -> Table:
    """Read one table of what iptables-save prints, without counters."""
    policies: dict[str, str] = {}
    rules: dict[str, list[str]] = {}
    inside = False
    for line in text.split("\n"):  # a comment may hold what else splitlines() takes for an end
        if line.startswith("*"):
            inside = line == f"*{table}"
        elif inside and line.startswith(":"):
            name, policy, *_ = line[1:].split()
            policies[name] = policy
            rules.setdefault(name, [])
        elif inside and (line.startswith(("-A ", "["))):
            _, _, rule = line.partition("-A ")
            name, _, rest = rule.partition(" ")
            rules.setdefault(name, []).append(rest)
    return Table(policies=policies, rules={name: tuple(found) for name, found in rules.items()})


def own(table: Table, chain: str) -> Own:
    """Give what a fence has in a table; jumps that somebody else made to its chain left out."""
    body = table.rules.get(chain)
    return Own(
        chain=chain,
        body=None if body is None else tuple(_as_we_write(rule) for rule in body),
        jumps=tuple(jump for jump in _leading_to(table, chain) if _is_ours(jump, chain)),
    )


def foreign_jumps(table: Table, chain: str) -> tuple[Jump, ...]:
    """Give the rules that lead to a fence's chain and that geofence did not make."""
    return tuple(jump for jump in _leading_to(table, chain) if not _is_ours(jump, chain))


def fences(table: Table) -> tuple[str, ...]:
    """Name the fences that have a chain in a table; a chain that names no set of ours is not one.

    An administrator may well have a chain called ALLOW-SSH-INPUT.
    """
    start, end = chain_name("|").split("|")
    named = {
        chain.removeprefix(start).removesuffix(end): rules
        for chain, rules in table.rules.items()
        if chain.startswith(start) and chain.endswith(end)
    }
    return tuple(
        fence
        for fence, rules in named.items()
        if {set_name(fence, family) for family in Family} & _sets_of(rules)
    )


def transaction(goal: Own, table: Table) -> str:
    """Write what iptables-restore --noflush needs to make a table hold a goal, in one step.

    It takes out as many of our jumps as the table was read with: if another tool changed one
    meanwhile the whole text is refused, and is to be written anew.
    """
    there = own(table, goal.chain)
    lines = ["*filter", f":{goal.chain} - [0:0]"]
    lines += [f"-D {jump.chain} {jump.rule}" for jump in there.jumps]
    lines += [f"-A {goal.chain} {rule}" for rule in goal.body or ()]
    gone = {chain: sum(one.chain == chain for one in there.jumps) for chain in table.rules}
    length = {chain: len(rules) - gone[chain] for chain, rules in table.rules.items()}
    for jump in goal.jumps:
        last = length.get(jump.chain, 0) + 1
        length[jump.chain] = last
        lines.append(f"-I {jump.chain} {min(jump.position, last)} {jump.rule}")
    if goal.body is None and not foreign_jumps(table, goal.chain):
        lines.append(f"-X {goal.chain}")
    return "\n".join([*lines, "COMMIT", ""])


def loading(goal: Own) -> str:
    """Write what iptables-restore --noflush loads where there is nothing of the fence, at boot."""
    lines = ["*filter", f":{goal.chain} - [0:0]"]
    lines += [f"-A {goal.chain} {rule}" for rule in goal.body or ()]
    lines += [f"-I {jump.chain} {jump.position} {jump.rule}" for jump in goal.jumps]
    return "\n".join([*lines, "COMMIT", ""])


def loaded(text: str, chain: str) -> Own:
    """Read what ``loading`` wrote."""
    body, jumps = [], []
    for line in text.splitlines():
        act, _, rest = line.partition(" ")
        name, _, rule = rest.partition(" ")
        if act == "-A" and name == chain:
            body.append(rule)
        elif act == "-I":
            position, _, rule = rule.partition(" ")
            jumps.append(Jump(name, rule, int(position)))
    return Own(chain=chain, body=tuple(body), jumps=tuple(jumps))


def holds(table: Table, goal: Own) -> bool:
    """Tell whether a table holds a goal, each jump once and at its place.

    Another fence's jump before it puts no jump out of its place: two may well want to be first.
    """
    there = own(table, goal.chain)
    if goal.body is None:
        kept = () if foreign_jumps(table, goal.chain) else None
        return not there.jumps and there.body == kept
    wanted = sorted(goal.jumps, key=_where)
    found = sorted(there.jumps, key=_where)
    return (
        there.body == goal.body
        and len(found) == len(wanted)
        and all(_in_place(one, other, table) for one, other in zip(found, wanted, strict=True))
    )


def sets_named(table: Table) -> frozenset[str]:
    """Name the sets that a table's rules refer to."""
    return frozenset().union(*(_sets_of(rules) for rules in table.rules.values()))


def interfaces_named(table: Table) -> frozenset[str]:
    """Name the interfaces that a table's rules match, wildcards included."""
    found = set()
    for rules in table.rules.values():
        for rule in rules:
            words = words_of(rule)
            found |= {words[n + 1] for n, word in enumerate(words[:-1]) if word in ("-i", "-o")}
    return frozenset(found)


def target_of(rule: str) -> str:
    """Name the target of a rule, or the chain it goes to; empty if it has none."""
    words = words_of(rule)
    return next((words[n + 1] for n, word in enumerate(words[:-1]) if word in _JUMPS), "")


def words_of(rule: str) -> Sequence[str]:
    """Cut a rule into words, as iptables-save quotes them."""
    try:
        return shlex.split(rule)
    except ValueError:
        return rule.split()


def _leading_to(table: Table, chain: str) -> list[Jump]:
    return [
        Jump(name, rule, position)
        for name, rules in table.rules.items()
        for position, rule in enumerate(rules, 1)
        if chain in rule and _leads_to(rule, chain)
    ]


def _leads_to(rule: str, chain: str) -> bool:
    """Tell whether a rule jumps to a chain: such a target has no options, and stands last."""
    *_, option, target = ["", "", *words_of(rule)]
    return option in _JUMPS and target == chain


def _where(jump: Jump) -> tuple[str, str, int]:
    return jump.chain, jump.rule, jump.position


def _in_place(found: Jump, wanted: Jump, table: Table) -> bool:
    """Tell whether a jump stands where it was asked for, or at the end of a shorter chain."""
    if (found.chain, found.rule) != (wanted.chain, wanted.rule):
        return False
    others = {chain_name(fence) for fence in fences(table)} - {target_of(found.rule)}
    rules = table.rules[found.chain]
    foreign = [
        place
        for place, rule in enumerate(rules, 1)
        if not any(_is_ours(Jump(found.chain, rule), chain) for chain in others)
    ]
    before = sum(place < found.position for place in foreign)
    return found.position == min(wanted.position, len(rules)) or before == min(
        wanted.position - 1, len(foreign) - 1
    )


def _as_we_write(rule: str) -> str:
    return _PROTOCOL.sub(lambda found: f"-p {_PROTOCOLS[found[1]]}", rule)


def _sets_of(rules: Sequence[str]) -> frozenset[str]:
    found = set()
    for rule in rules:
        words = words_of(rule)
        for flag in ("--match-set", "--add-set", "--del-set", "--map-set"):
            found |= {words[n + 1] for n, word in enumerate(words[:-1]) if word == flag}
    return frozenset(found)


def _is_ours(jump: Jump, chain: str) -> bool:
    """Tell whether a jump is of the form that ``chain.jumps`` writes."""
    if jump.chain == "INPUT":
        return jump.rule == f"-j {chain}"
    words = words_of(jump.rule)
    form = ["-m", "conntrack", "--ctstate", "NEW", "-j", chain]
    return jump.chain in ("FORWARD", "DOCKER-USER") and words[:1] == ["-i"] and words[2:] == form
