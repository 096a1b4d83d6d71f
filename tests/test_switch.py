"""enable, disable and repair on a real kernel: what changes, what does not, what is refused."""

import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from geofence import enabled, programs, ruletext, switch
from geofence.context import open_sets
from geofence.disk import Disk
from geofence.errors import DiskError
from geofence.kernel import iptables
from geofence.model import Family, Fence
from geofence.store import Store
from tests import lab, rulesets
from tests.fakes import Counted

CHAIN = "ALLOW-JP-INPUT"
TO_CHAIN = f"-j {CHAIN}"
MEMBER, MEMBER6 = "198.51.100.7", "2001:db8:1::7"
STRANGER, STRANGER6 = "203.0.113.9", "2001:db8:2::9"
GATE = '[fence.JP]\ncountries = ["JP"]\n'
ALLOW = f'{GATE}style = "allow"\ntarget = "f2b-sshd"\n'


class Host:
    """A host with a configuration, and what can be seen of it from outside."""

    def __init__(self, geofence, configuration):
        self.state = geofence.state
        self._geofence = geofence
        self.configuration = configuration
        self.configure(GATE)

    def configure(self, text):
        self.configuration.write_text(text)

    def __call__(self, verb, *options):
        if verb in ("enable", "repair"):
            options = ("--without-rehearsal", *options)
        return self._geofence("--config", self.configuration, verb, *options)

    def done(self, verb, *options):
        """Run a verb that has to succeed, and give its document."""
        answer = self(verb, *options, "--json")
        assert answer.status == 0, answer.err
        return answer.document

    def stored(self):
        """Give all that is in the state directory, except the locks."""
        return {
            str(path.relative_to(self.state)): path.read_bytes() if path.is_file() else None
            for path in self.state.rglob("*")
            if path.name not in ("lock", "update.lock")
        }

    def seen(self):
        """Give all that a verb can change: rules, sets, state."""
        return rulesets.saves(), lab.run("ipset", "save"), self.stored()


@pytest.fixture
def bare(kernel, geofence, tmp_path, monkeypatch):
    """Give a host with the fence's sets, no rule at all, and nobody on it by SSH."""
    rulesets.make_sets()
    yield Host(geofence, tmp_path / "geofence.toml")
    rulesets.empty()


@pytest.fixture(params=lab.VARIANTS)
def variant(request):
    return request.param


@pytest.fixture
def host(bare, variant):
    """Give a host that has rules of its own, in one variant."""
    rulesets.load_host(variant)
    lab.run("nft", "add table inet mine; add chain inet mine in { type filter hook input priority 5; }; add rule inet mine in tcp dport 9999 counter drop")  # fmt: skip # noqa: E501
    return bare


def tables(variant):
    return [rulesets.filter_table(family, variant) for family in Family]


def held(variant, family=Family.INET):
    return rulesets.filter_table(family, variant).rules


def test_disable_gives_back_exactly_what_was_there_before_enable(host, variant):
    before = rulesets.saves()
    assert host.done("enable")["changed"] is True
    for table in tables(variant):
        assert table.rules["INPUT"][0] == TO_CHAIN
        assert f"{'-m limit'}" in table.rules[CHAIN][-2]
        assert table.rules[CHAIN][-1] == "-j DROP"
    enabled_saves = rulesets.saves()
    assert host.done("enable")["changed"] is False
    assert host.done("repair")["changed"] is False
    assert rulesets.saves() == enabled_saves
    assert host.done("disable")["changed"] is True
    assert rulesets.saves() == before
    assert host.done("disable")["changed"] is False
    assert enabled.all_of(host.state) == {}


def test_the_answer_names_the_tables_that_were_changed(host, variant):
    document = host.done("enable")
    assert (document["fences"], document["changed"]) == (["JP"], True)
    assert document["tables"] == [f"iptables ({variant})", f"ip6tables ({variant})"]
    assert document["rehearsed"] is None
    assert host("enable").out.startswith(f"JP: is enabled, as it was, in iptables ({variant})")
    assert f"gone from iptables ({variant}), ip6tables ({variant})" in host("disable").out


