"""The text of a set: what ``render ipset`` shows, the store keeps, and ``ipset restore`` loads.

Line 1 is ``create geofence-JP-inet hash:net family inet hashsize N maxelem M``, then ``add``
lines in address order: the same bytes for the same list.
"""

import itertools
import re

from geofence.model import Family, Prefix, PrefixList, set_name
from geofence.prefixes import parse_prefix, quote, range_of, texts

_MIN_HASHSIZE = 1024  # ipset(8)'s default
_MIN_MAXELEM = 65536  # ipset(8)'s default


def hashsize(entries: int) -> int:
    """Give the hash size at which the kernel need not grow the hash while it is filled."""
    return max(_MIN_HASHSIZE, 1 << entries.bit_length())


def maxelem(entries: int) -> int:
    """Give the number of entries that a set of this many has room for: twice as many."""
    return max(_MIN_MAXELEM, 1 << (2 * entries - 1).bit_length() if entries else 0)


def write(fence: str, prefixes: PrefixList) -> str:
    """Write a fence's list of one family as ``ipset restore`` reads it."""
    name = set_name(fence, prefixes.family)
    entries = len(prefixes.prefixes)
    lines = [
        f"create {name} hash:net family {prefixes.family}"
        f" hashsize {hashsize(entries)} maxelem {maxelem(entries)}"
    ]
    lines += [f"add {name} {text}" for text in texts(prefixes)]
    return "\n".join(lines) + "\n"


def read(fence: str, family: Family, text: str) -> PrefixList:
    """Read what ``write`` wrote, whatever its sizes. Raises ValueError that names the line."""
    name = set_name(fence, family)
    create, *adds = text.removesuffix("\n").split("\n")
    if not text.endswith("\n"):
        raise ValueError(f"line {len(adds) + 1}: cut")
    form = re.escape(f"create {name} hash:net family {family}") + r" hashsize \d+ maxelem (\d+)"
    match = re.fullmatch(form, create, re.ASCII)
    if not match or int(match[1]) < len(adds):
        raise ValueError(f"line 1: {quote(create)} does not create {name} for {len(adds)} entries")
    start = f"add {name} "
    prefixes = tuple(_prefix(number, start, family, line) for number, line in enumerate(adds, 2))
    for number, (one, other) in enumerate(itertools.pairwise(prefixes), 3):
        if range_of(family, one).last >= other.address:
            raise ValueError(f"line {number}: its prefix does not lie behind the one before")
    return PrefixList(family, prefixes)


def _prefix(number: int, start: str, family: Family, line: str) -> Prefix:
    if not line.startswith(start):
        raise ValueError(f"line {number}: {quote(line)} adds nothing to this set")
    try:
        of, prefix = parse_prefix(line.removeprefix(start))
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if of is not family:
        raise ValueError(f"line {number}: {quote(line)} is no {family.label} prefix")
    return prefix
