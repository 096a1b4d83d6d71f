"""What each publisher's bytes become, and how a file that is no list is refused."""

import dataclasses
import datetime
import gzip
import hashlib
import ipaddress
from pathlib import Path
from typing import Any

import pytest

from geofence import documents, sources
from geofence.config import FetchLimits
from geofence.errors import ListRefused
from geofence.model import Family, Listing, Origin, Range
from geofence.sources import Document, bundled
from geofence.sources.bundled import BUNDLED
from geofence.sources.ipv4bycc import IPV4BYCC
from geofence.sources.plain import PLAIN
from geofence.sources.rir import RIR

APNIC = """\
#\tconditions of use
# __________________

2|apnic|20260214|7|19830613|20260213|+1000
apnic|*|asn|*|1|summary
# a comment between
apnic|*|ipv4|*|4|summary
apnic|*|ipv6|*|2|summary

apnic|JP|asn|173|1|20020801|allocated
apnic|JP|ipv4|203.0.113.0|256|20110412|allocated
apnic|AU|ipv4|198.51.100.0|128|20110811|assigned
apnic|JP|ipv4|192.0.2.0|64|00000000|assigned|A91872ED|e-stats
   \t
apnic||ipv4|192.0.2.64|64|20250703|assigned
apnic|JP|ipv6|2001:db8::|33|19990813|allocated
apnic|AU|ipv6|2001:db8:8000::|33||allocated
"""
HTML = "<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n"


@pytest.fixture
def file(tmp_path):
    """Put text or bytes into a file, as a document of it."""

    def make(content: str | bytes, publisher: str = "", name: str = "list.txt") -> Document:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return documents.document(path, publisher=publisher, location=name, limits=FetchLimits())

    return make


def delegated(
    *records: str, registry: str = "apnic", asn: int | None = None, **summary: int
) -> str:
    """Write a registry's file of these records; its summary is right unless told otherwise."""
    counts: dict[str, int | None] = {
        kind: sum(record.split("|")[1] == kind for record in records) for kind in ("ipv4", "ipv6")
    }
    counts |= {"asn": asn, **summary}
    lines = [f"2.3|{registry}|20260214|{len(records)}||20260213|+0000"]
    lines += [
        f"{registry}|*|{kind}|*|{count}|summary"
        for kind, count in counts.items()
        if count is not None
    ]
    lines += [f"{registry}|{record}" for record in records]
    return "".join(f"{line}\n" for line in lines)


HEADER = "2|apnic|20260214|0|19830613|20260213|+1000\n"
JP_INET = "JP|ipv4|192.0.2.0|256|20110412|allocated"
JP_INET6 = "JP|ipv6|2001:db8::|32|20110412|allocated"


def ranges(*texts: str) -> list[Range]:
    """Read prefixes and first-last ranges with the standard library."""
    found = []
    for text in texts:
        first, _, last = text.partition("-")
        network = ipaddress.ip_network(first)
        end = ipaddress.ip_address(last) if last else network[-1]
        found.append(Range(int(network[0]), int(end)))
    return found


def parse(source: Any, *read: Document, of: str = "JP") -> Listing:
    listing: Listing = source.parse(read, frozenset(of.split()))
    return listing


def refusal(source: Any, *read: Document, of: str = "JP") -> str:
    with pytest.raises(ListRefused) as refused:
        parse(source, *read, of=of)
    return refused.value.what


def test_a_registrys_file_becomes_the_ranges_of_a_country(file):
    listing = parse(RIR, file(APNIC))
    assert listing.source == "rir"
    assert listing.ranges == {
        Family.INET: {"JP": ranges("203.0.113.0/24", "192.0.2.0/26")},
        Family.INET6: {"JP": ranges("2001:db8::/33")},
    }


