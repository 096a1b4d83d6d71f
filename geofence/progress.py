"""A progress bar while files come in, on a terminal only. The only importer of rich."""

import contextlib
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from geofence.acquire import Progress


def silent(_name: str, _received: int, _expected: int | None) -> None:
    """Show nothing."""


@contextlib.contextmanager
def bars(*, wanted: bool) -> Iterator[Progress]:
    """Show a bar for each file on standard error if that is a terminal; NO_COLOR is honoured."""
    if not (wanted and sys.stderr and sys.stderr.isatty()):
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    terminal = Console(stderr=True)
    with Bars(*columns, console=terminal, transient=True, redirect_stdout=False) as shown:
        tasks = {}

        def show(url: str, received: int, expected: int | None) -> None:
            if url not in tasks:
                tasks[url] = shown.add_task(urlsplit(url).netloc or url, total=None)
            shown.update(tasks[url], completed=received, total=expected)

        yield show
