"""What each of the ways that hosts boot by needs of geofence: which files, blocks and links."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

BOOT = PurePosixPath("/usr/local/lib/geofence/boot")
"""The sh hook, where every init system finds it."""

STATE = PurePosixPath("/var/lib/geofence")
"""Where the sh hook looks unless it is told otherwise."""

_UNITS = ("usr/lib/systemd/system", "lib/systemd/system")
_WANTS = ("etc/systemd/system", *_UNITS)
_INIT = ("etc/init.d", "etc/rc.d/init.d")
_LEVELS = "2345"
_BEGIN, _END = "# geofence: begin (geofence uninstall takes it out)", "# geofence: end"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A whole file."""

    path: PurePosixPath
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A marked part of an administrator's file, after its first line if that is ``#!``."""

    path: PurePosixPath
    text: str
    shebang: str = ""  # of the file, where there is none yet
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link."""

    path: PurePosixPath
    target: str


Piece = File | Block | Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the pieces are made for: the host's files, and the state as the host will see it."""

    root: Path
    state: PurePosixPath
    geofence: str  # the program, for what sh alone cannot do
    links: Sequence[tuple[str, PurePosixPath]] = ()  # each set's name, and the file that loads it


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way that hosts load their rules at boot."""

    name: str
    rules: bool  # whether the fence's rules come back by it, or its sets alone
    present: Callable[[Path], bool]
    runs: Callable[[Path], bool]  # at the next boot
    pieces: Callable[[Boot], tuple[Piece, ...]]


def script(boot: Boot) -> File:
    """Give the sh hook, told where the state is."""
    text = _shipped("boot").decode()
    for name, value in (("STATE", str(boot.state)), ("GEOFENCE", boot.geofence)):
        before, line, rest = text.partition(f"\n{name}=")
        _, _, after = rest.partition("\n")
        text = f"{before}{line}{shlex.quote(value)}\n{after}"
    return File(path=BOOT, content=text.encode(), mode=0o755)


def marked(block: Block) -> str:
    """Give a block with the lines that tell where it begins and ends."""
    return f"{_BEGIN}\n{block.text}{_END}\n"


def parted(text: str) -> tuple[str, str, str]:
    """Cut a file into what is before our block, the block with its marks, and what is after."""
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    inside, end, after = rest.partition(f"{_END}\n")
    if not (begin and end):
        return text, "", ""
    return before, begin + inside + end, after


def fitting(root: Path) -> tuple[Kind, ...]:
    """Give the kinds that a host has; where none of them loads rules at boot, one of our own."""
    found = tuple(kind for kind in KINDS if kind.present(root))
    if any(kind.rules and kind.runs(root) for kind in found):
        return found
    if _has(root, "usr/lib/systemd/systemd", "lib/systemd/systemd"):
        return (*found, UNIT)
    return (*found, SYSV) if _has(root, *_INIT) and SYSV not in found else found


def in_place(piece: Piece, root: Path) -> bool:
    """Tell whether a piece is on a host."""
    path = below(root, piece.path)
    if isinstance(piece, Link):
        return path.is_symlink() and str(path.readlink()) == piece.target
    try:
        text = path.read_bytes()
    except OSError:
        return False
    if isinstance(piece, File):
        return text == piece.content and path.stat().st_mode & 0o777 == piece.mode
    runs = not piece.executable or os.access(path, os.X_OK)
    return runs and parted(text.decode(errors="surrogateescape"))[1] == marked(piece)


def below(root: Path, path: PurePosixPath) -> Path:
    """Give the place of one of a host's paths."""
    return root / path.relative_to("/")


def as_seen(root: Path, path: Path) -> PurePosixPath:
    """Give the name that a path has on the host below ``root``."""
    whole = path.absolute()
    if whole.is_relative_to(root.absolute()):
        return PurePosixPath("/", whole.relative_to(root.absolute()))
    return PurePosixPath(whole)


def _iptables_services(_boot: Boot) -> tuple[Piece, ...]:
    return tuple(
        File(
            path=PurePosixPath(f"/etc/systemd/system/{unit}.service.d/geofence.conf"),
            content=_shipped("iptables-services.conf"),
        )
        for unit in ("iptables", "ip6tables")
    )


def _netfilter_persistent(_boot: Boot) -> tuple[Piece, ...]:
    plugins = PurePosixPath("/usr/share/netfilter-persistent/plugins.d")
    return tuple(
        File(path=plugins / name, content=_shipped(name), mode=0o755)
        for name in ("12-geofence", "30-geofence")
    )


def _sysv(boot: Boot) -> tuple[Piece, ...]:
    home = next((one for one in _INIT if (boot.root / one).is_dir()), _INIT[0])
    levels = f"{home.removesuffix('/init.d')}/rc{{}}.d" if home == _INIT[1] else "etc/rc{}.d"
    blocks = tuple(
        Block(
            path=PurePosixPath(f"/etc/sysconfig/{name}-config"),
            text=_shipped("iptables-config").decode(),
        )
        for name in ("iptables", "ip6tables")
        if (boot.root / home / name).exists()
    )
    links = tuple(
        Link(
            path=PurePosixPath("/", levels.format(level), "S09geofence"),
            target=f"/{home}/geofence",
        )
        for level in _LEVELS
    )
    path = PurePosixPath("/", home, "geofence")
    return (File(path=path, content=_shipped("init"), mode=0o755), *blocks, *links)


