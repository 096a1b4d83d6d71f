"""Decode gzip (RFC 1952) to its end marker: bounded, and nothing may come after it."""

import zlib
from collections.abc import Iterator

from geofence.errors import SourceUnavailable

MAGIC = b"\x1f\x8b"
_STEP_BYTES = 1 << 18
_GZIP_WINDOW = 31  # zlib: 15 bits of window, gzip header and trailer


class Gunzip:
    """A decoder that is fed pieces; ``finish`` raises unless they made one whole stream."""

    def __init__(self, what: str, max_decoded_bytes: int) -> None:
        self._what = what
        self._left = max_decoded_bytes
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Decode one more piece, in steps of at most 256 KiB. Raises SourceUnavailable."""
        while piece:
            if self._stream.eof:
                raise SourceUnavailable(f"{self._what}: bytes after the end of its gzip stream")
            try:
                decoded = self._stream.decompress(piece, _STEP_BYTES)
            except zlib.error as error:
                raise SourceUnavailable(f"{self._what}: damaged gzip: {error}") from error
            self._left -= len(decoded)
            if self._left < 0:
                raise SourceUnavailable(
                    f"{self._what}: unpacks to more than the limit",
                    cure="raise fetch.max_decoded_bytes if the file is right",
                )
            yield decoded
            piece = self._stream.unconsumed_tail or self._stream.unused_data

    def finish(self) -> None:
        """Raise SourceUnavailable unless the end marker, checksum and length were there."""
        if not self._stream.eof:
            raise SourceUnavailable(f"{self._what}: its gzip stream is cut")
