"""A download is here whole or not at all: against real servers that misbehave."""

import dataclasses
import datetime
import functools
import gzip
import hashlib
import socket
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import trustme
from urllib3.connectionpool import HTTPConnectionPool

from geofence.config import FetchLimits
from geofence.documents import document
from geofence.errors import DiskError, ListRefused, SourceUnavailable
from geofence.fetch import Body, Fetcher, Validators, Watch, netloc
from geofence.sources.plain import PLAIN
from geofence.sources.rir import RIR
from tests import servers
from tests.servers import answer, chunks, head, in_turn, redirect, reset, send, stall

OK = "200 OK"
BODY = b"192.0.2.0/25\n192.0.2.128/25\n" * 500
HALF = BODY[: len(BODY) // 2]
MIB = 1 << 20

ENCODED = {"Content-Encoding": "gzip"}
GZIP = gzip.compress(BODY, mtime=0)
FLIPPED = GZIP[:20] + bytes([GZIP[20] ^ 0xFF]) + GZIP[21:]
WRONG_CRC = GZIP[:-8] + bytes(4) + GZIP[-4:]
WRONG_LENGTH = GZIP[:-4] + bytes(4)

CHUNKED = head(OK, {"Transfer-Encoding": "chunked"})
GZIP_CHUNKED = head(OK, {"Transfer-Encoding": "chunked", **ENCODED})
WHOLE = head(OK, {"Content-Length": len(BODY)})
TWO_LENGTHS = (
    f"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
)

CA_VARIABLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]

ATTEMPTS = 3
LIMITS = FetchLimits(
    connect_timeout_seconds=2.0,
    read_timeout_seconds=2.0,
    reach_seconds=2.0,
    deadline_seconds=5.0,
    attempts=ATTEMPTS,
    retry_pause_seconds=0.01,
    max_wire_bytes=2 * MIB,
    max_decoded_bytes=4 * MIB,
)


class Client:
    """Fetches into one file, trusting the tests' own authority alone."""

    def __init__(self, directory: Path) -> None:
        self.target = directory / "target"
        self.authority = str(servers.trust(directory))

    def __call__(self, url: str, **limits: Any) -> Body:
        body = self.unless(Validators(), url, **limits)
        assert body
        return body

    def unless(self, known: Validators, url: str, **limits: Any) -> Body | None:
        chosen = dataclasses.replace(LIMITS, **({"ca_file": self.authority} | limits))
        hosts = frozenset({netloc(url)})
        return Fetcher(chosen).fetch(url, hosts, self.target, known=known, watch=Watch())


@pytest.fixture
def client(tmp_path):
    return Client(tmp_path)


@pytest.fixture
def server():
    with servers.Server(servers.certificate()) as running:
        yield running


