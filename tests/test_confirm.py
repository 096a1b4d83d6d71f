"""New rules that nobody confirms are taken back, whatever became of who put them there."""

import errno
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geofence import confirm, locks, pending, rules, watcher
from geofence.disk import Disk
from geofence.errors import Busy, DiskError
from geofence.kernel.iptables import Iptables, Variant
from geofence.model import Family, Fence
from tests import lab
from tests.watched import INSIDE, Host, kill_watchers, process, until, watchers

RACES = int(os.environ.get("GEOFENCE_RACES", "300"))
ROOT = Path(__file__).parents[1]
TYPED_INTERRUPT, TYPED_END = b"\x03", b"\x04"


@pytest.fixture(params=["nft"])
def host(request, kernel, tmp_path, geofence):
    yield Host(tmp_path, geofence, request.param)
    kill_watchers()


both_variants = pytest.mark.parametrize("host", lab.VARIANTS, indirect=True)


@both_variants
def test_rules_that_nobody_confirms_go_and_other_tools_stay(host):
    before = host.rules()
    assert host.enable("--confirm", "1").status == 0
    deadline = host.waiting.deadline
    assert not host.is_open()
    assert not host.is_recorded
    host.iptables("-I", "INPUT", "-s", "203.0.113.8", "-j", "DROP")
    until(host.is_open)
    late = time.clock_gettime(time.CLOCK_BOOTTIME) - deadline
    assert 0 <= late < 1
    assert sorted(host.rules()) == sorted([*before, "iptables INPUT -s 203.0.113.8/32 -j DROP"])
    until(lambda: host.files == {"reverted.json"})
    assert not host.is_recorded


def test_confirmed_rules_stay_and_are_recorded(host):
    host.enable("--confirm", "1")
    deadline = host.waiting.deadline
    enforced = host.rules()
    assert host("confirm").status == 0
    assert host.is_recorded
    until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > deadline and not watchers())
    assert host.rules() == enforced
    assert host.files == set()


def test_what_was_enabled_before_comes_back_as_it_was(host):
    host.configure(private="judge")
    host.enable()
    before = host.rules()
    record = (host.state / "LI/enabled/enabled.json").read_bytes()
    host.configure(private="return")
    host.enable("--confirm", "1")
    assert host.rules() != before
    until(lambda: host.rules() == before)
    assert (host.state / "LI/enabled/enabled.json").read_bytes() == record


def test_a_chain_that_a_foreign_rule_leads_to_stays_and_is_empty(host):
    host.enable("--confirm", "1")
    host.iptables("-A", "OUTPUT", "-j", "ALLOW-LI-INPUT")
    until(lambda: host.files == {"reverted.json"})
    left = [line for line in host.rules() if "ALLOW-LI-INPUT" in line]
    assert left == ["iptables OUTPUT -j ALLOW-LI-INPUT", "iptables ALLOW-LI-INPUT"]


def test_nothing_is_watched_where_nothing_changes(host):
    host.enable()
    assert host.enable("--confirm", "60").status == 0
    assert (host.files, watchers()) == (set(), set())


@pytest.mark.parametrize("verb", ["enable", "repair"])
def test_a_second_change_has_to_wait(host, verb):
    host.enable()
    host.configure(private="judge")
    host.enable("--confirm", "60")
    enforced = host.rules()
    answer = host(verb, "--without-rehearsal")
    assert answer.status == 75
    assert "for 60 s yet" in answer.err
    assert "geofence confirm" in answer.err
    assert host.rules() == enforced


def test_disable_wins_over_a_change_that_waits(host):
    before = host.rules()
    host.enable("--confirm", "60")
    assert host("disable").status == 0
    assert (host.rules(), host.files) == (before, set())
    until(lambda: not watchers())
    assert host("confirm").status == 1


def test_disable_of_another_fence_does_not_settle_a_change(host):
    host.enable("--confirm", "60")
    assert host("update", "--country", "CH", "--source", "bundled").status == 0
    assert host("disable", "--fence", "CH").status == 75
    assert not host.is_open()
    assert host.files == {"pending.json"}


def test_disable_that_fails_leaves_the_change_to_the_watcher(host, tmp_path, monkeypatch):
    refused = refusing(tmp_path, monkeypatch)
    host.enable("--confirm", "1")
    refused.touch()
    assert host("disable").status == 71
    assert not host.is_open()
    refused.unlink()
    until(host.is_open)


