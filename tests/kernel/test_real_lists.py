"""The publishers' real files, served over https on loopback, come out in the kernel exactly."""

import gzip
import ipaddress

import pytest

from tests import lab, servers

REGISTRIES = ("apnic", "afrinic", "lacnic")


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(servers.trust(tmp_path)))
    with servers.Server(servers.certificate()) as server:
        yield server


def independently(texts, country):
    """Compute a country's prefixes from registries' files with the standard library alone."""
    four: list[ipaddress.IPv4Network] = []
    six: list[ipaddress.IPv6Network] = []
    for fields in (line.split("|") for text in texts for line in text.splitlines()):
        if len(fields) < 7 or fields[1] != country:
            continue
        if fields[2] == "ipv4":
            first = ipaddress.IPv4Address(fields[3])
            four += ipaddress.summarize_address_range(first, first + int(fields[4]) - 1)
        elif fields[2] == "ipv6":
            six.append(ipaddress.IPv6Network(f"{fields[3]}/{fields[4]}"))
    return {
        f"geofence-{country}-inet": sorted(map(str, ipaddress.collapse_addresses(four))),
        f"geofence-{country}-inet6": sorted(map(str, ipaddress.collapse_addresses(six))),
    }


@pytest.fixture
def registries(server, shared_data):
    files = {
        name: (shared_data / "rir/2025-02-13" / f"delegated-{name}-latest").read_bytes()
        for name in REGISTRIES
    }
    for name, content in files.items():
        server.scripts[f"/{name}"] = servers.file(content)
    arguments = [word for name in files for word in ("--from", server.url(f"/{name}"))]
    return [content.decode() for content in files.values()], arguments


@pytest.mark.parametrize("country", ["JP", "SG", "BR", "ZA"])
def test_the_registries_list_of_a_country(geofence, kernel, registries, country):
    texts, arguments = registries
    answer = geofence("update", "--country", country, *arguments)
    assert answer.status == 0, answer.err
    expected = independently(texts, country)
    assert {name: lab.saved_entries(name) for name in lab.set_names()} == expected
    assert all(len(entries) > 50 for entries in expected.values())


def test_a_dry_run_of_a_download_leaves_nothing_on_the_disk(geofence, kernel, registries):
    answer = geofence("update", "--country", "ZA", "--dry-run", *registries[1])
    assert answer.status == 0, answer.err
    assert not geofence.state.exists()
    assert lab.set_names() == []


def test_a_country_that_no_file_knows_is_an_error(geofence, kernel, registries):
    answer = geofence("update", "--country", "LI", *registries[1])
    assert answer.status == 65
    assert "no prefixes of LI" in answer.err
    assert lab.set_names() == []


@pytest.mark.parametrize("country", ["JP", "US", "LI", "SG"])
def test_the_list_of_all_countries(geofence, kernel, server, shared_data, country):
    text = (shared_data / "ipv4bycc/2025-08-23/cidr.txt").read_bytes()
    server.scripts["/cidr.txt.gz"] = servers.file(gzip.compress(text))
    url = server.url("/cidr.txt.gz")
    answer = geofence("update", "--country", country, "--source", "ipv4bycc", "--from", url)
    assert answer.status == 0, answer.err
    lines = (line.split("\t") for line in text.decode().splitlines())
    networks = [ipaddress.IPv4Network(prefix) for code, prefix in lines if code == country]
    expected = sorted(str(network) for network in ipaddress.collapse_addresses(networks))
    assert lab.saved_entries(f"geofence-{country}-inet") == expected
    assert lab.saved_entries(f"geofence-{country}-inet6")
