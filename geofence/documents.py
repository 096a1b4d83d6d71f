"""A file on the disk as a bounded stream of lines, gzip or not."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geofence.config import FetchLimits
from geofence.disk import refusals
from geofence.errors import ListRefused, SourceUnavailable
from geofence.gunzip import MAGIC, Gunzip
from geofence.sources import Document

CHUNK_BYTES = 1 << 17


def document(path: Path, *, publisher: str, location: str, limits: FetchLimits) -> Document:
    """Describe a file; its lines are read anew each time, and never held all at once."""
    return Document(
        publisher=publisher,
        location=location,
        sha256=sha256_of(path),
        lines=lambda: _lines(path, location, limits),
    )


def sha256_of(path: Path) -> str:
    """Sum up a file's bytes as they lie on the disk."""
    with refusals("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_bounded(path: Path, target: Path, limits: FetchLimits) -> None:
    """Copy a file that somebody named (it may be a pipe) to where it can be read twice."""
    left = limits.max_wire_bytes
    try:
        source = path.open("rb")
    except OSError as error:
        raise SourceUnavailable(f"cannot read {path}: {error.strerror}") from error
    with source, refusals("write", target), target.open("wb") as copy:
        while chunk := _read(source, path):
            left -= len(chunk)
            if left < 0:
                raise SourceUnavailable(
                    f"{path}: longer than {limits.max_wire_bytes:,} bytes",
                    cure="raise fetch.max_wire_bytes if the file is right",
                )
            copy.write(chunk)


def _read(source: BinaryIO, path: Path) -> bytes:
    try:
        return source.read(CHUNK_BYTES)
    except OSError as error:
        raise SourceUnavailable(f"cannot read {path}: {error.strerror}") from error


def _lines(path: Path, location: str, limits: FetchLimits) -> Iterator[bytes]:
    lines = _cut(_decoded(path, location, limits), limits.max_line_bytes)
    for number, line in enumerate(lines, 1):
        if len(line) > limits.max_line_bytes or number > limits.max_lines:
            raise _too_much(location, number, limits)
        yield line.rstrip(b"\r")


def _cut(chunks: Iterator[bytes], max_line_bytes: int) -> Iterator[bytes]:
    """Cut chunks at newlines; a line that is too long comes as far as it was read."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > max_line_bytes:
            break
    if rest:
        yield rest


def _too_much(location: str, number: int, limits: FetchLimits) -> ListRefused:
    if number > limits.max_lines:
        return ListRefused(
            f"{location}: more than {limits.max_lines:,} lines",
            cure="raise fetch.max_lines if the list is right",
        )
    return ListRefused(
        f"{location}: line {number}: longer than {limits.max_line_bytes:,} bytes",
        cure="raise fetch.max_line_bytes if the list is right",
    )


def _decoded(path: Path, location: str, limits: FetchLimits) -> Iterator[bytes]:
    with refusals("read", path), path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        if not chunk.startswith(MAGIC):
            while chunk:
                yield chunk
                chunk = file.read(CHUNK_BYTES)
            return
        decoder = Gunzip(location, limits.max_decoded_bytes)
        while chunk:
            yield from decoder.feed(chunk)
            chunk = file.read(CHUNK_BYTES)
        decoder.finish()
