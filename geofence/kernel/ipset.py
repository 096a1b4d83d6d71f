"""Sets in the kernel, by netlink. The only importer of pyroute2.

pyroute2 creates, swaps, renames, destroys and reads headers; what concerns many elements at once
is packed and unpacked by our own ``messages``, over a socket of our own.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from pyroute2.ipset import IPSet
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.ipset import IPSET_FLAG_LIST_HEADER

from geofence import ipsetfile
from geofence.errors import Busy, GeofenceError, KernelRefused, NoPermission
from geofence.kernel import SET_TYPE, Header
from geofence.kernel.messages import (
    NLMSG_DONE,
    NLMSG_ERROR,
    add_messages,
    elements_of,
    error_of,
    list_message,
    messages,
)
from geofence.model import Family, Prefix
from geofence.prefixes import format_prefix

_NETLINK_NETFILTER = 12
_RECEIVE_BYTES = 1 << 20
_BUSY_SECONDS = 5.0  # a dump of a large set by somebody else lasts a second or more
_BUSY_PAUSE_SECONDS = 0.02
_IN_USE_SECONDS = 2.0  # a rule that was just deleted can hold its set a moment longer

# linux/netfilter/ipset/ip_set.h, enum ipset_errno
_ERR_BUSY, _ERR_REFERENCED = 4100, 4108
_MEANINGS = {
    errno.ENOENT: "there is no such set",
    errno.EEXIST: "a set of that name exists",
    errno.EBUSY: "somebody is reading the set",
    errno.ENOMEM: "the kernel has no memory for it",
    errno.ENOBUFS: "the kernel ran out of buffer space",
    errno.EINVAL: "the kernel does not know ip_set (modprobe ip_set_hash_net?)",
    errno.EPROTONOSUPPORT: "the kernel does not know ip_set (modprobe ip_set_hash_net?)",
    4097: "the kernel speaks another ip_set protocol",
    4098: "the kernel does not know the set type (modprobe ip_set_hash_net?)",
    4099: "the kernel has as many sets as it can hold",
    4100: "the set is in use: a rule or another set refers to it",
    4101: "the second set does not exist, or the new name is taken",
    4102: "the two sets are of different types",
    4103: "the element is in the set already",
    4104: "hash:net does not take a prefix of this length",
    4106: "the kernel's set type does not know this address family",
    4108: "the set is in use: a rule or another set refers to it",
    4352: "the set is full",
}


class KernelSets:
    """The sets of the network namespace in which the object was made; ``close`` it."""

    def __init__(self) -> None:
        with _refusal("speak with ip_set in the kernel"):
            self._ipset = IPSet()
            self._bulk = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
            )
            self._bulk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            self._bulk.bind((0, 0))

    def close(self) -> None:
        """Give both sockets back."""
        self._ipset.close()
        self._bulk.close()

    def header(self, name: str) -> Header | None:
        """Read a set's header; None if there is no such set."""
        try:
            (message,) = self._ipset.list(name, flags=IPSET_FLAG_LIST_HEADER)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                return None
            raise _refused(f"read the set {name}", error.code) from error
        data = message.get_attr("IPSET_ATTR_DATA")
        families = {family.af: family for family in Family}
        return Header(
            type=message.get_attr("IPSET_ATTR_TYPENAME"),
            family=families.get(message.get_attr("IPSET_ATTR_FAMILY")),
            entries=data.get_attr("IPSET_ATTR_ELEMENTS") or 0,
            references=data.get_attr("IPSET_ATTR_REFERENCES") or 0,
            maxelem=data.get_attr("IPSET_ATTR_MAXELEM") or 0,
            timeout=data.get_attr("IPSET_ATTR_TIMEOUT") is not None,
            memory_bytes=data.get_attr("IPSET_ATTR_MEMSIZE") or 0,
        )

    def create(self, name: str, family: Family, entries: int, *, timed: bool = False) -> None:
        """Create an empty set with room for twice as many entries; timed: each may expire."""
        with _refusal(f"create the set {name}"):
            self._ipset.create(
                name,
                stype=SET_TYPE,
                family=family.af,
                hashsize=ipsetfile.hashsize(entries),
                maxelem=ipsetfile.maxelem(entries),
                timeout=0 if timed else None,
            )

    def add(
        self, name: str, family: Family, prefixes: Sequence[Prefix], timeouts: Sequence[int] = ()
    ) -> None:
        """Add prefixes to a set, a thousand a message, each message acknowledged."""
        for message in add_messages(name, family, prefixes, timeouts):
            with _refusal(f"add to the set {name}"):
                self._bulk.send(message)
                ((_, payload),) = messages(self._bulk.recv(_RECEIVE_BYTES))
            code, line = error_of(payload)
            if code:
                element = format_prefix(family, prefixes[line - 1]) if line else "an element"
                raise _refused(f"add {element} to the set {name}", code)

    def read(self, name: str, family: Family) -> tuple[Prefix, ...]:
        """Read a set's elements, in address order."""
        with _refusal(f"read the set {name}"):
            return tuple(
                sorted(
                    prefix
                    for payload in self._dump(name)
                    for prefix in elements_of(payload, family)
                )
            )

    def _dump(self, name: str) -> list[bytes]:
        """Receive a whole dump before any of it is decoded: while it lasts nobody can swap."""
        payloads: list[bytes] = []
        self._bulk.send(list_message(name))
        while True:
            for kind, payload in messages(self._bulk.recv(_RECEIVE_BYTES)):
                if kind == NLMSG_DONE:
                    return payloads
                if kind == NLMSG_ERROR:
                    raise _refused(f"read the set {name}", error_of(payload)[0])
                payloads.append(payload)

    def swap(self, one: str, other: str) -> None:
        """Exchange two sets in one step; wait up to 5 s for readers, who make the kernel refuse."""
        act = f"swap the sets {one} and {other}"
        _patiently(
            lambda: self._ipset.swap(one, other), act, frozenset({errno.EBUSY}), _BUSY_SECONDS
        )

    def rename(self, old: str, new: str) -> None:
        """Give a set that nobody refers to a name that is free."""
        act = f"rename the set {old} to {new}"
        codes = frozenset({errno.EBUSY, _ERR_REFERENCED})
        _patiently(lambda: self._ipset.rename(old, new), act, codes, _BUSY_SECONDS)

    def destroy(self, name: str) -> None:
        """Destroy a set that nobody refers to; wait up to 2 s for who just ceased to."""
        act = f"destroy the set {name}"
        codes = frozenset({errno.EBUSY, _ERR_BUSY})
        _patiently(lambda: self._ipset.destroy(name), act, codes, _IN_USE_SECONDS)


