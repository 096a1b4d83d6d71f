"""What defeats a fence is found, and its cure cures it; a sound host has nothing to hear."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from geofence import locks
from geofence.doctor.anybody import concerns_anybody
from tests import lab

ROOT = Path(__file__).resolve().parents[1]
STATE = "var/lib/geofence"
SETS = ("geofence-LI-inet", "geofence-LI-inet6")


class Host:
    """A host with an enabled fence, its files below a directory of the test's own."""

    def __init__(self, root, capsys, variant):
        self.root, self.variant = root, variant
        self.state = root / STATE
        self.configuration = root / "etc/geofence/geofence.toml"
        self._geofence = lab.Geofence(self.state, capsys)
        self.configure()

    def configure(self, fence="", head=""):
        text = f'{head}\n[fence.LI]\ncountries = ["LI"]\nsource = "bundled"\n{fence}\n'
        self.write("etc/geofence/geofence.toml", text)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def __call__(self, *arguments):
        return self._geofence("--config", self.configuration, *arguments)

    def does(self, *arguments):
        """Run geofence; it has to succeed."""
        answer = self(*arguments)
        assert answer.status == 0, answer.err
        return answer

    def enable(self):
        return self.does("enable", "--without-rehearsal")

    def repair(self):
        return self.does("repair", "--without-rehearsal")

    def tables(self, rule, *, six=True, variant=""):
        """Run iptables and ip6tables."""
        for program in ("iptables", "ip6tables") if six else ("iptables",):
            lab.run(f"{program}-{variant or self.variant}", "-w", *rule.split())

    def findings(self):
        answer = self("doctor", "--root", self.root, "--json")
        assert answer.status == (1 if answer.document.get("findings") else 0), (
            answer.out + answer.err
        )
        return {one["id"]: one for one in answer.document["findings"]}

    def ids(self):
        return set(self.findings())


def make_root(root):
    """Make a host's files: one that runs systemd, and whose network this is."""
    for process in ("self", "1"):
        (root / f"proc/{process}/ns").mkdir(parents=True)
        (root / f"proc/{process}/ns/net").symlink_to("net:[4026531833]")
    (root / "proc/net").symlink_to("/proc/net")
    (root / "proc/sys").symlink_to("/proc/sys")
    (root / "lib/systemd").mkdir(parents=True)
    (root / "lib/systemd/systemd").touch()
    return root


@pytest.fixture
def bare(tmp_path, capsys, kernel):
    """Give a host whose fence is stored, and not enabled."""
    host = Host(make_root(tmp_path / "root"), capsys, "nft")
    host.does("update")
    yield host
    lab.run("nft", "flush", "ruleset")
    for act in ("-t nat -F", "-t nat -X", "-t raw -F", "-t raw -X"):
        host.tables(act, variant="legacy")


@pytest.fixture(params=lab.VARIANTS)
def host(bare, request):
    """Give a host whose fence is enabled and comes back, in either variant."""
    return enabled(bare, request.param)


@pytest.fixture
def modern(bare):
    """Give a host whose fence is enabled and comes back."""
    return enabled(bare, "nft")


def enabled(host, variant):
    host.variant = variant
    host.tables("-A INPUT -i lo -j ACCEPT")
    host.enable()
    host.does("install", "--root", host.root)
    return host


@pytest.fixture
def allowing(bare):
    """Give a host with a fence of style allow, as hosts with a RH-Firewall-1-INPUT have it."""
    bare.tables("-N RH-Firewall-1-INPUT")
    bare.tables("-A RH-Firewall-1-INPUT -p tcp --dport 22 -j ACCEPT")
    bare.tables("-A RH-Firewall-1-INPUT -j REJECT")
    bare.tables("-A INPUT -j RH-Firewall-1-INPUT")
    bare.configure('style = "allow"\ntarget = "ACCEPT"')
    bare.enable()
    bare.does("install", "--root", bare.root)
    return bare


def test_a_sound_host_has_nothing_to_hear(host):
    answer = host("doctor", "--root", host.root)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == "nothing found that defeats LI, now or after a reboot\n"


