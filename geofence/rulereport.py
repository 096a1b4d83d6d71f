"""What a verb that changes or tries rules says, as text and as a document. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geofence.report import Document, document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geofence.persistence import Persistence
    from geofence.rehearsal import Report
    from geofence.switch import Switched


def switched_text(names: str, done: Switched, reboot: Persistence) -> list[str]:
    """Tell that fences are enabled."""
    where = " and ".join(done.tables)
    state = "is enabled" if done.changed else "is enabled, as it was"
    lines = [f"{names}: {state}, in {where}"]
    if done.report:
        lines.append(
            f"  rehearsed with {done.report.packets:,} packets in {done.report.seconds:.1f} s"
        )
    if done.confirm_seconds is not None:
        lines.append(
            f"  the old rules come back in {done.confirm_seconds} s unless you say, from a new"
            " session: geofence confirm"
        )
    if reboot.back:
        lines.append(f"  a reboot brings it back (by {reboot.by})")
    else:
        lines.append(f"  a reboot does NOT bring it back: {reboot.cure}")
    return lines


def reboot_facts(reboot: Persistence) -> Document:
    """Give what a reboot does to enabled fences."""
    return {"back": reboot.back, "by": reboot.by, "cure": reboot.cure}


def rehearsal_text(names: str, rehearsed: Report) -> list[str]:
    """Tell what a rehearsal found."""
    sent = f"{rehearsed.packets:,} packets in {rehearsed.seconds:.1f} s"
    said = [*map(str, rehearsed.wrong), *rehearsed.failures]
    head = "not as it should be" if said else "every verdict is as it should be"
    lines = [f"{names}: rehearsed with {sent}: {head}"]
    return lines + [f"  {line}" for line in said] + [f"  note: {line}" for line in rehearsed.notes]


def rehearsal_document(names: Sequence[str], rehearsed: Report, status: int) -> Document:
    """Give the facts of a rehearsal."""
    return document(
        status,
        fences=list(names),
        packets=rehearsed.packets,
        seconds=round(rehearsed.seconds, 3),
        wrong=[
            {"packet": one.packet, "expected": one.expected, "actual": one.actual, "rule": one.rule}
            for one in rehearsed.wrong
        ],
        failures=list(rehearsed.failures),
        notes=list(rehearsed.notes),
    )


def disabled_text(names: str, done: Switched) -> list[str]:
    """Tell that fences are disabled."""
    if not done.changed:
        return [f"{names}: no rule of it was there" if names else "no fence is enabled"]
    return [f"{names}: is disabled: its chain and jumps are gone from {', '.join(done.tables)}"]


def switched_document(names: Sequence[str], done: Switched, **more: Any) -> Document:
    """Give the facts of fences that were switched on or off."""
    return document(
        0,
        fences=list(names),
        changed=done.changed,
        tables=list(done.tables),
        rehearsed=done.report.packets if done.report else None,
        confirm_seconds=done.confirm_seconds,
        warnings=list(done.warnings),
        **more,
    )