def test_the_jump_stands_where_it_was_asked_for_and_moves_when_that_changes(host, variant):
    before = rulesets.saves()
    for position in (1, 4, 99, 2):
        host.configure(f"{GATE}position = {position}\n")
        assert host.done("enable")["changed"] is True
        for table in tables(variant):
            rules = table.rules["INPUT"]
            assert rules[min(position, len(rules)) - 1] == TO_CHAIN
            assert rules.count(TO_CHAIN) == 1
        assert host.done("enable")["changed"] is False
    host.done("disable")
    assert rulesets.saves() == before


def test_forwarded_traffic_is_judged_where_docker_has_room_for_it_or_in_forward(host, variant):
    before = rulesets.saves()
    host.configure(f'{GATE}forward = "DOCKER-USER"\noutside = ["eth0", "eth1"]\n')
    host.done("enable")
    jumps = tuple(f"-i {one} -m conntrack --ctstate NEW {TO_CHAIN}" for one in ("eth0", "eth1"))
    assert held(variant)["DOCKER-USER"] == (*jumps, "-j RETURN")
    assert held(variant)["FORWARD"] == ("-j DOCKER-USER", "-o docker0 -j DOCKER")
    assert held(variant, Family.INET6)["FORWARD"] == jumps
    assert host.done("enable")["changed"] is False
    host.done("disable")
    assert rulesets.saves() == before


LEFTOVERS = {
    "a-chain-without-a-jump": f":{CHAIN} - [0:0]\n-A {CHAIN} -j DROP\n",
    "an-empty-chain": f":{CHAIN} - [0:0]\n",
    "several-jumps": f":{CHAIN} - [0:0]\n-A {CHAIN} -j RETURN\n-I INPUT 1 {TO_CHAIN}\n"
    f"-I INPUT 4 {TO_CHAIN}\n-A INPUT {TO_CHAIN}\n",
    "half-a-chain": f":{CHAIN} - [0:0]\n-A {CHAIN} -i lo -j RETURN\n-A INPUT {TO_CHAIN}\n",
    "a-jump-of-before": f":{CHAIN} - [0:0]\n"
    f"-A FORWARD -i eth7 -m conntrack --ctstate NEW {TO_CHAIN}\n",
}


def leave(left, variant):
    for family in Family:
        rulesets.load(family, variant, f"*filter\n{LEFTOVERS[left]}COMMIT\n")


def test_what_somebody_left_of_the_fence_becomes_whole_and_goes_whole(host, variant):
    before = rulesets.saves()
    for left in LEFTOVERS:
        leave(left, variant)
        host.done("enable")
        for table in tables(variant):
            own = ruletext.own(table, CHAIN)
            assert [(jump.chain, jump.position) for jump in own.jumps] == [("INPUT", 1)], left
            assert len(own.body or ()) > 10, left
        host.done("disable")
        assert rulesets.saves() == before, left


def test_disable_finds_a_fence_that_no_record_tells_of(host):
    before = rulesets.saves()
    host.done("enable")
    shutil.rmtree(host.state)
    host.configure("")
    assert host.done("disable")["fences"] == ["JP"]
    assert rulesets.saves() == before


def test_disable_takes_away_what_is_left_of_a_fence_that_is_named(host, variant):
    before = rulesets.saves()
    for left in LEFTOVERS:
        leave(left, variant)
        assert host.done("disable", "--fence", "JP")["changed"] is True, left
        assert rulesets.saves() == before, left


def test_a_rule_of_somebody_else_that_leads_to_the_chain_stays_and_keeps_it(host, variant):
    host.done("enable")
    jump = f"-s 203.0.113.0/24 -p tcp -m tcp --dport 25 {TO_CHAIN}"
    rulesets.load(Family.INET, variant, f"*filter\n-A FORWARD {jump}\nCOMMIT\n")
    assert host.done("enable")["changed"] is False
    answer = host("disable")
    assert f"{CHAIN} stays, empty, for this rule leads to it: -A FORWARD {jump}" in answer.err
    assert held(variant)[CHAIN] == ()
    assert jump in held(variant)["FORWARD"]
    assert TO_CHAIN not in held(variant)["INPUT"]
    assert CHAIN not in held(variant, Family.INET6)
    assert host.done("disable")["changed"] is False