@pytest.fixture
def plain_server():
    with servers.Server() as running:
        yield running


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answer(BODY), id="content-length"),
        pytest.param(send(CHUNKED, *chunks(HALF, HALF, b"")), id="chunks"),
        pytest.param(answer(BODY, {"Content-Encoding": "identity"}), id="identity"),
        pytest.param(answer(GZIP, ENCODED), id="gzip"),
        pytest.param(answer(GZIP, {"Content-Encoding": "x-gzip"}), id="x-gzip"),
        pytest.param(send(GZIP_CHUNKED, *chunks(GZIP, b"")), id="gzip-in-chunks"),
        pytest.param(send(head("100 Continue", {}), WHOLE, BODY), id="continue"),
    ],
)
def test_a_whole_file_is_brought(script, client, server):
    server.scripts["/list"] = script
    body = client(server.url("/list"))
    assert body.path.read_bytes() == BODY
    assert body.sha256 == hashlib.sha256(BODY).hexdigest()
    assert body.md5 == hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        pytest.param(answer(HALF, {"Content-Length": len(BODY)}), "cut|IncompleteRead", id="cut"),
        pytest.param(send(CHUNKED, *chunks(HALF)), "IncompleteRead", id="no-last-chunk"),
        pytest.param(
            send(CHUNKED, b"%x\r\n" % len(BODY), HALF), "IncompleteRead", id="cut-in-a-chunk"
        ),
        pytest.param(
            send(CHUNKED, *chunks(HALF), b"zz\r\n"), "IncompleteRead", id="bad-chunk"
        ),
        pytest.param(stall(), "timed out", id="headers-never-come"),
        pytest.param(stall(WHOLE), "timed out", id="no-body"),
        pytest.param(stall(WHOLE, HALF), "timed out", id="body-stalls"),
        pytest.param(send(b"nonsense\r\n\r\n"), "nonsense", id="bad-status-line"),
        pytest.param(send(), "closed connection", id="nothing"),
        pytest.param(reset(), "reset|closed connection", id="reset"),
        pytest.param(reset(WHOLE, HALF), "reset|closed connection|cut", id="reset-in-the-body"),
        pytest.param(
            answer(BODY, {"X-Huge": "x" * 100_000}), "header line", id="header-of-100-kB"
        ),
        pytest.param(
            answer(BODY, {f"X-{i}": i for i in range(1000)}), "headers", id="a-thousand-headers"
        ),
        pytest.param(answer(status="500 Oops"), "answered 500 Oops", id="500"),
        pytest.param(answer(status="502 Bad Gateway"), "answered 502", id="502"),
        pytest.param(answer(status="503 Busy"), "answered 503", id="503"),
        pytest.param(answer(status="429 Too Many"), "answered 429", id="429"),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_then_given_up(script, complaint, client, server):
    server.scripts["/list"] = script
    with pytest.raises(SourceUnavailable, match=complaint) as caught:
        client(server.url("/list"), read_timeout_seconds=0.3)
    assert f"({ATTEMPTS} attempts)" in caught.value.what
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        pytest.param(
            send(head(OK, {}), HALF), "neither Content-Length nor chunks", id="no-length-then-close"
        ),
        pytest.param(
            answer(BODY, {"Content-Length": "9" * 5000}), "neither", id="length-of-5000-digits"
        ),
        pytest.param(answer(BODY, {"Content-Length": "-1"}), "neither", id="length-below-zero"),
        pytest.param(
            answer(BODY, {"Transfer-Encoding": "gzip, chunked"}), "neither", id="other-coding"
        ),
        pytest.param(send(TWO_LENGTHS, BODY), "Content-Length", id="two-lengths"),
        pytest.param(answer(BODY, {"Content-Encoding": "br"}), "Content-Encoding br", id="brotli"),
        pytest.param(
            answer(BODY, {"Content-Encoding": "gzip, gzip"}), "Content-Encoding", id="gzip-twice"
        ),
        pytest.param(answer(GZIP[: len(GZIP) // 2], ENCODED), "stream is cut", id="gzip-cut"),
        pytest.param(answer(GZIP[:-8], ENCODED), "stream is cut", id="gzip-without-trailer"),
        pytest.param(answer(GZIP + b"more", ENCODED), "bytes after the end", id="gzip-and-garbage"),
        pytest.param(answer(GZIP + GZIP, ENCODED), "bytes after the end", id="gzip-and-another"),
        pytest.param(answer(WRONG_CRC, ENCODED), "incorrect data check", id="gzip-wrong-crc"),
        pytest.param(
            answer(WRONG_LENGTH, ENCODED), "incorrect length check", id="gzip-wrong-length"
        ),
        pytest.param(answer(FLIPPED, ENCODED), "damaged gzip", id="gzip-flipped-byte"),
        pytest.param(answer(BODY, ENCODED), "incorrect header check", id="gzip-that-is-none"),
        pytest.param(answer(b"", ENCODED), "stream is cut", id="gzip-of-nothing"),
        pytest.param(send(head("204 No Content", {})), "answered 204", id="204"),
        pytest.param(answer(HALF, status="206 Partial Content"), "answered 206", id="206"),
        pytest.param(answer(status="304 Not Modified"), "answered 304", id="304-unasked"),
        pytest.param(answer(status="403 Forbidden"), "answered 403", id="403"),
        pytest.param(answer(status="404 Not Found"), "answered 404", id="404"),
        pytest.param(answer(status="410 Gone"), "answered 410", id="410"),
        pytest.param(answer(status="300 Choose"), "answered 300", id="300"),
        pytest.param(redirect(None), "without a Location", id="redirect-nowhere"),
        pytest.param(redirect("https://[bad/"), "no URL", id="redirect-to-no-url"),
        pytest.param(redirect("file:///etc/passwd"), "does not list", id="redirect-to-file"),
        pytest.param(redirect("//192.0.2.1/list"), "does not list", id="redirect-to-another-host"),
        pytest.param(
            redirect("https://127.0.0.1/list"), "does not list", id="redirect-to-another-port"
        ),
        pytest.param(
            redirect("https://127.0.0.1@192.0.2.1/"), "does not list", id="redirect-with-a-user"
        ),
    ],
)  # fmt: skip
def test_what_will_not_pass_is_not_tried_again(script, complaint, client, server):
    server.scripts["/list"] = script
    with pytest.raises(SourceUnavailable, match=complaint):
        client(server.url("/list"))
    assert len(server.requests) == 1


def test_the_length_is_checked_where_the_library_does_not(client, server, monkeypatch):
    lax = functools.partialmethod(HTTPConnectionPool.urlopen, enforce_content_length=False)
    monkeypatch.setattr(HTTPConnectionPool, "urlopen", lax)  # as urllib3 1.26 does
    server.scripts["/list"] = answer(HALF, {"Content-Length": len(BODY)})
    _refused(client, server.url("/list"), "cut: 7,000 of 14,000 bytes came")


def test_a_length_that_is_too_short_cuts_the_file_and_the_parser_notices(client, server):
    lines = b"2|apnic|1|2|1|20250101|+1000\napnic|*|ipv4|*|2|summary\napnic|*|ipv6|*|0|summary\n"
    first = b"apnic|JP|ipv4|192.0.2.0|256|20110412|allocated\n"
    second = b"apnic|JP|ipv4|198.51.100.0|256|20110412|allocated\n"
    cut = {"Content-Length": len(lines + first)}
    server.scripts["/list"] = answer(lines + first + second, cut)
    body = client(server.url("/list"))
    assert body.path.read_bytes() == lines + first
    whole = document(body.path, publisher="apnic", location="/list", limits=LIMITS)
    with pytest.raises(ListRefused, match="1 records of ipv4, and its summary says 2"):
        RIR.parse([whole], frozenset({"JP"}))


@pytest.mark.parametrize("source", [RIR, PLAIN], ids=["rir", "plain"])
def test_a_captive_portal_is_fetched_and_then_refused_as_a_list(source, client, server):
    server.scripts["/list"] = answer(b"<!DOCTYPE html>\n<title>Please log in</title>\n")
    body = client(server.url("/list"))
    page = document(body.path, publisher="", location="/list", limits=LIMITS)
    with pytest.raises(ListRefused, match=r"line 1: .* this is a web page"):
        source.parse([page], frozenset({"JP"}))


def test_three_redirects_on_the_same_host_are_followed(client, server):
    server.scripts |= {
        "/list": redirect("/two"),
        "/two": redirect(server.url("/three"), "301 Moved Permanently"),
        "/three": redirect("four", "307 Temporary Redirect"),
        "/four": answer(BODY),
    }
    assert client(server.url("/list")).path.read_bytes() == BODY


def test_a_fourth_redirect_is_not_followed(client, server):
    server.scripts["/list"] = redirect("/list")
    with pytest.raises(SourceUnavailable, match="more than 3 redirects"):
        client(server.url("/list"))
    assert len(server.requests) == 4


def test_https_never_becomes_http(client, server):
    server.scripts["/list"] = redirect(f"http://{server.netloc}/list")
    with pytest.raises(SourceUnavailable, match=r"redirects to http://127\.0\.0\.1"):
        client(server.url("/list"))
    assert len(server.requests) == 1


def test_http_may_stay_http_where_the_source_says_so(client, plain_server):
    plain_server.scripts |= {"/list": redirect("/moved"), "/moved": answer(BODY)}
    assert client(plain_server.url("/list")).path.read_bytes() == BODY


def test_http_may_become_https_on_the_same_host(client, plain_server):
    plain_server.scripts["/list"] = redirect(f"https://{plain_server.netloc}/list")
    with pytest.raises(SourceUnavailable, match=rf"https://{plain_server.netloc}/list: .*SSL"):
        client(plain_server.url("/list"))


def test_a_bomb_ends_at_the_limit_and_takes_no_memory(client, server):
    bomb = gzip.compress(bytes(64 * MIB))
    server.scripts["/list"] = answer(bomb, ENCODED)
    url = server.url("/list")
    peak = _peak_bytes(lambda: _refused(client, url, "unpacks to more than the limit"))
    assert len(bomb) < LIMITS.max_wire_bytes
    assert peak < 3 * MIB
    assert client.target.stat().st_size <= LIMITS.max_decoded_bytes


def test_a_redirect_with_a_bomb_behind_it_takes_no_memory(client, server):
    bomb = gzip.compress(bytes(32 * MIB))
    server.scripts["/list"] = answer(bomb, {"Location": "/new", **ENCODED}, status="302 Found")
    server.scripts["/new"] = answer(BODY)
    assert _peak_bytes(lambda: client(server.url("/list"))) < MIB


def test_a_length_over_the_limit_is_refused_before_the_body(client, server):
    server.scripts["/list"] = stall(head(OK, {"Content-Length": LIMITS.max_wire_bytes + 1}))
    _refused(client, server.url("/list"), "longer than 2,097,152 bytes")
    assert len(server.requests) == 1


def test_a_body_without_end_stops_at_the_limit(client, server):
    def endless(line, request):
        send(CHUNKED)(line, request)
        while True:
            send(*chunks(bytes(1 << 16)))(line, request)

    server.scripts["/list"] = endless
    url = server.url("/list")
    assert _peak_bytes(lambda: _refused(client, url, "longer than 2,097,152 bytes")) < MIB
    assert client.target.stat().st_size <= LIMITS.max_wire_bytes


def test_a_slow_drip_ends_at_the_deadline(client, server):
    server.scripts["/list"] = servers.drip(WHOLE, b"1", every_seconds=0.05)
    _refused(client, server.url("/list"), "not here within 0.5 s", deadline_seconds=0.5)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [
        ("deadline_seconds", "the deadline of all downloads is over"),
        ("reach_seconds", "the time to reach it is over"),
    ],
)
def test_after_the_deadline_nobody_is_asked(limit, complaint, client, server):
    _refused(client, server.url("/list"), complaint, **{limit: 0})
    assert server.connections == 0


