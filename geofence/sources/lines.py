"""What the parsers of line-oriented lists have in common: complaints that name the line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from geofence.errors import ListRefused
from geofence.model import Range
from geofence.prefixes import quote
from geofence.sources import Document


@contextmanager
def numbered(document: Document) -> Iterator[Iterator[bytes]]:
    """Read a document's lines; a ValueError about one becomes a refusal that names it."""
    number = 0

    def lines() -> Iterator[bytes]:
        nonlocal number
        for number, line in enumerate(document.lines(), 1):  # noqa: B007, the handler reads it
            yield line

    try:
        yield lines()
    except ValueError as error:
        raise ListRefused(f"{document.location}: line {number}: {error}") from error


def refuse_html(line: bytes) -> None:
    """Say so when the first line is that of a web page and not of a list."""
    if line.lstrip().startswith((b"<", b"\xef\xbb\xbf<")):
        raise ValueError(
            f"{quote(line)} is not a prefix: this is a web page (a captive portal, an error page?)"
        )


def require_known(
    documents: Sequence[Document],
    countries: frozenset[str],
    found: Sequence[Mapping[str, list[Range]]],
) -> None:
    """Refuse unless every country has at least one range in at least one family."""
    unknown = sorted(
        country for country in countries if not any(family.get(country) for family in found)
    )
    if unknown:
        where = ", ".join(document.location for document in documents)
        raise ListRefused(
            f"no prefixes of {' and '.join(unknown)} in {where}",
            cure="check the country code (ISO 3166-1 alpha-2), or choose another --source",
        )
