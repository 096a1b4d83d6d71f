"""The fewest prefixes that hold the same addresses. The only importer of netaddr."""

from collections.abc import Iterable

import netaddr

from geofence.model import Family, Prefix, PrefixList, Range


def aggregate(family: Family, ranges: Iterable[Range]) -> PrefixList:
    """Turn ranges (any order, overlapping or not) into the one minimal prefix list.

    They go in as ``IPRange``: ``cidr_merge`` trusts an ``IPNetwork`` to have no host bits.
    """
    version = 4 if family is Family.INET else 6
    networks = netaddr.cidr_merge(
        [
            netaddr.IPRange(netaddr.IPAddress(first, version), netaddr.IPAddress(last, version))
            for first, last in ranges
        ]
    )
    return PrefixList(
        family, tuple(Prefix(network.first, network.prefixlen) for network in networks)
    )
