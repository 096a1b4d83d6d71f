"""The five regional registries' delegated files: the authority on who was given which addresses.

Format: "RIR Statistics Exchange Format", versions 2 and 2.3. Seen in real files and
accepted here: comments before the header and anywhere, blank lines, records without a country,
the countries EU, AP and ZZ, counts that are no power of two or lie misaligned, seven or more
fields, and totals in the header that do not match. The summary counts of ipv4 and ipv6 always
match in a whole file; here a cut one is noticed even where no checksum was published.
"""

import datetime
from collections.abc import Iterable

from geofence.errors import ListRefused
from geofence.model import Family, Listing, Origin, Range
from geofence.prefixes import parse_ipv4, parse_ipv6, quote
from geofence.sources import Document, Publication
from geofence.sources.lines import numbered, refuse_html, require_known

REGISTRIES = ("afrinic", "apnic", "arin", "lacnic", "ripencc")
_FAMILIES = {b"ipv4": Family.INET, b"ipv6": Family.INET6}
_TYPES = frozenset({b"asn", b"ipv4", b"ipv6"})
_GIVEN_OUT = frozenset({b"allocated", b"assigned"})
_NOT_GIVEN_OUT = frozenset({b"available", b"reserved"})
_HEADER_FIELDS = 7
_RECORD_FIELDS = 7
_SUMMARY_FIELDS = 6


def _publication(registry: str, host: str, path: str, file: str) -> Publication:
    url = f"https://{host}/{path}/{file}"
    return Publication(
        publisher=registry,
        url=url,
        hosts=frozenset({host}),
        checksum_url=f"{url}.md5",
        cache_serves=True,
    )


class Rir:
    """The union of what the registries gave to organisations of a country."""

    name = "rir"
    warnings: tuple[str, ...] = ()
    publications = (
        _publication("afrinic", "ftp.afrinic.net", "pub/stats/afrinic", "delegated-afrinic-latest"),
        _publication("apnic", "ftp.apnic.net", "stats/apnic", "delegated-apnic-latest"),
        _publication("arin", "ftp.arin.net", "pub/stats/arin", "delegated-arin-extended-latest"),
        _publication("lacnic", "ftp.lacnic.net", "pub/stats/lacnic", "delegated-lacnic-latest"),
        _publication("ripencc", "ftp.ripe.net", "pub/stats/ripencc", "delegated-ripencc-latest"),
    )

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read any of the five files, each once, recognised by its header."""
        read: list[Document] = []
        origins: dict[str, Origin] = {}
        ranges: dict[Family, dict[str, list[Range]]] = {family: {} for family in Family}
        for document in documents:
            origin = _parse_file(document, countries, ranges)
            if origin.publisher in origins:
                raise ListRefused(
                    f"{document.location}: a second file of {origin.publisher}, beside"
                    f" {origins[origin.publisher].location}"
                )
            origins[origin.publisher] = origin
            read.append(document)
        require_known(read, countries, tuple(ranges.values()))
        return Listing(source=self.name, ranges=ranges, origins=tuple(origins.values()))


RIR = Rir()


def _parse_file(
    document: Document,
    countries: frozenset[str],
    ranges: dict[Family, dict[str, list[Range]]],
) -> Origin:
    """Add what one registry's file says of the countries to ``ranges``."""
    wanted = {country.encode(): country for country in countries}
    registry = b""
    date: datetime.date | None = None
    announced: dict[bytes, int] = {}
    counted = {b"asn": 0, b"ipv4": 0, b"ipv6": 0}
    with numbered(document) as lines:
        for line in lines:
            if not line or line.startswith(b"#") or not line.strip():
                continue
            fields = line.split(b"|")
            if not registry:
                registry, date = _header(line, fields)
            elif fields[-1] == b"summary":
                _summary(registry, line, fields, announced)
            elif len(fields) < _RECORD_FIELDS or fields[0] != registry or fields[2] not in _TYPES:
                raise ValueError(f"{quote(line)} is not a record of {registry.decode()}")
            else:
                counted[fields[2]] += 1
                if fields[1] in wanted and fields[2] in _FAMILIES:
                    found = ranges[_FAMILIES[fields[2]]].setdefault(wanted[fields[1]], [])
                    _record(fields, found)
    if not registry:
        raise ListRefused(f"{document.location}: no prefixes: the file is empty")
    _check_counts(document, announced, counted)
    return _origin(document, registry.decode(), date)


