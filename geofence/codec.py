"""Strict reading of JSON and TOML into our own types. The only importer of msgspec."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_json(value: object) -> bytes:
    """Write a value of our own types as indented JSON that ends in a newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def from_json(text: bytes, kind: type[T]) -> T:
    """Read JSON as a type. Raises ValueError that names the place, as in ``$.lists.inet``."""
    return msgspec.json.decode(text, type=kind)


def convert(table: Mapping[str, Any], kind: type[T]) -> T:
    """Read a TOML table as a type. Raises ValueError that names the place below ``$``."""
    return msgspec.convert(table, kind)
