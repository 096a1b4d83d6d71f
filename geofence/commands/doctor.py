"""``geofence doctor``: what on this host defeats the fence, or will, each with its cure."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from geofence import report
from geofence.context import Context, open_sets
from geofence.doctor import examine
from geofence.doctor.facts import Patient, gather
from geofence.doctor.finding import Finding, When
from geofence.errors import UsageError
from geofence.store import Store

_HOST = Path("/")


def run(context: Context) -> int:
    """Examine the host; exit 1 if anything is found."""
    patient = Patient(
        root=context.options.root or _HOST,
        store=Store(context.state_dir, context.disk),  # also where the configuration is broken
        open_sets=open_sets,
        configured=lambda: context.config.fences,
        trusted=context.trusted,
    )
    facts = gather(patient)
    wanted = context.options.fence
    if wanted and wanted not in facts.fences:
        raise UsageError(f"there is no fence {wanted}")
    found = [one for one in examine(facts) if not wanted or one.fence in {"", wanted}]
    status = 1 if found else 0
    context.say(_text(found) or [_well(tuple(facts.records))])
    context.document(report.document(status, findings=[dataclasses.asdict(one) for one in found]))
    return status


def _text(found: Sequence[Finding]) -> list[str]:
    lines = []
    for one in found:
        when = "after a reboot: " if one.when is When.REBOOT else ""
        fence = f"{one.fence}: " if one.fence else ""
        lines += [f"{when}{fence}{one.what}", f"  cure: {one.cure}"]
    return lines


def _well(enabled: Sequence[str]) -> str:
    if not enabled:
        return "nothing is wrong; and no fence is enabled"
    return f"nothing found that defeats {' '.join(enabled)}, now or after a reboot"
