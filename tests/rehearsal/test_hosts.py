"""Rehearsals on hosts as they are: Docker, fail2ban, limits, several interfaces, odd rules."""

import dataclasses

import pytest

from geofence.errors import KernelRefused
from geofence.kernel import tap
from geofence.kernel.iptables import Iptables
from geofence.kernel.namespace import privately
from geofence.model import Family, Fence, Forward, Private, Style
from geofence.prefixes import parse_address
from geofence.rehearsal.corpus import Way
from geofence.rules import Goal
from tests import lab
from tests.rehearsal import plays

pytestmark = pytest.mark.usefixtures("kernel")

DOCKER_FILTER = (
    ":INPUT ACCEPT [0:0]",
    ":FORWARD DROP [0:0]",
    ":DOCKER - [0:0]",
    ":DOCKER-USER - [0:0]",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o docker0 -j DOCKER",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
    "-A DOCKER-USER -j RETURN",
)
DOCKER_NAT = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""


def devices() -> None:
    """Give this namespace two devices as a host with Docker has them."""
    for name, address in (("eth0", "203.0.113.5/24"), ("docker0", "172.17.0.1/16")):
        lab.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        lab.run("ip", "address", "add", address, "dev", name)
        lab.run("ip", "link", "set", name, "up")
    lab.run("ip", "route", "add", "default", "via", "203.0.113.1", "dev", "eth0")


def on_docker(variant: str, change=lambda one: one, private=Private.RETURN) -> str:
    """Rehearse in a namespace of its own: of two variants only the first nat table works."""

    def act() -> str:
        devices()
        plays.in_force()
        plays.host_rules(variant, *DOCKER_FILTER)
        lab.run(f"iptables-{variant}-restore", "--noflush", stdin=DOCKER_NAT)
        fence = dataclasses.replace(FORWARDING, private=private)
        play = with_jumps(plays.play(variant, fence), change)
        return plays.complaints(plays.rehearsed(play))

    return privately(act)


def with_jumps(play, change):
    """Change the jumps of a play; None takes one out."""
    goals = []
    for goal in play.goals["JP"]:
        jumps = tuple(new for one in goal.own.jumps if (new := change(one)))
        goals.append(Goal(goal.rules, dataclasses.replace(goal.own, jumps=jumps)))
    return dataclasses.replace(play, goals={"JP": goals})


FORWARDING = dataclasses.replace(plays.GATE, forward=Forward.DOCKER_USER, outside=("eth0",))


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_published_ports_are_rehearsed_and_closed(variant):
    assert on_docker(variant) == ""


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_a_published_port_that_goes_round_the_fence_is_caught(variant):
    said = on_docker(variant, lambda one: one if one.chain == "INPUT" else None)
    assert "tcp to port 8080 from 198.51.100.7 (foreign), forwarded to docker0: should be" in said
    assert "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp" in said


def test_a_jump_that_judges_what_containers_begin_is_caught():
    def change(one):
        return dataclasses.replace(one, rule=one.rule.replace("-i eth0 ", "-i docker0 "))

    said = on_docker("nft", change, Private.JUDGE)
    assert "a connection that 172.17.0.2 begins abroad" in said


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_sets_of_other_tools_come_along(variant):
    plays.in_force()
    lab.run("ipset", "create", "f2b-sshd", "hash:ip", "timeout", "600")
    lab.run("ipset", "add", "f2b-sshd", "133.11.0.77")
    lab.run("ipset", "create", "bad", "list:set")
    lab.run("ipset", "create", "worse", "hash:net,port")
    lab.run("ipset", "add", "bad", "worse")
    plays.host_rules(
        variant,
        "-A INPUT -p tcp -m set --match-set f2b-sshd src -j REJECT --reject-with tcp-reset",
        "-A INPUT -m set --match-set bad src,dst -j DROP",
    )
    assert plays.complaints(plays.rehearsed(plays.play(variant))) == ""
    banned = plays.rehearsed(plays.play(variant, owners=["133.11.0.77"]))
    assert "--match-set f2b-sshd src" in plays.complaints(banned)


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_limits_of_the_hosts_own_make_no_noise(variant):
    plays.in_force()
    plays.host_rules(
        variant,
        ":INPUT DROP [0:0]",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -p icmp -m limit --limit 1/sec --limit-burst 3 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 22 -m hashlimit --hashlimit-upto 2/min --hashlimit-burst 2"
        " --hashlimit-mode srcip --hashlimit-name ssh -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 443 -m limit --limit 1/sec --limit-burst 20 -j ACCEPT",
    )
    report = plays.rehearsed(plays.play(variant))
    assert plays.complaints(report) == ""


