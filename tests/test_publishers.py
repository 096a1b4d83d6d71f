"""An update from the publishers' own addresses, with servers of ours behind their names."""

import gzip
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from geofence.candidate import snapshot_lists
from geofence.model import Family, Fence
from geofence.prefixes import format_address, ranges_of, texts
from geofence.sources import bundled
from geofence.sources.ipv4bycc import IPV4BYCC
from geofence.sources.rir import RIR
from tests import lab, servers

ROOT = Path(__file__).parents[1]
JP = Fence(name="JP", countries=("JP",))
PATHS = {one.publisher: f"/{one.url.split('/', 3)[3]}" for one in RIR.publications}
NAMES = [host for one in (*RIR.publications, *IPV4BYCC.publications) for host in one.hosts]
ADDRESSES = {
    "ftp.afrinic.net/pub/stats/afrinic/delegated-afrinic-latest",
    "ftp.apnic.net/stats/apnic/delegated-apnic-latest",
    "ftp.arin.net/pub/stats/arin/delegated-arin-extended-latest",
    "ftp.lacnic.net/pub/stats/lacnic/delegated-lacnic-latest",
    "ftp.ripe.net/pub/stats/ripencc/delegated-ripencc-latest",
}
CONFIGURATION = """
[fetch]
retry_pause_seconds = 0.01
checksum_pause_seconds = 0.05
"""

pytestmark = pytest.mark.usefixtures("kernel")


