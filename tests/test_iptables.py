"""Which iptables is spoken to, that looking makes nothing, and what its refusals become."""

import re
import time
from pathlib import Path

import pytest

from geofence import programs as found
from geofence import rules
from geofence.errors import GeofenceError, KernelRefused
from geofence.kernel import iptables
from geofence.kernel.iptables import Iptables, Variant
from geofence.kernel.namespace import privately
from geofence.model import Family, Fence
from tests import lab, rulesets

RULE = "*filter\n-A INPUT -i eth9 -j DROP\nCOMMIT\n"
NAT = "*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
NAMES = {
    Family.INET: ("iptables", "ip_tables_names"),
    Family.INET6: ("ip6tables", "ip6_tables_names"),
}


@pytest.fixture(autouse=True)
def _ask_anew():
    """Forget which variant the program called iptables was."""
    iptables._default.cache_clear()
    yield
    iptables._default.cache_clear()


@pytest.fixture
def programs(tmp_path):
    """Let there be no programs but those a test makes, in a directory that is given."""
    directory = tmp_path / "bin"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(directory))
        patch.setattr(found, "_DIRECTORIES", ())
        yield directory


def make(directory, name, script):
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    ("there", "used", "chosen"),
    [
        pytest.param({}, [], "nft", id="none"),
        pytest.param({"nft": RULE}, ["nft"], "nft", id="nft"),
        pytest.param({"legacy": RULE}, ["legacy"], "legacy", id="legacy"),
        pytest.param({"legacy": RULE, "nft": RULE}, ["nft", "legacy"], "nft", id="both"),
        pytest.param({"legacy": NAT}, ["legacy"], "legacy", id="legacy-nat-alone"),
        pytest.param(
            {"legacy": "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"}, ["legacy"], "legacy", id="policy"
        ),
        pytest.param({"legacy": "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"}, [], "nft", id="empty"),
    ],
)
def test_the_variant_that_holds_rules_is_chosen_else_the_one_called_iptables(
    kernel, family, there, used, chosen
):
    def look():
        for variant, text in there.items():
            rulesets.load(family, variant, text)
        return [one.variant for one in iptables.in_use(family)], iptables.chosen(family).variant

    assert privately(look) == (used, chosen)


def test_looking_makes_no_table_of_either_variant(kernel):
    def look():
        for family in iptables.families():
            iptables.chosen(family)
            for one in iptables.present(family):
                for table in iptables.TABLES:
                    one.save_table(table, counters=True)
        iptables.native_tables()
        names = [Path("/proc/net", name).read_text() for _, name in NAMES.values()]
        return [*names, lab.run("nft", "list", "tables")]

    assert privately(look) == ["", "", ""]


def test_a_fence_that_goes_to_nft_makes_no_legacy_table(kernel):
    def enable():
        lab.run("ipset", "create", "geofence-JP-inet", "hash:net")
        lab.run("ipset", "create", "geofence-trusted-inet", "hash:net", "timeout", "0")
        held = (iptables.chosen(Family.INET),)
        rules.reach(rules.wanted(Fence(name="JP", countries=("JP",)), held, trusting=True))
        rules.reach(rules.nothing_of("JP", iptables.present(Family.INET)))
        return Path("/proc/net/ip_tables_names").read_text()

    assert privately(enable) == ""


def test_one_table_is_printed_with_counters_when_they_are_asked_for(kernel):
    for variant in lab.VARIANTS:
        rulesets.load(Family.INET, variant, RULE)
        one = rulesets.real(Family.INET, variant)
        assert "\n-A INPUT -i eth9 -j DROP\n" in one.save()
        counted = one.save_table("filter", counters=True)
        assert "\n[0:0] -A INPUT -i eth9 -j DROP\n" in counted
        assert "*nat" not in one.save()


NATIVE = """\
table inet mine {
	chain in {
		type filter hook input priority 5; policy accept;
		tcp dport 9999 drop
	}
}
"""
NATIVE_FILTER = """\
table ip filter {
	set s {
		type ipv4_addr
		flags interval
	}
	chain in {
		type filter hook input priority 10; policy accept;
		ip saddr @s drop
	}
}
"""