def test_a_registrys_date_is_the_end_date_inside_its_file(file):
    (origin,) = parse(RIR, file(APNIC)).origins
    assert origin == Origin(
        publisher="apnic",
        location="list.txt",
        date=datetime.date(2026, 2, 13),
        sha256=hashlib.sha256(APNIC.encode()).hexdigest(),
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(APNIC.replace("\n", "\r\n"), id="crlf"),
        pytest.param(APNIC.rstrip("\n"), id="no-last-newline"),
        pytest.param(gzip.compress(APNIC.encode()), id="gzip"),
        pytest.param(APNIC.replace("2|apnic", "2.3|apnic"), id="version-2.3"),
        pytest.param(APNIC.replace("|19830613|", "||"), id="no-start-date"),
        pytest.param(APNIC.replace("|20260214|", "|1790600421096|"), id="serial-in-milliseconds"),
    ],
)
def test_the_same_file_in_another_dress_reads_the_same(file, content):
    assert parse(RIR, file(content)).ranges == parse(RIR, file(APNIC, name="as-it-is")).ranges


def test_several_countries_come_from_several_registries_each_apart(file):
    apnic = file(delegated(JP_INET, JP_INET6), name="apnic")
    ripe = file(
        delegated(
            "GB|ipv4|198.51.100.0|256|20110412|allocated",
            "JP|ipv4|203.0.113.0|256|20110412|assigned",
            registry="ripencc",
        ),
        name="ripe",
    )
    listing = parse(RIR, ripe, apnic, of="JP GB")
    assert listing.ranges[Family.INET] == {
        "GB": ranges("198.51.100.0/24"),
        "JP": ranges("203.0.113.0/24", "192.0.2.0/24"),
    }
    assert [origin.publisher for origin in listing.origins] == ["ripencc", "apnic"]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("JP|ipv4|91.209.128.0|768|20081118|assigned", "91.209.128.0-91.209.130.255"),
        ("JP|ipv4|185.0.40.64|448|20081118|assigned", "185.0.40.64-185.0.41.255"),
        ("JP|ipv4|192.0.2.7|1|20081118|assigned", "192.0.2.7/32"),
        ("JP|ipv4|192.0.2.128|256|20081118|allocated", "192.0.2.128-192.0.3.127"),
        ("JP|ipv4|255.255.255.0|256|20081118|allocated", "255.255.255.0/24"),
        ("JP|ipv4|0.0.0.0|4294967296|20081118|allocated", "0.0.0.0/0"),
    ],
)
def test_a_count_that_is_no_prefix_is_a_range_all_the_same(file, record, found):
    assert parse(RIR, file(delegated(record))).ranges[Family.INET] == {"JP": ranges(found)}


def test_what_is_not_given_out_belongs_to_nobody(file):
    records = [
        JP_INET,
        "|ipv4|185.0.40.64|448||reserved",
        "|ipv4|23.128.1.0|768||reserved|",
        "ZZ|ipv4|198.51.100.0|256|00000000|available|",
        "JP|ipv4|198.51.100.0|128||available",
        "JP|ipv4|198.51.100.128|128||reserved|A918",
        "|ipv6|2001:db8::|32||available|",
        "JP|ipv6|2001:db8::|32||reserved",
    ]
    listing = parse(RIR, file(delegated(*records)))
    assert listing.ranges[Family.INET] == {"JP": ranges("192.0.2.0/24")}
    assert not listing.ranges[Family.INET6].get("JP")


def test_an_ipv6_record_is_a_prefix_of_any_length(file):
    records = ["JP|ipv6|2001:db8::1|128||assigned", "JP|ipv6|3ffe::|16||allocated"]
    found = ranges("2001:db8::1/128", "3ffe::/16")
    assert parse(RIR, file(delegated(*records))).ranges[Family.INET6] == {"JP": found}


def test_eu_is_a_code_like_another(file):
    sample = file(delegated("EU|ipv4|192.0.2.0|256|19930901|allocated", JP_INET6))
    assert parse(RIR, sample, of="EU").ranges[Family.INET] == {"EU": ranges("192.0.2.0/24")}


def test_a_country_without_ipv6_has_an_ipv6_family_with_nothing_in_it(file):
    listing = parse(RIR, file(delegated(JP_INET)))
    assert listing.ranges[Family.INET6] == {}


