"""Bring a file here over HTTPS, whole or not at all, within bounds. The only importer of requests.

What is checked here because no library checks it: every redirect's scheme and host, the length
of the body on the wire against Content-Length, the end of the gzip stream, and one deadline for
everything. (An older urllib3 takes half a body for a whole one, and none notices a byte a second.)
"""

import hashlib
import http.client
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from geofence import __version__
from geofence.config import FetchLimits
from geofence.disk import refusals
from geofence.errors import SourceUnavailable
from geofence.gunzip import Gunzip

_CHUNK_BYTES = 1 << 16
_MAX_REDIRECTS = 3
_MAX_PAUSE_SECONDS = 30.0
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_OK, _NOT_MODIFIED = 200, 304
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORTH_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_GZIP = frozenset({"gzip", "x-gzip"})  # the same, RFC 9110, 8.4.1.3
_OF_THE_NETWORK = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
_VALIDATOR = re.compile(r"[\x20-\x7e]{1,256}")
_LENGTH_DIGITS = 18
_MESSAGE_CHARACTERS = 200
_USER_AGENT = f"geofence/{__version__} (country prefix list updater)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server gave us to ask "has it changed?" with (RFC 9110, 8.8)."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A file that came whole."""

    path: Path
    sha256: str
    md5: str
    validators: Validators


@dataclass(slots=True)
class Watch:
    """How far one download is; written by its thread, read by the one that waits for it."""

    reached: bool = False  # a server answered
    received: int = 0  # bytes on the wire, of the attempt under way
    expected: int | None = None


class _Transient(Exception):  # noqa: N818, it never leaves this module
    """This attempt failed; another may not."""

    def __init__(self, what: str, pause_seconds: float = 0.0) -> None:
        super().__init__(what)
        self.pause_seconds = pause_seconds


class _Session(requests.Session):
    """Looks at no redirect: requests would read its whole body into memory for that."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none; they are followed here, one by one."""
        del resp


class _Adapter(requests.adapters.HTTPAdapter):
    """Trusts further authorities beside those of the session, which can name one file only."""

    def __init__(self, authorities: Sequence[str]) -> None:
        self._authorities = authorities
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """Make connections that know the authorities."""
        super().init_poolmanager(*arguments, ssl_context=self._context(), **named)

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        """Make connections through a proxy that know them too."""
        return super().proxy_manager_for(*arguments, ssl_context=self._context(), **named)

    def _context(self) -> ssl.SSLContext:
        context = urllib3.util.ssl_.create_urllib3_context()
        for path in self._authorities:
            if not Path(path).is_file():
                raise SourceUnavailable(f"the certificate authorities {path} are not there")
            context.load_verify_locations(path)
        return context


