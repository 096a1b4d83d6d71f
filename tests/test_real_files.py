"""Real published files give what a few independent lines with ``ipaddress`` make of them."""

import csv
import gzip
import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geofence import bogons, documents
from geofence.aggregate import aggregate
from geofence.candidate import aggregated, snapshot_lists
from geofence.config import FetchLimits
from geofence.errors import ListRefused
from geofence.model import Family, Fence, Lists, PrefixList
from geofence.prefixes import count, difference, ranges_of, texts
from geofence.sources import Document
from geofence.sources.ipv4bycc import IPV4BYCC
from geofence.sources.plain import PLAIN
from geofence.sources.rir import RIR

VERSION = {"ipv4": 4, "ipv6": 6}
THREE = ("delegated-afrinic-latest", "delegated-apnic-latest", "delegated-lacnic-latest")


def document(path: Path) -> Document:
    return documents.document(path, publisher="", location=path.name, limits=FetchLimits())


def found(source: Any, country: str, *paths: Path) -> Lists:
    """Parse and aggregate as an update does."""
    listing = source.parse([document(path) for path in paths], frozenset({country}))
    return aggregated(listing, Fence(name=country, countries=(country,)), tuple(Family)).lists


def written(prefixes: PrefixList) -> list[str]:
    return list(texts(prefixes))


def collapsed(networks: Iterable[Any]) -> list[str]:
    return [str(network) for network in ipaddress.collapse_addresses(networks)]


def delegated(paths: Iterable[Path], country: str, kind: str) -> Iterator[Any]:
    """Read registries' files with a split and the standard library."""
    for path in paths:
        for line in path.read_text().splitlines():
            fields = line.split("|")
            if fields[1:3] != [country, kind] or fields[6] not in {"allocated", "assigned"}:
                continue
            first, size = ipaddress.ip_address(fields[3]), int(fields[4])
            if kind == "ipv6":
                yield ipaddress.ip_network((first, size))
            else:
                yield from ipaddress.summarize_address_range(first, first + (size - 1))


@pytest.mark.parametrize("country", ["JP", "SG", "BR", "ZA"])
def test_a_country_comes_out_of_the_registries_as_the_standard_library_has_it(shared_data, country):
    paths = [shared_data / "rir" / "2025-02-13" / name for name in THREE]
    lists = found(RIR, country, *paths)
    for family, kind in ((Family.INET, "ipv4"), (Family.INET6, "ipv6")):
        expected = collapsed(delegated(paths, country, kind))
        assert written(lists[family]) == expected
        assert len(expected) > 100


def test_a_country_of_another_registry_is_refused(shared_data):
    with pytest.raises(ListRefused, match="no prefixes of LI in delegated-afrinic-latest, "):
        found(RIR, "LI", *[shared_data / "rir" / "2025-02-13" / name for name in THREE])


@pytest.mark.parametrize(
    ("file", "country", "date"),
    [
        ("2013-04/delegated-apnic-extended-latest.gz", "JP", "2013-04-16"),
        ("2013-04/delegated-ripencc-extended-latest.gz", "EU", "2013-04-18"),
        ("2014-08/delegated-apnic-latest", "JP", "2014-08-04"),
        ("2014-08/delegated-lacnic-latest", "BR", "2014-08-01"),
        ("2014-08/delegated-ripencc-latest", "LI", "2014-08-03"),
        ("2019-09/delegated-afrinic-latest", "ZA", "2019-09-11"),
        ("2019-09/delegated-afrinic-extended-latest", "ZA", "2019-09-11"),
        ("2019-09/delegated-apnic-latest", "JP", "2019-09-11"),
        ("2019-09/delegated-lacnic-latest", "BR", "2019-09-10"),
        ("2019-09/delegated-lacnic-extended-latest", "BR", "2019-09-10"),
        ("2026-05/delegated-afrinic-extended-latest", "ZA", "2026-05-05"),
    ],
)
def test_a_whole_file_of_any_year_is_read(shared_data, file, country, date):
    path = shared_data / "rir" / file
    listing = RIR.parse([document(path)], frozenset({country}))
    (origin,) = listing.origins
    assert origin.publisher in path.name
    assert str(origin.date) == date
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert listing.ranges[Family.INET][country]