def test_what_cannot_be_followed_is_said():
    plays.in_force()
    plays.host_rules(
        "nft",
        "-A INPUT -p tcp -m tcp --dport 25 -m statistic --mode random --probability 0.5 -j DROP",
    )
    notes = plays.rehearsed(plays.play("nft")).notes
    assert any("not rehearsed faithfully" in note and "--dport 25" in note for note in notes)


def test_a_rule_of_the_hosts_own_that_does_not_load_stops_it(monkeypatch):
    plays.in_force()
    plays.host_rules("nft", "-A INPUT -p tcp -m tcp --dport 25 -j DROP")
    odd = "*filter\n-A INPUT -m nosuchmatch -j DROP\nCOMMIT\n"
    monkeypatch.setattr(Iptables, "save_all", lambda *_, **__: odd)
    with pytest.raises(KernelRefused, match=r"the host's own rules cannot be .*nosuchmatch"):
        plays.rehearsed(plays.play("nft"))


def test_owners_come_in_by_the_interface_that_leads_to_them():
    def act() -> str:
        devices()
        plays.in_force()
        plays.host_rules("nft", "-A INPUT -s 172.17.0.0/16 -i eth0 -j DROP")
        return plays.complaints(plays.rehearsed(plays.play("nft", owners=["172.17.0.9"])))

    assert privately(act) == ""


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_private_sources_are_judged_where_that_is_asked_for(variant):
    plays.in_force()
    fence = dataclasses.replace(plays.GATE, private=Private.JUDGE)
    assert plays.complaints(plays.rehearsed(plays.play(variant, fence))) == ""
    said = plays.complaints(plays.rehearsed(plays.play(variant, fence, owners=["192.168.1.7"])))
    assert "from 192.168.1.7 (must get in): should pass, was dropped" in said


ALLOW = Fence(name="JP", countries=("JP",), style=Style.ALLOW, target="RH-Firewall-1-INPUT")


def article(variant: str, *last: str) -> None:
    """Give the host the firewall of the guide that geofence is named after."""
    for family in Family:
        plays.host_rules(
            variant,
            ":RH-Firewall-1-INPUT - [0:0]",
            "-A INPUT -i lo -j ACCEPT",
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            *last,
            "-A RH-Firewall-1-INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
            "-A RH-Firewall-1-INPUT -p tcp -m tcp --dport 80 -j ACCEPT",
            "-A RH-Firewall-1-INPUT -j REJECT",
            family=family,
        )


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_style_allow_sends_members_to_the_services(variant):
    plays.in_force()
    article(variant, "-A INPUT -j DROP")
    assert plays.complaints(plays.rehearsed(plays.play(variant, ALLOW))) == ""


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_style_allow_without_a_drop_of_the_hosts_own_is_caught(variant):
    plays.in_force()
    article(variant)
    said = plays.complaints(plays.rehearsed(plays.play(variant, ALLOW)))
    assert "nothing drops who is no member" in said


def test_style_allow_behind_the_drop_is_caught():
    plays.in_force()
    article("nft", "-A INPUT -j DROP")
    fence = dataclasses.replace(ALLOW, position=9)
    assert f"from {plays.OWNER} (must get in)" in plays.complaints(
        plays.rehearsed(plays.play("nft", fence))
    )


def test_a_target_that_is_not_there_is_named():
    plays.in_force()
    with pytest.raises(KernelRefused, match="RH-Firewall-1-INPUT"):
        plays.rehearsed(plays.play("nft", ALLOW))


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_where_the_tun_device_is_closed_a_pair_of_devices_serves(variant, monkeypatch, tmp_path):
    monkeypatch.setattr(tap, "_TUN", tmp_path / "closed")
    plays.in_force()
    assert plays.complaints(plays.rehearsed(plays.play(variant))) == ""
    said = plays.complaints(plays.rehearsed(plays.play(variant, owners=["8.8.8.8"])))
    assert "from 8.8.8.8 (must get in): should pass, was dropped" in said


MOVED = (
    ":INPUT DROP [0:0]",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT",
)


def rehearsed_for(way: Way, **more) -> str:
    play = plays.play("nft", **more)
    owners = dict.fromkeys(play.owners, way)
    return plays.complaints(
        plays.rehearsed(dataclasses.replace(play, owners=owners, ssh_ports=[way.port]))
    )


