"""What on this host defeats a fence, or will after the next reboot, each with its cure."""

from collections.abc import Callable, Iterable

from geofence.doctor import boot, chains, others, sets, state
from geofence.doctor.facts import Facts
from geofence.doctor.finding import Finding

CHECKS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    state.configuration,
    state.configuration_differs,
    state.unconfigured,
    state.waiting,
    state.namespace,
    state.writable,
    sets.there,
    sets.trusted,
    sets.staging,
    chains.in_place,
    chains.recorded,
    chains.in_one_variant,
    chains.reached,
    chains.foreign_jumps,
    chains.nothing_drops,
    chains.connections,
    others.readable,
    others.owners,
    others.both_variants,
    others.drops,
    others.forwarded,
    others.ipv6,
    boot.comes_back,
    boot.records,
    boot.trusted,
    boot.installed,
    boot.owners,
    boot.ufw,
    boot.flushes,
    boot.saved_rules,
    boot.saved_sets,
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Give all that is wrong, what is wrong now before what will be."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return tuple(sorted(found, key=lambda one: one.when))
