"""``geofence history``: the stored generations."""

from geofence import report
from geofence.context import Context
from geofence.errors import DiskError
from geofence.model import Generation


def run(context: Context) -> int:
    """List the generations of every fence, oldest first."""
    documents = []
    for fence in context.fences():
        active = context.store.active_number(fence.name)
        found = {
            number: _read(context, fence.name, number)
            for number in context.store.numbers(fence.name)
        }
        held = context.store.held(fence.name)
        context.say([f"{fence.name}:"])
        context.say(
            [report.history_text(number, active, one) for number, one in found.items()]
            or ["  no generation is stored"]
        )
        if held:
            context.say([f"  rolled back from {held.generation}: waiting for a different list"])
        documents.append(
            {
                "fence": fence.name,
                "held": held.generation if held else None,
                "generations": [
                    report.history_facts(number, active, generation)
                    for number, generation in found.items()
                ],
            }
        )
    context.document(report.document(0, fences=documents))
    return 0


def _read(context: Context, fence: str, number: int) -> Generation | str:
    try:
        return context.store.read(fence, number)
    except DiskError as error:
        return error.what
