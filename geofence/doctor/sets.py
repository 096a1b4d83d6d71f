"""Findings about the kernel's sets."""

from collections.abc import Iterator

from geofence.doctor.facts import Facts
from geofence.doctor.finding import Finding
from geofence.model import Family, Generation, chain_name, set_name, trusted_name
from geofence.ruletext import sets_named

_RESTORE = "geofence restore"
_SHOWN = 3


def there(facts: Facts) -> Iterator[Finding]:
    """Sets that are absent, empty, not as they are stored, or asked by no rule."""
    for name, found in facts.stored.items():
        if found.generation is None and name not in facts.records:
            if found.damaged:
                yield _damaged(name, found.damaged)
            continue
        if found.damaged or found.generation is None:
            yield _damaged(name, found.damaged)
        families = facts.fences[name].families or tuple(
            found.generation.lists if found.generation else Family
        )
        for family in families:
            yield from _set(facts, name, family, found.generation)


def trusted(facts: Facts) -> Iterator[Finding]:
    """Trusted addresses that do not count."""
    if not facts.records:
        return
    if facts.distrusted:
        shown = " ".join(facts.distrusted[:_SHOWN])
        more = len(facts.distrusted) - _SHOWN
        yield Finding(
            id="trusted-missing",
            what=f"the kernel does not trust {shown}{f' and {more} more' if more > 0 else ''}",
            cure="geofence repair",
        )
    for name in facts.records if facts.trusting else ():
        for held in facts.rules:
            rules = held.filter.rules.get(chain_name(name), ())
            if rules and not any(trusted_name(held.family) in rule for rule in rules):
                yield Finding(
                    id="trusted-unheeded",
                    fence=name,
                    what=f"its chain in {held.name} has no rule for trusted addresses",
                    cure="geofence repair",
                )


def staging(facts: Facts) -> Iterator[Finding]:
    """Sets that a killed run left, and that a save would bring back at every boot."""
    for name in facts.staging:
        asked = [held.name for held in facts.rules if name in sets_named(held.filter)]
        rules = f"take the rule that names it out of {asked[0]}, then: " if asked else ""
        yield Finding(
            id="staging",
            what=f"the set {name} was left behind by a run that was killed",
            cure=f"{rules}ipset destroy {name}",
        )


def _set(facts: Facts, name: str, family: Family, stored: Generation | None) -> Iterator[Finding]:
    live = facts.live[name][family]
    of = set_name(name, family)
    wanted = stored.lists.get(family) if stored else None
    if live.header is None:
        yield Finding(
            id="set-missing", fence=name, what=f"the set {of} does not exist", cure=_RESTORE
        )
    elif live.prefixes is None:
        yield Finding(
            id="set-foreign",
            fence=name,
            what=live.drift,
            cure=f"take out the rules that name it: ipset destroy {of}; {_RESTORE};"
            " geofence repair",
        )
    else:
        if live.header.entries == 0 and not (wanted and not wanted.prefixes):
            cure = _RESTORE if wanted else "geofence update"  # on_missing may have emptied it
            yield Finding(id="set-empty", fence=name, what=f"the set {of} is empty", cure=cure)
        if not live.header.references:
            yield _unreferenced(name, of)
        if wanted and wanted != live.prefixes and live.prefixes.prefixes:
            yield Finding(
                id="set-drift",
                fence=name,
                what=f"the set {of} does not hold what is stored",
                cure=_RESTORE,
            )


def _unreferenced(name: str, of: str) -> Finding:
    return Finding(
        id="set-unreferenced",
        fence=name,
        what=f"no rule asks the set {of}: it keeps nobody out",
        cure="geofence enable",
    )


def _damaged(name: str, damaged: tuple[str, ...]) -> Finding:
    return Finding(
        id="stored-damaged",
        fence=name,
        what="what is stored of it is not sound: " + ("; ".join(damaged) or "there is nothing"),
        cure="geofence update",
    )
