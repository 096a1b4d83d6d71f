"""``geofence restore``: what was in force is in force again, from disk alone."""

from geofence import report
from geofence.commands.confirm import finish_what_is_left
from geofence.context import Context
from geofence.errors import GeofenceError
from geofence.force import Mended, restore
from geofence.hook import trust_again


def run(context: Context) -> int:
    """Restore every fence; the status is that of the first that failed."""
    fences = context.fences()
    if not fences:
        context.warn("restore", [f"nothing is configured, nor stored in {context.state_dir}"])
    status, results = 0, []
    for fence in fences:
        try:
            restored = restore(fence, context.host())
        except GeofenceError as error:
            context.complain(error, fence.name)
            results.append(report.error_document(error, error.status, fence=fence.name))
            status = status or error.status
        else:
            context.warn(fence.name, restored.warnings)
            context.say([_text(fence.name, restored)])
            results.append(report.document(0, **_facts(fence.name, restored)))
    context.warn("trusted", trust_again(context.host(), context.trusted))
    finish_what_is_left(context)  # its rules name the sets: those come first
    context.document(report.document(status, fences=results))
    return status


def _text(fence: str, restored: Mended) -> str:
    done = "is in force again" if restored.changed else "is in force"
    if restored.generation is None:
        return f"{fence}: {restored.serves} {done}"
    return f"{fence}: generation {restored.generation.number} {done}"


def _facts(fence: str, restored: Mended) -> report.Document:
    generation = restored.generation
    return {
        "fence": fence,
        "changed": restored.changed,
        "generation": generation.number if generation else None,
        "warnings": list(restored.warnings),
    }
