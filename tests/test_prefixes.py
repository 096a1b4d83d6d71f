"""Prefixes are read strictly, written as the kernel's tools write them, and compared by address."""

import ipaddress
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofence.model import Family, Prefix, PrefixList, Range
from geofence.prefixes import (
    count,
    difference,
    digest,
    find,
    format_address,
    format_prefix,
    host,
    intersection,
    parse_address,
    parse_ipv4,
    parse_ipv6,
    parse_prefix,
    quote,
    range_of,
    ranges_of,
    texts,
)
from tests.lists import lists, prefix_list

FULL_WIDTH_24 = "".join(unicodedata.lookup(f"FULLWIDTH DIGIT {name}") for name in ("TWO", "FOUR"))
ARABIC_24 = "\N{ARABIC-INDIC DIGIT TWO}\N{ARABIC-INDIC DIGIT FOUR}"


@st.composite
def networks(draw, family):
    """Draw any prefix of a family, as the standard library has it."""
    bits = draw(st.integers(0, 2**family.bits - 1)) >> draw(st.integers(0, family.bits))
    kind = ipaddress.IPv4Network if family is Family.INET else ipaddress.IPv6Network
    return kind((bits, draw(st.integers(0, family.bits))), strict=False)


def runs(last: int) -> st.SearchStrategy[list[Range]]:
    """Draw sorted, disjoint ranges out of a small universe (two may touch)."""
    cuts = st.lists(st.integers(0, last), unique=True, max_size=12).map(sorted)
    return cuts.map(lambda at: [Range(*pair) for pair in zip(at[::2], at[1::2], strict=False)])


def members(ranges: list[Range]) -> set[int]:
    return {address for first, last in ranges for address in range(first, last + 1)}


@pytest.mark.parametrize(
    ("text", "family", "prefix"),
    [
        ("192.0.2.0/24", Family.INET, Prefix(0xC0000200, 24)),
        ("0.0.0.0/0", Family.INET, Prefix(0, 0)),
        ("255.255.255.255/32", Family.INET, Prefix(0xFFFFFFFF, 32)),
        ("2001:db8::/32", Family.INET6, Prefix(0x20010DB8 << 96, 32)),
        ("2001:DB8::/32", Family.INET6, Prefix(0x20010DB8 << 96, 32)),
        ("2001:0db8:0000:0000:0000:0000:0000:0000/32", Family.INET6, Prefix(0x20010DB8 << 96, 32)),
        ("::/0", Family.INET6, Prefix(0, 0)),
        ("::1/128", Family.INET6, Prefix(1, 128)),
        ("::ffff:192.0.2.0/120", Family.INET6, Prefix(0xFFFF_C000_0200, 120)),
    ],
)  # fmt: skip
def test_what_publishers_write_is_read(text, family, prefix):
    assert parse_prefix(text) == (family, prefix)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/24", id="no-address"),
        pytest.param("192.0.2.0/", id="no-length"),
        pytest.param("192.0.2.0/ 24", id="blank-before-length"),
        pytest.param("192.0.2.0 /24", id="blank-after-address"),
        pytest.param(" 192.0.2.0/24", id="leading-blank"),
        pytest.param("192.0.2.0/24 ", id="trailing-blank"),
        pytest.param("192.0.2.0/24\n", id="trailing-newline"),
        pytest.param("192.0.2.0/24\r", id="trailing-return"),
        pytest.param("192.0.2.0/24\t", id="trailing-tab"),
        pytest.param("192.0.2.0/24\0", id="trailing-nul"),
        pytest.param("192.0.2.0/+24", id="plus"),
        pytest.param("192.0.2.0/-24", id="minus"),
        pytest.param("192.0.2.0/2_4", id="underscore"),
        pytest.param("192.0.2.0/024", id="length-with-leading-zero"),
        pytest.param("192.0.2.0/00", id="two-zeros"),
        pytest.param("192.0.2.0/24.0", id="fraction"),
        pytest.param("192.0.2.0/0x18", id="hexadecimal-length"),
        pytest.param(f"192.0.2.0/{FULL_WIDTH_24}", id="full-width-digits"),
        pytest.param(f"192.0.2.0/{ARABIC_24}", id="arabic-digits"),
        pytest.param("192.0.2.0/255.255.255.0", id="netmask"),
        pytest.param("192.0.2.0/0.0.0.255", id="hostmask"),
        pytest.param("192.0.2.0//24", id="two-slashes"),
        pytest.param("192.0.2.0/24/24", id="two-lengths"),
        pytest.param("192.0.2.0-192.0.2.255", id="range"),
        pytest.param("192.0.2.0/33", id="length-33"),
        pytest.param("192.0.2.0/240", id="length-240"),
        pytest.param("192.0.256.0/24", id="octet-256"),
        pytest.param("192.0.1000.0/24", id="octet-1000"),
        pytest.param("192.0.2/24", id="three-octets"),
        pytest.param("192.0.2.0.0/24", id="five-octets"),
        pytest.param("192..2.0/24", id="empty-octet"),
        pytest.param("10/8", id="one-octet"),
        pytest.param("10", id="a-number"),
        pytest.param("3221225984/24", id="a-large-number"),
        pytest.param("010.0.0.0/8", id="octal"),
        pytest.param("192.0.02.0/24", id="octet-with-leading-zero"),
        pytest.param("0xC0.0.2.0/24", id="hexadecimal"),
        pytest.param("example.net/24", id="host-name"),
        pytest.param("<html>", id="html"),
        pytest.param("2001:db8::/129", id="length-129"),
        pytest.param("2001:db8::/032", id="inet6-length-with-leading-zero"),
        pytest.param("2001:db8::/+32", id="inet6-plus"),
        pytest.param("2001:db8::/ 32", id="inet6-blank"),
        pytest.param("2001:db8::/32\n", id="inet6-trailing-newline"),
        pytest.param("2001:db8::/ffff:ffff::", id="inet6-netmask"),
        pytest.param("2001:db8//32", id="inet6-two-slashes"),
        pytest.param("2001:db8/32", id="inet6-too-few-groups"),
        pytest.param("2001:db8:::/32", id="inet6-three-colons"),
        pytest.param("2001::db8::/32", id="inet6-two-gaps"),
        pytest.param("2001:db8:0:0:0:0:0:0:0/32", id="inet6-nine-groups"),
        pytest.param("2001:0db80::/32", id="inet6-five-digits"),
        pytest.param("2001:dbg::/32", id="inet6-no-digit"),
        pytest.param("[2001:db8::]/32", id="inet6-brackets"),
        pytest.param("fe80::%eth0/64", id="scope-id"),
        pytest.param("fe80::/64%1", id="scope-id-at-the-end"),
        pytest.param("::192.0.2/120", id="dotted-tail-of-three"),
        pytest.param("::ffff:192.0.02.0/120", id="dotted-tail-octal"),
        pytest.param(f"2001:db8::/{FULL_WIDTH_24}", id="inet6-full-width-digits"),
    ],
)
def test_nothing_looser_is_read(text):
    with pytest.raises(ValueError, match="is not a prefix") as refused:
        parse_prefix(text)
    assert str(refused.value).startswith(quote(text))


