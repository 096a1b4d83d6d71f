"""Findings about the next boot: what will not be there, and what will be in the way."""

from collections.abc import Iterator

from geofence import owners as owning
from geofence.doctor.facts import Facts
from geofence.doctor.finding import Finding, When
from geofence.kernel.iptables import Variant
from geofence.model import OnMissing, chain_name, set_name, trusted_name
from geofence.ruletext import fences, sets_named

_INSTALL = "geofence install"
_SAVE = "save the rules again: netfilter-persistent save, or service iptables save"


def comes_back(facts: Facts) -> Iterator[Finding]:
    """Nothing that puts the fence back."""
    found = facts.startup.persistence
    if found and not found.back:
        yield _at_boot(
            "not-back",
            "a reboot does not bring the fence back, and everybody gets in",
            found.cure or _INSTALL,
        )


def records(facts: Facts) -> Iterator[Finding]:
    """What is stored of enabled fences, and cannot be used."""
    found = facts.boot_state
    for name in found.damaged_records if found else ():
        yield _at_boot(
            "record-damaged",
            "the record of its being enabled is damaged: the boot script does not put its rules"
            " back",
            f"geofence enable --fence {name}",
            name,
        )
    if found and found.unrecorded:
        yield _at_boot(
            "unrecorded",
            "a change was confirmed, and could not be recorded: the next boot knows nothing of it",
            "make room on the file system of the state; then: geofence confirm",
            " ".join(found.unrecorded),
        )


def trusted(facts: Facts) -> Iterator[Finding]:
    """An owner whom the next boot would shut out."""
    found = facts.boot_state
    if found and found.trusted:
        yield _at_boot(
            "trusted-not-stored",
            f"the trusted addresses stored for the next boot do not serve: {found.trusted}",
            "geofence restore",
        )
    for name in facts.records if found and not facts.trusting else ():
        if _on_missing(facts, name) is OnMissing.TRUSTED_ONLY:
            yield _at_boot(
                "nobody-trusted",
                'on_missing = "trusted-only", and nobody is trusted: where its list is lost,'
                " nobody gets in",
                'geofence trust ADDRESS; or on_missing = "bundled"',
                name,
            )


def installed(facts: Facts) -> Iterator[Finding]:
    """What ``geofence install`` stored for the boot script, and is not there any more."""
    found = facts.boot_state
    if not (found and found.installed):
        return
    if found.installed_damaged:
        yield _at_boot(
            "installed-damaged",
            "what is stored of geofence install is damaged: geofence uninstall would not know what"
            " to take away",
            _INSTALL,
        )
    for name, stored in facts.stored.items():
        if name not in facts.records and stored.generation is None:
            continue
        countries = facts.fences[name].countries or (
            stored.generation.countries if stored.generation else ()
        )
        if name not in found.snapshots:
            yield _at_boot(
                "snapshot",
                "the snapshot that serves where its list is lost is missing or damaged",
                _INSTALL
                if countries
                else f"tell its countries in the configuration; then: {_INSTALL}",
                name,
            )
        if found.on_missing[name] is not _on_missing(facts, name):
            yield _at_boot(
                "on-missing",
                f"its on_missing is not stored as it is configured: {_on_missing(facts, name)}",
                _INSTALL,
                name,
            )


def _on_missing(facts: Facts, name: str) -> OnMissing:
    """Tell what is to serve where a fence's list is lost."""
    stored = facts.boot_state.on_missing[name] if facts.boot_state else None
    if name in facts.configured or stored is None:
        return facts.fences[name].on_missing
    return stored


def owners(facts: Facts) -> Iterator[Finding]:
    """Programs that write all rules anew when they start."""
    for owner in owning.OWNERS:
        if facts.startup.starts & set(owner.units):
            yield _at_boot(
                "owner-starts",
                f"{owner.name} starts at boot, and will undo what geofence writes",
                owner.cure,
            )


def ufw(facts: Facts) -> Iterator[Finding]:
    """A ufw that does not call geofence."""
    if facts.records and "ufw" in facts.startup.starts and not facts.startup.ufw_calls_us:
        yield _at_boot(
            "ufw-starts", "ufw starts at boot, and does not call geofence", "geofence install"
        )


def flushes(facts: Facts) -> Iterator[Finding]:
    """An nftables.service that empties iptables-nft too."""
    uses_nft = any(
        variant is Variant.NFT
        for record in facts.records.values()
        for variant in record.variants.values()
    )
    if uses_nft and "nftables" in facts.startup.starts:
        for path in facts.startup.flushing:
            yield _at_boot(
                "nftables-flushes",
                f"nftables.service starts at boot, and `flush ruleset` in {path} takes out the"
                " rules of iptables-nft too, now also at each of its restarts",
                "let that file flush its own tables alone: `table inet filter` and `flush table"
                " inet filter` in its place; or: systemctl disable --now nftables",
            )


def saved_rules(facts: Facts) -> Iterator[Finding]:
    """Files of rules that cannot be loaded at boot, or hold what was there once."""
    back = facts.startup.persistence
    returns = back is not None and back.back
    for path, (family, table) in facts.startup.saved_rules.items():
        named = sets_named(table)
        for name in sorted({*facts.fences, *fences(table)}):
            kept = chain_name(name) in table.rules
            ours = {set_name(name, family), trusted_name(family)} & named
            if ours and path in facts.startup.before_sets:
                yield _at_boot(
                    "saved-names-set",
                    f"{path} names the set {min(ours)}, which nothing makes before it is loaded:"
                    " the whole file is refused, and no rule of the host is there",
                    "geofence install",
                    name,
                )
            if kept and name not in facts.records:
                yield _at_boot(
                    "saved-has-chain",
                    f"{path} brings its chain back, although the fence is not enabled",
                    _SAVE,
                    name,
                )
            if name in facts.records and not kept and not returns:
                yield _at_boot(
                    "saved-lacks-chain", f"{path} does not have its chain", "geofence install", name
                )


def saved_sets(facts: Facts) -> Iterator[Finding]:
    """Staging sets that come back at every boot."""
    for path, name in facts.startup.saved_staging:
        yield _at_boot(
            "saved-staging",
            f"{path} brings the set {name} back, which a killed run left",
            f"ipset destroy {name}; and save the sets again: netfilter-persistent save, or"
            " service ipset save",
        )


def _at_boot(identity: str, what: str, cure: str, fence: str = "") -> Finding:
    return Finding(id=identity, fence=fence, what=what, cure=cure, when=When.REBOOT)