def test_a_sound_host_of_style_allow_has_nothing_to_hear(allowing):
    assert allowing.ids() == set()


def test_a_host_without_a_fence_has_nothing_to_hear(geofence, kernel, tmp_path):
    answer = geofence("doctor", "--root", make_root(tmp_path / "root"))
    assert (answer.status, answer.out) == (0, "nothing is wrong; and no fence is enabled\n")


def test_a_finding_is_told_with_its_cure(host):
    host.tables("-D INPUT -j ALLOW-LI-INPUT", six=False)
    answer = host("doctor", "--root", host.root)
    assert answer.status == 1
    assert answer.out.splitlines() == [
        f"LI: iptables ({host.variant}): 0 of 1 rules lead to its chain",
        "  cure: geofence repair",
    ]
    finding = host.findings()["jump-missing"]
    assert (finding["fence"], finding["when"]) == ("LI", "now")


def test_the_page_names_every_finding():
    code = "".join(path.read_text() for path in (ROOT / "geofence/doctor").glob("*.py"))
    made = set(re.findall(r"""(?:\bid=|_at_boot\(\s*)"([a-z0-9-]+)\"""", code))
    rows = re.findall(r"^\|.*", (ROOT / "docs/how-to/doctor.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([a-z0-9-]+)`", "".join(rows))) == made | {
        "behind-accept",
        "behind-drop",
    }


def test_without_permission_it_says_so(geofence, kernel):
    assert lab.without_privileges(geofence.state, "doctor").status == 77


# Sets


def destroy_set(host):
    host.tables("-F INPUT")
    host.tables("-F ALLOW-LI-INPUT")
    lab.run("ipset", "destroy", SETS[0])


def a_foreign_set(host):
    destroy_set(host)
    lab.run("ipset", "create", SETS[0], "hash:ip")


@pytest.mark.parametrize(
    ("provoke", "found"),
    [
        pytest.param(destroy_set, "set-missing", id="missing"),
        pytest.param(lambda _: lab.run("ipset", "flush", SETS[1]), "set-empty", id="empty"),
        pytest.param(
            lambda _: lab.run("ipset", "add", SETS[0], "203.0.113.0/24"), "set-drift", id="drift"
        ),
        pytest.param(
            lambda host: host.tables("-F ALLOW-LI-INPUT"), "set-unreferenced", id="unreferenced"
        ),
    ],
)
def test_a_set_that_is_not_as_it_should_be_is_found(provoke, found, modern):
    provoke(modern)
    assert found in modern.ids()
    modern.repair()
    assert modern.ids() == set()


def test_a_set_of_another_kind_is_found(modern):
    a_foreign_set(modern)
    assert "set-foreign" in modern.ids()
    lab.run("ipset", "destroy", SETS[0])
    modern.does("restore")
    modern.repair()
    assert modern.ids() == set()


def test_a_set_that_no_rule_asks_is_found(bare):
    assert bare.ids() == {"set-unreferenced"}
    bare.enable()
    assert bare.ids() == {"not-back"}


def test_a_list_that_is_not_sound_is_found(modern):
    (modern.state / "LI/1/inet.ipset").write_text("create")
    assert modern.ids() >= {"stored-damaged"}
    modern.does("update")
    assert modern.ids() == set()


def test_a_staging_set_is_found_but_not_while_it_is_filled(modern):
    lab.run("ipset", "create", f"{SETS[0]}-next", "hash:net")
    finding = modern.findings()["staging"]
    with locks.writer(modern.state):
        assert modern.ids() == set()
    lab.run(*finding["cure"].split())
    assert modern.ids() == set()


def test_who_should_be_trusted_and_is_not_is_found(modern):
    modern.does("trust", "203.0.113.7")
    lab.run("ipset", "flush", "geofence-trusted-inet")
    assert modern.findings()["trusted-missing"]["what"].endswith("203.0.113.7/32")
    modern.repair()
    assert modern.ids() == set()


