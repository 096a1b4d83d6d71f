"""A kernel that behaves, and doors that refuse when a test tells them to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from geofence import ipsetfile
from geofence.errors import KernelRefused
from geofence.kernel import SET_TYPE, Header
from geofence.model import Family, Prefix

Before = Callable[[int, str, tuple[object, ...]], None]
"""Called before a call is passed on: its number, its name, its arguments."""


@dataclass
class _Set:
    header: Header
    elements: set[Prefix] = field(default_factory=set)


class FakeSets:
    """Sets in memory that refuse what the kernel refuses (held to it by test_sets)."""

    def __init__(self) -> None:
        self.held: dict[str, _Set] = {}

    def header(self, name: str) -> Header | None:
        found = self.held.get(name)
        return replace(found.header, entries=len(found.elements)) if found else None

    def create(self, name: str, family: Family, entries: int, *, timed: bool = False) -> None:
        if name in self.held:
            raise KernelRefused(f"cannot create the set {name}: a set of that name exists")
        header = Header(
            type=SET_TYPE,
            family=family,
            entries=0,
            references=0,
            maxelem=ipsetfile.maxelem(entries),
            timeout=timed,
            memory_bytes=0,
        )
        self.held[name] = _Set(header)

    def add(
        self, name: str, family: Family, prefixes: Sequence[Prefix], timeouts: Sequence[int] = ()
    ) -> None:
        if timeouts and not self._found(name).header.timeout:
            raise KernelRefused(f"cannot add to the set {name}: it has no timeouts")
        found = self._found(name)
        for prefix in prefixes:
            full = len(found.elements) >= found.header.maxelem
            if prefix in found.elements or not prefix.length or full:
                raise KernelRefused(f"cannot add {prefix} to the set {name}")
            if family is not found.header.family:
                raise KernelRefused(f"cannot add {prefix} to the set {name}: its family")
            found.elements.add(prefix)

    def read(self, name: str, family: Family) -> tuple[Prefix, ...]:
        del family
        return tuple(sorted(self._found(name).elements))

    def swap(self, one: str, other: str) -> None:
        first, second = self._found(one), self._found(other)
        if (first.header.type, first.header.family) != (second.header.type, second.header.family):
            raise KernelRefused(f"cannot swap the sets {one} and {other}: of different types")
        references = first.header.references, second.header.references
        self.held[one], self.held[other] = second, first
        for name, number in zip((one, other), references, strict=True):
            self.held[name].header = replace(self.held[name].header, references=number)

    def rename(self, old: str, new: str) -> None:
        found = self._found(old)
        if new in self.held or found.header.references:
            raise KernelRefused(f"cannot rename the set {old} to {new}")
        self.held[new] = self.held.pop(old)

    def destroy(self, name: str) -> None:
        if self._found(name).header.references:
            raise KernelRefused(f"cannot destroy the set {name}: in use")
        del self.held[name]

    def _found(self, name: str) -> _Set:
        if name not in self.held:
            raise KernelRefused(f"cannot: there is no set {name}")
        return self.held[name]


class Counted:
    """Passes every call on to something, and lets a test act before the n-th."""

    def __init__(self, real: object, before: Before) -> None:
        self._real = real
        self._before = before
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name.startswith("_") or not callable(method):
            return method

        def counted(*arguments: object, **named: object) -> Any:
            self.calls += 1
            self._before(self.calls, name, arguments)
            return method(*arguments, **named)

        return counted
