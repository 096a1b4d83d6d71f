"""A whole update on a real kernel: what a user types, and what kernel and disk then hold."""

import datetime
import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geofence.candidate import snapshot_lists
from geofence.model import Family, Fence
from geofence.prefixes import texts
from geofence.sources import bundled
from tests import lab, wire

UPDATE_LI = ("update", "--country", "LI", "--source", "plain")
LI = Fence(name="LI", countries=("LI",))


@pytest.fixture
def li():
    """Liechtenstein's prefixes: a small real list."""
    return {family: list(texts(found)) for family, found in snapshot_lists(LI).items()}


@pytest.fixture
def lists(tmp_path, li):
    """Two lists of LI that differ by a prefix, as files of one prefix a line."""
    both = [*li[Family.INET], *li[Family.INET6]]
    return (
        lab.plain_list(tmp_path / "old.txt", *both),
        lab.plain_list(tmp_path / "new.txt", *both, "198.50.0.0/24"),
    )


@pytest.fixture
def update(geofence, kernel):
    return lambda path, *more: geofence(
        "update", "--country", "LI", "--source", "plain", "--from", path, *more
    )


def active(state: Path, fence: str = "LI") -> str:
    return str((state / fence / "active").readlink())


def test_the_kernel_holds_exactly_the_list(update, lists, li):
    answer = update(lists[0])
    assert answer.status == 0, answer.err
    assert lab.set_names() == ["geofence-LI-inet", "geofence-LI-inet6"]
    for family in Family:
        assert lab.saved_entries(f"geofence-LI-{family}") == sorted(li[family])


def test_the_second_list_takes_the_place_of_the_first(update, lists, geofence):
    update(lists[0])
    answer = update(lists[1], "--json")
    document = answer.document
    assert (document["changed"], document["generation"]) == (True, 2)
    assert document["families"]["inet"]["added"] == 256
    assert document["families"]["inet"]["removed"] == 0
    assert "198.50.0.0/24" in lab.saved_entries("geofence-LI-inet")
    assert active(geofence.state) == "2"


def test_the_same_list_again_changes_nothing(update, lists, geofence):
    update(lists[0])
    answer = update(lists[0], "--json")
    assert answer.document["changed"] is False
    assert answer.document["generation"] == 1
    assert [p.name for p in geofence.state.glob("LI/[0-9]*")] == ["1"]


def test_quiet_is_silent_on_success(update, lists):
    answer = update(lists[0], "-q")
    assert (answer.status, answer.out, answer.err) == (0, "", "")


def test_an_ipset_file_is_what_ipset_itself_loads(update, lists, geofence):
    update(lists[0])
    before = {name: lab.saved_entries(name) for name in lab.set_names()}
    lab.run("ipset", "destroy")
    for file in (geofence.state / "LI" / "1").glob("*.ipset"):
        lab.run("ipset", "restore", stdin=file.read_text())
    assert {name: lab.saved_entries(name) for name in lab.set_names()} == before
    lab.run("sh", "-c", f"cd {geofence.state}/LI/1 && sha256sum -c --strict SHA256SUMS")


def test_restore_brings_back_what_a_reboot_took(update, lists, geofence):
    update(lists[0])
    before = {name: lab.saved_entries(name) for name in lab.set_names()}
    lab.run("ipset", "destroy")
    answer = geofence("restore")
    assert (answer.status, answer.out) == (0, "LI: generation 1 is in force again\n")
    assert {name: lab.saved_entries(name) for name in lab.set_names()} == before


_READ_ONLY_BOOT = """
set -e
mount -t tmpfs tmpfs "$1"
"$2" -m geofence --state-dir "$1" -q update --country LI --source bundled
ipset destroy
dd if=/dev/zero of="$1/full" bs=64k 2>/dev/null || true
"$2" -m geofence --state-dir "$1" restore
ipset destroy
mount -o remount,ro "$1"
"$2" -m geofence --state-dir "$1" restore
"""


