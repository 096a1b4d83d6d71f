"""``geofence confirm``: keep the rules that would else be taken back."""

from geofence import report
from geofence.confirm import confirm, finish
from geofence.context import Context
from geofence.errors import GeofenceError


def run(context: Context) -> int:
    """Confirm; exit 1 if there was nothing to confirm, or if it was too late."""
    done = confirm(context.state_dir, context.disk)
    names, status = " ".join(done.fences), 0 if done.confirmed else 1
    context.say([f"{names}: is confirmed: it stays enabled" if done.confirmed else done.why])
    context.document(
        report.document(
            status, confirmed=done.confirmed, fences=list(done.fences), why=done.why or None
        )
    )
    return status


def finish_what_is_left(context: Context) -> bool:
    """Bring back what a watcher that is no more should have; tell whether something is recorded.

    A verb's own work does not wait for it.
    """
    try:
        done = finish(context.state_dir, context.disk)
    except GeofenceError as error:
        context.warn("confirm", [str(error)])
        return False
    if done.fences:
        names = " ".join(done.fences)
        what = "it is recorded as enabled" if done.confirmed else "the old rules are back"
        context.warn(names, [f"{what}, as a change of its rules was left half done"])
    return done.confirmed
