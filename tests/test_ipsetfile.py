"""The text of a set: the same bytes for the same list, and read back strictly or not at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofence.aggregate import aggregate
from geofence.ipsetfile import hashsize, maxelem, read, write
from geofence.model import Family, PrefixList, Range
from tests.lists import prefix_list

LISTS = {
    Family.INET: prefix_list(Family.INET, "192.0.2.0/24", "198.51.100.128/25", "203.0.113.7/32"),
    Family.INET6: prefix_list(Family.INET6, "2001:db8::/48", "2001:db8:8000::/33"),
}
GOLDEN = {
    Family.INET: """\
create geofence-JP-inet hash:net family inet hashsize 1024 maxelem 65536
add geofence-JP-inet 192.0.2.0/24
add geofence-JP-inet 198.51.100.128/25
add geofence-JP-inet 203.0.113.7/32
""",
    Family.INET6: """\
create geofence-JP-inet6 hash:net family inet6 hashsize 1024 maxelem 65536
add geofence-JP-inet6 2001:db8::/48
add geofence-JP-inet6 2001:db8:8000::/33
""",
}


@pytest.mark.parametrize("family", Family)
def test_a_set_is_written_as_the_contract_says(family):
    assert write("JP", LISTS[family]) == GOLDEN[family]


@pytest.mark.parametrize("family", Family)
def test_what_was_written_is_read_back(family):
    assert read("JP", family, GOLDEN[family]) == LISTS[family]


def test_an_empty_set_is_one_line():
    text = "create geofence-CF-inet6 hash:net family inet6 hashsize 1024 maxelem 65536\n"
    assert write("CF", PrefixList(Family.INET6, ())) == text
    assert read("CF", Family.INET6, text) == PrefixList(Family.INET6, ())


@settings(deadline=None)
@given(st.sampled_from(Family), st.lists(st.integers(0, 2**20 - 1), min_size=1, max_size=30))
def test_any_list_is_read_back(family, firsts):
    size = 2 ** (family.bits - 20)
    prefixes = aggregate(family, [Range(at * size, at * size + size // 3) for at in firsts])
    assert read("ASIA", family, write("ASIA", prefixes)) == prefixes


@pytest.mark.parametrize(
    ("entries", "hash_size", "max_elements"),
    [
        (0, 1024, 65536),
        (1, 1024, 65536),
        (1023, 1024, 65536),
        (1024, 2048, 65536),
        (3118, 4096, 65536),
        (32768, 65536, 65536),
        (32769, 65536, 131072),
        (65536, 131072, 131072),
        (168_933, 262144, 524288),
    ],
)
def test_a_set_has_room_for_twice_its_entries(entries, hash_size, max_elements):
    assert (hashsize(entries), maxelem(entries)) == (hash_size, max_elements)
    assert max_elements >= max(2 * entries, 65536)
    assert hash_size > entries


ADD = "add geofence-JP-inet "


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        pytest.param("create ", "create -exist ", "line 1: ", id="create"),
        pytest.param("hash:net", "hash:ip", "line 1: ", id="type"),
        pytest.param("hashsize 1024", "hashsize", "line 1: ", id="hash-size"),
        pytest.param("maxelem 65536", "maxelem 2", "line 1: ", id="room"),
        pytest.param("maxelem 65536", "maxelem 65536 timeout 300", "line 1: ", id="timeout"),
        pytest.param("create geofence-JP-inet", "create geofence-KR-inet", "line 1: ", id="set"),
        pytest.param("family inet ", "family inet6 ", "line 1: ", id="family"),
        pytest.param("\n", "\r\n", "line 1: ", id="crlf"),
        pytest.param("create", "# a comment\ncreate", "line 1: ", id="comment"),
        pytest.param(f"{ADD}198", "add geofence-KR-inet 198", "line 3: ", id="other-set"),
        pytest.param(f"{ADD}198", "add geofence-JP-inet6 198", "line 3: ", id="other-family-set"),
        pytest.param(f"{ADD}198", "del geofence-JP-inet 198", "line 3: ", id="delete"),
        pytest.param(f"{ADD}198", "198", "line 3: ", id="prefix-alone"),
        pytest.param("203.0.113.7/32", "example.net", "line 4: 'example.net'", id="host-name"),
        pytest.param("203.0.113.7/32", "203.0.113.7", "line 4: '203.0.113.7' is an", id="address"),
        pytest.param("198.51.100.128/25", "198.51.100.128/24", "line 3: ", id="host-bits"),
        pytest.param("203.0.113.7/32", "203.0.113.7/32 nomatch", "line 4: ", id="option"),
        pytest.param("203.0.113.7/32", "2001:db8::/32", "is no IPv4 prefix", id="inet6"),
        pytest.param("203.0.113.7/32", "192.0.3.0/24", "line 4: its prefix does not", id="order"),
        pytest.param("203.0.113.7/32", "198.51.100.128/25", "line 4: its prefix", id="twice"),
        pytest.param("198.51.100.128/25", "203.0.113.7/32", "line 4: its prefix", id="host-twice"),
        pytest.param("198.51.100.128/25", "192.0.2.128/25", "line 3: its prefix", id="overlap"),
        pytest.param("198.51.100.128/25", "192.0.2.0/25", "line 3: its prefix", id="within"),
        pytest.param("203.0.113.7/32\n", "203.0.113.7/32", "line 4: cut", id="last-newline"),
        pytest.param("203.0.113.7/32\n", "203.0.113.7/3", "line 4: ", id="cut"),
        pytest.param("203.0.113.7/32\n", "203.0.113.7/32\n\n", "line 5: ", id="blank-line"),
        pytest.param(GOLDEN[Family.INET], "", "line 1: ", id="empty"),
        pytest.param(GOLDEN[Family.INET], "\n", "line 1: ", id="a-newline"),
    ],
)
def test_nothing_else_is_read(old, new, complaint):
    text = GOLDEN[Family.INET]
    assert old in text
    with pytest.raises(ValueError, match=complaint):
        read("JP", Family.INET, text.replace(old, new))


def test_another_fences_or_familys_text_is_refused():
    with pytest.raises(ValueError, match="does not create geofence-KR-inet for 3 entries"):
        read("KR", Family.INET, GOLDEN[Family.INET])
    with pytest.raises(ValueError, match="does not create geofence-JP-inet6 for 3 entries"):
        read("JP", Family.INET6, GOLDEN[Family.INET])
