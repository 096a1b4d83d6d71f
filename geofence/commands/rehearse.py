"""``geofence rehearse``: what ``enable`` would do, tried with real packets in private."""

from geofence import rulereport
from geofence.context import Context
from geofence.errors import KernelRefused, UsageError
from geofence.model import Address
from geofence.prefixes import host, parse_address
from geofence.switch import Request, rehearse


def run(context: Context) -> int:
    """Rehearse the fences; 71 if a verdict is not as it should be."""
    fences = context.some_fences()
    addresses = [_address(text) for text in context.options.addresses]
    found = rehearse(Request(fences=fences), context.firewall(), addresses)
    names = [fence.name for fence in fences]
    status = KernelRefused.status if found.wrong or found.failures else 0
    context.say(rulereport.rehearsal_text(" ".join(names), found))
    context.document(rulereport.rehearsal_document(names, found, status))
    return status


def _address(text: str) -> Address:
    try:
        return host(*parse_address(text))
    except ValueError as error:
        raise UsageError(f"--from-address: {error}") from error
