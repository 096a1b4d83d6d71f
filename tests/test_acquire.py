"""What a source publishes is brought here whole, checked, and cached; or what somebody named is."""

import contextlib
import dataclasses
import datetime
import fcntl
import gzip
import hashlib
import json
import os
import threading
import time
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from geofence import acquire, documents
from geofence.cache import Cache
from geofence.config import FetchLimits
from geofence.disk import Disk
from geofence.errors import DiskError, GeofenceError, ListRefused, SourceUnavailable, UsageError
from geofence.fetch import netloc
from geofence.model import Listing
from geofence.progress import silent
from geofence.sources import Document, Publication, Source
from geofence.sources.ipv4bycc import IPV4BYCC
from geofence.sources.plain import PLAIN
from geofence.sources.rir import RIR
from tests import lab, servers
from tests.servers import answer, in_turn

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
APNIC, LACNIC = RIR.publications[1], RIR.publications[3]
FIRST, SECOND = b"192.0.2.0/24\n", b"198.51.100.0/24\n"
LINES = b"192.0.2.0/25\n192.0.2.128/25\n" * 100
GZIP = gzip.compress(LINES, mtime=0)
MIB = 1 << 20


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@dataclasses.dataclass(frozen=True)
class Registries:
    """Publishes what the registries do, elsewhere."""

    publications: tuple[Publication, ...]
    name: str = "rir"
    warnings: tuple[str, ...] = ()

    def parse(self, documents: Iterable[Document], countries: frozenset[str]) -> Listing:
        raise AssertionError("what is brought here is not parsed")


@dataclasses.dataclass
class Bring:
    """Acquires from a server of our own, with a cache of our own."""

    server: servers.Server
    cache_directory: Path
    limits: FetchLimits
    now: datetime.datetime = NOW

    @property
    def source(self) -> Registries:
        return Registries(
            (self._publication(APNIC, "/apnic"), self._publication(LACNIC, "/lacnic"))
        )

    def _publication(self, real: Publication, path: str) -> Publication:
        url = self.server.url(path)
        return dataclasses.replace(
            real, url=url, checksum_url=f"{url}.md5", hosts=frozenset({netloc(url)})
        )

    def __call__(
        self,
        *origins: str | Path,
        source: Source | None = None,
        keep: bool = True,
        progress: acquire.Progress = silent,
    ) -> "Brought":
        with acquire.acquired(
            source or self.source,
            [str(origin) for origin in origins],
            cache=Cache(self.cache_directory, Disk()),
            limits=self.limits,
            now=self.now,
            progress=progress,
        ) as got:
            texts = [b"\n".join(document.lines()) for document in got.documents]
            if keep:
                got.keep()
            return Brought(texts, got.documents, got.warnings)

    def with_limits(self, **limits) -> "Bring":
        return dataclasses.replace(self, limits=dataclasses.replace(self.limits, **limits))

    def later(self, **time) -> "Bring":
        return dataclasses.replace(self, now=self.now + datetime.timedelta(**time))

    def refused(self, complaint: str, *origins: str | Path, source=None) -> GeofenceError:
        with pytest.raises(GeofenceError, match=complaint) as caught:
            self(*origins, source=source)
        return caught.value

    def note(self) -> Path:
        """Find what the cache notes of the first file."""
        (path,) = self.cache_directory.glob("*apnic*.json")
        return path


@dataclasses.dataclass(frozen=True)
class Brought:
    """What was acquired, read to its end while it was there."""

    texts: Sequence[bytes]
    documents: Sequence[Document]
    warnings: Sequence[str]


@pytest.fixture
def server():
    with servers.Server(servers.certificate()) as running:
        servers.publish(running, "/apnic", FIRST)
        servers.publish(running, "/lacnic", SECOND)
        yield running


@pytest.fixture
def bring(server, tmp_path):
    limits = FetchLimits(
        connect_timeout_seconds=2.0,
        read_timeout_seconds=2.0,
        reach_seconds=2.0,
        deadline_seconds=5.0,
        attempts=2,
        retry_pause_seconds=0.01,
        checksum_pause_seconds=0.05,
        max_wire_bytes=MIB,
        max_decoded_bytes=4 * MIB,
        max_lines=1000,
        max_line_bytes=100,
        ca_file=str(servers.trust(tmp_path)),
    )
    return Bring(server, tmp_path / "cache", limits)


