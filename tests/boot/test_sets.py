"""The sh hook puts sound sets in force before the host's rules are loaded, whatever happened."""

import datetime
import os
import shutil
import subprocess

import pytest

from tests import lab
from tests.boot import booted

HOUR = datetime.timedelta(hours=1)
pytestmark = pytest.mark.usefixtures("private")


@pytest.fixture(params=booted.SHELLS)
def host(request, tmp_path):
    """Give a host with one stored generation."""
    host = booted.make(tmp_path, request.param)
    booted.store(host.state)
    return host


@pytest.fixture
def one(tmp_path):
    """Give the same, where the shell does not matter."""
    host = booted.make(tmp_path)
    booted.store(host.state)
    return host


def test_the_stored_sets_are_put_back_silently(host):
    assert host.boot("pre-start") == lab.Answer(0, "", "")
    assert booted.held() == booted.of(booted.PREFIXES)
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_what_the_sets_hold_is_replaced_while_rules_use_them(host, kernel):
    lab.run("ipset", "create", "geofence-JP-inet", "hash:net", "maxelem", "7")
    lab.run("ipset", "add", "geofence-JP-inet", "203.0.113.0/24")
    lab.run("ipset", "create", "geofence-JP-inet-next", "hash:ip")
    rule = ["-A", "INPUT", "-m", "set", "--match-set", "geofence-JP-inet", "src", "-j", "ACCEPT"]
    lab.run("iptables-nft", *rule)
    assert host.boot("pre-start") == lab.Answer(0, "", "")
    assert booted.held() == booted.of(booted.PREFIXES)
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_a_damaged_generation_is_passed_over_for_the_one_before(host):
    damaged = booted.store(host.state, booted.OLDER)
    with (damaged / "inet.ipset").open("a") as file:
        file.write("add geofence-JP-inet 0.0.0.0/1\n")
    answer = host.boot("pre-start")
    assert "the active generation is damaged; generation 1 serves" in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)


def test_a_lost_link_leads_to_the_newest_sound_generation(host):
    booted.store(host.state, booted.OLDER)
    (host.state / "JP" / "active").unlink()
    (host.state / "JP" / "10").mkdir()
    assert "generation 2 serves" in host.boot("pre-start").err
    assert booted.held() == booted.of(booted.OLDER)


def test_a_generation_newer_than_the_active_one_does_not_serve(one):
    booted.store(one.state, booted.OLDER)
    booted.store(one.state, {"inet": ["10.0.0.0/8"], "inet6": []})
    (one.state / "JP" / "active").unlink()
    (one.state / "JP" / "active").symlink_to("2")
    (one.state / "JP" / "2" / "SHA256SUMS").unlink()
    assert "generation 1 serves" in one.boot("pre-start").err


def test_what_the_kernel_does_not_hold_whole_is_not_swapped_in(one):
    one.boot("pre-start")
    booted.store(one.state, booted.OLDER)
    forgetful = one.home / "ipset"
    real = shutil.which("ipset")
    forgetful.write_text(
        f'#!/bin/sh\n[ "$1" = restore ] || exec {real} "$@"\nsed "\\$d" | exec {real} restore\n'
    )
    forgetful.chmod(0o755)
    answer = one.boot("pre-start", before=("env", f"PATH={one.home}:{os.environ['PATH']}"))
    assert answer.status == 1
    assert "1 entries were loaded, and the kernel holds 0" in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_a_staged_generation_does_not_serve(one):
    booted.store(one.state, booted.OLDER)
    (one.state / "JP" / "active").unlink()
    (one.state / "JP" / "staged").symlink_to("2")
    assert "generation 1 serves" in one.boot("pre-start").err


def test_a_file_cut_at_the_end_of_a_line_is_not_loaded(host):
    file = booted.store(host.state, booted.OLDER | {"inet": ["192.0.2.0/25", "192.0.2.128/25"]})
    lines = (file / "inet.ipset").read_text().splitlines(keepends=True)
    (file / "inet.ipset").write_text("".join(lines[:-1]))
    host.boot("pre-start")
    assert booted.held() == booted.of(booted.PREFIXES)


SMUGGLED = {
    "a-host-name": "add geofence-JP-inet www.example.net",
    "a-host-name-with-a-length": "add geofence-JP-inet www.example.net/24",
    "no-octet": "add geofence-JP-inet 192.0.2.256/24",
    "another-set": "add geofence-XX-inet 192.0.2.0/24",
    "another-command": "flush geofence-JP-inet",
    "a-second-set": "create geofence-XX-inet hash:net family inet hashsize 1024 maxelem 65536",
    "an-option": "add geofence-JP-inet 192.0.2.0/24 nomatch",
    "nothing": "",
}


@pytest.mark.parametrize("line", SMUGGLED.values(), ids=SMUGGLED)
def test_a_smuggled_line_never_reaches_ipset_although_its_digest_fits(host, line):
    smuggled = booted.store(host.state, booted.OLDER)
    with (smuggled / "inet.ipset").open("a") as file:
        file.write(f"{line}\n")
    booted.sum_up(smuggled)
    trace = host.home / "trace"
    seen = (str(shutil.which("strace")), "-f", "-qq", "-o", str(trace), "-e", "trace=socket")
    answer = host.boot("pre-start", before=seen)
    assert "generation 1 serves" in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)
    assert "AF_INET" not in trace.read_text()


