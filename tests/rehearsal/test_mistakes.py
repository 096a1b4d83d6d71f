"""Each mistake that has locked somebody out, or let everybody in, does not pass a rehearsal."""

import dataclasses

import pytest

from geofence.errors import KernelRefused
from geofence.model import Family
from tests import lab
from tests.rehearsal import plays

pytestmark = pytest.mark.usefixtures("kernel")

STATEFUL = (
    ":INPUT DROP [0:0]",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
    "-A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT",
)


@pytest.fixture(params=lab.VARIANTS)
def variant(request):
    plays.in_force()
    return request.param


def test_a_fence_without_a_mistake_passes(variant):
    report = plays.rehearsed(plays.play(variant, trusting=["198.51.100.0/28"]))
    assert plays.complaints(report) == ""
    assert report.packets > 500


def test_it_passes_beside_the_hosts_own_rules(variant):
    plays.host_rules(variant, *STATEFUL)
    report = plays.rehearsed(plays.play(variant))
    assert plays.complaints(report) == ""


def test_it_leaves_the_host_as_it_was(variant):
    plays.host_rules(variant, *STATEFUL)
    before = lab.run(f"iptables-{variant}-save").splitlines()[1:-1], lab.set_names()
    plays.rehearsed(plays.play(variant))
    assert (lab.run(f"iptables-{variant}-save").splitlines()[1:-1], lab.set_names()) == before


def test_a_jump_behind_an_accept_for_all_is_caught(variant):
    plays.host_rules(variant, "-A INPUT -j ACCEPT")
    fence = dataclasses.replace(plays.GATE, position=2)
    said = plays.complaints(plays.rehearsed(plays.play(variant, fence)))
    assert "the jump stands behind a rule that lets everybody in" in said
    assert "tcp to port 61003 and udp to port 61003" in said


def test_a_jump_behind_a_port_that_is_open_for_all_is_the_owners_choice(variant):
    plays.host_rules(variant, *STATEFUL)
    fence = dataclasses.replace(plays.GATE, position=4)  # before port 80, behind nothing but SSH
    assert plays.complaints(plays.rehearsed(plays.play(variant, fence))) == ""


def test_a_drop_before_established_is_caught(variant):
    play = plays.play(variant)
    body = plays.body_of(play, Family.INET)
    place = next(n for n, rule in enumerate(body) if "ESTABLISHED" in rule)
    mistaken = (*body[:place], "-s 198.51.100.0/24 -j DROP", *body[place:])
    said = plays.complaints(plays.rehearsed(plays.with_body(play, Family.INET, mistaken)))
    assert "the answer to a TCP connection that this host began abroad" in said
    assert "-A ALLOW-JP-INPUT -s 198.51.100.0/24 -j DROP" in said


def test_ipv6_without_neighbour_discovery_is_caught(variant):
    play = plays.play(variant)
    body = [rule for rule in plays.body_of(play, Family.INET6) if "icmpv6-type 13" not in rule]
    said = plays.complaints(plays.rehearsed(plays.with_body(play, Family.INET6, body)))
    assert "icmpv6 type 135" in said
    assert "should pass, was dropped, by ip6tables" in said


def test_a_wrong_set_name_is_caught(variant):
    play = plays.play(variant)
    body = [
        rule.replace("geofence-JP-", "geofence-KR-") for rule in plays.body_of(play, Family.INET)
    ]
    with pytest.raises(KernelRefused, match="geofence-KR-inet"):
        plays.rehearsed(plays.with_body(play, Family.INET, body))


def test_the_name_of_another_set_is_caught(variant):
    plays.in_force(plays.members("193.0.0.0/21", "2a00:1450::/32"), "NL")
    lab.run(
        f"iptables-{variant}",
        "-A",
        "FORWARD",
        "-m",
        "set",
        "--match-set",
        "geofence-NL-inet",
        "src",
    )
    play = plays.play(variant)
    body = [
        rule.replace("geofence-JP-", "geofence-NL-") for rule in plays.body_of(play, Family.INET)
    ]
    said = plays.complaints(plays.rehearsed(plays.with_body(play, Family.INET, body)))
    assert f"tcp to port 22 from {plays.OWNER} (must get in): should pass, was dropped" in said


def test_source_and_destination_swapped_are_caught(variant):
    play = plays.play(variant)
    body = [
        rule.replace("geofence-JP-inet src", "geofence-JP-inet dst")
        for rule in plays.body_of(play, Family.INET)
    ]
    said = plays.complaints(plays.rehearsed(plays.with_body(play, Family.INET, body)))
    assert "from 133.11.0.0 (member 133.11.0.0/16): should pass, was dropped" in said


@pytest.mark.parametrize(
    ("instead", "packet"),
    [
        ("153.120.0.0/16", "from 153.121.255.255 (last of 153.120.0.0/15): should pass"),
        ("153.120.0.0/14", "from 153.122.0.0 (behind 153.120.0.0/15): should be dropped, passed"),
        ("2400:4000::/23", "(last of 2400:4000::/22): should pass, was dropped"),
    ],
)
def test_a_prefix_that_is_off_by_one_is_caught(variant, instead, packet):
    prefixes = [one for one in plays.JAPAN if one.partition("/")[0] != instead.partition("/")[0]]
    plays.in_force(plays.members(*prefixes, instead))
    assert packet in plays.complaints(plays.rehearsed(plays.play(variant)))


def test_a_rule_of_the_hosts_own_that_drops_the_owner_is_caught(variant):
    plays.host_rules(
        variant, f"-A INPUT -s {plays.OWNER}/32 -p tcp -m tcp --dport 22 -j DROP", *STATEFUL[1:]
    )
    said = plays.complaints(plays.rehearsed(plays.play(variant)))
    assert f"tcp to port 22 from {plays.OWNER} (must get in): should pass, was dropped" in said
    assert f"-A INPUT -s {plays.OWNER}/32 -p tcp -m tcp --dport 22 -j DROP" in said


def test_a_trusted_address_that_nothing_lets_in_is_caught(variant):
    plays.host_rules(variant, "-A INPUT -s 198.51.100.9/32 -j DROP")
    said = plays.complaints(plays.rehearsed(plays.play(variant, trusting=["198.51.100.9"])))
    assert "tcp to port 22 from 198.51.100.9 (trusted): should pass, was dropped" in said
    assert "-A INPUT -s 198.51.100.9/32 -j DROP" in said


def test_a_policy_that_drops_the_owner_is_named(variant):
    plays.host_rules(variant, ":INPUT DROP [0:0]", "-A INPUT -i lo -j ACCEPT")
    said = plays.complaints(plays.rehearsed(plays.play(variant)))
    assert "the policy DROP of INPUT" in said


def test_the_other_variant_that_drops_the_owner_is_named(variant):
    other = next(one for one in lab.VARIANTS if one != variant)
    plays.host_rules(other, f"-A INPUT -s {plays.OWNER}/32 -j DROP")
    said = plays.complaints(plays.rehearsed(plays.play(variant)))
    assert f"iptables ({other}), table filter: -A INPUT -s {plays.OWNER}/32 -j DROP" in said


def test_a_native_table_that_drops_the_owner_is_caught():
    plays.in_force()
    lab.run("nft", "-f", "-", stdin=f"""table inet own {{
        chain in {{ type filter hook input priority 10; ip saddr {plays.OWNER} drop; }}
    }}""")  # fmt: skip
    try:
        said = plays.complaints(plays.rehearsed(plays.play("nft")))
    finally:
        lab.run("nft", "delete", "table", "inet", "own")
    assert "a native nft table" in said