class Fetcher:
    """Downloads under one deadline that begins when the fetcher is made."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._started = time.monotonic()
        named = [os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)]
        self._authorities = [limits.ca_file] if limits.ca_file else list(dict.fromkeys(named))

    def remaining(self) -> float:
        """Tell how many seconds there are left for all downloads together."""
        return self._limits.deadline_seconds - (time.monotonic() - self._started)

    def fetch(
        self, url: str, hosts: frozenset[str], target: Path, *, known: Validators, watch: Watch
    ) -> Body | None:
        """Write a file's content to ``target``; None if it has not changed since ``known``.

        Content-Encoding is undone. Raises SourceUnavailable, or DiskError for the target.
        """
        pause = self._limits.retry_pause_seconds
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return self._attempt(url, hosts, target, known, watch)
            except _Transient as error:
                pause = max(pause, error.pause_seconds)
                if attempt == self._limits.attempts or pause > self._patience(watch):
                    raise SourceUnavailable(
                        f"{error} ({attempt} {'attempt' if attempt == 1 else 'attempts'})",
                        cure=self._network_cure(watch),
                    ) from error
                time.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    def _patience(self, watch: Watch) -> float:
        """Tell how many more seconds another attempt is worth: few if no server ever answered."""
        if watch.reached:
            return self.remaining()
        unreached = self._limits.reach_seconds - (time.monotonic() - self._started)
        return min(self.remaining(), unreached)

    def _network_cure(self, watch: Watch) -> str:
        if watch.reached:
            return "try again later"
        if self._limits.proxy:
            return "look at fetch.proxy and at this host's way to it"
        if any(name.lower() == "https_proxy" for name in os.environ):
            return "set fetch.proxy: geofence does not use the environment's https_proxy"
        return "look at this host's name service and route (getent hosts, ip route)"

    def _attempt(
        self, url: str, hosts: frozenset[str], target: Path, known: Validators, watch: Watch
    ) -> Body | None:
        watch.received = 0
        with self._session() as session:
            response = self._follow(session, url, hosts, known, watch)
            with response:
                if response.status_code == _NOT_MODIFIED:
                    return None
                return self._receive(response, url, target, watch)

    def _session(self) -> requests.Session:
        session = _Session()
        session.trust_env = False  # no .netrc, and no proxy that nobody chose for this
        if self._authorities:
            session.verify = self._authorities[0]
            session.mount("https://", _Adapter(self._authorities[1:]))
        session.headers["User-Agent"] = _USER_AGENT
        session.headers["Accept-Encoding"] = "gzip"
        if self._limits.proxy:
            session.proxies = {"http": self._limits.proxy, "https": self._limits.proxy}
        return session

    def _follow(
        self,
        session: requests.Session,
        url: str,
        hosts: frozenset[str],
        known: Validators,
        watch: Watch,
    ) -> requests.Response:
        """Ask, and follow up to three redirects to where the source may lead."""
        schemes = {"https", urlsplit(url).scheme}
        hop = url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._ask(session, hop, known, watch)
            if response.status_code not in _REDIRECTS:
                _check_status(response, hop, conditional=known != Validators())
                return response
            response.close()
            hop = _redirected(response, hop)
            if urlsplit(hop).scheme not in schemes or netloc(hop) not in hosts:
                raise SourceUnavailable(
                    f"{url}: redirects to {_plain(hop)}, which this source does not list",
                    cure="if the publisher has moved, name the new address with --from",
                )
        raise SourceUnavailable(f"{url}: more than {_MAX_REDIRECTS} redirects")

    def _ask(
        self, session: requests.Session, url: str, known: Validators, watch: Watch
    ) -> requests.Response:
        headers = {}
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        try:
            if not self._limits.proxy:
                _resolve(url)
            patience, remaining = self._patience(watch), self.remaining()
            if patience <= 0:
                over = "the deadline of all downloads" if remaining <= 0 else "the time to reach it"
                raise SourceUnavailable(f"{url}: {over} is over", cure=self._network_cure(watch))
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(
                    min(self._limits.connect_timeout_seconds, patience),
                    min(self._limits.read_timeout_seconds, remaining),
                ),
            )
        except requests.exceptions.SSLError as error:
            if isinstance(_innermost(error), _HUNG_UP):
                raise _Transient(f"{url}: {_words(error)}") from error
            raise SourceUnavailable(
                f"{url}: {_words(error)}",
                cure="look at this host's clock and its certificate authorities"
                " (fetch.ca_file); http is never tried instead",
            ) from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise _Transient(f"{url}: {_words(error)}") from error
        except (requests.exceptions.RequestException, ValueError, OSError) as error:
            raise SourceUnavailable(f"{url}: {_words(error)}") from error
        watch.reached = True
        return response

    def _receive(self, response: requests.Response, url: str, target: Path, watch: Watch) -> Body:
        """Write the body as it comes, undo its encoding, and check that it is whole."""
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", *_GZIP):
            raise SourceUnavailable(
                f"{url}: Content-Encoding {_plain(encoding)}, and gzip was asked for"
            )
        decoder = Gunzip(url, self._limits.max_decoded_bytes) if encoding in _GZIP else None
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with refusals("write", target), target.open("wb") as file:
            for piece in self._wire(response, url, watch):
                for decoded in decoder.feed(piece) if decoder else (piece,):
                    sha256.update(decoded)
                    md5.update(decoded)
                    file.write(decoded)
            if decoder:
                decoder.finish()
            file.flush()
            os.fsync(file.fileno())
        return Body(
            path=target,
            sha256=sha256.hexdigest(),
            md5=md5.hexdigest(),
            validators=Validators(
                etag=_validator(response, "ETag"),
                last_modified=_validator(response, "Last-Modified"),
            ),
        )

    def _wire(self, response: requests.Response, url: str, watch: Watch) -> Iterator[bytes]:
        """Give the body's bytes as they were sent, and raise unless all of them came."""
        watch.expected = _announced(response, url)
        if (watch.expected or 0) > self._limits.max_wire_bytes:
            raise self._too_long(url)
        while piece := _read_some(response, url):
            watch.received += len(piece)
            if watch.received > self._limits.max_wire_bytes:
                raise self._too_long(url)
            if self.remaining() <= 0:
                raise SourceUnavailable(
                    f"{url}: not here within {self._limits.deadline_seconds:g} s,"
                    f" the deadline of all downloads ({watch.received:,} bytes came)",
                    cure="try again later, or raise fetch.deadline_seconds",
                )
            yield piece
        if watch.expected is not None and watch.received != watch.expected:
            raise _Transient(f"{url}: cut: {watch.received:,} of {watch.expected:,} bytes came")

    def _too_long(self, url: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"{url}: longer than {self._limits.max_wire_bytes:,} bytes",
            cure="raise fetch.max_wire_bytes if the file is right",
        )