def test_ipset_itself_would_have_asked_the_name_service(one):
    trace = one.home / "trace"
    command = ["strace", "-f", "-qq", "-o", trace, "-e", "trace=socket", "ipset", "restore"]
    text = f"create x hash:net\n{SMUGGLED['a-host-name'].replace('geofence-JP-inet', 'x')}\n"
    subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert "AF_INET" in trace.read_text()


@pytest.mark.parametrize(
    "first",
    [
        "create geofence-JP-inet hash:net family inet hashsize 1024 maxelem 65536 timeout 9",
        "create geofence-JP-inet hash:net family inet hashsize 1024 maxelem 65536x",
        "create geofence-JP-inet hash:net family inet hashsize  maxelem 65536",
        "create geofence-JP-inet hash:ip family inet hashsize 1024 maxelem 65536",
        "create geofence-JP-inet6 hash:net family inet hashsize 1024 maxelem 65536",
    ],
)
def test_a_first_line_of_another_form_is_not_loaded(host, first):
    other = booted.store(host.state, booted.OLDER)
    _, _, rest = (other / "inet.ipset").read_text().partition("\n")
    (other / "inet.ipset").write_text(f"{first}\n{rest}")
    booted.sum_up(other)
    host.boot("pre-start")
    assert booted.held() == booted.of(booted.PREFIXES)


def test_one_fence_that_fails_does_not_stop_the_next(host):
    booted.store(host.state, fence="AA")
    lab.run("ipset", "create", "geofence-AA-inet", "hash:ip")
    answer = host.boot("pre-start")
    assert answer.status == 1
    assert "geofence-AA-inet: " in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)
    assert lab.saved_entries("geofence-AA-inet6")
    assert "geofence-AA-inet-next" not in lab.set_names()


def test_a_list_longer_than_its_set_is_refused_and_what_was_live_stays(one):
    one.boot("pre-start")
    full = booted.store(one.state, booted.OLDER | {"inet": ["192.0.2.0/26", "192.0.2.128/26"]})
    text = (full / "inet.ipset").read_text()
    (full / "inet.ipset").write_text(text.replace("maxelem 65536", "maxelem 1"))
    booted.sum_up(full)
    assert one.boot("pre-start").status == 1
    assert booted.held()[0] == booted.of(booted.PREFIXES)[0]


MISSING = {
    "bundled": ("bundled", booted.of(booted.OLDER), "the bundled snapshot serves"),
    "trusted-only": ("trusted-only", ([], []), "only trusted addresses pass"),
    "open": ("open", booted.OPEN, "every country passes"),
    "unsaid": (None, booted.of(booted.OLDER), "the bundled snapshot serves"),
    "nonsense": ("; reboot", booted.of(booted.OLDER), "the bundled snapshot serves"),
}


@pytest.mark.parametrize(("word", "serves", "said"), MISSING.values(), ids=MISSING)
def test_where_nothing_sound_is_stored_on_missing_decides_and_is_told(host, word, serves, said):
    booted.bundle(host.state)
    (host.state / "JP" / "1" / "SHA256SUMS").unlink()
    if word:
        (host.state / "JP" / "on_missing").write_text(f"{word}\n")
    answer = host.boot("pre-start")
    assert answer.status == 1
    assert said in answer.err
    assert booted.held() == serves


def test_a_fence_that_is_enabled_has_its_sets_although_nothing_else_is_stored(tmp_path):
    host = booted.make(tmp_path)
    booted.enable(host.state)
    (host.state / "JP" / "on_missing").write_text("trusted-only\n")
    host.boot("pre-start")
    assert booted.held() == ([], [])


def test_without_a_snapshot_the_host_is_open_rather_than_closed(host):
    (host.state / "JP" / "1" / "inet.ipset").unlink()
    answer = host.boot("pre-start")
    assert answer.status == 1
    assert "nor a snapshot; every country passes" in answer.err
    assert booted.held() == booted.OPEN


def test_without_a_stored_snapshot_geofence_is_asked_for_its_own(tmp_path):
    program = tmp_path / "geofence"
    text = "".join(
        f"create geofence-JP-{family} hash:net family {family}\n" for family in ("inet", "inet6")
    )
    program.write_text(
        f"#!/bin/sh\n[ \"$*\" = '-q --state-dir {tmp_path}/state restore --fence JP' ] || exit 1\n"
        f"flock -n {tmp_path}/state/lock true || exit 1\n"
        f"printf '{text}add geofence-JP-inet 203.0.113.0/24\n' | ipset restore\n"
    )
    program.chmod(0o755)
    host = booted.make(tmp_path, geofence=str(program))
    (host.state / "JP" / "bundled").mkdir(parents=True)
    assert "put the bundled snapshot in force" in host.boot("pre-start").err
    assert booted.held() == (["203.0.113.0/24"], [])