def _patiently(act: Callable[[], object], name: str, codes: frozenset[int], seconds: float) -> None:
    """Repeat an act while the kernel refuses it with one of the codes, for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with _refusal(name, leave=codes):
                act()
        except NetlinkError as error:
            if time.monotonic() >= deadline:
                raise _refused(name, error.code) from error
            time.sleep(_BUSY_PAUSE_SECONDS)
        else:
            return


@contextlib.contextmanager
def _refusal(act: str, leave: frozenset[int] = frozenset()) -> Iterator[None]:
    """Turn the kernel's refusal of an act into an error that names both."""
    try:
        yield
    except NetlinkError as error:
        if error.code in leave:
            raise
        raise _refused(act, error.code) from error
    except OSError as error:
        raise _refused(act, error.errno or 0) from error
    except ValueError as error:
        raise KernelRefused(f"cannot {act}: it holds {error}") from error


def _refused(act: str, code: int) -> GeofenceError:
    meaning = _MEANINGS.get(code) or os.strerror(code)
    what = f"cannot {act}: {meaning} ({code})"
    if code in (errno.EPERM, errno.EACCES):
        return NoPermission(
            f"cannot {act}: {meaning}", cure="run geofence as root, or with CAP_NET_ADMIN"
        )
    if code == errno.EBUSY:
        return Busy(what, cure="try again")
    return KernelRefused(what, cure="geofence status tells what the kernel holds")
