"""All countries in one file, ``CC<TAB>prefix``: the list of the article that geofence began with.

IPv4 only, gzip, published over plain http only by nami.jp. The same format is served by others
(with comment and blank lines), and with IPv6 lines too it is that of the bundled snapshot.
"""

from collections.abc import Iterable

from geofence.errors import ListRefused
from geofence.model import Family, Listing, Origin, Range
from geofence.prefixes import parse_prefix, quote, range_of
from geofence.sources import Document, Publication
from geofence.sources.lines import numbered, refuse_html, require_known

_HOST = "nami.jp"


class Ipv4ByCc:
    """A file of ``CC<TAB>CIDR`` lines."""

    name = "ipv4bycc"
    warnings = (
        "source ipv4bycc comes over plain http: anybody on the way can change the list;"
        " the judge's limits are all that stands against it",
    )
    publications = (
        Publication(
            publisher=name, url=f"http://{_HOST}/ipv4bycc/cidr.txt.gz", hosts=frozenset({_HOST})
        ),
    )

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read the lines of the countries; every other line must have the form too."""
        read = tuple(documents)
        ranges: dict[Family, dict[str, list[Range]]] = {Family.INET: {}}
        for document in read:
            if not parse_lines(document, countries, ranges):
                raise ListRefused(f"{document.location}: no prefixes: the file is empty")
        require_known(read, countries, tuple(ranges.values()))
        return Listing(
            source=self.name,
            ranges=ranges,
            origins=tuple(
                Origin(publisher=self.name, location=document.location, sha256=document.sha256)
                for document in read
            ),
        )


IPV4BYCC = Ipv4ByCc()


def parse_lines(
    document: Document,
    countries: frozenset[str],
    ranges: dict[Family, dict[str, list[Range]]],
) -> bool:
    """Add the prefixes of the countries to ``ranges``, whose keys are the families allowed.

    Tell whether there was any line at all.
    """
    first = True
    with numbered(document) as lines:
        for line in lines:
            if not line.strip() or line.startswith(b"#"):
                continue
            if first:
                refuse_html(line)
                first = False
            country, family, found = _line(line)
            if family not in ranges:
                raise ValueError(f"{quote(line)} is {family.label} in a list of IPv4")
            if country in countries:
                ranges[family].setdefault(country, []).append(found)
    return not first


def _line(line: bytes) -> tuple[str, Family, Range]:
    country, tab, text = line.decode("ascii", "replace").partition("\t")
    if not (tab and len(country) == len("CC") and country.isascii() and country.isupper()):
        raise ValueError(f"{quote(line)} is not a country code, a tab and a prefix")
    family, prefix = parse_prefix(text.rstrip())
    return country, family, range_of(family, prefix)
