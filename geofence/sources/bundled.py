"""The snapshot of all countries that comes with geofence, for when nothing else is to be had.

``snapshot.txt.xz`` holds a comment with its date and origin, then ``CC<TAB>prefix`` lines of
both families, aggregated. How it is made: ``data/build_snapshot.py``.
"""

import dataclasses
import datetime
import functools
import hashlib
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from geofence.model import Family, Listing, Origin, Range
from geofence.sources import Document, Publication
from geofence.sources.ipv4bycc import parse_lines
from geofence.sources.lines import require_known

_FILE = "snapshot.txt.xz"
_DATE_COMMENT = b"# date: "


class Bundled:
    """The snapshot. Its one document is part of the package."""

    name = "bundled"
    warnings: tuple[str, ...] = ()
    publications: tuple[Publication, ...] = ()

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read the lines of the countries; a family without lines has no prefixes."""
        (document,) = documents
        ranges: dict[Family, dict[str, list[Range]]] = {family: {} for family in Family}
        parse_lines(_only(document, countries), countries, ranges)
        require_known([document], countries, tuple(ranges.values()))
        origin = Origin(
            publisher=self.name, location=document.location, date=date(), sha256=document.sha256
        )
        return Listing(source=self.name, ranges=ranges, origins=(origin,))


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
    for line in _lines():
        if line.startswith(_DATE_COMMENT):
            return datetime.date.fromisoformat(line.removeprefix(_DATE_COMMENT).decode())
    raise RuntimeError(f"{_path()} does not say of which day it is")


def _only(document: Document, countries: frozenset[str]) -> Document:
    """Leave out the other countries' lines unread: the file is ours, and there are 246,000."""
    wanted = tuple(f"{country}\t".encode() for country in countries)
    return dataclasses.replace(
        document, lines=lambda: (line for line in document.lines() if line.startswith(wanted))
    )


def _lines() -> Iterator[bytes]:
    with lzma.open(_path()) as file:
        for line in file:
            yield line.rstrip(b"\n")


def _path() -> Path:
    """Find the file: in the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data" / _FILE
    return installed if installed.exists() else package.parent / "data" / _FILE
