"""What is to be said of the rules beside ours, when a fence is switched on or off."""

from collections.abc import Iterator, Mapping, Sequence

from geofence import ruletext
from geofence.kernel import iptables
from geofence.kernel.iptables import Iptables
from geofence.model import Family, Fence, chain_name
from geofence.rules import Goal


def enabled(
    fences: Sequence[Fence], tables: Sequence[Iptables], goals: Mapping[str, Sequence[Goal]]
) -> Iterator[str]:
    """Say what an owner may not expect of the fences that he has enabled."""
    for one in tables:
        for other in iptables.in_use(one.family):
            if other != one:
                yield (
                    f"{other} holds rules too; both are asked, and what either drops is dropped;"
                    f" the fence is in {one}"
                )
    if not iptables.has_ipv6():
        yield "this kernel speaks no IPv6: there is nothing to fence"
    for fence in fences:
        yield from _of_fence(fence, tables, goals[fence.name])


def kept(fences: Sequence[str], tables: Sequence[Iptables]) -> Iterator[str]:
    """Say which chains stay, empty, because somebody else's rule leads to them."""
    for fence in fences:
        for one, rule in _foreign(fence, tables):
            chain = chain_name(fence)
            yield f"{one}: the chain {chain} stays, empty, for this rule leads to it: {rule}"


def _of_fence(fence: Fence, tables: Sequence[Iptables], goals: Sequence[Goal]) -> Iterator[str]:
    if fence.families and Family.INET6 not in fence.families and iptables.has_ipv6():
        yield f"{fence.name} is about IPv4 alone: IPv6 stays as open as it is"
    jumps = [jump for goal in goals for jump in goal.own.jumps]
    if fence.forward and any(one.chain not in ("INPUT", fence.forward) for one in jumps):
        yield (
            "a family has no chain DOCKER-USER: there FORWARD has the jump, and if Docker makes"
            " one it puts its own rules before it; then run: geofence repair"
        )
    for one, rule in _foreign(fence.name, tables):
        yield f"{one}: a rule that is not geofence's leads to its chain too: {rule}"


def _foreign(fence: str, tables: Sequence[Iptables]) -> Iterator[tuple[Iptables, str]]:
    for one in tables:
        for jump in ruletext.foreign_jumps(ruletext.read(one.save()), chain_name(fence)):
            yield one, f"-A {jump.chain} {jump.rule}"