def test_each_file_comes_with_its_publisher_and_address(bring, server):
    got = bring()
    assert got.texts == [FIRST.rstrip(), SECOND.rstrip()]
    assert [document.publisher for document in got.documents] == ["apnic", "lacnic"]
    assert got.documents[0].location == server.url("/apnic")
    assert got.documents[0].sha256 == hashlib.sha256(FIRST).hexdigest()
    assert not got.warnings


def test_progress_is_told_to_the_end(bring, server):
    told = {}
    bring(progress=lambda url, received, expected: told.update({url: (received, expected)}))
    assert told == {
        server.url("/apnic"): (len(FIRST), len(FIRST)),
        server.url("/lacnic"): (len(SECOND), len(SECOND)),
    }


def test_the_files_come_side_by_side(bring, server):
    both = threading.Barrier(2, timeout=5)
    for path, content in (("/apnic", FIRST), ("/lacnic", SECOND)):
        server.scripts[path] = _together(both, answer(content))
    assert bring().texts == [FIRST.rstrip(), SECOND.rstrip()]


def _together(all_here: threading.Barrier, then: servers.Script) -> servers.Script:
    def script(line: servers.Line, request: servers.Request) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            all_here.wait()
            then(line, request)

    return script


# Checksums


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("MD5 (delegated-apnic-latest) = {}\n", id="bsd"),
        pytest.param("MD5 (delegated-apnic-latest) = {}", id="bsd-without-newline"),
        pytest.param("{}  delegated-apnic-20261120\n", id="gnu-with-a-dated-name"),
        pytest.param("{} *delegated-apnic-20261120\n", id="gnu-binary"),
        pytest.param("{}\n", id="alone"),
        pytest.param("MD5 (DELEGATED) = {}\n", id="upper-case"),
    ],
)
@pytest.mark.parametrize("fits", [True, False], ids=["fits", "differs"])
def test_the_checksum_is_read_in_every_shape(shape, fits, bring, server):
    text = shape.format(md5(FIRST if fits else LINES))
    server.scripts["/apnic.md5"] = answer((text.upper() if shape.isupper() else text).encode())
    if fits:
        assert not bring().warnings
    else:
        bring.refused(f"MD5 {md5(FIRST)}, and .* says {md5(LINES)}")


def test_a_wrong_checksum_is_asked_for_again_once(bring, server):
    servers.publish(server, "/apnic", FIRST, md5_of=LINES)
    error = bring.refused(f"/apnic: MD5 {md5(FIRST)}")
    assert isinstance(error, SourceUnavailable)
    assert len(server.asked("/apnic")) == len(server.asked("/apnic.md5")) == 2


@pytest.mark.parametrize(
    ("contents", "sums"),
    [
        pytest.param([FIRST], [LINES, FIRST], id="checksum-was-behind"),
        pytest.param([LINES, FIRST], [FIRST], id="file-was-behind"),
    ],
)
def test_a_checksum_that_fits_after_a_pause_is_fine(contents, sums, bring, server):
    server.scripts["/apnic"] = in_turn(*map(answer, contents))
    server.scripts["/apnic.md5"] = in_turn(*(answer(md5(one).encode()) for one in sums))
    bring = bring.with_limits(checksum_pause_seconds=0.4)
    started = time.monotonic()
    got = bring()
    assert time.monotonic() - started >= 0.4
    assert got.texts[0] == FIRST.rstrip()
    assert not got.warnings


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        pytest.param(answer(status="404 Not Found"), "answered 404", id="missing"),
        pytest.param(answer(b""), "holds no MD5", id="empty"),
        pytest.param(
            answer(b"<html><a href=/0123456789abcdef0123456789abcdef>log in</a>"),
            "holds no MD5",
            id="web-page",
        ),
        pytest.param(answer(b"0" * 32 + b"\n" * 5000), "holds no MD5", id="long"),
    ],
)
def test_a_checksum_that_is_not_to_be_had_is_a_warning(script, complaint, bring, server):
    server.scripts["/apnic.md5"] = script
    got = bring()
    assert got.texts[0] == FIRST.rstrip()
    (warning,) = got.warnings
    assert warning.startswith("apnic: taken without its checksum: ")
    assert complaint in warning