def test_a_chain_of_the_administrator_that_looks_like_a_fences_is_let_alone(host, variant):
    host.done("disable")
    assert held(variant)["ALLOW-SSH-INPUT"] == ("-s 198.51.100.0/24 -j ACCEPT",)


def test_the_counters_of_other_rules_are_kept(host, variant):
    program = rulesets.program(Family.INET, variant, "restore")
    text = "*filter\n:INPUT DROP [5:500]\n:counted - [0:0]\n[7:700] -A counted -j RETURN\n"
    lab.run(program, "-c", "--noflush", stdin=f"{text}[9:900] -A INPUT -j counted\nCOMMIT\n")
    for verb in ("enable", "disable"):
        host.done(verb)
        saved = lab.run(rulesets.program(Family.INET, variant, "save"), "-c", "-t", "filter")
        assert "[7:700] -A counted -j RETURN" in saved, verb
        assert "[9:900] -A INPUT -j counted" in saved, verb
        if (
            variant == "nft"
        ):  # a legacy chain's policy counts from 0 after every change of the chain
            assert ":INPUT DROP [5:500]" in saved, verb


def test_a_fence_of_one_family_leaves_the_other_as_it_is_and_says_so(host, variant):
    before = rulesets.saves()
    host.configure(f'{GATE}families = ["inet"]\n')
    lab.run("ipset", "destroy", "geofence-JP-inet6")
    document = host.done("enable")
    assert document["warnings"] == ["JP is about IPv4 alone: IPv6 stays as open as it is"]
    assert document["tables"] == [f"iptables ({variant})"]
    now = rulesets.saves()
    program = rulesets.program(Family.INET6, variant)
    assert now[program] == before[program]
    assert TO_CHAIN in held(variant)["INPUT"]


def test_a_host_without_ipv6_has_a_fence_in_one_family(host, variant, monkeypatch, tmp_path):
    monkeypatch.setattr(iptables, "_IPV6", tmp_path / "no-if_inet6")
    before = rulesets.saves()
    lab.run("ipset", "destroy", "geofence-JP-inet6")
    document = host.done("enable")
    assert document["tables"] == [f"iptables ({variant})"]
    assert document["warnings"] == ["this kernel speaks no IPv6: there is nothing to fence"]
    assert host.done("enable")["changed"] is False
    host.done("disable")
    assert rulesets.saves() == before


def test_where_both_variants_hold_rules_it_is_told_and_both_are_freed(bare):
    rulesets.load_host("legacy")
    bare.done("enable")
    rulesets.load_host("nft")
    before = rulesets.saves()
    document = bare.done("enable")
    assert document["tables"] == ["iptables (nft)", "ip6tables (nft)"]
    (warning, _) = document["warnings"]
    assert warning.startswith("iptables (legacy) holds rules too; both are asked")
    bare.done("disable")
    ours = re.compile(rf"^(:{CHAIN} .*|-A {CHAIN} .*|-A INPUT {TO_CHAIN})\n", re.MULTILINE)
    assert rulesets.saves() == {name: ours.sub("", text) for name, text in before.items()}


def test_a_bare_host_gets_its_fence_in_the_variant_that_iptables_is(bare):
    before = rulesets.saves()
    assert bare.done("enable")["tables"] == ["iptables (nft)", "ip6tables (nft)"]
    bare.done("disable")
    assert rulesets.saves() == before


def test_repair_puts_back_what_another_tool_took_away(host, variant):
    host.done("enable")
    whole = rulesets.saves()
    lab.run(rulesets.program(Family.INET, variant), "-w", "-D", "INPUT", "-j", CHAIN)
    lab.run(rulesets.program(Family.INET6, variant), "-w", "-F", CHAIN)
    document = host.done("repair")
    assert (document["fences"], document["changed"]) == (["JP"], True)
    assert rulesets.saves() == whole


