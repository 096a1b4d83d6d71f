"""Which rules concern anybody who comes from outside, whatever they want? Pure.

What is not known to match everybody is taken to match a few: a check that cries wolf is no check.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from geofence.ruletext import Table, target_of, words_of

ACCEPT, DROPS = "ACCEPT", frozenset({"DROP", "REJECT", "TARPIT"})
_WIDE_PROTOCOLS = frozenset({"all", "0", "tcp", "6", "udp", "17", "udplite"})
_HARMLESS_MATCHES = frozenset({
    "tcp", "udp", "udplite", "comment", "conntrack", "state", "addrtype", "limit",
})  # fmt: skip
_ABOUT_NOBODY = frozenset({"--comment", "--limit", "--limit-burst", "--reject-with"})
_STATES = frozenset({"--ctstate", "--state"})
_NEW_TCP = ("FIN,SYN,RST,ACK", "SYN")  # how iptables-save writes --syn
_HALF = 1  # bits of a prefix that holds half of all addresses
_INNER = ("docker", "br-", "virbr", "veth", "cni", "lxc", "lxd", "tun", "tap", "wg", "tailscale",
          "zt", "ppp", "vnet", "cali", "flannel", "podman")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that anybody from outside meets: its chain, its place there from 1, its target."""

    chain: str
    position: int
    rule: str
    target: str

    def __str__(self) -> str:
        return f"-A {self.chain} {self.rule}"


def steps(table: Table, chain: str, outside: frozenset[str]) -> Iterator[Step]:
    """Give the rules that anybody from outside meets from a chain on, in their order.

    The chains they lead to come after the rule that leads there. ``outside`` are the interfaces
    that lead there; if they are not known, all that do not look like inner ones.
    """
    yield from _steps(table, chain, outside, ())


def verdict(found: Iterator[Step], policy: str) -> tuple[str, Step | None]:
    """Give what becomes of anybody, ACCEPT or DROP, and the rule that says so; None: the policy."""
    for step in found:
        if step.target == ACCEPT:
            return ACCEPT, step
        if step.target in DROPS:
            return "DROP", step
    return ("DROP" if policy == "DROP" else ACCEPT), None


def before(table: Table, chain: str, wanted: str, outside: frozenset[str]) -> Step | None:
    """Give the rule that decides on anybody before the chain ``wanted`` is asked, if there is."""
    for step in steps(table, chain, outside):
        if step.target == wanted:
            return None
        if step.target == ACCEPT or step.target in DROPS:
            return step
    return None


def concerns_anybody(rule: str, outside: frozenset[str]) -> bool:
    """Tell whether a rule matches whoever comes from outside, or all but a few of them."""
    words = list(words_of(rule))
    negated = False
    while words:
        word = words.pop(0)
        if word in {"-j", "--jump", "-g", "--goto"}:
            return True  # what follows are the target's own options
        if word == "!":
            negated = True
            continue
        wide = _wide(word, words, outside, negated=negated)
        if not wide:
            return False
        negated = False
    return True


def _wide(word: str, words: list[str], outside: frozenset[str], *, negated: bool) -> bool:
    """Tell whether a condition leaves most of those outside in; take its values off the words."""
    if word == "--syn":
        return not negated
    value = words.pop(0) if words else ""
    if word == "-m":
        return value in _HARMLESS_MATCHES
    if word in _ABOUT_NOBODY:
        return True
    if word == "--tcp-flags":
        return (value, words.pop(0) if words else "") == _NEW_TCP and not negated
    if word in _STATES:
        return ("NEW" in value.split(",")) is not negated
    return _narrows(word, value, outside) is negated


def _narrows(word: str, value: str, outside: frozenset[str]) -> bool:
    """Tell whether a condition, not negated, leaves most of those outside out."""
    match word:
        case "-i":
            return not _leads_outside(value, outside)
        case "-p":
            return value not in _WIDE_PROTOCOLS
        case "-s":
            return not _holds_half(value)
        case "-d":
            return _is_special(value)
        case "--dst-type":
            return value != "LOCAL"
    return True


def _leads_outside(pattern: str, outside: frozenset[str]) -> bool:
    if pattern == "lo":
        return False
    if not outside:
        return not pattern.startswith(_INNER)
    if pattern.endswith("+"):
        return any(name.startswith(pattern[:-1]) for name in outside)
    return pattern in outside


def _holds_half(prefix: str) -> bool:
    return prefix.partition("/")[2] in {str(length) for length in range(_HALF + 1)}


def _is_special(prefix: str) -> bool:
    """Tell whether a destination is none that a stranger's connection has."""
    try:
        network = ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return True
    whole = network.prefixlen <= _HALF
    return not whole and (network.is_multicast or network.is_loopback or network.is_reserved)


def _steps(
    table: Table, chain: str, outside: frozenset[str], above: tuple[str, ...]
) -> Iterator[Step]:
    for position, rule in enumerate(table.rules.get(chain, ()), 1):
        if not concerns_anybody(rule, outside):
            continue
        target = target_of(rule)
        if target == "RETURN":
            if not above and table.policies.get(chain) == ACCEPT:
                yield Step(chain, position, rule, ACCEPT)
            return
        yield Step(chain, position, rule, target)
        if target in table.rules and target not in (*above, chain):
            yield from _steps(table, target, outside, (*above, chain))


# nft, for tables that iptables did not make


def native_drops(
    ruleset: Sequence[Mapping[str, Mapping[str, object]]], native: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Give the native nft tables that drop anybody on their way in, each with what drops.

    ``ruleset`` is what ``nft -j list ruleset`` calls ``nftables``.
    """
    chains = [item["chain"] for item in ruleset if "chain" in item]
    rules = [item["rule"] for item in ruleset if "rule" in item]
    for chain in chains:
        table = str(chain["family"]), str(chain["table"])
        if table not in native or chain.get("hook") not in {"input", "prerouting", "ingress"}:
            continue
        if chain.get("policy") == "drop":
            yield " ".join(table), f"the policy of its chain {chain['name']}"
        elif _native_drop(table, str(chain["name"]), rules, ()):
            yield " ".join(table), f"a rule of its chain {chain['name']}"


def _native_drop(
    table: tuple[str, str],
    chain: str,
    rules: Sequence[Mapping[str, object]],
    above: tuple[str, ...],
) -> bool:
    for rule in rules:
        if (rule["family"], rule["table"], rule["chain"]) != (*table, chain):
            continue
        expressions = rule.get("expr")
        if not isinstance(expressions, list) or not all(map(_native_wide, expressions)):
            continue
        for one in expressions:
            if {"drop", "reject"} & set(one):
                return True
            if {"accept", "return"} & set(one):
                return False
            inner = one.get("jump") or one.get("goto")
            if (
                isinstance(inner, dict)
                and inner["target"] not in above
                and _native_drop(table, inner["target"], rules, (*above, chain))
            ):
                return True
    return False


def _native_wide(expression: Mapping[str, object]) -> bool:
    """Tell whether an expression of a rule leaves anybody in: a verdict, a counter, a log."""
    return not {"match", "vmap", "xt", "fib", "lookup", "limit", "quota"} & set(expression)