def sysv_gaps(root: Path) -> Iterator[str]:
    """Say which SysV init scripts load rules without having called geofence for the sets."""
    home = next((one for one in _INIT if (root / one).is_dir()), _INIT[0])
    for name in ("iptables", "ip6tables"):
        try:
            text = (root / home / name).read_text(errors="replace")
        except OSError:
            yield (
                f"there is no /{home}/{name}: /etc/sysconfig/{name}-config is left out; what loads"
                f" rules on this host has to call {BOOT} pre-start before, if they name"
                " geofence's sets"
            )
            continue
        if "-config" not in text:
            yield (
                f"/{home}/{name} does not seem to read /etc/sysconfig/{name}-config: let it call"
                f" {BOOT} pre-start before it loads rules"
            )


def _ufw(_boot: Boot) -> tuple[Piece, ...]:
    return tuple(
        Block(
            path=PurePosixPath(f"/etc/ufw/{name}.init"),
            text=_shipped(f"ufw-{name}").decode(),
            shebang="#!/bin/sh\n",
            executable=True,
        )
        for name in ("before", "after")
    )


def _ipset_service(boot: Boot) -> tuple[Piece, ...]:
    home = PurePosixPath("/etc/sysconfig/ipset.d")
    return tuple(Link(path=home / f"{name}.set", target=str(target)) for name, target in boot.links)


def _unit(_boot: Boot) -> tuple[Piece, ...]:
    home = PurePosixPath("/etc/systemd/system")
    return (
        File(path=home / "geofence-boot.service", content=_shipped("geofence-boot.service")),
        Link(
            path=home / "multi-user.target.wants" / "geofence-boot.service",
            target="../geofence-boot.service",
        ),
    )


def _has(root: Path, *paths: str) -> bool:
    return any(os.path.lexists(root / path) for path in paths)


def _wanted(root: Path, unit: str) -> bool:
    """Tell whether systemd starts a unit at boot."""
    masked = root / "etc/systemd/system" / unit
    if masked.is_symlink() and str(masked.readlink()) == os.devnull:
        return False
    homes = [home for place in _WANTS for home in (root / place).glob("*.wants")]
    return any(os.path.lexists(home / unit) for home in homes)


def _started(root: Path, name: str) -> bool:
    """Tell whether a SysV init starts a script at boot."""
    homes = [*root.glob("etc/rc?.d"), *root.glob("etc/rc.d/rc?.d")]
    return any(path.name.endswith(name) for home in homes for path in home.glob("S[0-9][0-9]*"))


def _ufw_is_on(root: Path) -> bool:
    try:
        return "ENABLED=yes" in (root / "etc/ufw/ufw.conf").read_text().splitlines()
    except OSError:
        return False


IPTABLES_SERVICES = Kind(
    name="iptables-services",
    rules=True,
    present=lambda root: _has(root, *(f"{home}/iptables.service" for home in _UNITS)),
    runs=lambda root: _wanted(root, "iptables.service"),
    pieces=_iptables_services,
)
NETFILTER_PERSISTENT = Kind(
    name="netfilter-persistent",
    rules=True,
    present=lambda root: _has(root, "usr/share/netfilter-persistent/plugins.d"),
    runs=lambda root: (
        _wanted(root, "netfilter-persistent.service") or _started(root, "netfilter-persistent")
    ),
    pieces=_netfilter_persistent,
)
SYSV = Kind(
    name="sysv",
    rules=True,
    present=lambda root: _has(root, *(f"{home}/iptables" for home in _INIT)),
    runs=lambda root: _has(root, *_INIT),
    pieces=_sysv,
)
UFW = Kind(
    name="ufw",
    rules=True,
    present=lambda root: _has(root, "etc/ufw/ufw.conf"),
    runs=lambda root: _ufw_is_on(root) and (_wanted(root, "ufw.service") or _started(root, "ufw")),
    pieces=_ufw,
)
IPSET_SERVICE = Kind(
    name="ipset-service",
    rules=False,
    present=lambda root: _has(root, "usr/libexec/ipset/ipset.start-stop"),
    runs=lambda root: _wanted(root, "ipset.service"),
    pieces=_ipset_service,
)
UNIT = Kind(
    name="unit",
    rules=True,
    present=lambda root: _has(root, "etc/systemd/system/geofence-boot.service"),
    runs=lambda root: _has(root, "usr/lib/systemd/systemd", "lib/systemd/systemd"),
    pieces=_unit,
)

KINDS = (IPTABLES_SERVICES, NETFILTER_PERSISTENT, SYSV, UFW, IPSET_SERVICE, UNIT)


def _shipped(name: str) -> bytes:
    """Read one of the files that come with geofence: of the package, else of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "cron" / name
    return (installed if installed.exists() else package.parent / "cron" / name).read_bytes()
