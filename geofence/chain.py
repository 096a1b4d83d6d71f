"""The text of the chain ALLOW-JP-INPUT, as iptables-save(8) writes it. Pure."""

from dataclasses import dataclass

from geofence.model import (
    Family,
    Fence,
    Forward,
    Private,
    Style,
    chain_name,
    set_name,
    trusted_name,
)

LOG_RATE = "--limit 10/min --limit-burst 10"  # a flood must not fill the log
_RETURN = "-j RETURN"

# What a host on a link lives by. Protocols that iptables has no name for itself are numbers: a
# small host may have no /etc/protocols. The kernel itself refuses those of neighbour discovery that
# came over a router (RFC 4861, 7.1: hop limit 255). MLD: RFC 2710, RFC 3810; VRRP: RFC 5798.
_LINK = {
    Family.INET: (
        "-p udp -m udp --sport 67 --dport 68",  # DHCP replies, RFC 2131
        "-d 224.0.0.0/4 -p 2",  # IGMP, RFC 3376
        "-d 224.0.0.18/32 -p 112",  # VRRP
    ),
    Family.INET6: (
        "-p ipv6-icmp -m icmp6 --icmpv6-type 133",  # router solicitation
        "-p ipv6-icmp -m icmp6 --icmpv6-type 134",  # router advertisement
        "-p ipv6-icmp -m icmp6 --icmpv6-type 135",  # neighbour solicitation
        "-p ipv6-icmp -m icmp6 --icmpv6-type 136",  # neighbour advertisement
        "-p ipv6-icmp -m icmp6 --icmpv6-type 130",  # MLD query
        "-p ipv6-icmp -m icmp6 --icmpv6-type 131",  # MLD report
        "-p ipv6-icmp -m icmp6 --icmpv6-type 132",  # MLD done
        "-p ipv6-icmp -m icmp6 --icmpv6-type 143",  # MLDv2 report
        "-p udp -m udp --sport 547 --dport 546",  # DHCPv6 replies, RFC 8415
        "-d ff02::12/128 -p 112",  # VRRP
    ),
}
PRIVATE = {
    Family.INET: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    Family.INET6: ("fc00::/7", "fe80::/10"),
}
"""Private (RFC 1918), link-local (RFC 3927, RFC 4291) and unique local (RFC 4193) prefixes."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule of another chain that leads to ours: what it matches, and its place from 1."""

    chain: str
    rule: str
    position: int = 1


def body(fence: Fence, family: Family, *, trusting: bool = True) -> tuple[str, ...]:
    """Write the rules of the fence's chain, without ``-A CHAIN``.

    A gate lets members, and what is not about countries, RETURN, and drops the rest. Style allow
    sends members to its target; trusted addresses too, where there are any to be sent.
    """
    trusted = f"-m set --match-set {trusted_name(family)} src"
    members = f"-m set --match-set {set_name(fence.name, family)} src"
    if fence.style is Style.ALLOW:
        sources = (trusted, members) if trusting else (members,)
        return tuple(f"{source} -j {fence.target}" for source in sources)
    private = PRIVATE[family] if fence.private is Private.RETURN else ()
    return (
        f"-i lo {_RETURN}",
        f"-m conntrack --ctstate RELATED,ESTABLISHED {_RETURN}",
        f"{trusted} {_RETURN}",
        *(f"{match} {_RETURN}" for match in _LINK[family]),
        *(f"-s {prefix} {_RETURN}" for prefix in private),
        f"{members} {_RETURN}",
        f'-m limit {LOG_RATE} -j LOG --log-prefix "geofence-{fence.name}: "',
        "-j DROP",
    )


def jumps(fence: Fence) -> tuple[Jump, ...]:
    """Give the jumps that lead to the fence's chain: from INPUT, and where traffic is forwarded.

    Forwarded traffic is judged when it is new and comes from outside, lest the containers' own
    connections be judged too.
    """
    to_chain = f"-j {chain_name(fence.name)}"
    first = Jump("INPUT", to_chain, fence.position)
    if fence.forward is Forward.NONE:
        return (first,)
    return (
        first,
        *(
            Jump(str(fence.forward), f"-i {outside} -m conntrack --ctstate NEW {to_chain}", place)
            for place, outside in enumerate(fence.outside, 1)
        ),
    )