def test_a_file_with_counts_that_are_no_power_of_two_is_read_to_the_address(shared_data, tmp_path):
    path = shared_data / "rir" / "2013-04" / "delegated-ripencc-extended-latest.gz"
    unpacked = tmp_path / "delegated-ripencc-extended-latest"
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    for country in ("EU", "GB", "RU"):
        lists = found(RIR, country, path)
        for family, kind in ((Family.INET, "ipv4"), (Family.INET6, "ipv6")):
            assert written(lists[family]) == collapsed(delegated([unpacked], country, kind))


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("2014-08/delegated-afrinic-latest", "no prefixes: the file is empty"),
        ("2014-08/delegated-arin-latest", "no prefixes: the file is empty"),
        ("2019-09/delegated-iana-latest", "line 30: 'iana' is none of the registries"),
        ("2013-04/delegated-test", "line 1: 'test||ipv4|0.0.0.0|4294967295|20100712|allocated'"),
        ("excerpts-2026/apnic-extended-20260929.doc-lines", "3 records of ipv4"),
        ("excerpts-2026/arin-extended-20260928.doc-lines", "2 records of ipv4"),
        ("excerpts-2026/ripencc-extended-20260928.doc-lines", "2 records of ipv4"),
        ("excerpts-2026/delegated-arin-extended-20260725.TRUNCATED-EXCERPT", "0 records of ipv4"),
        ("excerpts-2026/md5-2026-09-28.doc-lines", "line 1: 'MD5 (delegated-afrinic-extended"),
    ],
)
def test_what_is_no_whole_file_is_refused(shared_data, file, complaint):
    path = shared_data / "rir" / file
    with pytest.raises(ListRefused) as refused:
        RIR.parse([document(path)], frozenset({"US"}))
    assert refused.value.what.startswith(f"{path.name}: {complaint}")


@pytest.mark.parametrize("country", ["JP", "US", "LI", "SG"])
def test_all_countries_in_one_file_agree_with_the_countrys_own(shared_data, country):
    folder = shared_data / "ipv4bycc" / "2025-08-23"
    lists = found(IPV4BYCC, country, folder / "cidr.txt")
    own = found(PLAIN, country, folder / f"plain-{country.lower()}.txt")
    lines = (folder / "cidr.txt").read_text().splitlines()
    start = f"{country}\t"
    networks = [ipaddress.ip_network(line[3:]) for line in lines if line.startswith(start)]
    assert set(lists) == {Family.INET}
    assert lists == own
    assert written(lists[Family.INET]) == collapsed(networks)


@pytest.mark.parametrize("country", ["jp", "us", "gb"])
def test_a_list_with_a_head_of_comments_is_read(shared_data, country):
    folder = shared_data / "ipverse" / "2026-02-01" / country
    paths = [folder / "ipv4-aggregated.txt", folder / "ipv6-aggregated.txt"]
    lists = found(PLAIN, country.upper(), *paths)
    for family, path in zip(Family, paths, strict=True):
        lines = path.read_text().splitlines()
        networks = [ipaddress.ip_network(line) for line in lines if not line.startswith("#")]
        assert written(lists[family]) == collapsed(networks)


def special_purpose(path: Path) -> Iterator[tuple[Any, bool]]:
    """Read IANA's table: every network, and whether it is globally reachable."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for block in row["Address Block"].split(","):
                reachable = row["Globally Reachable"].split(" ")[0] == "True"
                yield ipaddress.ip_network(block.split()[0]), reachable


def not_reachable(rows: list[tuple[Any, bool]]) -> list[str]:
    """Paint the networks, the largest first, so that the most specific row decides."""
    left: list[Any] = []
    for network, reachable in sorted(rows, key=lambda row: row[0].prefixlen):
        apart = [one for one in left if not one.overlaps(network)]
        within = [
            part
            for one in left
            if one.overlaps(network) and one != network
            for part in one.address_exclude(network)
        ]
        left = [*apart, *within] + ([] if reachable else [network])
    return collapsed(left)


@pytest.mark.parametrize(
    ("family", "file", "multicast"),
    [
        (Family.INET, "iana-ipv4-special-registry-1.csv", "224.0.0.0/4"),
        (Family.INET6, "iana-ipv6-special-registry-1.csv", "ff00::/8"),
    ],
)
def test_bogons_are_what_iana_says_is_not_reachable(shared_data, family, file, multicast):
    rows = [*special_purpose(shared_data / "iana" / file), (ipaddress.ip_network(multicast), False)]
    ours = [ipaddress.ip_network(text) for text in texts(aggregate(family, bogons.ranges(family)))]
    assert len(rows) > 20
    assert collapsed(ours) == not_reachable(rows)


@pytest.mark.parametrize("country", ["JP", "SG", "LI", "GB", "US"])
def test_the_bundled_snapshot_is_close_to_another_publisher(shared_data, country):
    folder = shared_data / "ipverse" / "2026-02-01" / country.lower()
    theirs = found(PLAIN, country, *sorted(folder.glob("*-aggregated.txt")))
    ours = snapshot_lists(Fence(name=country, countries=(country,)))
    for family in Family:
        snapshot, published = ranges_of(ours[family]), ranges_of(theirs[family])
        missing = 100 * count(difference(published, snapshot)) / count(published)
        extra = 100 * count(difference(snapshot, published)) / count(published)
        assert missing < 2.0  # GB IPv4 1.52, the others under 0.5
        assert extra < 2.0  # SG IPv4 1.58, the others under 0.7
