"""A directory that is replaced whole is the old one or the new one, and held to its digests."""

import subprocess
from typing import Any

import pytest

from geofence import whole
from geofence.disk import Disk
from geofence.errors import DiskError
from tests.fakes import Counted

OLD = {"a": b"1\n", "b": b"2\n"}
NEW = {"a": b"3\n", "c": b"4\n"}


def held(home):
    return {path.name: path.read_bytes() for path in home.iterdir() if path.name != whole.SUMS}


def test_it_is_replaced_and_the_old_one_is_gone(tmp_path):
    home = tmp_path / "it"
    assert whole.put(home, OLD, Disk())
    assert held(home) == OLD
    assert whole.put(home, NEW, Disk())
    assert held(home) == NEW
    assert {path.name for path in tmp_path.iterdir()} == {"it", str(home.readlink())}


def test_what_is_there_already_is_no_news(tmp_path):
    whole.put(tmp_path / "it", OLD, Disk())
    assert not whole.put(tmp_path / "it", OLD, Disk())


def test_sha256sum_finds_it_whole(tmp_path):
    whole.put(tmp_path / "it", OLD, Disk())
    command = ["sha256sum", "-c", "--status", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "it", check=False).returncode == 0


@pytest.mark.parametrize("damage", [b"5\n", b"", None])
def test_a_file_that_was_changed_is_none_and_is_written_again(tmp_path, damage):
    home = tmp_path / "it"
    whole.put(home, OLD, Disk())
    assert whole.content(home, "a") == b"1\n"
    if damage is None:
        (home / "a").unlink()
    else:
        (home / "a").write_bytes(damage)
    assert whole.content(home, "a") is None
    assert whole.content(home, "b") == b"2\n"
    assert whole.put(home, OLD, Disk())
    assert whole.content(home, "a") == b"1\n"


def test_a_directory_of_before_gives_way_to_a_link(tmp_path):
    home = tmp_path / "it"
    home.mkdir()
    (home / "x").write_text("x")
    whole.put(home, NEW, Disk())
    assert held(home) == NEW


def test_dropping_it_leaves_nothing_and_what_is_named_alike_alone(tmp_path):
    other = tmp_path / "it-is-another"
    other.mkdir()
    whole.put(tmp_path / "it", OLD, Disk())
    whole.drop(tmp_path / "it", Disk())
    assert list(tmp_path.iterdir()) == [other]
    whole.drop(tmp_path / "it", Disk())


@pytest.mark.parametrize("number", range(1, 6))
def test_a_disk_that_refuses_leaves_the_old_one_whole(tmp_path, number):
    home = tmp_path / "it"
    whole.put(home, OLD, Disk())

    def refuse(call, name, _):
        if call == number:
            raise DiskError(f"cannot {name}")

    refusing: Any = Counted(Disk(), refuse)
    with pytest.raises(DiskError):
        whole.put(home, NEW, refusing)
    assert held(home) == OLD
    assert whole.put(home, NEW, Disk())
    assert held(home) == NEW
    assert len(list(tmp_path.iterdir())) == 2
