"""A machine that is booted in a throw-away overlay of this one's files.

A boot is a fresh network namespace; what one boot leaves on the disk, the next one finds.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from geofence.bootfiles import Block, Boot, File, Kind, Link, below, marked, script
from tests.boot import booted

STATE = PurePosixPath("/var/lib/geofence")
JUMP = "-A INPUT -j ALLOW-JP-INPUT"
OWN_RULE = "-A INPUT -s 203.0.113.66/32 -j DROP"
_KEPT = "var/lib/geofence etc/iptables etc/sysconfig"

_IN_OVERLAY = f"""
over=$1/over root=$1/over/root
mount -t tmpfs none "$over" || exit 99
mkdir "$over/upper" "$over/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$over/upper,workdir=$over/work" none "$root" || exit 99
for layer in "$1/files" "$1/disk"; do
    tar -C "$layer/" -c . | tar -C "$root" -x --keep-directory-symlink --no-same-owner
done
mount -t proc none "$root/proc"
printf '%s\\n' "$2" >"$root/boot.sh"
chroot "$root" /bin/sh -eu /boot.sh
status=$?
for kept in {_KEPT}; do
    [ ! -d "$root/$kept" ] || (cd "$root" && cp -a --parents "$kept" "$1/disk/")
done
exit $status
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is on its disk beside this machine's own files: what is installed, and what changes."""

    home: Path
    variant: str = "nft"

    @property
    def state(self) -> Path:
        return below(self.disk, STATE)

    @property
    def disk(self) -> Path:
        return self.home / "disk"

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file on the disk."""
        place = self.disk / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def boot(self, text: str, *, status: int = 0) -> str:
        """Run a script as its init, and give what it said, and what the kernel then holds."""
        programs = "\n".join(
            f"ln -sf /usr/sbin/{name}-{self.variant}{act} /usr/local/sbin/{name}{act}"
            for name in ("iptables", "ip6tables")
            for act in ("", "-save", "-restore")
        )
        whole = (
            "export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\n"
            f"{programs}\nip link set lo up\nstarted=0\n{text}\n"
            "echo END; iptables-save; ip6tables-save; ipset save; exit $started"
        )
        done = subprocess.run(
            ["unshare", "-m", "-n", "--propagation", "private", "sh", "-u", "-c", _IN_OVERLAY,
             "sh", self.home, whole],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": "/run/a.lock"},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


def machine(home: Path, files: Path, variant: str = "nft") -> Machine:
    """Give a machine with a stored list and an enabled fence, before its first boot."""
    (home / "over").mkdir()
    (home / "disk").mkdir()
    (home / "files").symlink_to(files)
    one = Machine(home, variant)
    one.state.parent.mkdir(parents=True)
    booted.store(one.state)
    booted.enable(one.state, variant)
    booted.trust(one.state, {"203.0.113.7/32": None})
    return one


def installed(root: Path, kinds: Iterable[Kind], links: Iterable[str] = ()) -> None:
    """Put what ``geofence install`` puts there below a directory."""
    boot = Boot(
        root=root,
        state=STATE,
        geofence="geofence",
        links=tuple((f"geofence-{name.replace('/active/', '-').replace('/', '-')}".removesuffix(
            ".ipset"), STATE / name) for name in links),
    )  # fmt: skip
    for piece in (script(boot), *(piece for kind in kinds for piece in kind.pieces(boot))):
        path = below(root, piece.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(piece, File):
            path.write_bytes(piece.content)
            path.chmod(piece.mode)
        elif isinstance(piece, Link):
            path.symlink_to(piece.target)
        elif isinstance(piece, Block):
            path.write_text(marked(piece))


def end(text: str) -> str:
    """Give what the kernel held at the end."""
    return text.partition("END\n")[2]


def is_in_force(text: str, prefixes=booted.PREFIXES) -> bool:
    """Tell whether both families' sets hold this, each jump is there once, and both are used."""
    last = end(text)
    entries = [line.split()[2] for line in last.splitlines() if line.startswith("add geofence-JP-")]
    return (
        sorted(entries) == sorted(prefixes["inet"] + prefixes["inet6"])
        and last.count(JUMP) == 2
        and last.count("--match-set geofence-JP-") == 2
        and "add geofence-trusted-inet 203.0.113.7 timeout 0" in last
        and "-next" not in last
    )