# The cache


def test_an_unchanged_file_comes_from_the_cache(bring, server):
    bring()
    first = json.loads(bring.note().read_text())["checked"]
    got = bring.later(days=1)()
    assert got.texts == [FIRST.rstrip(), SECOND.rstrip()]
    assert not got.warnings
    again = server.asked("/apnic")[1]
    assert again.headers["if-modified-since"] == servers.LAST_MODIFIED
    assert again.headers["if-none-match"]
    assert len(server.asked("/apnic.md5")) == 1
    assert (first, json.loads(bring.note().read_text())["checked"]) == (
        "2026-11-20T12:00:00Z",
        "2026-11-21T12:00:00Z",
    )


def test_a_changed_file_replaces_the_cached_one(bring, server):
    bring()
    servers.publish(server, "/apnic", LINES)
    assert bring().texts[0] == LINES.rstrip()
    assert bring().texts[0] == LINES.rstrip()
    assert len(server.asked("/apnic.md5")) == 2


def test_what_was_no_list_is_not_kept(bring):
    bring(keep=False)
    assert not bring.cache_directory.exists()


def _flip_a_byte(note: Path) -> None:
    path = note.with_suffix("")
    path.write_bytes(path.read_bytes().replace(b"192", b"193"))


def _change(note: Path, **fields: str) -> None:
    note.write_text(json.dumps(json.loads(note.read_text()) | fields))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_flip_a_byte, id="flipped-byte"),
        pytest.param(lambda note: note.with_suffix("").write_bytes(b""), id="empty-copy"),
        pytest.param(lambda note: note.with_suffix("").unlink(), id="no-copy"),
        pytest.param(lambda note: note.unlink(), id="no-note"),
        pytest.param(lambda note: note.write_text(note.read_text()[:-20]), id="cut-note"),
        pytest.param(lambda note: note.write_text("{}"), id="empty-note"),
        pytest.param(lambda note: note.write_bytes(b"\xff\0"), id="note-that-is-no-text"),
        pytest.param(lambda note: _change(note, url="https://other.test/"), id="others-note"),
        pytest.param(lambda note: _change(note, checked="2026-11-20T12:00:00"), id="no-zone"),
        pytest.param(lambda note: _change(note, checked="yesterday"), id="no-time"),
    ],
)
def test_a_damaged_copy_is_not_used(damage, bring, server):
    bring()
    damage(bring.note())
    got = bring()
    assert got.texts[0] == FIRST.rstrip()
    assert not got.warnings
    assert "if-none-match" not in server.asked("/apnic")[1].headers
    server.scripts["/apnic"] = answer(status="404 Not Found")
    damage(bring.note())
    bring.refused("answered 404")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answer(status="503 Busy"), id="503"),
        pytest.param(answer(status="404 Not Found"), id="404"),
        pytest.param(answer(b"", {"Content-Length": 5}), id="cut"),
        pytest.param(answer(LINES), id="wrong-checksum"),
    ],
)
def test_a_young_copy_serves_while_its_publisher_cannot(script, bring, server):
    bring()
    server.scripts["/apnic"] = script
    got = bring.later(days=35)()
    assert got.texts == [FIRST.rstrip(), SECOND.rstrip()]
    (warning,) = got.warnings
    assert warning.startswith("apnic: ")
    assert warning.endswith("its cached file of 2026-11-20 serves")


def test_a_copy_that_served_is_not_younger_for_it(bring, server):
    bring()
    server.scripts["/apnic"] = answer(status="503 Busy")
    bring.later(days=20)()
    bring.later(days=36).refused("its cached file is 36 days old, limit 35")


def test_a_copy_that_is_too_old_does_not_serve(bring, server):
    bring()
    note = bring.note()
    _change(note, checked="2026-10-15T11:00:00Z")
    server.scripts["/apnic"] = answer(status="503 Busy")
    error = bring.refused("answered 503 Busy .*; its cached file is 36 days old, limit 35")
    assert isinstance(error, SourceUnavailable)


