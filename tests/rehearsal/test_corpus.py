"""Which packets are sent, and what a fence has to say of each, held against a table by hand."""

import dataclasses
import ipaddress

import pytest

from geofence import ruletext
from geofence.model import Family, Fence, Prefix, PrefixList, Private, Style
from geofence.prefixes import format_address, parse_address, parse_prefix
from geofence.rehearsal import corpus, kinds
from geofence.rehearsal.corpus import Model, Probe, Way
from geofence.rehearsal.packets import ICMP, ICMPV6, IGMP, TCP, UDP, VRRP, Kind, echo

GATE = Fence(name="JP", countries=("JP",))
ALLOW = dataclasses.replace(GATE, style=Style.ALLOW, target="SERVICES")
JUDGING = dataclasses.replace(GATE, private=Private.JUDGE)
SSH = Kind(TCP, 22)
LISTS = {Family.INET: ("133.11.0.0/16",), Family.INET6: ("2001:200::/32",)}
STANDS = {Family.INET: "192.0.2.254", Family.INET6: "2001:db8:ffff::fe"}
TRUSTED = {
    Family.INET: ("203.0.113.0/29", "192.0.2.254/32"),
    Family.INET6: ("2001:db8:77::/64", "2001:db8:ffff::fe/128"),
}
families = pytest.mark.parametrize("family", list(Family))


def prefixes(texts) -> tuple[Prefix, ...]:
    return tuple(sorted(parse_prefix(text)[1] for text in texts))


def model(fence=GATE, family=Family.INET, members=None, *, trusting=True) -> Model:
    found = prefixes(LISTS[family] if members is None else members)
    always = corpus.merged(family, prefixes(TRUSTED[family]))
    return Model(fence=fence, members=PrefixList(family, found), trusted=always, trusting=trusting)


def admits(source: str, kind: Kind = SSH, fence=GATE, *, trusting=True) -> bool:
    address = parse_address(source)
    one = model(fence, address[0], trusting=trusting)
    return one.admits(Probe(address, kind, ""))


MEMBERS = ("133.11.0.0", "133.11.255.255", "2001:200::", "2001:200:ffff:ffff:ffff:ffff:ffff:ffff")
TRUSTED_ONES = ("203.0.113.0", "203.0.113.7", "2001:db8:77::", "2001:db8:77:0:ffff:ffff:ffff:ffff")
STRANGERS = (
    "133.10.255.255", "133.12.0.0", "203.0.112.255", "203.0.113.8", "198.51.100.7",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:201::", "2001:db8:76:ffff:ffff:ffff:ffff:ffff",
    "2001:db8:77:1::", "2001:db8::7", "::1", "127.0.0.1",
)  # fmt: skip
PRIVATE_ONES = (
    "10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0",
    "192.168.255.255", "169.254.0.0", "169.254.255.255", "fc00::",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)  # fmt: skip
NEARLY_PRIVATE = (
    "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
    "169.253.255.255", "169.255.0.0", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::",
    "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::",
)  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "gate", "judging", "allow", "allow_not_trusting"),
    [
        pytest.param(MEMBERS, True, True, True, True, id="members"),
        pytest.param(TRUSTED_ONES, True, True, True, False, id="trusted"),
        pytest.param(STRANGERS, False, False, False, False, id="strangers"),
        pytest.param(PRIVATE_ONES, True, False, False, False, id="private"),
        pytest.param(NEARLY_PRIVATE, False, False, False, False, id="nearly-private"),
    ],
)
def test_who_is_admitted(sources, gate, judging, allow, allow_not_trusting):
    for source in sources:
        assert admits(source) is gate, source
        assert admits(source, fence=JUDGING) is judging, source
        assert admits(source, fence=ALLOW) is allow, source
        assert admits(source, fence=ALLOW, trusting=False) is allow_not_trusting, source
        assert admits(source, trusting=False) is gate, source


def test_an_empty_list_admits_nobody():
    assert not model(members=()).admits(Probe(parse_address("133.11.0.0"), SSH, ""))


VRRP_GROUP = {Family.INET: "224.0.0.18", Family.INET6: "ff02::12"}
EVERYBODY = {Family.INET: "224.0.0.1", Family.INET6: "ff02::1"}


def to(kind: Kind, group: str) -> Kind:
    return dataclasses.replace(kind, destination=parse_address(group))


