"""The command line: parse it, run the verb, and turn what went wrong into an exit status."""

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from geofence import __version__
from geofence.errors import GeofenceError, UsageError
from geofence.output import Output

_BUG = 70
_MOST_CONFIRM_SECONDS = 86_400
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_EPILOG = """\
exit status: 0 done or nothing to do, 1 the answer is "no", 2 usage, 65 list refused,
  69 source not to be had, 70 bug, 71 the kernel refused, 74 disk, 75 busy, 77 no permission,
  78 configuration, 130 interrupted
files: /etc/geofence/geofence.toml, /var/lib/geofence, /var/cache/geofence
"""


class Interrupted(Exception):  # noqa: N818, what happened, and not an error
    """Somebody pressed Ctrl-C, or sent SIGINT."""


class _Parser(argparse.ArgumentParser):
    """Raise what is wrong, so that ``--json`` can report it too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, cure=f"see: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run geofence with these arguments and give its exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    output = Output()
    as_json = "--json" in arguments
    try:
        status = _run(parser().parse_args(arguments), output)
    except GeofenceError as error:
        status = _failed(error, error.status, output, as_json=as_json)
    except KeyboardInterrupt:
        status = _failed(Interrupted("interrupted"), _INTERRUPTED, output, as_json=as_json)
    except Exception as error:  # noqa: BLE001, the one place where a bug becomes a status
        output.err(traceback.format_exc())
        status = _failed(error, _BUG, output, as_json=as_json)
    return output.status(status)


def parser() -> _Parser:
    """Build the whole command line."""
    common = _common(default=argparse.SUPPRESS)
    top = _Parser(
        prog="geofence",
        description="Keep this host open to the countries you serve, and closed to the rest.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_common(default=None)],
    )
    top.add_argument("--version", action="version", version=f"geofence {__version__}")
    top.set_defaults(verb="status", fence=None)
    verbs = top.add_subparsers(metavar="VERB", parser_class=_Parser)

    def verb(name: str, does: str, *, fence: bool = True) -> argparse.ArgumentParser:
        one = verbs.add_parser(
            name, help=does, description=f"{does[0].upper()}{does[1:]}.", parents=[common],
            allow_abbrev=False,
        )  # fmt: skip
        one.set_defaults(verb=name)
        if fence:
            one.add_argument("--fence", metavar="NAME", help="only this fence")
        return one

    verb("status", "tell what is enforced, since when and from where; also what no verb means")
    _update_arguments(verb("update", "fetch, judge and enforce a fresh list"))
    verb("restore", "enforce the active generation again, from disk, without the network")
    test = verb("test", "tell whether addresses would pass; exit 1 if one would not")
    test.add_argument("address", nargs="+", metavar="ADDRESS")
    difference = verb("diff", "tell what differs between two generations, largest first")
    difference.add_argument(
        "number", nargs="*", type=_number, metavar="N",
        help="the older and the newer one; default: the one before the active one, and the active",
    )  # fmt: skip
    verb("history", "list the stored generations; * marks the active one")
    back = verb("rollback", "enforce an older generation until the publisher serves another list")
    back.add_argument("number", nargs="?", type=_number, metavar="N", help="default: one back")
    _switch_arguments(verb("enable", "put the fence's chain into INPUT, if a rehearsal allows it"))
    verb("confirm", "keep the rules that enable --confirm would else take back", fence=False)
    rehearsal = verb("rehearse", "try what enable would do with real packets, and change nothing")
    rehearsal.add_argument(
        "--from-address", action="append", default=[], dest="addresses", metavar="A",
        help="an address that must get in, beside those that are here by SSH",
    )  # fmt: skip
    verb("disable", "take out exactly what enable put in")
    _switch_arguments(verb("repair", "put back what another tool took away of an enabled fence"))
    trust = verb("trust", "let an address in, for a time or for good; list who is", fence=False)
    trust.add_argument("address", nargs="?", metavar="ADDRESS", help="an address, or a prefix")
    trust.add_argument(
        "--for", dest="time", metavar="TIME", help="30m, 2h, 3d, 1w or seconds; default: for good"
    )
    trust.add_argument("--remove", action="store_true", help="take the pass of ADDRESS back")
    boot = verb("hook", "put sets and rules back at boot; for init scripts", fence=False)
    boot.add_argument("what", choices=["pre-start", "start", "stop", "status"])
    placing = verb("install", "put in place what brings the fences back at boot", fence=False)
    placing.add_argument(
        "kind", nargs="*", metavar="KIND",
        help="iptables-services, netfilter-persistent, sysv, ufw, ipset-service, unit;"
        " default: what this host has",
    )  # fmt: skip
    for one in (placing, verb("uninstall", "take away what install put in place", fence=False)):
        one.add_argument("--root", type=Path, metavar="DIR", help="of another host's files")
        one.add_argument("--dry-run", action="store_true", help="tell, and change nothing")
    doctor = verb("doctor", "tell what on this host defeats the fence, and the cure; exit 1 if any")
    doctor.add_argument("--root", type=Path, metavar="DIR", help="look for the host's files here")
    render = verb("render", "print what would be loaded")
    render.add_argument("what", choices=["ipset"])
    return top


def _common(default: object) -> _Parser:
    """Options that may stand before the verb and after it."""
    common = _Parser(add_help=False)
    common.add_argument(
        "--config", type=Path, default=default, metavar="FILE",
        help="configuration (default: /etc/geofence/geofence.toml if it exists)",
    )  # fmt: skip
    common.add_argument(
        "--state-dir", type=Path, default=default, metavar="DIR",
        help="generations and locks (default: /var/lib/geofence)",
    )  # fmt: skip
    common.add_argument(
        "--json", action="store_true", default=default, help="print one JSON document"
    )
    loudness = common.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="nothing on success"
    )
    loudness.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="every prefix that changes"
    )
    return common


def _update_arguments(update: argparse.ArgumentParser) -> None:
    update.add_argument(
        "--country", action="append", default=[], metavar="CC",
        help="ISO 3166-1 alpha-2; repeated: one fence of the union",
    )  # fmt: skip
    update.add_argument("--source", metavar="NAME", help="rir (default), ipv4bycc, plain, bundled")
    update.add_argument(
        "--from", action="append", default=[], dest="origins", metavar="FILE|URL",
        help="read the list from here, in the format of --source",
    )  # fmt: skip
    update.add_argument(
        "--family", action="append", default=[], dest="families", choices=["inet", "inet6"],
        help="update only this address family",
    )  # fmt: skip
    update.add_argument(
        "--dry-run", action="store_true", help="do all of it but touch neither host nor disk"
    )
    update.add_argument(
        "--accept-change", action="store_true",
        help="take a list that is refused for the size of its change",
    )  # fmt: skip


def _switch_arguments(switch: argparse.ArgumentParser) -> None:
    switch.add_argument(
        "--confirm", type=_seconds, metavar="SECONDS",
        help="bring the old rules back after so many seconds, unless: geofence confirm",
    )  # fmt: skip
    switch.add_argument(
        "--without-rehearsal", action="store_true",
        help="apply the rules although nothing has proved them",
    )  # fmt: skip


def _seconds(text: str) -> int:
    seconds = _number(text)
    if seconds > _MOST_CONFIRM_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is more than a day")
    return seconds


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _run(options: argparse.Namespace, output: Output) -> int:
    """Import the verb, and only what that needs, and run it."""
    from geofence.context import Context

    command = importlib.import_module(f"geofence.commands.{options.verb}")
    status: int = command.run(Context(options, output))
    return status


def _failed(error: Exception, status: int, output: Output, *, as_json: bool) -> int:
    output.err(f"geofence: {error}\n")
    if as_json:
        document = {
            "schema": 1,
            "ok": False,
            "exit": status,
            "error": {"kind": type(error).__name__, "message": str(error)},
        }
        output.out(json.dumps(document, indent=2) + "\n")
    return status