def test_a_chain_without_a_rule_for_the_trusted_is_found(allowing):
    allowing.does("trust", "203.0.113.7")
    assert allowing.ids() == {"trusted-unheeded"}
    allowing.repair()
    assert allowing.ids() == set()


# Chain and jump


CHANGES = [  # of the fence's own rules, and what is found then
    ("-D INPUT -j ALLOW-LI-INPUT", "jump-missing"),
    ("-I INPUT -j ALLOW-LI-INPUT", "jump-missing"),
    ("-D INPUT -j ALLOW-LI-INPUT; -F ALLOW-LI-INPUT; -X ALLOW-LI-INPUT", "chain-missing"),
    ("-D ALLOW-LI-INPUT -j DROP", "chain-changed"),
    ("-I ALLOW-LI-INPUT -j ACCEPT", "chain-changed"),
]


@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_a_chain_that_is_not_as_it_was_put_there_is_found(program, host):
    for rules, found in CHANGES:
        for rule in rules.split("; "):
            lab.run(f"{program}-{host.variant}", "-w", *rule.split())
        assert found in host.ids(), rules
        host.repair()
        assert host.ids() == set(), rules


FOR_EVERYBODY = [
    "-I INPUT -j ACCEPT",
    "-I INPUT -i eth0 -j ACCEPT",
    "-I INPUT -p tcp -j ACCEPT",
    "-I INPUT -m conntrack --ctstate NEW -j ACCEPT",
    "-N PRE; -A PRE -j ACCEPT; -I INPUT -j PRE",
    "-I INPUT -j RETURN",
]


def test_a_jump_behind_a_rule_that_lets_everybody_in_is_found(host):
    for rules in FOR_EVERYBODY:
        for rule in rules.split("; "):
            host.tables(rule)
        assert host.ids() == {"behind-accept"}, rules
        host.repair()
        assert host.ids() == set(), rules


FOR_FEW = [
    "-I INPUT -i lo -j ACCEPT",
    "-I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-I INPUT -m state --state ESTABLISHED -j ACCEPT",
    "-I INPUT -p tcp --dport 80 -j ACCEPT",
    "-I INPUT -i wg0 -j ACCEPT",
    "-I INPUT -j LOG",
    "-I INPUT -j RETURN -p gre",
    "-A INPUT -j ACCEPT",
]


def test_rules_before_the_jump_that_let_few_in_are_no_finding(modern):
    for rule in FOR_FEW:
        modern.tables(rule)
        assert modern.ids() == set(), rule


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("-j ACCEPT", True),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", True),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", False),
        ('-m comment --comment "it\'s me" -j ACCEPT', True),
        ("! -s 203.0.113.0/24 -j ACCEPT", True),
        ("-s 203.0.113.0/24 -j ACCEPT", False),
        ("-s 0.0.0.0/1 -j ACCEPT", True),
        ("-d 192.0.2.1/32 -j ACCEPT", True),
        ("-d 224.0.0.0/4 -j ACCEPT", False),
        ("-d 127.0.0.0/8 -j ACCEPT", False),
        ("! -i lo -j ACCEPT", True),
        ("! -i eth0 -j ACCEPT", False),
        ("-i eth+ -j ACCEPT", True),
        ("-i eth1 -j ACCEPT", False),
        ("-p icmp -j ACCEPT", False),
        ("-p udp -j ACCEPT", True),
        ("-m conntrack ! --ctstate INVALID -j ACCEPT", True),
        ("-m conntrack ! --ctstate NEW -j ACCEPT", False),
        ("-m conntrack --ctstate INVALID -j DROP", False),
        ("-m set --match-set office src -j ACCEPT", False),
        ("-m addrtype --dst-type LOCAL -j ACCEPT", True),
        ("-m addrtype --dst-type BROADCAST -j ACCEPT", False),
        ("-m limit --limit 25/sec -j ACCEPT", True),
        ("-m mark --mark 0x1 -j ACCEPT", False),
        ("-f -j ACCEPT", False),
        ("-m multiport --dports 22,80 -j ACCEPT", False),
        ("-j REJECT --reject-with icmp-host-prohibited", True),
    ],
)
def test_whom_a_rule_concerns_is_read_from_it(rule, answer):
    assert concerns_anybody(rule, frozenset({"eth0"})) is answer