def test_a_country_with_ipv6_alone_is_known(file):
    assert parse(RIR, file(delegated(JP_INET6))).ranges[Family.INET] == {}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(delegated(JP_INET, JP_INET6, asn=99), id="asn-summary"),
        pytest.param(delegated(JP_INET, JP_INET6), id="no-asn-summary"),
        pytest.param(APNIC.replace("|7|19830613|", "|201456|19830613|"), id="header-total"),
        pytest.param(
            delegated("XX|ipv4|nowhere|1||mislaid", JP_INET), id="another-countrys-record"
        ),
    ],
)
def test_what_publishers_get_wrong_for_years_is_accepted(file, content):
    assert parse(RIR, file(content)).ranges[Family.INET]["JP"]


NOT_WHOLE = {
    "empty": ("", "no prefixes: the file is empty"),
    "comments-alone": ("# a comment\n\n#\n", "no prefixes: the file is empty"),
    "missing": (delegated(JP_INET, ipv4=2), "1 records of ipv4, and its summary says 2"),
    "too-many": (delegated(JP_INET, ipv4=0), "1 records of ipv4, and its summary says 0"),
    "inet6-missing": (delegated(JP_INET6, ipv6=9), "1 records of ipv6, and its summary says 9"),
    "no-ipv4-summary": (f"{HEADER}apnic|*|ipv6|*|0|summary\n", "no summary of ipv4: cut?"),
    "no-ipv6-summary": (f"{HEADER}apnic|*|ipv4|*|0|summary\n", "no summary of ipv6: cut?"),
    "header-alone": (HEADER, "no summary of ipv4: cut?"),
}


