"""The publishers of country lists: where each one's list is, and how its bytes become prefixes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from geofence.model import Listing

Lines = Iterable[bytes]
"""A document line by line, without line ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One file that a publisher serves."""

    publisher: str
    url: str
    hosts: frozenset[str]  # where a redirect may lead to
    checksum_url: str = ""  # a file that holds the MD5 of this one; none: ""
    cache_serves: bool = False  # may a cached copy stand in while it cannot be had?


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file that was brought here whole."""

    publisher: str  # who was asked for it; "" where somebody handed us the file
    location: str
    sha256: str
    lines: Callable[[], Lines]


class Source(Protocol):
    """A publisher. Parsing is a function of the documents alone."""

    @property
    def name(self) -> str:
        """Tell the name that the command line and the configuration use."""

    @property
    def publications(self) -> tuple[Publication, ...]:
        """Give what it publishes; nothing: the list must be named with --from."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Tell what whoever chooses this source should know."""

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        """Read what the documents say of the countries. Raises ListRefused."""


def by_name() -> Mapping[str, Source]:
    """Give every source under the name that the command line and the configuration use."""
    from geofence.sources import bundled, ipv4bycc, plain, rir

    sources: tuple[Source, ...] = (rir.RIR, ipv4bycc.IPV4BYCC, plain.PLAIN, bundled.BUNDLED)
    return {source.name: source for source in sources}
