"""Say what should become of packets, and what the verdicts show together. Pure."""

from collections.abc import Mapping, Sequence

from geofence import ruletext
from geofence.model import Style
from geofence.prefixes import format_address
from geofence.rehearsal import corpus
from geofence.rehearsal.corpus import Model, Probe
from geofence.rehearsal.packets import Kind
from geofence.rehearsal.talks import SESSION

Verdict = tuple[Probe, bool, bool, bool]
"""A probe, and whether it got in: without the fence, with ``cut`` (see ``due``), with the fence."""


def due(model: Model, probe: Probe, old: bool, *, cut: bool) -> bool:  # noqa: FBT001
    """Say what should become of a packet, by what became of it without the fence.

    ``cut`` is what becomes of it where the whole chain is one DROP (gate), so that only what
    stands before the jump counts, or one jump to the target (allow).
    """
    if probe.owner:
        return True
    admits = model.admits(probe)
    if model.fence.style is Style.ALLOW:
        return cut if admits else old
    return old if admits else cut


def talk_due(name: str, before: bool | None) -> bool | None:  # noqa: FBT001
    """Say what should become of a conversation; an owner's data must get in."""
    return True if name.startswith(SESSION) else before


def overall(
    model: Model, kinds: Sequence[Kind], unnamed: Sequence[Kind], verdicts: Sequence[Verdict]
) -> list[str]:
    """Say what no single packet shows: a fence that decides nothing, an owner nobody lets in."""
    gate = model.fence.style is Style.GATE
    foreign = [one for one in verdicts if one[0].why == "foreign" and one[0].kind in kinds]
    said = []
    open_kinds = {str(probe.kind) for probe, _, cut, _ in foreign if cut and probe.kind in unnamed}
    if gate and open_kinds:
        said.append(
            f"{model.family.label}: the jump stands behind a rule that lets everybody in:"
            f" {' and '.join(sorted(open_kinds))} from anywhere would not meet the fence"
        )
    members = [one for one in verdicts if one[0].why.startswith("member")]
    if not gate and members and not any(new for *_, new in members):
        said.append(
            f"{model.family.label}: {model.fence.target} lets no member in, whatever was tried"
        )
    if not gate and foreign and all(new for *_, new in foreign):
        said.append(
            f"{model.family.label}: nothing drops who is no member: style allow needs a rule or a"
            " policy of yours that does"
        )
    return said


def unheard(model: Model, verdicts: Sequence[Verdict]) -> tuple[list[Probe], list[str]]:
    """Give a probe of each trusted address that nothing let in, by what lets members in.

    Where nothing that was tried lets members in either, that is all there is to say of it.
    """
    heard = {probe.source for probe, *_, new in verdicts if new}
    found = [one for one in corpus.some_trusted(model) if one not in heard]
    kinds = [probe.kind for probe, old, _, _ in verdicts if old and probe.why.startswith("member")]
    if kinds:
        return [Probe(one, kinds[0], "trusted", owner=True) for one in found], []
    return [], [
        f"nothing that was tried lets the trusted {format_address(*one)} in, nor a member"
        for one in found
    ]


def decider(before: Mapping[str, int], after: Mapping[str, int], *, passed: bool) -> str:
    """Name the rule or the policy that decided about the one packet between two readings."""
    ends = ("ACCEPT",) if passed else ("DROP", "REJECT")
    moved = {
        key: key.partition(": ")[2]
        for key, count in after.items()
        if count > before.get(key, 0) and (not passed or ", table filter: " in key)
    }
    for key, rule in moved.items():
        if rule.startswith("-A ") and ruletext.target_of(rule) in ends:
            return key
    hooks = ("INPUT", "FORWARD") if passed else ("",)
    policies = tuple(f"the policy {end} of {hook}" for end in ends for hook in hooks)
    for key, rule in moved.items():
        if rule.startswith(policies):
            return key
    return (
        "no rule of iptables" if passed else "no rule of iptables: a native nft table, or routing"
    )
