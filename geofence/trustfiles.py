"""What is trusted, as files that the sh hook loads at boot.

STATE/trusted/FAMILY.ipset     what is trusted for good
STATE/trusted/FAMILY.passes    and the passes, a line each: PREFIX, and its end in epoch seconds
"""

import datetime
from collections.abc import Mapping
from pathlib import Path

from geofence import ipsetfile, whole
from geofence.disk import Disk
from geofence.model import Family, Prefix, trusted_name
from geofence.prefixes import format_prefix, parse_prefix
from geofence.trusted import Trusted

_HOME = "trusted"


def remember(trusted: Trusted, state: Path, disk: Disk) -> None:
    """Store the trusted addresses, all in one step."""
    files = {
        name: content
        for family, prefixes in sorted(trusted.items())
        for name, content in _files(family, prefixes).items()
    }
    whole.put(state / _HOME, files, disk)


def remembered(state: Path) -> Trusted:
    """Read back what was stored; nothing of a file that is damaged."""
    found: dict[Family, dict[Prefix, datetime.datetime | None]] = {}
    for family in Family:
        found[family] = {}
        for line in _lines(state, f"{family}.ipset"):
            words = line.split()
            if words[:1] == ["add"]:
                _, prefix = parse_prefix(words[2])
                found[family][prefix] = None
        for line in _lines(state, f"{family}.passes"):
            text, until = line.split()
            _, prefix = parse_prefix(text)
            found[family][prefix] = datetime.datetime.fromtimestamp(int(until), datetime.UTC)
    return found


def _files(family: Family, prefixes: Mapping[Prefix, datetime.datetime | None]) -> dict[str, bytes]:
    name = trusted_name(family)
    sizes = (
        f"hashsize {ipsetfile.hashsize(len(prefixes))} maxelem {ipsetfile.maxelem(len(prefixes))}"
    )
    lines = [f"create {name} hash:net family {family} {sizes} timeout 0"]
    ends = []
    for prefix, until in sorted(prefixes.items()):
        if until is None:
            lines.append(f"add {name} {format_prefix(family, prefix)}")
        else:
            ends.append(f"{format_prefix(family, prefix)} {int(until.timestamp())}\n")
    return {
        f"{family}.ipset": ("\n".join(lines) + "\n").encode(),
        f"{family}.passes": "".join(ends).encode(),
    }


def _lines(state: Path, name: str) -> list[str]:
    return (whole.content(state / _HOME, name) or b"").decode("ascii").splitlines()
