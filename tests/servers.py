"""Small servers on loopback that answer, or misbehave, exactly as a test tells them to."""

import contextlib
import functools
import hashlib
import shlex
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import trustme

LAST_MODIFIED = "Thu, 20 Nov 2025 10:00:00 GMT"
_NO_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER, socket(7): close with a reset
_BUFFER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for; the names of headers in lower case."""

    path: str
    headers: Mapping[str, str]


class Line:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def wait(self, seconds: float = 60.0) -> None:
        """Do nothing, at most until the client hangs up or the test ends."""
        self._connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            self._connection.recv(1)

    def pause(self, seconds: float) -> None:
        """Let some time pass; less if the test ends."""
        self._stopping.wait(seconds)

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


Script = Callable[[Line, Request], None]
"""What happens on one connection once the request is there; then it is closed."""


@dataclass(slots=True)
class Server:
    """A thread for each connection, one request each, over TLS if there is a certificate."""

    certificate: trustme.LeafCert | None = None
    port: int = 0
    scripts: dict[str, Script] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    _listener: socket.socket = field(init=False)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        context = None
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.certificate.configure_cert(context)
        self._start(self._accept, context)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        while self._threads:
            with self._lock:
                for connection in self._open:
                    _hang_up(connection)
            self._threads.pop().join()
        self._listener.close()

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.netloc}{path}"

    def asked(self, path: str) -> list[Request]:
        """Give the requests for a path."""
        return [request for request in self.requests if request.path == path]

    def _start(self, act: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=act, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if context:
                connection = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            try:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                if request := _request(connection):
                    self.requests.append(request)
                    script = self.scripts.get(request.path, answer(status="404 Not Found"))
                    script(Line(connection, self._stopping), request)
                else:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            finally:
                with self._lock:
                    self._open.discard(connection)


def _hang_up(connection: socket.socket) -> None:
    """Wake whoever waits on a connection, below TLS."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _request(connection: socket.socket) -> Request | None:
    """Read a request's head; None for what is no HTTP."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(_BUFFER_BYTES)
        head += piece
        if not piece or not head[:1].isalpha():
            return None
    first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    headers = (line.partition(":") for line in lines)
    return Request(first.split()[1], {name.lower(): value.strip() for name, _, value in headers})


@functools.cache
def authority() -> trustme.CA:
    """Make the certificate authority of this test run."""
    return trustme.CA()


def certificate(*names: str) -> trustme.LeafCert:
    """Make a certificate for these names; for loopback if there are none."""
    return authority().issue_cert(*(names or ("127.0.0.1",)))


def trust(directory: Path) -> Path:
    """Write what a client has to trust into a file."""
    path = directory / "authority.pem"
    authority().cert_pem.write_to_path(path)
    return path


def head(status: str, headers: Mapping[str, str | int | None]) -> bytes:
    """Write a response's head; a header that is None is left out."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1")


def answer(
    body: bytes = b"",
    headers: Mapping[str, str | int | None] | None = None,
    *,
    status: str = "200 OK",
) -> Script:
    """Send a body, with its true length unless ``headers`` says otherwise."""
    return send(head(status, {"Content-Length": len(body), **(headers or {})}), body)


def send(*pieces: bytes) -> Script:
    """Send these bytes, and close."""

    def script(line: Line, _: Request) -> None:
        for piece in pieces:
            line.send(piece)

    return script


def stall(*pieces: bytes) -> Script:
    """Send these bytes, and then nothing."""

    def script(line: Line, request: Request) -> None:
        send(*pieces)(line, request)
        line.wait()

    return script


def drip(beginning: bytes, byte: bytes, *, every_seconds: float) -> Script:
    """Send a beginning, and then one byte again and again."""

    def script(line: Line, _: Request) -> None:
        line.send(beginning)
        while True:
            line.pause(every_seconds)
            line.send(byte)

    return script


def reset(*pieces: bytes) -> Script:
    """Send these bytes, and reset the connection."""

    def script(line: Line, request: Request) -> None:
        send(*pieces)(line, request)
        line.reset()

    return script


def in_turn(*scripts: Script) -> Script:
    """Do another thing at each request; the last one for all that follow."""
    left = [*scripts]

    def script(line: Line, request: Request) -> None:
        act = left.pop(0) if len(left) > 1 else left[0]
        act(line, request)

    return script


def redirect(target: str | None, status: str = "302 Found") -> Script:
    """Send the client elsewhere."""
    return answer(b"elsewhere", {"Location": target}, status=status)


def chunks(*pieces: bytes) -> Iterator[bytes]:
    """Write pieces as chunks, without the last, empty one (RFC 9112, 7.1)."""
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


def file(content: bytes) -> Script:
    """Serve a file as a good publisher does: with validators, and 304 if it is known."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    validators = {"ETag": etag, "Last-Modified": LAST_MODIFIED}

    def script(line: Line, request: Request) -> None:
        known = request.headers.get("if-none-match") == etag
        sent = send(head("304 Not Modified", validators)) if known else answer(content, validators)
        sent(line, request)

    return script


def publish(server: Server, path: str, content: bytes, *, md5_of: bytes | None = None) -> None:
    """Serve a file, and the ``.md5`` of it (or of something else) beside it."""
    digest = hashlib.md5(content if md5_of is None else md5_of, usedforsecurity=False).hexdigest()
    server.scripts[path] = file(content)
    name = path.rpartition("/")[2]
    server.scripts[f"{path}.md5"] = answer(f"MD5 ({name}) = {digest}\n".encode())


@contextlib.contextmanager
def background(act: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run an act beside a block, and end with it."""
    thread = threading.Thread(target=act, args=arguments)
    thread.start()
    yield
    thread.join()


def seeing(directory: Path, *, hosts: str = "", resolver: str = "") -> list[str]:
    """Begin a command that resolves names by these two files, in a mount namespace of its own."""
    instead = {
        "/etc/hosts": f"127.0.0.1 localhost\n{hosts}",
        "/etc/resolv.conf": resolver,
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    mounts = []
    for place, text in instead.items():
        file = directory / Path(place).name
        file.write_text(text)
        mounts.append(f"mount --bind {shlex.quote(str(file))} {place}")
    return ["unshare", "-m", "sh", "-ec", f'{"; ".join(mounts)}; exec "$@"', "sh"]