LIVED_BY = {
    Family.INET: {Kind(UDP, 68, 67), to(Kind(IGMP), "224.0.0.1"), to(Kind(VRRP), "224.0.0.18")},
    Family.INET6: {
        Kind(UDP, 546, 547), to(Kind(VRRP), "ff02::12"),
        *(Kind(ICMPV6, type_) for type_ in (130, 131, 132, 133, 134, 135, 136, 143)),
    },
}  # fmt: skip
NOT_LIVED_BY = {
    Family.INET: {
        Kind(UDP, 67, 68), Kind(UDP, 68, 66), Kind(UDP, 68, 68), Kind(UDP, 67, 67),
        Kind(UDP, 69, 67), Kind(TCP, 68, 67), Kind(IGMP), Kind(VRRP), to(Kind(VRRP), "224.0.0.1"),
        *(Kind(ICMP, type_) for type_ in (0, 5, 8, 9, 13)),
    },
    Family.INET6: {
        Kind(UDP, 547, 546), Kind(UDP, 546, 546), Kind(UDP, 546, 548), Kind(UDP, 545, 547),
        Kind(UDP, 547, 547), Kind(TCP, 546, 547), Kind(VRRP), to(Kind(VRRP), "ff02::1"),
        *(Kind(ICMPV6, type_) for type_ in (1, 2, 127, 128, 129, 137, 142, 144)),
    },
}  # fmt: skip
FOREIGN = {Family.INET: "198.51.100.7", Family.INET6: "2001:db8::7"}


@families
def test_a_gate_lets_anybody_send_what_a_host_on_a_link_lives_by(family):
    for kind in LIVED_BY[family]:
        assert admits(FOREIGN[family], kind), kind
        assert admits(FOREIGN[family], kind, JUDGING), kind
        assert not admits(FOREIGN[family], kind, ALLOW), kind


@families
def test_a_gate_stops_what_is_nearly_that(family):
    for kind in NOT_LIVED_BY[family]:
        assert not admits(FOREIGN[family], kind), kind


@families
def test_all_of_both_is_sent_but_the_pings(family):
    every = LIVED_BY[family] | NOT_LIVED_BY[family]
    assert every - {echo(family)} <= set(kinds.special(family))
    assert len(set(kinds.special(family))) == len(kinds.special(family))


def services(*rules: str, ssh=(22,), family=Family.INET) -> tuple[Kind, ...]:
    """Give the kinds that are sent to a host with these rules in INPUT."""
    text = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *(f"-A INPUT {one}" for one in rules)])
    tables = [ruletext.read(text)]
    return (*kinds.services(family, ssh, tables), *kinds.unnamed(ssh, tables))


def ports(kinds, protocol: int) -> list[int]:
    return [kind.number for kind in kinds if kind.protocol == protocol]


@families
def test_a_host_without_rules_gets_ssh_pings_and_what_nobody_named(family):
    unnamed = Kind(TCP, 61003), Kind(UDP, 61003)
    assert services(family=family) == (Kind(TCP, 22), echo(family), *unnamed)


def test_every_port_of_ssh_is_tried_the_lowest_first():
    assert services(ssh=(2222, 22))[:2] == (Kind(TCP, 22), Kind(TCP, 2222))


@pytest.mark.parametrize(
    ("rule", "tcp", "udp"),
    [
        ("-p tcp -m tcp --dport 80 -j ACCEPT", [80], []),
        ("-p udp -m udp --dport 53 -j ACCEPT", [], [53]),
        ("-p tcp -m tcp ! --dport 80 -j DROP", [80], []),
        ("-p tcp -m multiport --dports 80,443 -j ACCEPT", [80, 443], []),
        ("-p tcp -m multiport --dports 80,8000:8010 -j ACCEPT", [80, 8000, 8010], []),
        ("-p udp -m udp --dport 33434:33523 -j REJECT", [], [33434, 33523]),
        ("-p tcp -m tcp --destination-port 25 -j ACCEPT", [25], []),
        ("-p tcp -m multiport --destination-ports 25,26 -j ACCEPT", [25, 26], []),
        ("-p tcp -m multiport --ports 6000,6001 -j ACCEPT", [6000, 6001], []),
        ("-p tcp -m tcp --sport 67 -j ACCEPT", [], []),
        ("-p tcp -m multiport --sports 67,68 -j ACCEPT", [], []),
        ("-p tcp -j REDIRECT --to-ports 8080", [], []),
        ("-p sctp -m sctp --dport 80 -j ACCEPT", [], []),
        ("-p tcp -m tcp --dport http -j ACCEPT", [], []),
    ],
)
def test_the_ports_that_a_rule_names_are_tried(rule, tcp, udp):
    found = services(rule)
    assert ports(found, TCP) == [22, *tcp, 61003]
    assert ports(found, UDP) == [*udp, 61003]


