"""``geofence hook`` keeps the promises of the sh hook, and ``restore`` follows on_missing."""

import dataclasses
import datetime
import subprocess
import sys

import pytest

from geofence import missing
from geofence.disk import Disk
from geofence.model import Forward
from geofence.sources import bundled
from tests import lab
from tests.boot import booted

JUMP = "-A INPUT -j ALLOW-JP-INPUT"
HOUR = datetime.timedelta(hours=1)
pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def state(geofence):
    """Give a state directory with one generation."""
    booted.store(geofence.state)
    return geofence.state


def config(tmp_path, text):
    path = tmp_path / "geofence.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_sets_and_rules_of_an_enabled_fence_are_put_back(state, geofence, variant):
    booted.enable(state, variant)
    answer = geofence("hook", "status")
    assert answer.status == 3
    assert "the set geofence-JP-inet6 is not there" in answer.err
    assert geofence("hook", "start") == lab.Answer(0, "", "")
    assert booted.held() == booted.of(booted.PREFIXES)
    assert booted.jumps(variant) == [JUMP, JUMP]
    assert geofence("hook", "status") == lab.Answer(0, "", "")
    assert geofence("hook", "stop") == lab.Answer(0, "", "")
    assert booted.jumps(variant) == [JUMP, JUMP]


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_both_hooks_agree_on_what_is_in_place(tmp_path, geofence, variant):
    host = booted.make(tmp_path)
    booted.store(host.state)
    booted.enable(host.state, variant)
    geofence("hook", "start")
    assert host.boot("status") == lab.Answer(0, "", "")
    lab.empty_kernel()
    host.boot("start")
    assert geofence("hook", "status") == lab.Answer(0, "", "")


def test_enable_ends_by_saying_whether_a_reboot_brings_it_back(state, geofence):
    geofence("restore")
    answer = geofence("enable", "--without-rehearsal", "--json")
    assert answer.document["reboot"] == {"back": False, "by": "", "cure": "geofence install"}
    assert (state / "JP" / "on_missing").read_text() == "bundled\n"
    answer = geofence("enable", "--without-rehearsal")
    assert answer.out.endswith("a reboot does NOT bring it back: geofence install\n")


def test_pre_start_brings_the_sets_alone(state, geofence):
    booted.enable(state)
    assert geofence("hook", "pre-start") == lab.Answer(0, "", "")
    assert lab.set_names() == sorted(booted.SETS + booted.TRUSTED)
    assert booted.jumps() == []


def test_a_fence_that_is_not_enabled_gets_no_rule(state, geofence):
    assert geofence("hook", "start") == lab.Answer(0, "", "")
    assert booted.jumps() == []


def test_a_broken_configuration_does_not_stop_it(state, geofence, tmp_path):
    booted.enable(state)
    booted.trust(state, {"203.0.113.7/32": None, "203.0.113.8/32": HOUR, "203.0.113.9/32": -HOUR})
    broken = config(tmp_path, "[fence.JP]\ncuontries = 1\n")
    assert geofence("--config", broken, "status").status == 78
    answer = geofence("--config", broken, "hook", "start")
    assert answer.status == 0
    assert "unknown key; did you mean countries?; what is stored serves" in answer.err
    assert booted.jumps() == [JUMP, JUMP]
    saved = lab.run("ipset", "save", "geofence-trusted-inet")
    assert "203.0.113.7 timeout 0" in saved
    assert "203.0.113.8 timeout 3" in saved
    assert "203.0.113.9" not in saved


def test_a_lost_file_of_trusted_addresses_is_a_warning_and_the_stored_ones_serve(
    state, geofence, tmp_path
):
    booted.trust(state, {"203.0.113.7/32": None})
    file = config(tmp_path, 'trusted = ["@lost"]\n[fence.JP]\ncountries = ["JP"]\n')
    answer = geofence("--config", file, "restore")
    assert answer.status == 0
    assert "those that were stored serve" in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)
    assert lab.saved_entries("geofence-trusted-inet") == ["203.0.113.7"]


def test_restore_lets_the_trusted_sets_hold_what_is_configured(state, geofence, tmp_path):
    file = config(tmp_path, 'trusted = ["203.0.113.7"]\n[fence.JP]\ncountries = ["JP"]\n')
    assert geofence("--config", file, "restore").status == 0
    assert lab.saved_entries("geofence-trusted-inet") == ["203.0.113.7"]


def test_restore_makes_no_trusted_set_where_nobody_is_trusted(state, geofence):
    geofence("restore")
    assert lab.set_names() == sorted(booted.SETS)


def test_one_fence_that_fails_does_not_stop_the_next(state, geofence):
    booted.store(state, fence="AA")
    lab.run("ipset", "create", "geofence-AA-inet", "hash:ip")
    answer = geofence("hook", "pre-start")
    assert answer.status == 1
    assert "AA: the set geofence-AA-inet is of type hash:ip" in answer.err
    assert booted.held() == booted.of(booted.PREFIXES)


