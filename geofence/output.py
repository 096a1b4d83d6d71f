"""Say things to whoever listens; what is done does not depend on whether anybody does."""

import errno
import os
import sys
from typing import TextIO

_DISK = 74


class Output:
    """Standard output and standard error, one or both of which may be closed, full or gone."""

    def __init__(self) -> None:
        self._lost = ""

    def out(self, text: str) -> None:
        """Print a result."""
        error = _write(sys.stdout, text)
        if error and error.errno != errno.EPIPE:  # a reader that has seen enough is no fault
            self._lost = error.strerror or str(error)

    def err(self, text: str) -> None:
        """Print a diagnostic."""
        _write(sys.stderr, text)

    def status(self, done: int) -> int:
        """Give the exit status: that of what was done, but 74 if its result could not be told."""
        if not self._lost:
            return done
        self.err(f"geofence: cannot write the result: {self._lost}\n")
        return done or _DISK


def _write(stream: TextIO | None, text: str) -> OSError | None:
    """Write at once, and tell what went wrong; further writes then go nowhere."""
    if stream is None:
        return None
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        return _write(stream, text.encode("ascii", "backslashreplace").decode())
    except ValueError:  # closed
        return None
    except OSError as error:
        _silence(stream)
        return error
    return None


def _silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, lest it fail again when the interpreter ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return
