"""The snapshot of all countries that comes with geofence, for when nothing else is to be had.

``snapshot.txt.xz`` holds a comment with its date and origin, then ``CC<TAB>prefix`` lines of
both families, aggregated. How it is made: ``data/build_snapshot.py``.
"""

import dataclasses
import datetime
import functools
import hashlib
import itertools
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from geofence.model import Family, Listing, Origin, Range
from geofence.sources import Document, Publication
from geofence.sources.ipv4bycc import parse_lines
from geofence.sources.lines import numbered, require_known

_FILE = "snapshot.txt.xz"
_DATE_COMMENT = b"# date: "


class Bundled:
    """The snapshot. Its document is part of the package; newer ones can be named with --from."""

    name = "bundled"
    warnings: tuple[str, ...] = ()
    publications: tuple[Publication, ...] = ()

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read the lines of the countries; a family without lines has no prefixes."""
        read = tuple(documents)
        ranges: dict[Family, dict[str, list[Range]]] = {family: {} for family in Family}
        for document in read:
            parse_lines(_only(document, countries), countries, ranges)
        require_known(read, countries, tuple(ranges.values()))
        return Listing(
            source=self.name,
            ranges=ranges,
            origins=tuple(
                Origin(
                    publisher=self.name,
                    location=document.location,
                    date=_date_of(document),
                    sha256=document.sha256,
                )
                for document in read
            ),
        )


BUNDLED = Bundled()


def document() -> Document:
    """Give the snapshot as a document."""
    path = _path()
    return Document(
        publisher=BUNDLED.name,
        location="the bundled snapshot",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        lines=_lines,
    )


@functools.cache
def date() -> datetime.date:
    """Tell the day of which the snapshot's data is."""
    found = _date_of(document())
    if found is None:
        raise RuntimeError(f"{_path()} does not say of which day it is")
    return found


def _date_of(document: Document) -> datetime.date | None:
    """Read the date in the comments at the head of a document."""
    with numbered(document) as lines:
        for line in itertools.takewhile(lambda line: line.startswith(b"#"), lines):
            if line.startswith(_DATE_COMMENT):
                return datetime.date.fromisoformat(line.removeprefix(_DATE_COMMENT).decode())
    return None


def _only(document: Document, countries: frozenset[str]) -> Document:
    """Leave the other countries' lines unread in the file that is ours: there are 246,000."""
    if document.lines is not _lines:
        return document
    return dataclasses.replace(document, lines=lambda: _lines_of(countries))


def _lines() -> Iterator[bytes]:
    with lzma.open(_path()) as file:
        for line in file:
            yield line.rstrip(b"\n")


def _lines_of(countries: Iterable[str]) -> Iterator[bytes]:
    """Give the lines of some countries; each one's stand together, and the file is ours."""
    text = lzma.decompress(_path().read_bytes())
    for country in sorted(countries):
        start = f"\n{country}\t".encode()
        if (first := text.find(start)) >= 0:
            yield from text[first + 1 : text.find(b"\n", text.rfind(start) + 1)].split(b"\n")


def _path() -> Path:
    """Find the file: in the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data" / _FILE
    return installed if installed.exists() else package.parent / "data" / _FILE