def test_a_jump_of_forwarded_traffic_behind_a_rule_that_lets_everybody_in_is_found(modern):
    modern.configure('forward = "FORWARD"\noutside = ["eth0"]')
    modern.enable()
    modern.tables("-I FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    modern.tables("-I FORWARD -i docker0 -j ACCEPT")
    assert modern.ids() == set()
    modern.tables("-I FORWARD -i eth0 -j ACCEPT")
    assert modern.ids() == {"behind-accept"}
    modern.repair()
    assert modern.ids() == set()


def test_a_jump_that_was_asked_for_behind_such_a_rule_is_found(bare):
    bare.tables("-A INPUT -j ACCEPT")
    bare.configure("position = 2")
    bare.enable()
    assert "set position = 1" in bare.findings()["behind-accept"]["cure"]
    bare.configure("position = 1")
    bare.enable()
    assert bare.ids() == {"not-back"}


def test_a_chain_that_is_not_known_to_be_enabled_is_found(modern):
    (modern.state / "LI/enabled").unlink()
    assert modern.ids() == {"not-recorded"}
    modern.enable()
    assert modern.ids() == set()


def test_a_jump_of_another_tool_is_found(host):
    host.tables("-N theirs", six=False)
    host.tables("-A theirs -s 203.0.113.0/24 -j ALLOW-LI-INPUT", six=False)
    finding = host.findings()["foreign-jump"]
    host.tables(finding["cure"].removeprefix("take it out: "), six=False)
    assert host.ids() == set()


def test_a_chain_in_both_variants_is_found(host):
    other = {"nft": "legacy", "legacy": "nft"}[host.variant]
    host.tables("-N ALLOW-LI-INPUT", variant=other)
    assert host.ids() == {"chain-twice", "both-variants"}
    host.does("disable")
    host.enable()
    assert "chain-twice" not in host.ids()


def test_rules_in_both_variants_are_found(host):
    other = {"nft": "legacy", "legacy": "nft"}[host.variant]
    host.tables("-A INPUT -p tcp --dport 25 -j DROP", variant=other)
    assert host.ids() == {"both-variants"}
    host.tables("-F INPUT", variant=other)
    assert host.ids() == set()


# Style allow


def test_an_allowing_fence_where_nothing_drops_is_found(allowing):
    allowing.tables("-D RH-Firewall-1-INPUT -j REJECT")
    assert allowing.ids() == {"nothing-drops"}
    allowing.tables("-P INPUT DROP")
    assert allowing.ids() == set()


def test_an_allowing_fence_behind_a_rule_that_drops_everybody_is_found(allowing):
    allowing.tables("-I INPUT -j DROP")
    assert allowing.ids() == {"behind-drop"}
    allowing.repair()
    assert allowing.ids() == set()


# Other programs


NATIVE = [
    "type filter hook input priority 10; policy drop;",
    "type filter hook input priority 10; counter drop;",
    "type filter hook prerouting priority 0; reject;",
    "type filter hook input priority 10; jump inner;",
]


def test_a_native_table_that_drops_is_found(modern):
    for chain in NATIVE:
        text = f"table inet mine {{ chain inner {{ drop; }}\nchain outer {{ {chain} }}\n}}"
        lab.run("nft", "-f", "-", stdin=text)
        finding = modern.findings()["other-table-drops"]
        assert finding["cure"].endswith("nft list table inet mine"), chain
        lab.run("nft", "delete", "table", "inet", "mine")
        assert modern.ids() == set()


def test_a_native_table_that_drops_a_few_is_no_finding(modern):
    rules = "ip saddr 203.0.113.0/24 drop; tcp dport 25 reject;"
    text = f"table inet mine {{ chain outer {{ type filter hook input priority 10; {rules} }}\n}}"
    lab.run("nft", "-f", "-", stdin=text)
    assert modern.ids() == set()


def test_another_table_of_iptables_that_drops_is_found(host):
    host.tables("-t raw -A PREROUTING -i eth0 -j DROP")
    assert host.ids() == {"other-table-drops"}
    host.tables("-t raw -F PREROUTING")
    assert host.ids() == set()


def test_connections_that_are_not_tracked_are_found(host):
    host.tables("-t raw -A PREROUTING -p tcp -j NOTRACK")
    assert host.ids() == {"untracked"}
    host.tables("-t raw -F PREROUTING")
    assert host.ids() == set()


def test_a_kernel_that_tracks_nothing_is_found(modern):
    (modern.root / "proc/sys").unlink()
    assert modern.ids() == {"conntrack"}


def docker(host):
    for rule in (
        "-t nat -N DOCKER",
        "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-N DOCKER",
        "-N DOCKER-USER",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -o docker0 -j DOCKER",
    ):
        host.tables(rule)
    publish = "-t nat -A DOCKER ! -i docker0 -p tcp --dport 80 -j DNAT --to-destination"
    host.tables(f"{publish} 172.17.0.2:80", six=False)
    accept = "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT"
    host.tables(accept, six=False)


def test_published_ports_of_containers_are_found(host):
    docker(host)
    finding = host.findings()["forwarded"]
    assert finding["cure"].startswith('set forward = "DOCKER-USER" and outside = ["eth0"]')
    host.configure('forward = "DOCKER-USER"\noutside = ["eth0"]')
    assert host.ids() == {"forwarded", "configuration-differs"}
    host.enable()
    assert host.ids() == set()


def test_docker_without_published_ports_is_no_finding(modern):
    docker(modern)
    modern.tables("-t nat -F DOCKER")
    modern.tables("-F DOCKER")
    assert modern.ids() == set()


def test_an_owner_is_found_in_the_kernel(host):
    host.tables("-N shorewall")
    assert host.ids() == {"owner"}
    host.tables("-X shorewall")
    assert host.ids() == set()


def test_rules_that_cannot_be_read_are_found(modern, tmp_path, monkeypatch):
    modern.write("bin/ip6tables-legacy-save", "#!/bin/sh\necho cannot open >&2\nexit 1\n")
    (modern.root / "bin/ip6tables-legacy-save").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(modern.root / "bin"), prepend=os.pathsep)
        assert "cannot open" in modern.findings()["unreadable"]["what"]
    assert modern.ids() == set()