def test_repair_lets_a_fence_alone_that_is_not_enabled(host):
    before = rulesets.saves()
    answer = host("repair")
    assert (answer.status, answer.out) == (0, "no fence is enabled: there is nothing to repair\n")
    host.done("enable")
    host.done("disable")
    assert host.done("repair")["changed"] is False
    assert rulesets.saves() == before


def test_repair_brings_back_sets_and_rules_together(bare, tmp_path):
    lab.run("ipset", "destroy")
    path = lab.plain_list(tmp_path / "list", "80.66.224.0/20", "2a02:e00::/32")
    bare.configure(f'{GATE}source = "plain"\norigins = ["{path}"]\n')
    bare.done("update", "--accept-change")
    bare.done("enable")
    whole = rulesets.saves()
    rulesets.empty()
    lab.run("ipset", "destroy")
    document = bare.done("repair")
    assert document["changed"] is True
    assert document["warnings"] == ["the kernel did not hold generation 1: it does again"]
    assert rulesets.saves() == whole
    assert lab.saved_entries("geofence-JP-inet") == ["80.66.224.0/20"]


def test_a_fence_without_a_configuration_is_repaired_as_it_was_enabled(bare, tmp_path):
    lab.run("ipset", "destroy")
    path = lab.plain_list(tmp_path / "list", "80.66.224.0/20", "2a02:e00::/32")
    bare.configure(f'{GATE}source = "plain"\norigins = ["{path}"]\nprivate = "judge"\n')
    bare.done("update", "--accept-change")
    bare.done("enable")
    whole = rulesets.saves()
    assert "-s 10.0.0.0/8 -j RETURN" not in held("nft")[CHAIN]
    lab.run("iptables-nft", "-w", "-F", CHAIN)
    bare.configure("")
    assert bare.done("repair")["changed"] is True
    assert rulesets.saves() == whole


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How something comes about that is refused, and how."""

    status: int
    complaint: str
    commands: tuple[str, ...] = ()
    peer: str = ""
    configuration: str = GATE
    options: tuple[str, ...] = ()

    def arrange(self, host, monkeypatch):
        for command in self.commands:
            lab.run(*command.split())
        if self.peer:
            monkeypatch.setenv("SSH_CONNECTION", f"{self.peer} 50000 192.0.2.1 22")
        host.configure(self.configuration)


REFUSALS = {
    "set-missing": Refusal(
        status=65,
        complaint="the set geofence-JP-inet6 does not exist",
        commands=("ipset destroy geofence-JP-inet6",),
    ),
    "set-empty": Refusal(
        status=65,
        complaint="the set geofence-JP-inet is empty",
        commands=("ipset flush geofence-JP-inet",),
    ),
    "set-of-another-type": Refusal(
        status=65,
        complaint="is of type hash:ip, not hash:net",
        commands=("ipset destroy geofence-JP-inet", "ipset create geofence-JP-inet hash:ip"),
    ),
    "peer": Refusal(status=65, complaint=f"would shut out {STRANGER}", peer=STRANGER),
    "peer-mapped": Refusal(
        status=65, complaint=f"would shut out {STRANGER},", peer=f"::ffff:{STRANGER}"
    ),
    "peer-inet6": Refusal(status=65, complaint=f"would shut out {STRANGER6}", peer=STRANGER6),
    "private-peer-judged": Refusal(
        status=65,
        complaint="would shut out 192.168.1.2",
        peer="192.168.1.2",
        configuration=f'{GATE}private = "judge"\n',
    ),
    "private-peer-of-allow": Refusal(
        status=65,
        complaint="would shut out 192.168.1.2",
        peer="192.168.1.2",
        configuration=ALLOW,
    ),
    "two-gates": Refusal(
        status=78,
        complaint="two gates on the same traffic would let nobody in: JP and US",
        configuration=f'{GATE}[fence.US]\ncountries = ["US"]\n',
    ),
    "no-target": Refusal(
        status=71,
        complaint="has no chain nowhere, which style allow sends members to",
        configuration=ALLOW.replace("f2b-sshd", "nowhere"),
    ),
    "firewalld": Refusal(
        status=71,
        complaint="firewalld rules this host's firewall",
        commands=("nft add table inet firewalld",),
    ),
    "unknown-fence": Refusal(status=2, complaint="there is no fence KR", options=("--fence", "KR")),
    "configuration": Refusal(status=78, complaint="countries", configuration="[fence.JP]\n"),
}


@pytest.mark.parametrize("variant", ["nft"])
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_changes_nothing(host, variant, name, monkeypatch):
    refusal = REFUSALS[name]
    refusal.arrange(host, monkeypatch)
    before = host.seen()
    answer = host("enable", *refusal.options)
    assert (answer.status, refusal.complaint in answer.err) == (refusal.status, True), answer.err
    rules, sets, stored = host.seen()
    assert (rules, sets, stored) == before


@pytest.mark.parametrize("variant", ["nft"])
@pytest.mark.parametrize("name", ["set-missing", "peer", "firewalld"])
def test_what_is_refused_says_what_is_still_in_force_and_what_to_do(host, name, monkeypatch):
    REFUSALS[name].arrange(host, monkeypatch)
    _, still, cure = host("enable").err.splitlines()
    assert still == "  nothing was changed"
    assert cure.strip()


@pytest.mark.parametrize(
    ("peer", "configuration"),
    [
        pytest.param(MEMBER, GATE, id="member"),
        pytest.param(MEMBER6, GATE, id="member-inet6"),
        pytest.param("192.168.1.2", GATE, id="private"),
        pytest.param("fe80::7%eth0", GATE, id="link-local"),
        pytest.param("127.0.0.1", f'{GATE}private = "judge"\n', id="loopback"),
        pytest.param(STRANGER, f'trusted = ["203.0.113.0/24"]\n{GATE}', id="trusted"),
        pytest.param(STRANGER6, f'trusted = ["{STRANGER6}"]\n{GATE}', id="trusted-inet6"),
        pytest.param(STRANGER6, f'{GATE}families = ["inet"]\n', id="other-family"),
        pytest.param("192.168.1.2", f'trusted = ["192.168.0.0/16"]\n{ALLOW}', id="allow-trusted"),
        pytest.param(MEMBER, ALLOW, id="allow-member"),
    ],
)
def test_an_owner_who_would_pass_is_no_obstacle(bare, peer, configuration, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"{peer} 50000 192.0.2.1 22")
    bare.configure(configuration.replace("f2b-sshd", "ACCEPT"))
    assert bare.done("enable")["changed"] is True


def test_a_second_gate_is_refused_beside_one_that_is_enabled_and_an_allow_fence_is_not(bare):
    us = '[fence.US]\ncountries = ["US"]\n'
    bare.configure(f"{GATE}{us}")
    rulesets.make_sets("US")
    rulesets.load_host("nft")
    bare.done("enable", "--fence", "JP")
    assert bare("enable", "--fence", "US").status == 78
    assert bare.done("enable", "--fence", "JP")["changed"] is False
    bare.configure(f'{GATE}{us}style = "allow"\ntarget = "f2b-sshd"\n')
    assert bare.done("enable", "--fence", "US")["changed"] is True
    assert set(enabled.all_of(bare.state)) == {"JP", "US"}
    for _ in range(2):
        assert bare.done("enable")["changed"] is False
    assert bare.done("disable", "--fence", "US")["fences"] == ["US"]
    assert held("nft")["INPUT"][0] == TO_CHAIN
    assert set(enabled.all_of(bare.state)) == {"JP"}


def test_two_gates_are_no_obstacle_to_each_other_where_each_has_a_family_of_its_own(bare):
    lab.run("ipset", "create", "geofence-US-inet6", "hash:net", "family", "inet6")
    lab.run("ipset", "add", "geofence-US-inet6", "2001:db8:1::/48")
    bare.configure(
        f'{GATE}families = ["inet"]\n[fence.US]\ncountries = ["US"]\nfamilies = ["inet6"]\n'
    )
    assert bare.done("enable")["changed"] is True
    assert held("nft")["INPUT"] == (TO_CHAIN,)
    assert held("nft", Family.INET6)["INPUT"] == ("-j ALLOW-US-INPUT",)
    lab.run("ipset", "create", "geofence-US-inet", "hash:net")
    lab.run("ipset", "add", "geofence-US-inet", "198.51.100.0/24")
    bare.configure(f'{GATE}families = ["inet"]\n[fence.US]\ncountries = ["US"]\n')
    assert bare("enable", "--fence", "US").status == 78


def test_the_empty_set_of_a_country_without_ipv6_is_accepted(bare):
    bare.configure('[fence.KP]\ncountries = ["KP"]\nsource = "bundled"\n')
    bare.done("update", "--accept-change")
    assert lab.saved_entries("geofence-KP-inet6") == []
    assert bare.done("enable")["changed"] is True
    lab.run("ipset", "flush", "geofence-KP-inet")
    assert bare("enable").status == 65


def test_without_permission_nothing_is_changed(host, tmp_path):
    host.done("enable")
    before = host.seen()
    options = ["--config", tmp_path / "geofence.toml"]
    for verb in ("enable", "disable", "repair"):
        answer = lab.without_privileges(host.state, *options, verb)
        assert answer.status == 77, answer.err
        assert host.seen() == before


def test_disable_refuses_a_fence_that_nobody_knows(host):
    before = host.seen()
    assert host("disable", "--fence", "KR").status == 2
    assert host.seen() == before


def firewall(state, disk):
    return switch.Firewall(
        store=Store(state, Disk()),
        open_sets=open_sets,
        peers=frozenset,
        now=lambda: datetime.datetime.now(datetime.UTC),
        disk=disk,
        trusted=lambda: {family: {} for family in Family},
    )


ENABLE_JP = switch.Request(fences=(Fence(name="JP", countries=("JP",)),), without_rehearsal=True)


@pytest.mark.parametrize("variant", ["nft"])
@pytest.mark.parametrize("call", ["make_directory", "write", "point"])
def test_where_the_disk_takes_no_record_the_rules_are_as_they_were(host, call):
    before = rulesets.saves()

    def refuse(_call, name, arguments):
        if name == call and str(arguments[0]).startswith(str(host.state / "JP")):
            raise DiskError("no room")

    with pytest.raises(DiskError, match="no room"):
        switch.enable(ENABLE_JP, firewall(host.state, Counted(Disk(), refuse)))
    assert rulesets.saves() == before
    assert enabled.all_of(host.state) == {}
    assert host.done("enable")["changed"] is True
    assert set(enabled.all_of(host.state)) == {"JP"}


def test_a_signal_between_the_rules_and_their_record_waits_for_the_record(host, variant):
    def strike(_call, name, arguments):
        if name == "point" and str(arguments[0]).endswith("/enabled"):
            os.kill(os.getpid(), signal.SIGTERM)

    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            switch.enable(ENABLE_JP, firewall(host.state, Counted(Disk(), strike)))
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert TO_CHAIN in held(variant)["INPUT"]
    assert set(enabled.all_of(host.state)) == {"JP"}


def test_status_tells_whether_the_rules_of_an_enabled_fence_are_in_place(host, variant):
    def told():
        answer = host("status", "--json")
        return answer.status, answer.document["fences"][0]["enabled"]

    assert told()[1] is None
    assert "not enabled" in host("status").out
    host.done("enable")
    both = [f"iptables ({variant})", f"ip6tables ({variant})"]
    found = told()[1]
    assert (found["tables"], found["in_place"], found["missing"]) == (both, True, [])
    assert "enabled since" in host("status").out
    lab.run(f"ip6tables-{variant}", "-D", "INPUT", *TO_CHAIN.split())
    status, found = told()
    assert (status, found["in_place"], found["missing"]) == (1, False, both[1:])
    assert f"missing in ip6tables ({variant}): geofence repair" in host("status").out
    host.done("repair")
    assert told()[1]["in_place"]


def test_repair_goes_back_to_the_variant_that_was_recorded(bare):
    rulesets.load_host("legacy")
    host = bare
    host.done("enable")
    for family in Family:
        program = "iptables" if family is Family.INET else "ip6tables"
        lab.run(f"{program}-legacy", "-F")
        lab.run(f"{program}-legacy", "-X")
        lab.run(f"{program}-nft", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP")
    assert host.done("repair")["tables"] == ["iptables (legacy)", "ip6tables (legacy)"]


def test_an_owner_in_the_variant_that_is_not_chosen_is_seen(host, variant):
    other = next(one for one in lab.VARIANTS if one != variant)
    for chain in ("INPUT_direct", "INPUT_ZONES"):
        lab.run(f"iptables-{other}", "-N", chain)
    answer = host("enable")
    assert answer.status == 71
    assert "firewalld rules this host's firewall" in answer.err


def test_a_nft_set_in_a_table_of_iptables_cannot_be_rehearsed_and_is_named(bare):
    rulesets.load_host("nft")
    lab.run("nft", "add set ip filter s { type ipv4_addr; }")
    try:
        answer = bare("rehearse")
    finally:
        lab.run("nft", "delete set ip filter s")
    assert answer.status == 71
    assert "the nft set filter s" in answer.err


def test_disable_says_so_where_it_cannot_look_at_any_rule(host, variant, monkeypatch, tmp_path):
    host.done("enable")
    before = rulesets.saves(), set(enabled.all_of(host.state))
    monkeypatch.setattr(programs, "_DIRECTORIES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = host("disable")
    monkeypatch.undo()
    assert (answer.status, "not to be found" in answer.err) == (71, True)
    assert (rulesets.saves(), set(enabled.all_of(host.state))) == before


@pytest.mark.parametrize("variant", ["nft"])
def test_disable_on_a_disk_that_keeps_the_record_says_that_a_reboot_brings_the_rules_back(host):
    before = rulesets.saves()
    host.done("enable")

    def refuse(_call, name, arguments):
        if name == "remove" and str(arguments[0]).endswith("/enabled"):
            raise DiskError("read-only", cure="mount it read-write")

    with pytest.raises(DiskError) as refused:
        switch.disable(["JP"], firewall(host.state, Counted(Disk(), refuse)))
    assert "a reboot brings them back" in refused.value.still
    assert rulesets.saves() == before


def test_disable_works_with_a_broken_configuration(host, variant):
    before = rulesets.saves()
    host.done("enable")
    host.configure("[fence")
    assert host.done("disable")["changed"] is True
    assert rulesets.saves() == before


def test_a_rehearsal_refuses_what_enable_refuses(bare):
    rulesets.make_sets("US")
    bare.configure(f'{GATE}[fence.US]\ncountries = ["US"]\n')
    assert bare("rehearse").status == bare("enable").status == 78
    bare.configure(GATE)
    bare.done("enable")
    bare.configure(f'{GATE}[fence.US]\ncountries = ["US"]\n')
    answer = bare("rehearse", "--fence", "US")
    assert (answer.status, "countries = ['JP', 'US']" in answer.err) == (78, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_rehearsal_does_not_depend_on_who_listens(bare, closed):
    command = f"{sys.executable} -m geofence --state-dir {bare.state} --config {bare.configuration}"
    command = f"{command} rehearse {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


def test_a_rehearsal_without_the_right_to_raw_sockets_says_so(bare):
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    here = ["--state-dir", str(bare.state), "--config", str(bare.configuration)]
    command = [*drop, sys.executable, "-m", "geofence", *here, "rehearse"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 77, done.stderr
    assert "CAP_NET_RAW" in done.stderr or "as root" in done.stderr


def test_a_rehearsal_shows_by_a_packet_whom_enable_would_refuse_to_shut_out(bare, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"{STRANGER} 50000 192.0.2.1 22")
    answer = bare("rehearse")
    assert answer.status == 71
    assert f"tcp to port 22 from {STRANGER} (must get in): should pass, was dropped" in answer.out
    assert bare("enable").status == 65
