"""Prefix lists out of text, made without the code that is tested."""

import ipaddress
from datetime import UTC, datetime

from geofence.model import Family, Generation, Lists, Prefix, PrefixList


def prefix_list(family: Family, *texts: str) -> PrefixList:
    """Make one family's list of prefixes that are already disjoint and aggregated."""
    networks = [ipaddress.ip_network(text) for text in texts]
    prefixes = [Prefix(int(network.network_address), network.prefixlen) for network in networks]
    return PrefixList(family, tuple(sorted(prefixes)))


def lists(*texts: str) -> Lists:
    """Make the lists of the families that occur."""
    found = {
        Family.INET: [text for text in texts if ":" not in text],
        Family.INET6: [text for text in texts if ":" in text],
    }
    return {family: prefix_list(family, *of) for family, of in found.items() if of}


def generation(number: int, of: Lists, **more: object) -> Generation:
    """Make a generation of these lists."""
    about = {
        "countries": ("JP",),
        "source": "rir",
        "created": datetime(2026, 11, 20, tzinfo=UTC),
        "origins": (),
    }
    return Generation(number=number, lists=of, **{**about, **more})  # type: ignore[arg-type]