@pytest.mark.parametrize(("content", "complaint"), NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_a_registrys_file_that_is_not_whole_is_refused(file, content, complaint):
    message = refusal(RIR, file(content))
    assert message.startswith("list.txt: ")
    assert complaint in message


NOT_A_HEADER = {
    "html": ("<!DOCTYPE html>", "'<!DOCTYPE html>' is not a prefix: this is a web page"),
    "html-after-a-mark": ("\ufeff<html>", "this is a web page"),
    "json": ('{"error": 404}', "'{\"error\": 404}' is not the header of a delegated file"),
    "a-record": ("apnic|*|asn|*|1|summary", "'apnic|*|asn|*|1|summary' is not the header"),
    "version-1": ("1|apnic|1|1||20260213|+1000", "is not the header of a delegated file"),
    "version-20": ("20|apnic|1|1||20260213|+1000", "is not the header of a delegated file"),
    "six-fields": ("2|apnic|1|1||20260213", "is not the header of a delegated file"),
    "eight-fields": ("2|apnic|1|1||20260213|+1000|", "is not the header of a delegated file"),
    "no-registry": ("2|iana|1|1||20260213|+1000", "'iana' is none of the registries afrinic,"),
    "no-date": ("2|apnic|1|1||20261313|+1000", "the end date '20261313' is not yyyymmdd"),
    "empty-date": ("2|apnic|1|1|20260213||+1000", "the end date '' is not yyyymmdd"),
    "binary-date": ("2|apnic|1|1||\ufeff|+1000", r"the end date '\xef\xbb\xbf' is not yyyymmdd"),
}


@pytest.mark.parametrize(("header", "complaint"), NOT_A_HEADER.values(), ids=NOT_A_HEADER)
def test_what_does_not_begin_as_a_registrys_file_is_refused(file, header, complaint):
    message = refusal(RIR, file(f"# a comment\n\n{header}\n"))
    assert message.startswith("list.txt: line 3: ")
    assert complaint in message


NOT_A_LINE = {
    "summary-twice": ("apnic|*|ipv4|*|1|summary", "a second summary of ipv4"),
    "foreign-summary": ("arin|*|asn|*|1|summary", "is not a summary of apnic"),
    "summary-of-what": ("apnic|*|ipv5|*|1|summary", "is not a summary of apnic"),
    "summary-of-no-number": ("apnic|*|asn|*|one|summary", "'one' is not a count"),
    "summary-of-five-fields": ("apnic|asn|*|1|summary", "is not a summary of apnic"),
    "six-fields": ("apnic|JP|ipv4|192.0.2.0|256|2011", "is not a record of apnic"),
    "unknown-type": ("apnic|JP|ipv9|192.0.2.0|256||allocated", "is not a record of apnic"),
    "foreign": ("arin|JP|ipv4|192.0.2.0|256||allocated", "is not a record of apnic"),
    "another-countrys": ("apnic|AU", "'apnic|AU' is not a record of apnic"),
    "html": ("<br>", "'<br>' is not a record of apnic"),
}


@pytest.mark.parametrize(("line", "complaint"), NOT_A_LINE.values(), ids=NOT_A_LINE)
def test_a_line_that_no_registry_writes_is_refused(file, line, complaint):
    message = refusal(RIR, file(f"{delegated(JP_INET)}{line}\n"))
    assert message.startswith("list.txt: line 5: ")
    assert complaint in message


NOT_A_RANGE = {
    "unknown-status": ("ipv4|192.0.2.0|256|20110412|mislaid", "unknown status 'mislaid'"),
    "no-status": ("ipv4|192.0.2.0|256|20110412|", "unknown status ''"),
    "none": ("ipv4|192.0.2.0|0||assigned", "'0' addresses from 192.0.2.0 is no range"),
    "past-the-end": ("ipv4|255.255.255.0|257||assigned", "'257' addresses from 255.255.255.0"),
    "too-large": ("ipv4|0.0.0.0|99999999999||assigned", "'99999999999' is not a count"),
    "negative": ("ipv4|192.0.2.0|-256||assigned", "'-256' is not a count"),
    "underscore": ("ipv4|192.0.2.0|2_56||assigned", "'2_56' is not a count"),
    "full-width": ("ipv4|192.0.2.0|\N{FULLWIDTH DIGIT TWO}||assigned", "is not a count"),
    "no-count": ("ipv4|192.0.2.0|||assigned", "'' is not a count"),
    "octal": ("ipv4|192.0.02.0|256||assigned", "'192.0.02.0' is not an IPv4 address"),
    "inet6-as-ipv4": ("ipv4|2001:db8::|256||assigned", "'2001:db8::' is not an IPv4 address"),
    "inet-as-ipv6": ("ipv6|192.0.2.0|32||assigned", "'192.0.2.0' is not an IPv6 address"),
    "host-bits": ("ipv6|2001:db8::1|32||assigned", "'2001:db8::1/32' has host bits set"),
    "length-129": ("ipv6|::|129||assigned", "'129' is no prefix length"),
}


@pytest.mark.parametrize(("record", "complaint"), NOT_A_RANGE.values(), ids=NOT_A_RANGE)
def test_a_record_of_the_country_that_is_no_range_is_refused(file, record, complaint):
    message = refusal(RIR, file(delegated(JP_INET6, f"JP|{record}")))
    assert message.startswith("list.txt: line 5: ")
    assert complaint in message


def test_another_registrys_file_in_place_of_the_one_asked_for_is_refused(file):
    message = refusal(RIR, file(delegated(JP_INET), publisher="arin"))
    assert message == "list.txt: the file of apnic, and arin's was asked for"
    assert parse(RIR, file(delegated(JP_INET), publisher="apnic")).origins


def test_the_same_registry_twice_is_refused(file):
    one, other = file(delegated(JP_INET), name="one"), file(delegated(JP_INET6), name="other")
    assert refusal(RIR, one, other) == "other: a second file of apnic, beside one"


@pytest.mark.parametrize("source", [RIR, IPV4BYCC, BUNDLED], ids=lambda source: source.name)
def test_a_country_that_no_list_knows_is_an_error_and_never_an_empty_list(source, file):
    sample = {
        "rir": delegated(JP_INET, JP_INET6),
        "ipv4bycc": "JP\t192.0.2.0/24\n",
        "bundled": "JP\t192.0.2.0/24\n",
    }
    document = file(sample[source.name])
    assert refusal(source, document, of="LI") == "no prefixes of LI in list.txt"
    assert refusal(source, document, of="XX JP LI") == "no prefixes of LI and XX in list.txt"


def test_every_registry_is_fetched_over_https_and_checked_by_its_md5():
    assert [publication.publisher for publication in RIR.publications] == [
        "afrinic", "apnic", "arin", "lacnic", "ripencc",
    ]  # fmt: skip
    for publication in RIR.publications:
        (host,) = publication.hosts
        assert publication.url.startswith(f"https://{host}/")
        assert publication.checksum_url == f"{publication.url}.md5"
        assert publication.cache_serves


BYCC = """\
# All countries

AD\t46.172.224.0/19
JP\t192.0.2.0/25
JP\t198.51.100.0/24\t

# a comment between
US\t203.0.113.0/24
JP\t192.0.2.128/25
"""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(BYCC, id="as-it-is"),
        pytest.param(BYCC.replace("\n", "\r\n"), id="crlf"),
        pytest.param(BYCC.rstrip("\n"), id="no-last-newline"),
        pytest.param(gzip.compress(BYCC.encode()), id="gzip"),
    ],
)
def test_the_lines_of_a_country_are_read_and_ipv6_is_not_brought(file, content):
    listing = parse(IPV4BYCC, file(content))
    found = ranges("192.0.2.0/25", "198.51.100.0/24", "192.0.2.128/25")
    assert listing.ranges == {Family.INET: {"JP": found}}
    (origin,) = listing.origins
    assert (origin.publisher, origin.location, origin.date) == ("ipv4bycc", "list.txt", None)
    assert len(origin.sha256) == 64


