"""``geofence enable``: the fence's chain and jumps, rehearsed, in both families or neither."""

import os
import sys

from geofence import report
from geofence.context import Context
from geofence.errors import UsageError
from geofence.model import Fence
from geofence.peers import by_ssh
from geofence.switch import Request, Switched, enable

_ASKED_SECONDS = 60


def run(context: Context) -> int:
    """Enable the fences, and end by saying whether a reboot brings them back."""
    request = Request(
        fences=context.some_fences(),
        confirm_seconds=_confirm_seconds(context),
        without_rehearsal=context.options.without_rehearsal,
    )
    done = enable(request, context.firewall())
    tell(context, request.fences, done)
    return 0


def tell(context: Context, fences: tuple[Fence, ...], done: Switched) -> None:
    """Say what was done."""
    names = " ".join(fence.name for fence in fences)
    context.warn(names, done.warnings)
    context.say(report.switched_text(names, done))
    context.document(report.switched_document(names.split(), done))


def _confirm_seconds(context: Context) -> int | None:
    """Give --confirm; on a terminal that came by SSH, ask for it."""
    seconds: int | None = context.options.confirm
    if seconds is not None or context.options.json or not by_ssh() or not _on_terminal():
        return seconds
    context.output.err(
        "geofence: you are here by SSH. After how many seconds shall the old rules come back, unless"
        f" you say `geofence confirm`? [{_ASKED_SECONDS}; 0: never] "
    )
    answer = sys.stdin.readline().strip() or str(_ASKED_SECONDS)
    if not (answer.isascii() and answer.isdecimal()):
        raise UsageError(f"{answer!r} is no number of seconds", still="nothing was changed")
    return int(answer) or None


def _on_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
