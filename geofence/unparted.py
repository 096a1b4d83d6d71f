"""Let no signal part what belongs together."""

import contextlib
import signal
from collections.abc import Iterator

_SIGNALS_THAT_WAIT = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@contextlib.contextmanager
def unparted() -> Iterator[None]:
    """Let no signal end the process within the block; it is delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS_THAT_WAIT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