def test_every_table_and_chain_names_ports():
    text = (
        "*nat\n:X - [0:0]\n-A X -p tcp -m tcp --dport 8080 -j RETURN\nCOMMIT\n"
        "*filter\n:Y - [0:0]\n-A Y -p tcp -m tcp --dport 25 -j RETURN\nCOMMIT\n"
    )
    tables = [ruletext.read(text, name) for name in ("nat", "filter")]
    assert ports(kinds.services(Family.INET, [22], tables), TCP) == [22, 25, 8080]


def test_a_port_named_twice_is_tried_once():
    found = services("-p tcp -m tcp --dport 22 -j ACCEPT", "-p tcp -m tcp --dport 22 -j DROP")
    assert ports(found, TCP) == [22, 61003]


def test_a_host_with_very_many_ports_has_the_first_256_of_each_protocol_tried():
    rules = [
        f"-p {protocol} -m {protocol} --dport {port} -j ACCEPT"
        for port in range(1000, 1300)
        for protocol in ("tcp", "udp")
    ]
    found = services(*rules)
    assert ports(found, TCP) == [22, *range(1000, 1256), 61003]
    assert ports(found, UDP) == [*range(1000, 1256), 61003]


@pytest.mark.parametrize(
    ("rules", "free"),
    [
        (["-p tcp -m tcp --dport 61003 -j ACCEPT"], 61002),
        (["-p udp -m udp --dport 61003 -j ACCEPT"], 61002),
        (["-p tcp -m tcp --dport 32768:61003 -j ACCEPT"], 32767),
        (["-p tcp -m tcp --dport 32768:65535 -j ACCEPT", "-p udp --dport 32767"], 32766),
        (["-p tcp -m multiport --ports 61000:61009 -j ACCEPT"], 60999),
        (["-p tcp -m tcp --dport 2:65535 -j ACCEPT"], 1),
    ],
)
def test_the_unnamed_port_is_in_no_range_either(rules, free):
    assert services(*rules)[-2:] == (Kind(TCP, free), Kind(UDP, free))


def test_nor_is_it_that_of_ssh():
    assert services(ssh=(22, 61003))[-2:] == (Kind(TCP, 61002), Kind(UDP, 61002))


def test_where_rules_name_every_port_there_is_none_that_no_rule_names():
    found = services("-p tcp -m tcp --dport 1:65535 -j REJECT")
    assert found == (Kind(TCP, 22), Kind(TCP, 1), Kind(TCP, 65535), echo(Family.INET))


def test_what_the_kernels_set_has_beside_the_list_is_tried_too():
    one = dataclasses.replace(model(members=[]), strays=prefixes(["198.51.100.0/30"]))
    found = [(format_address(*probe.source), probe.why) for probe in corpus.ends(one, SSH)]
    why = "in 198.51.100.0/30, which the list has not"
    assert found == [("198.51.100.0", why), ("198.51.100.3", why)]


def test_prefixes_are_merged_where_they_overlap():
    found = prefixes(["192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32"])
    first, last = (parse_address(text)[1] for text in ("192.0.2.0", "192.0.2.255"))
    alone = parse_address("198.51.100.7")[1]
    assert corpus.merged(Family.INET, found) == ((first, last), (alone, alone))


def test_of_very_many_trusted_addresses_a_few_are_tried_with_every_kind_and_all_with_one():
    every = corpus.merged(Family.INET, [Prefix(0x14000000 + 2 * n, 32) for n in range(2000)])
    one = dataclasses.replace(model(members=[]), trusted=every)
    found = [probe for probe in sampled(one) if probe.why == "trusted"]
    assert len({probe.source for probe in found}) == 2001  # and the rehearsal's own
    assert len(found) < 2000 + 20 * len(KINDS)


def test_ends_are_both_ends_and_the_neighbours_outside():
    found = [*corpus.ends(model(members=["192.0.2.0/24"]), SSH)]
    assert {(format_address(*one.source), one.why) for one in found} == {
        ("192.0.1.255", "before 192.0.2.0/24"),
        ("192.0.2.0", "first of 192.0.2.0/24"),
        ("192.0.2.255", "last of 192.0.2.0/24"),
        ("192.0.3.0", "behind 192.0.2.0/24"),
    }
    assert {one.kind for one in found} == {SSH}
    assert not any(one.owner or one.inside for one in found)


