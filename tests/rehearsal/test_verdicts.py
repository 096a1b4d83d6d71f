"""What should become of packets, what the verdicts show together, and which rule decided."""

import dataclasses

import pytest

from geofence.model import Family, Fence, PrefixList, Style
from geofence.prefixes import parse_address, parse_prefix
from geofence.rehearsal import verdicts
from geofence.rehearsal.corpus import Model, Probe, merged
from geofence.rehearsal.packets import TCP, UDP, Kind, echo

GATE = Fence(name="JP", countries=("JP",))
ALLOW = dataclasses.replace(GATE, style=Style.ALLOW, target="SERVICES")
SSH = Kind(TCP, 22)
UNNAMED = Kind(TCP, 61003), Kind(UDP, 61003)
KINDS = (SSH, echo(Family.INET), *UNNAMED)
MEMBER, STRANGER, TRUSTED = "133.11.0.0", "198.51.100.7", "203.0.113.9"
STANDS_FOR_TRUSTED = "192.0.2.254"


def model(fence=GATE) -> Model:
    return Model(
        fence=fence,
        members=PrefixList(Family.INET, (parse_prefix("133.11.0.0/16")[1],)),
        trusted=merged(
            Family.INET, [parse_prefix(f"{one}/32")[1] for one in (TRUSTED, STANDS_FOR_TRUSTED)]
        ),
        trusting=True,
    )


def probe(source: str, why: str = "", kind: Kind = SSH, *, owner: bool = False) -> Probe:
    return Probe(parse_address(source), kind, why, owner=owner)


@pytest.mark.parametrize(
    ("style", "source", "old", "cut", "due"),
    [
        # a gate only narrows: whom it lets pass the host decides about, of others its place does
        (Style.GATE, MEMBER, True, True, True),
        (Style.GATE, MEMBER, True, False, True),
        (Style.GATE, MEMBER, False, True, False),
        (Style.GATE, MEMBER, False, False, False),
        (Style.GATE, STRANGER, True, True, True),
        (Style.GATE, STRANGER, True, False, False),
        (Style.GATE, STRANGER, False, True, True),
        (Style.GATE, STRANGER, False, False, False),
        # allow: members go to the target, for others nothing changes
        (Style.ALLOW, MEMBER, True, True, True),
        (Style.ALLOW, MEMBER, True, False, False),
        (Style.ALLOW, MEMBER, False, True, True),
        (Style.ALLOW, MEMBER, False, False, False),
        (Style.ALLOW, STRANGER, True, True, True),
        (Style.ALLOW, STRANGER, True, False, True),
        (Style.ALLOW, STRANGER, False, True, False),
        (Style.ALLOW, STRANGER, False, False, False),
    ],
)
def test_what_is_due(style, source, old, cut, due):
    one = model(GATE if style is Style.GATE else ALLOW)
    assert verdicts.due(one, probe(source), old, cut=cut) is due
    assert verdicts.due(one, probe(source, owner=True), old, cut=cut) is True


@pytest.mark.parametrize("before", [True, False, None])
def test_data_in_an_owners_session_is_due_whatever_was_before(before):
    assert verdicts.talk_due("data in a session from 133.11.0.9 to port 22", before) is True
    assert verdicts.talk_due("IPv4 over the loopback interface", before) is before


def seen(source, why, kind=SSH, *, cut=False, new=False) -> verdicts.Verdict:
    return probe(source, why, kind), True, cut, new


def overall(fence, *found: verdicts.Verdict) -> list[str]:
    return verdicts.overall(model(fence), KINDS, UNNAMED, found)


def test_nothing_is_said_of_nothing():
    assert overall(GATE) == overall(ALLOW) == []


def test_a_jump_behind_a_rule_that_lets_everybody_in_is_told():
    found = [seen(STRANGER, "foreign", kind, cut=True) for kind in UNNAMED]
    assert overall(GATE, *found) == [
        "IPv4: the jump stands behind a rule that lets everybody in: tcp to port 61003 and udp to"
        " port 61003 from anywhere would not meet the fence"
    ]


