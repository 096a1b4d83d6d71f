"""Who is trusted passes at once, for as long as was said, whatever else happens to the fence."""

import contextlib
import datetime
import re
import time
from typing import Any

import pytest

from geofence import letin, locks, trusted
from geofence.candidate import snapshot_lists
from geofence.context import open_sets
from geofence.disk import Disk
from geofence.errors import ConfigError, DiskError, GeofenceError, KernelRefused
from geofence.model import Family, Fence, trusted_name
from geofence.prefixes import parse_prefix, parse_trusted, texts
from geofence.store import Store
from geofence.trusted import Passes, configured, together
from geofence.trustfiles import remember, remembered
from tests import lab
from tests.fakes import Counted, FakeSets
from tests.wire import wire

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
V4, V6 = "203.0.113.7", "2001:db8:7::7"
UPDATE_LI = ("update", "--country", "LI", "--source", "bundled")
SETS = [trusted_name(family) for family in Family]


def pass_for(text, hours, since=NOW):
    return trusted.pass_of(text, hours and hours * 3600, since)


def timeouts(name):
    """Give the seconds that are left of each entry, as the kernel tells them; 0: for good."""
    found = re.findall(
        r"^add \S+ (\S+) timeout (\d+)", lab.run("ipset", "save", name), re.MULTILINE
    )
    return {prefix: int(seconds) for prefix, seconds in found}


class Host:
    """Runs geofence with a configuration that a test may write."""

    def __init__(self, geofence, path):
        self._geofence, self._path = geofence, path
        self.state = geofence.state
        self.configure("")

    def __call__(self, *arguments):
        return self._geofence("--config", self._path, *arguments)

    def configure(self, text):
        fence = '[fence.LI]\ncountries = ["LI"]\nsource = "bundled"\n'
        self._path.write_text(f"{text}\n{fence}")


@pytest.fixture
def enabled(geofence, kernel, tmp_path):
    """Enable the fence of Liechtenstein."""
    host = Host(geofence, tmp_path / "geofence.toml")
    assert host("update").status == 0
    answer = host("enable", "--without-rehearsal")
    assert answer.status == 0, answer.err
    return host


# What a person types


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259200), ("1w", 604800)],
)
def test_a_time_is_read_with_its_unit(text, seconds):
    assert trusted.seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0h", "-1h", "1.5h", "2 h", "h", "2x", "\uff12h", "1h30m"]
)
def test_what_is_no_time_is_refused(text, geofence):
    answer = geofence("trust", V4, f"--for={text}")
    assert (answer.status, ascii(text) in answer.err) == (2, True)


def test_a_time_that_no_timer_can_count_belongs_into_the_configuration(geofence):
    answer = geofence("trust", V4, "--for", "25d")
    assert answer.status == 2
    assert "in `trusted` of the configuration" in answer.err
    assert not (geofence.state / "passes.json").exists()


@pytest.mark.parametrize(
    "text",
    ["gateway.test", "203.0.113.7/33", "203.0.113.7/24", "0.0.0.0/0", "::/0", "10", "1.2.3.4 "],
)
def test_a_bad_address_is_quoted_and_changes_nothing(text, geofence, kernel):
    answer = geofence("trust", text)
    assert (answer.status, repr(text) in answer.err) == (2, True)
    assert (lab.set_names(), geofence.state.exists()) == ([], False)


def test_an_address_as_servers_log_it_is_the_ipv4_address_in_it():
    assert parse_trusted("::ffff:203.0.113.7") == parse_trusted("203.0.113.7")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--for", "2h"], id="a-time-for-nobody"),
        pytest.param(["--remove"], id="nobody-removed"),
        pytest.param([V4, "--remove", "--for", "2h"], id="both"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, geofence):
    assert geofence("trust", *arguments).status == 2