def test_a_copy_from_the_future_serves(bring, server):
    bring()
    server.scripts["/apnic"] = answer(status="503 Busy")
    assert bring.later(days=-400)().texts[0] == FIRST.rstrip()


def test_copies_alone_are_no_update(bring, server):
    bring()
    server.scripts.clear()
    error = bring.refused("/apnic: answered 404 Not Found, and 1 more of its files")
    assert isinstance(error, SourceUnavailable)


def test_no_copy_serves_where_the_source_does_not_say_so(bring, server):
    only = dataclasses.replace(bring.source.publications[0], cache_serves=False)
    source = Registries((only, bring.source.publications[1]))
    bring(source=source)
    server.scripts["/apnic"] = answer(status="503 Busy")
    bring.refused("answered 503 Busy", source=source)


def test_the_cache_may_be_deleted_between_runs(bring):
    bring()
    for path in bring.cache_directory.iterdir():
        path.unlink()
    bring.cache_directory.rmdir()
    assert not bring().warnings
    assert bring.note().exists()


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Path.unlink, id="deleted"),
        pytest.param(lambda path: path.write_bytes(LINES), id="changed"),
    ],
)
def test_the_cache_may_go_while_the_server_is_asked(act, bring, server):
    bring()

    def going(line, request):
        for path in bring.cache_directory.iterdir():
            act(path)
        servers.file(FIRST)(line, request)

    server.scripts["/apnic"] = going
    assert bring().texts[0] == FIRST.rstrip()
    conditional = ["if-none-match" in request.headers for request in server.asked("/apnic")]
    assert conditional == [False, True, False]


def test_the_cache_may_be_deleted_while_its_copy_is_read(bring):
    bring()
    with acquire.acquired(
        bring.source,
        [],
        cache=Cache(bring.cache_directory, Disk()),
        limits=bring.limits,
        now=NOW,
        progress=silent,
    ) as got:
        for path in bring.cache_directory.iterdir():
            path.unlink()
        bring.cache_directory.rmdir()
        assert b"\n".join(got.documents[0].lines()) == FIRST.rstrip()
        got.keep()
        assert not got.warnings


@pytest.mark.parametrize("place", ["/proc", "/dev/null", "/dev/null/below"])
def test_a_cache_that_cannot_be_written_is_a_warning(place, bring):
    got = dataclasses.replace(bring, cache_directory=Path(place))()
    assert got.texts == [FIRST.rstrip(), SECOND.rstrip()]
    (warning,) = got.warnings
    assert warning.startswith("the downloads were not kept: cannot ")


def test_addresses_that_look_alike_are_cached_apart(bring, server):
    for path in ("/mirror/list", "/mirror_list"):
        server.scripts[path] = servers.file(path.encode())
        bring(server.url(path), source=PLAIN)
    for path in ("/mirror/list", "/mirror_list"):
        assert bring(server.url(path), source=PLAIN).texts == [path.encode()]
        assert "if-none-match" in server.asked(path)[1].headers


def test_what_a_killed_run_left_in_the_cache_is_removed(bring):
    bring()
    left = bring.cache_directory / ".tmp-left"
    left.write_text("half")
    bring()
    assert not left.exists()