def test_ipv6_that_is_open_is_found(bare):
    bare.configure('families = ["inet"]')
    bare.does("update")
    bare.enable()
    bare.does("install", "--root", bare.root)
    with _address("fd00::1"):
        assert bare.ids() == set()
    with _address("2001:db8::1"):
        assert bare.ids() == {"ipv6-open"}
        bare.configure()
        bare.does("update")
        bare.enable()
        bare.does("install", "--root", bare.root)
        assert bare.ids() == set()


@contextlib.contextmanager
def _address(text):
    lab.run("ip", "address", "add", f"{text}/128", "dev", "lo", "nodad")
    try:
        yield
    finally:
        lab.run("ip", "address", "del", f"{text}/128", "dev", "lo")


# The next boot


def test_a_fence_that_does_not_come_back_is_found(bare):
    bare.enable()
    finding = bare.findings()["not-back"]
    assert (finding["cure"], finding["when"]) == ("geofence install", "reboot")
    bare.does("install", "--root", bare.root)
    assert bare.ids() == set()


def test_an_owner_that_starts_at_boot_is_found(modern):
    for unit in ("firewalld", "shorewall6", "csf"):
        wants = modern.root / f"etc/systemd/system/multi-user.target.wants/{unit}.service"
        wants.symlink_to(f"/lib/systemd/system/{unit}.service")
        assert modern.ids() == {"owner-starts"}, unit
        wants.unlink()
        assert modern.ids() == set()


