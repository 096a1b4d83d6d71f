"""Firewalls as they are found on hosts, how they look now, and one in memory that refuses alike."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from geofence import ruletext
from geofence.errors import KernelRefused
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family
from tests import lab

BOTH = [(family, variant) for variant in Variant for family in Family]
_TARGETS = ("ACCEPT", "DROP", "RETURN", "REJECT", "LOG", "MASQUERADE", "DNAT", "NOTRACK", "CT")

# fail2ban, Docker, an administrator's own: with quotes, odd names, and all tables
HOST_INET = """\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ALLOW-SSH-INPUT - [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:f2b-sshd - [0:0]
:my.odd_chain:1 - [0:0]
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "owner\\'s \\"way in\\"" -j ALLOW-SSH-INPUT
-A INPUT -p tcp -m tcp --dport 25 -m comment --comment "-A INPUT -j ALLOW-JP-INPUT" -j ACCEPT
-A INPUT -s 192.0.2.0/24 -g my.odd_chain:1
-A INPUT -m limit --limit 5/min -j LOG --log-prefix "denied: -j ALLOW-JP-INPUT "
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A ALLOW-SSH-INPUT -s 198.51.100.0/24 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
-A f2b-sshd -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
-A my.odd_chain:1 -j RETURN
COMMIT
"""
HOST_INET6 = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:f2b-sshd - [0:0]
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A INPUT -i lo -j ACCEPT
-A INPUT -p ipv6-icmp -j ACCEPT
-A INPUT -s 2001:db8::/32 -p tcp -m tcp --dport 443 -j ACCEPT
-A f2b-sshd -j RETURN
COMMIT
"""
HOST = {Family.INET: HOST_INET, Family.INET6: HOST_INET6}
_PROGRAM = {Family.INET: "iptables", Family.INET6: "ip6tables"}


def program(family: Family, variant: str, act: str = "") -> str:
    """Name one of iptables' programs."""
    return "-".join(word for word in (_PROGRAM[family], variant, act) if word)


def load(family: Family, variant: str, text: str) -> None:
    """Put rules beside those that are there."""
    lab.run(program(family, variant, "restore"), "--noflush", "-w", stdin=text)


def load_host(variant: str) -> None:
    """Make this (private) namespace look like a host that was looked after for years."""
    for family, text in HOST.items():
        load(family, variant, text)


def empty() -> None:
    """Take every rule of every table and kind out of this (private) namespace."""
    for family in Family:
        for table in _legacy_names(family):
            chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in _built_in(table))
            text = f"*{table}\n{chains}COMMIT\n"
            lab.run(program(family, "legacy", "restore"), "-w", stdin=text)
    lab.run("nft", "flush", "ruleset")


def _built_in(table: str) -> tuple[str, ...]:
    return {
        "raw": ("PREROUTING", "OUTPUT"),
        "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
        "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    }.get(table, ("INPUT", "FORWARD", "OUTPUT"))


def _legacy_names(family: Family) -> list[str]:
    name = "ip_tables_names" if family is Family.INET else "ip6_tables_names"
    return Path("/proc/net", name).read_text().split()


def saves() -> dict[str, str]:
    """Give all rules of both families and variants, and native tables; no counters, no dates."""
    found = {
        program(family, variant): re.sub(
            r"\[\d+:\d+\]", "", _rules_alone(lab.run(program(family, variant, "save")))
        )
        for family, variant in BOTH
    }
    tables = [line.split()[1:3] for line in lab.run("nft", "list", "tables").splitlines()]
    for family, name in tables:
        if family in ("inet", "netdev"):
            found[f"nft {family} {name}"] = lab.run("nft", "-s", "list", "table", family, name)
    return found


def _rules_alone(text: str) -> str:
    return "".join(f"{line}\n" for line in text.split("\n") if line and line[0] != "#")


def filter_table(family: Family, variant: str) -> ruletext.Table:
    """Read the filter table back."""
    text = lab.run(program(family, variant, "save"), "-t", "filter")
    return ruletext.read(text)


def make_sets(fence: str = "JP") -> None:
    """Make a fence's sets, and the trusted ones, with an entry each."""
    for family, prefix in (("inet", "198.51.100.0/24"), ("inet6", "2001:db8:1::/48")):
        lab.run("ipset", "create", f"geofence-{fence}-{family}", "hash:net", "family", family)
        lab.run("ipset", "add", f"geofence-{fence}-{family}", prefix)


def make_trusted() -> None:
    for family in Family:
        name = f"geofence-trusted-{family}"
        lab.run("ipset", "create", name, "hash:net", "family", family, "timeout", "0")


def real(family: Family, variant: str) -> Iptables:
    return Iptables(family, Variant(variant))


@dataclass
class FakeRules:
    """A filter table in memory that does what iptables-restore --noflush does, or refuses alike."""

    family: Family = Family.INET
    variant: Variant = Variant.NFT
    policies: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(("INPUT", "FORWARD", "OUTPUT"), "ACCEPT")
    )
    rules: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for chain in self.policies:
            self.rules.setdefault(chain, [])

    def __str__(self) -> str:
        return f"{_PROGRAM[self.family]} ({self.variant})"

    @property
    def table(self) -> ruletext.Table:
        return ruletext.read(self.save())

    def save(self) -> str:
        lines = ["# made by a test", "*filter"]
        lines += [f":{chain} {policy} [0:0]" for chain, policy in self.policies.items()]
        lines += [f"-A {chain} {rule}" for chain, rules in self.rules.items() for rule in rules]
        return "\n".join([*lines, "COMMIT", ""])

    def restore(self, text: str) -> None:
        policies, rules = dict(self.policies), {one: [*held] for one, held in self.rules.items()}
        first, *lines, commit, end = text.split("\n")
        if (first, commit, end) != ("*filter", "COMMIT", ""):
            raise KernelRefused(f"no whole table: {text!r}")
        for line in lines:
            _apply(line, policies, rules)
        for chain, held in rules.items():
            for rule in held:
                target = re.search(r"-[jg] (\S+)(?: --\S+.*)?$", rule)
                if target and target[1] not in (*rules, *_TARGETS):
                    raise KernelRefused(f"{chain}: no chain or target {target[1]}")
        self.policies, self.rules = policies, rules


def _apply(line: str, policies: dict[str, str], rules: dict[str, list[str]]) -> None:
    word, chain, rest = ([*line.split(" ", 2), ""])[:3]
    if line.startswith(":"):
        name, policy = line[1:].split()[:2]
        policies[name] = policy
        rules[name] = [] if policy == "-" else rules.get(name, [])
        return
    if chain not in rules:
        raise KernelRefused(f"no chain {chain}: {line}")
    if word == "-A":
        rules[chain].append(rest)
    elif word == "-I":
        place, _, rule = rest.partition(" ")
        if not 1 <= int(place) <= len(rules[chain]) + 1:
            raise KernelRefused(f"index of insertion too big: {line}")
        rules[chain].insert(int(place) - 1, rule)
    elif word == "-D":
        if rest not in rules[chain]:
            raise KernelRefused(f"no such rule: {line}")
        rules[chain].remove(rest)
    elif word == "-X":
        others = (rule for held in rules.values() for rule in held)
        if rules[chain] or any(rule.endswith((f"-j {chain}", f"-g {chain}")) for rule in others):
            raise KernelRefused(f"the chain is in use: {line}")
        del rules[chain], policies[chain]
    else:
        raise KernelRefused(f"what is {line!r}?")
