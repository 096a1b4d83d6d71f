"""Ranges become the fewest prefixes that hold the same addresses; the standard library agrees."""

import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geofence.aggregate import aggregate
from geofence.model import Family, Prefix, Range
from tests.lists import prefix_list


def expected(family: Family, ranges: Sequence[Range]) -> tuple[Prefix, ...]:
    """Aggregate with the standard library."""
    kind: Any = ipaddress.IPv4Address if family is Family.INET else ipaddress.IPv6Address
    parts = [
        network
        for first, last in ranges
        for network in ipaddress.summarize_address_range(kind(first), kind(last))
    ]
    return tuple(
        Prefix(int(network.network_address), network.prefixlen)
        for network in ipaddress.collapse_addresses(parts)
    )


@st.composite
def families_and_ranges(draw):
    """Draw ranges of one family, often near each other, so that they touch and overlap."""
    family = draw(st.sampled_from(Family))
    last = 2**family.bits - 1
    base = draw(st.sampled_from([0, 0xC0000200, last - 300]) | st.integers(0, last - 300))
    near = st.integers(base, base + 300)
    anywhere = st.integers(0, last)
    ends = st.tuples(near, near) | st.tuples(anywhere, anywhere)
    return family, draw(st.lists(ends.map(lambda pair: Range(min(pair), max(pair))), max_size=12))


@settings(deadline=None)
@given(families_and_ranges())
@example((Family.INET, []))
@example((Family.INET6, [Range(0, 2**128 - 1)]))
def test_the_standard_library_gets_the_same_prefixes(drawn):
    family, ranges = drawn
    found = aggregate(family, ranges)
    assert (found.family, found.prefixes) == (family, expected(family, ranges))


@settings(deadline=None)
@given(families_and_ranges(), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(drawn, random):
    family, ranges = drawn
    again = [*ranges, *random.sample(ranges, len(ranges) // 2)]
    random.shuffle(again)
    assert aggregate(family, again) == aggregate(family, ranges)


@settings(deadline=None)
@given(families_and_ranges())
def test_prefixes_are_sorted_disjoint_aligned_and_cannot_be_joined(drawn):
    family, ranges = drawn
    prefixes = aggregate(family, ranges).prefixes
    sizes = [1 << (family.bits - length) for _, length in prefixes]
    for (address, _), size in zip(prefixes, sizes, strict=True):
        assert address % size == 0
    for i in range(len(prefixes) - 1):
        end = prefixes[i].address + sizes[i]
        assert end <= prefixes[i + 1].address
        siblings = sizes[i] == sizes[i + 1] and prefixes[i].address % (2 * sizes[i]) == 0
        assert not (siblings and end == prefixes[i + 1].address)


@pytest.mark.parametrize("family", Family)
def test_two_halves_are_the_whole(family):
    half = 2 ** (family.bits - 1)
    halves = [Range(half, 2 * half - 1), Range(0, half - 1)]
    assert aggregate(family, halves).prefixes == (Prefix(0, 0),)


@pytest.mark.parametrize("family", Family)
def test_a_low_number_stays_in_its_family(family):
    assert aggregate(family, [Range(1, 1)]).prefixes == (Prefix(1, family.bits),)


@pytest.mark.parametrize(
    ("first", "addresses", "prefixes"),
    [
        ("192.0.2.0", 256, ["192.0.2.0/24"]),
        ("91.209.128.0", 768, ["91.209.128.0/23", "91.209.130.0/24"]),
        ("185.0.40.64", 448, ["185.0.40.64/26", "185.0.40.128/25", "185.0.41.0/24"]),
        ("192.0.2.255", 2, ["192.0.2.255/32", "192.0.3.0/32"]),
    ],
)
def test_a_count_of_addresses_need_not_be_a_prefix(first, addresses, prefixes):
    start = int(ipaddress.ip_address(first))
    found = aggregate(Family.INET, [Range(start, start + addresses - 1)])
    assert found == prefix_list(Family.INET, *prefixes)
