"""Refuse what would lock somebody out: an empty set, a second gate, an owner in no list."""

from collections.abc import Sequence
from pathlib import Path

from geofence import enabled, ruletext
from geofence.chain import PRIVATE
from geofence.enforce import live
from geofence.errors import ConfigError, KernelRefused, ListRefused
from geofence.force import fallback_fence
from geofence.kernel import Sets, iptables
from geofence.kernel.iptables import Rules
from geofence.model import Address, Family, Fence, Private, Style, set_name
from geofence.prefixes import find, format_address, parse_prefix
from geofence.store import Store
from geofence.trusted import Trusted, within

UNCHANGED = "nothing was changed"
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def refuse_two_gates(fences: Sequence[Fence], state: Path) -> None:
    """Refuse a second gate on the same traffic: each would drop the members of the other."""
    asked = {fence.name: (fence.style, fence.families) for fence in fences}
    there = {name: (one.style, one.families) for name, one in enabled.all_of(state).items()}
    gates = {
        name: families or tuple(Family)
        for name, (style, families) in {**there, **asked}.items()
        if style is Style.GATE
    }
    of_family = ([name for name in gates if family in gates[name]] for family in Family)
    if len(names := max(of_family, key=len)) > 1:
        countries = sorted(
            {code for fence in fences for code in fence.countries}
            | {code for name in names for code in fallback_fence(name).countries}
        )
        raise ConfigError(
            f"two gates on the same traffic would let nobody in: {' and '.join(sorted(names))}",
            still=UNCHANGED,
            cure=f"make one fence of them: [fence.NAME] countries = {countries}; or choose one:"
            " --fence NAME",
        )


def refuse_target(fence: Fence, tables: Sequence[Rules]) -> None:
    """Refuse style allow whose target is in one of the tables no chain."""
    if fence.style is not Style.ALLOW or fence.target == "ACCEPT":
        return
    for one in tables:
        if fence.target not in ruletext.read(one.save()).rules:
            raise KernelRefused(
                f"{fence.name}: {one} has no chain {fence.target}, which style allow sends"
                " members to",
                still=UNCHANGED,
                cure=f"make it there (:{fence.target} in the saved rules), or mend `target`",
            )


def refuse_empty(fence: Fence, store: Store, sets: Sets) -> None:
    """Refuse a fence whose set is missing, or empty though its list is not."""
    generation = store.active(fence.name).generation
    for family in fence.families or tuple(Family):
        if family not in iptables.families():
            continue
        found = live(fence.name, family, sets)
        name = set_name(fence.name, family)
        if found.prefixes is None:
            raise ListRefused(
                found.drift,
                still=UNCHANGED,
                cure="geofence restore, or geofence update; then enable again",
            )
        meant = generation and family in generation.lists and not generation.lists[family].prefixes
        if not found.prefixes.prefixes and not meant:
            raise ListRefused(
                f"the set {name} is empty: the fence would let nobody in",
                still=UNCHANGED,
                cure="geofence restore, or geofence update; then enable again",
            )


def refuse_to_lock_out(
    fence: Fence, peers: frozenset[Address], wanted: Trusted, sets: Sets, *, rehearsed: bool
) -> None:
    """Refuse a fence that somebody who is here by SSH would not pass."""
    out = sorted(
        format_address(*peer)
        for peer in peers
        if not _would_pass(fence, peer, wanted, sets, rehearsed=rehearsed)
    )
    if out:
        raise ListRefused(
            f"{fence.name}: would shut out {', '.join(out)}, who is on this host by SSH now",
            still=UNCHANGED,
            cure=f"geofence trust {out[0]}; then enable again",
        )


def _would_pass(
    fence: Fence, peer: Address, wanted: Trusted, sets: Sets, *, rehearsed: bool
) -> bool:
    family, address = peer
    if fence.families and family not in fence.families:
        return True  # the fence is not about this family
    passing = (*_LOOPBACK, *PRIVATE[family])
    if fence.style is Style.GATE and fence.private is Private.JUDGE:
        passing = _LOOPBACK
    judged = fence.style is Style.ALLOW and not rehearsed  # who is sent on is all that is known
    if not judged and any(within(parse_prefix(text), peer) for text in passing):
        return True
    if any(within((family, prefix), peer) for prefix in wanted[family]):
        return True
    found = live(fence.name, family, sets).prefixes
    return found is not None and find(found, address) is not None


def is_loopback(address: Address) -> bool:
    """Tell whether an address is the host's own loopback."""
    return any(within(parse_prefix(text), address) for text in _LOOPBACK)
