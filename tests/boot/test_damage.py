"""Whatever was damaged in the state, a boot shuts out nobody who is trusted, and leaks nothing."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest

from geofence.disk import Disk
from geofence.trusted import Pass, Passes
from tests import lab
from tests.boot import booted

ME = "203.0.113.7/32"
ME6 = "2001:db8:7::7/128"
FAMILIES = ("inet", "inet6")
JUMP = "-A INPUT -j ALLOW-JP-INPUT"
pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture(params=booted.SHELLS)
def host(request, tmp_path):
    """Give a host with a stored list, an enabled fence, and its owner trusted in both families."""
    return enabled(booted.make(tmp_path, request.param))


@pytest.fixture
def one(tmp_path):
    """Give the same, where the shell does not matter."""
    return enabled(booted.make(tmp_path))


def enabled(host):
    booted.store(host.state)
    booted.enable(host.state)
    booted.trust(host.state, {ME: None, ME6: None})
    return host


def program(host, restore="true", start="true"):
    """Let there be a geofence, which does this when it is asked."""
    path = host.home / "geofence"
    path.write_text(
        f'#!/bin/sh\nflock -n {host.state}/lock true || exit 9\ncase "$*" in\n'
        f"'-q --state-dir {host.state} restore'*) {restore} ;;\n"
        f"'-q --state-dir {host.state} hook start') {start} ;;\n*) exit 8 ;;\nesac\n"
    )
    path.chmod(0o755)
    host.script.write_text(host.script.read_text().replace("=/nonexistent\n", f"={path}\n"))
    return host


def trusted():
    return [lab.saved_entries(name) for name in booted.TRUSTED]


def append(path, text="x\n"):
    with path.open("a") as file:
        file.write(text)


def cut(path):
    """Leave the first line alone."""
    path.write_text(path.read_text().splitlines(keepends=True)[0])


# Who is trusted


def test_damage_to_one_family_shuts_out_nobody_of_the_other(host):
    append(host.state / "trusted" / "inet.ipset")
    answer = host.boot("pre-start")
    assert answer.status == 1
    assert "the trusted addresses are not stored soundly: inet\n" in answer.err
    assert "NOBODY is trusted in inet now" in answer.err
    assert "in inet6" not in answer.err
    assert trusted() == [[], [ME6.removesuffix("/128")]]


TRUSTED_DAMAGE = {
    "a-list": lambda home: append(home / "inet.ipset"),
    "the-passes": lambda home: append(home / "inet.passes"),
    "a-list-is-gone": lambda home: (home / "inet.ipset").unlink(),
    "the-digests-are-empty": lambda home: (home / "SHA256SUMS").write_text(""),
    "the-digests-are-cut": lambda home: cut(home / "SHA256SUMS"),
    "the-digests-are-gone": lambda home: (home / "SHA256SUMS").unlink(),
    "the-link-leads-nowhere": lambda home: shutil.rmtree(home.resolve()),
    "all-is-gone": lambda home: home.unlink(),
}


@pytest.mark.parametrize("damage", TRUSTED_DAMAGE.values(), ids=TRUSTED_DAMAGE)
def test_damaged_trusted_addresses_are_told_and_those_in_the_kernel_stay(one, damage):
    one.boot("pre-start")
    before = trusted()
    damage(one.state / "trusted")
    answer = one.boot("pre-start")
    assert answer.status == 1
    assert "the trusted addresses are not stored soundly: inet" in answer.err
    assert "geofence-trusted-inet keeps its 1 addresses" in answer.err
    assert trusted() == before
    lab.empty_kernel()
    answer = one.boot("pre-start")
    assert answer.status == 1
    assert "NOBODY is trusted in inet now" in answer.err
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)


@pytest.mark.parametrize("damage", TRUSTED_DAMAGE.values(), ids=TRUSTED_DAMAGE)
def test_geofence_is_asked_for_those_it_has_from_the_configuration(one, damage, tmp_path):
    damage(one.state / "trusted")
    stored = tmp_path / "stored"
    booted.trust(stored, {ME: None, ME6: None})
    program(
        one,
        restore=f"rm -rf {one.state}/trusted; cp -rL {stored}/trusted {one.state}/trusted;"
        " ipset -exist add geofence-trusted-inet 203.0.113.7;"
        " ipset -exist add geofence-trusted-inet6 2001:db8:7::7",
    )
    answer = one.boot("pre-start")
    assert answer.status == 1
    assert "let the trusted addresses pass, and stored them anew" in answer.err
    assert "NOBODY" not in answer.err
    assert trusted() == [["203.0.113.7"], ["2001:db8:7::7"]]
    assert one.boot("pre-start") == lab.Answer(0, "", "")


def test_a_geofence_that_does_not_help_is_not_believed(one):
    append(one.state / "trusted" / "inet.ipset")
    program(one)
    assert "NOBODY is trusted in inet now" in one.boot("pre-start").err
    program(one, restore="exit 74")
    assert "NOBODY is trusted in inet now" in one.boot("pre-start").err


def test_passes_alone_tell_that_somebody_was_trusted(tmp_path):
    host = booted.make(tmp_path)
    booted.store(host.state)
    Passes(host.state, Disk()).write([Pass(prefix=ME, since=booted.now())])
    assert "NOBODY is trusted" in host.boot("pre-start").err


def test_a_link_that_leads_nowhere_tells_that_somebody_was_trusted(tmp_path):
    host = booted.make(tmp_path)
    booted.store(host.state)
    booted.trust(host.state, {ME: None})
    shutil.rmtree((host.state / "trusted").resolve())
    assert "NOBODY is trusted" in host.boot("pre-start").err


def test_where_nothing_was_ever_enabled_or_let_in_nothing_is_missing(tmp_path):
    host = booted.make(tmp_path)
    booted.store(host.state)
    assert host.boot("pre-start") == lab.Answer(0, "", "")


# Lists


GENERATION_DAMAGE = {
    "the-digests-are-cut": lambda home: cut(home / "SHA256SUMS"),
    "the-digests-are-empty": lambda home: (home / "SHA256SUMS").write_text(""),
    "a-file-is-not-listed": lambda home: (home / "inet7.ipset").touch(),
    "a-list-is-gone": lambda home: (home / "inet6.ipset").unlink(),
}


@pytest.mark.parametrize("damage", GENERATION_DAMAGE.values(), ids=GENERATION_DAMAGE)
def test_a_generation_that_is_not_whole_is_passed_over(host, damage):
    damage(booted.store(host.state, booted.OLDER))
    answer = host.boot("pre-start")
    assert (answer.status, booted.held()) == (0, booted.of(booted.PREFIXES))
    assert "the active generation is damaged; generation 1 serves" in answer.err


@pytest.mark.parametrize("damage", GENERATION_DAMAGE.values(), ids=GENERATION_DAMAGE)
def test_a_snapshot_that_is_not_whole_does_not_serve(one, damage):
    booted.bundle(one.state)
    append(one.state / "JP" / "1" / "inet.ipset")
    damage(one.state / "JP" / "bundled")
    answer = one.boot("pre-start")
    assert "nor a snapshot; every country passes" in answer.err
    assert booted.held() == booted.OPEN


def test_every_set_that_the_rules_name_is_made_though_the_list_is_of_one_family(host):
    booted.store(host.state, {"inet": booted.PREFIXES["inet"]})
    booted.bundle(host.state)
    answer = host.boot("pre-start")
    assert answer.status == 1
    assert "nothing sound is stored for geofence-JP-inet6; the bundled snapshot" in answer.err
    assert booted.held() == (booted.of(booted.PREFIXES)[0], booted.of(booted.OLDER)[1])
    assert host.boot("start").status == 0
    assert booted.jumps() == [JUMP, JUMP]


@pytest.mark.parametrize(
    ("word", "serves"),
    [("trusted-only", []), ("open", booted.OPEN[1]), ("bundled", booted.OPEN[1])],
)
def test_on_missing_decides_what_a_family_without_a_list_gets(one, word, serves):
    booted.store(one.state, {"inet": booted.PREFIXES["inet"]})
    (one.state / "JP" / "on_missing").write_text(f"{word}\n")
    assert one.boot("pre-start").status == 1
    assert booted.held() == (booted.of(booted.PREFIXES)[0], serves)


def test_a_family_of_which_not_even_the_snapshot_has_a_list_is_open_rather_than_closed(one):
    booted.store(one.state, {"inet": booted.PREFIXES["inet"]})
    booted.bundle(one.state, {"inet": booted.OLDER["inet"]})
    answer = one.boot("pre-start")
    assert answer.status == 1
    assert "no list is there for geofence-JP-inet6; every country passes" in answer.err
    assert booted.held() == (booted.of(booted.PREFIXES)[0], booted.OPEN[1])


def test_a_list_that_is_empty_is_no_list_that_is_missing(one):
    booted.store(one.state, {"inet": []})
    booted.bundle(one.state)
    one.boot("pre-start")
    assert booted.held() == ([], booted.of(booted.OLDER)[1])


def test_geofence_is_not_asked_for_a_family_that_it_has_not_either(one):
    booted.store(one.state, {"inet": booted.PREFIXES["inet"]})
    answer = program(one).boot("pre-start")
    assert "for geofence-JP-inet6, nor a snapshot; every country passes" in answer.err


# Records of enabled fences


RECORD_DAMAGE = {
    "a-file-is-longer": lambda home: append(home / "inet.nft.rules"),
    "a-file-is-gone": lambda home: (home / "inet6.nft.rules").unlink(),
    "a-file-and-its-digest-are-gone": lambda home: cut(home / "SHA256SUMS"),
    "the-digests-are-gone": lambda home: (home / "SHA256SUMS").unlink(),
    "the-link-leads-nowhere": lambda home: shutil.rmtree(home.resolve()),
}


@pytest.mark.parametrize("damage", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_a_damaged_record_is_told_and_geofence_is_asked(one, damage):
    damage(one.state / "JP" / "enabled")
    assert one.boot("pre-start") == lab.Answer(0, "", "")
    answer = one.boot("status")
    assert answer.status == 3
    assert "JP: the record of its being enabled is damaged" in answer.out
    answer = one.boot("start")
    assert answer.status == 1
    assert "JP: the record of its being enabled is damaged" in answer.err
    assert "JP: its rules are NOT in force" in answer.err
    program(one, start="iptables-nft -N ASKED")
    answer = one.boot("start")
    assert answer.status == 1
    assert "NOT in force" not in answer.err
    lab.run("iptables-nft", "-S", "ASKED")


@pytest.mark.parametrize("damage", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_both_hooks_agree_on_what_is_damaged(one, geofence, damage):
    one.boot("pre-start")
    one.boot("start")
    geofence.state = one.state
    assert (one.boot("status").status, geofence("hook", "status").status) == (0, 0)
    damage(one.state / "JP" / "enabled")
    assert (one.boot("status").status, geofence("hook", "status").status) == (3, 3)


def test_a_damaged_record_does_not_stop_the_next_fence(one):
    booted.store(one.state, fence="AA")
    booted.enable(one.state, fence=dataclasses.replace(booted.JP, name="AA"))
    append(one.state / "AA" / "enabled" / "inet.nft.rules")
    one.boot("start")
    assert booted.jumps() == [JUMP, JUMP]


# Changes that nobody has brought to an end


WAITING = {
    "pending.json": "nobody confirmed is to be taken back",
    "reverting.json": "nobody confirmed is to be taken back",
    "confirmed.json": "was confirmed, but not recorded",
}


@pytest.mark.parametrize(("name", "said"), WAITING.items())
def test_a_change_without_its_end_is_told_where_geofence_is_not_there(one, name, said):
    (one.state / name).write_text(json.dumps({}))
    answer = one.boot("start")
    assert answer.status == 1
    assert f"{one.state}/{name}: a change" in answer.err
    assert said in answer.err
    assert booted.jumps() == [JUMP, JUMP]


@pytest.mark.parametrize("name", WAITING)
def test_a_change_without_its_end_is_left_to_geofence(one, name):
    (one.state / name).write_text(json.dumps({}))
    program(one, start=f"rm {one.state}/{name}")
    assert one.boot("start") == lab.Answer(0, "", "")
    assert not (one.state / name).exists()


# With geofence itself


@pytest.fixture
def helped(one):
    """Give a host with the real program."""
    path = one.home / "geofence"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m geofence "$@"\n')
    path.chmod(0o755)
    one.script.write_text(one.script.read_text().replace("=/nonexistent\n", f"={path}\n"))
    passes = [Pass(prefix=prefix, since=booted.now()) for prefix in (ME, ME6)]
    Passes(one.state, Disk()).write(passes)
    return one


@pytest.mark.parametrize("damage", TRUSTED_DAMAGE.values(), ids=TRUSTED_DAMAGE)
def test_who_is_let_in_by_hand_passes_again_whatever_was_damaged(helped, damage):
    damage(helped.state / "trusted")
    answer = helped.boot("pre-start")
    assert answer.status == 1
    assert "let the trusted addresses pass, and stored them anew" in answer.err
    assert trusted() == [["203.0.113.7"], ["2001:db8:7::7"]]
    assert helped.boot("pre-start") == lab.Answer(0, "", "")


@pytest.mark.parametrize("name", ["inet.nft.rules", "inet6.nft.rules"])
@pytest.mark.parametrize("damage", [append, Path.unlink])
def test_rules_whose_files_are_damaged_come_back_from_the_record(helped, name, damage):
    damage(helped.state / "JP" / "enabled" / name)
    assert helped.boot("pre-start") == lab.Answer(0, "", "")
    assert helped.boot("start").status == 1
    assert booted.jumps() == [JUMP, JUMP]
