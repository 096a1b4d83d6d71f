"""Addresses that no country's list should hold: special-purpose and multicast ones.

From IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, state of 2025-04) and
RFC 5771 and RFC 4291 for multicast. Of rows that contain each other the most specific decides; a
row that is not marked globally reachable ("N/A" and terminated ones included) makes a bogon.
"""

from collections.abc import Sequence
from functools import cache

from geofence.aggregate import aggregate
from geofence.model import Family, Range
from geofence.prefixes import difference, parse_prefix, range_of, ranges_of

_NOT_REACHABLE = (
    "0.0.0.0/8",  # "this network", RFC 791
    "10.0.0.0/8",  # private use, RFC 1918
    "100.64.0.0/10",  # shared address space, RFC 6598
    "127.0.0.0/8",  # loopback, RFC 1122
    "169.254.0.0/16",  # link local, RFC 3927
    "172.16.0.0/12",  # private use, RFC 1918
    "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
    "192.0.2.0/24",  # documentation, RFC 5737
    "192.88.99.0/24",  # deprecated 6to4 relay anycast, RFC 7526
    "192.168.0.0/16",  # private use, RFC 1918
    "198.18.0.0/15",  # benchmarking, RFC 2544
    "198.51.100.0/24",  # documentation, RFC 5737
    "203.0.113.0/24",  # documentation, RFC 5737
    "224.0.0.0/4",  # multicast, RFC 5771
    "240.0.0.0/4",  # reserved, RFC 1112
    "::/128",  # unspecified, RFC 4291
    "::1/128",  # loopback, RFC 4291
    "::ffff:0:0/96",  # IPv4-mapped, RFC 4291
    "64:ff9b:1::/48",  # local-use translation, RFC 8215
    "100::/64",  # discard only, RFC 6666
    "100:0:0:1::/64",  # dummy prefix, RFC 9780
    "2001::/23",  # IETF protocol assignments, RFC 2928; TEREDO and benchmarking among them
    "2001:db8::/32",  # documentation, RFC 3849
    "2002::/16",  # 6to4, RFC 3056
    "3fff::/20",  # documentation, RFC 9637
    "5f00::/16",  # segment routing SIDs, RFC 9602
    "fc00::/7",  # unique local, RFC 4193
    "fe80::/10",  # link local, RFC 4291
    "ff00::/8",  # multicast, RFC 4291
)
_REACHABLE_WITHIN = (
    "192.0.0.9/32",  # port control protocol anycast, RFC 7723
    "192.0.0.10/32",  # TURN anycast, RFC 8155
    "2001:1::1/128",  # port control protocol anycast, RFC 7723
    "2001:1::2/128",  # TURN anycast, RFC 8155
    "2001:1::3/128",  # DNS-SD registration anycast, RFC 9665
    "2001:3::/32",  # AMT, RFC 7450
    "2001:4:112::/48",  # AS112, RFC 7535
    "2001:20::/28",  # ORCHIDv2, RFC 7343
    "2001:30::/28",  # drone remote ID, RFC 9374
)


@cache
def ranges(family: Family) -> Sequence[Range]:
    """Give a family's bogons, sorted and disjoint."""
    return difference(
        ranges_of(aggregate(family, _table(family, _NOT_REACHABLE))),
        ranges_of(aggregate(family, _table(family, _REACHABLE_WITHIN))),
    )


def _table(family: Family, rows: Sequence[str]) -> list[Range]:
    parsed = (parse_prefix(row) for row in rows)
    return [range_of(family, prefix) for of, prefix in parsed if of is family]