def native(*commands):
    """Run commands in a namespace that is as the kernel made it, and name the native tables."""

    def look():
        for program, text in commands:
            lab.run(*program.split(), stdin=text)
        return iptables.native_tables()

    return privately(look)


def test_what_iptables_made_is_no_native_table(kernel):
    made = [
        (f"{name}-nft-restore --noflush", text)
        for name, _ in NAMES.values()
        for text in (RULE, NAT)
    ]
    assert native(*made) == ()
    assert native(*made, ("nft -f -", NATIVE)) == (("inet", "mine"),)


def test_a_table_of_iptables_name_that_nft_made_is_native(kernel):
    assert native(("nft -f -", NATIVE_FILTER)) == (("ip", "filter"),)
    other = NATIVE_FILTER.replace("table ip ", "table ip6 ").replace("ipv4", "ipv6")
    other = other.replace("ip saddr", "ip6 saddr")
    assert native(("nft -f -", other)) == (("ip6", "filter"),)
    assert native(("nft -f -", NATIVE_FILTER.replace("filter {", "mine {"))) == (("ip", "mine"),)


def test_tables_that_arptables_and_ebtables_make_are_none_of_nfts_own(kernel):
    assert native(("arptables-nft -A INPUT -j DROP", "")) == ()
    assert native(("ebtables-nft -A INPUT -j DROP", "")) == ()
    assert native(("nft add table bridge mine", "")) == (("bridge", "mine"),)
    assert native(("nft add table arp mine", "")) == (("arp", "mine"),)
    assert native(("nft add table inet filter", "")) == (("inet", "filter"),)


def test_a_native_table_can_be_copied(kernel):
    def there():
        lab.run("nft", "-f", "-", stdin=NATIVE)
        return iptables.native_text("inet", "mine")

    def copied():
        iptables.load_native(text)
        return iptables.native_text("inet", "mine")

    text = privately(there)
    assert "tcp dport 9999 drop" in text
    assert privately(copied) == text


def test_what_nft_refuses_is_told_in_its_own_words(kernel):
    with pytest.raises(KernelRefused, match=r"cannot load an nft table: .*syntax error"):
        iptables.load_native("table inet {")
    with pytest.raises(KernelRefused, match=r"cannot read the nft table inet nowhere: .*No such"):
        iptables.native_text("inet", "nowhere")


@pytest.mark.parametrize(("family", "variant"), rulesets.BOTH)
def test_a_refusal_quotes_the_line_that_iptables_names(kernel, family, variant):
    rule = "-A two -m set --match-set nowhere src -j DROP"
    with pytest.raises(KernelRefused) as caught:
        rulesets.real(family, variant).restore(f"*filter\n:two - [0:0]\n{rule}\nCOMMIT\n")
    assert f"{rulesets.program(family, '')} ({variant}): " in caught.value.what
    assert "Set nowhere doesn't exist" in caught.value.what
    assert f"({rule})" in caught.value.what
    assert "Try `" not in caught.value.what


def test_where_nothing_is_installed_it_is_said_what_to_install(programs):
    assert iptables.present(Family.INET) == ()
    assert iptables.in_use(Family.INET) == ()
    assert iptables.native_tables() == ()
    with pytest.raises(KernelRefused, match="ip6tables-restore is not installed") as caught:
        iptables.chosen(Family.INET6)
    assert caught.value.cure == "install the package iptables"
    with pytest.raises(KernelRefused, match="iptables-nft-restore is not installed"):
        Iptables(Family.INET, Variant.NFT).restore(RULE)


def test_programs_are_found_where_the_path_of_cron_has_no_sbin(kernel):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        assert [one.variant for one in iptables.present(Family.INET)] == ["nft", "legacy"]
        with pytest.raises(KernelRefused, match="No such file or directory"):
            iptables.native_text("inet", "nowhere")


OLD_RESTORE = """\
for word; do
    case $word in
        --noflush) ;;
        --wait*) echo "iptables-restore: unrecognized option '$word'" >&2 ;;
        -w) echo "iptables-restore: invalid option -- 'w'" >&2 ;;
        *) echo "Can't open $word: No such file or directory" >&2; exit 1 ;;
    esac
done
"""


