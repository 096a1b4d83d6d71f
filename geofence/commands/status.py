"""``geofence status``: what the kernel enforces, against what the disk says."""

from geofence import enabled, pending, report, rules, statusreport
from geofence.context import Context, open_sets
from geofence.enforce import Live, live
from geofence.kernel import Sets
from geofence.model import Family, Fence, Generation, set_name


def run(context: Context) -> int:
    """Tell every fence's state; exit 1 if one is not enforced as it is stored."""
    fences = context.fences()
    change = pending.in_hand(context.state_dir)
    waiting = statusreport.waiting_facts(change)
    if not fences:
        context.say(
            [
                f"no fence is configured, and none is stored in {context.state_dir}",
                "start with: geofence update --country CC --dry-run",
            ]
        )
        context.document(report.document(0, fences=[], pending=waiting))
        return 0
    with open_sets() as sets:
        found = [_status(context, fence, sets) for fence in fences]
    exit_status = 1 if any(status.drift or status.breach for status in found) else 0
    for status in found:
        context.warn(status.fence, [f"not used: {damage}" for damage in status.damaged])
        context.say(statusreport.status_text(status))
    context.say(statusreport.waiting_text(change, pending.reverted(context.state_dir)))
    if unrecorded := pending.read(context.state_dir, pending.CONFIRMED):
        names = " ".join(unrecorded.fences)
        context.warn(names, ["is confirmed, but not stored as enabled: geofence confirm"])
    facts = [statusreport.status_facts(status) for status in found]
    context.document(report.document(exit_status, fences=facts, pending=waiting))
    return exit_status


def _status(context: Context, fence: Fence, sets: Sets) -> statusreport.FenceStatus:
    stored = context.store.active(fence.name)
    generation = stored.generation
    families = generation.lists if generation else fence.families or tuple(Family)
    found = {family: live(fence.name, family, sets) for family in families}
    confirmed = context.store.confirmed(fence.name)
    return statusreport.FenceStatus(
        fence=fence.name,
        generation=generation,
        damaged=stored.damaged,
        confirmed=confirmed.at if confirmed else None,
        origins=confirmed.origins if confirmed else generation.origins if generation else (),
        live=found,
        drift=tuple(
            drift
            for family, one in found.items()
            if (drift := _drift(fence.name, family, one, generation))
        ),
        now=context.now(),
        enabled=_enabled(context, fence.name),
    )


def _enabled(context: Context, fence: str) -> statusreport.EnabledStatus | None:
    """Tell whether the rules of an enabled fence are where they were put; None: not enabled."""
    record = enabled.read(fence, context.state_dir)
    if record is None:
        return None
    goals = enabled.goals(fence, context.state_dir)
    return statusreport.EnabledStatus(
        at=record.at,
        tables=tuple(str(goal.rules) for goal in goals),
        missing=tuple(str(goal.rules) for goal in goals if not rules.in_place(goal)),
    )


def _drift(fence: str, family: Family, found: Live, generation: Generation | None) -> str:
    """Name what is not as the disk says."""
    if found.drift:
        return found.drift
    if generation is None:
        return f"the set {set_name(fence, family)} exists, and no generation is stored"
    if found.prefixes != generation.lists[family]:
        return (
            f"the set {set_name(fence, family)} does not hold generation {generation.number}"
            " (geofence restore mends it)"
        )
    return ""