def test_a_retry_after_that_is_short_is_waited_for(client, server):
    busy = answer(status="503 Busy", headers={"Retry-After": "1"})
    server.scripts["/list"] = in_turn(busy, answer(BODY))
    started = time.monotonic()
    assert client(server.url("/list")).path.read_bytes() == BODY
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Busy"])
@pytest.mark.parametrize("seconds", ["3600", "9" * 400])
def test_a_retry_after_beyond_the_deadline_ends_it_at_once(status, seconds, client, server):
    server.scripts["/list"] = answer(status=status, headers={"Retry-After": seconds})
    _refused(client, server.url("/list"), r"\(1 attempt\)")
    assert len(server.requests) == 1


def test_the_third_attempt_succeeds_after_two_refusals(client, server):
    busy = answer(status="503 Busy")
    server.scripts["/list"] = in_turn(busy, busy, answer(BODY))
    assert client(server.url("/list")).path.read_bytes() == BODY
    assert len(server.requests) == 3


def test_each_attempt_begins_with_an_empty_file(client, server):
    other = b"198.51.100.0/24\n"
    server.scripts["/list"] = in_turn(
        answer(HALF, {"Content-Length": len(BODY)}), answer(other), answer(BODY)
    )
    body = client(server.url("/list"))
    assert body.path.read_bytes() == other
    assert body.sha256 == hashlib.sha256(other).hexdigest()
    assert not any("range" in request.headers for request in server.requests)


