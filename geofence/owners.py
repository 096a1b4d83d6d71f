"""Who else rules this host's firewall, and would undo what geofence writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence import ruletext
from geofence.errors import KernelRefused
from geofence.kernel.iptables import Rules

_ZONES = (
    "let firewalld keep the set: firewall-cmd --permanent --new-ipset=geofence-JP"
    " --type=hash:net, and a rich rule; or give the rules to iptables:"
    " systemctl disable --now firewalld"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A program that rewrites all rules at its own times: its chains, its nft tables."""

    name: str
    chains: tuple[str, ...] = ()
    native_tables: tuple[str, ...] = ()
    cure: str


OWNERS = (
    Owner(
        name="firewalld",
        chains=("INPUT_direct", "INPUT_ZONES", "IN_public"),
        native_tables=("firewalld",),
        cure=_ZONES,
    ),
    Owner(
        name="Shorewall",
        chains=("shorewall", "dynamic", "reject"),
        cure="write the rule into Shorewall's own files, with +geofence-JP-inet as the source",
    ),
    Owner(
        name="CSF",
        chains=("LOCALINPUT", "INVDROP", "DENYIN"),
        cure="put `geofence enable` into /etc/csf/csfpost.sh, or let CSF go: csf -x",
    ),
)
"""Those that geofence refuses to write beside. A chain list counts when all of it is there,
firewalld's when any is."""


def found(tables: Sequence[Rules], native_tables: Sequence[tuple[str, str]]) -> Mapping[str, Owner]:
    """Give the owners whose rules are in the kernel."""
    chains = {name for rules in tables for name in ruletext.read(rules.save()).rules}
    names = {name for _, name in native_tables}
    return {
        owner.name: owner
        for owner in OWNERS
        if names & set(owner.native_tables)
        or (any if owner.native_tables else all)(chain in chains for chain in owner.chains)
    }


def refuse(tables: Sequence[Rules], native_tables: Sequence[tuple[str, str]]) -> None:
    """Refuse to write rules that another owner would undo."""
    for owner in found(tables, native_tables).values():
        raise KernelRefused(
            f"{owner.name} rules this host's firewall, and would undo what geofence writes",
            still="nothing was changed",
            cure=owner.cure,
        )
