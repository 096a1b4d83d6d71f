"""``geofence disable``: take out exactly what ``enable`` put in."""

from geofence import enabled, pending, report
from geofence.context import Context
from geofence.errors import UsageError
from geofence.switch import disable, in_kernel


def run(context: Context) -> int:
    """Disable one fence, or all that are enabled or have a chain in the kernel."""
    change = pending.in_hand(context.state_dir)
    waiting = change.fences if change else ()
    known = dict.fromkeys([*enabled.all_of(context.state_dir), *in_kernel(), *waiting])
    if context.options.fence:
        if context.options.fence not in {*known, *(one.name for one in context.all_fences())}:
            raise UsageError(f"there is no fence {context.options.fence}")
        known = {context.options.fence: None}
    done = disable(tuple(known), context.firewall())
    names = " ".join(known)
    context.warn(names, done.warnings)
    context.say(report.disabled_text(names, done))
    context.document(report.switched_document(list(known), done))
    return 0
