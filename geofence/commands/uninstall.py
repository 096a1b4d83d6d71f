"""``geofence uninstall``: take away exactly what ``install`` put in place."""

from collections.abc import Iterator
from pathlib import Path

from geofence import enabled, install, missing
from geofence.commands.install import at_root, document, reload_systemd, told
from geofence.context import Context
from geofence.errors import DiskError
from geofence.install import Step


def run(context: Context) -> int:
    """Uninstall; 1 if something stays because it was changed since."""
    root, context = at_root(context)
    state, disk = context.state_dir, context.disk
    if install.is_damaged(state):
        raise DiskError(
            f"{state / 'installed.json'} is damaged: it is not known what is installed",
            still="nothing was changed",
            cure="geofence install, which finds that out again; then: geofence uninstall",
        )
    record = install.read(state)
    steps = install.removal(root, record, disk)
    warnings = list(_warnings(root, state, steps))
    context.warn("uninstall", warnings)
    if steps and not context.options.dry_run:
        install.uninstall(steps, root, state, record, disk)
        for home in (path.parent for path in state.glob("*/on_missing")):
            missing.forget(home.name, state, disk)
        reload_systemd(root, changed=any(step.act for step in steps))
    context.say(told(steps) or ["nothing is installed"])
    status = 1 if any(step.kept for step in steps) else 0
    context.document(document(status, steps, warnings=warnings))
    return status


def _warnings(root: Path, state: Path, steps: tuple[Step, ...]) -> Iterator[str]:
    for step in steps:
        if step.kept:
            yield f"{step.path} is {step.doing}; remove it yourself if nothing needs it"
    names = " ".join(enabled.all_of(state))
    if names:
        yield f"{names}: a reboot does not bring it back any more"
    for path in install.saved_rules_that_name_sets(root):
        yield (
            f"{path} names geofence's sets: at the next boot none of its rules can be loaded;"
            " geofence disable, and save the rules anew"
        )