def test_an_owner_that_a_sysv_init_starts_is_found_unless_it_is_masked(modern):
    modern.write("etc/rc3.d/S99apf", "")
    assert modern.ids() == {"owner-starts"}
    (modern.root / "etc/systemd/system/apf.service").symlink_to(os.devnull)
    assert modern.ids() == set()


def test_a_ufw_that_does_not_call_geofence_is_found(modern):
    modern.write("etc/systemd/system/multi-user.target.wants/ufw.service", "")
    modern.write("etc/ufw/before.init", "#!/bin/sh\n")
    modern.write("etc/ufw/ufw.conf", "ENABLED=no\n")
    assert modern.ids() == set()
    modern.write("etc/ufw/ufw.conf", "ENABLED=yes\n")
    assert modern.ids() == {"ufw-starts"}
    modern.does("install", "--root", modern.root)
    assert modern.ids() == set()


def test_an_nftables_service_that_empties_everything_is_found(modern):
    modern.write("etc/systemd/system/sysinit.target.wants/nftables.service", "")
    modern.write("etc/nftables.conf", "#!/usr/sbin/nft -f\n\nflush ruleset\n")
    assert modern.ids() == {"nftables-flushes"}
    modern.write("etc/nftables.conf", "#!/usr/sbin/nft -f\n# flush ruleset\nflush table inet x\n")
    assert modern.ids() == set()


def saved(host, program="iptables"):
    return lab.run(f"{program}-{host.variant}-save")


@pytest.mark.parametrize("path", ["etc/iptables/rules.v4", "etc/sysconfig/iptables"])
def test_saved_rules_that_name_a_set_nothing_makes_before_are_found(path, bare):
    bare.enable()
    bare.write(path, saved(bare))
    assert bare.ids() == {"not-back", "saved-names-set"}
    bare.does("install", "--root", bare.root)
    assert bare.ids() == set()


def test_saved_rules_that_another_program_loads_than_the_one_that_calls_geofence_are_found(modern):
    modern.write("etc/iptables/rules.v4", saved(modern))
    modern.write("etc/systemd/system/multi-user.target.wants/netfilter-persistent.service", "")
    (modern.root / "usr/share/netfilter-persistent/plugins.d").mkdir(parents=True)
    assert modern.ids() == {"saved-names-set"}
    modern.does("install", "--root", modern.root)
    assert modern.ids() == set()


