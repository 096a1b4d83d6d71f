"""Both families or neither: every call refused, killed and raced, in memory and on the kernel."""

import contextlib
import fcntl
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from geofence import rules, ruletext
from geofence.errors import Busy, GeofenceError, KernelRefused, NoPermission
from geofence.kernel import iptables
from geofence.model import Family, Fence, Forward, Style
from tests import lab, rulesets
from tests.fakes import Counted
from tests.rulesets import FakeRules

JP = Fence(name="JP", countries=("JP",))
CHAIN = "ALLOW-JP-INPUT"
DOCKER = Fence(name="JP", countries=("JP",), forward=Forward.DOCKER_USER, outside=("eth0", "eth1"))


def watching(before, *held):
    """Make a table a family, in memory or not, whose calls are counted together."""
    calls = itertools.count(1)
    return tuple(
        Counted(one, lambda _, name, arguments: before(next(calls), name, arguments))
        for one in held
    )


def nobody(_call, _name, _arguments):
    """Let every call pass."""


def start(name):
    """Give both families' tables in memory: bare, with the fence, or with parts of it."""
    held = (FakeRules(family=Family.INET), FakeRules(family=Family.INET6))
    for one in held:
        one.rules["INPUT"] += ["-i lo -j ACCEPT", "-p tcp -j ACCEPT"]
    if name != "bare":
        rules.reach(rules.wanted(JP, held, trusting=True))
    if name == "half":
        held[0].rules["INPUT"] = [f"-j {CHAIN}", "-i lo -j ACCEPT", f"-j {CHAIN}"]
        held[1].rules[CHAIN] = ["-j DROP"]
    return held


def ask(what, held):
    if what == "enable":
        return rules.wanted(JP, held, trusting=True)
    return rules.nothing_of("JP", held)


CASES = [("enable", "bare"), ("enable", "half"), ("disable", "whole"), ("disable", "half")]


