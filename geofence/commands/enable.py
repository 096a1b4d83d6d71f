"""``geofence enable``: the fence's chain and jumps, rehearsed, in both families or neither."""

import os
import re
from pathlib import Path

from geofence import rulereport
from geofence.context import Context
from geofence.errors import UsageError
from geofence.model import Fence
from geofence.peers import by_ssh
from geofence.persistence import brings_back
from geofence.switch import Request, Switched, enable

_ASKED_SECONDS = 60
_SECONDS = re.compile(r"[0-9]{1,5}")
_LINE_BYTES = 4096  # of a terminal, N_TTY_BUF_SIZE


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
    reboot = brings_back(Path("/"), context.state_dir, names.split())
    context.say(rulereport.switched_text(names, done, reboot))
    facts = rulereport.reboot_facts(reboot)
    context.document(rulereport.switched_document(names.split(), done, reboot=facts))


def _confirm_seconds(context: Context) -> int | None:
    """Give --confirm; on a terminal that came by SSH, ask for it."""
    seconds: int | None = context.options.confirm
    if seconds is not None or not by_ssh() or not _on_terminal():
        return seconds
    context.output.err(
        "geofence: you are here by SSH. Should the new rules shut you out, the old ones come back,"
        "\n  unless you say `geofence confirm`, from a new session, within how many seconds?"
        f"\n  (0: they never come back) [{_ASKED_SECONDS}] "
    )
    answer = _answer()
    if not _SECONDS.fullmatch(answer):
        raise UsageError(
            f"{answer!r} is no number of seconds up to 99999" if answer else "no answer came",
            still="nothing was changed",
            cure=f"geofence enable --confirm {_ASKED_SECONDS}",
        )
    return int(answer) or None


def _answer() -> str:
    """Read a line from the terminal; the default if it is blank, nothing at its end."""
    try:
        line = os.read(0, _LINE_BYTES)
    except OSError:  # it was hung up
        return ""
    return (line.decode("ascii", "replace").strip() or str(_ASKED_SECONDS)) if line else ""


def _on_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False
