"""A host with a real sshd, a client, and a wire between them: two (private) network namespaces."""

import contextlib
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import lab
from tests.watched import rules_of_others, until

SSHD = "/usr/sbin/sshd"
HOST = "192.0.2.1"
JAPANESE, FOREIGN, STRANGER = "133.11.0.1", "198.51.100.7", "198.51.100.8"
_ROOT = Path(__file__).parents[2]
_ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 1

_INSIDE = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -m 755 /run/sshd
printf '%s\\n' 'root:*:19000::::::' 'sshd:*:19000::::::' > "$1"
mount --bind "$1" /etc/shadow
ip link set lo up
echo ready
exec sleep infinity
"""
_SSHD = """
HostKey {home}/key
AuthorizedKeysFile {home}/key.pub
PidFile none
ListenAddress {host}
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
"""
_SSH_OPTIONS = (
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    f"ConnectTimeout={_CONNECT_SECONDS}",
)


class Session:
    """Somebody's shell on the host, kept open."""

    def __init__(self, command: Sequence[str]) -> None:
        self._ssh = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._number = 0

    def __call__(self, line: str) -> lab.Answer:
        """Type a command and wait for its end. Fails if the session is dead or cut."""
        self._number += 1
        mark = f"--{self._number}--"
        self.type(f"{line} </dev/null 2>&1; printf '\\n%s %s\\n' {mark} $?")
        said = ""
        while not (end := re.search(rf"{mark} (\d+)\r?\n", said)):
            said += self._read()
        return lab.Answer(int(end[1]), said[: end.start()], "")

    def type(self, line: str) -> None:
        """Type a command."""
        assert self._ssh.stdin
        self._ssh.stdin.write(f"{line}\n".encode())
        self._ssh.stdin.flush()

    def is_alive(self) -> bool:
        """Tell whether the session answers."""
        return self("echo alive").out.strip().endswith("alive")

    def kill(self) -> None:
        """Let the client vanish."""
        self._ssh.kill()
        self._ssh.communicate()

    def _read(self) -> str:
        assert self._ssh.stdout
        ready, _, _ = select.select([self._ssh.stdout], [], [], _ANSWER_SECONDS)
        assert ready, "the session does not answer"
        said = os.read(self._ssh.stdout.fileno(), 65536)
        assert said, "the session has ended"
        return said.decode()


class Town:
    """The host, seen from the places its owner and others come from."""

    def __init__(self, home: Path, host: int, client: int, variant: str) -> None:
        self.home = home
        self.variant = variant
        self._host = ["nsenter", "-t", str(host), "-n", "-m", "-p"]
        self._client = ["nsenter", "-t", str(client), "-n"]
        self._sessions: list[Session] = []
        self.config = home / "geofence.toml"
        self.state = home / "state"
        python = f"env PYTHONPATH={_ROOT} {sys.executable}"
        self.geofence = f"{python} -m geofence --state-dir {self.state} --config {self.config}"
        self.serve("JP")

    def serve(self, country: str) -> None:
        """Let the owner have a fence of one country, with its list in force."""
        self.configure(f'[fence.{country}]\ncountries = ["{country}"]\n')
        self.on_host(*f"{self.geofence} -q update --source bundled".split())

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.config.write_text(text)
        self.config.chmod(0o600)

    def on_host(self, *command: str) -> str:
        """Run a command on the host, as another tool of its owner's would be."""
        return lab.run(*self._host, *command)

    def session(self, source: str, *options: str) -> Session:
        """Come by SSH, and stay."""
        session = Session([*self._ssh(source), *options, f"root@{HOST}", "exec sh"])
        self._sessions.append(session)
        assert session.is_alive()
        return session

    def lets_in(self, source: str) -> bool:
        """Tell whether a new session is possible from an address."""
        command = [*self._ssh(source), f"root@{HOST}", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def rules(self) -> str:
        """Print both families' rules, without counters."""
        lines = "".join(
            self.on_host(f"{program}-{self.variant}-save", "-t", "filter")
            for program in ("iptables", "ip6tables")
        ).splitlines()
        return "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))

    def close(self) -> None:
        """End every session."""
        for session in self._sessions:
            session.kill()

    def _ssh(self, source: str) -> list[str]:
        options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
        key = str(self.home / "key")
        return [*self._client, "ssh", "-F", "/dev/null", "-i", key, "-b", source, *options]


@contextlib.contextmanager
def town(home: Path, variant: str) -> Iterator[Town]:
    """Build it all; everything in it ends with the block."""
    home.chmod(0o755)
    with _place(home, "host") as host, _place(home, "client") as client:
        _wire(host, client)
        lab.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / "key")
        (home / "sshd_config").write_text(_SSHD.format(home=home, host=HOST))
        inside = ["nsenter", "-t", str(host), "-n", "-m", "-p"]
        lab.run(*inside, SSHD, "-f", home / "sshd_config", "-E", home / "sshd.log")
        for rule in rules_of_others(variant):
            lab.run(*inside, *rule)
        built = Town(home, host, client, variant)
        try:
            until(lambda: built.lets_in(JAPANESE))
            yield built
        finally:
            built.close()


@contextlib.contextmanager
def _place(home: Path, name: str) -> Iterator[int]:
    """Make a place of its own: network, processes, /run and passwords; give its first pid."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += ["sh", "-c", _INSIDE, "sh", str(home / f"{name}.shadow")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as place:
        try:
            assert place.stdout
            assert place.stdout.readline() == "ready\n"
            children = Path(f"/proc/{place.pid}/task/{place.pid}/children").read_text()
            yield int(children)
        finally:
            place.kill()


def _wire(host: int, client: int) -> None:
    """Lay the wire; each end answers for its addresses, and sends everything into it."""
    lab.run(*f"ip link add eth0 netns {host} type veth peer name eth0 netns {client}".split())
    for pid, addresses in ((host, (HOST,)), (client, (JAPANESE, FOREIGN, STRANGER))):
        inside = ["nsenter", "-t", str(pid), "-n", "ip"]
        for address in addresses:
            lab.run(*inside, "address", "add", f"{address}/32", "dev", "eth0")
        lab.run(*inside, "link", "set", "eth0", "up")
        lab.run(*inside, "route", "add", "default", "dev", "eth0")
