"""Who else rules this host's firewall, and would undo what geofence writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geofence import ruletext
from geofence.errors import KernelRefused
from geofence.kernel.iptables import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A program that empties INPUT and writes all rules anew, at its own times.

    It is there when all of its chains are, or any of its native nft tables. The names are those
    that it makes whatever its configuration says, and that nobody else does.
    """

    name: str
    chains: tuple[str, ...]
    native_tables: tuple[str, ...] = ()
    units: tuple[str, ...] = ()  # what starts it at boot
    cure: str


OWNERS = (
    Owner(
        name="firewalld",
        chains=("INPUT_ZONES",),  # of its iptables backend, the only one before 0.6
        native_tables=("firewalld",),
        units=("firewalld",),
        cure="let firewalld keep the set: firewall-cmd --permanent --new-ipset=geofence-JP"
        " --type=hash:net, and a rich rule; or give the rules to iptables:"
        " systemctl disable --now firewalld",
    ),
    Owner(
        name="Shorewall",
        chains=("shorewall",),  # by which `shorewall status` itself tells
        units=("shorewall", "shorewall6", "shorewall-lite", "shorewall6-lite"),
        cure="write the rule into Shorewall's own files, with +geofence-JP-inet as the source; or"
        " let Shorewall go: shorewall clear, and disable its service",
    ),
    Owner(
        name="CSF",
        chains=("LOGDROPIN", "DENYIN"),
        units=("csf",),
        cure="let CSF go: csf -x; or let it filter countries itself: CC_ALLOW_FILTER in csf.conf",
    ),
    Owner(
        name="APF",
        chains=("TALLOW", "TGALLOW"),
        units=("apf",),
        cure="let APF go: apf -f, and disable its service and its line in /etc/cron.d",
    ),
    Owner(
        name="SuSEfirewall2",
        chains=("input_ext", "reject_func"),
        units=("SuSEfirewall2",),
        cure="let SuSEfirewall2 go: rcSuSEfirewall2 stop, and disable its service",
    ),
)
"""Those that geofence refuses to write beside.

Not among them are who leave the rules of others alone: ufw, Docker, fail2ban, libvirt,
kube-proxy, Proxmox.
"""


def found(tables: Sequence[Rules], native_tables: Sequence[tuple[str, str]]) -> Mapping[str, Owner]:
    """Give the owners whose rules are in the kernel."""
    held = [ruletext.read(rules.save()).rules for rules in tables]
    return among(held, native_tables)


def among(
    tables: Sequence[Mapping[str, object]], native_tables: Sequence[tuple[str, str]]
) -> Mapping[str, Owner]:
    """Give the owners of these chains, a mapping for each table, and native nft tables."""
    names = {name for _, name in native_tables}
    return {
        owner.name: owner
        for owner in OWNERS
        if names & set(owner.native_tables)
        or any(all(chain in table for chain in owner.chains) for table in tables)
    }


def refuse(tables: Sequence[Rules], native_tables: Sequence[tuple[str, str]]) -> None:
    """Refuse to write rules that another owner would undo."""
    for owner in found(tables, native_tables).values():
        raise KernelRefused(
            f"{owner.name} rules this host's firewall, and would undo what geofence writes",
            still="nothing was changed",
            cure=owner.cure,
        )
