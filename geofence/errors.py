"""What can go wrong, one class for each person whose turn it is, each with its exit status.

The statuses are those of sysexits(3) where it has one. A message has three parts: what
happened, what is still in force, and what to do.
"""

from typing import ClassVar


class GeofenceError(Exception):
    """Never raised itself. ``what`` happened; ``still`` in force; ``cure``: what to do."""

    status: ClassVar[int] = 70

    def __init__(self, what: str, *, still: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.still = still
        self.cure = cure

    @property
    def kind(self) -> str:
        """The class's short name, as ``--json`` reports it."""
        return type(self).__name__

    def __str__(self) -> str:
        """All three parts, a line each, the later two indented."""
        return "\n  ".join(part for part in (self.what, self.still, self.cure) if part)


class UsageError(GeofenceError):
    """The command line asks for something that makes no sense: whoever typed it."""

    status = 2


class ListRefused(GeofenceError):
    """The list came whole and is no acceptable list: the owner, or its publisher."""

    status = 65


class SourceUnavailable(GeofenceError):
    """The list did not come, or not whole: the network, or its publisher."""

    status = 69


class KernelRefused(GeofenceError):
    """The kernel did not do, or does not hold, what it was asked: the administrator."""

    status = 71


class DiskError(GeofenceError):
    """The disk did not take or give back what it was asked: the administrator."""

    status = 74


class Busy(GeofenceError):
    """Somebody else is at it: try again."""

    status = 75


class NoPermission(GeofenceError):
    """The caller may not: run it as root, or with CAP_NET_ADMIN."""

    status = 77


class ConfigError(GeofenceError):
    """The configuration file says something wrong: whoever wrote it."""

    status = 78