def test_a_host_whose_iptables_is_gone_is_found(modern, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("geofence.programs._DIRECTORIES", ())
        patched.setenv("PATH", str(modern.root / "bin"))
        assert "chain-missing" in modern.ids()


def test_saved_rules_without_the_chain_are_found(bare):
    bare.write("etc/iptables/rules.v6", saved(bare, "ip6tables"))
    bare.write("etc/iptables/rules.v4", "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    bare.enable()
    assert bare.ids() == {"not-back", "saved-lacks-chain"}
    bare.does("install", "--root", bare.root)
    assert bare.ids() == set()


def test_saved_rules_that_bring_a_disabled_fence_back_are_found(modern):
    modern.write("etc/iptables/rules.v4", saved(modern))
    assert modern.ids() == set()
    modern.does("disable")
    assert "saved-has-chain" in modern.ids()
    modern.write("etc/iptables/rules.v4", saved(modern))
    assert modern.ids() == {"set-unreferenced"}


def test_a_saved_staging_set_is_found(modern):
    live, staging = f"create {SETS[0]} hash:net\n", f"create {SETS[0]}-next hash:net\n"
    for path in ("etc/iptables/ipsets", "etc/ipset.conf", "etc/sysconfig/ipset.d/x.set"):
        modern.write(path, live + staging)
        assert modern.findings()["saved-staging"]["when"] == "reboot", path
        modern.write(path, live)
        assert modern.ids() == set()


# State, configuration, place


def test_a_configuration_with_a_typo_is_a_finding(modern):
    modern.configure(head='trustd = ["203.0.113.7"]')
    findings = modern.findings()
    assert set(findings) == {"configuration"}
    assert "did you mean trusted?" in findings["configuration"]["what"]
    modern.configure()
    assert modern.ids() == set()


def test_a_file_of_trusted_addresses_that_is_not_there_is_a_finding(modern):
    modern.configure(head='trusted = ["@office.txt"]')
    assert "office.txt" in modern.findings()["configuration"]["what"]


def test_damaged_passes_are_a_finding(modern):
    (modern.state / "passes.json").write_text("[")
    assert "passes.json" in modern.findings()["configuration"]["what"]


def test_a_configuration_that_is_not_in_force_is_found(modern):
    modern.configure('private = "judge"')
    assert modern.ids() == {"configuration-differs"}
    modern.enable()
    assert modern.ids() == set()


def test_a_state_that_others_can_write_is_found(modern):
    (modern.state / "LI").chmod(0o777)
    finding = modern.findings()["writable"]
    subprocess.run(finding["cure"], shell=True, check=True)
    assert modern.ids() == set()


def test_another_network_than_the_hosts_is_found(modern):
    other = modern.root / "proc/1/ns/net"
    other.unlink()
    other.symlink_to("net:[4026532000]")
    assert modern.ids() == {"namespace"}


def test_a_change_that_waits_is_found(bare):
    bare.does("enable", "--without-rehearsal", "--confirm", "600")
    assert bare.ids() == {"waiting"}
    bare.does("confirm")
    bare.does("install", "--root", bare.root)
    assert bare.ids() == set()


@pytest.mark.parametrize("boot", ["another", "this"])
def test_a_change_that_should_have_been_taken_back_is_found(bare, boot):
    bare.does("enable", "--without-rehearsal", "--confirm", "600")
    change = json.loads((bare.state / "pending.json").read_text())
    changed = {"boot": "another"} if boot == "another" else {"deadline": 1.0}
    (bare.state / "pending.json").write_text(json.dumps({**change, **changed}))
    finding = bare.findings()["overdue"]
    assert finding["cure"].startswith("geofence restore brings the old rules back; ")
    bare.does("restore")
    assert bare.ids() == {"set-unreferenced"}


def test_a_change_that_was_confirmed_and_is_not_recorded_is_found(bare):
    bare.does("enable", "--without-rehearsal", "--confirm", "600")
    (bare.state / "pending.json").rename(bare.state / "confirmed.json")
    assert bare.ids() == {"unrecorded"}
    bare.does("confirm")
    bare.does("install", "--root", bare.root)
    assert bare.ids() == set()


def test_an_enabled_fence_that_is_not_configured_is_found(modern):
    text = modern.configuration.read_text()
    modern.configuration.write_text(text.replace("LI", "AD"))
    finding = modern.findings()["not-configured"]
    assert finding["cure"].endswith("or: geofence disable --fence LI")
    modern.configuration.write_text("")
    assert modern.ids() == set()
    modern.configuration.write_text(text.replace("LI", "AD"))
    modern.does("disable", "--fence", "LI")
    assert "not-configured" not in modern.ids()


# What is stored for the next boot


def damaged(path):
    with path.open("a") as file:
        file.write("x\n")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda home: damaged(home / "inet.ipset"), id="list"),
        pytest.param(lambda home: (home / "inet6.passes").unlink(), id="passes"),
        pytest.param(lambda home: (home / "SHA256SUMS").write_text(""), id="digests"),
        pytest.param(lambda home: home.unlink(), id="all"),
    ],
)
def test_damaged_trusted_addresses_are_found(damage, modern):
    modern.configure(head='trusted = ["203.0.113.7"]')
    modern.repair()
    assert modern.ids() == set()
    damage(modern.state / "trusted")
    assert modern.ids() == {"trusted-not-stored"}
    modern.does("restore")
    assert modern.ids() == set()


