"""Reading and changing a table's text, as properties over tables of every shape."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geofence import ruletext
from geofence.chain import Jump
from geofence.errors import KernelRefused
from geofence.model import Family
from geofence.ruletext import Own, Table
from tests import lab, rulesets
from tests.rulesets import FakeRules

CHAIN = "ALLOW-JP-INPUT"
TO_CHAIN = f"-j {CHAIN}"
NEW = f"-m conntrack --ctstate NEW {TO_CHAIN}"
MEMBERS = "-m set --match-set geofence-JP-inet src -j RETURN"
GATE = Own(chain=CHAIN, body=(MEMBERS, "-j DROP"), jumps=(Jump("INPUT", TO_CHAIN),))
GONE = Own(chain=CHAIN, body=None, jumps=())

FOREIGN = (
    "-i lo -j ACCEPT",
    "-j f2b-sshd",
    '-m comment --comment "-A INPUT -j ALLOW-JP-INPUT" -j ACCEPT',
    '-m comment --comment "say \\"hi\\", it\\\'s us" -j ACCEPT',
    "-m comment --comment a\x0bb\x85c\u2028d -j ACCEPT",
    "-m comment --comment -j -j ACCEPT",
    f'-m limit --limit 5/min -j LOG --log-prefix "{TO_CHAIN} "',
    "",
    "-j DROP",
)
FOREIGN_JUMPS = (
    f"-p tcp -m tcp --dport 22 {TO_CHAIN}",
    f"-s 192.0.2.0/24 -g {CHAIN}",
    f"-m comment --comment -j {TO_CHAIN}",
    f"! -i eth0 {NEW}",
)
OUR_JUMPS = {
    "INPUT": (TO_CHAIN,),
    "FORWARD": (f"-i eth0 {NEW}", f"-i wg+ {NEW}"),
    "DOCKER-USER": (f"-i eth0 {NEW}", f"-i wg+ {NEW}"),
}
BODIES = (
    (),
    (MEMBERS, "-j DROP"),
    ("-i lo -j RETURN", MEMBERS, '-m limit -j LOG --log-prefix "geofence-JP: "', "-j DROP"),
)


@st.composite
def tables(draw, *, ours=True):
    """Make a table that the kernel could hold: with our chain or without, whole or in pieces."""
    there = ours and draw(st.booleans())
    made = FakeRules(policies={"INPUT": "DROP", "FORWARD": "ACCEPT", "OUTPUT": "ACCEPT"})
    chains = ["f2b-sshd", *draw(st.sets(st.sampled_from(["DOCKER-USER", "my.odd:chain"])))]
    made.policies |= dict.fromkeys(chains, "-")
    for chain in made.policies:
        pool = [*FOREIGN]
        if there:
            pool += [*FOREIGN_JUMPS, *OUR_JUMPS.get(chain, ())]
        if chain == "f2b-sshd":
            pool.remove("-j f2b-sshd")
        made.rules[chain] = draw(st.lists(st.sampled_from(pool), max_size=6))
    if there:
        made.policies[CHAIN] = "-"
        made.rules[CHAIN] = [*draw(st.sampled_from(BODIES))]
    return made


@st.composite
def goals(draw):
    """Make what an enable asks for: a jump from INPUT anywhere, and some where it is forwarded."""
    jumps = [Jump("INPUT", TO_CHAIN, draw(st.integers(1, 12)))]
    forward = draw(st.sampled_from([None, "FORWARD", "DOCKER-USER"]))
    if forward:
        jumps += [Jump(forward, rule, n) for n, rule in enumerate(OUR_JUMPS[forward], 1)]
    return Own(chain=CHAIN, body=draw(st.sampled_from(BODIES[1:])), jumps=tuple(jumps))


def foreign(table):
    """Give all that is not ours, chain by chain and in order."""
    ours = {(jump.chain, jump.rule) for jump in ruletext.own(table, CHAIN).jumps}
    return {
        chain: [rule for rule in rules if (chain, rule) not in ours]
        for chain, rules in table.rules.items()
        if chain != CHAIN
    }


def possible(host, goal):
    return all(jump.chain in host.rules for jump in goal.jumps)


@settings(deadline=None)  # a busy machine is slow, and not wrong
@given(tables())
def test_what_was_printed_is_read(host):
    assert host.table == Table(
        policies=host.policies, rules={chain: tuple(rules) for chain, rules in host.rules.items()}
    )


@settings(deadline=None)
@given(tables(), goals())
def test_after_a_transaction_the_table_holds_the_goal_and_every_foreign_rule_in_order(host, goal):
    assume(possible(host, goal))
    before = host.table
    host.restore(ruletext.transaction(goal, before))
    assert ruletext.holds(host.table, goal)
    assert foreign(host.table) == foreign(before)
    assert {**host.table.policies, CHAIN: "-"} == {**before.policies, CHAIN: "-"}
    assert ruletext.own(host.table, CHAIN).body == goal.body
    for jump in goal.jumps:
        place = min(jump.position, len(host.rules[jump.chain]))
        assert host.rules[jump.chain][place - 1] == jump.rule
        assert host.rules[jump.chain].count(jump.rule) == 1


@settings(deadline=None)
@given(tables(), goals())
def test_a_second_transaction_changes_nothing(host, goal):
    assume(possible(host, goal))
    host.restore(ruletext.transaction(goal, host.table))
    held = host.table
    host.restore(ruletext.transaction(goal, held))
    assert host.table == held


@settings(deadline=None)
@given(tables(), goals())
def test_what_a_table_held_before_can_be_put_back_rule_for_rule(host, goal):
    assume(possible(host, goal))
    before = host.table
    host.restore(ruletext.transaction(goal, before))
    host.restore(ruletext.transaction(ruletext.own(before, CHAIN), host.table))
    assert host.table == before


@settings(deadline=None)
@given(tables())
def test_after_a_disable_nothing_of_ours_is_left_but_an_empty_chain_that_others_need(host):
    before = host.table
    jumps = ruletext.foreign_jumps(before, CHAIN)
    host.restore(ruletext.transaction(GONE, before))
    after = host.table
    assert ruletext.holds(after, GONE)
    assert foreign(after) == foreign(before)
    assert after.rules.get(CHAIN) == (() if jumps else None)
    assert ruletext.own(after, CHAIN).jumps == ()


@settings(deadline=None)
@given(tables(), goals())
def test_a_table_holds_a_goal_only_when_a_transaction_would_leave_it_as_it_is(host, goal):
    assume(possible(host, goal))
    before = host.table
    for wanted in (goal, GONE):
        host.restore(ruletext.transaction(wanted, before))
        assert ruletext.holds(before, wanted) == (host.table == before)
        host.restore(ruletext.transaction(ruletext.own(before, CHAIN), host.table))


@settings(deadline=None)
@given(tables(ours=False), goals())
def test_what_a_boot_loads_is_what_an_enable_makes(host, goal):
    assume(possible(host, goal))
    assume(all(jump.position <= len(host.rules[jump.chain]) + 1 for jump in goal.jumps))
    host.restore(ruletext.loading(goal))
    assert ruletext.holds(host.table, goal)


@settings(deadline=None)
@given(tables())
def test_a_jump_is_ours_or_foreign_and_none_is_missed(host):
    table = host.table
    found = [*ruletext.own(table, CHAIN).jumps, *ruletext.foreign_jumps(table, CHAIN)]
    leading = [
        (chain, place, rule)
        for chain, rules in host.rules.items()
        for place, rule in enumerate(rules, 1)
        if rule in FOREIGN_JUMPS or rule in {one for rules in OUR_JUMPS.values() for one in rules}
    ]
    assert sorted((jump.chain, jump.position, jump.rule) for jump in found) == sorted(leading)


@pytest.mark.parametrize(
    ("chain", "rule", "ours"),
    [
        ("INPUT", TO_CHAIN, True),
        ("FORWARD", f"-i eth0 {NEW}", True),
        ("DOCKER-USER", f"-i wg+ {NEW}", True),
        ("FORWARD", TO_CHAIN, False),
        ("OUTPUT", TO_CHAIN, False),
        ("INPUT", f"-i eth0 {NEW}", False),
        ("INPUT", f"-p tcp {TO_CHAIN}", False),
        ("f2b-sshd", f"-i eth0 {NEW}", False),
        ("FORWARD", f"! -i eth0 {NEW}", False),
        ("FORWARD", f"-o eth0 {NEW}", False),
        ("FORWARD", f"-i eth0 -p tcp {NEW}", False),
        ("FORWARD", f"-i eth0 -g {CHAIN}", False),
    ],
)
def test_only_a_jump_of_the_very_form_that_is_written_is_ours(chain, rule, ours):
    table = Table(policies={}, rules={chain: (rule,), CHAIN: ()})
    jump = (Jump(chain, rule),)
    assert ruletext.own(table, CHAIN).jumps == (jump if ours else ())
    assert ruletext.foreign_jumps(table, CHAIN) == (() if ours else jump)


def other_goal(position):
    jumps = (Jump("INPUT", "-j ALLOW-KR-INPUT", position),)
    members = "-m set --match-set geofence-KR-inet src -j ACCEPT"
    return Own(chain="ALLOW-KR-INPUT", body=(members,), jumps=jumps)


@settings(deadline=None)
@given(tables(), goals(), st.integers(1, 12))
def test_two_fences_do_not_put_each_other_out_of_place(host, goal, position):
    assume(possible(host, goal))
    for one in (goal, other_goal(position)):
        host.restore(ruletext.transaction(one, host.table))
    assert ruletext.holds(host.table, goal)
    assert ruletext.holds(host.table, other_goal(position))
    assert foreign(host.table)["INPUT"].count("-j ALLOW-KR-INPUT") == 1


def test_a_rule_that_another_tool_puts_before_a_jump_puts_it_out_of_place():
    host = FakeRules()
    for one in (GATE, other_goal(1)):
        host.restore(ruletext.transaction(one, host.table))
    assert host.rules["INPUT"] == ["-j ALLOW-KR-INPUT", TO_CHAIN]
    assert ruletext.holds(host.table, GATE)
    host.rules["INPUT"].insert(1, "-j ACCEPT")
    assert not ruletext.holds(host.table, GATE)
    assert ruletext.holds(host.table, other_goal(1))


def test_a_table_that_changed_since_it_was_read_refuses_the_transaction():
    host = FakeRules()
    host.restore(ruletext.transaction(GATE, host.table))
    read_before = host.table
    host.restore(f"*filter\n-D INPUT {TO_CHAIN}\nCOMMIT\n")
    held = host.table
    with pytest.raises(KernelRefused):
        host.restore(ruletext.transaction(GATE, read_before))
    assert host.table == held


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("the jump is elsewhere", ("INPUT", ["-j DROP", TO_CHAIN]), id="moved"),
        pytest.param("the jump is gone", ("INPUT", ["-j DROP"]), id="gone"),
        pytest.param("there are two", ("INPUT", [TO_CHAIN, TO_CHAIN, "-j DROP"]), id="twice"),
        pytest.param("a rule more", (CHAIN, [MEMBERS, "-j DROP", "-j DROP"]), id="more"),
        pytest.param("a rule less", (CHAIN, [MEMBERS]), id="less"),
        pytest.param("another order", (CHAIN, ["-j DROP", MEMBERS]), id="order"),
        pytest.param("a jump elsewhere", ("FORWARD", [f"-i eth0 {NEW}"]), id="forwarded"),
    ],
)
def test_a_table_does_not_hold_a_goal_when(name, change):
    host = FakeRules()
    host.rules["INPUT"].append("-j DROP")
    host.restore(ruletext.transaction(GATE, host.table))
    assert ruletext.holds(host.table, GATE)
    chain, rules = change
    host.rules[chain] = rules
    assert not ruletext.holds(host.table, GATE), name


def test_protocols_are_compared_whatever_name_the_host_gives_them():
    rules = {CHAIN: ("-d 224.0.0.0/4 -p igmp -j RETURN", "-p vrrp -j RETURN", "-p icmpv6 -j DROP")}
    assert ruletext.own(Table(policies={}, rules=rules), CHAIN).body == (
        "-d 224.0.0.0/4 -p 2 -j RETURN",
        "-p 112 -j RETURN",
        "-p ipv6-icmp -j DROP",
    )


def test_a_chain_of_that_name_is_a_fence_only_if_it_names_a_set_of_that_fence():
    allow = "-m set --match-set geofence-KR-inet6 src -j ACCEPT"
    rules = {
        "ALLOW-SSH-INPUT": ("-s 198.51.100.0/24 -j ACCEPT",),
        "ALLOW-US-INPUT": ("-m set --match-set geofence-JP-inet src -j ACCEPT",),
        "ALLOW-KR-INPUT": ("-i lo -j RETURN", allow),
        "ALLOW-JP-OUTPUT": (MEMBERS,),
        "ALLOW-JP": (MEMBERS,),
        CHAIN: (MEMBERS,),
    }
    assert ruletext.fences(Table(policies={}, rules=rules)) == ("KR", "JP")


def test_sets_and_interfaces_that_rules_name_are_found():
    rules = {
        "INPUT": (
            "-i eth0 -m set --match-set one src -j SET --add-set two src --exist",
            '-m comment --comment "--match-set three src -i eth9" -j DROP',
            "! -i wg+ -m set ! --match-set four src,dst -j DROP",
        ),
        "FORWARD": ("-o docker0 -j SET --del-set five src", "-j SET --map-set six src"),
    }
    table = Table(policies={}, rules=rules)
    assert ruletext.sets_named(table) == {"one", "two", "four", "five", "six"}
    assert ruletext.interfaces_named(table) == {"eth0", "wg+", "docker0"}


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("-p tcp -j ACCEPT", "ACCEPT"),
        ("-s 192.0.2.0/24 -g my.chain", "my.chain"),
        ('-j LOG --log-prefix "-j DROP "', "LOG"),
        ("-p tcp", ""),
        ("-j", ""),
    ],
)
def test_the_target_of_a_rule(rule, target):
    assert ruletext.target_of(rule) == target


def test_a_rule_that_no_shell_would_take_is_still_cut_into_words():
    assert ruletext.words_of('-m comment --comment "half -j DROP') == [
        "-m", "comment", "--comment", '"half', "-j", "DROP",
    ]  # fmt: skip


@pytest.fixture
def host(kernel):
    yield
    rulesets.empty()


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_real_rules_are_read_alike_with_counters_and_without(host, variant):
    rulesets.load_host(variant)
    for family, text in rulesets.HOST.items():
        save = rulesets.program(family, variant, "save")
        plain, counted = lab.run(save), lab.run(save, "-c")
        assert re.search(r"^\[\d+:\d+\] -A", counted, re.MULTILINE)
        for table in ("raw", "nat", "filter"):
            found = ruletext.read(plain, table)
            assert found == ruletext.read(counted, table)
            if f"*{table}" in text:  # a legacy table stays once it was looked at
                assert found == ruletext.read(text, table)
    assert ruletext.foreign_jumps(rulesets.filter_table(Family.INET, variant), CHAIN) == ()


def test_a_table_is_in_use_when_it_holds_a_rule_or_drops():
    read = ruletext.read
    assert not read("").in_use
    assert not read("*filter\n:INPUT ACCEPT [7:400]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n").in_use
    assert read("*filter\n:INPUT DROP [0:0]\nCOMMIT\n").in_use
    assert read("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n").in_use
    assert not read("*nat\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n").in_use


@pytest.mark.parametrize("variant", lab.VARIANTS)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("-D INPUT -j DROP\n", id="no-such-rule"),
        pytest.param("-I INPUT 3 -j DROP\n", id="beyond-the-end"),
        pytest.param("-X f2b\n", id="referenced"),
        pytest.param("-A INPUT -j nowhere\n", id="no-such-target"),
        pytest.param("-A nowhere -j DROP\n", id="no-such-chain"),
        pytest.param(":new - [0:0]\n-I INPUT 1 -j new\n-X gone\n", id="late"),
    ],
)
def test_the_table_in_memory_refuses_what_the_kernel_refuses(host, variant, text):
    fake, real = FakeRules(), rulesets.real(Family.INET, variant)
    start = "*filter\n:f2b - [0:0]\n-A INPUT -j f2b\nCOMMIT\n"
    for one in (fake, real):
        one.restore(start)
        held = ruletext.read(one.save())
        with pytest.raises(KernelRefused):
            one.restore(f"*filter\n{text}COMMIT\n")
        assert ruletext.read(one.save()) == held
    assert ruletext.read(fake.save()) == ruletext.read(real.save())


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_the_table_in_memory_does_what_the_kernel_does(host, variant):
    fake, real = FakeRules(), rulesets.real(Family.INET, variant)
    texts = (
        ":INPUT DROP [0:0]\n:two - [0:0]\n-A INPUT -j DROP\n-I INPUT 1 -j two\n",
        ":two - [0:0]\n-A two -j RETURN\n-I INPUT 3 -j two\n-I INPUT 2 -i lo -j ACCEPT\n",
        ":INPUT DROP [0:0]\n:two - [0:0]\n-D INPUT -j two\n-D INPUT -j two\n-X two\n",
        ":two - [0:0]\n-X two\n",
    )
    for text in texts:
        for one in (fake, real):
            one.restore(f"*filter\n{text}COMMIT\n")
        assert ruletext.read(fake.save()) == ruletext.read(real.save())
