"""Run the programs of the system: found also without a full PATH, never through a shell."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from geofence.errors import KernelRefused

_TIMEOUT_SECONDS = 60.0
_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_NOT_FOUND = 127  # as shells have it

Done = subprocess.CompletedProcess[str]


def which(name: str) -> str | None:
    """Find a program; cron's PATH has no sbin."""
    path = os.environ.get("PATH", "")
    return shutil.which(name, path=os.pathsep.join([path, *_DIRECTORIES]))


def run(command: Sequence[str], text: str = "") -> Done:
    """Run a program with a text on its standard input, and give what it said.

    Raises KernelRefused if it does not end; one that is not there ends with 127.
    """
    program = which(command[0])
    if program is None:
        return Done(command, _NOT_FOUND, "", f"{command[0]} is not installed")
    try:
        return subprocess.run(
            [program, *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise KernelRefused(f"{command[0]} did not end within {_TIMEOUT_SECONDS:.0f} s") from error
    except OSError as error:
        raise KernelRefused(f"cannot run {command[0]}: {error.strerror}") from error