def test_several_countries_of_one_file_stay_apart(file):
    listing = parse(IPV4BYCC, file(BYCC), of="US AD")
    assert listing.ranges[Family.INET] == {
        "AD": ranges("46.172.224.0/19"),
        "US": ranges("203.0.113.0/24"),
    }


WRONG_BY_COUNTRY = {
    "ipv6": ("JP\t2001:db8::/32", r"'JP\t2001:db8::/32' is IPv6 in a list of IPv4"),
    "anothers-ipv6": ("US\t2001:db8::/32", "is IPv6 in a list of IPv4"),
    "netmask": ("JP\t1.0.16.0/255.255.240.0", "'1.0.16.0/255.255.240.0' is not a prefix"),
    "host-bits": ("JP\t192.0.2.1/24", "'192.0.2.1/24' has host bits set"),
    "anothers-host-bits": ("US\t192.0.2.1/24", "'192.0.2.1/24' has host bits set"),
    "blank-for-tab": ("JP 192.0.2.0/24", "'JP 192.0.2.0/24' is not a country code, a tab and"),
    "lower-case": ("jp\t192.0.2.0/24", "is not a country code, a tab and a prefix"),
    "three-letters": ("JPN\t192.0.2.0/24", "is not a country code, a tab and a prefix"),
    "no-country": ("\t192.0.2.0/24", "is not a country code, a tab and a prefix"),
    "not-ascii": ("\u00c4\t192.0.2.0/24", "is not a country code, a tab and a prefix"),
    "two-tabs": ("JP\t\t192.0.2.0/24", r"'\t192.0.2.0/24' is not a prefix"),
    "inline-comment": ("JP\t192.0.2.0/24 # why", "'192.0.2.0/24 # why' is not a prefix"),
    "plain": ("192.0.2.0/24", "is not a country code, a tab and a prefix"),
    "html": ("<br>", "'<br>' is not a country code, a tab and a prefix"),
}


@pytest.mark.parametrize(("line", "complaint"), WRONG_BY_COUNTRY.values(), ids=WRONG_BY_COUNTRY)
def test_a_wrong_line_by_country_is_refused_by_its_number(file, line, complaint):
    message = refusal(IPV4BYCC, file(f"{BYCC}{line}\n"))
    assert message.startswith("list.txt: line 10: ")
    assert complaint in message