def test_confirm_with_nothing_waiting_is_no(host):
    answer = host("--json", "confirm")
    assert answer.status == 1
    assert answer.document["why"] == "nothing waits to be confirmed"


def test_confirm_that_comes_too_late_is_told_so(host):
    host.enable("--confirm", "1")
    until(host.is_open)
    until(lambda: "reverted.json" in host.files)
    answer = host("confirm")
    assert answer.status == 1
    assert "too late: the old rules came back at 20" in answer.out
    assert "the old rules came back at 20" in host("status").out
    host.enable()
    assert "came back" not in host("status").out


def test_confirm_is_no_when_the_watcher_was_killed_and_the_time_is_over(host):
    host.enable("--confirm", "1")
    kill_watchers()
    until(lambda: not host.waiting.left())
    assert "was not confirmed" in host("status").out
    assert host("confirm").status == 1
    assert host.is_open()


def test_confirm_is_no_when_the_rules_are_not_in_place(host):
    host.enable("--confirm", "1")
    host.iptables("-D", "INPUT", "-j", "ALLOW-LI-INPUT")
    answer = host("confirm")
    assert answer.status == 1
    assert "not in place" in answer.out
    until(host.is_open)
    assert not host.is_recorded


def test_rules_that_were_pushed_down_are_in_place(host):
    host.enable("--confirm", "60")
    host.iptables("-I", "INPUT", "-s", "203.0.113.8", "-j", "DROP")
    assert host("confirm").status == 0


def test_status_tells_what_waits_and_for_how_long(host):
    assert host("--json", "status").document["pending"] is None
    host.enable("--confirm", "60")
    waiting = host("--json", "status").document["pending"]
    assert waiting == {"fences": ["LI"], "seconds_left": pytest.approx(60, abs=5)}
    assert "LI: waits to be confirmed: the old rules come back in" in host("status").out


def test_a_confirmation_that_was_killed_is_finished(host):
    host.enable("--confirm", "60")
    assert pending.claim(host.state, pending.CONFIRMED, Disk())
    until(lambda: not watchers())
    assert not host.is_open()
    assert host("confirm").status == 0
    assert host.is_recorded
    assert host.files == set()


@pytest.mark.parametrize("verb", ["enable", "repair", "disable", "restore", "update"])
def test_a_reversion_that_was_killed_is_finished_by_the_next_run(host, verb):
    host.configure(private="judge")
    host.enable()
    before = host.rules()
    host.configure(private="return")
    host.enable("--confirm", "60")
    kill_watchers()
    assert pending.claim(host.state, pending.REVERTING, Disk())
    host.configure(private="judge")
    arguments = {"update": ["--source", "bundled", "--accept-change"]}.get(
        verb, ["--without-rehearsal"] if verb in ("enable", "repair") else []
    )
    assert host(verb, *arguments).status == 0
    if verb == "disable":
        assert host.is_open()
    else:
        assert host.rules() == before
    assert "reverting.json" not in host.files


@pytest.mark.parametrize("verb", ["restore", "update"])
def test_after_a_reboot_nobody_can_confirm_any_more(host, verb):
    host.enable("--confirm", "60")
    kill_watchers()
    path = host.state / "pending.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "an-earlier-one"}))
    assert (
        host(verb, *(["--source", "bundled", "--accept-change"] * (verb == "update"))).status == 0
    )
    assert host.is_open()
    assert host("confirm").status == 1


def test_a_damaged_note_is_named_and_not_believed(host):
    host.enable("--confirm", "60")
    kill_watchers()
    (host.state / "pending.json").write_text("{}")
    answer = host.enable()
    assert answer.status == 74
    assert "pending.json is damaged" in answer.err


def test_a_watcher_takes_back_what_it_knows_though_its_note_is_damaged(host):
    host.enable("--confirm", "1")
    (host.state / "pending.json").write_text("{}")
    until(host.is_open)


def test_a_watcher_takes_back_what_it_knows_though_the_whole_state_is_gone(host):
    before = host.rules()
    assert host.enable("--confirm", "2").status == 0
    assert not host.is_open()
    host.state.rename(host.state.with_name("gone"))
    until(lambda: host.rules() == before)


