"""``geofence repair``: put back what another tool took away of an enabled fence."""

from geofence import confirm, enabled, pending, report
from geofence.commands.confirm import finish_what_is_left
from geofence.commands.enable import tell
from geofence.context import Context
from geofence.switch import Request, mend


def run(context: Context) -> int:
    """Repair the enabled fences; those that are not enabled are let alone."""
    finish_what_is_left(context)
    if change := pending.read(context.state_dir):
        raise confirm.busy(change)
    records = enabled.all_of(context.state_dir)
    configured = {fence.name for fence in context.config.fences}
    fences = tuple(
        fence if fence.name in configured else records[fence.name].fence_as_enabled(fence)
        for fence in context.fences()
        if fence.name in records
    )
    if not fences:
        context.say(["no fence is enabled: there is nothing to repair"])
        context.document(report.document(0, fences=[], changed=False))
        return 0
    request = Request(
        fences=fences,
        confirm_seconds=context.options.confirm,
        without_rehearsal=context.options.without_rehearsal,
    )
    tell(context, fences, mend(request, context.firewall()))
    return 0
