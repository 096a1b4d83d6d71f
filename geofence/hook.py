"""What init scripts ask of geofence: the sets before the host's rules, its own rules after them.

The sh hook in cron/boot keeps the same promises without Python.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geofence import enabled, locks, rules, ruletext, trusted, trustfiles
from geofence.disk import Disk
from geofence.enforce import enforced
from geofence.errors import GeofenceError
from geofence.force import Host, enforce_everything, restore
from geofence.kernel import Sets
from geofence.letin import refuse_to_shut_out
from geofence.model import Fence, OnMissing, set_name, trusted_name
from geofence.rules import Goal
from geofence.trusted import Trusted

_DOCKER_USER = "*filter\n:DOCKER-USER - [0:0]\nCOMMIT\n"


@dataclass(frozen=True, slots=True)
class Done:
    """What could not be done, and what is to be said beside."""

    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: "Done") -> "Done":
        """Join what two acts gave."""
        return Done(self.failures + other.failures, self.warnings + other.warnings)


def known(
    fences: Sequence[Fence], state: Path, unconfigured: Callable[[str], Fence]
) -> tuple[Fence, ...]:
    """Give the fences that a boot is about: also enabled ones of which nothing else is stored."""
    found = {fence.name: fence for fence in fences}
    for name in enabled.all_of(state):
        found.setdefault(name, unconfigured(name))
    return tuple(found.values())


def pre_start(fences: Sequence[Fence], host: Host, trust: Callable[[], Trusted]) -> Done:
    """Put every fence's sets in force; one's failure never stops the next."""
    done = Done()
    for fence in fences:
        done += _sets_of(fence, host)
    failed = trust_again(host, trust)
    return done + Done(failures=failed)


def start(fences: Sequence[Fence], host: Host, trust: Callable[[], Trusted]) -> Done:
    """Put the rules of enabled fences back where they are not, and the sets that they name."""
    state = host.store.directory
    done = Done(failures=_damaged(state))
    names = _enabled(state)
    with host.open_sets() as sets:
        absent = [line for name in names for line in _absent(name, state, sets)]
    if absent:
        done += pre_start(fences, host, trust)
    for name in names:
        try:
            with locks.writer(host.store.prepare()):
                goals = enabled.goals(name, state)
                _make_docker_user(goals)
                rules.reach(goals)
        except GeofenceError as error:
            done += Done(failures=(f"{name}: {error.what}",))
    return done


def status(host: Host) -> Done:
    """Name what is missing of enabled fences: sets, chains, jumps."""
    state = host.store.directory
    done = Done(failures=_damaged(state))
    with host.open_sets() as sets:
        for name in _enabled(state):
            done += Done(failures=tuple(_absent(name, state, sets)))
            done += Done(
                failures=tuple(
                    f"{name}: {goal.rules}: the chain or its jump is not there, or not as"
                    " it was enabled"
                    for goal in enabled.goals(name, state)
                    if not rules.in_place(goal)
                )
            )
    return done


def trust_again(host: Host, trust: Callable[[], Trusted]) -> tuple[str, ...]:
    """Let the trusted sets hold what is to be trusted, else what was stored; give complaints."""
    state = host.store.directory
    complaints: list[str] = []
    try:
        wanted = trust()
    except GeofenceError as error:
        complaints.append(f"trusted: {error.what}; those that were stored serve")
        wanted = trustfiles.remembered(state)
    if any(wanted.values()) or (state / "trusted").exists() or enabled.all_of(state):
        try:
            with host.open_sets() as sets, locks.writer(host.store.prepare()):
                refuse_to_shut_out(wanted, host, sets)
                trusted.apply(wanted, sets, host.now())
                if not complaints:  # the files of the sh hook may be what is damaged
                    trustfiles.remember(wanted, state, Disk())
        except GeofenceError as error:
            complaints.append(error.what)
    return tuple(complaints)


def _sets_of(fence: Fence, host: Host) -> Done:
    try:
        restored = restore(fence, host)
    except GeofenceError as error:
        failure = f"{fence.name}: {error.what}"
        if fence.on_missing is OnMissing.BUNDLED and _opened(fence.name, host):
            failure += "; every country passes"
        return Done(failures=(failure,))
    said = tuple(f"{fence.name}: {line}" for line in restored.warnings)
    return Done(warnings=said) if restored.generation else Done(failures=said)


def _opened(fence: str, host: Host) -> bool:
    """Let every country pass where nothing is in force, rather than nobody; tell whether so."""
    try:
        with host.open_sets() as sets:
            if any(found.prefixes for found in enforced(fence, sets).values()):
                return False
        enforce_everything(fence, host)
    except GeofenceError:
        return False
    return True


def _enabled(state: Path) -> tuple[str, ...]:
    """Name the fences that are enabled, though their record be damaged."""
    return tuple(sorted({*enabled.all_of(state), *enabled.damaged(state)}))


def _make_docker_user(goals: Sequence[Goal]) -> None:
    """Make Docker's chain where Docker has not started yet; it takes one that is there."""
    for goal in goals:
        if not any(jump.chain == "DOCKER-USER" for jump in goal.own.jumps):
            continue
        if "DOCKER-USER" not in ruletext.read(goal.rules.save()).rules:
            goal.rules.restore(_DOCKER_USER)


def _absent(fence: str, state: Path, sets: Sets) -> list[str]:
    """Name the sets that an enabled fence's rules ask for, and that are not there."""
    names = [
        name
        for goal in enabled.goals(fence, state)
        for name in (set_name(fence, goal.rules.family), trusted_name(goal.rules.family))
    ]
    return [f"{fence}: the set {name} is not there" for name in names if not sets.header(name)]


def _damaged(state: Path) -> tuple[str, ...]:
    return tuple(
        f"{fence}: the record of its being enabled is damaged ({wrong}): geofence enable"
        for fence, wrong in enabled.damaged(state).items()
    )
