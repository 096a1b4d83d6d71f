"""Put the files of the boot hook in place, and take away exactly what was put there.

STATE/installed.json remembers every file, block and link, so that what an administrator changed
since is kept.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from geofence import codec
from geofence.bootfiles import Block, Boot, File, Kind, Link, Piece, below, marked, parted, script
from geofence.disk import Disk, refusals
from geofence.errors import GeofenceError

_SCHEMA = 1
_DIRECTORY_MODE = 0o755
_EXECUTABLE = 0o111
_FIRST_LINE = "#!/bin/sh\n"
_KEPT = "somebody else's, or changed since: kept"
_SAVED = ("etc/iptables/rules.v4", "etc/iptables/rules.v6", "etc/sysconfig/iptables",
          "etc/sysconfig/ip6tables")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Something that was put into a host, and how the file was before."""

    path: str
    kind: str  # file, block, link
    digest: str  # of the file or the block; a link's target
    made: bool = True  # whether the file was made for a block
    first_line: bool = False  # whether it was given one that says which shell runs it
    mode: int | None = None  # of a file that a block had to be made executable for


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is installed."""

    schema: int = _SCHEMA
    puts: tuple[Put, ...] = ()
    directories: tuple[str, ...] = ()  # that were made, outermost first


@dataclass(frozen=True, slots=True)
class Step:
    """One path, and what is done there; no act: nothing has to be."""

    path: str
    doing: str
    act: Callable[[], None] | None = None
    put: Put | None = None
    kept: bool = False  # it is not as it should be, and not ours to change


def plan(boot: Boot, kinds: Sequence[Kind], record: Record, disk: Disk) -> tuple[Step, ...]:
    """Say what has to be done for a host's ways to boot. Nothing is changed."""
    pieces = [script(boot), *(piece for kind in kinds for piece in kind.pieces(boot))]
    before = {put.path: put for put in record.puts}
    return tuple(_step(piece, boot.root, before.get(str(piece.path)), disk) for piece in pieces)


def install(steps: Iterable[Step], root: Path, state: Path, record: Record, disk: Disk) -> bool:
    """Do the steps; tell whether there was anything to do. Each is remembered before it is done."""
    done: list[str] = []
    with _told(done, "is in place", "geofence install does the rest; or: geofence uninstall"):
        for step in steps:
            if step.put is None:
                continue
            made = _missing_directories(below(root, PurePosixPath(step.path)).parent, root)
            record = _with(record, step.put, made)
            _write(record, state, disk)
            if step.act:
                _make(made, root)
                step.act()
                done.append(step.path)
    return bool(done)


def removal(root: Path, record: Record, disk: Disk) -> tuple[Step, ...]:
    """Say what has to be done to take everything away that is as it was put. Nothing is changed."""
    return tuple(_removal(put, root, disk) for put in reversed(record.puts))


def uninstall(steps: Iterable[Step], root: Path, state: Path, record: Record, disk: Disk) -> None:
    """Do the steps of a removal, and forget what is gone."""
    done: list[str] = []
    with _told(done, "is taken away", "geofence uninstall does the rest"):
        for step in steps:
            if step.act:
                step.act()
                done.append(step.path)
    for directory in reversed(record.directories):
        with contextlib.suppress(OSError):  # somebody else's files may be in it
            below(root, PurePosixPath(directory)).rmdir()
    disk.remove(_path(state))


def read(state: Path) -> Record:
    """Tell what is installed; nothing, where the record is missing or damaged."""
    try:
        found = codec.from_json(_path(state).read_bytes(), Record)
    except (OSError, ValueError):
        return Record()
    return found if found.schema == _SCHEMA else Record()


def is_installed(state: Path) -> bool:
    """Tell whether anything is installed, whether or not it is still known what."""
    return os.path.lexists(_path(state))


def is_damaged(state: Path) -> bool:
    """Tell whether it is not known any more what is installed."""
    return is_installed(state) and not read(state).puts


def saved_rules_that_name_sets(root: Path) -> tuple[str, ...]:
    """Name the files of saved rules that cannot be loaded without geofence's sets."""
    found = []
    for name in _SAVED:
        with contextlib.suppress(OSError):
            if b"--match-set geofence-" in (root / name).read_bytes():
                found.append(f"/{name}")
    return tuple(found)


@contextlib.contextmanager
def _told(done: Sequence[str], state: str, rest: str) -> Iterator[None]:
    """Let an error on its way out say what was done before it, and what does the rest."""
    try:
        yield
    except GeofenceError as error:
        error.still = f"{', '.join(done)} {state}" if done else "nothing was changed"
        if done:
            error.cure = f"{error.cure}; then {rest}" if error.cure else rest
        raise


def _step(piece: Piece, root: Path, old: Put | None, disk: Disk) -> Step:
    path = below(root, piece.path)
    if isinstance(piece, File):
        return _file(piece, path, old, disk)
    if isinstance(piece, Link):
        return _link(piece, path, old, disk)
    return _block(piece, path, old, disk)


