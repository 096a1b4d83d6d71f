"""A finding: what is wrong, and what to do."""

import enum
from dataclasses import dataclass


class When(enum.StrEnum):
    """Since when it matters."""

    NOW = "now"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that defeats a fence, or the host's fences altogether (``fence`` is empty)."""

    id: str
    what: str
    cure: str
    fence: str = ""
    when: When = When.NOW