@pytest.mark.parametrize(
    ("members", "sources"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            ["192.0.2.0/25", "192.0.2.128/26"],
            [f"192.0.2.{last}" for last in (0, 127, 128, 191, 192)] + ["192.0.1.255"],
            id="adjacent",
        ),
        pytest.param(
            ["192.0.2.1/32", "192.0.2.3/32"],
            ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
            id="a-neighbour-in-common",
        ),
        pytest.param(["0.0.0.0/1"], ["0.0.0.0", "127.255.255.255", "128.0.0.0"], id="the-first"),
        pytest.param(
            ["255.255.255.254/31"],
            ["255.255.255.253", "255.255.255.254", "255.255.255.255"],
            id="the-last",
        ),
        pytest.param(["::/1"], ["::", "7fff" + ":ffff" * 7, "8000::"], id="the-first-6"),
        pytest.param(
            ["ffff:ffff:ffff:ffff::/64"],
            ["ffff:ffff:ffff:fffe" + ":ffff" * 4, "ffff:ffff:ffff:ffff::", "ffff" + ":ffff" * 7],
            id="the-last-6",
        ),
        pytest.param(
            ["2001:200::8/128"], ["2001:200::7", "2001:200::8", "2001:200::9"], id="one-address"
        ),
    ],
)  # fmt: skip
def test_ends_are_sent_once_each_and_none_beyond_the_first_and_the_last(members, sources):
    family = Family.INET6 if ":" in "".join(members) else Family.INET
    found = [one.source for one in corpus.ends(model(family=family, members=members), SSH)]
    assert sorted(found) == sorted(map(parse_address, sources))


def test_the_ends_of_any_list_are_those_that_the_standard_library_finds():
    texts = [f"133.11.{place}.0/{24 + place % 9}" for place in range(99)]
    wanted = set()
    for one in map(ipaddress.ip_network, texts):
        first, last = int(one.network_address), int(one.broadcast_address)
        wanted |= {first - 1, first, last, last + 1}
    assert {one.source[1] for one in corpus.ends(model(members=texts), SSH)} == wanted


KINDS = (SSH, Kind(TCP, 80), echo(Family.INET), Kind(TCP, 61003), Kind(UDP, 61003))


def sampled(one: Model, owners=None) -> list[Probe]:
    return [*corpus.sampled(one, KINDS, owners or {})]


@families
@pytest.mark.parametrize("fence", [GATE, JUDGING, ALLOW])
def test_what_must_be_dropped_is_sent_before_members_and_trusted(fence, family):
    one = model(fence, family)
    found = sampled(one)
    admitted = [place for place, probe in enumerate(found) if probe.why.startswith(("mem", "tru"))]
    strangers = [place for place, probe in enumerate(found) if probe.why == "foreign"]
    assert max(strangers) < min(admitted)
    assert all(one.admits(found[place]) for place in admitted)
    named = [probe for probe in found if probe.why == "foreign" and probe.kind in KINDS]
    assert named
    assert not any(one.admits(probe) for probe in named)


@families
def test_foreigners_send_every_kind_there_is(family):
    found = {probe.kind for probe in sampled(model(family=family)) if probe.why == "foreign"}
    assert found == {*kinds.special(family), *KINDS}


@pytest.mark.parametrize(
    ("family", "foreigners"),
    [
        (Family.INET, {"198.51.100.7", "133.10.255.255", "133.12.0.0"}),
        (Family.INET6, {"2001:db8::7", f"2001:1ff{':ffff' * 6}", "2001:201::"}),
    ],
)
def test_foreigners_are_nobody_and_neighbours_of_members(family, foreigners):
    found = [one for one in sampled(model(family=family)) if one.why == "foreign"]
    assert {format_address(*one.source) for one in found} == foreigners


def test_a_neighbour_that_is_a_member_too_is_no_foreigner():
    found = sampled(model(members=["133.11.0.0/17", "133.11.128.0/18"]))
    neighbours = {format_address(*one.source) for one in found if one.why == "foreign"}
    assert neighbours == {"198.51.100.7", "133.10.255.255", "133.11.192.0"}


