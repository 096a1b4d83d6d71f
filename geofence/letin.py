"""Let an address in by hand, and take that back: on disk, in the kernel, for the next boot."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from geofence import enabled, locks, ruletext
from geofence.disk import Disk
from geofence.enforce import live
from geofence.errors import GeofenceError, ListRefused, UsageError
from geofence.force import Host
from geofence.kernel import Sets, iptables
from geofence.model import Address, Family, Prefix, chain_name, trusted_name
from geofence.prefixes import find, format_address, format_prefix, parse_prefix
from geofence.trusted import Pass, Passes, Trusted, apply, held, together, trusts, within
from geofence.trustfiles import remember
from geofence.unparted import unparted

_MEND = "mend that, and run this again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door(Host):
    """A host, and who is let in by its configuration."""

    disk: Disk
    configured: Callable[[], Sequence[tuple[Family, Prefix]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a prefix, and what is to be said."""

    changed: bool
    configured: bool = False  # it passes whatever is done by hand
    warnings: tuple[str, ...] = ()


def let_in(wanted: Pass, door: Door) -> Done:
    """Let a prefix pass from now on, until its end; twice is as good as once."""
    state = door.store.prepare()
    with door.open_sets() as sets, locks.writer(state):
        configured = door.configured()
        warnings = tuple(unheeded(parse_prefix(wanted.prefix)[0], door))
        passes = Passes(state, door.disk)
        before = passes.read(door.now())
        if parse_prefix(wanted.prefix) in configured:
            _change(before, before, configured, door, sets)
            return Done(changed=False, configured=True, warnings=warnings)
        others = [one for one in before if one.prefix != wanted.prefix]
        _change(before, (*others, wanted), configured, door, sets)
    warnings += tuple(_shortened(wanted, before))
    same = any(one.prefix == wanted.prefix and one.until == wanted.until for one in before)
    return Done(changed=not same, warnings=warnings)


def take_back(prefix: str, door: Door) -> Done:
    """Let a prefix pass no more. Raises UsageError if the configuration lets it in."""
    state = door.store.prepare()
    with door.open_sets() as sets, locks.writer(state):
        configured = door.configured()
        if parse_prefix(prefix) in configured:
            raise UsageError(
                f"{prefix} is trusted by the configuration",
                still="nothing was changed",
                cure="take it out of `trusted` there, or of the @file; then: geofence update",
            )
        before = Passes(state, door.disk).read(door.now())
        after = tuple(one for one in before if one.prefix != prefix)
        refuse_to_shut_out(together(configured, after), door, sets)
        _change(before, after, configured, door, sets)
        return Done(changed=before != after, warnings=tuple(_still_passes(prefix, sets)))


def refresh(door: Door) -> bool:
    """Let the kernel's trusted sets follow the configuration, if they are there."""
    state = door.store.prepare()
    with door.open_sets() as sets, locks.writer(state):
        trusted = together(door.configured(), Passes(state, door.disk).read(door.now()))
        if not any(sets.header(trusted_name(family)) for family in Family):
            return False
        refuse_to_shut_out(trusted, door, sets)
        with unparted():
            changed = apply(trusted, sets, door.now())
        remember(trusted, state, door.disk)
        return changed


def _still_passes(prefix: str, sets: Sets) -> list[str]:
    """Name a wider prefix that goes on letting in what was taken back."""
    family, one = parse_prefix(prefix)
    return [
        f"{prefix} goes on passing: {format_prefix(family, wider)} is trusted"
        for wider in held(sets, family)
        if wider.length < one.length and within((family, wider), (family, one.address))
    ]


def _shortened(wanted: Pass, before: Sequence[Pass]) -> list[str]:
    """Say so if a prefix would have passed for longer than it will now."""
    return [
        f"{wanted.prefix} would have passed"
        f" {f'until {one.until:%Y-%m-%d %H:%M} UTC' if one.until else 'for good'}, and will no more"
        for one in before
        if one.prefix == wanted.prefix and wanted.until
        if one.until is None or one.until > wanted.until
    ]


def unheeded(family: Family, door: Door) -> list[str]:
    """Name the enabled fences whose chain does not ask the trusted set of a family."""
    return [
        f"{name}: its chain has no rule for trusted addresses of {family.label}, and this does"
        " not count for it before: geofence repair"
        for name, record in enabled.all_of(door.store.directory).items()
        if not record.families or family in record.families
        if not _heeded(name, family)
    ]


def _change(
    before: Sequence[Pass],
    after: Sequence[Pass],
    configured: Sequence[tuple[Family, Prefix]],
    door: Door,
    sets: Sets,
) -> None:
    """Store the passes, then put them in force, then see to the next boot."""
    state, now = door.store.directory, door.now()
    passes = Passes(state, door.disk)
    trusted = together(configured, after)
    if after != before:
        _said("nothing was changed", lambda: passes.write(after))
    try:
        with unparted():
            apply(trusted, sets, now)
    except GeofenceError as error:
        error.still = _put_back(before, passes)
        raise
    _said(
        "it is in force and stored, but the next boot would not know before another command of"
        " geofence has run",
        lambda: remember(trusted, state, door.disk),
    )


def _said(still: str, act: Callable[[], None]) -> None:
    """Let an error on its way out say what is in force."""
    try:
        act()
    except GeofenceError as error:
        error.still = still
        error.cure = error.cure or _MEND
        raise


def _put_back(before: Sequence[Pass], passes: Passes) -> str:
    try:
        passes.write(before)
    except GeofenceError as error:
        return f"it is stored, but not in force; and to take that back failed: {error.what}"
    return "nothing was changed"


def _heeded(fence: str, family: Family) -> bool:
    """Tell whether a fence's chain asks the trusted set; where it cannot be read, let it be so."""
    try:
        return any(_asks(one, fence) for one in iptables.present(family))
    except GeofenceError:
        return True


def _asks(rules: iptables.Iptables, fence: str) -> bool:
    chain = ruletext.read(rules.save()).rules.get(chain_name(fence), ())
    table = ruletext.Table(policies={}, rules={fence: chain})
    return trusted_name(rules.family) in ruletext.sets_named(table)


def refuse_to_shut_out(wanted: Trusted, host: Host, sets: Sets) -> None:
    """Refuse to trust so few that somebody who is here by SSH could not come in again."""
    fences = enabled.all_of(host.store.directory)
    out = [
        format_address(*peer)
        for peer in sorted(host.peers())
        if fences and trusts(sets, peer)
        if not any(within((peer[0], prefix), peer) for prefix in wanted[peer[0]])
        if not all(_lets_in(name, peer, sets) for name in fences)
    ]
    if out:
        raise ListRefused(
            f"{', '.join(out)} is on this host by SSH, and could not come in again",
            still="the trusted addresses stay as they were",
            cure=f"geofence trust {out[0]}; or end that session first",
        )


def _lets_in(fence: str, peer: Address, sets: Sets) -> bool:
    prefixes = live(fence, peer[0], sets).prefixes
    return prefixes is not None and find(prefixes, peer[1]) is not None


def in_kernel(door: Door) -> frozenset[str] | None:
    """Give the prefixes that the kernel trusts; None where we may not look."""
    with contextlib.suppress(GeofenceError), door.open_sets() as sets:
        return frozenset(
            format_prefix(family, prefix) for family in Family for prefix in held(sets, family)
        )
    return None