@dataclass(frozen=True, slots=True)
class Host:
    """A host on which the publishers' names lead to our servers."""

    directory: Path

    def update(self, *options: str, country: str = "JP") -> lab.Answer:
        environment = {name: os.environ[name] for name in os.environ if "CA_BUNDLE" not in name}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "SSL_CERT_FILE": str(servers.trust(self.directory)),
        }
        (self.directory / "geofence.toml").write_text(CONFIGURATION)
        seeing = servers.seeing(self.directory, hosts=f"127.0.0.1 {' '.join(NAMES)}\n")
        about = ["--config", "geofence.toml", "--state-dir", "state", "update"]
        done = subprocess.run(
            [*seeing, sys.executable, "-m", "geofence", *about, "--country", country, *options],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return lab.Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def publishers():
    """Serve hand-written files of all five; APNIC's holds what the snapshot knows of Japan."""
    with servers.Server(servers.certificate(*NAMES), port=443) as server:
        for registry, path in PATHS.items():
            servers.publish(server, path, _delegated(registry, _records(registry)))
        yield server


def _records(registry: str) -> list[str]:
    if registry != "apnic":
        return ["ZZ|ipv4|192.0.2.0|256", "ZZ|ipv6|2001:db8::|32", "ZZ|asn|64496|1"]
    known = snapshot_lists(JP)
    return [
        f"JP|ipv4|{format_address(Family.INET, first)}|{last - first + 1}"
        for first, last in ranges_of(known[Family.INET])
    ] + [f"JP|ipv6|{text.replace('/', '|')}" for text in texts(known[Family.INET6])]


def _delegated(registry: str, records: list[str]) -> bytes:
    """Write a registry's file."""
    lines = [f"2|{registry}|1|{len(records)}|19830705|20251120|+0000"]
    for kind in ("asn", "ipv4", "ipv6"):
        number = sum(f"|{kind}|" in record for record in records)
        lines.append(f"{registry}|*|{kind}|*|{number}|summary")
    lines += [f"{registry}|{record}|20110412|allocated" for record in records]
    return "".join(f"{line}\n" for line in lines).encode()


def _enforced(fence: str = "JP") -> dict[Family, list[str]]:
    """Read what the kernel holds of a fence."""
    return {family: lab.saved_entries(f"geofence-{fence}-{family}") for family in Family}


def _snapshot() -> dict[Family, list[str]]:
    return {family: sorted(texts(prefixes)) for family, prefixes in snapshot_lists(JP).items()}


def test_what_the_registries_publish_is_enforced(host, publishers):
    answer = host.update()
    assert (answer.status, answer.err) == (0, "")
    assert "generation 1 is in force" in answer.out
    assert _enforced() == _snapshot()
    asked = {request.headers["host"] + request.path for request in publishers.requests}
    assert asked == ADDRESSES | {f"{address}.md5" for address in ADDRESSES}


def test_a_second_update_is_told_that_nothing_changed(host, publishers):
    host.update()
    publishers.requests.clear()
    answer = host.update()
    assert (answer.status, answer.err) == (0, "")
    assert "generation 1 is in force and up to date" in answer.out
    assert {request.path for request in publishers.requests} == set(PATHS.values())
    assert all("if-none-match" in request.headers for request in publishers.requests)


def test_the_cached_file_of_one_registry_serves_while_it_is_down(host, publishers):
    host.update()
    publishers.scripts[PATHS["arin"]] = servers.answer(status="503 Service Unavailable")
    answer = host.update()
    assert answer.status == 0
    assert "warning: arin: https://ftp.arin.net" in answer.err
    assert "answered 503 Service Unavailable (4 attempts); its cached file of" in answer.err
    assert _enforced() == _snapshot()


def test_when_all_registries_are_down_the_list_in_force_stays(host, publishers):
    host.update()
    publishers.scripts.clear()
    answer = host.update()
    assert answer.status == 69
    assert "answered 404 Not Found, and 4 more of its files" in answer.err
    assert "still enforcing generation 1" in answer.err
    assert _enforced() == _snapshot()


def test_an_empty_file_with_the_checksum_of_a_whole_one_did_not_come(host, publishers):
    host.update("--source", "bundled")
    whole = _delegated("ripencc", _records("ripencc"))
    servers.publish(publishers, PATHS["ripencc"], b"", md5_of=whole)
    answer = host.update()
    assert answer.status == 69
    assert "ftp.ripe.net/pub/stats/ripencc/delegated-ripencc-latest: MD5 d41d8cd98f" in answer.err
    assert len(publishers.asked(PATHS["ripencc"])) == 2
    assert _enforced() == _snapshot()


def test_an_empty_file_without_a_checksum_is_no_list(host, publishers):
    host.update("--source", "bundled")
    publishers.scripts[PATHS["ripencc"]] = servers.answer(b"")
    del publishers.scripts[f"{PATHS['ripencc']}.md5"]
    answer = host.update()
    assert answer.status == 65
    assert "no prefixes: the file is empty" in answer.err
    assert not (host.directory / "state" / "cache").exists()


def test_the_snapshot_serves_a_fresh_host_when_one_registry_is_down(host, publishers):
    del publishers.scripts[PATHS["lacnic"]]
    answer = host.update()
    assert answer.status == 0
    assert f"warning: the bundled snapshot of {bundled.date()} serves" in answer.err
    assert _enforced() == _snapshot()


def test_the_real_empty_files_of_2014_did_not_come(host, publishers, shared_data):
    host.update("--source", "bundled")
    publishers.scripts.clear()
    for path in PATHS.values():
        for end in ("", ".md5"):
            real = shared_data / "rir" / "2014-08" / f"{Path(path).name}{end}"
            if real.exists():
                publishers.scripts[path + end] = servers.answer(real.read_bytes())
    answer = host.update()
    assert answer.status == 69
    assert "delegated-afrinic-latest: MD5 d41d8cd98f" in answer.err
    assert "says 05bf32648cfc0b4c5676b072512a8742, and 1 more of its files" in answer.err
    tries = {registry: len(publishers.asked(f"{path}.md5")) for registry, path in PATHS.items()}
    assert tries == {"afrinic": 2, "apnic": 1, "arin": 0, "lacnic": 1, "ripencc": 1}
    assert _enforced() == _snapshot()


@pytest.mark.parametrize("country", ["JP", "SG", "BR", "ZA"])
def test_the_real_files_of_2025_are_enforced_to_the_prefix(country, host, publishers, shared_data):
    real = [_publish_real(publishers, path, shared_data) for path in PATHS.values()]
    assert host.update(country=country).status == 0
    lines = [line for file in real for line in file.decode().splitlines()]
    assert _enforced(country) == {
        Family.INET: sorted(_collapsed(lines, country, "ipv4")),
        Family.INET6: sorted(_collapsed(lines, country, "ipv6")),
    }


def test_a_country_that_no_registry_knows_is_refused(host, publishers, shared_data):
    for path in PATHS.values():
        _publish_real(publishers, path, shared_data)
    answer = host.update(country="LI")
    assert answer.status == 65
    assert "no prefixes of LI in https://ftp.afrinic.net" in answer.err
    assert lab.set_names() == []


def _publish_real(server: servers.Server, path: str, shared_data: Path) -> bytes:
    """Serve a file of 2025 if there is one; the hand-written one stays otherwise."""
    real = shared_data / "rir" / "2025-02-13" / Path(path).name
    if not real.exists():
        return b""
    servers.publish(server, path, real.read_bytes())
    return real.read_bytes()


def _collapsed(lines: list[str], country: str, kind: str) -> Iterator[str]:
    """Aggregate a country's records with the standard library alone."""
    networks: list[Any] = []
    for line in lines:
        fields = line.split("|")
        if fields[1:3] == [country, kind] and fields[6] in {"allocated", "assigned"}:
            first, size = ipaddress.ip_address(fields[3]), int(fields[4])
            last = first + ((size if kind == "ipv4" else 1 << (128 - size)) - 1)
            networks += ipaddress.summarize_address_range(first, last)
    return (str(network) for network in ipaddress.collapse_addresses(networks))


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "x-gzip"}], ids=["file", "encoding"])
def test_the_list_of_the_article_comes_over_plain_http_with_a_warning(headers, host):
    known = texts(snapshot_lists(JP)[Family.INET])
    lines = "".join(f"JP\t{text}\n" for text in known)
    with servers.Server(port=80) as server:
        body = gzip.compress(lines.encode())
        server.scripts["/ipv4bycc/cidr.txt.gz"] = servers.answer(body, headers)
        answer = host.update("--source", "ipv4bycc")
    assert answer.status == 0
    assert "warning: source ipv4bycc comes over plain http" in answer.err
    assert "ipv4bycc brought no IPv6: it is that of the bundled snapshot" in answer.err
    assert _enforced() == _snapshot()
