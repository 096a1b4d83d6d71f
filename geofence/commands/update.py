"""``geofence update``: of the countries named, or of every fence there is."""

import contextlib
import dataclasses
import time

from geofence import config, report
from geofence.cache import Cache
from geofence.commands.confirm import finish_what_is_left
from geofence.config import FetchLimits
from geofence.context import Context, open_sets
from geofence.dryrun import dry_run
from geofence.errors import ConfigError, GeofenceError, NoPermission, UsageError
from geofence.letin import refresh
from geofence.model import Family, Fence
from geofence.peers import ssh_peers
from geofence.progress import bars
from geofence.update import Outcome, Parts, Request, update

_LEAST_REACH_SECONDS = 1.0


def run(context: Context) -> int:
    """Update one fence, or all; the status is that of the first that failed."""
    options = context.options
    if not options.dry_run:
        finish_what_is_left(context)
    _refresh_trusted(context)
    if options.country:
        return _one(context, _named(context))
    fences = _all(context)
    if len(fences) == 1 and options.fence:
        return _one(context, fences[0])
    return _each(context, fences)


def _refresh_trusted(context: Context) -> None:
    """Let the kernel trust whom the configuration names by now; a fence comes first all the same.

    Where nothing may be changed the update itself says so.
    """
    if context.options.dry_run:
        return
    try:
        with contextlib.suppress(NoPermission):
            refresh(context.door())
    except GeofenceError as error:
        context.warn("trusted", [str(error)])


def _one(context: Context, fence: Fence) -> int:
    try:
        outcome = _run(context, fence, context.config.fetch)
    except GeofenceError as error:
        context.complain(error, fence.name)
        context.document(report.error_document(error, error.status, fence=fence.name))
        return error.status
    _tell(context, outcome)
    context.document(report.update_document(outcome))
    return 0


def _each(context: Context, fences: tuple[Fence, ...]) -> int:
    status, results = 0, []
    limits = context.config.fetch
    for fence in fences:
        started = time.monotonic()
        came = False
        try:
            outcome = _run(context, fence, limits)
        except GeofenceError as error:
            context.complain(error, fence.name)
            results.append(report.error_document(error, error.status, fence=fence.name))
            status = status or error.status
        else:
            _tell(context, outcome)
            results.append(report.update_document(outcome))
            came = outcome.source == fence.source
        if not came:  # perhaps there is no network: do not wait for it as long with each fence
            left = limits.reach_seconds - (time.monotonic() - started)
            limits = dataclasses.replace(limits, reach_seconds=max(left, _LEAST_REACH_SECONDS))
    context.document(report.document(status, fences=results))
    return status


def _tell(context: Context, outcome: Outcome) -> None:
    context.warn(outcome.fence, outcome.warnings)
    context.say(report.update_text(outcome, verbose=bool(context.options.verbose)))


def _run(context: Context, fence: Fence, limits: FetchLimits) -> Outcome:
    options = context.options
    request = Request(
        fence=fence,
        families=tuple(Family(name) for name in dict.fromkeys(options.families)),
        accept_change=options.accept_change,
    )
    with bars(wanted=not (options.quiet or options.json)) as progress:
        parts = Parts(
            store=context.store,
            cache=Cache(context.cache_dir, context.disk),
            open_sets=open_sets,
            fetch=limits,
            peers=ssh_peers,
            now=context.now,
            progress=progress,
        )
        return dry_run(request, parts) if options.dry_run else update(request, parts)


def _named(context: Context) -> Fence:
    """Give the fence of --country, with --source and --from put in."""
    if context.options.fence:
        raise UsageError("--country and --fence exclude each other")
    return _redirected(context, config.fence_of_countries(context.options.country, context.config))


def _all(context: Context) -> tuple[Fence, ...]:
    """Give the configured fences; without a configuration, those that are stored."""
    options = context.options
    if options.fence:
        fences = context.fences()
    elif context.config.fences:
        fences = context.config.fences
    else:
        fences = context.fences()
    if not fences:
        raise UsageError("which country?", cure="geofence update --country CC")
    if (options.source or options.origins) and len(fences) > 1:
        raise UsageError(
            "--source and --from are about one fence", cure="add --country CC or --fence NAME"
        )
    return tuple(_redirected(context, _described(context, fence)) for fence in fences)


def _described(context: Context, fence: Fence) -> Fence:
    """Fill in a fence that is only stored: its countries and source, as last updated."""
    if any(fence.name == one.name for one in context.config.fences):
        return fence
    generation = context.store.active(fence.name).generation
    if generation is None:
        if fence.countries:
            return fence
        raise ConfigError(
            f"fence {fence.name} is not configured, and nothing sound is stored of it",
            cure="geofence update --country CC",
        )
    return dataclasses.replace(
        fence,
        countries=generation.countries,
        limits=context.config.limits,
        families=() if len(generation.lists) > 1 else tuple(generation.lists),
    )


def _redirected(context: Context, fence: Fence) -> Fence:
    options = context.options
    if options.source:
        origins = tuple(options.origins)
        fence = dataclasses.replace(fence, source=options.source, origins=origins)
    elif options.origins:
        fence = dataclasses.replace(fence, origins=tuple(options.origins))
    return fence
