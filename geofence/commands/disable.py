"""``geofence disable``: take out exactly what ``enable`` put in."""

from geofence import enabled, pending, rulereport, rules
from geofence.context import Context
from geofence.errors import UsageError
from geofence.kernel import iptables
from geofence.switch import disable


def run(context: Context) -> int:
    """Disable one fence, or all that are enabled or have a chain in the kernel."""
    if broken := context.without_broken_config():  # the way out does not hang on it
        context.warn("disable", [broken])
    change = pending.in_hand(context.state_dir)
    waiting = change.fences if change else ()
    there = rules.fences_in(iptables.everywhere())
    known = dict.fromkeys([*enabled.all_of(context.state_dir), *there, *waiting])
    if context.options.fence:
        if context.options.fence not in {*known, *(one.name for one in context.all_fences())}:
            raise UsageError(f"there is no fence {context.options.fence}")
        known = {context.options.fence: None}
    done = disable(tuple(known), context.firewall())
    names = " ".join(known)
    context.warn(names, done.warnings)
    context.say(rulereport.disabled_text(names, done))
    context.document(rulereport.switched_document(list(known), done))
    return 0
