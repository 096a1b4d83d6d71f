"""Which packets a rehearsal sends, and what a fence has to say of each. Pure.

The fence's word is computed here from its configuration and its list, not from the text of its
chain: it is what the chain is held against.
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from geofence.chain import PRIVATE
from geofence.model import Address, Family, Fence, Prefix, PrefixList, Private, Range, Style
from geofence.prefixes import find, format_address, format_prefix, parse_prefix, range_of
from geofence.rehearsal.kinds import lived_by, special
from geofence.rehearsal.packets import TCP, Kind, echo

STANDS_FOR_TRUSTED = {
    Family.INET: Prefix(0xC00002FE, 32),  # 192.0.2.254
    Family.INET6: Prefix(0x20010DB8FFFF << 80 | 0xFE, 128),  # 2001:db8:ffff::fe
}
"""An address of the documentation prefixes (RFC 5737, RFC 3849) that the rehearsal alone trusts,
so that the rule for trusted addresses is tried also where there are none."""

FOREIGN = {
    Family.INET: 0xC6336407,  # 198.51.100.7
    Family.INET6: 0x20010DB8 << 96 | 7,
}
"""An address that no list holds."""

_MOST_TRUSTED = 16  # that are tried with every kind; the others with one
_PRIVATE = {
    family: tuple(range_of(*parse_prefix(text)) for text in texts)
    for family, texts in PRIVATE.items()
}


@dataclass(frozen=True, slots=True)
class Way:
    """Where an owner comes to: a port, and which address of the host (none: any of them)."""

    port: int
    own: Address | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet: who sends it, what it is, and why it is sent."""

    source: Address
    kind: Kind
    why: str
    owner: bool = False  # it must get in, whatever the host's own rules say
    inside: str = ""  # the interface by which it is to leave, if it is to be forwarded

    def __str__(self) -> str:
        """Name the packet in an error."""
        forwarded = f", forwarded to {self.inside}" if self.inside else ""
        return f"{self.kind} from {format_address(*self.source)} ({self.why}){forwarded}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a fence says of one family's packets."""

    fence: Fence
    members: PrefixList
    trusted: tuple[Range, ...]  # sorted and disjoint
    trusting: bool
    strays: tuple[Prefix, ...] = ()  # in the kernel's set, and not in the list

    @property
    def family(self) -> Family:
        """The family it is about."""
        return self.members.family

    def admits(self, probe: Probe) -> bool:
        """Tell whether the fence lets a first packet through; for style allow: sends it on."""
        member = find(self.members, probe.source[1]) is not None
        trusted = _within(self.trusted, probe.source[1])
        if self.fence.style is Style.ALLOW:
            return member or (trusted and self.trusting)
        private = self.fence.private is Private.RETURN and is_private(probe.source)
        return member or trusted or private or lived_by(self.family, probe.kind)


def is_private(address: Address) -> bool:
    """Tell whether an address is private, unique local or link-local."""
    return any(first <= address[1] <= last for first, last in _PRIVATE[address[0]])


def ends(model: Model, kind: Kind) -> Iterator[Probe]:
    """Send from both ends of every prefix, and from their neighbours outside."""
    seen: set[int] = set()
    last_of_all = (1 << model.family.bits) - 1
    for prefix in model.members.prefixes:
        first, last = range_of(model.family, prefix)
        text = format_prefix(model.family, prefix)
        for address, why in (
            (first - 1, f"before {text}"), (last + 1, f"behind {text}"),
            (first, f"first of {text}"), (last, f"last of {text}"),
        ):  # fmt: skip
            if 0 <= address <= last_of_all and address not in seen:
                seen.add(address)
                yield Probe((model.family, address), kind, why)
    for prefix in model.strays:
        text = format_prefix(model.family, prefix)
        for address in range_of(model.family, prefix):
            yield Probe((model.family, address), kind, f"in {text}, which the list has not")