def test_a_damaged_record_is_told_and_its_sound_rules_are_put_back(state, geofence):
    booted.enable(state)
    (state / "JP" / "enabled" / "enabled.json").write_text("{")
    answer = geofence("hook", "start")
    assert answer.status == 1
    assert "JP: the record of its being enabled is damaged" in answer.err
    assert booted.jumps() == [JUMP, JUMP]
    assert geofence("hook", "status").status == 3


def test_dockers_chain_is_made_where_docker_has_not_started_yet(state, geofence):
    for program in ("iptables-nft", "ip6tables-nft"):
        lab.run(program, "-N", "DOCKER-USER")
    fence = dataclasses.replace(booted.JP, forward=Forward.DOCKER_USER, outside=("eth0",))
    booted.enable(state, fence=fence)
    lab.empty_rules()
    assert geofence("hook", "status").status == 3
    assert "DOCKER-USER" not in lab.run("iptables-nft-save")
    assert geofence("hook", "start") == lab.Answer(0, "", "")
    assert "-A DOCKER-USER -i eth0" in lab.run("iptables-nft", "-S", "DOCKER-USER")
    assert geofence("hook", "status") == lab.Answer(0, "", "")


MISSING = {
    "trusted-only": ("trusted-only", ([], []), "an empty set (trusted addresses pass) serves"),
    "open": ("open", booted.OPEN, "a set of all addresses serves"),
}


@pytest.mark.parametrize("verb", [["restore"], ["hook", "pre-start"]], ids=["restore", "hook"])
@pytest.mark.parametrize(("word", "serves", "said"), MISSING.values(), ids=MISSING)
def test_where_nothing_sound_is_stored_on_missing_decides(
    state, geofence, tmp_path, verb, word, serves, said
):
    (state / "JP" / "1" / "SHA256SUMS").unlink()
    file = config(tmp_path, f'on_missing = "{word}"\n[fence.JP]\ncountries = ["JP"]\n')
    answer = geofence("--config", file, *verb)
    assert answer.status == (0 if verb == ["restore"] else 1)
    assert said in answer.err
    assert booted.held() == serves


@pytest.mark.parametrize("word", ["trusted-only", "open"])
def test_on_missing_replaces_no_list_that_is_in_force(state, geofence, tmp_path, word):
    geofence("restore")
    (state / "JP" / "1" / "SHA256SUMS").unlink()
    file = config(tmp_path, f'on_missing = "{word}"\n[fence.JP]\ncountries = ["JP"]\n')
    assert geofence("--config", file, "restore").out == "JP: what the kernel held is in force\n"
    assert booted.held() == booted.of(booted.PREFIXES)


def test_a_fence_that_is_not_configured_follows_what_was_stored(state, geofence):
    (state / "JP" / "1" / "SHA256SUMS").unlink()
    (state / "JP" / "on_missing").write_text("trusted-only\n")
    assert geofence("hook", "pre-start").status == 1
    assert booted.held() == ([], [])


def test_the_stored_snapshot_serves_where_the_name_tells_no_country(geofence):
    booted.store(geofence.state, fence="ASIA")
    (geofence.state / "ASIA" / "1" / "SHA256SUMS").unlink()
    missing.write_snapshot("ASIA", booted.lists(booted.OLDER), geofence.state, Disk())
    answer = geofence("hook", "pre-start")
    assert "the bundled snapshot, as geofence install stored it, serves" in answer.err
    assert booted.held("ASIA") == booted.of(booted.OLDER)


def test_without_any_snapshot_the_host_is_open_rather_than_closed(geofence):
    booted.store(geofence.state, fence="ASIA")
    (geofence.state / "ASIA" / "1" / "SHA256SUMS").unlink()
    answer = geofence("hook", "pre-start")
    assert "nothing sound is stored of ASIA" in answer.err
    assert "every country passes" in answer.err
    assert booted.held("ASIA") == booted.OPEN


def test_the_bundled_snapshot_serves_by_default(geofence):
    (geofence.state / "LI" / "1").mkdir(parents=True)
    answer = geofence("hook", "pre-start")
    assert answer.status == 1
    assert f"the bundled snapshot of {bundled.date()} serves" in answer.err
    assert booted.held("LI")[0]


def test_it_imports_nothing_that_only_a_download_needs(state):
    booted.enable(state)
    script = (
        "import sys; from geofence import cli; status = cli.main(sys.argv[1:]);"
        "print(status, *sorted({'requests', 'netaddr', 'rich', 'urllib3',"
        " 'geofence.candidate'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", script, "--state-dir", state, "hook", "start"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