@pytest.fixture
def old(programs):
    """Let iptables be 1.4.21: one variant, no names for it, and a restore that cannot wait."""
    for name, _ in NAMES.values():
        make(programs, name, f"echo '{name} v1.4.21'")
        make(programs, f"{name}-save", f'exec /usr/sbin/{name}-legacy-save "$@"')
        restore = f"exec /usr/sbin/{name}-legacy-restore --noflush"
        make(programs, f"{name}-restore", f"{OLD_RESTORE}{restore}")
    return programs


@pytest.mark.parametrize("family", Family)
def test_an_old_iptables_is_one_variant_and_is_spoken_to_as_it_wants(kernel, old, family):
    def enable():
        family_sets()
        held = iptables.present(family)
        goals = rules.wanted(Fence(name="JP", countries=("JP",)), held, trusting=True)
        changed = rules.reach(goals)
        return [str(one) for one in held], len(changed), rules.present(goals)

    def family_sets():
        for name, timeout in (("JP", ()), ("trusted", ("timeout", "0"))):
            one = f"geofence-{name}-{family}"
            lab.run("/usr/sbin/ipset", "create", one, "hash:net", "family", family, *timeout)

    assert privately(enable) == ([f"{NAMES[family][0]} (legacy)"], 1, True)


def test_the_variant_that_a_program_says_it_is_counts(programs):
    for said, variant in (("v1.8.9 (nf_tables)", "nft"), ("v1.8.9 (legacy)", "legacy")):
        make(programs, "iptables", f"echo 'iptables {said}'")
        make(programs, "iptables-restore", "exit 0")
        make(programs, "iptables-save", "exit 0")
        iptables._default.cache_clear()
        assert [one.variant for one in iptables.present(Family.INET)] == [variant]
        assert iptables.chosen(Family.INET).variant == variant


def test_a_program_that_cannot_be_run_is_said(programs):
    path = programs / "iptables"
    path.write_text("#!/nowhere/sh\n")
    path.chmod(0o755)
    assert iptables.present(Family.INET) == ()
    path.rename(programs / "iptables-nft-save")
    with pytest.raises(KernelRefused, match=r"cannot run .*iptables-nft-save: No such file"):
        Iptables(Family.INET, Variant.NFT).save()


def test_a_program_that_does_not_end_is_not_waited_for_forever(programs, monkeypatch):
    monkeypatch.setattr(found, "_TIMEOUT_SECONDS", 0.2)
    make(programs, "iptables-nft-save", "exec /bin/sleep 30")
    begun = time.monotonic()
    with pytest.raises(KernelRefused, match="did not end within"):
        Iptables(Family.INET, Variant.NFT).save()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("says", "status", "error"),
    [
        ("Another app is currently holding the xtables lock.", 4, "Busy"),
        (
            "Fatal: can't open lock file /run/xtables.lock: Read-only file system",
            4,
            "KernelRefused",
        ),
        ("Fatal: can't open lock file /run/xtables.lock: Permission denied", 4, "NoPermission"),
        ("iptables v1.8.9: Permission denied (you must be root)", 1, "NoPermission"),
        ("getsockopt failed strangely: Memory allocation problem", 4, "KernelRefused"),
        ("", 3, "KernelRefused"),
    ],
)
def test_what_a_program_says_decides_whose_turn_it_is(programs, says, status, error):
    make(programs, "iptables-nft-restore", f'echo "{says}" >&2; exit {status}')
    with pytest.raises(GeofenceError) as caught:
        Iptables(Family.INET, Variant.NFT).restore(RULE)
    assert caught.value.kind == error
    if not says:
        assert re.search("exit status 3$", caught.value.what)


def test_a_host_that_uses_no_ipv6_still_speaks_it_and_can_be_fenced(kernel):
    def look():
        for one in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{one}/disable_ipv6").write_text("1")
        rulesets.load(Family.INET6, "nft", RULE)
        return iptables.families(), iptables.chosen(Family.INET6).save().count("-A INPUT")

    assert privately(look) == ((Family.INET, Family.INET6), 1)


def test_a_kernel_without_ipv6_has_one_family(monkeypatch, tmp_path):
    assert iptables.families() == (Family.INET, Family.INET6)
    monkeypatch.setattr(iptables, "_IPV6", tmp_path / "if_inet6")
    assert iptables.families() == (Family.INET,)