def sampled(model: Model, kinds: Sequence[Kind], owners: Mapping[Address, Way]) -> Iterator[Probe]:
    """Send every kind from a few of everybody, owners to their port; what must be dropped first."""
    family = model.family
    foreign = [(family, address) for address in (FOREIGN[family], *_strangers(model))]
    for kind in (*special(family), *kinds):
        yield from (Probe(source, kind, "foreign") for source in foreign)
    for source, why in _edges_of_private(family):
        yield from (Probe(source, kind, why) for kind in (kinds[0], echo(family)))
    for source, why in (*_members(model), *_trusted(model)):
        yield from (Probe(source, kind, why) for kind in kinds)
    for text in PRIVATE[family]:
        source = family, parse_prefix(text)[1].address + 1
        yield from (Probe(source, kind, "private") for kind in special(family))
    for source in trusted_addresses(model):
        yield Probe(source, kinds[0], "trusted")
    for source, way in owners.items():
        if source[0] is family:
            yield Probe(source, Kind(TCP, way.port, 0, way.own), "must get in", owner=True)


def forwarded(model: Model, inside: str, targets: Sequence[Kind]) -> Iterator[Probe]:
    """Send to what is forwarded from a few of everybody; what must be dropped first."""
    foreign = [(model.family, address) for address in (FOREIGN[model.family], *_strangers(model))]
    sources = [(one, "foreign") for one in foreign] + _members(model) + _trusted(model)
    for source, why in sources:
        yield from (Probe(source, kind, why, inside=inside) for kind in targets)


def trusted_addresses(model: Model) -> tuple[Address, ...]:
    """Give the first and last address of everything that is trusted by its owner."""
    own = range_of(model.family, STANDS_FOR_TRUSTED[model.family])
    found = [one for pair in model.trusted if pair != own for one in pair]
    return tuple(dict.fromkeys((model.family, one) for one in found))


def some_trusted(model: Model) -> tuple[Address, ...]:
    """Give a few of them, from all over."""
    found = trusted_addresses(model)
    return found[:: max(1, -(-len(found) // _MOST_TRUSTED))]


def _members(model: Model) -> list[tuple[Address, str]]:
    prefixes = model.members.prefixes
    chosen = {prefixes[0], prefixes[len(prefixes) // 2], prefixes[-1]} if prefixes else ()
    return [
        ((model.family, one.address), f"member {format_prefix(model.family, one)}")
        for one in sorted(chosen)
    ]


def _trusted(model: Model) -> list[tuple[Address, str]]:
    own = range_of(model.family, STANDS_FOR_TRUSTED[model.family]).first
    return [(one, "trusted") for one in ((model.family, own), *some_trusted(model))]


def _strangers(model: Model) -> list[int]:
    """Give the neighbours of a few members that are outside."""
    found = [range_of(model.family, prefix) for prefix in model.members.prefixes]
    outside = [
        address
        for first, last in (*found[:8], *found[len(found) // 2 :][:8])
        for address in (first - 1, last + 1)
        if 0 < address < (1 << model.family.bits) and find(model.members, address) is None
    ]
    return [*dict.fromkeys(outside[:2] + outside[-2:])]


def _edges_of_private(family: Family) -> list[tuple[Address, str]]:
    edges = []
    for text in PRIVATE[family]:
        first, last = range_of(family, parse_prefix(text)[1])
        edges += [(address, f"beside {text}") for address in (first - 1, last + 1)]
        edges += [(address, f"in {text}") for address in (first, last)]
    return [((family, address), why) for address, why in edges]


def merged(family: Family, prefixes: Iterable[Prefix]) -> tuple[Range, ...]:
    """Give prefixes as ranges that are sorted and disjoint."""
    found: list[Range] = []
    for first, last in sorted(range_of(family, one) for one in prefixes):
        if found and first <= found[-1].last:
            found[-1] = Range(found[-1].first, max(last, found[-1].last))
        else:
            found.append(Range(first, last))
    return tuple(found)


def _within(ranges: Sequence[Range], address: int) -> bool:
    place = bisect.bisect_right(ranges, address, key=lambda one: one.first) - 1
    return place >= 0 and address <= ranges[place].last
