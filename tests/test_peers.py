"""Who is on this host by SSH is found, also behind sudo; nothing malformed is taken for one."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from geofence.peers import ssh_peers, ssh_ports, ssh_sessions
from geofence.prefixes import format_address, parse_address
from tests import lab
from tests.watched import until

CODE = """
from geofence.peers import ssh_peers, ssh_ports, ssh_sessions
from geofence.prefixes import format_address, parse_address
print(*(format_address(*peer) for peer in ssh_peers()))
"""
PEERS = [sys.executable, "-c", CODE]
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """Look at the real processes, and tell who is here: whoever runs the tests may be, by SSH."""
    monkeypatch.setattr("geofence.peers._PROC", Path("/proc"))
    return ssh_peers()


@pytest.fixture
def found(others):
    return lambda: {format_address(*peer) for peer in ssh_peers() - others}


@pytest.mark.parametrize(
    ("value", "peer"),
    [
        pytest.param("192.0.2.9 50000 192.0.2.1 22", "192.0.2.9", id="ipv4"),
        pytest.param("2001:db8::9 50000 2001:db8::1 22", "2001:db8::9", id="ipv6"),
        pytest.param("fe80::9%eth0 50000 fe80::1%eth0 22", "fe80::9", id="link-local"),
        pytest.param("::ffff:192.0.2.9 50000 ::ffff:192.0.2.1 22", "192.0.2.9", id="mapped"),
    ],
)
def test_the_session_of_this_process_is_found(value, peer, found, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", value)
    assert found() == {peer}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("192.0.2.9", id="one-field"),
        pytest.param("192.0.2.9 50000 192.0.2.1 22 more", id="five-fields"),
        pytest.param("gateway.test 50000 192.0.2.1 22", id="host-name"),
        pytest.param("192.0.2.999 50000 192.0.2.1 22", id="no-address"),
        pytest.param("192.0.2.0/24 50000 192.0.2.1 22", id="prefix"),
        pytest.param("192.0.2.9 50000 192.0.2.1 ssh", id="port-by-name"),
        pytest.param("192.0.2.9 50000 192.0.2.1 -22", id="port-below-zero"),
        pytest.param("192.0.2.9 50000 192.0.2.1 " + "2" * 5000, id="endless-port"),
        pytest.param("\udcff 50000 192.0.2.1 22", id="no-text"),
        pytest.param("UNKNOWN 65535 UNKNOWN 65535", id="unknown"),
    ],
)
def test_a_malformed_session_is_ignored(value, found, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", value)
    assert found() == set()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param('env -u SSH_CONNECTION "$@"; exit $?', id="parent"),
        pytest.param(
            'unset SSH_CONNECTION; sh -c \'"$@"; exit $?\' sh "$@"; exit $?', id="grandparent"
        ),
        pytest.param('env -i PYTHONPATH="$PYTHONPATH" "$@"; exit $?', id="nothing-left"),
        pytest.param(
            "SSH_CONNECTION=$(printf '\\377') sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?",
            id="beyond-a-malformed-one",
        ),
    ],
)
def test_the_session_of_a_process_above_is_found(command):
    assert "192.0.2.9" in _peers_below(["sh", "-c", command, "sh", *PEERS])


def test_a_process_with_a_strange_name_does_not_hide_those_above(tmp_path):
    strange = tmp_path / "a) R 1 (b"
    strange.symlink_to("/bin/sh")
    inner = [str(strange), "-c", '"$@"; exit $?', "sh", *PEERS]
    outer = ["sh", "-c", 'env -u SSH_CONNECTION "$@"; exit $?', "sh", *inner]
    assert "192.0.2.9" in _peers_below(outer)


SERVER = """
import socket, sys
with open("/proc/self/comm", "w") as name:
    name.write(sys.argv[1])
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    one, _ = server.accept()
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "found_at"), [("sshd", True), ("sshd-session", True), ("nginx", False)]
)
def test_who_an_ssh_server_at_another_port_has_let_in_is_found(name, found_at, others):
    command = [sys.executable, "-c", SERVER, name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        port = int((server.stdout or sys.stdin).readline())
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.77", 0)):
            until(lambda: not found_at or port in {one.port for one in ssh_sessions().values()})
            sessions = {format_address(*peer): one for peer, one in ssh_sessions().items()}
        server.communicate()
    assert ("127.0.0.77" in sessions) is found_at
    if found_at:
        assert sessions["127.0.0.77"] == (port, parse_address("127.0.0.1"))


def test_where_a_session_came_to_is_told(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "2001:db8::9 50000 ::ffff:192.0.2.1 2222")
    assert ssh_sessions()[parse_address("2001:db8::9")] == (2222, parse_address("192.0.2.1"))


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_is_none_is_ignored(port, found, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", f"192.0.2.9 50000 192.0.2.1 {port}")
    assert found() == set()


def test_the_port_that_a_server_listens_at_is_told():
    command = [sys.executable, "-c", SERVER, "sshd"]
    before = ssh_ports()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        port = int((server.stdout or sys.stdin).readline())
        found = ssh_ports()
        with socket.create_connection(("127.0.0.1", port)):
            server.communicate()
    assert port in found
    assert port not in before


def _peers_below(command: list[str]) -> list[str]:
    """Run a command that ends in PEERS below a process with an SSH session."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SSH_CONNECTION": "192.0.2.9 50000 192.0.2.1 22",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("listening", "peer"),
    [
        pytest.param("127.0.0.1", "127.0.0.9", id="ipv4"),
        pytest.param("::1", "2001:db8::9", id="ipv6"),
        pytest.param("::ffff:127.0.0.1", "127.0.0.9", id="mapped"),
    ],
)
@pytest.mark.usefixtures("kernel")
def test_the_other_end_of_a_connection_to_port_22_is_found(listening, peer, found, address):
    address("2001:db8::9")
    with _connection(listening, 22, peer):
        assert found() == {peer}
    assert found() == set()


@pytest.mark.usefixtures("kernel")
def test_a_connection_to_the_port_of_the_session_is_found(found, monkeypatch):
    with _connection("127.0.0.1", 2222, "127.0.0.9"), _connection("127.0.0.1", 2223, "127.0.0.8"):
        assert found() == set()
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.9 50000 192.0.2.1 2222")
        assert found() == {"192.0.2.9", "127.0.0.9"}


@pytest.fixture
def address():
    """Give this (private) host one more address, until the test ends."""
    given = []

    def give(text: str) -> None:
        lab.run("ip", "address", "add", f"{text}/128", "dev", "lo", "nodad")
        given.append(text)

    yield give
    for text in given:
        lab.run("ip", "address", "del", f"{text}/128", "dev", "lo")


@contextlib.contextmanager
def _connection(listening: str, port: int, peer: str):
    """Hold a connection from one address of this host to another."""
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    mapped = listening.startswith("::ffff:")
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.socket(family))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::" if mapped else listening, port))
        server.listen()
        client = opened.enter_context(socket.socket(socket.AF_INET if mapped else family))
        client.bind((peer, 0))
        client.connect((listening.removeprefix("::ffff:"), port))
        opened.enter_context(server.accept()[0])
        yield
