"""A bar is for people: on a terminal, on standard error, in colour only if they like."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geofence.candidate import snapshot_lists
from geofence.model import Fence
from geofence.prefixes import texts
from tests import lab

ROOT = Path(__file__).parents[1]
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")
ESCAPE = "\x1b["
CODE = """
from geofence.progress import bars
with bars(wanted=True) as show:
    show("https://publisher.test/list", 500, None)
    print("a result")
    show("https://publisher.test/list", 1000, 2000)
    show("/tmp/named-file", 5, 5)
"""


def run_on_terminal(*arguments: str, **environment: str) -> tuple[str, str]:
    """Run Python with a terminal for standard error; give what came out, and what showed there."""
    shown, terminal = os.openpty()
    inherited = {name: os.environ[name] for name in os.environ if name != "NO_COLOR"}
    more = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, *arguments],
        env={**inherited, **more, **environment},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        assert process.stdout
        text = _all_of(shown)
        out = process.stdout.read()
    os.close(shown)
    assert process.returncode == 0, text
    return out, text


def _all_of(descriptor: int) -> str:
    """Read a terminal until nobody holds its other end."""
    text = b""
    while True:
        try:
            text += os.read(descriptor, 1 << 16)
        except OSError:  # EIO, pty(7)
            return text.decode()


def test_a_terminal_shows_a_bar_in_colour():
    _, text = run_on_terminal("-c", CODE)
    assert "publisher.test" in text
    assert "1.0/2.0 kB" in text
    assert "/tmp/named-file" in text
    assert COLOUR.search(text)


def test_no_color_is_honoured():
    _, text = run_on_terminal("-c", CODE, NO_COLOR="1")
    assert "publisher.test" in text
    assert not COLOUR.search(text)


def test_results_go_to_standard_output_all_the_same():
    out, text = run_on_terminal("-c", CODE)
    assert out == "a result\n"
    assert "a result" not in text


def test_the_bar_is_gone_at_the_end():
    _, text = run_on_terminal("-c", CODE)
    assert text.rstrip().endswith("\x1b[2K")


def test_a_terminal_that_can_nothing_gets_no_codes():
    _, text = run_on_terminal("-c", CODE, TERM="dumb")
    assert ESCAPE not in text


def test_without_a_terminal_nothing_is_shown():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("a result\n", "")


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        pytest.param([], True, id="plain"),
        pytest.param(["-q"], False, id="quiet"),
        pytest.param(["--json"], False, id="json"),
    ],
)
@pytest.mark.usefixtures("kernel")
def test_an_update_shows_bars_unless_told_otherwise(option, shown, tmp_path):
    fence = Fence(name="LI", countries=("LI",))
    path = lab.plain_list(
        tmp_path / "list", *(text for one in snapshot_lists(fence).values() for text in texts(one))
    )
    about = ["update", "--country", "LI", "--source", "plain", "--from", str(path)]
    _, text = run_on_terminal("-m", "geofence", "--state-dir", str(tmp_path), *about, *option)
    assert (ESCAPE in text) == shown
