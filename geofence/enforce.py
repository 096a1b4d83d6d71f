"""Put prefix lists into kernel sets so that no packet sees a half-loaded one."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from geofence.errors import GeofenceError, KernelRefused
from geofence.kernel import SET_TYPE, Header, Sets
from geofence.model import Family, Lists, PrefixList, set_name, staging_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What packets meet: a set's header and elements, and why it is not as it should be."""

    header: Header | None
    prefixes: PrefixList | None  # none: the set is absent, or not of a kind that can be read
    drift: str = ""


def enforce(fence: str, lists: Lists, sets: Sets) -> tuple[bool, tuple[str, ...]]:
    """Make the sets of a fence hold these lists. Tell whether anything changed, and warn.

    Every family is loaded and verified before any is swapped; if the second cannot be
    swapped the first is swapped back. On any error packets meet what they met before.
    """
    wanted = [prefixes for prefixes in lists.values() if not _holds(fence, prefixes, sets)]
    try:
        for prefixes in wanted:
            stage(fence, prefixes, sets)
        swap_all([set_name(fence, one.family) for one in wanted], sets)
    except BaseException:
        clean(fence, sets)
        raise
    return bool(wanted), clean(fence, sets)


def stage(fence: str, prefixes: PrefixList, sets: Sets) -> None:
    """Load a list beside the live set, and read it back: number and content."""
    family = prefixes.family
    _, staging = _names(fence, family)
    refuse_unusable(fence, family, sets)
    if sets.header(staging):
        sets.destroy(staging)
    sets.create(staging, family, len(prefixes.prefixes))
    sets.add(staging, family, prefixes.prefixes)
    verify(staging, prefixes, sets)


def verify(name: str, prefixes: PrefixList, sets: Sets) -> None:
    """Raise KernelRefused unless a set holds exactly this list."""
    header = sets.header(name)
    expected = len(prefixes.prefixes)
    if header is None or header.entries != expected:
        raise KernelRefused(
            f"the set {name} holds {header.entries if header else 0:,} entries"
            f" after {expected:,} were loaded"
        )
    if sets.read(name, prefixes.family) != prefixes.prefixes:
        raise KernelRefused(f"the set {name} does not hold the prefixes that were loaded into it")


def clean(fence: str, sets: Sets) -> tuple[str, ...]:
    """Destroy staging sets, also those of a run that was killed; what stays is a warning."""
    return discard([set_name(fence, family) for family in Family], sets)


def live(fence: str, family: Family, sets: Sets) -> Live:
    """Read what is enforced back from the kernel."""
    name = set_name(fence, family)
    header = sets.header(name)
    if header is None:
        return Live(header=None, prefixes=None, drift=f"the set {name} does not exist")
    try:
        refuse_foreign(name, family, header)
        return Live(header=header, prefixes=PrefixList(family, sets.read(name, family)))
    except KernelRefused as error:
        return Live(header=header, prefixes=None, drift=error.what)


def enforced(fence: str, sets: Sets) -> dict[Family, PrefixList]:
    """Read all lists of a fence that the kernel holds."""
    found = {family: live(fence, family, sets).prefixes for family in Family}
    return {family: prefixes for family, prefixes in found.items() if prefixes is not None}


def refuse_unusable(fence: str, family: Family, sets: Sets) -> None:
    """Refuse a live set that is not ours to swap, and a staging set that somebody uses."""
    live, staging = _names(fence, family)
    refuse_foreign(live, family, sets.header(live))
    header = sets.header(staging)
    if header and header.references:
        raise KernelRefused(
            f"the set {staging} is in use: a rule or another set refers to it",
            cure=f"let the rule refer to {live} instead, then: ipset destroy {staging}",
        )


def refuse_foreign(
    name: str, family: Family, header: Header | None, *, timed: bool = False
) -> None:
    """Refuse a set of that name that is not ours to swap: it would change what rules mean."""
    if header is None:
        return
    wrong = ""
    if header.type != SET_TYPE:
        wrong = f"is of type {header.type}, not {SET_TYPE}"
    elif header.family is not family:
        wrong = f"is of family {header.family}, not {family}"
    elif header.timeout and not timed:
        wrong = "has a timeout: its entries expire"
    elif timed and not header.timeout:
        wrong = "has no timeouts"
    if wrong:
        raise KernelRefused(
            f"the set {name} {wrong}",
            cure=f"take out the rules that name it, then: ipset destroy {name};"
            " geofence restore; and put the rules back",
        )


def _holds(fence: str, prefixes: PrefixList, sets: Sets) -> bool:
    found = live(fence, prefixes.family, sets)
    if found.header is not None and found.prefixes is None:
        refuse_foreign(set_name(fence, prefixes.family), prefixes.family, found.header)
    return found.prefixes == prefixes


def swap_all(names: Sequence[str], sets: Sets) -> None:
    """Put each staging set into its live one's place; if one cannot be, all are as they were."""
    done: list[str] = []
    try:
        for name in names:
            _bring_in(name, sets)
            done.append(name)
    except BaseException:
        for name in done:
            with contextlib.suppress(GeofenceError):
                _take_back(name, sets)
        raise


def discard(names: Sequence[str], sets: Sets) -> tuple[str, ...]:
    """Destroy the staging sets of live ones; what stays is a warning."""
    warnings = []
    for staging in map(staging_name, names):
        try:
            if sets.header(staging):
                sets.destroy(staging)
        except GeofenceError as error:
            warnings.append(f"left behind: {error.what}")
    return tuple(warnings)


def _bring_in(live: str, sets: Sets) -> None:
    """The one step that packets notice."""
    if sets.header(live):
        sets.swap(live, staging_name(live))
    else:
        sets.rename(staging_name(live), live)


def _take_back(live: str, sets: Sets) -> None:
    """Undo ``_bring_in``: the set that was live before is the staging one, or there was none."""
    if sets.header(staging_name(live)):
        sets.swap(live, staging_name(live))
    else:
        sets.destroy(live)


def _names(fence: str, family: Family) -> tuple[str, str]:
    name = set_name(fence, family)
    return name, staging_name(name)