def _header(line: bytes, fields: list[bytes]) -> tuple[bytes, datetime.date]:
    """Read ``version|registry|serial|records|startdate|enddate|UTCoffset``."""
    refuse_html(line)
    if len(fields) != _HEADER_FIELDS or not (fields[0] == b"2" or fields[0].startswith(b"2.")):
        raise ValueError(f"{quote(line)} is not the header of a delegated file, version 2")
    if fields[1].decode("ascii", "replace") not in REGISTRIES:
        raise ValueError(f"{quote(fields[1])} is none of the registries {', '.join(REGISTRIES)}")
    try:
        return fields[1], datetime.datetime.strptime(fields[5].decode(), "%Y%m%d").date()
    except ValueError:
        raise ValueError(f"the end date {quote(fields[5])} is not yyyymmdd") from None


def _summary(
    registry: bytes, line: bytes, fields: list[bytes], announced: dict[bytes, int]
) -> None:
    """Read ``registry|*|type|*|count|summary``."""
    if len(fields) != _SUMMARY_FIELDS or fields[0] != registry or fields[2] not in _TYPES:
        raise ValueError(f"{quote(line)} is not a summary of {registry.decode()}")
    if fields[2] in announced:
        raise ValueError(f"a second summary of {fields[2].decode()}")
    announced[fields[2]] = _number(fields[4])


def _record(fields: list[bytes], found: list[Range]) -> None:
    """Read ``registry|cc|type|start|value|date|status[|...]`` of a country that is wanted."""
    _, _, kind, start, value, _, status = (
        field.decode("ascii", "replace").strip() for field in fields[:_RECORD_FIELDS]
    )
    if status.encode() in _NOT_GIVEN_OUT:
        return
    if status.encode() not in _GIVEN_OUT:
        raise ValueError(f"unknown status {quote(status)}")
    if kind == "ipv4":
        found.append(_ipv4_range(start, value))
    else:
        found.append(_ipv6_range(start, value))


def _ipv4_range(start: str, value: str) -> Range:
    first, hosts = parse_ipv4(start), _number(value.encode())
    if not 0 < hosts <= (1 << 32) - first:
        raise ValueError(f"{quote(value)} addresses from {start} is no range")
    return Range(first, first + hosts - 1)


def _ipv6_range(start: str, value: str) -> Range:
    first, length = parse_ipv6(start), _number(value.encode())
    if length > Family.INET6.bits:
        raise ValueError(f"{quote(value)} is no prefix length")
    hosts = (1 << (Family.INET6.bits - length)) - 1
    if first & hosts:
        raise ValueError(f"{quote(f'{start}/{length}')} has host bits set")
    return Range(first, first + hosts)


def _number(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= len("4294967296")):
        raise ValueError(f"{quote(text)} is not a count")
    return int(text)


def _check_counts(
    document: Document, announced: dict[bytes, int], counted: dict[bytes, int]
) -> None:
    """Refuse a file that does not hold what its own summary says.

    Not of asn, nor of the total in the header: LACNIC's never match.
    """
    for kind in _FAMILIES:
        if kind not in announced:
            raise ListRefused(f"{document.location}: no summary of {kind.decode()}: cut?")
        if announced[kind] != counted[kind]:
            raise ListRefused(
                f"{document.location}: {counted[kind]:,} records of {kind.decode()}, and its"
                f" summary says {announced[kind]:,}: the file is not whole"
            )


def _origin(document: Document, registry: str, date: datetime.date | None) -> Origin:
    if document.publisher not in ("", registry):
        raise ListRefused(
            f"{document.location}: the file of {registry}, and {document.publisher}'s was asked for"
        )
    return Origin(publisher=registry, location=document.location, date=date, sha256=document.sha256)
