"""The sh hook puts the rules of enabled fences back where they are missing, and nothing else."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from geofence.model import Forward
from tests import lab
from tests.boot import booted

JUMP = "-A INPUT -j ALLOW-JP-INPUT"
pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture(params=lab.VARIANTS)
def variant(request):
    return request.param


@pytest.fixture
def host(tmp_path):
    host = booted.make(tmp_path)
    booted.store(host.state)
    return host


def both(variant, *arguments):
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program}-{variant}", *arguments)


def rules_of(variant):
    return [
        lab.run(f"{program}-{variant}-save", "-t", "filter")
        for program in ("iptables", "ip6tables")
    ]


@pytest.mark.parametrize("shell", booted.SHELLS)
def test_sets_and_rules_of_an_enabled_fence_are_put_back(tmp_path, shell, variant):
    host = booted.make(tmp_path, shell)
    booted.store(host.state)
    booted.enable(host.state, variant)
    answer = host.boot("status")
    assert answer.status == 3
    assert "the set geofence-trusted-inet6 is not there" in answer.out
    assert "JP: inet6." in answer.out
    assert host.boot("start") == lab.Answer(0, "", "")
    assert booted.held() == booted.of(booted.PREFIXES)
    assert booted.jumps(variant) == [JUMP, JUMP]
    assert host.boot("status") == lab.Answer(0, "", "")


def test_twice_is_as_good_as_once(host, variant):
    booted.enable(host.state, variant)
    host.boot("start")
    before = rules_of(variant)
    assert host.boot("start") == lab.Answer(0, "", "")
    assert [text.splitlines()[2:-1] for text in rules_of(variant)] == [
        text.splitlines()[2:-1] for text in before
    ]


def test_it_does_not_change_what_it_finds_in_place(host, variant):
    booted.enable(host.state, variant)
    host.boot("start")
    both(variant, "-I", "INPUT", "-i", "lo", "-j", "ACCEPT")
    trace = host.home / "trace"
    host.boot(
        "start", before=(str(shutil.which("strace")), "-f", "-qq", "-o", str(trace), "-e", "execve")
    )
    assert "-restore" not in trace.read_text()
    assert booted.jumps(variant) == ["-A INPUT -i lo -j ACCEPT", JUMP] * 2


def test_a_jump_alone_that_is_gone_comes_back(host, variant):
    booted.enable(host.state, variant)
    host.boot("start")
    both(variant, "-D", *JUMP.split()[1:])
    assert host.boot("status").status == 3
    assert host.boot("start").status == 0
    assert booted.jumps(variant) == [JUMP, JUMP]


def test_a_chain_of_another_body_becomes_as_it_was_enabled(host, variant):
    booted.enable(host.state, variant)
    host.boot("start")
    both(variant, "-I", "ALLOW-JP-INPUT", "-j", "ACCEPT")
    assert host.boot("status").status == 3
    host.boot("start")
    assert host.boot("status").status == 0
    assert booted.jumps(variant) == [JUMP, JUMP]


def test_a_fence_that_is_not_enabled_has_its_sets_and_no_rule(host, variant):
    assert host.boot("start") == lab.Answer(0, "", "")
    assert host.boot("pre-start") == lab.Answer(0, "", "")
    assert host.boot("status") == lab.Answer(0, "", "")
    assert booted.jumps(variant) == []


def test_stop_takes_nothing_away(host):
    booted.enable(host.state)
    host.boot("start")
    assert host.boot("stop") == lab.Answer(0, "", "")
    assert host.boot("status").status == 0


def test_a_position_that_does_not_exist_at_boot_becomes_the_first(host, variant):
    both(variant, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    booted.enable(host.state, variant, dataclasses.replace(booted.JP, position=9))
    answer = host.boot("start")
    assert answer.status == 0
    assert "it is the first rule now" in answer.err
    assert booted.jumps(variant) == [JUMP, "-A INPUT -i lo -j ACCEPT"] * 2


def test_the_position_is_kept_where_it_fits(host, variant):
    both(variant, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    booted.enable(host.state, variant, dataclasses.replace(booted.JP, position=2))
    assert host.boot("start") == lab.Answer(0, "", "")
    assert booted.jumps(variant) == ["-A INPUT -i lo -j ACCEPT", JUMP] * 2


def test_dockers_chain_is_made_where_docker_has_not_started_yet(host, variant):
    both(variant, "-N", "DOCKER-USER")
    fence = dataclasses.replace(booted.JP, forward=Forward.DOCKER_USER, outside=("eth0",))
    booted.enable(host.state, variant, fence)
    lab.empty_rules()
    assert host.boot("start") == lab.Answer(0, "", "")
    assert host.boot("start") == lab.Answer(0, "", "")
    rule = "-A DOCKER-USER -i eth0 -m conntrack --ctstate NEW -j ALLOW-JP-INPUT"
    for text in rules_of(variant):
        assert text.count(rule) == 1
        assert ":DOCKER-USER - [0:0]" in text


def test_rules_of_dockers_chain_stay(host, variant):
    both(variant, "-N", "DOCKER-USER")
    both(variant, "-A", "DOCKER-USER", "-j", "RETURN")
    fence = dataclasses.replace(booted.JP, forward=Forward.DOCKER_USER, outside=("eth0",))
    booted.enable(host.state, variant, fence)
    assert host.boot("start") == lab.Answer(0, "", "")
    assert all("-A DOCKER-USER -j RETURN" in text for text in rules_of(variant))


@pytest.mark.parametrize("line", ["-I INPUT 1 -j ACCEPT", "-P INPUT ACCEPT", ":INPUT ACCEPT [0:0]"])
def test_a_record_that_was_changed_is_not_followed(host, line):
    booted.enable(host.state)
    rules = host.state / "JP" / "enabled" / "inet.nft.rules"
    rules.write_text(rules.read_text().replace("COMMIT", f"{line}\nCOMMIT"))
    answer = host.boot("start")
    assert (answer.status, booted.jumps()) == (1, [])
    assert "the record of its being enabled is damaged" in answer.err
    booted.sum_up(host.state / "JP" / "enabled")
    answer = host.boot("start")
    assert (answer.status, booted.jumps()) == (1, [JUMP])
    assert f"not a rule of geofence's: {line}" in answer.err


def test_one_fence_whose_rules_are_refused_does_not_stop_the_next(host):
    refused = dataclasses.replace(booted.JP, name="AA")
    booted.store(host.state, fence="AA")
    booted.enable(host.state, fence=refused)
    booted.enable(host.state)
    rules = host.state / "AA" / "enabled" / "inet.nft.rules"
    rules.write_text(rules.read_text().replace("-j DROP", "-j NOWHERE"))
    booted.sum_up(rules.parent)
    answer = host.boot("start")
    assert answer.status == 1
    assert "AA: iptables-nft-restore: " in answer.err
    assert JUMP in booted.jumps()


def test_without_ipv6_the_rest_is_done(host, variant):
    switch = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    before = switch.read_text()
    try:
        switch.write_text("1")
        booted.enable(host.state, variant)
        assert host.boot("start") == lab.Answer(0, "", "")
        assert host.boot("status") == lab.Answer(0, "", "")
    finally:
        switch.write_text(before)
        lab.run("ip", "link", "set", "lo", "down")
        lab.run("ip", "link", "set", "lo", "up")


def test_where_the_kernel_knows_no_ipv6_its_rules_are_left_out(host):
    booted.enable(host.state)
    text = host.script.read_text()
    assert "/proc/net/if_inet6" in text
    host.script.write_text(text.replace("/proc/net/if_inet6", "/proc/net/no_if_inet6"))
    assert host.boot("start") == lab.Answer(0, "", "")
    assert host.boot("status") == lab.Answer(0, "", "")
    assert booted.jumps() == [JUMP]


def test_where_one_name_serves_both_variants_that_program_is_taken(host):
    booted.enable(host.state)
    programs = host.home / "programs"
    programs.mkdir()
    for name in ("iptables", "ip6tables"):
        for act in ("save", "restore"):
            (programs / f"{name}-{act}").symlink_to(f"/usr/sbin/{name}-nft-{act}")
    for name in ("ipset", "sed", "grep", "sha256sum", "flock", "readlink", "sort"):
        (programs / name).symlink_to(lab.run("sh", "-c", f"command -v {name}").strip())
    lines = host.script.read_text().splitlines()
    host.script.write_text("\n".join(line for line in lines if not line.startswith("PATH=")))
    done = subprocess.run(
        ["/bin/dash", host.script, "start"],
        env={"PATH": str(programs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert booted.jumps() == [JUMP, JUMP]
