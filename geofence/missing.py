"""What serves at boot when nothing sound is stored of a fence.

STATE/JP/on_missing       one word, for sh, which cannot read a configuration
STATE/JP/bundled/         inet.ipset, inet6.ipset, SHA256SUMS: the snapshot's lists of the fence
"""

from pathlib import Path

from geofence import ipsetfile, whole
from geofence.disk import Disk
from geofence.model import Family, Fence, Lists, OnMissing, Prefix, PrefixList

_HOME = "bundled"

EVERYTHING: Lists = {
    family: PrefixList(family, (Prefix(0, 1), Prefix(1 << (family.bits - 1), 1)))
    for family in Family
}
"""All addresses, in the largest prefixes that hash:net takes."""

NOTHING: Lists = {family: PrefixList(family, ()) for family in Family}


def write_on_missing(fence: Fence, state: Path, disk: Disk) -> bool:
    """Store a fence's ``on_missing`` for the sh hook; tell whether that was news."""
    path = state / fence.name / "on_missing"
    if on_missing(fence.name, state) is fence.on_missing:
        return False
    disk.make_directory(path.parent)
    disk.write(path, f"{fence.on_missing}\n".encode())
    return True


def on_missing(fence: str, state: Path) -> OnMissing | None:
    """Read what was stored."""
    try:
        return OnMissing((state / fence / "on_missing").read_text().strip())
    except (OSError, ValueError):
        return None


def write_snapshot(fence: str, lists: Lists, state: Path, disk: Disk) -> bool:
    """Store the snapshot's lists for the sh hook; tell whether that was news."""
    files = {
        f"{family}.ipset": ipsetfile.write(fence, prefixes).encode()
        for family, prefixes in sorted(lists.items())
    }
    disk.make_directory(state / fence)
    return whole.put(state / fence / _HOME, files, disk)


def stored_snapshot(fence: str, state: Path) -> Lists | None:
    """Read the stored snapshot; None unless every byte is as it was written."""
    found = {}
    for family in Family:
        text = whole.content(state / fence / _HOME, f"{family}.ipset")
        try:
            found[family] = ipsetfile.read(fence, family, (text or b"").decode("ascii"))
        except ValueError:
            return None
    return found


def forget(fence: str, state: Path, disk: Disk) -> None:
    """Remove both."""
    disk.remove(state / fence / "on_missing")
    whole.drop(state / fence / _HOME, disk)
