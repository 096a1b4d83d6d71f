"""A generation as the files of its directory, each held to its digest when it is read. Pure."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from geofence import codec, ipsetfile
from geofence.model import Family, Generation, Origin
from geofence.whole import sha256, sums

_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """``snapshot.json``: what there is to know of a generation beside its lists."""

    schema: int
    fence: str
    generation: int
    countries: tuple[str, ...]
    source: str
    created: datetime.datetime
    origins: tuple[Origin, ...]
    prefixes: dict[Family, int]
    sha256: dict[Family, str]  # of the .ipset files


def files(fence: str, generation: Generation) -> dict[str, bytes]:
    """Write a generation as the files of its directory."""
    written = {
        f"{family}.ipset": ipsetfile.write(fence, prefixes).encode()
        for family, prefixes in sorted(generation.lists.items())
    }
    snapshot = _Snapshot(
        schema=_SCHEMA,
        fence=fence,
        generation=generation.number,
        countries=generation.countries,
        source=generation.source,
        created=generation.created,
        origins=generation.origins,
        prefixes={family: len(found.prefixes) for family, found in generation.lists.items()},
        sha256={family: sha256(written[f"{family}.ipset"]) for family in generation.lists},
    )
    written["snapshot.json"] = codec.to_json(snapshot)
    return {**written, "SHA256SUMS": sums(written)}


def read(content_of: Callable[[str], bytes], fence: str, number: int) -> Generation:
    """Read a generation from its files. Raises ValueError unless each byte is as it was written."""
    text = content_of("snapshot.json")
    snapshot = codec.from_json(text, _Snapshot)
    if (snapshot.schema, snapshot.fence, snapshot.generation) != (_SCHEMA, fence, number):
        raise ValueError(
            f"snapshot.json is of schema {snapshot.schema}, fence {snapshot.fence},"
            f" generation {snapshot.generation}"
        )
    held = {}
    for family, digest in sorted(snapshot.sha256.items()):
        content = held[f"{family}.ipset"] = content_of(f"{family}.ipset")
        if sha256(content) != digest:
            raise ValueError(f"{family}.ipset does not match its digest")
    if content_of("SHA256SUMS") != sums({**held, "snapshot.json": text}):
        raise ValueError("its files do not match SHA256SUMS")
    return Generation(
        number=number,
        countries=snapshot.countries,
        source=snapshot.source,
        created=snapshot.created,
        origins=snapshot.origins,
        lists={
            family: ipsetfile.read(fence, family, held[f"{family}.ipset"].decode("ascii"))
            for family in sorted(snapshot.sha256)
        },
    )
