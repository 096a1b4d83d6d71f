"""Findings about the configuration, the state directory, and where geofence runs."""

from collections.abc import Iterator

from geofence.doctor.facts import Facts
from geofence.doctor.finding import Finding

_SHOWN = 3


def configuration(facts: Facts) -> Iterator[Finding]:
    """What cannot be read: the configuration, or something that is stored."""
    for error in facts.complaints:
        yield Finding(id="configuration", what=error.what, cure=error.cure or "mend the file")


def configuration_differs(facts: Facts) -> Iterator[Finding]:
    """A fence that was enabled with other rules than the configuration has now."""
    for name in facts.records:
        if name in facts.configured and facts.expected(name) != facts.fences[name]:
            yield Finding(
                id="configuration-differs",
                fence=name,
                what="its rules were made from another configuration than there is now",
                cure="geofence enable",
            )


def waiting(facts: Facts) -> Iterator[Finding]:
    """A change that will be taken back."""
    if not facts.waiting:
        return
    fences = " ".join(facts.waiting.fences)
    if facts.boot_state and facts.boot_state.overdue:
        yield Finding(
            id="overdue",
            fence=fences,
            what="nobody confirmed a change in time: the old rules are due, and have not come back",
            cure="geofence restore brings the old rules back; then, if you want the new ones:"
            " geofence enable",
        )
    else:
        yield Finding(
            id="waiting",
            fence=fences,
            what="a change waits to be confirmed; else the old rules come back"
            f" in {facts.waiting.left():.0f} s",
            cure="geofence confirm",
        )


def unconfigured(facts: Facts) -> Iterator[Finding]:
    """A fence that is enabled, and that ``update`` knows nothing of."""
    for name in facts.records if facts.configured else ():
        if name not in facts.configured:
            yield Finding(
                id="not-configured",
                fence=name,
                what="it is enabled, and the configuration does not have it: update does not keep"
                " its list fresh",
                cure=f"write [fence.{name}] into the configuration; or: geofence disable --fence"
                f" {name}",
            )


def namespace(facts: Facts) -> Iterator[Finding]:
    """Another network than the host's."""
    if facts.foreign_namespace:
        yield Finding(
            id="namespace",
            what="this is a network namespace of its own: what is said here is about it, and"
            " nothing done here protects the host",
            cure="run geofence on the host itself: nsenter -t 1 -n geofence doctor",
        )


def writable(facts: Facts) -> Iterator[Finding]:
    """A state that somebody else could change."""
    if facts.writable:
        shown = " ".join(str(path) for path in facts.writable[:_SHOWN])
        more = len(facts.writable) - _SHOWN
        yield Finding(
            id="writable",
            what="others than root may write what is enforced and what a boot loads:"
            f" {shown}{f' and {more} more' if more > 0 else ''}",
            cure=f"chown -hR root {facts.writable[0]} && chmod -R go-w {facts.writable[0]}",
        )