@pytest.mark.parametrize("members", [["0.0.0.0/1"], ["255.255.255.255/32"], []])
def test_no_foreigner_is_beyond_the_first_and_the_last_address(members):
    found = sampled(model(members=members))
    assert all(0 < one.source[1] < 2**32 for one in found if one.why == "foreign")


@families
def test_the_ends_of_what_is_private_send_to_ssh_and_pings(family):
    mark = "." if family is Family.INET else ":"
    edges = {one for one in (*PRIVATE_ONES, *NEARLY_PRIVATE) if mark in one}
    found = [one for one in sampled(model(family=family)) if one.why.startswith(("in ", "beside "))]
    assert {format_address(*one.source) for one in found} == edges
    assert {one.kind for one in found} == {SSH, echo(family)}


def test_private_sources_send_what_a_host_lives_by():
    found = [one for one in sampled(model()) if one.why == "private"]
    assert {format_address(*one.source) for one in found} == {
        "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.0.1",
    }  # fmt: skip
    assert {one.kind for one in found} == set(kinds.special(Family.INET))


def test_members_are_the_first_of_the_first_the_middle_and_the_last_prefix():
    one = model(members=[f"133.{place}.0.0/24" for place in range(0, 50, 2)])
    found = [probe for probe in sampled(one) if probe.why.startswith("member")]
    assert {(format_address(*probe.source), probe.why) for probe in found} == {
        (f"133.{place}.0.0", f"member 133.{place}.0.0/24") for place in (0, 24, 48)
    }
    assert {probe.kind for probe in found} == set(KINDS)


@families
def test_trusted_are_the_one_that_the_rehearsal_trusts_and_the_ends_of_the_owners(family):
    one = model(family=family)
    found = [probe for probe in sampled(one) if probe.why == "trusted"]
    ends = {text for text in TRUSTED_ONES if (":" in text) is (family is Family.INET6)}
    assert {format_address(*probe.source) for probe in found} == {STANDS[family], *ends}
    assert {probe.kind for probe in found} == set(KINDS)
    own = {format_address(*address) for address in corpus.trusted_addresses(one)}
    assert own == ends


def test_owners_come_to_their_own_port_by_their_own_family():
    owners = {parse_address("133.11.0.9"): Way(2222), parse_address("2001:200::9"): Way(22)}
    (found,) = [one for one in sampled(model(), owners) if one.owner]
    assert found == Probe(parse_address("133.11.0.9"), Kind(TCP, 2222), "must get in", owner=True)


def test_what_is_forwarded_is_sent_by_nobody_neighbours_members_and_trusted():
    direct = dataclasses.replace(Kind(TCP, 80), destination=parse_address("172.17.0.2"))
    found = [*corpus.forwarded(model(), "docker0", [Kind(TCP, 8080), direct])]
    assert [(format_address(*one.source), one.why) for one in found[::2]] == [
        ("198.51.100.7", "foreign"), ("133.10.255.255", "foreign"), ("133.12.0.0", "foreign"),
        ("133.11.0.0", "member 133.11.0.0/16"), ("192.0.2.254", "trusted"),
        ("203.0.113.0", "trusted"), ("203.0.113.7", "trusted"),
    ]  # fmt: skip
    assert {one.inside for one in found} == {"docker0"}
    assert [one.kind for one in found[:2]] == [Kind(TCP, 8080), direct]
    assert str(found[1]) == (
        "tcp to port 80 to 172.17.0.2 from 198.51.100.7 (foreign), forwarded to docker0"
    )


def published(*rules: str) -> tuple[Kind, ...]:
    text = "\n".join(["*nat", ":DOCKER - [0:0]", *(f"-A DOCKER {one}" for one in rules)])
    return kinds.published([ruletext.read(text, "nat")])


def test_ports_that_lead_elsewhere_are_published():
    assert published(
        "! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
        "! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.3:80",
        "! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:53",
        "-p tcp -m tcp --dport 9000:9010 -j DNAT --to-destination 172.17.0.4",
        "-p tcp -m tcp --dport 25 -j RETURN",
        "-d 203.0.113.5/32 -j DNAT --to-destination 172.17.0.9",
    ) == (Kind(TCP, 8080), Kind(UDP, 53), Kind(TCP, 9000))


def test_of_very_many_published_ports_eight_are_tried():
    rules = [
        f"-p tcp -m tcp --dport {port} -j DNAT --to-destination 172.17.0.2"
        for port in range(7000, 7020)
    ]
    assert ports(published(*rules), TCP) == [*range(7000, 7008)]