def test_what_a_killed_run_left_of_its_downloads_is_removed(bring, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, used = tmp_path / ".geofence-download-left", tmp_path / ".geofence-download-used"
    for path in (left, used):
        path.mkdir()
        (path / "half").write_text("half")
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    bring()
    os.close(lock)
    assert [*tmp_path.glob(".geofence-*")] == [used]


def test_others_directories_are_left_alone(bring, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    others = tmp_path / ".geofence-download-others"
    others.mkdir()
    try:
        os.chown(others, 1, 1)
    except OSError as error:
        pytest.skip(f"cannot give a directory to somebody else: {error.strerror}")
    (tmp_path / ".geofence-download-link").symlink_to(tmp_path)
    bring()
    assert others.exists()
    assert bring.note().exists()


def test_a_host_without_a_place_for_downloads_is_the_disks_fault(bring, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/dev/null")
    assert isinstance(bring.refused("cannot make a temporary directory"), DiskError)


# What somebody names


@pytest.mark.parametrize("content", [pytest.param(LINES, id="text"), pytest.param(GZIP, id="gzip")])
def test_a_named_file_is_read_with_or_without_gzip(content, bring, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(content)
    (text,) = bring(path).texts
    assert text == LINES.rstrip()


def test_named_files_are_all_there_is(bring, server, tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, content in zip(paths, [FIRST, SECOND], strict=True):
        path.write_bytes(content)
    got = bring(*paths, paths[0])
    assert got.texts == [FIRST.rstrip(), SECOND.rstrip()]
    assert [document.location for document in got.documents] == [str(path) for path in paths]
    assert not server.requests
    assert not bring.cache_directory.exists()


def test_a_pipe_is_read(bring, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with servers.background(path.write_bytes, LINES):
        (text,) = bring(path).texts
    assert text == LINES.rstrip()


def test_a_pipe_without_a_writer_is_given_up(bring, tmp_path, monkeypatch):
    monkeypatch.setattr(acquire, "_GRACE_SECONDS", 0.1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    bring.with_limits(deadline_seconds=0.2).refused("pipe: not here in time", path)
    path.write_bytes(b"")  # lets the thread go that was left behind


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("missing", "missing: No such file or directory", id="missing"),
        pytest.param(".", "Is a directory", id="directory"),
        pytest.param("big", "big: longer than 1,048,576 bytes", id="oversize"),
        pytest.param("endless", "longer than 1,048,576 bytes", id="endless"),
        pytest.param("cut", "its gzip stream is cut", id="gzip-cut"),
        pytest.param("trailing", "bytes after the end", id="gzip-and-garbage"),
        pytest.param("flipped", "damaged gzip", id="gzip-flipped-byte"),
        pytest.param("bomb", "unpacks to more than the limit", id="bomb"),
    ],
)
def test_a_named_file_that_cannot_be_had_whole(name, complaint, bring, tmp_path):
    contents = {
        "big": bytes(MIB + 1),
        "cut": GZIP[:-9],
        "trailing": GZIP + b"x",
        "flipped": GZIP[:20] + bytes([GZIP[20] ^ 0xFF]) + GZIP[21:],
        "bomb": gzip.compress(b"192.0.2.0/24\n" * MIB),
    }
    if name in contents:
        (tmp_path / name).write_bytes(contents[name])
    path = Path("/dev/zero") if name == "endless" else tmp_path / name
    error = bring.with_limits(max_lines=2 * MIB).refused(complaint, path)
    assert isinstance(error, SourceUnavailable)


def test_a_full_disk_is_the_disks_fault(bring, tmp_path):
    path = lab.plain_list(tmp_path / "list", "192.0.2.0/24")
    with pytest.raises(DiskError, match="No space left on device"):
        documents.copy_bounded(path, Path("/dev/full"), bring.limits)


def test_gzip_in_gzip_is_no_list(bring, tmp_path):
    path = tmp_path / "twice.gz"
    path.write_bytes(gzip.compress(GZIP))
    document = documents.document(path, publisher="", location="twice.gz", limits=bring.limits)
    with pytest.raises(ListRefused, match=r"twice\.gz: line 1"):
        PLAIN.parse([document], frozenset({"JP"}))


def test_a_named_address_is_fetched_without_a_checksum(bring, server):
    server.scripts["/mirror"] = answer(LINES)
    got = bring(server.url("/mirror").replace("https", "HTTPS"), source=PLAIN)
    assert got.texts == [LINES.rstrip()]
    assert not got.warnings
    assert [request.path for request in server.requests] == ["/mirror"]


def test_a_named_address_may_redirect_on_its_host(bring, server):
    server.scripts |= {"/mirror": servers.redirect("/moved"), "/moved": answer(LINES)}
    assert bring(server.url("/mirror"), source=PLAIN).texts == [LINES.rstrip()]


def test_a_named_address_is_cached_and_never_served_from_there(bring, server):
    server.scripts["/mirror"] = servers.file(LINES)
    url = server.url("/mirror")
    bring(url, source=PLAIN)
    assert bring(url, source=PLAIN).texts == [LINES.rstrip()]
    assert "if-none-match" in server.requests[1].headers
    server.scripts["/mirror"] = answer(status="503 Busy")
    bring.refused("answered 503", url, source=PLAIN)


@pytest.mark.parametrize("source", [RIR, PLAIN], ids=lambda source: source.name)
@pytest.mark.parametrize("url", ["http://192.0.2.1/", "file:///etc/passwd", "FTP://192.0.2.1/"])
def test_an_address_that_is_not_https_is_refused(url, source, bring):
    error = bring.refused("is not https", url, source=source)
    assert isinstance(error, UsageError)


@pytest.mark.parametrize("url", ["https://[bad/", "https:///list"])
def test_an_address_that_is_none_is_refused(url, bring):
    assert isinstance(bring.refused(f"--from {url[:8]}", url, source=PLAIN), UsageError)


def test_plain_http_is_for_the_source_that_is_published_so(bring):
    with servers.Server() as plain:
        plain.scripts["/cidr.txt.gz"] = answer(GZIP)
        (text,) = bring(plain.url("/cidr.txt.gz"), source=IPV4BYCC).texts
    assert text == LINES.rstrip()


def test_a_source_without_an_address_wants_one(bring):
    assert isinstance(bring.refused("name one with --from", source=PLAIN), UsageError)


# Bounds


def test_a_server_that_drips_its_headers_is_given_up(bring, server, monkeypatch):
    monkeypatch.setattr(acquire, "_GRACE_SECONDS", 0.1)
    server.scripts["/apnic"] = servers.drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", every_seconds=0.05)
    started = time.monotonic()
    bring.with_limits(reach_seconds=0.3).refused("/apnic: no answer in time")
    assert time.monotonic() - started < bring.limits.deadline_seconds


def test_a_server_that_answered_may_take_its_time(bring, server, monkeypatch):
    monkeypatch.setattr(acquire, "_GRACE_SECONDS", 0.1)

    def slow(line, request):
        line.send(servers.head("200 OK", {"Content-Length": len(FIRST)}))
        line.pause(0.45)
        line.send(FIRST)

    server.scripts["/apnic"] = slow
    assert bring.with_limits(reach_seconds=0.2)().texts[0] == FIRST.rstrip()


def test_a_server_that_drips_its_chunks_is_given_up(bring, server, monkeypatch):
    monkeypatch.setattr(acquire, "_GRACE_SECONDS", 0.1)
    chunked = servers.head("200 OK", {"Transfer-Encoding": "chunked"})
    server.scripts["/apnic"] = servers.drip(chunked, b"0", every_seconds=0.05)
    bring.with_limits(deadline_seconds=0.5).refused("/apnic: not here in time")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(
            b"192.0.2.0/24\n" + b"1" * 101, "line 2: longer than 100 bytes", id="long-last-line"
        ),
        pytest.param(
            b"1" * 101 + b"\n192.0.2.0/24\n", "line 1: longer than 100 bytes", id="long-line"
        ),
        pytest.param(b"192.0.2.0/24\n" * 1001, "more than 1,000 lines", id="many-lines"),
        pytest.param(
            b"192.0.2.0/24\n" * 1000 + b"192.0.2.0/24", "more than 1,000 lines", id="one-line-more"
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["text", "gzip"])
def test_lines_have_limits(content, complaint, packed, bring, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(content) if packed else content)
    error = bring.refused(complaint, path)
    assert isinstance(error, ListRefused)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"1" * 100 + b"\n", id="longest-line"),
        pytest.param(b"192.0.2.0/24\n" * 1000, id="most-lines"),
        pytest.param(b"192.0.2.0/24\n" * 999 + b"192.0.2.0/24", id="most-lines-without-newline"),
    ],
)
def test_limits_may_be_reached(content, bring, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(content)
    assert bring(path).texts == [content.rstrip()]


def test_a_line_of_a_hundred_megabytes_takes_no_memory(bring, tmp_path):
    path = tmp_path / "list"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
    tracemalloc.start()
    try:
        document = documents.document(path, publisher="", location="it", limits=bring.limits)
        with pytest.raises(ListRefused, match="it: line 1: longer than 100 bytes"):
            next(iter(document.lines()))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_nothing_is_left_of_the_downloads(bring, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bring()
    with pytest.raises(SourceUnavailable):
        bring(tmp_path / "missing")
    assert not [*tmp_path.glob(".geofence-*")]