def test_an_ssh_server_at_another_port_is_no_mistake():
    plays.in_force()
    plays.host_rules("nft", *MOVED)
    assert rehearsed_for(Way(2222)) == ""
    assert "tcp to port 22 from" in rehearsed_for(Way(22))


def test_a_rule_for_one_of_the_hosts_addresses_is_no_mistake():
    def act() -> tuple[str, str, str]:
        devices()
        plays.in_force()
        lab.run("ip", "address", "add", "203.0.113.6/24", "dev", "eth0")
        bound = "-A INPUT -d 203.0.113.6/32 -p tcp -m tcp --dport 22 -j ACCEPT"
        plays.host_rules("nft", ":INPUT DROP [0:0]", bound)
        here, other = (parse_address(f"203.0.113.{last}") for last in (6, 5))
        found = [rehearsed_for(Way(22, own)) for own in (here, other, None)]
        return found[0], found[1], found[2]

    there, elsewhere, anywhere = privately(act)
    assert (there, anywhere) == ("", "")
    assert "tcp to port 22 to 203.0.113.5 from 133.11.0.9 (must get in)" in elsewhere


@pytest.mark.parametrize("rule", ["-p tcp -m tcp --dport 1:65535", "-p udp -m udp --dport 1:65535"])
def test_rules_that_name_every_port_are_no_obstacle(rule):
    plays.in_force()
    plays.host_rules("nft", f"-A INPUT {rule} -j ACCEPT")
    assert plays.complaints(plays.rehearsed(plays.play("nft"))) == ""


def test_a_trap_for_port_scanners_is_no_mistake():
    plays.in_force()
    plays.host_rules(
        "nft",
        "-A INPUT -m recent --name scan --rcheck -j DROP",
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT",
        "-A INPUT -m recent --name scan --set -j DROP",
    )
    assert plays.complaints(plays.rehearsed(plays.play("nft", trusting=["198.51.100.9"]))) == ""


def test_a_trap_made_of_a_set_is_no_mistake():
    plays.in_force()
    lab.run("ipset", "create", "scan", "hash:ip", "timeout", "60")
    plays.host_rules(
        "nft",
        "-A INPUT -m set --match-set scan src -j DROP",
        "-A INPUT -p tcp -m multiport --dports 23,139 -j SET --add-set scan src --exist",
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A INPUT -j DROP",
    )
    assert plays.complaints(plays.rehearsed(plays.play("nft", trusting=["198.51.100.9"]))) == ""


def test_a_trusted_address_on_a_host_that_lets_nobody_in_is_only_noted():
    plays.in_force()
    plays.host_rules("nft", ":INPUT DROP [0:0]", "-A INPUT -i lo -j ACCEPT")
    report = plays.rehearsed(plays.play("nft", owners=[], trusting=["198.51.100.9"]))
    assert plays.complaints(report) == ""
    assert any("lets the trusted 198.51.100.9 in, nor a member" in note for note in report.notes)


def test_what_strays_in_the_kernels_set_is_caught():
    plays.in_force(plays.members(*plays.JAPAN, "100.64.0.0/10"))
    said = plays.complaints(plays.rehearsed(plays.play("nft")))
    assert "from 100.64.0.0 (in 100.64.0.0/10, which the list has not): should be dropped" in said


def test_style_allow_may_accept_by_itself():
    plays.in_force()
    plays.host_rules("nft", *MOVED[:2])
    plays.host_rules("nft", *MOVED[:2], family=Family.INET6)
    fence = dataclasses.replace(ALLOW, target="ACCEPT")
    assert plays.complaints(plays.rehearsed(plays.play("nft", fence))) == ""


def test_very_many_trusted_addresses_do_not_make_it_endless():
    plays.in_force()
    many = [f"20.{n >> 8}.{n & 255}.1" for n in range(2000)]
    report = plays.rehearsed(plays.play("nft", trusting=many))
    assert plays.complaints(report) == ""
    assert report.packets < 50_000


@pytest.mark.parametrize("outside", ["nosuch0", "docker0"])
def test_an_outside_interface_that_is_none_is_told(outside):
    def act() -> tuple[str, tuple[str, ...]]:
        devices()
        plays.in_force()
        fence = dataclasses.replace(FORWARDING, forward=Forward.FORWARD, outside=(outside,))
        report = plays.rehearsed(plays.play("nft", fence))
        return plays.complaints(report), report.notes

    said, notes = privately(act)
    assert ("`outside` names nosuch0, and there is no such interface" in said) is (
        outside != "docker0"
    )
    assert any(
        "the way to the world is eth0, which `outside` does not name" in one for one in notes
    )
