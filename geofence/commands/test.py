"""``geofence test``: would an address pass, and by which prefix of which generation?"""

import contextlib

from geofence import enabled, report
from geofence.context import Context, open_sets
from geofence.enforce import live
from geofence.errors import GeofenceError, KernelRefused, NoPermission, UsageError
from geofence.model import Address, Family, Fence, Generation, Lists, Prefix
from geofence.prefixes import find, format_address, format_prefix, host, parse_address
from geofence.trusted import held, within


def run(context: Context) -> int:
    """Look the addresses up in the kernel's sets, else in the active generation's."""
    addresses = [_address(text) for text in context.options.address]
    fences = [_lists(context, fence) for fence in _asked(context)]
    trusted = _trusted()
    results = [_by_trust(one, trusted) or _result(one, fences) for one in addresses]
    context.say(_text(result) for result in results)
    status = 0 if all(result["pass"] for result in results) else 1
    context.document(report.document(status, results=results))
    return status


def _address(text: str) -> Address:
    try:
        return host(*parse_address(text))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _asked(context: Context) -> tuple[Fence, ...]:
    """Give the fences that packets meet, if any is enabled; else all that a verb is about."""
    fences = context.some_fences()
    there = enabled.all_of(context.state_dir)
    if context.options.fence:
        return fences
    return tuple(fence for fence in fences if fence.name in there) or fences


def _trusted() -> dict[Family, tuple[Prefix, ...]]:
    """Give what the kernel trusts, as far as we may look."""
    with contextlib.suppress(GeofenceError), open_sets() as sets:
        return {family: held(sets, family) for family in Family}
    return {}


def _by_trust(
    address: Address, trusted: dict[Family, tuple[Prefix, ...]]
) -> report.Document | None:
    family, number = address
    for prefix in trusted.get(family, ()):
        if within((family, prefix), address):
            return {
                "address": format_address(family, number),
                "pass": True,
                "fence": None,
                "prefix": format_prefix(family, prefix),
                "generation": None,
                "from": "trusted",
            }
    return None


def _lists(context: Context, fence: Fence) -> tuple[str, Lists, Generation | None, str]:
    """Give a fence's lists, the generation they are of, and where they were read."""
    generation = context.store.active(fence.name).generation
    try:
        with open_sets() as sets:
            found = {family: live(fence.name, family, sets) for family in Family}
    except NoPermission:
        found = {}
    unreadable = [one.drift for one in found.values() if one.header and one.prefixes is None]
    if unreadable:
        raise KernelRefused("; ".join(unreadable), cure="geofence status tells more")
    lists = {family: one.prefixes for family, one in found.items() if one.prefixes is not None}
    if lists:
        return fence.name, lists, generation if _same(lists, generation) else None, "kernel"
    return fence.name, generation.lists if generation else {}, generation, "disk"


def _same(lists: Lists, generation: Generation | None) -> bool:
    return generation is not None and lists == generation.lists


def _result(
    address: Address, fences: list[tuple[str, Lists, Generation | None, str]]
) -> report.Document:
    family, number = address
    text = format_address(family, number)
    for fence, lists, generation, where in fences:
        prefix = find(lists[family], number) if family in lists else None
        if prefix:
            return {
                "address": text,
                "pass": True,
                "fence": fence,
                "prefix": format_prefix(family, prefix),
                "generation": generation.number if generation else None,
                "from": where,
            }
    return {
        "address": text,
        "pass": False,
        "fence": None,
        "prefix": None,
        "generation": None,
        "from": ", ".join(sorted({where for *_, where in fences})),
    }


def _text(result: report.Document) -> str:
    if not result["pass"]:
        return f"{result['address']}: would not pass: in no fence's set ({result['from']})"
    if result["from"] == "trusted":
        return f"{result['address']}: would pass: {result['prefix']} is trusted"
    generation = result["generation"]
    of = f"generation {generation}" if generation else "a set that is no stored generation's"
    return (
        f"{result['address']}: would pass: {result['prefix']} of {result['fence']}, {of}"
        f" ({result['from']})"
    )