# What packets meet


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_who_is_trusted_passes_at_once_and_until_it_is_taken_back(variant, enabled):
    enabled("disable")
    for program in ("iptables", "ip6tables"):
        lab.run(f"{program}-{variant}", "-w", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    assert f"({variant})" in enabled("enable", "--without-rehearsal").out
    with wire() as line:
        assert not line.passes(V4)
        assert not line.passes(V6)
        for address in (V4, V6):
            answer = enabled("trust", address)
            assert (answer.status, answer.err) == (0, "")
            assert line.passes(address)
        assert not line.passes("203.0.113.8")
        enabled("trust", "--remove", V4)
        assert (line.passes(V4), line.passes(V6)) == (False, True)


def test_a_pass_ends_by_itself_in_the_kernel(enabled):
    with wire() as line:
        enabled("trust", V4, "--for", "1")
        assert line.passes(V4)
        deadline = time.monotonic() + 10
        while line.passes(V4) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not line.passes(V4)
    assert "nobody is trusted" in enabled("trust").out


def test_the_other_passes_keep_what_is_left_of_them(enabled):
    enabled("trust", V4, "--for", "2h")
    _an_hour_passes(enabled.state / "passes.json")
    enabled("trust", "203.0.113.8", "--for", "2h")
    found = timeouts("geofence-trusted-inet")
    assert 3500 < found[V4] <= 3600
    assert 7100 < found["203.0.113.8"] <= 7200


def _an_hour_passes(path):
    """Let passes be as if they had been stored an hour ago."""

    def earlier(match):
        return (datetime.datetime.fromisoformat(match[0]) - HOUR).isoformat()

    text = path.read_text()
    path.write_text(re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)", earlier, text))


def test_a_restore_half_way_gives_what_is_left_of_a_pass(enabled):
    enabled("trust", V4, "--for", "2h")
    enabled("trust", V6)
    _an_hour_passes(enabled.state / "passes.json")
    enabled("disable")
    lab.run("ipset", "destroy")
    assert enabled("restore").status == 0
    assert 3500 < timeouts("geofence-trusted-inet")[V4] <= 3600
    assert timeouts("geofence-trusted-inet6")[V6] == 0


def test_a_pass_that_is_made_longer_shorter_or_endless_is_so_in_the_kernel(enabled):
    enabled("trust", V4, "--for", "2h")
    enabled("trust", V4, "--for", "1h")
    assert 3500 < timeouts("geofence-trusted-inet")[V4] <= 3600
    enabled("trust", V4)
    assert timeouts("geofence-trusted-inet")[V4] == 0
    enabled("trust", V4, "--for", "1h")
    assert 3500 < timeouts("geofence-trusted-inet")[V4] <= 3600


def test_updates_let_the_kernel_follow_the_configuration(enabled):
    enabled("trust", V4, "--for", "2h")
    enabled.configure('trusted = ["198.51.100.0/24"]')
    with wire() as line:
        assert not line.passes("198.51.100.9")
        assert enabled("update").status == 0
        assert line.passes("198.51.100.9")
        enabled.configure("")
        enabled("update")
        assert (line.passes("198.51.100.9"), line.passes(V4)) == (False, True)


def test_an_update_that_cannot_read_a_file_of_trusted_addresses_warns_and_goes_on(
    enabled, tmp_path
):
    enabled("trust", V4)
    enabled.configure('trusted = ["@office.txt"]')
    answer = enabled("update")
    assert answer.status == 0
    assert "warning" in answer.err
    assert "office.txt" in answer.err
    assert lab.saved_entries("geofence-trusted-inet") == [V4]


def test_an_update_makes_no_trusted_set_where_none_is_needed(geofence, kernel):
    geofence(*UPDATE_LI)
    assert not set(SETS) & set(lab.set_names())


def test_a_chain_without_a_rule_for_the_trusted_is_named(geofence, kernel, tmp_path):
    path = tmp_path / "geofence.toml"
    path.write_text(
        '[fence.LI]\ncountries = ["LI"]\nsource = "bundled"\nstyle = "allow"\ntarget = "ACCEPT"\n'
    )
    geofence("--config", path, "update")
    assert geofence("--config", path, "enable", "--without-rehearsal").status == 0
    answer = geofence("--config", path, "trust", V4)
    assert (answer.status, "LI: its chain has no rule" in answer.err) == (0, True)
    assert "geofence repair" in answer.err
    assert geofence("--config", path, "repair", "--without-rehearsal").status == 0
    assert geofence("--config", path, "trust", V4).err == ""


# What is stored


def test_twice_is_as_good_as_once(geofence, kernel):
    assert geofence("trust", V4, "--json").document["changed"] is True
    assert geofence("trust", f"{V4}/32", "--json").document["changed"] is False
    assert lab.saved_entries("geofence-trusted-inet") == [V4]
    rows = geofence("trust", "--json").document["trusted"]
    assert [row["prefix"] for row in rows] == [f"{V4}/32"]


def test_both_sets_are_made_where_there_was_none(geofence, kernel):
    geofence("trust", V4)
    assert lab.set_names() == SETS


def test_the_hook_finds_who_is_trusted(geofence, kernel, tmp_path):
    path = tmp_path / "geofence.toml"
    path.write_text('trusted = ["198.51.100.0/24", "2001:db8::/32"]\n')
    geofence("--config", path, "trust", V4, "--for", "2h")
    lab.run("sh", "-c", f"cd {geofence.state}/trusted && sha256sum -c --status SHA256SUMS")
    lab.run("ipset", "destroy")
    for family in Family:
        lab.run("ipset", "restore", "-file", geofence.state / "trusted" / f"{family}.ipset")
    assert lab.saved_entries("geofence-trusted-inet") == ["198.51.100.0/24"]
    assert lab.saved_entries("geofence-trusted-inet6") == ["2001:db8::/32"]
    prefix, end = (geofence.state / "trusted/inet.passes").read_text().split()
    assert prefix == f"{V4}/32"
    assert 7100 < int(end) - time.time() <= 7200


def test_the_list_tells_who_is_trusted_why_and_for_how_long(geofence, kernel, tmp_path):
    path = tmp_path / "geofence.toml"
    path.write_text('trusted = ["198.51.100.0/24"]\n')
    geofence("--config", path, "trust", V4, "--for", "90m")
    geofence("--config", path, "trust", V6)
    office, traveller, friend = geofence("--config", path, "trust").out.splitlines()
    assert office == "198.51.100.0/24  for good, by the configuration"
    assert traveller == f"{V4}/32  for 1 h 30 min more"
    assert friend == f"{V6}/128  for good"
    rows = geofence("--config", path, "trust", "--json").document["trusted"]
    assert [row["in_kernel"] for row in rows] == [True, True, True]
    assert 5300 < rows[1]["seconds_left"] <= 5400
    lab.run("ipset", "flush", "geofence-trusted-inet")
    assert "the kernel does not hold it" in geofence("--config", path, "trust").out


def test_who_is_configured_passes_for_good_and_needs_no_pass(geofence, kernel, tmp_path):
    path = tmp_path / "geofence.toml"
    path.write_text(f'trusted = ["{V4}"]\n')
    answer = geofence("--config", path, "trust", V4, "--for", "1h")
    assert (answer.status, "by the configuration" in answer.out) == (0, True)
    assert timeouts("geofence-trusted-inet") == {V4: 0}
    answer = geofence("--config", path, "trust", "--remove", V4)
    assert answer.status == 2
    assert "take it out of `trusted`" in answer.err
    assert lab.saved_entries("geofence-trusted-inet") == [V4]


def test_to_take_back_what_nobody_has_is_no_error(geofence, kernel):
    answer = geofence("trust", "--remove", V4)
    assert (answer.status, "there was no pass" in answer.out) == (0, True)


def test_nobody_takes_the_own_way_in_away(enabled, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"{V4} 50000 192.0.2.1 22")
    enabled("trust", V4)
    answer = enabled("trust", "--remove", V4)
    assert (answer.status, "could not come in again" in answer.err) == (65, True)
    assert V4 in lab.run("ipset", "save", "geofence-trusted-inet")


def test_nor_does_an_update_or_a_restore_whose_configuration_does_not_trust_him_any_more(
    enabled, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSH_CONNECTION", f"{V4} 50000 192.0.2.1 22")
    config = tmp_path / "trusting.toml"
    config.write_text(f'trusted = ["{V4}"]\n')
    enabled("--config", config, "restore")
    assert V4 in lab.run("ipset", "save", "geofence-trusted-inet")
    config.write_text("")
    answer = enabled("--config", config, "restore")
    assert "could not come in again" in answer.err
    assert V4 in lab.run("ipset", "save", "geofence-trusted-inet")


def test_a_pass_that_is_made_shorter_is_told(enabled):
    enabled("trust", V4)
    answer = enabled("trust", V4, "--for", "5")
    assert "would have passed for good, and will no more" in answer.err
    assert "passes for 5 s" in answer.out or "passes for 4 s" in answer.out


def test_what_goes_on_passing_by_a_wider_prefix_is_told(enabled):
    enabled("trust", "198.51.100.0/24")
    enabled("trust", "198.51.100.7")
    answer = enabled("trust", "--remove", "198.51.100.7")
    assert "198.51.100.7/32 goes on passing: 198.51.100.0/24 is trusted" in answer.err


def test_a_broken_configuration_keeps_nobody_from_letting_somebody_in(enabled, tmp_path):
    config = tmp_path / "trusting.toml"
    config.write_text(f'trusted = ["{V4}"]\n')
    enabled("--config", config, "restore")
    config.write_text("[fence")
    answer = enabled("--config", config, "trust", "198.51.100.7")
    assert (answer.status, "stays trusted" in answer.err) == (0, True)
    held = lab.run("ipset", "save", "geofence-trusted-inet")
    assert "198.51.100.7" in held
    assert V4 in held
    assert enabled("--config", config, "disable").status == 0


def test_what_is_trusted_would_pass(enabled):
    enabled("trust", "198.51.100.7")
    answer = enabled("test", "198.51.100.7", "--json")
    (result,) = answer.document["results"]
    assert (answer.status, result["pass"], result["from"]) == (0, True, "trusted")


def test_a_clock_that_was_set_back_makes_no_pass_longer_than_it_was(tmp_path):
    passes = Passes(tmp_path, Disk())
    passes.write([pass_for(V4, 2)])
    then = NOW - 1000 * HOUR
    (found,) = passes.read(then)
    assert trusted.left(found.until, then) == 7200


def test_a_clock_that_was_set_forward_ends_the_pass(tmp_path):
    passes = Passes(tmp_path, Disk())
    passes.write([pass_for(V4, 2), pass_for(V6, None)])
    assert [one.prefix for one in passes.read(NOW + 3 * HOUR)] == [f"{V6}/128"]


def test_what_has_ended_is_not_put_in_force_again():
    sets = FakeSets()
    trusted.apply(together([], [pass_for(V4, 1), pass_for(V6, 3)]), sets, NOW + 2 * HOUR)
    assert (trusted.held(sets, Family.INET), len(trusted.held(sets, Family.INET6))) == ((), 1)


def test_what_is_remembered_reads_back_as_it_was(tmp_path):
    both = together([parse_prefix("198.51.100.0/24")], [pass_for(V4, 2), pass_for(V6, None)])
    remember(both, tmp_path, Disk())
    assert remembered(tmp_path) == both
    remember(together([], []), tmp_path, Disk())
    assert remembered(tmp_path) == {family: {} for family in Family}
    assert len(list(tmp_path.glob("trusted-*"))) == 1


def test_a_directory_in_the_place_of_the_link_is_replaced(tmp_path):
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted/inet.ipset").write_text("an older one's")
    wanted = together([], [pass_for(V4, None)])
    remember(wanted, tmp_path, Disk())
    assert remembered(tmp_path) == wanted


def test_at_every_refusal_of_the_disk_the_hook_has_the_old_or_the_new_whole(tmp_path):
    old = together([], [pass_for(V4, None)])
    new = together([], [pass_for(V4, 2), pass_for(V6, None)])
    for fatal in range(1, 20):
        state = tmp_path / str(fatal)
        state.mkdir()
        remember(old, state, Disk())
        disk: Any = Counted(Disk(), _refuse(fatal, DiskError("full")))
        try:
            remember(new, state, disk)
        except DiskError:
            assert remembered(state) in (old, new)
        else:
            assert remembered(state) == new
            break
    else:
        pytest.fail("it never succeeded")
    assert fatal > 5


def _refuse(fatal, error):
    def before(number, _name, _arguments):
        if number == fatal:
            raise error

    return before


def door(state, disk, now=NOW, sets=open_sets):
    return letin.Door(
        store=Store(state, Disk()),
        open_sets=sets,
        peers=frozenset,
        now=lambda: now,
        disk=disk,
        configured=tuple,
    )


def test_at_every_refusal_of_the_disk_kernel_and_disk_agree_or_the_error_says_so(tmp_path, kernel):
    for fatal in range(1, 20):
        state = tmp_path / str(fatal)
        lab.run("ipset", "destroy")
        letin.let_in(pass_for(V6, None), door(state, Disk()))
        disk = Counted(Disk(), _refuse(fatal, DiskError("no room")))
        try:
            letin.let_in(pass_for(V4, 2), door(state, disk))
        except DiskError as error:
            stored = [one.prefix for one in Passes(state, Disk()).read(NOW)]
            in_force = lab.saved_entries("geofence-trusted-inet") == [V4]
            assert (f"{V4}/32" in stored) == in_force
            expected = "in force and stored" if in_force else "nothing was changed"
            assert expected in error.still
        else:
            break
    assert lab.saved_entries("geofence-trusted-inet") == [V4]
    assert fatal > 5


def test_at_every_refusal_of_the_kernel_both_sets_and_the_disk_are_as_they_were(tmp_path, kernel):
    for fatal in range(1, 60):
        state = tmp_path / str(fatal)
        lab.run("ipset", "destroy")
        letin.let_in(pass_for(V6, None), door(state, Disk()))
        with open_sets() as real:
            refusing = Counted(real, _refuse(fatal, KernelRefused("no")))
            try:
                letin.let_in(pass_for(V4, 2), door(state, Disk(), sets=_giving(refusing)))
            except GeofenceError:
                stored = [one.prefix for one in Passes(state, Disk()).read(NOW)]
                assert stored == [f"{V6}/128"]
                assert lab.saved_entries("geofence-trusted-inet") == []
                assert lab.saved_entries("geofence-trusted-inet6") == [V6]
            if refusing.calls < fatal:
                break
    assert lab.saved_entries("geofence-trusted-inet") == [V4]
    assert fatal > 10


def _giving(sets):
    return lambda: contextlib.nullcontext(sets)


def test_a_trusted_set_of_somebody_elses_making_is_refused(geofence, kernel):
    lab.run("ipset", "create", "geofence-trusted-inet6", "hash:ip", "family", "inet6")
    answer = geofence("trust", V4)
    assert (answer.status, "hash:ip" in answer.err) == (71, True)
    assert "nothing was changed" in answer.err
    assert "geofence-trusted-inet" not in lab.set_names()
    assert "nobody" in geofence("trust").out


def test_without_permission_it_says_so(geofence, kernel):
    answer = lab.without_privileges(geofence.state, "trust", V4)
    assert (answer.status, (geofence.state / "passes.json").exists()) == (77, False)


def test_while_another_run_writes_it_waits_and_while_one_downloads_it_does_not(
    geofence, kernel, monkeypatch
):
    geofence.state.mkdir()
    with locks.updater(geofence.state):
        assert geofence("trust", V4).status == 0
    monkeypatch.setattr(locks, "WRITER_WAIT_SECONDS", 0.1)
    with locks.writer(geofence.state):
        assert geofence("trust", V6).status == 75


def test_damaged_passes_are_said_and_not_thrown_away(geofence, kernel):
    geofence.state.mkdir()
    (geofence.state / "passes.json").write_text('[{"prefix": "203.0.')
    answer = geofence("trust", V4)
    assert (answer.status, "passes.json is damaged" in answer.err) == (74, True)
    assert (geofence.state / "passes.json").read_text().startswith('[{"prefix"')


# Files of the configuration


def test_a_file_of_prefixes_may_have_comments_and_lies_beside_the_configuration(tmp_path):
    (tmp_path / "office.txt").write_text(
        "# office\n198.51.100.0/24  # first floor\n\n2001:db8::7\n"
    )
    found = list(configured(["@office.txt", "192.0.2.1"], tmp_path))
    assert found == [
        parse_prefix("198.51.100.0/24"),
        parse_prefix("2001:db8::7/128"),
        parse_prefix("192.0.2.1/32"),
    ]


def test_a_bad_line_is_named_by_file_and_line(tmp_path):
    (tmp_path / "office.txt").write_text("198.51.100.0/24\n198.51.100.9/24\n")
    with pytest.raises(ConfigError, match=r"office\.txt:2: '198\.51\.100\.9/24' has host bits"):
        list(configured(["@office.txt"], tmp_path))


def test_a_file_that_others_could_write_is_refused(tmp_path):
    path = lab.plain_list(tmp_path / "office.txt", "198.51.100.0/24")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="others than root may write it"):
        list(configured(["@office.txt"], tmp_path))


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"@office\.txt: cannot be read"):
        list(configured(["@office.txt"], tmp_path))


# An update and who is here by SSH


def test_an_ssh_peer_whom_the_kernel_trusts_does_not_make_an_update_fail(
    geofence, kernel, tmp_path, monkeypatch
):
    found = snapshot_lists(Fence(name="LI", countries=("LI",)))
    prefixes = [text for one in found.values() for text in texts(one)] + ["198.50.0.0/24"]
    path = lab.plain_list(tmp_path / "with.txt", *prefixes)
    without = lab.plain_list(tmp_path / "without.txt", *prefixes[:-1])
    update = ("update", "--country", "LI", "--source", "plain", "--from")
    assert geofence(*update, path).status == 0
    monkeypatch.setenv("SSH_CONNECTION", "198.50.0.9 50000 192.0.2.1 22")
    assert geofence(*update, without).status == 65
    geofence("trust", "198.50.0.9", "--for", "2h")
    answer = geofence(*update, without)
    assert (answer.status, answer.err) == (0, "")
