"""``geofence diff``: what differs between two generations."""

from geofence import report
from geofence.compare import compare
from geofence.context import Context
from geofence.errors import UsageError
from geofence.model import Generation, PrefixList

_MOST_NUMBERS = 2


def run(context: Context) -> int:
    """Tell the prefixes that one generation has and the other has not, largest first."""
    fence = context.one_fence().name
    old, new = _chosen(context, fence)
    empty = {family: PrefixList(family, ()) for family in old.lists if family not in new.lists}
    changes = compare(old.lists, {**new.lists, **empty})
    context.say([f"{fence}: from generation {old.number} to {new.number}"])
    context.say(report.diff_text(changes))
    context.document(
        report.document(
            0, fence=fence, old=old.number, new=new.number, families=report.diff_facts(changes)
        )
    )
    return 0


def _chosen(context: Context, fence: str) -> tuple[Generation, Generation]:
    numbers = context.options.number
    if len(numbers) > _MOST_NUMBERS:
        raise UsageError("diff takes two generations at most")
    active = context.store.active(fence).generation
    if active is None:
        raise UsageError(f"{fence}: no sound generation is stored")
    for number in numbers:
        if number not in context.store.numbers(fence):
            raise UsageError(
                f"{fence}: there is no generation {number}",
                cure="geofence history shows what there is",
            )
    if len(numbers) == _MOST_NUMBERS:
        return context.store.read(fence, numbers[0]), context.store.read(fence, numbers[1])
    if numbers:
        return context.store.read(fence, numbers[0]), active
    older = [number for number in context.store.numbers(fence) if number < active.number]
    if not older:
        raise UsageError(
            f"{fence}: there is no generation before {active.number}",
            cure="geofence history shows what there is",
        )
    return context.store.read(fence, older[-1]), active
