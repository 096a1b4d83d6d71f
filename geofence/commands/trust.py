"""``geofence trust``: let an address in by hand, for a time or for good; list who is."""

import dataclasses

from geofence import report, trustfiles
from geofence.context import Context
from geofence.errors import UsageError
from geofence.letin import Done, Door, in_kernel, let_in, take_back
from geofence.prefixes import format_prefix, parse_trusted
from geofence.trusted import Pass, Passes, left, pass_of, seconds_of

_SAID_IN_SECONDS = 120


def run(context: Context) -> int:
    """Let an address in, take that back, or list."""
    options = context.options
    door = _door(context)
    if options.address is None:
        return _list(context, door)
    if options.remove:
        return _take_back(context, door)
    return _let_in(context, door)


def _door(context: Context) -> Door:
    """Give the door; where the configuration is broken, what was stored of it stays trusted."""
    broken = context.without_broken_config()
    if not broken:
        return context.door()
    context.warn("trust", [f"{broken}; whom it trusted when it was last read stays trusted"])
    stored = trustfiles.remembered(context.state_dir)
    by_hand = {one.prefix for one in Passes(context.state_dir, context.disk).read(context.now())}
    known = tuple(
        (family, prefix)
        for family, prefixes in stored.items()
        for prefix, until in prefixes.items()
        if until is None and format_prefix(family, prefix) not in by_hand
    )
    return dataclasses.replace(context.door(), configured=lambda: known)


def _let_in(context: Context, door: Door) -> int:
    wanted = _pass(context)
    done = let_in(wanted, door)
    context.warn("trust", done.warnings)
    if done.configured:
        context.say([f"{wanted.prefix} passes for good: by the configuration"])
    else:
        context.say([f"{wanted.prefix} passes {_how_long(wanted, context)}"])
    context.document(_document(wanted.prefix, done, until=None if done.configured else wanted))
    return 0


def _take_back(context: Context, door: Door) -> int:
    if context.options.time is not None:
        raise UsageError("--for and --remove exclude each other")
    prefix = _pass(context).prefix
    done = take_back(prefix, door)
    context.warn("trust", done.warnings)
    context.say([f"{prefix}: {'the pass is' if done.changed else 'there was no pass to be'} taken"
                 " back"])  # fmt: skip
    context.document(_document(prefix, done, until=None))
    return 0


def _list(context: Context, door: Door) -> int:
    if context.options.time is not None or context.options.remove:
        raise UsageError("which address?", cure="geofence trust ADDRESS --for 2h")
    passes = Passes(context.state_dir, context.disk).read(context.now())
    configured = [format_prefix(*one) for one in door.configured()]
    kernel = in_kernel(door)
    rows: list[report.Document] = [
        {"prefix": prefix, "from": "configuration", "until": None, "seconds_left": None}
        for prefix in dict.fromkeys(configured)
    ]
    rows += [
        {
            "prefix": one.prefix,
            "from": "trust",
            "until": one.until.isoformat() if one.until else None,
            "seconds_left": left(one.until, context.now()) if one.until else None,
        }
        for one in passes
        if one.prefix not in configured
    ]
    for row in rows:
        row["in_kernel"] = None if kernel is None else row["prefix"] in kernel
    context.say(_row(row) for row in rows)
    if not rows:
        context.say(["nobody is trusted: geofence trust ADDRESS --for 2h"])
    context.document(report.document(0, trusted=rows))
    return 0


def _pass(context: Context) -> Pass:
    """Read what was typed. Raises UsageError that quotes it."""
    options = context.options
    try:
        parse_trusted(options.address)
        seconds = None if options.time is None else seconds_of(options.time)
        return pass_of(options.address, seconds, context.now())
    except ValueError as error:
        raise UsageError(
            str(error),
            still="nothing was changed",
            cure="an address that is to pass for longer: put it in `trusted` of the configuration"
            if "longer" in str(error)
            else "geofence trust 203.0.113.7 --for 2h",
        ) from error


def _document(prefix: str, done: Done, until: Pass | None) -> report.Document:
    return report.document(
        0,
        prefix=prefix,
        changed=done.changed,
        until=until.until.isoformat() if until and until.until else None,
        warnings=list(done.warnings),
    )


def _how_long(one: Pass, context: Context) -> str:
    if one.until is None:
        return "for good"
    return f"for {_span(left(one.until, context.now()))}, until {one.until:%Y-%m-%d %H:%M} UTC"


def _row(row: report.Document) -> str:
    seconds = row["seconds_left"]
    how = f"for {_span(seconds)} more" if seconds else "for good"
    why = ", by the configuration" if row["from"] == "configuration" else ""
    missing = "; the kernel does not hold it (geofence enable puts it there)"
    return f"{row['prefix']}  {how}{why}{'' if row['in_kernel'] is not False else missing}"


def _span(seconds: int) -> str:
    """Say a number of seconds by its two largest units, from two minutes on rounded up."""
    if seconds < _SAID_IN_SECONDS:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    said = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(said[:2])
