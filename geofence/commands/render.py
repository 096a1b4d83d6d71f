"""``geofence render``: the very text that would be loaded."""

from geofence import ipsetfile, report
from geofence.context import Context
from geofence.errors import ListRefused
from geofence.model import Fence, Lists


def run(context: Context) -> int:
    """Print every fence's sets as ``ipset restore`` reads them."""
    texts = {
        fence.name: "".join(
            ipsetfile.write(fence.name, prefixes) for prefixes in _lists(context, fence).values()
        )
        for fence in context.some_fences()
    }
    if context.options.json:
        context.document(report.document(0, ipset=texts))
    else:
        context.output.out("".join(texts.values()))
    return 0


def _lists(context: Context, fence: Fence) -> Lists:
    """Give what ``restore`` would enforce."""
    found = context.store.active(fence.name)
    context.warn(fence.name, [f"not used: {damage}" for damage in found.damaged])
    if found.generation:
        return found.generation.lists
    if not fence.countries:
        raise ListRefused(f"{fence.name}: nothing sound is stored, and its countries are unknown")
    from geofence.candidate import snapshot_lists

    context.warn(fence.name, ["nothing is stored: this is the bundled snapshot"])
    return snapshot_lists(fence)
