#!/usr/bin/env python3
"""Build data/snapshot.txt.xz from the npm package @ip-location-db/asn-country.

    npm pack @ip-location-db/asn-country
    python data/build_snapshot.py ip-location-db-asn-country-VERSION.tgz

The package holds inclusive ranges, ``first,last,CC`` with addresses as integers; its version
ends in the day of its data, yyyymmdd and the hour. The same package always gives the same bytes.
"""

import csv
import datetime
import io
import json
import lzma
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

from geofence.aggregate import aggregate
from geofence.model import Family, Range
from geofence.prefixes import texts

_FILES = {
    Family.INET: "package/asn-country-ipv4-num.csv",
    Family.INET6: "package/asn-country-ipv6-num.csv",
}


def main(package: str) -> None:
    """Read the package, write the snapshot beside this script, say what it holds."""
    with tarfile.open(package) as archive:
        about = json.loads(_member(archive, "package/package.json"))
        countries = {
            family: _countries(_member(archive, name).decode()) for family, name in _FILES.items()
        }
    stamp = about["version"].rpartition(".")[2]
    date = datetime.datetime.strptime(stamp[:8], "%Y%m%d").date()
    text = _header(about, date) + _body(countries)
    target = Path(__file__).with_name("snapshot.txt.xz")
    target.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target.name}: {date}, {text.count(chr(10)):,} lines, {target.stat().st_size:,} bytes")
    for family, ranges in countries.items():
        print(f"  {family.label}: {len(ranges)} countries")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is no file in the package")
    return file.read()


def _countries(text: str) -> dict[str, list[Range]]:
    countries = defaultdict(list)
    for first, last, country in csv.reader(io.StringIO(text)):
        countries[country].append(Range(int(first), int(last)))
    return countries


def _header(about: dict[str, str], date: datetime.date) -> str:
    return (
        f"# date: {date}\n"
        f"# from: npm {about['name']} {about['version']}, {about['license']}\n"
        "# The statistics behind it: Number Resource Organization (nro.net), CC BY 4.0\n"
    )


def _body(countries: dict[Family, dict[str, list[Range]]]) -> str:
    return "".join(
        f"{country}\t{text}\n"
        for country in sorted(set().union(*countries.values()))
        for family in Family
        for text in texts(aggregate(family, countries[family].get(country, [])))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
