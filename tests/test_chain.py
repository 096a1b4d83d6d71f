"""The chain's text: golden files, and the kernel's own word that it reads back as it was written.

A golden file is what a boot loads; to change one on purpose, write ``ruletext.loading`` anew.
"""

from pathlib import Path

import pytest

from geofence import chain, ruletext
from geofence.chain import Jump, jumps
from geofence.model import Family, Fence, Forward, Private, Style, chain_name
from geofence.ruletext import Own
from tests import lab, rulesets

GOLDEN = Path(__file__).parent / "golden"
GATE = Fence(name="JP", countries=("JP",))
ALLOW = Fence(name="JP", countries=("JP",), style=Style.ALLOW, target="RH-Firewall-1-INPUT")
DOCKER = Fence(
    name="ASIA",
    countries=("JP", "KR"),
    position=2,
    forward=Forward.DOCKER_USER,
    outside=("eth0", "wg+"),
)
TEXTS = {
    "gate": (GATE, True),
    "gate-judge": (Fence(name="JP", countries=("JP",), private=Private.JUDGE), True),
    "gate-docker": (DOCKER, True),
    "allow": (ALLOW, False),
    "allow-trusting": (ALLOW, True),
}


def own_of(name, family):
    fence, trusting = TEXTS[name]
    body = chain.body(fence, family, trusting=trusting)
    return Own(chain=chain_name(fence.name), body=body, jumps=jumps(fence))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_that_of_the_golden_file(name, family):
    golden = (GOLDEN / f"{name}.{family}.rules").read_text()
    assert ruletext.loading(own_of(name, family)) == golden


def test_every_golden_file_is_compared():
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{name}.{family}.rules" for name in TEXTS for family in Family
    }


@pytest.fixture
def loaded(kernel):
    """Let the kernel have what the golden texts lead to."""
    rulesets.make_trusted()
    rulesets.make_sets("JP")
    rulesets.make_sets("ASIA")
    for family, variant in rulesets.BOTH:
        text = "*filter\n:RH-Firewall-1-INPUT - [0:0]\n:DOCKER-USER - [0:0]\n"
        rulesets.load(family, variant, f"{text}-A INPUT -j RH-Firewall-1-INPUT\nCOMMIT\n")
    yield
    rulesets.empty()


@pytest.mark.parametrize(("family", "variant"), rulesets.BOTH)
def test_iptables_prints_every_text_back_as_it_was_written(loaded, family, variant):
    for name in TEXTS:
        own = own_of(name, family)
        rulesets.load(family, variant, ruletext.loading(own))
        table = rulesets.filter_table(family, variant)
        assert ruletext.own(table, own.chain) == own, name
        assert ruletext.holds(table, own), name
        gone = Own(chain=own.chain, body=None, jumps=())
        rulesets.load(family, variant, ruletext.transaction(gone, table))


@pytest.mark.parametrize(("family", "variant"), rulesets.BOTH)
def test_a_host_without_names_for_protocols_takes_the_text_and_gives_it_back(
    loaded, family, variant
):
    own = own_of("gate", family)
    restore, save = (rulesets.program(family, variant, act) for act in ("restore", "save"))
    script = f"mount --bind /dev/null /etc/protocols && {restore} --noflush -w && {save}"
    printed = lab.run("unshare", "-m", "sh", "-c", script, stdin=ruletext.loading(own))
    assert ruletext.holds(ruletext.read(printed), own)


def test_one_rule_of_a_gate_and_of_an_allow_chain_names_the_set():
    for name, (fence, _) in TEXTS.items():
        for family in Family:
            own = own_of(name, family)
            naming = [rule for rule in own.body if f" geofence-{fence.name}-{family} " in rule]
            assert len(naming) == 1, (name, family)


def test_an_allow_chain_that_trusts_nobody_holds_the_single_rule_alone():
    (rule,) = chain.body(ALLOW, Family.INET, trusting=False)
    assert rule == "-m set --match-set geofence-JP-inet src -j RH-Firewall-1-INPUT"


def test_a_gate_ends_by_dropping_whatever_no_rule_let_return():
    for family in Family:
        *rest, log, last = chain.body(GATE, family)
        assert last == "-j DROP"
        assert "-j LOG" in log
        assert "--limit " in log
        assert all(rule.endswith("-j RETURN") for rule in rest)


def test_jumps_from_several_interfaces_are_a_rule_each_in_their_order():
    match = "-m conntrack --ctstate NEW -j ALLOW-ASIA-INPUT"
    assert jumps(DOCKER) == (
        Jump("INPUT", "-j ALLOW-ASIA-INPUT", 2),
        Jump("DOCKER-USER", f"-i eth0 {match}", 1),
        Jump("DOCKER-USER", f"-i wg+ {match}", 2),
    )
    assert jumps(GATE) == (Jump("INPUT", "-j ALLOW-JP-INPUT", 1),)
