"""Do all that an update does up to the verified set, where no packet is; touch nothing."""

from geofence import judge as judging
from geofence.compare import compare
from geofence.enforce import enforced, refuse_unusable, stage
from geofence.errors import NoPermission
from geofence.force import OpenSets, what_stays
from geofence.kernel.namespace import NoNamespace, privately
from geofence.model import Generation, Lists
from geofence.store import Store
from geofence.update import (
    Outcome,
    Parts,
    Request,
    as_confirmed,
    bring,
    circumstances,
    complete,
    said_if_held,
)


def dry_run(request: Request, parts: Parts) -> Outcome:
    """Do all that an update does up to the verified set, in a private namespace; touch nothing."""
    fence = request.fence
    with what_stays(fence.name, parts):
        active, warnings = _active_as_far_as_readable(fence.name, parts.store)
        now_enforced, unread = _enforced_as_far_as_readable(fence.name, parts.open_sets)
        drift = _drift(active, now_enforced)
        brought, brought_warnings = bring(request, parts, fresh=active is None, keep=False)
        candidate, filled = complete(request, brought, active)
        held = said_if_held(fence.name, parts.store, candidate, active)
        judged: tuple[str, ...] = ()
        if not held:
            met = circumstances(request, parts, active, now_enforced or {})
            judged = judging.judge(fence, candidate, met)
        new = not held and (active is None or active.lists != candidate.lists)
        if (new or drift) and now_enforced is not None:
            with parts.open_sets() as sets:
                for family in candidate.lists:
                    refuse_unusable(fence.name, family, sets)
        tried = _try_privately(fence.name, candidate.lists, parts.open_sets)
        return Outcome(
            fence=fence.name,
            changed=new or bool(drift),
            dry_run=True,
            source=brought.listing.source,
            generation=active.number if active else None,
            changes=compare(active.lists if active else {}, candidate.lists),
            origins=candidate.origins,
            warnings=(
                *warnings, *unread, *drift, *brought_warnings, *filled, *held, *judged, *tried,
            ),
            held=bool(held),
        )  # fmt: skip


def _active_as_far_as_readable(
    fence: str, store: Store
) -> tuple[Generation | None, tuple[str, ...]]:
    try:
        found = store.active(fence)
    except NoPermission as error:
        return None, (f"judged as on a fresh host: {error.what}",)
    active = as_confirmed(found.generation, fence, store)
    return active, tuple(f"not used: {damage}" for damage in found.damaged)


def _enforced_as_far_as_readable(
    fence: str, open_sets: OpenSets
) -> tuple[Lists | None, tuple[str, ...]]:
    """Read what packets meet; None where that is not permitted."""
    try:
        with open_sets() as sets:
            return enforced(fence, sets), ()
    except NoPermission as error:
        return None, (f"what the kernel enforces now was not looked at: {error.what}",)


def _drift(active: Generation | None, now_enforced: Lists | None) -> tuple[str, ...]:
    if not active or now_enforced is None or now_enforced == active.lists:
        return ()
    return (f"the kernel does not hold generation {active.number}: the run would mend that",)


def _try_privately(fence: str, lists: Lists, open_sets: OpenSets) -> tuple[str, ...]:
    """Load and verify the candidate's sets where no packet is; say so if that is not permitted."""

    def trial() -> None:
        with open_sets() as sets:
            for prefixes in lists.values():
                stage(fence, prefixes, sets)

    try:
        privately(trial)
    except NoNamespace as error:
        return (f"not tried: loading the sets in a private network namespace ({error})",)
    return ()