def test_a_confirmation_that_the_disk_does_not_take_says_what_is_in_force_and_can_be_repeated(
    host, monkeypatch
):
    assert host.enable("--confirm", "60").status == 0
    write = Disk.write

    def refuse(self, path, content, *more, **named):
        if "enabled" in str(path):
            raise DiskError("no room", cure="make room")
        return write(self, path, content, *more, **named)

    monkeypatch.setattr(Disk, "write", refuse)
    answer = host("confirm")
    assert answer.status == 74
    assert "are confirmed and stay" in answer.err
    assert "geofence confirm again" in answer.err
    assert "is confirmed, but not stored as enabled" in host("status").err
    monkeypatch.setattr(Disk, "write", write)
    assert host("confirm").status == 0
    assert host.is_recorded
    assert not host.is_open()


@pytest.mark.parametrize("number", [1, 2, 3], ids=["before-any", "between-families", "after-both"])
def test_killed_while_applying(host, number):
    before = host.rules()
    killed_at(number, lambda: host.enable("--confirm", "1"))
    assert host.is_open() == (number == 1)
    until(lambda: host.files == {"reverted.json"})
    assert host.rules() == before
    assert host("confirm").status == 1


def test_disable_settles_a_change_that_was_killed_before_it_was_applied(host):
    killed_at(1, lambda: host.enable("--confirm", "60"))
    assert host("confirm").status == 1
    assert host("disable").status == 0
    assert host.files == set()
    assert host.enable().status == 0


def killed_at(number, act):
    """Run an act in a child that is killed before its n-th change of rules, or at its end."""
    pid = os.fork()
    if pid == 0:
        calls, restore = iter(range(1, 100)), Iptables.restore

        def kill_or_restore(table, text):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            restore(table, text)

        Iptables.restore = kill_or_restore  # type: ignore[method-assign]
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)


def test_the_end_of_everybody_around_does_not_end_the_watcher(host):
    with process(["sh", "-c", '"$@"; sleep 60', "sh", *host.command(
        "enable", "--without-rehearsal", "--confirm", "2"
    )]) as group:  # fmt: skip
        until(lambda: not host.is_open())
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()
    (pid,) = watchers()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        os.kill(pid, number)
    assert not host.is_open()
    until(host.is_open)


def test_a_closed_terminal_does_not_end_the_watcher(host):
    words = host.command("enable", "--without-rehearsal", "--confirm", "2")
    shell, terminal = at_a_terminal(["sh", "-c", '"$@"; read never', "sh", *words])
    until(lambda: not host.is_open())
    os.close(terminal)
    assert shell.wait() == -signal.SIGHUP
    assert not host.is_open()
    until(host.is_open)


def test_a_watcher_holds_nothing_of_who_started_it(host):
    lab.run(*host.command("enable", "--without-rehearsal", "--confirm", "60"))
    (pid,) = watchers()
    assert {path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir()} == {"null"}
    assert os.getsid(pid) != os.getsid(0)
    with locks.writer(host.state):
        pass


