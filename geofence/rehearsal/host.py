"""Read what a rehearsal needs of the host: its rules, the sets they name, its interfaces."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from geofence import ruletext
from geofence.errors import KernelRefused
from geofence.kernel import iptables
from geofence.kernel.iptables import Iptables
from geofence.model import Address
from geofence.prefixes import format_address, parse_address
from geofence.programs import run

_NOT_FAITHFUL = ("NFQUEUE", "--path", "statistic", "quota", "time")
_MOST_NOTES = 5
OWN_SETS = "geofence-"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface, and its addresses with their prefix lengths."""

    name: str
    addresses: tuple[tuple[Address, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """A host's firewall and its interfaces, as text that loads again."""

    rules: tuple[tuple[Iptables, str], ...] = ()
    native: tuple[tuple[str, str, str], ...] = ()  # family, name, text
    sets: str = ""  # those that are not geofence's, as ipset save writes them
    interfaces: tuple[Interface, ...] = ()
    outside: str = "eth0"  # the interface by which the world comes in
    routes: tuple[tuple[Address, str], ...] = ()  # the interface by which an address comes in
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[ruletext.Table, ...]:
        """Every table of every variant."""
        return tuple(
            ruletext.read(text, name) for _, text in self.rules for name in iptables.TABLES
        )

    def way_of(self, address: Address) -> str:
        """Name the interface by which an address comes in."""
        return dict(self.routes).get(address, self.outside)


def read(addresses: Iterable[Address]) -> HostState:
    """Read this namespace. Raises KernelRefused, NoPermission if it cannot be read whole."""
    rules = tuple((one, one.save_all()) for one in iptables.everywhere())
    tables = [ruletext.read(text, name) for _, text in rules for name in iptables.TABLES]
    named = frozenset[str]().union(*(ruletext.sets_named(table) for table in tables))
    for one, _ in rules:
        if found := iptables.unprintable_sets(one):
            raise KernelRefused(
                f"the nft set {found[0]} is in a table of {one}, which prints rules that use it as"
                " if they matched everything: they cannot be rehearsed",
                cure="put those rules into an nft table of their own",
            )
    outside = _outside()
    return HostState(
        rules=rules,
        native=tuple(
            (family, name, iptables.native_text(family, name))
            for family, name in iptables.native_tables()
        ),
        sets=_saved_sets(sorted(name for name in named if not name.startswith(OWN_SETS))),
        interfaces=_interfaces(),
        outside=outside,
        routes=tuple(
            (one, way) for one in addresses if (way := _way_of(one)) and way not in ("lo", outside)
        ),
        notes=tuple(_not_faithful(tables)),
    )


def _saved_sets(names: Iterable[str], seen: frozenset[str] = frozenset()) -> str:
    """Save sets, and those that are members of them, before them."""
    texts = []
    for name in names:
        if name in seen:
            continue
        done = run(["ipset", "save", name])
        if done.returncode:
            raise KernelRefused(
                f"a rule names the set {name}, which cannot be copied: {done.stderr.strip()}",
                cure="install the package ipset, or take out the rule",
            )
        lines = done.stdout.splitlines()
        if lines and " list:set " in lines[0]:
            members = [line.split()[2] for line in lines[1:] if line.startswith("add ")]
            inner = [one for one in members if not one.startswith(OWN_SETS)]
            texts.append(_saved_sets(inner, seen | {name}))
        texts.append(done.stdout)
        seen |= {name}
    return "".join(texts)


def _interfaces() -> tuple[Interface, ...]:
    done = run(["ip", "-json", "address", "show"])
    if done.returncode:
        raise KernelRefused(
            f"cannot read the host's addresses: {done.stderr.strip()}",
            cure="install the package iproute2, or a newer one",
        )
    return tuple(
        Interface(
            one["ifname"],
            tuple(
                (parse_address(found["local"]), int(found["prefixlen"]))
                for found in one.get("addr_info", ())
                if found.get("scope") != "link" and "local" in found
            ),
        )
        for one in json.loads(done.stdout or "[]")
        if one.get("ifname", "lo") != "lo"
    )


def _outside() -> str:
    """Name the interface of the default route; else the first that is no loopback."""
    for option in ("-4", "-6"):
        done = run(["ip", option, "-json", "route", "show", "default"])
        for route in json.loads(done.stdout or "[]") if not done.returncode else ():
            for way in (route, *route.get("nexthops", ())):
                if way.get("dev", "lo") != "lo":  # which an unreachable default has
                    return str(way["dev"])
    return next((one.name for one in _interfaces()), "eth0")


def _way_of(address: Address) -> str:
    done = run(["ip", "-json", "route", "get", format_address(*address)])
    found = json.loads(done.stdout or "[]") if not done.returncode else []
    return str(found[0].get("dev", "")) if found else ""


def _not_faithful(tables: Iterable[ruletext.Table]) -> list[str]:
    """Name the rules that a rehearsal cannot follow as the host would."""
    found = [
        f"not rehearsed faithfully: -A {chain} {rule}"
        for table in tables
        for chain, rules in table.rules.items()
        for rule in rules
        if set(ruletext.words_of(rule)) & set(_NOT_FAITHFUL)
    ]
    more = len(found) - _MOST_NOTES
    return found[:_MOST_NOTES] + [f"and {more:,} more rules like these"] * (more > 0)