@pytest.mark.parametrize("word", ["bundled", "trusted-only", "open"])
def test_on_missing_replaces_no_list_that_is_in_force(one, word):
    one.boot("pre-start")
    booted.bundle(one.state)
    (one.state / "JP" / "on_missing").write_text(f"{word}\n")
    (one.state / "JP" / "1" / "SHA256SUMS").unlink()
    lab.run("ipset", "destroy", "geofence-JP-inet6")
    answer = one.boot("pre-start")
    assert answer.status == 1
    assert booted.held()[0] == booted.of(booted.PREFIXES)[0]
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_a_pass_gets_what_is_left_of_its_time(host):
    booted.trust(
        host.state,
        {
            "192.0.2.1/32": None,
            "198.51.100.1/32": HOUR,
            "198.51.100.2/32": -HOUR,
            "2001:db8::1/128": 1000 * HOUR,
            "::ffff:192.0.2.1/128": None,
        },
    )
    assert host.boot("pre-start") == lab.Answer(0, "", "")
    inet, inet6 = (lab.run("ipset", "save", name) for name in booted.TRUSTED)
    assert "192.0.2.1 timeout 0" in inet
    (left,) = [line.split()[-1] for line in inet.splitlines() if "198.51.100.1" in line]
    assert 3590 <= int(left) <= 3600
    assert "198.51.100.2" not in inet
    assert "2001:db8::1 timeout 214748" in inet6


def test_damaged_trusted_addresses_leave_those_that_are_there(host):
    booted.trust(host.state, {"192.0.2.1/32": None})
    host.boot("pre-start")
    booted.trust(host.state, {"203.0.113.1/32": None})
    with (host.state / "trusted" / "inet.passes").open("a") as file:
        file.write("www.example.net 99999999999\n")
    for _ in range(2):
        answer = host.boot("pre-start")
        assert answer.status == 1
        assert "not stored soundly" in answer.err
        assert lab.saved_entries("geofence-trusted-inet") == ["192.0.2.1"]
        booted.sum_up(host.state / "trusted")
    assert booted.held() == booted.of(booted.PREFIXES)


def test_a_trusted_set_without_timeouts_is_not_loaded(host):
    booted.trust(host.state, {"192.0.2.1/32": None})
    file = host.state / "trusted" / "inet.ipset"
    file.write_text(file.read_text().replace(" timeout 0", ""))
    booted.sum_up(file.parent)
    assert "not stored soundly" in host.boot("pre-start").err
    assert "timeout 0" in lab.run("ipset", "save", "geofence-trusted-inet")


def test_where_no_state_is_there_is_nothing_to_do(tmp_path):
    host = booted.make(tmp_path)
    host.state.rmdir()
    for act in ("pre-start", "start", "stop", "status"):
        assert host.boot(act) == lab.Answer(0, "", "")
    assert lab.set_names() == []
    assert host.boot("begin").status == 2


def test_a_directory_of_another_name_is_no_fence(one):
    for name in ("cache", "JP.old", "JP JP", "ABCDEFGHIJKL"):
        (one.state / name / "bundled").mkdir(parents=True)
    assert one.boot("pre-start") == lab.Answer(0, "", "")
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_killed_at_any_time_it_leaves_whole_sets_or_none_and_the_next_run_succeeds(one):
    booted.store(one.state, {**booted.PREFIXES, "inet": [f"10.{n}.0.0/24" for n in range(250)]})
    seen = set()
    for milliseconds in range(1, 40, 2):
        lab.run("ipset", "destroy")
        # timeout kills the whole process group, ipset too
        killed = one.boot("pre-start", before=("timeout", "-s", "KILL", f"{milliseconds / 1000}"))
        there = "geofence-JP-inet" in lab.set_names()
        seen.add((there, killed.status))
        assert not there or len(lab.saved_entries("geofence-JP-inet")) == 250
        assert one.boot("pre-start").status == 0
        assert len(lab.saved_entries("geofence-JP-inet")) == 250
        assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)
    assert (False, -9) in seen


def test_two_at_once_wait_for_each_other(one):
    booted.store(one.state, {**booted.PREFIXES, "inet": [f"10.{n}.0.0/24" for n in range(250)]})
    command = [*one.command, "pre-start"]
    runs = [
        subprocess.Popen(command, env=one.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [("", 0)] * 6
    assert len(lab.saved_entries("geofence-JP-inet")) == 250
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


def test_it_costs_less_than_its_fifty_milliseconds(tmp_path):
    host = booted.make(tmp_path)
    inet = [f"10.{n >> 8}.{n & 255}.0/25" for n in range(3200)]
    booted.store(host.state, {"inet": inet, "inet6": [f"2001:{n:x}::/32" for n in range(1, 660)]})
    seconds = []
    for _ in range(9):
        lab.run("ipset", "destroy")
        started = os.times()
        assert host.boot("pre-start").status == 0
        ended = os.times()
        seconds.append(
            ended.children_user
            - started.children_user
            + ended.children_system
            - started.children_system
        )
    assert min(seconds) < 0.05  # of processor time: who else uses the machine does not count