def test_what_a_server_says_reaches_the_terminal_as_plain_text(client, server):
    server.scripts["/list"] = answer(status="404 \x1b[2J\xff" + "x" * 5000)
    with pytest.raises(SourceUnavailable) as caught:
        client(server.url("/list"))
    assert caught.value.what.isprintable()
    assert caught.value.what.isascii()
    assert len(caught.value.what) < 300


def test_an_unchanged_file_is_not_sent_again(client, server):
    server.scripts["/list"] = servers.file(BODY)
    first = client(server.url("/list"))
    assert first.validators.etag
    assert first.validators.last_modified == servers.LAST_MODIFIED
    assert client.unless(first.validators, server.url("/list")) is None
    headers = server.requests[1].headers
    assert headers["if-none-match"] == first.validators.etag
    assert headers["if-modified-since"] == servers.LAST_MODIFIED


@pytest.mark.parametrize("etag", ['"\x1b"', '"' + "x" * 60_000 + '"'])
def test_a_validator_that_would_spoil_the_next_request_is_not_kept(etag, client, server):
    server.scripts["/list"] = answer(BODY, {"ETag": etag})
    first = client(server.url("/list"))
    assert first.validators == Validators()


@pytest.mark.parametrize(
    ("names", "lifetime", "complaint"),
    [
        pytest.param(["elsewhere.test"], {}, "127.0.0.1", id="wrong-name"),
        pytest.param(
            ["127.0.0.1"],
            {
                "not_before": datetime.datetime(2020, 1, 1),
                "not_after": datetime.datetime(2020, 2, 1),
            },
            "expired",
            id="expired",
        ),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(names, lifetime, complaint, client):
    with servers.Server(servers.authority().issue_cert(*names, **lifetime)) as server:
        server.scripts["/list"] = answer(BODY)
        _refused(client, server.url("/list"), complaint)
        assert server.connections == 1
        assert not server.requests


def test_an_unknown_authority_is_refused(client, server):
    server.scripts["/list"] = answer(BODY)
    _refused(client, server.url("/list"), "certificate verify failed", ca_file="")
    assert server.connections == 1
    assert not server.requests


def test_plain_http_on_the_tls_port_is_refused_and_not_spoken(client, plain_server):
    plain_server.scripts["/list"] = answer(BODY)
    _refused(client, f"https://{plain_server.netloc}/list", "SSL")
    assert plain_server.connections == 1
    assert not plain_server.requests


def test_a_server_that_hangs_up_during_the_handshake_is_tried_again(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with servers.background(_hang_up, listener, ATTEMPTS):
            _refused(client, url, rf"\({ATTEMPTS} attempts\)")


@pytest.mark.parametrize("name", CA_VARIABLES)
def test_authorities_may_be_named_in_the_environment(name, client, server, monkeypatch):
    server.scripts["/list"] = answer(BODY)
    for variable in CA_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, client.authority)
    assert client(server.url("/list"), ca_file="")


def test_every_file_of_authorities_that_the_environment_names_counts(
    client, server, monkeypatch, tmp_path
):
    server.scripts["/list"] = answer(BODY)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for variable, path in zip(CA_VARIABLES, (other, other, client.authority), strict=True):
        monkeypatch.setenv(variable, str(path))
    assert client(server.url("/list"), ca_file="")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    _refused(client, server.url("/list"), "CERTIFICATE_VERIFY_FAILED", ca_file="")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/ca.pem")
    _refused(client, server.url("/list"), "/nonexistent/ca.pem are not there", ca_file="")


def test_the_configured_authorities_come_before_those_of_the_environment(
    client, server, monkeypatch
):
    server.scripts["/list"] = answer(BODY)
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    assert client(server.url("/list"))


def test_authorities_that_are_not_there_are_named(client, server):
    _refused(client, server.url("/list"), "/nonexistent/ca.pem", ca_file="/nonexistent/ca.pem")


def test_neither_proxies_nor_passwords_are_taken_from_the_environment(
    client, server, plain_server, tmp_path, monkeypatch
):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, plain_server.url("/"))
        monkeypatch.setenv(name.upper(), plain_server.url("/"))
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.scripts["/list"] = answer(BODY)
    assert client(server.url("/list")).path.read_bytes() == BODY
    assert plain_server.connections == 0
    assert "authorization" not in server.requests[0].headers


def test_a_configured_proxy_is_used(client, plain_server):
    plain_server.scripts["http://nowhere.invalid/list"] = answer(BODY)
    proxy = plain_server.url("")
    assert client("http://nowhere.invalid/list", proxy=proxy).path.read_bytes() == BODY


def test_a_proxy_that_refuses_is_named(client, plain_server):
    plain_server.scripts["nowhere.invalid:443"] = answer(status="407 Who are you")
    with pytest.raises(SourceUnavailable, match=r"407 Who are you \(3 attempts\)") as caught:
        client("https://nowhere.invalid/list", proxy=plain_server.url(""))
    assert "fetch.proxy" in caught.value.cure


def test_a_port_where_nobody_listens_is_tried_again_and_given_up(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _refused(client, f"https://127.0.0.1:{port}/", rf"refused \({ATTEMPTS} attempts\)")


def test_a_name_without_an_address_is_said_to_be_one(client):
    _refused(client, "https://nowhere.invalid/", "no address for nowhere.invalid")


def test_a_proxy_of_the_environment_is_mentioned_when_there_is_no_way(client, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://192.0.2.1:3128")
    with pytest.raises(SourceUnavailable) as caught:
        client("https://nowhere.invalid/")
    assert "set fetch.proxy" in caught.value.cure


def test_a_full_disk_is_the_disks_fault(client, server):
    server.scripts["/list"] = answer(BODY)
    client.target = Path("/dev/full")
    with pytest.raises(DiskError, match="No space left on device"):
        client(server.url("/list"))
    assert len(server.requests) == 1


def _refused(client: Client, url: str, complaint: str, **limits: Any) -> None:
    with pytest.raises(SourceUnavailable, match=complaint) as caught:
        client(url, **limits)
    assert caught.value.status == 69


def _peak_bytes(act) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _hang_up(listener: socket.socket, times: int) -> None:
    """Take connections, read the client's first words, and close."""
    for _ in range(times):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
