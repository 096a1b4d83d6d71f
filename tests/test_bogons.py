"""Bogons are what no country has; of rows within each other the most specific one decides."""

import itertools

import pytest

from geofence import bogons
from geofence.model import Family
from geofence.prefixes import count, intersection, parse_prefix, range_of


def share(text: str) -> float:
    """Tell how much of a prefix is bogons."""
    family, prefix = parse_prefix(text)
    whole = range_of(family, prefix)
    return count(intersection([whole], bogons.ranges(family))) / count([whole])


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/32", "192.0.2.0/24",
        "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
        "::/128", "::1/128", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
        "2001::/32", "2001:2::/48", "2001:10::/28", "2001:db8::/32", "2002::/16", "3fff::/20",
        "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8",
    ],
)  # fmt: skip
def test_no_country_has_it(text):
    assert share(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "192.175.48.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.0.0.9/32", "192.0.0.10/32",
        "9.0.0.0/8", "11.0.0.0/8", "100.128.0.0/9", "172.32.0.0/11", "223.0.0.0/8",
        "64:ff9b::/96", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32",
        "2001:4:112::/48", "2001:20::/28", "2001:30::/28", "2001:200::/23", "2003::/16",
        "2620:4f:8000::/48", "2400::/12",
    ],
)  # fmt: skip
def test_somebody_may_have_it(text):
    assert share(text) == 0


@pytest.mark.parametrize("family", Family)
def test_bogons_are_sorted_and_disjoint(family):
    ranges = bogons.ranges(family)
    assert all(one.last < other.first for one, other in itertools.pairwise(ranges))
    assert all(first <= last for first, last in ranges)