def test_the_program_may_be_uninstalled_meanwhile(host, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(ROOT / "geofence", copy / "geofence")
    (copy / "geofence/data").mkdir()
    done = subprocess.run(
        host.command("enable", "--without-rehearsal", "--confirm", "1"), cwd=copy, check=False
    )
    assert done.returncode == 0
    shutil.rmtree(copy)
    assert not host.is_open()
    until(host.is_open)


def refusing(directory, monkeypatch):
    """Put programs into PATH that refuse to change IPv6 rules while a file is there."""
    programs, refused = directory / "programs", directory / "refused"
    programs.mkdir()
    for variant in lab.VARIANTS:
        name = f"ip6tables-{variant}-restore"
        (programs / name).write_text(
            f'#!/bin/sh\n[ -e {refused} ] && exit 1\nexec {shutil.which(name)} "$@"\n'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return refused


def test_a_reversion_that_is_refused_is_tried_again(host, tmp_path, monkeypatch):
    refused = refusing(tmp_path, monkeypatch)
    host.enable("--confirm", "1")
    refused.touch()
    until(lambda: "reverting.json" in host.files)
    assert host("confirm").status == 71
    assert not host.is_open()
    refused.unlink()
    until(host.is_open)
    until(lambda: host.files == {"reverted.json"})


def test_a_change_that_is_refused_leaves_nothing_behind(host, tmp_path, monkeypatch):
    before = host.rules()
    refusing(tmp_path, monkeypatch).touch()
    assert host.enable("--confirm", "60").status == 71
    assert (host.rules(), host.files) == (before, set())
    until(lambda: not watchers())


@pytest.mark.parametrize("host", ["legacy"], indirect=True)
def test_a_held_xtables_lock_delays_a_reversion_and_no_more(host):
    host.enable("--confirm", "1")
    with Path(os.environ["XTABLES_LOCKFILE"]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        until(lambda: "reverting.json" in host.files)
        assert not host.is_open()
    until(host.is_open)


def test_a_run_that_hangs_with_the_lock_does_not_keep_the_owner_out(host, monkeypatch):
    monkeypatch.setattr(locks, "WRITER_WAIT_SECONDS", 0.1)
    host.enable("--confirm", "1")
    with locks.writer(host.state):
        until(host.is_open)


def test_a_change_that_outlasts_its_own_deadline_is_taken_back(host):
    host.enable()
    host("disable")  # the sets that the rules name are there now
    before = host.rules()
    tables = [Iptables(family, Variant(host.variant)) for family in Family]
    goals = rules.wanted(Fence(name="LI", countries=("LI",)), tables, trusting=True)
    with (
        pytest.raises(Busy, match="took longer"),
        confirm.watched(goals, {"LI": {}}, 60, host.state, Disk()),
    ):
        pending.forget(host.state, Disk())
        rules.reach(goals)
    assert host.rules() == before


def test_only_one_of_two_wins(tmp_path):
    start, won = threading.Barrier(2), {}

    def claim(name):
        for number in range(RACES):
            state = tmp_path / str(number)
            start.wait()
            won[number, name] = pending.claim(state, name, Disk())

    for number in range(RACES):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / pending.WAITING).touch()
    names = (pending.CONFIRMED, pending.REVERTING)
    racers = [threading.Thread(target=claim, args=(name,)) for name in names]
    for one in racers:
        one.start()
    for one in racers:
        one.join()
    for number in range(RACES):
        (winner,) = [name for name in names if won[number, name]]
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == [winner]


class Systemd:
    """A systemd-run that notes what it is told."""

    def __init__(self, directory: Path, monkeypatch, *, does: str) -> None:
        self.told = directory / "told"
        (directory / "bin").mkdir()
        program = directory / "bin/systemd-run"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {self.told}\n{does}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(watcher, "_SYSTEMD", directory)
        monkeypatch.setattr(watcher, "_INIT_NETWORK", Path("/proc/self/ns/net"))

    @property
    def commands(self) -> list[str]:
        """What it was told, run by run."""
        return self.told.read_text().splitlines() if self.told.exists() else []


AFTER_ITS_TIME = """
seconds=${2#--on-active=}
while [ "$1" != -- ]; do shift; done
shift
(sleep "${seconds%s}"; exec "$@") >/dev/null 2>&1 </dev/null &
"""


def test_where_systemd_runs_its_timer_watches_too(host, tmp_path, monkeypatch):
    systemd = Systemd(tmp_path, monkeypatch, does="exit 0")
    assert host.enable("--confirm", "60").err == ""
    (command,) = systemd.commands
    assert command.startswith("--collect --on-active=60s --timer-property=AccuracySec=100ms ")
    assert command.endswith(f"-- {sys.executable} -m geofence.watcher {host.state}")


def test_the_timer_takes_back_what_a_killed_watcher_does_not(host, tmp_path, monkeypatch):
    Systemd(tmp_path, monkeypatch, does=AFTER_ITS_TIME)
    host.enable("--confirm", "1")
    assert kill_watchers() == 1
    host.config.write_text("[fence.LI\n")  # a typo must not keep the owner out
    assert not host.is_open()
    until(host.is_open)
    until(lambda: host.files == {"reverted.json"})


def test_the_timer_finishes_what_a_killed_watcher_began(host, tmp_path, monkeypatch):
    Systemd(tmp_path, monkeypatch, does=AFTER_ITS_TIME)
    host.enable("--confirm", "1")
    kill_watchers()
    pending.claim(host.state, pending.REVERTING, Disk())
    until(host.is_open)


def test_an_older_systemd_is_asked_without_collect(host, tmp_path, monkeypatch):
    old = 'case "$*" in *--collect*) echo unrecognized >&2; exit 1;; esac'
    systemd = Systemd(tmp_path, monkeypatch, does=old)
    assert host.enable("--confirm", "60").err == ""
    assert [command.split()[0] for command in systemd.commands] == ["--collect", "--on-active=60s"]


def test_without_a_timer_the_other_watcher_suffices(host, tmp_path, monkeypatch):
    Systemd(tmp_path, monkeypatch, does="echo no bus >&2; exit 1")
    answer = host.enable("--confirm", "1")
    assert answer.status == 0
    assert "no timer of systemd could be set" in answer.err
    assert "no bus" in answer.err
    until(host.is_open)


def test_systemd_is_not_asked_from_another_network_namespace(host, tmp_path, monkeypatch):
    systemd = Systemd(tmp_path, monkeypatch, does="exit 0")
    monkeypatch.setattr(watcher, "_INIT_NETWORK", tmp_path)
    host.enable("--confirm", "60")
    assert systemd.commands == []


def at_a_terminal(command: list[str], **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """Run a command at a terminal that it leads, and give the terminal's other end."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["env", "--default-signal=INT", "setsid", "--ctty", *command],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment},
    )  # fmt: skip
    os.close(theirs)
    return running, ours


class Terminal:
    """Somebody at a terminal who came by SSH, and who runs a command there."""

    def __init__(self, command: list[str]) -> None:
        self.said = b""
        connection = f"{INSIDE} 50000 192.0.2.1 22"
        self._running, self._terminal = at_a_terminal(command, SSH_CONNECTION=connection)

    def type(self, text: bytes) -> None:
        """Answer the question, when it has been asked."""
        until(lambda: b"[60] " in self._read())
        os.write(self._terminal, text)

    def status(self) -> int:
        """Wait for the end, and give the exit status."""
        until(self._ended)
        os.close(self._terminal)
        return self._running.wait()

    def hang_up(self) -> int:
        """Close the terminal when the question has been asked, and give the exit status."""
        until(lambda: b"[60] " in self._read())
        os.close(self._terminal)
        return self._running.wait()

    def _read(self) -> bytes:
        while select.select([self._terminal], [], [], 0)[0]:
            self.said += os.read(self._terminal, 4096)
        return self.said

    def _ended(self) -> bool:
        try:
            self._read()
        except OSError as error:
            return error.errno == errno.EIO  # nobody has the other end open any more
        return False


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        pytest.param(b"\n", 60, id="default"),
        pytest.param(b"100\n", 100, id="another"),
        pytest.param(b" 7 \r\n", 7, id="blanks"),
    ],
)
def test_who_comes_by_ssh_is_asked(host, typed, seconds):
    terminal = Terminal(host.command("enable", "--without-rehearsal"))
    terminal.type(typed)
    assert terminal.status() == 0
    assert not host.is_open()
    assert host.waiting.left() == pytest.approx(seconds, abs=2)


def test_who_comes_by_ssh_may_do_without(host):
    terminal = Terminal(host.command("enable", "--without-rehearsal"))
    terminal.type(b"0\n")
    assert terminal.status() == 0
    assert host.is_recorded
    assert host.files == set()


@pytest.mark.parametrize(
    ("typed", "status", "complaint"),
    [
        pytest.param(TYPED_END, 2, b"no answer came", id="end"),
        pytest.param(TYPED_INTERRUPT, 130, b"interrupted", id="interrupt"),
        pytest.param(b"soon\n", 2, b"'soon' is no number of seconds", id="word"),
        pytest.param(b"-1\n", 2, b"'-1' is no number of seconds", id="negative"),
        pytest.param(b"9" * 80 + b"\n", 2, b"is no number of seconds", id="endless"),
        pytest.param(b"\xff\n", 2, b"is no number of seconds", id="no-text"),
    ],
)
def test_an_answer_that_is_none_changes_nothing(host, typed, status, complaint):
    terminal = Terminal(host.command("enable", "--without-rehearsal"))
    terminal.type(typed)
    assert terminal.status() == status
    assert complaint in terminal.said
    assert b"Traceback" not in terminal.said
    assert host.is_open()
    assert (host.files, watchers()) == (set(), set())


def test_a_terminal_that_is_closed_at_the_question_gives_no_answer(host):
    words = host.command("enable", "--without-rehearsal")
    terminal = Terminal(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words])
    assert terminal.hang_up() == 2
    assert host.is_open()


def test_who_has_no_terminal_is_not_asked(host, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"{INSIDE} 50000 192.0.2.1 22")
    done = subprocess.run(
        host.command("enable", "--without-rehearsal"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert host.is_recorded


def test_who_said_confirm_is_not_asked(host):
    terminal = Terminal(host.command("enable", "--without-rehearsal", "--confirm", "50"))
    assert terminal.status() == 0
    assert b"[60]" not in terminal.said
    assert host.files == {"pending.json"}
