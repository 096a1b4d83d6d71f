"""The keys of a TOML file: refuse those that nobody knows, and find the line of one. Pure."""

import dataclasses
import difflib
import enum
import re
import types
import typing
from typing import Any

_TABLE_LINE = re.compile(r"\s*\[+([^\]=]+)\]")
_KEY_LINE = re.compile(r"""\s*([\w."'\s-]+?)\s*=""")


def refuse_unknown_keys(table: object, kind: Any, where: str) -> None:
    """Refuse a key that the type does not have, anywhere below, with a hint at what was meant."""
    if not isinstance(table, dict):
        return
    kind = _without_none(kind)
    if typing.get_origin(kind) is dict:
        for key, value in table.items():
            refuse_unknown_keys(value, typing.get_args(kind)[1], f"{where}{key}.")
    elif dataclasses.is_dataclass(kind):
        fields = {field.name: field.type for field in dataclasses.fields(kind)}
        for key, value in table.items():
            if key not in fields:
                close = difflib.get_close_matches(key, fields, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(fields)}"
                raise ValueError(f"{where}{key}: unknown key; {hint}")
            refuse_unknown_keys(value, fields[key], f"{where}{key}.")


def _without_none(kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not types.NoneType)
    return kind


def line_of(text: str, complaint: str) -> str:
    """Find the line of the key that a complaint begins with, or else of its table, as ``:7``."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        key: tuple[str, ...] = ()
        if header := _TABLE_LINE.match(line):
            key = table = _keys(header[1])
        elif setting := _KEY_LINE.match(line):
            key = (*table, *_keys(setting[1]))
        for length in range(1, len(key) + 1):
            lines.setdefault(key[:length], number)
    path = _keys(complaint.partition(":")[0].partition("[")[0])
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return f":{lines[path[:length]]}"
    return ""


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip(" \t\"'") for key in dotted.split("."))


def choices(kind: Any, place: str) -> list[str]:
    """Give the values that the key at a place may have."""
    key = re.sub(r"\[.*|`", "", place).rpartition(".")[2]
    known = typing.get_type_hints(kind)[key]
    for one in (known, *typing.get_args(known)):
        if isinstance(one, type) and issubclass(one, enum.StrEnum):
            return [repr(str(choice)) for choice in one]
    return []
