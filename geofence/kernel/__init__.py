"""The kernel's packet sets, behind a few words of ipset(8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from geofence.model import Family, Prefix

SET_TYPE = "hash:net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the kernel says of a set besides its elements."""

    type: str
    family: Family | None  # None: neither inet nor inet6
    entries: int
    references: int  # rules and list:set sets that use it
    maxelem: int
    timeout: bool
    memory_bytes: int


class Sets(Protocol):
    """The sets of one network namespace; they raise KernelRefused, Busy or NoPermission."""

    def header(self, name: str) -> Header | None:
        """Read a set's header; None if there is no such set."""

    def create(self, name: str, family: Family, entries: int, *, timed: bool = False) -> None:
        """Create an empty set with room for twice as many entries; timed: each may expire."""

    def add(
        self, name: str, family: Family, prefixes: Sequence[Prefix], timeouts: Sequence[int] = ()
    ) -> None:
        """Add prefixes to a set, many in one message; timeouts in seconds, 0 for never."""

    def read(self, name: str, family: Family) -> tuple[Prefix, ...]:
        """Read a set's elements, in address order."""

    def swap(self, one: str, other: str) -> None:
        """Exchange two sets in one step, whoever refers to them."""

    def rename(self, old: str, new: str) -> None:
        """Give a set that nobody refers to a name that is free."""

    def destroy(self, name: str) -> None:
        """Destroy a set that nobody refers to."""
