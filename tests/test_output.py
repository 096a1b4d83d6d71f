"""What is done does not depend on whether anybody listens."""

import os
import subprocess
import sys

import pytest

from tests import lab

RUN = [sys.executable, "-m", "geofence"]


def shell(redirections, *arguments, state, **environment):
    """Run geofence from a shell with its output going somewhere odd."""
    command = ["sh", "-c", f'"$@" {redirections}', "sh", *RUN, "--state-dir", str(state)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return lab.Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def two_fences(geofence, kernel):
    """Two stored fences, the first with a damaged generation: there is a warning to print."""
    for country in ("LI", "SG"):
        geofence("update", "--country", country, "--source", "bundled")
    geofence("update", "--country", "LI", "--source", "bundled", "--family", "inet")
    (geofence.state / "LI" / "1" / "SHA256SUMS").write_text("damaged\n")
    lab.run("ipset", "destroy")
    return geofence.state


@pytest.mark.parametrize(
    "redirections",
    ["2>/dev/full", "2>&-", ">&-", ">&- 2>&-", "2>&1 >/dev/null | true", ">/dev/null 2>/dev/full"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_restore_restores_every_fence_whoever_listens(two_fences, redirections, unbuffered):
    answer = shell(redirections, "restore", state=two_fences, PYTHONUNBUFFERED=unbuffered)
    assert answer.status == 0
    assert "Traceback" not in answer.err
    assert "geofence-SG-inet6" in lab.set_names()
    assert "geofence-LI-inet6" in lab.set_names()


def test_a_result_that_cannot_be_written_is_told_after_the_work(two_fences):
    answer = shell(">/dev/full", "restore", state=two_fences)
    assert answer.status == 74
    assert "cannot write the result: No space left on device" in answer.err
    assert "geofence-SG-inet6" in lab.set_names()


def test_the_status_of_what_failed_stays(geofence, kernel):
    update = ["update", "--country", "LI", "--source", "plain", "--from", "/nonexistent"]
    assert shell("2>/dev/full", *update, state=geofence.state).status == 69
    assert shell(">/dev/full", *update, "--json", state=geofence.state).status == 69


@pytest.mark.parametrize("arguments", [["--json", "status"], ["status", "--json"], ["--json"]])
def test_json_may_stand_before_the_verb_and_after_it(geofence, kernel, arguments):
    expected = {"schema": 1, "ok": True, "exit": 0, "fences": [], "pending": None}
    assert geofence(*arguments).document == expected


def test_what_is_no_ascii_is_written_all_the_same(geofence, tmp_path, kernel):
    update = ["update", "--country", "LI", "--source", "plain", "--from", tmp_path / "日本.txt"]
    answer = shell("", *update, state=geofence.state, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert answer.status == 69
    assert r"\u65e5\u672c.txt" in answer.err