def test_a_web_page_or_nothing_in_place_of_all_countries_is_refused(file):
    assert "line 1: '<!DOCTYPE html>' is not a prefix: this is a web page" in refusal(
        IPV4BYCC, file(HTML)
    )
    assert refusal(IPV4BYCC, file("")) == "list.txt: no prefixes: the file is empty"


def test_the_list_over_plain_http_warns_whoever_chooses_it():
    (publication,) = IPV4BYCC.publications
    assert publication.url.startswith("http://")
    assert "plain http" in IPV4BYCC.warnings[0]
    assert RIR.warnings == ()


PLAIN_LIST = """\
# Country: Japan (JP)
#
192.0.2.0/24
  198.51.100.0/25  # why, and since when
2001:DB8::/32\t

203.0.113.0/24# glued
"""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN_LIST, id="as-it-is"),
        pytest.param(PLAIN_LIST.replace("\n", "\r\n"), id="crlf"),
        pytest.param(PLAIN_LIST.rstrip("\n"), id="no-last-newline"),
        pytest.param(gzip.compress(PLAIN_LIST.encode()), id="gzip"),
    ],
)
def test_a_plain_list_is_one_prefix_a_line_of_nobody_in_particular(file, content):
    listing = parse(PLAIN, file(content), of="JP US")
    assert listing.ranges == {
        Family.INET: {"": ranges("192.0.2.0/24", "198.51.100.0/25", "203.0.113.0/24")},
        Family.INET6: {"": ranges("2001:db8::/32")},
    }
    assert [origin.date for origin in listing.origins] == [None]


def test_a_plain_list_does_not_bring_the_family_that_it_has_no_line_of(file):
    assert set(parse(PLAIN, file("192.0.2.0/24\n")).ranges) == {Family.INET}
    assert set(parse(PLAIN, file("2001:db8::/32\n")).ranges) == {Family.INET6}


def test_several_plain_lists_are_one(file):
    two = file("192.0.2.0/24\n", name="inet"), file("2001:db8::/32\n", name="inet6")
    listing = parse(PLAIN, *two)
    assert set(listing.ranges) == set(Family)
    assert [origin.location for origin in listing.origins] == ["inet", "inet6"]


NOT_PLAIN = {
    "empty": ("", ": no prefixes"),
    "comments-alone": ("# nothing\n\n", ": no prefixes"),
    "html": (HTML, ": line 1: '<!DOCTYPE html>' is not a prefix: this is a web page"),
    "html-after-a-blank": (f"\n{HTML}", ": line 2: '<!DOCTYPE html>' is not a prefix: this is"),
    "html-below": ("192.0.2.0/24\n<br>\n", ": line 2: '<br>' is not a prefix"),
    "host-bits": ("192.0.2.0/24\n192.0.2.1/24\n", ": line 2: '192.0.2.1/24' has host bits set"),
    "address": ("192.0.2.7\n", ": line 1: '192.0.2.7' is an address without a prefix length"),
    "two": ("192.0.2.0/24 192.0.2.0/25\n", ": line 1: '192.0.2.0/24 192.0.2.0/25' is not a"),
    "semicolon": ("192.0.2.0/24;\n", ": line 1: '192.0.2.0/24;' is not a prefix"),
    "byte-order-mark": ("\ufeff192.0.2.0/24\n", r": line 1: '\ufffd"),
    "full-width": ("192.0.2.0/2\N{FULLWIDTH DIGIT FOUR}\n", ": line 1: '192.0.2.0/2"),
    "git-lfs": ("version https://git-lfs.github.com/spec/v1\n", ": line 1: 'version https://"),
    "binary": (b"\x00\xff\n", r": line 1: '\x00\ufffd' is not a prefix"),
}