def netloc(url: str) -> str:
    """Give the host and port that a URL names: where its own redirects may lead."""
    return urlsplit(url).netloc.lower()


def _resolve(url: str) -> None:
    """Ask the name service first, so that its failure is told from the server's."""
    parts = urlsplit(url)
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _Transient(f"{url}: no address for {parts.hostname}: {error.strerror}") from error


def _check_status(response: requests.Response, url: str, *, conditional: bool) -> None:
    """Let 200 pass, and 304 where we asked for it; nothing else is a list."""
    status = response.status_code
    if status == _OK or (status == _NOT_MODIFIED and conditional):
        return
    what = f"{url}: answered {status} {_plain(response.reason or '')}".rstrip()
    response.close()
    if status in _WORTH_A_RETRY:
        retry_after = response.headers.get("Retry-After", "")
        raise _Transient(what, float(retry_after) if retry_after.isdecimal() else 0.0)
    raise SourceUnavailable(what, cure="look whether the publisher has moved (--from)")


def _redirected(response: requests.Response, url: str) -> str:
    """Tell where a redirect leads to."""
    location = response.headers.get("Location")
    if location is None:
        raise SourceUnavailable(f"{url}: a redirect without a Location")
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise SourceUnavailable(f"{url}: redirects to {_plain(location)}, no URL") from error


def _validator(response: requests.Response, name: str) -> str:
    """Give a header that is sent back later; none if it is such that it would spoil a request."""
    value = response.headers.get(name, "")
    return value if _VALIDATOR.fullmatch(value) else ""


def _announced(response: requests.Response, url: str) -> int | None:
    """Tell the length that the server announced; None if it sends chunks, which have an end."""
    coding = response.headers.get("Transfer-Encoding", "").lower()
    if coding == "chunked":
        return None
    length = response.headers.get("Content-Length", "")
    if coding or not length.isdecimal() or len(length) > _LENGTH_DIGITS:
        raise SourceUnavailable(
            f"{url}: neither Content-Length nor chunks: nobody could tell whether it is whole"
        )
    return int(length)


def _read_some(response: requests.Response, url: str) -> bytes:
    """Read what is there, up to 64 KiB; b"" at the end."""
    try:
        return response.raw.read1(_CHUNK_BYTES, decode_content=False)
    except _OF_THE_NETWORK as error:
        raise _Transient(f"{url}: {_words(error)}") from error


def _innermost(error: BaseException) -> BaseException:
    """Find what began a chain of wrapped exceptions."""
    seen = error
    while True:
        reason = getattr(seen, "reason", None)
        inner = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
        if inner is seen or not isinstance(inner, _OF_THE_NETWORK):
            return seen
        seen = inner


def _words(error: BaseException) -> str:
    """Find the plainest words for an error of the network."""
    first = _innermost(error)
    return _plain(str(first)) or type(first).__name__


def _plain(text: str) -> str:
    """Make one line of printable ASCII out of what others may have written."""
    line = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[:_MESSAGE_CHARACTERS]}..."
