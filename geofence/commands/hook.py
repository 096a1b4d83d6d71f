"""``geofence hook``: what an init script calls; a broken configuration does not stop it."""

from geofence import hook, report, trustfiles
from geofence.commands.confirm import finish_what_is_left
from geofence.context import Context
from geofence.hook import Done
from geofence.trusted import Trusted

_FAILED = 1
_NOT_RUNNING = 3  # LSB: the program is not running


def run(context: Context) -> int:
    """Do what is asked for, as far as it can be done; 1 if not all of it could."""
    what = context.options.what
    broken = context.without_broken_config()
    done = Done(warnings=(f"{broken}; what is stored serves",) if broken else ())
    done += _done(context, what, broken=bool(broken))
    context.warn("boot", done.warnings)
    for failure in done.failures:
        context.output.err(f"geofence: {failure}\n")
    status = (_NOT_RUNNING if what == "status" else _FAILED) if done.failures else 0
    context.document(
        report.document(status, failures=list(done.failures), warnings=list(done.warnings))
    )
    return status


def _done(context: Context, what: str, *, broken: bool) -> Done:
    host, state = context.host(), context.state_dir

    def trust() -> Trusted:
        return trustfiles.remembered(state) if broken else context.trusted()

    if what == "stop" or not state.is_dir():
        return Done()  # stopping something must neither open a host nor close it
    if what == "status":
        return hook.status(host)
    act = hook.pre_start if what == "pre-start" else hook.start
    done = act(hook.known(context.fences(), state, context.unconfigured), host, trust)
    if finish_what_is_left(context) and what == "start":  # its rules name the sets, just loaded
        done += hook.start((), host, trust)
    return done