@pytest.mark.parametrize(("content", "complaint"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_no_plain_list_is_refused(file, content, complaint):
    assert refusal(PLAIN, file(content)).startswith(f"list.txt{complaint}")


def test_an_empty_file_among_plain_lists_is_refused(file):
    assert refusal(PLAIN, file("192.0.2.0/24\n"), file("", name="b.txt")) == "b.txt: no prefixes"


@pytest.mark.parametrize("content", ["x" * 900, "\x1b[31m" * 100, "\N{SNOWMAN}" * 300])
def test_at_most_eighty_printable_characters_of_a_line_are_quoted(file, content):
    message = refusal(PLAIN, file(f"192.0.2.0/24\n{content}\n"))
    start, end = "list.txt: line 2: ", " is not a prefix"
    assert message.startswith(start)
    assert message.endswith(end)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) <= len(start) + len("''...") + 80 + len(end)


SNAPSHOT = """\
# date: 2026-06-17
# from: somewhere
JP\t192.0.2.0/24
JP\t2001:db8::/32
US\t198.51.100.0/24
"""


def test_a_snapshot_has_both_families_and_its_own_date(file):
    listing = parse(BUNDLED, file(SNAPSHOT))
    assert listing.ranges == {
        Family.INET: {"JP": ranges("192.0.2.0/24")},
        Family.INET6: {"JP": ranges("2001:db8::/32")},
    }
    assert [origin.date for origin in listing.origins] == [datetime.date(2026, 6, 17)]


def test_a_snapshot_without_ipv6_of_a_country_has_the_family_with_nothing_in_it(file):
    assert parse(BUNDLED, file(SNAPSHOT), of="US").ranges[Family.INET6] == {}


def test_snapshots_of_several_files_are_read_each_with_its_date(file):
    older = file(SNAPSHOT.replace("2026-06-17", "2025-01-02"), name="older")
    undated = file("JP\t203.0.113.0/24\n# date: 2024-01-01\n", name="undated")
    listing = parse(BUNDLED, older, undated)
    assert [origin.date for origin in listing.origins] == [datetime.date(2025, 1, 2), None]
    assert listing.ranges[Family.INET]["JP"] == ranges("192.0.2.0/24", "203.0.113.0/24")


def test_a_snapshot_of_no_day_is_refused(file):
    content = SNAPSHOT.replace("2026-06-17", "yesterday")
    assert refusal(BUNDLED, file(content)).startswith("list.txt: line 1: ")


@pytest.mark.parametrize("country", ["JP", "US", "GB", "LI", "CF"])
def test_the_bundled_snapshot_knows_countries_of_every_size(country):
    listing = parse(BUNDLED, bundled.document(), of=country)
    assert listing.ranges[Family.INET][country]
    assert bool(listing.ranges[Family.INET6].get(country)) == (country != "CF")
    (origin,) = listing.origins
    assert (origin.publisher, origin.date) == ("bundled", bundled.date())
    digest = hashlib.sha256(Path(bundled._path()).read_bytes()).hexdigest()
    assert origin.sha256 == digest


def test_leaving_other_countries_unread_changes_nothing():
    ours = bundled.document()
    lines = [*ours.lines()]
    first, last = (line[:2].decode() for line in (lines[10], lines[-1]))
    some = frozenset({first, "CF", "JP", "LI", last})
    wanted = tuple(f"{country}\t".encode() for country in some)
    kept = [line for line in lines if line.startswith(wanted)]
    whole = BUNDLED.parse([dataclasses.replace(ours, lines=lambda: kept)], some)
    assert BUNDLED.parse([ours], some).ranges == whole.ranges
    assert sum(len(found) for of in whole.ranges.values() for found in of.values()) == len(kept)


def test_the_bundled_snapshot_is_under_one_mebibyte_and_dated():
    assert bundled._path().stat().st_size < 2**20
    assert datetime.date(2026, 1, 1) <= bundled.date() <= datetime.date(2100, 1, 1)


def test_the_bundled_snapshot_does_not_know_what_is_no_country():
    assert refusal(BUNDLED, bundled.document(), of="XX UK JP") == (
        "no prefixes of UK and XX in the bundled snapshot"
    )


def test_each_source_is_found_by_its_own_name():
    found = sources.by_name()
    assert list(found) == ["rir", "ipv4bycc", "plain", "bundled"]
    assert all(source.name == name for name, source in found.items())
