"""A list of one prefix a line with ``#`` comments, as most publishers and administrators write it.

It does not say whose prefixes they are: the judge compares it with the bundled snapshot of the
countries that were asked for.
"""

from collections.abc import Iterable

from geofence.errors import ListRefused
from geofence.model import Family, Listing, Origin, Range
from geofence.prefixes import parse_prefix, range_of
from geofence.sources import Document, Publication
from geofence.sources.lines import numbered, refuse_html


class Plain:
    """A file of prefixes. It has no address of its own: it is named with --from."""

    name = "plain"
    warnings: tuple[str, ...] = ()
    publications: tuple[Publication, ...] = ()

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read every line. A family without a line is one that this list does not bring."""
        del countries  # the lines do not tell
        ranges: dict[Family, dict[str, list[Range]]] = {}
        origins = []
        for document in documents:
            _parse_file(document, ranges)
            origins.append(
                Origin(publisher=self.name, location=document.location, sha256=document.sha256)
            )
        return Listing(source=self.name, ranges=ranges, origins=tuple(origins))


PLAIN = Plain()


def _parse_file(document: Document, ranges: dict[Family, dict[str, list[Range]]]) -> None:
    empty = True
    with numbered(document) as lines:
        for line in lines:
            text = line.partition(b"#")[0].strip()
            if not text:
                continue
            if empty:
                refuse_html(text)
                empty = False
            family, prefix = parse_prefix(text.decode("ascii", "replace"))
            ranges.setdefault(family, {}).setdefault("", []).append(range_of(family, prefix))
    if empty:
        raise ListRefused(f"{document.location}: no prefixes")