def test_trusted_addresses_that_are_not_those_configured_are_found(modern):
    modern.does("trust", "203.0.113.8", "--for", "2h")
    modern.repair()
    assert modern.ids() == set()
    before = (modern.state / "trusted").resolve()
    shutil.copytree(before, modern.root / "before")
    modern.does("trust", "2001:db8::1")
    (modern.state / "trusted").unlink()
    shutil.copytree(modern.root / "before", modern.state / "trusted")
    finding = modern.findings()["trusted-not-stored"]
    assert "those of IPv6 are others" in finding["what"]
    modern.does("restore")
    assert modern.ids() == set()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda home: damaged(home / "inet.nft.rules"), id="rules"),
        pytest.param(lambda home: damaged(home / "enabled.json"), id="record"),
        pytest.param(lambda home: (home / "inet6.nft.rules").unlink(), id="rules-gone"),
        pytest.param(lambda home: (home / "SHA256SUMS").unlink(), id="digests-gone"),
        pytest.param(lambda home: (home / "more").touch(), id="one-more"),
        pytest.param(lambda home: shutil.rmtree(home.resolve()), id="all-gone"),
    ],
)
def test_a_damaged_record_of_an_enabled_fence_is_found(damage, modern):
    damage(modern.state / "LI/enabled")
    finding = modern.findings()["record-damaged"]
    assert (finding["cure"], finding["when"]) == ("geofence enable --fence LI", "reboot")
    modern.does("enable", "--fence", "LI", "--without-rehearsal")
    assert modern.ids() == set()


def test_a_fence_of_which_nothing_would_be_left_but_nobody_trusted_is_found(modern):
    modern.configure('on_missing = "trusted-only"')
    modern.does("install", "--root", modern.root)
    assert modern.ids() == {"nobody-trusted"}
    modern.does("trust", "203.0.113.7")
    modern.repair()
    assert modern.ids() == set()


def test_a_set_that_on_missing_has_emptied_is_filled_by_an_update(modern):
    modern.configure('on_missing = "trusted-only"')
    (modern.state / "LI/1/inet.ipset").write_text("create")
    modern.tables("-F INPUT")
    modern.tables("-F ALLOW-LI-INPUT")
    lab.run("ipset", "destroy", SETS[0])
    lab.run("ipset", "destroy", SETS[1])
    modern.does("restore")
    assert modern.findings()["set-empty"]["cure"] == "geofence update"
    modern.does("update")
    assert "set-empty" not in modern.ids()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        pytest.param(lambda state: damaged(state / "LI/bundled/inet.ipset"), "snapshot", id="list"),
        pytest.param(lambda state: (state / "LI/bundled").unlink(), "snapshot", id="snapshot"),
        pytest.param(lambda state: (state / "LI/on_missing").unlink(), "on-missing", id="policy"),
        pytest.param(
            lambda state: (state / "LI/on_missing").write_text("open\n"), "on-missing", id="another"
        ),
        pytest.param(
            lambda state: (state / "installed.json").write_text("{"),
            "installed-damaged",
            id="record",
        ),
    ],
)
def test_what_install_stored_and_is_not_there_any_more_is_found(damage, found, modern):
    damage(modern.state)
    finding = modern.findings()
    assert set(finding) == {found}
    assert finding[found]["cure"] == "geofence install"
    modern.does("install", "--root", modern.root)
    assert modern.ids() == set()


@pytest.mark.parametrize(
    "path", ["usr/local/lib/geofence/boot", "etc/systemd/system/geofence-boot.service"]
)
def test_an_edited_boot_file_goes_before_it_is_installed_again(path, modern):
    (modern.root / path).write_text("# mine\n")
    finding = modern.findings()["not-back"]
    assert finding["cure"] == f"remove /{path}, which was changed; then: geofence install"
    (modern.root / path).unlink()
    modern.does("install", "--root", modern.root)
    assert modern.ids() == set()


def test_the_findings_of_one_fence_can_be_asked_for(modern):
    (modern.state / "LI").chmod(0o777)
    modern.tables("-F INPUT")
    answer = modern("doctor", "--root", modern.root, "--fence", "LI", "--json")
    assert {one["fence"] for one in answer.document["findings"]} == {"", "LI"}
    assert modern("doctor", "--fence", "XX").status == 2