@pytest.mark.parametrize(("what", "beginning"), CASES)
@pytest.mark.parametrize(
    "error",
    [
        KernelRefused("no"),
        Busy("later"),
        NoPermission("not you"),
        KeyboardInterrupt(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whichever_call_fails_both_tables_are_as_they_were_and_the_next_run_succeeds(
    what, beginning, error
):
    failed = 0
    for number in itertools.count(1):
        held = start(beginning)
        before = [one.table for one in held]

        def fail(call, _name, _arguments, number=number):
            if call == number:
                raise error

        goals = ask(what, watching(fail, *held))
        try:
            changed = rules.reach(goals)
        except type(error):
            failed += 1
            assert [one.table for one in held] == before, f"call {number}"
        else:
            assert len(changed) == 2
            break
        again = ask(what, held)
        rules.reach(again)
        assert rules.present(again)
    assert failed >= 7, "a save, a save, a restore and a save for each family"


def test_what_cannot_be_put_back_is_said():
    held = start("bare")

    def refuse(_call, name, _arguments):
        if name == "restore" and held[0].rules.get(CHAIN):
            raise KernelRefused("no more")

    with pytest.raises(KernelRefused) as caught:
        rules.reach(ask("enable", watching(refuse, *held)))
    assert "could not be put back: no more" in caught.value.still


def test_a_refusal_says_what_is_still_in_force():
    held = start("bare")

    def refuse(_call, name, _arguments):
        if name == "restore":
            raise Busy("the lock is held")

    counted = watching(refuse, *held)
    with pytest.raises(Busy) as caught:
        rules.reach(ask("enable", counted))
    assert caught.value.still == "the rules are as they were"
    assert sum(one.calls for one in counted) == 4, "nothing is written that is as it was"


def test_an_enable_that_finds_all_in_place_writes_nothing():
    held = start("whole")

    def refuse(_call, name, _arguments):
        assert name == "save"

    assert rules.reach(ask("enable", watching(refuse, *held))) == ()
    assert rules.reach(ask("disable", watching(refuse, *start("bare")))) == ()


def test_only_the_tables_that_had_to_be_changed_are_given_with_what_they_held():
    held = start("whole")
    held[1].rules["INPUT"].remove(f"-j {CHAIN}")
    without = held[1].table
    (changed,) = rules.reach(ask("enable", held))
    assert changed.own.jumps == ()
    rules.reach([changed])
    assert held[1].table == without
    assert changed.rules is held[1]


@pytest.mark.parametrize("times", [1, 7])
def test_another_tool_that_changes_our_jump_meanwhile_is_outwaited(times):
    held = start("whole")
    held[0].rules[CHAIN].pop()
    left = itertools.count()

    def meddle(_call, name, _arguments):
        if name == "restore" and next(left) < times:
            if f"-j {CHAIN}" in held[0].rules["INPUT"]:
                held[0].rules["INPUT"].remove(f"-j {CHAIN}")
            else:
                held[0].rules["INPUT"].append(f"-j {CHAIN}")
            held[0].rules["INPUT"].append("-s 192.0.2.1/32 -j DROP")

    rules.reach(ask("enable", watching(meddle, *held)))
    assert held[0].rules["INPUT"].count(f"-j {CHAIN}") == 1
    assert held[0].rules["INPUT"].count("-s 192.0.2.1/32 -j DROP") == times
    assert rules.present(ask("enable", held))


def test_another_tool_that_changes_our_jump_each_time_is_told_by_the_refusal():
    held = start("whole")
    held[0].rules[CHAIN].pop()

    def meddle(_call, name, _arguments):
        if name == "restore":
            held[0].rules["INPUT"].remove(f"-j {CHAIN}")
        elif f"-j {CHAIN}" not in held[0].rules["INPUT"]:
            held[0].rules["INPUT"] += [f"-j {CHAIN}", "-s 192.0.2.1/32 -j DROP"]

    with pytest.raises(KernelRefused, match="no such rule"):
        rules.reach(ask("enable", watching(meddle, *held)))


def test_a_chain_that_somebody_elses_rule_leads_to_is_emptied_and_kept():
    held = start("whole")
    held[0].rules["FORWARD"].append(f"-p tcp -j {CHAIN}")
    assert len(rules.reach(ask("disable", held))) == 2
    assert held[0].rules[CHAIN] == []
    assert held[0].rules["FORWARD"] == [f"-p tcp -j {CHAIN}"]
    assert CHAIN not in held[1].rules
    assert rules.reach(ask("disable", held)) == ()


def test_a_jump_that_comes_back_into_a_chain_that_is_kept_is_taken_out_again():
    held = start("whole")
    held[0].rules["FORWARD"].append(f"-p tcp -j {CHAIN}")
    left = itertools.count()

    def meddle(_call, name, _arguments):
        if name == "save" and held[0].rules.get(CHAIN) == [] and next(left) == 0:
            held[0].rules["INPUT"].append(f"-j {CHAIN}")

    rules.reach(ask("disable", watching(meddle, *held)))
    assert f"-j {CHAIN}" not in held[0].rules["INPUT"]
    assert next(left) > 1


def test_another_tool_that_never_ends_is_told():
    held = start("bare")

    def undo(_call, name, _arguments):
        if name == "save" and CHAIN in held[0].rules:
            held[0].rules["INPUT"] = ["-j DROP"]

    with pytest.raises(KernelRefused, match="does not hold the chain") as caught:
        rules.reach(ask("enable", watching(undo, *held)))
    assert "another tool" in caught.value.cure
    assert CHAIN not in held[0].rules


def test_a_refusal_that_has_nothing_to_do_with_other_tools_is_not_repeated():
    held = start("bare")
    asked = []

    def refuse(_call, name, _arguments):
        if name == "restore":
            asked.append(name)
            raise KernelRefused("no such set")

    with pytest.raises(KernelRefused, match="no such set"):
        rules.reach(ask("enable", watching(refuse, *held)))
    assert len(asked) == 1


def test_a_fence_of_one_family_has_a_chain_in_that_alone():
    held = start("bare")
    fence = Fence(name="JP", countries=("JP",), families=(Family.INET6,))
    (goal,) = rules.wanted(fence, held, trusting=True)
    assert goal.rules is held[1]


def test_an_allow_chain_names_the_trusted_only_when_there_are_any():
    fence = Fence(name="JP", countries=("JP",), style=Style.ALLOW, target="WEB")
    trusting, alone = (
        rules.wanted(fence, start("bare"), trusting=trusting)[0].own.body
        for trusting in (True, False)
    )
    assert (len(trusting or ()), len(alone or ())) == (2, 1)


def test_forwarded_traffic_is_met_in_forward_where_docker_is_not():
    held = start("bare")
    held[0].restore("*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n")
    goals = rules.wanted(DOCKER, held, trusting=True)
    assert [[jump.chain for jump in goal.own.jumps] for goal in goals] == [
        ["INPUT", "DOCKER-USER", "DOCKER-USER"],
        ["INPUT", "FORWARD", "FORWARD"],
    ]
    rules.reach(goals)
    assert rules.present(goals)
    assert rules.reach(rules.wanted(DOCKER, held, trusting=True)) == ()
    match = f"-m conntrack --ctstate NEW -j {CHAIN}"
    assert held[0].rules["DOCKER-USER"] == [f"-i eth0 {match}", f"-i eth1 {match}"]
    assert held[1].rules["FORWARD"] == [f"-i eth0 {match}", f"-i eth1 {match}"]


def test_jumps_move_to_docker_user_when_docker_comes():
    held = start("bare")
    rules.reach(rules.wanted(DOCKER, held, trusting=True))
    for one in held:
        one.restore("*filter\n:DOCKER-USER - [0:0]\n-I FORWARD 1 -j DOCKER-USER\nCOMMIT\n")
    rules.reach(rules.wanted(DOCKER, held, trusting=True))
    for one in held:
        assert one.rules["FORWARD"] == ["-j DOCKER-USER"]
        assert len(one.rules["DOCKER-USER"]) == 2


@pytest.fixture(params=lab.VARIANTS)
def real(kernel, request):
    """Give both families' real tables of a host with rules of its own."""
    rulesets.load_host(request.param)
    rulesets.make_trusted()
    rulesets.make_sets()
    yield tuple(rulesets.real(family, request.param) for family in Family)
    rulesets.empty()


def test_a_second_family_that_is_refused_leaves_the_first_as_it_was(real):
    lab.run("ipset", "destroy", "geofence-JP-inet6")
    before = rulesets.saves()
    with pytest.raises(KernelRefused, match=r"geofence-JP-inet6.*doesn't exist") as caught:
        rules.reach(ask("enable", real))
    assert rulesets.saves() == before
    assert caught.value.still == "the rules are as they were"
    lab.run("ipset", "create", "geofence-JP-inet6", "hash:net", "family", "inet6")
    rules.reach(ask("enable", real))
    assert rules.present(ask("enable", real))


@pytest.mark.parametrize("real", ["legacy"], indirect=True)
def test_the_lock_that_somebody_holds_is_waited_for_and_then_told(real, monkeypatch):
    monkeypatch.setattr(iptables, "_WAIT_SECONDS", 1)
    before = rulesets.saves()
    begun = time.monotonic()
    with Path(os.environ["XTABLES_LOCKFILE"]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy) as caught:
            rules.reach(ask("enable", real))
    assert 0.9 < time.monotonic() - begun < 9.0, "waited for, and no longer than it was told"
    assert caught.value.status == 75
    assert rulesets.saves() == before
    rules.reach(ask("enable", real))


def in_child(held, act):
    """Enable in a child, and give the status it ends with."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            rules.reach(ask("enable", watching(act, *held)))
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_between_the_families_waits_for_the_second(real, number):
    def strike(call, _name, _arguments):
        if call == 5:
            assert in_place(real) == [True, False]
            os.kill(os.getpid(), number)

    status = in_child(real, strike)
    if number != signal.SIGINT:  # which Python turns into KeyboardInterrupt
        assert os.WTERMSIG(status) == number
    assert in_place(real) == [True, True]


def in_place(held):
    return [rules.present([goal]) for goal in ask("enable", held)]


def test_killed_before_every_call_each_table_is_whole_and_the_next_run_makes_both_so(real):
    before = rulesets.saves()
    seen = set()
    for number in itertools.count(1):

        def strike(call, _name, _arguments, number=number):
            if call == number:
                os.kill(os.getpid(), signal.SIGKILL)

        status = in_child(real, strike)
        seen.add(tuple(in_place(real)))
        rules.reach(ask("enable", real))
        assert rules.present(ask("enable", real))
        rules.reach(ask("disable", real))
        assert rulesets.saves() == before
        if not os.WIFSIGNALED(status):
            break
    assert seen == {(False, False), (True, False), (True, True)}


WRITER = """\
while [ ! -e "$2" ]; do
    $1 -w -I INPUT 1 -s 203.0.113.$3 -j DROP || echo lost >&2
    $1 -w -A INPUT -s 203.0.113.$3 -j REJECT || echo lost >&2
    $1 -w -D INPUT -s 203.0.113.$3 -j DROP || echo lost >&2
    $1 -w -D INPUT -s 203.0.113.$3 -j REJECT || echo lost >&2
done
"""


def test_two_busy_writers_lose_nothing_and_ours_is_there_once(real, tmp_path):
    before = rulesets.saves()
    end = tmp_path / "end"
    program = rulesets.program(Family.INET, real[0].variant)
    writers = [
        subprocess.Popen(
            ["sh", "-c", WRITER, "sh", program, end, str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in (1, 2)
    ]
    try:
        for _ in range(6):
            rules.reach(ask("enable", real))
            table = ruletext.read(real[0].save())
            own = ruletext.own(table, CHAIN)
            assert len(own.jumps) == 1
            assert own.body == ask("enable", real)[0].own.body
            rules.reach(ask("disable", real))
            assert CHAIN not in ruletext.read(real[0].save()).rules
    finally:
        end.touch()
        said = [writer.communicate(timeout=30)[1] for writer in writers]
    lines = [line for text in said for line in text.splitlines() if "# Warning" not in line]
    assert lines == []
    assert rulesets.saves() == before


def test_a_goal_can_be_undone_by_what_reach_gave(real):
    before = rulesets.saves()
    rules.reach(rules.reach(ask("enable", real)))
    assert rulesets.saves() == before


def test_the_position_is_kept_in_every_length_of_chain(real):
    for position in (1, 3, 99):
        fence = Fence(name="JP", countries=("JP",), position=position)
        goals = rules.wanted(fence, real, trusting=True)
        rules.reach(goals)
        for goal in goals:
            held = ruletext.read(goal.rules.save()).rules["INPUT"]
            assert held[min(position, len(held)) - 1] == f"-j {CHAIN}"
            assert held.count(f"-j {CHAIN}") == 1
        assert rules.reach(goals) == ()


def test_an_error_of_ours_is_raised_whatever_the_undoing_meets():
    held = start("bare")

    def refuse(_call, name, _arguments):
        if CHAIN in held[0].rules and name == "save":
            raise NoPermission("taken away")

    with pytest.raises(GeofenceError, match="taken away"):
        rules.reach(ask("enable", watching(refuse, *held)))