@pytest.mark.parametrize(
    "text", ["192.0.2.1/24", "192.0.2.1/0", "192.0.2.128/24", "2001:db8::1/32", "::1/0"]
)
def test_host_bits_are_an_error(text):
    with pytest.raises(ValueError, match="has host bits set"):
        parse_prefix(text)


@pytest.mark.parametrize("text", ["192.0.2.0", "2001:db8::", "::ffff:192.0.2.1"])
def test_an_address_alone_is_no_prefix(text):
    with pytest.raises(ValueError, match="is an address without a prefix length"):
        parse_prefix(text)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[0-9a-f:. ]{3,12}/[0-9]{1,3}\n?", fullmatch=True))
def test_any_text_is_read_as_the_standard_library_would_or_refused_by_value_error(text):
    try:
        family, prefix = parse_prefix(text)
    except ValueError:
        return
    written = format_prefix(family, prefix)
    assert ipaddress.ip_network(written) == ipaddress.ip_network(text, strict=True)


@settings(deadline=None)
@given(st.sampled_from(Family).flatmap(networks))
def test_what_is_written_is_read_back_the_same(network):
    family, prefix = parse_prefix(str(network))
    assert prefix == Prefix(int(network.network_address), network.prefixlen)
    assert parse_prefix(format_prefix(family, prefix)) == (family, prefix)
    assert range_of(family, prefix) == Range(int(network[0]), int(network[-1]))
    assert list(texts(PrefixList(family, (prefix,)))) == [format_prefix(family, prefix)]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2001:DB8:0:0::/32", "2001:db8::/32"),
        ("2001:db8:0:0:1:0:0:0/80", "2001:db8:0:0:1::/80"),
        ("0:0::/0", "::/0"),
    ],
)
def test_ipv6_is_written_as_rfc_5952_says(written, text):
    assert format_prefix(*parse_prefix(written)) == text


@settings(deadline=None)
@given(st.ip_addresses())
def test_any_address_is_read_and_written(address):
    family = Family.INET if address.version == 4 else Family.INET6
    assert parse_address(str(address)) == (family, int(address))
    assert parse_address(format_address(family, int(address))) == (family, int(address))


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.0/24", "192.0.2", "010.0.0.1", " 192.0.2.1", "192.0.2.1\n", "192.0.2.1\0",
     "example.net", "2001:db8::1%eth0", "2001:db8", "2001:db8::1 ", "\udcff"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_quoted(text):
    with pytest.raises(ValueError, match="is not an IPv4 or IPv6 address") as refused:
        parse_address(text)
    assert str(refused.value).startswith(quote(text))