def test_restore_needs_neither_room_on_the_disk_nor_to_write_it(kernel, tmp_path):
    private = ["unshare", "--mount", "--propagation", "private"]
    script = _READ_ONLY_BOOT.replace("mount -t tmpfs", "mount -t tmpfs -o size=1m")
    out = lab.run(*private, "sh", "-c", script, "sh", tmp_path, sys.executable)
    assert out == "LI: generation 1 is in force again\n" * 2


def test_restore_imports_nothing_that_only_a_download_needs(update, lists, geofence):
    update(lists[0])
    script = (
        "import sys; from geofence.cli import main; status = main(sys.argv[1:]);"
        "slow = {'requests', 'urllib3', 'rich', 'apscheduler', 'netaddr'} & set(sys.modules);"
        "sys.exit(f'imported {slow}' if slow else status)"
    )
    command = [sys.executable, "-c", script, "--state-dir", geofence.state, "restore"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_status_names_what_is_not_as_the_disk_says(update, lists, geofence):
    update(lists[0])
    assert geofence("status").status == 0
    lab.run("ipset", "del", "geofence-LI-inet", lab.saved_entries("geofence-LI-inet")[0])
    lab.run("ipset", "destroy", "geofence-LI-inet6")
    answer = geofence("status", "--json")
    assert answer.status == 1
    drift = answer.document["fences"][0]["drift"]
    assert "geofence-LI-inet does not hold generation 1" in drift[0]
    assert drift[1] == "the set geofence-LI-inet6 does not exist"


def test_status_without_a_verb_and_without_a_fence(geofence, kernel):
    answer = geofence()
    assert answer.status == 0
    assert "geofence update --country CC --dry-run" in answer.out


def test_an_update_mends_drift_even_when_nothing_can_be_fetched(update, lists, geofence):
    update(lists[0])
    before = lab.saved_entries("geofence-LI-inet")
    lab.run("ipset", "flush", "geofence-LI-inet")
    assert update("/nonexistent").status == 69
    assert lab.saved_entries("geofence-LI-inet") == before


def test_test_tells_the_prefix_and_its_generation(update, lists, geofence):
    update(lists[1])
    answer = geofence("test", "198.50.0.7", "192.0.2.1", "2001:db8::1", "--json")
    assert answer.status == 1
    inside, outside, outside6 = answer.document["results"]
    assert inside == {
        "address": "198.50.0.7",
        "pass": True,
        "fence": "LI",
        "prefix": "198.50.0.0/24",
        "generation": 1,
        "from": "kernel",
    }
    assert (outside["pass"], outside6["pass"]) == (False, False)
    assert geofence("test", "198.50.0.7").status == 0


def test_test_answers_from_the_disk_when_there_is_no_set(update, lists, geofence):
    update(lists[1])
    lab.run("ipset", "destroy")
    assert geofence("test", "198.50.0.7", "--json").document["results"][0]["from"] == "disk"


def test_render_prints_what_is_loaded(update, lists, geofence):
    update(lists[0])
    before = {name: lab.saved_entries(name) for name in lab.set_names()}
    text = geofence("render", "ipset").out
    assert text.startswith("create geofence-LI-inet hash:net family inet hashsize 1024 maxelem ")
    lab.run("ipset", "destroy")
    lab.run("ipset", "restore", stdin=text)
    assert {name: lab.saved_entries(name) for name in lab.set_names()} == before


def test_a_dry_run_touches_neither_host_nor_disk(update, lists, geofence):
    answer = update(lists[1], "--dry-run", "--json")
    assert answer.status == 0
    assert answer.document["dry_run"] is True
    assert answer.document["changed"] is True
    assert lab.set_names() == []
    assert not geofence.state.exists()


def test_a_dry_run_of_a_change_leaves_the_old_list_in_force(update, lists, geofence):
    update(lists[0])
    before = {p: p.stat().st_mtime_ns for p in geofence.state.rglob("*")}
    answer = update(lists[1], "--dry-run")
    assert "+ 198.50.0.0/24        256 addresses" in answer.out
    assert {p: p.stat().st_mtime_ns for p in geofence.state.rglob("*")} == before
    assert "198.50.0.0/24" not in lab.saved_entries("geofence-LI-inet")


def test_a_dry_run_exits_as_the_real_run_would(update, tmp_path):
    html = tmp_path / "portal.html"
    html.write_text("<html>log in</html>\n")
    dry, real = update(html, "--dry-run"), update(html)
    assert dry.status == real.status == 65
    assert "captive portal" in dry.err


def test_a_dry_run_without_privileges_says_what_it_could_not_look_at(lists, geofence, kernel):
    done = lab.without_privileges(geofence.state, *UPDATE_LI, "--from", lists[0], "--dry-run")
    assert done.status == 0, done.err
    assert "what the kernel enforces now was not looked at" in done.err
    assert "LI: would change" in done.out


def test_without_privileges_nothing_is_fetched(geofence, kernel):
    done = lab.without_privileges(geofence.state, *UPDATE_LI, "--from", "/nonexistent")
    assert done.status == 77, done.err
    assert "CAP_NET_ADMIN" in done.err


BAD_LISTS = {
    "empty": ("", "no prefixes"),
    "only-comments": ("# nothing\n\n", "no prefixes"),
    "captive-portal": ("<!DOCTYPE html>\n<html>\n", "line 1: '<!DOCTYPE html>' is not a prefix"),
    "host-bits": ("192.0.2.1/24\n", "line 1: '192.0.2.1/24' has host bits"),
    "host-name": ("example.net\n", "line 1: 'example.net' is not a prefix"),
    "everything": ("0.0.0.0/1\n128.0.0.0/1\n", "special-purpose"),
    "documentation-only": ("192.0.2.0/24\n", "special-purpose"),
    "another-country": ("1.0.16.0/20\n1.0.64.0/18\n", "looks like another country's list"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_changes_nothing(update, lists, geofence, tmp_path, text, complaint):
    update(lists[0])
    before = {name: lab.saved_entries(name) for name in lab.set_names()}
    bad = tmp_path / "bad.txt"
    bad.write_text(text)
    answer = update(bad)
    assert answer.status == 65
    assert complaint in answer.err
    assert "still enforcing generation 1" in answer.err
    assert {name: lab.saved_entries(name) for name in lab.set_names()} == before
    assert active(geofence.state) == "1"


def test_a_shrunk_list_is_refused_and_can_be_accepted(update, lists, li, tmp_path):
    update(lists[0])
    few = lab.plain_list(tmp_path / "few.txt", *li[Family.INET][:3], *li[Family.INET6])
    refused = update(few, "--json")
    assert refused.status == 65
    assert refused.document["error"]["kind"] == "ListRefused"
    assert "--accept-change" in refused.document["error"]["message"]
    assert update(few, "--accept-change").status == 0
    assert len(lab.saved_entries("geofence-LI-inet")) == 3


@pytest.mark.parametrize(
    ("create", "complaint"),
    [
        pytest.param("hash:ip", "is of type hash:ip", id="type"),
        pytest.param("hash:net family inet6", "is of family inet6", id="family"),
        pytest.param("hash:net timeout 60", "has a timeout", id="timeout"),
    ],
)
def test_a_live_set_of_another_kind_is_refused_with_the_cure(update, lists, create, complaint):
    lab.run("ipset", "create", "geofence-LI-inet", *create.split())
    answer = update(lists[0])
    assert answer.status == 71
    assert complaint in answer.err
    assert "ipset destroy geofence-LI-inet" in answer.err
    assert lab.set_names() == ["geofence-LI-inet"]


def test_a_live_set_of_another_size_is_replaced(update, lists):
    lab.run("ipset", "create", "geofence-LI-inet", "hash:net", "maxelem", "4")
    assert update(lists[0]).status == 0
    assert "maxelem 65536" in lab.run("ipset", "list", "-t", "geofence-LI-inet")


def test_staging_sets_of_a_killed_run_are_removed(update, lists):
    lab.run("ipset", "create", "geofence-LI-inet-next", "hash:ip")
    assert update(lists[0]).status == 0
    assert lab.set_names() == ["geofence-LI-inet", "geofence-LI-inet6"]


def test_a_staging_name_that_a_rule_uses_is_left_and_told(update, lists, monkeypatch):
    monkeypatch.setattr("geofence.kernel.ipset._IN_USE_SECONDS", 0.1)
    lab.run("ipset", "create", "geofence-LI-inet-next", "hash:net")
    rule = ["-m", "set", "--match-set", "geofence-LI-inet-next", "src", "-j", "RETURN"]
    lab.run("iptables-nft", "-A", "INPUT", *rule)
    answer = update(lists[0])
    assert answer.status == 71
    assert "geofence-LI-inet-next" in answer.err


def test_an_ssh_peer_is_not_shut_out(update, lists, monkeypatch):
    update(lists[1])
    monkeypatch.setenv("SSH_CONNECTION", "198.50.0.9 50000 192.0.2.1 22")
    answer = update(lists[0], "--accept-change")
    assert answer.status == 65
    assert "shut out 198.50.0.9" in answer.err
    assert "198.50.0.0/24" in lab.saved_entries("geofence-LI-inet")


def test_rollback_and_the_wait_for_a_different_list(update, lists, geofence, tmp_path, li):
    update(lists[0])
    update(lists[1])
    answer = geofence("rollback")
    assert (answer.status, active(geofence.state)) == (0, "1")
    assert "198.50.0.0/24" not in lab.saved_entries("geofence-LI-inet")

    again = update(lists[1])
    assert (again.status, active(geofence.state)) == (0, "1")
    assert "waiting for a different one" in again.err
    assert "geofence rollback 2" in again.err
    assert "198.50.0.0/24" not in lab.saved_entries("geofence-LI-inet")

    both = [*li[Family.INET], *li[Family.INET6]]
    third = lab.plain_list(tmp_path / "third.txt", *both, "198.50.4.0/24")
    assert update(third, "--json").document["generation"] == 3
    assert update(lists[1], "--json").document["generation"] == 4


def test_rollback_to_the_newer_one_ends_the_wait(update, lists, geofence):
    update(lists[0])
    update(lists[1])
    geofence("rollback")
    assert geofence("rollback", "2").status == 0
    assert active(geofence.state) == "2"
    assert update(lists[1], "--json").document["held"] is False


def test_rollback_does_not_shut_out_an_ssh_peer(update, lists, geofence, monkeypatch):
    update(lists[0])
    update(lists[1])
    monkeypatch.setenv("SSH_CONNECTION", "198.50.0.9 50000 192.0.2.1 22")
    answer = geofence("rollback")
    assert (answer.status, active(geofence.state)) == (65, "2")


def test_rollback_without_an_older_one_changes_nothing(update, lists, geofence):
    update(lists[0])
    assert geofence("rollback").status == 2
    assert geofence("rollback", "7").status == 2
    assert active(geofence.state) == "1"


def test_history_and_diff(update, lists, geofence):
    update(lists[0])
    update(lists[1])
    history = geofence("history", "--json").document["fences"][0]["generations"]
    assert [(one["generation"], one["active"]) for one in history] == [(1, False), (2, True)]
    for arguments in ([], ["1"], ["1", "2"]):
        difference = geofence("diff", *arguments, "--json").document
        inet = difference["families"]["inet"]
        assert inet["added_prefixes"] == [{"prefix": "198.50.0.0/24", "addresses": 256}]
        assert inet["removed_prefixes"] == []
    back = geofence("diff", "2", "1").out
    assert "- 198.50.0.0/24        256 addresses" in back


def test_a_damaged_generation_gives_way_to_the_one_before(update, lists, geofence):
    update(lists[0])
    update(lists[1])
    file = geofence.state / "LI" / "2" / "inet.ipset"
    file.write_bytes(file.read_bytes()[:-20])
    lab.run("ipset", "destroy")
    answer = geofence("restore")
    assert answer.status == 0
    assert "generation 1 is in force again" in answer.out
    assert "generation 2 of LI is damaged" in answer.err


def test_when_every_generation_is_damaged_the_snapshot_serves(update, lists, geofence, li):
    update(lists[1])
    (geofence.state / "LI" / "1" / "SHA256SUMS").unlink()
    lab.run("ipset", "destroy")
    answer = geofence("restore")
    assert answer.status == 0
    assert f"the bundled snapshot of {bundled.date()} serves" in answer.err
    assert lab.saved_entries("geofence-LI-inet") == sorted(li[Family.INET])


def test_two_countries_are_one_fence_of_the_union(geofence, kernel):
    assert (
        geofence("update", "--country", "SG", "--country", "li", "--source", "bundled").status == 0
    )
    assert lab.set_names() == ["geofence-LI-SG-inet", "geofence-LI-SG-inet6"]
    expected = snapshot_lists(Fence(name="LI-SG", countries=("LI", "SG")))
    assert lab.saved_entries("geofence-LI-SG-inet") == sorted(texts(expected[Family.INET]))


def test_several_fences_stand_in_the_configuration(geofence, kernel, tmp_path, lists):
    config = tmp_path / "geofence.toml"
    config.write_text(
        f"""
        [fence.HOME]
        countries = ["LI"]
        source = "plain"
        origins = ["{lists[0]}"]
        [fence.BAD]
        countries = ["LI"]
        source = "plain"
        origins = ["/nonexistent"]
        [fence.ASIA]
        countries = ["SG", "HK"]
        source = "bundled"
        """
    )
    answer = geofence("--config", config, "update", "--json")
    assert answer.status == 69
    fences = answer.document["fences"]
    assert [(one["fence"], one["exit"]) for one in fences] == [
        ("HOME", 0),
        ("BAD", 69),
        ("ASIA", 0),
    ]
    assert "geofence-ASIA-inet" in lab.set_names()
    assert "geofence-BAD-inet" not in lab.set_names()


def test_update_alone_refreshes_the_stored_fences(geofence, kernel):
    geofence("update", "--country", "LI", "--source", "bundled")
    answer = geofence("update", "--source", "bundled", "--json")
    assert [one["fence"] for one in answer.document["fences"]] == ["LI"]


def test_one_family_leaves_the_other_as_it_was(update, lists, geofence):
    update(lists[0])
    six = lab.saved_entries("geofence-LI-inet6")
    answer = update(lists[1], "--family", "inet", "--json")
    assert answer.document["families"]["inet"]["added"] == 256
    assert lab.saved_entries("geofence-LI-inet6") == six


def test_one_family_on_a_fresh_host_is_the_only_one(update, lists):
    assert update(lists[0], "--family", "inet").status == 0
    assert lab.set_names() == ["geofence-LI-inet"]


def test_a_list_of_ipv4_alone_is_filled_up_from_the_snapshot(update, tmp_path, li):
    only4 = lab.plain_list(tmp_path / "four.txt", *li[Family.INET])
    answer = update(only4)
    assert "plain brought no IPv6: it is that of the bundled snapshot" in answer.err
    assert lab.saved_entries("geofence-LI-inet6") == sorted(li[Family.INET6])


def test_a_country_without_ipv6_has_an_empty_set_and_says_so(geofence, kernel):
    answer = geofence("update", "--country", "ER", "--source", "bundled")
    assert answer.status == 0
    assert "no IPv6 prefixes of ER: the IPv6 set is empty" in answer.err
    assert lab.saved_entries("geofence-ER-inet6") == []


def test_real_packets_meet_the_new_list_at_once(update, lists):
    update(lists[0])
    for variant in lab.VARIANTS:
        lab.empty_rules()
        with wire.wire() as line:
            wire.gate(variant, "LI")
            assert not line.passes("198.50.0.7")
            update(lists[1])
            assert line.passes("198.50.0.7")
            assert not line.passes("198.50.1.7")
            update(lists[0])
            assert not line.passes("198.50.0.7")


def test_a_second_updater_is_told_who_the_first_is(update, lists, geofence, tmp_path):
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "geofence", "--state-dir", geofence.state, "update"]
    with subprocess.Popen(
        [*command, "--country", "LI", "--source", "plain", "--from", fifo],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as first:
        with fifo.open("w") as pipe:  # opens when the first updater reads: it has the lock
            answer = update(lists[0])
            assert answer.status == 75
            assert f"pid {first.pid}" in answer.err
            assert geofence("restore").status == 0  # does not wait for the download
            pipe.write(lists[0].read_text())
        first.communicate()
        assert first.returncode == 0


def test_the_dates_of_a_list_come_from_inside_it(geofence, kernel):
    geofence("update", "--country", "LI", "--source", "bundled")
    snapshot = json.loads((geofence.state / "LI" / "1" / "snapshot.json").read_text())
    assert snapshot["origins"][0]["date"] == bundled.date().isoformat()
    created = datetime.datetime.fromisoformat(snapshot["created"])
    assert created.tzinfo is not None
    assert ipaddress.ip_network(lab.saved_entries("geofence-LI-inet")[0])


@pytest.fixture
def registry(tmp_path, li):
    """Write LI's list as a registry's file of a date."""

    def write(date):
        records = []
        for text in li[Family.INET]:
            network = ipaddress.IPv4Network(text)
            first, number = network.network_address, network.num_addresses
            records.append(f"ripencc|LI|ipv4|{first}|{number}|20110101|allocated")
        records += [
            "ripencc|LI|ipv6|{}|{}|20110101|allocated".format(*text.split("/"))
            for text in li[Family.INET6]
        ]
        head = [
            f"2|ripencc|1|{len(records)}||{date}|+0000",
            f"ripencc|*|ipv4|*|{len(li[Family.INET])}|summary",
            f"ripencc|*|ipv6|*|{len(li[Family.INET6])}|summary",
        ]
        return lab.plain_list(tmp_path / date, *head, *records)

    return write


@pytest.mark.parametrize(
    ("updates", "status"),
    [
        pytest.param(["20260201", "20260210", "20260208"], 0, id="three-days-older-is-a-warning"),
        pytest.param(["20260210", "20260205"], 65, id="older"),
        pytest.param(["20260210", "20260208", "20260206"], 65, id="older-step-by-step"),
        pytest.param(["20260201", "20260210", "20260211 inet"], 0, id="one-family-later"),
        pytest.param(["20260201", "20260220 inet", "20260205 inet"], 65, id="one-family-older"),
    ],
)
def test_lists_are_not_played_back(geofence, kernel, registry, updates, status):
    for update in updates:
        date, *family = update.split()
        more = ["--family", *family] if family else []
        answer = geofence("update", "--country", "LI", "--from", registry(date), *more)
    assert answer.status == status, answer.err


def test_a_rollback_that_cannot_be_promoted_leaves_what_was_enforced(update, lists, geofence):
    update(lists[0])
    update(lists[1])
    before = lab.saved_entries("geofence-LI-inet")
    home = geofence.state / "LI"
    with lab.immutable(home / "active"):
        answer = geofence("rollback")
    assert answer.status in (74, 77)
    assert "still enforcing generation 2" in answer.err
    assert lab.saved_entries("geofence-LI-inet") == before
    assert geofence("status").status == 0


def test_a_first_update_that_cannot_be_promoted_leaves_no_set(update, lists, geofence):
    (geofence.state / "LI" / "active").mkdir(parents=True)
    answer = update(lists[0])
    assert answer.status == 74
    assert "no list of LI is in force, and nothing was changed" in answer.err
    assert lab.set_names() == []


def test_what_is_still_in_force_is_read_from_the_kernel(update, lists):
    update(lists[0])
    lab.run("ipset", "destroy")
    lab.run("ipset", "create", "geofence-LI-inet", "hash:ip")
    answer = update(lists[1])
    assert answer.status == 71
    assert "generation 1 is stored, and the kernel does not hold it" in answer.err


@pytest.mark.parametrize("how", ["removed", "to-itself", "elsewhere"])
def test_a_lost_link_to_the_active_generation_hides_nothing(update, lists, geofence, how):
    update(lists[0])
    update(lists[1])
    link = geofence.state / "LI" / "active"
    link.unlink()
    if how != "removed":
        link.symlink_to({"to-itself": "active", "elsewhere": "/etc"}[how])
    lab.run("ipset", "destroy")
    answer = geofence("restore")
    assert answer.status == 0
    assert "active leads to no generation" in answer.err
    assert "198.50.0.0/24" in lab.saved_entries("geofence-LI-inet")
    assert active(geofence.state) == "2"


def test_a_first_update_that_was_killed_is_finished_by_restore(update, lists, geofence):
    update(lists[0])
    home = geofence.state / "LI"
    (home / "active").rename(home / "staged")  # as after SIGKILL between swap and promote
    assert "an interrupted update to generation 1 was finished" in geofence("restore").err
    assert active(geofence.state) == "1"


@pytest.mark.parametrize(
    ("prepare", "status", "said"),
    [
        pytest.param("ipset destroy", 0, "the run would mend that", id="sets-destroyed"),
        pytest.param(
            "ipset destroy; ipset create geofence-LI-inet hash:ip", 71, "of type", id="other-type"
        ),
        pytest.param(
            "ipset create geofence-LI-inet-next hash:net; iptables-nft -A INPUT -m set"
            " --match-set geofence-LI-inet-next src",
            71,
            "geofence-LI-inet-next is in use",
            id="staging-in-use",
        ),
    ],
)
def test_a_dry_run_sees_what_the_real_run_would_meet(update, lists, prepare, status, said):
    update(lists[0])
    lab.run("sh", "-c", prepare)
    first = update(lists[0], "--dry-run")
    for path in lists:
        dry, real = update(path, "--dry-run"), update(path)
        assert dry.status == real.status
    assert (dry.status, said in dry.err + first.err) == (status, True), dry.err


def test_what_somebody_changed_in_the_kernel_is_mended_and_told(update, lists):
    update(lists[0])
    lab.run("ipset", "add", "geofence-LI-inet", "8.8.8.0/24")
    answer = update(lists[0], "--json")
    assert "the kernel did not hold generation 1: it does again" in answer.err
    assert answer.document["changed"] is True
    assert "8.8.8.0/24" not in lab.saved_entries("geofence-LI-inet")


def test_a_first_list_without_the_owner_warns_him(update, lists, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "8.8.8.8 50000 192.0.2.1 22")
    answer = update(lists[0])
    assert answer.status == 0
    assert "8.8.8.8 has an SSH session to this host now and is not in the list" in answer.err


def test_test_does_not_guess_what_a_foreign_set_does(update, lists, geofence):
    update(lists[0])
    lab.run("ipset", "destroy", "geofence-LI-inet")
    lab.run("ipset", "create", "geofence-LI-inet", "hash:ip")
    answer = geofence("test", "8.8.8.8")
    assert answer.status == 71
    assert "is of type hash:ip" in answer.err


def test_a_state_directory_that_is_a_file_is_an_error_of_the_disk(geofence, kernel):
    geofence.state.write_text("")
    for verb in ("status", "restore", "history"):
        answer = geofence(verb)
        assert (answer.status, "is no directory" in answer.err) == (74, True)