def _file(piece: File, path: Path, old: Put | None, disk: Disk) -> Step:
    name, there = str(piece.path), _content(path)
    put = Put(path=name, kind="file", digest=_digest(piece.content))
    if there == piece.content and path.stat().st_mode & 0o777 == piece.mode:
        return Step(name, "as it should be", put=put)
    if there not in (None, piece.content) and (old is None or old.digest != _digest(there or b"")):
        return Step(name, _KEPT, kept=True)
    doing = "write" if there is None else "write anew"
    return Step(name, doing, lambda: disk.write(path, piece.content, mode=piece.mode), put)


def _link(piece: Link, path: Path, old: Put | None, disk: Disk) -> Step:
    name = str(piece.path)
    put = Put(path=name, kind="link", digest=piece.target)
    there = str(path.readlink()) if path.is_symlink() else None
    if there == piece.target:
        return Step(name, "as it should be", put=put)
    if os.path.lexists(path) and (old is None or there != old.digest):
        return Step(name, _KEPT, kept=True)
    return Step(name, f"link to {piece.target}", lambda: disk.point(path, piece.target), put)


def _block(piece: Block, path: Path, old: Put | None, disk: Disk) -> Step:
    name, text = str(piece.path), _text(path)
    before, block, after = parted(text or "")
    wanted = marked(piece)
    mode = path.stat().st_mode & 0o777 if text is not None else None
    runs = not piece.executable or bool((mode or 0) & _EXECUTABLE)
    bare = bool(piece.shebang) and not (text or "").startswith("#!")
    put = Put(
        path=name,
        kind="block",
        digest=_digest(wanted.encode()),
        made=old.made if old else text is None,
        first_line=(bare and text is not None) or bool(old and old.first_line),
        mode=old.mode if old else mode if not runs else None,
    )
    if block == wanted and runs and not bare:
        return Step(name, "as it should be", put=put)
    if block not in ("", wanted) and (old is None or old.digest != _digest(block.encode())):
        return Step(name, _KEPT, kept=True)
    if bare:
        before = f"{piece.shebang}{before}"
    if not block:
        before, after = _cut(f"{before}{after}")
    chosen = 0o644 if mode is None else mode
    if piece.executable:
        chosen |= 0o100 | chosen >> 2 & 0o011
    doing = "write" if text is None else "add a marked block"
    content = _bytes(f"{before}{wanted}{after}")
    return Step(name, doing, lambda: disk.write(path.resolve(), content, mode=chosen), put)


def _removal(put: Put, root: Path, disk: Disk) -> Step:
    path = below(root, PurePosixPath(put.path))
    if not os.path.lexists(path):
        return Step(put.path, "gone already")
    if put.kind == "block":
        return _block_removal(put, path, disk)
    there = str(path.readlink()) if path.is_symlink() else _digest(_content(path) or b"")
    if there != put.digest:
        return Step(put.path, _KEPT, kept=True)
    return Step(put.path, "remove", lambda: disk.remove(path))


def _block_removal(put: Put, path: Path, disk: Disk) -> Step:
    before, block, after = parted(_text(path) or "")
    if not block:
        return Step(put.path, "gone already")
    if _digest(block.encode()) != put.digest:
        return Step(put.path, _KEPT, kept=True)
    left = f"{before}{after}"
    if put.made and not left.removeprefix(_FIRST_LINE):
        return Step(put.path, "remove", lambda: disk.remove(path))
    if put.first_line:
        left = left.removeprefix(_FIRST_LINE)
    mode = path.stat().st_mode & 0o777 if put.mode is None else put.mode
    return Step(
        put.path,
        "take the marked block out",
        lambda: disk.write(path.resolve(), _bytes(left), mode=mode),
    )


def _cut(text: str) -> tuple[str, str]:
    """Cut a script behind its ``#!`` line; what has none, at its beginning."""
    if not text.startswith("#!"):
        return "", text
    first, end, rest = text.partition("\n")
    return first + (end or "\n"), rest


def _with(record: Record, put: Put, directories: Sequence[str]) -> Record:
    puts = {one.path: one for one in record.puts} | {put.path: put}
    return Record(
        puts=tuple(puts.values()),
        directories=tuple(dict.fromkeys([*record.directories, *directories])),
    )


def _write(record: Record, state: Path, disk: Disk) -> None:
    disk.make_directory(state)
    content = codec.to_json(record)
    if _content(_path(state)) != content:
        disk.write(_path(state), content)


def _missing_directories(directory: Path, root: Path) -> tuple[str, ...]:
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    return tuple(f"/{one.relative_to(root)}" for one in reversed(missing) if one != root)


def _make(directories: Sequence[str], root: Path) -> None:
    for directory in directories:
        path = below(root, PurePosixPath(directory))
        with refusals("make the directory", path):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(_DIRECTORY_MODE)


def _path(state: Path) -> Path:
    return state / "installed.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text(path: Path) -> str | None:
    """Read an administrator's file, whatever its encoding."""
    content = _content(path)
    return None if content is None else content.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