def test_an_address_of_the_other_family_is_refused():
    with pytest.raises(ValueError, match="is not an IPv4 address"):
        parse_ipv4("2001:db8::1")
    with pytest.raises(ValueError, match="is not an IPv6 address"):
        parse_ipv6("192.0.2.1")
    assert (parse_ipv4("0.0.2.1"), parse_ipv6("::201")) == (0x201, 0x201)


@settings(deadline=None)
@given(ours=runs(60), theirs=runs(60))
def test_ranges_are_compared_as_sets_of_addresses_are(ours, theirs):
    assert count(ours) == len(members(ours))
    for compared, expected in (
        (intersection(ours, theirs), members(ours) & members(theirs)),
        (difference(ours, theirs), members(ours) - members(theirs)),
    ):
        assert members(compared) == expected
        assert count(compared) == len(expected)
        assert compared == sorted(compared)


@settings(deadline=None)
@given(ours=runs(60))
def test_a_list_without_itself_is_nothing_and_without_nothing_itself(ours):
    assert difference(ours, ours) == []
    assert difference(ours, []) == intersection(ours, ours) == ours
    assert intersection(ours, []) == difference([], ours) == []


@pytest.mark.parametrize("family", Family)
def test_the_last_address_there_is_does_not_get_lost(family):
    whole = [Range(0, 2**family.bits - 1)]
    half = [Range(2 ** (family.bits - 1), 2**family.bits - 1)]
    assert count(whole) == 2**family.bits
    assert difference(whole, half) == [Range(0, 2 ** (family.bits - 1) - 1)]
    assert ranges_of(PrefixList(family, (Prefix(0, 0),))) == whole


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("192.0.1.255", None),
        ("192.0.2.0", "192.0.2.0/25"),
        ("192.0.2.127", "192.0.2.0/25"),
        ("192.0.2.128", None),
        ("198.51.100.7", "198.51.100.7/32"),
        ("198.51.100.8", None),
        ("203.0.113.255", "203.0.113.0/24"),
        ("255.255.255.255", None),
        ("0.0.0.0", None),
    ],
)
def test_the_prefix_that_holds_an_address_is_found(address, prefix):
    prefixes = prefix_list(Family.INET, "192.0.2.0/25", "198.51.100.7/32", "203.0.113.0/24")
    found = find(prefixes, parse_ipv4(address))
    assert (found and format_prefix(Family.INET, found)) == prefix


def test_nothing_is_found_in_an_empty_list_and_all_in_the_whole_of_ipv6():
    assert find(PrefixList(Family.INET6, ()), 0) is None
    everything = PrefixList(Family.INET6, (Prefix(0, 0),))
    assert find(everything, 0) == find(everything, 2**128 - 1) == Prefix(0, 0)


def test_a_digest_tells_lists_apart_and_not_the_order_of_their_families():
    one = lists("192.0.2.0/24", "2001:db8::/32")
    assert digest(one) == digest(dict(reversed([*one.items()])))
    others = [
        lists("192.0.2.0/25", "2001:db8::/32"),
        lists("192.0.2.0/24", "2001:db8::/33"),
        lists("192.0.2.0/24"),
        {**lists("192.0.2.0/24"), Family.INET6: PrefixList(Family.INET6, ())},
        {},
    ]
    assert len({digest(found) for found in [one, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    ("text", "unwrapped"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("::192.0.2.1", "::192.0.2.1"),
        ("::1:ffff:c000:201", "::1:ffff:c000:201"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_ipv4_mapped_address_is_an_ipv4_one(text, unwrapped):
    assert host(*parse_address(text)) == parse_address(unwrapped)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        pytest.param("192.0.2.0/24", "'192.0.2.0/24'", id="as-it-is"),
        pytest.param("\x1b[2Jgone\r\n", r"'\x1b[2Jgone\r\n'", id="terminal-control"),
        pytest.param("\N{RIGHT-TO-LEFT OVERRIDE}", r"'\u202e'", id="direction"),
        pytest.param(b"\xff\x00<", r"'\xff\x00<'", id="bytes"),
        pytest.param("a" * 80, f"'{'a' * 80}'", id="eighty"),
        pytest.param("a" * 81, f"'{'a' * 80}'...", id="eighty-one"),
    ],
)
def test_somebody_elses_text_is_quoted_without_its_power(text, quoted):
    assert quote(text) == quoted


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("\0\x1b\x7f", max_size=200)))
def test_a_quotation_is_short_and_printable(text):
    quoted = quote(text)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert len(quoted.removesuffix("...")) <= 80 + 2
