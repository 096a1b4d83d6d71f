"""A private network namespace, where the real kernel can be tried without touching the host."""

import contextlib
import ctypes
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from geofence.errors import GeofenceError, KernelRefused

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h

T = TypeVar("T")


class NoNamespace(Exception):  # noqa: N818, an answer rather than a fault
    """This process may not make a private network namespace."""


def privately(act: Callable[[], T]) -> T:
    """Run an act in a child process with a network namespace of its own, and give its result.

    Without root the child has a user namespace too, in which it is root (user_namespaces(7)).
    Raises NoNamespace where that is not permitted, and what the act raises.
    """
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream:  # either may be closed
                stream.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, act)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        raise KernelRefused("the trial in a private namespace ended without an answer")
    kind, value = pickle.loads(answer)  # noqa: S301, from our own child
    if kind == "result":
        return value  # type: ignore[no-any-return]
    raise value


def _answer(writer: int, act: Callable[[], object]) -> None:
    """Run in the child: send what the act gave or raised, and end without a word."""
    try:
        try:
            enter()
            answer = ("result", act())
        except Exception as error:  # noqa: BLE001, whatever it is, the parent is to raise it
            if not isinstance(error, GeofenceError | NoNamespace):
                error.add_note(traceback.format_exc())  # which does not come through the pipe
            answer = ("error", error)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)


def enter() -> None:
    """Put this process (it must have one thread) into a namespace of its own, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        raise NoNamespace(os.strerror(ctypes.get_errno()))
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError as error:
        raise NoNamespace(str(error)) from error


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