def test_one_protocol_that_everybody_gets_in_by_is_enough():
    (said,) = overall(GATE, seen(STRANGER, "foreign", UNNAMED[1], cut=True))
    assert "lets everybody in: udp to port 61003 from anywhere" in said


@pytest.mark.parametrize(
    ("fence", "one"),
    [
        pytest.param(GATE, seen(STRANGER, "foreign", UNNAMED[0]), id="meets-the-fence"),
        pytest.param(GATE, seen(STRANGER, "foreign", SSH, cut=True), id="a-port-that-is-named"),
        pytest.param(GATE, seen(STRANGER, "foreign", KINDS[1], cut=True), id="pings"),
        pytest.param(GATE, seen(MEMBER, "member", UNNAMED[0], cut=True), id="a-member"),
        pytest.param(GATE, seen(STRANGER, "foreign", UNNAMED[0], new=True), id="the-fences-doing"),
    ],
)
def test_a_gate_that_meets_what_no_rule_names_is_not_complained_of(fence, one):
    assert overall(fence, one) == []


def test_a_target_that_lets_no_member_in_is_told():
    found = [seen(MEMBER, "member 133.11.0.0/16", kind) for kind in KINDS]
    assert overall(ALLOW, *found) == ["IPv4: SERVICES lets no member in, whatever was tried"]


def test_a_target_that_lets_members_in_by_one_kind_does():
    found = [seen(MEMBER, "member 133.11.0.0/16", kind, new=kind is SSH) for kind in KINDS]
    assert overall(ALLOW, *found) == []


def test_style_allow_where_nothing_drops_who_is_no_member_is_told():
    found = [seen(STRANGER, "foreign", kind, new=True) for kind in KINDS]
    assert overall(ALLOW, *found) == [
        "IPv4: nothing drops who is no member: style allow needs a rule or a policy of yours that"
        " does"
    ]


def test_style_allow_beside_a_port_that_is_open_to_all_is_the_owners_choice():
    found = [seen(STRANGER, "foreign", kind, new=kind is SSH) for kind in KINDS]
    assert overall(ALLOW, *found) == []


def test_what_a_host_lives_by_proves_no_drop():
    link = seen(STRANGER, "foreign", Kind(UDP, 68, 67), new=False)
    found = [seen(STRANGER, "foreign", kind, new=True) for kind in KINDS]
    assert len(overall(ALLOW, link, *found)) == 1


def test_a_gate_is_asked_neither_for_members_nor_for_a_drop():
    found = [seen(STRANGER, "foreign", kind, new=True) for kind in KINDS]
    found += [seen(MEMBER, "member 133.11.0.0/16", kind) for kind in KINDS]
    assert overall(GATE, *found) == []


@pytest.mark.parametrize("fence", [GATE, ALLOW])
def test_a_trusted_address_that_nothing_lets_in_is_suspicious_where_members_get_in(fence):
    found = [seen(TRUSTED, "trusted", kind) for kind in KINDS]
    found += [seen(MEMBER, "member 133.11.0.0/16", KINDS[1], new=True)]
    (suspect,), notes = verdicts.unheard(model(fence), found)
    assert suspect == probe(TRUSTED, "trusted", KINDS[1], owner=True)
    assert notes == []


def test_where_nothing_lets_members_in_either_that_is_said():
    found = [seen(TRUSTED, "trusted", kind) for kind in KINDS]
    assert verdicts.unheard(model(), found) == (
        [],
        ["nothing that was tried lets the trusted 203.0.113.9 in, nor a member"],
    )


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([seen(TRUSTED, "trusted", one, new=one is SSH) for one in KINDS], id="let-in"),
        pytest.param([seen(TRUSTED, "must get in", new=True)], id="let-in-as-an-owner"),
    ],
)
def test_a_trusted_address_that_something_lets_in_is_not(found):
    assert verdicts.unheard(model(), found) == ([], [])


