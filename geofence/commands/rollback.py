"""``geofence rollback``: an older generation in force, until the publisher serves another list."""

from geofence import report
from geofence.context import Context
from geofence.errors import GeofenceError
from geofence.rollback import rollback


def run(context: Context) -> int:
    """Roll one fence back."""
    fence = context.one_fence()
    try:
        generation, warnings = rollback(fence, context.options.number, context.host())
    except GeofenceError as error:
        context.complain(error, fence.name)
        context.document(report.error_document(error, error.status, fence=fence.name))
        return error.status
    context.warn(fence.name, warnings)
    context.say([f"{fence.name}: generation {generation.number} is in force"])
    held = context.store.held(fence.name)
    if held:
        context.say(["  updates wait until the publisher serves a different list"])
    context.document(
        report.document(
            0,
            fence=fence.name,
            generation=generation.number,
            held=held.generation if held else None,
            warnings=list(warnings),
        )
    )
    return 0