HERE = "iptables (nft), table filter: "
THERE = "iptables (legacy), table filter: "
DROPS = f"{HERE}-A INPUT -s 198.51.100.0/24 -j DROP"
REJECTS = f"{HERE}-A INPUT -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset"
ACCEPTS = f"{HERE}-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
JUMP = f"{HERE}-A INPUT -j ALLOW-JP-INPUT"
LOG = f'{HERE}-A INPUT -m limit --limit 10/min -j LOG --log-prefix "DROP ACCEPT: "'
MANGLED = "iptables (nft), table mangle: -A PREROUTING -j ACCEPT"
RAW_DROP = "iptables (legacy), table raw: -A PREROUTING -s 198.51.100.7/32 -j DROP"
OTHER_ACCEPTS = f"{THERE}-A INPUT -j ACCEPT"
OTHER_DROPS = f"{THERE}-A INPUT -j DROP"
POLICY_DROP = f"{HERE}the policy DROP of INPUT"
POLICY_DROP_FORWARD = f"{HERE}the policy DROP of FORWARD"
POLICY_ACCEPT = f"{HERE}the policy ACCEPT of INPUT"
POLICY_ACCEPT_FORWARD = f"{HERE}the policy ACCEPT of FORWARD"
POLICY_ACCEPT_OUT = f"{HERE}the policy ACCEPT of OUTPUT"
POLICY_MANGLE = "iptables (nft), table mangle: the policy ACCEPT of INPUT"
COMMENT = f'{HERE}-A INPUT -m comment --comment "the policy DROP of INPUT" -j RETURN'
NOBODY = "no rule of iptables: a native nft table, or routing"


@pytest.mark.parametrize(
    ("moved", "rule"),
    [
        pytest.param([JUMP, LOG, DROPS], DROPS, id="drop"),
        pytest.param([JUMP, REJECTS], REJECTS, id="reject"),
        pytest.param([OTHER_ACCEPTS, DROPS], DROPS, id="accepted-by-the-other-variant"),
        pytest.param([ACCEPTS, OTHER_DROPS], OTHER_DROPS, id="dropped-by-the-other-variant"),
        pytest.param([RAW_DROP], RAW_DROP, id="another-table"),
        pytest.param([POLICY_ACCEPT_OUT, JUMP, POLICY_DROP], POLICY_DROP, id="policy"),
        pytest.param([POLICY_DROP_FORWARD], POLICY_DROP_FORWARD, id="policy-of-forward"),
        pytest.param([POLICY_DROP, DROPS], DROPS, id="a-rule-before-a-policy"),
        pytest.param([ACCEPTS, POLICY_MANGLE], NOBODY, id="only-those-that-let-in"),
        pytest.param([COMMENT], NOBODY, id="a-comment"),
        pytest.param([LOG], NOBODY, id="a-log"),
        pytest.param([], NOBODY, id="nothing"),
    ],
)
def test_the_rule_that_dropped_is_named(moved, rule):
    assert decided(moved, passed=False) == rule


@pytest.mark.parametrize(
    ("moved", "rule"),
    [
        pytest.param([JUMP, LOG, ACCEPTS], ACCEPTS, id="accept"),
        pytest.param([MANGLED, ACCEPTS], ACCEPTS, id="not-of-another-table"),
        pytest.param([POLICY_MANGLE, JUMP, POLICY_ACCEPT], POLICY_ACCEPT, id="policy"),
        pytest.param([POLICY_ACCEPT, ACCEPTS], ACCEPTS, id="a-rule-before-a-policy"),
        pytest.param([POLICY_ACCEPT_FORWARD], POLICY_ACCEPT_FORWARD, id="forwarded"),
        pytest.param([POLICY_ACCEPT_OUT], "no rule of iptables", id="what-was-answered"),
        pytest.param([DROPS], "no rule of iptables", id="only-those-that-drop"),
        pytest.param([], "no rule of iptables", id="nothing"),
    ],
)
def test_the_rule_that_let_in_is_named(moved, rule):
    assert decided(moved, passed=True) == rule


def decided(moved, *, passed: bool) -> str:
    """Let some counters move, one of which there was none of before, among many that stay."""
    every = [DROPS, REJECTS, ACCEPTS, OTHER_DROPS, OTHER_ACCEPTS, POLICY_DROP, POLICY_ACCEPT]
    before = dict.fromkeys([*every, *moved[1:]], 7)
    after = {key: before.get(key, 0) + (1 if key in moved else 0) for key in [*moved, *every]}
    return verdicts.decider(before, after, passed=passed)
