"""A generation is on the disk whole or not at all, and what is damaged there is never used."""

import ctypes
import datetime
import errno
import fcntl
import os
import stat
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from geofence import locks
from geofence.disk import Disk
from geofence.errors import Busy, DiskError, NoPermission
from geofence.model import Family, Generation, Lists, Origin, PrefixList
from geofence.store import Confirmed, Found, Held, Store
from tests import lab
from tests.lists import lists, prefix_list

NOW = datetime.datetime(2026, 11, 20, 3, 0, tzinfo=datetime.UTC)
LISTS = lists("192.0.2.0/24", "203.0.113.7/32", "2001:db8::/32")
ORIGINS = (
    Origin(publisher="apnic", location="apnic.txt", date=NOW.date(), sha256="5" * 64),
    Origin(publisher="plain", location="plain.txt", families=(Family.INET6,)),
)
FILES = ["SHA256SUMS", "inet.ipset", "inet6.ipset", "snapshot.json"]
CLONE_NEWNS = 0x20000  # linux/sched.h


def stage(store: Store, of: Lists = LISTS, fence: str = "JP") -> Generation:
    return store.stage(fence, of, countries=("JP",), source="rir", origins=ORIGINS, now=NOW)


def store_generation(store: Store, of: Lists = LISTS) -> Generation:
    generation = stage(store, of)
    store.promote("JP", generation.number)
    return generation


def numbered(i: int) -> Lists:
    return lists(f"192.0.2.{i}/32")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "state"
    path.mkdir(mode=0o750)
    return path


@pytest.fixture
def store(state):
    return Store(state, Disk())


def test_what_was_staged_is_read_back_as_it_was(store):
    staged = stage(store)
    assert (staged.number, staged.lists, staged.origins) == (1, LISTS, ORIGINS)
    assert store.read("JP", 1) == staged
    assert (staged.created, staged.source, staged.countries) == (NOW, "rir", ("JP",))


def test_a_staged_generation_is_not_active_and_not_counted(store, state):
    staged = stage(store)
    assert store.staged("JP") == staged
    assert (state / "JP" / "staged").readlink() == Path("1")
    assert (store.active_number("JP"), store.numbers("JP"), store.fences()) == (None, (), ("JP",))
    assert store.active("JP").generation is None


def test_a_promoted_generation_is_the_active_one(store, state):
    promoted = store_generation(store)
    assert store.active("JP").generation == promoted
    assert store.active("JP").damaged == ()
    assert (store.active_number("JP"), store.numbers("JP"), store.fences()) == (1, (1,), ("JP",))
    assert store.staged("JP") is None
    assert names(state / "JP") == ["1", "active"]


def test_a_discarded_generation_leaves_nothing_and_its_number_is_free(store, state):
    store_generation(store)
    assert stage(store, numbered(2)).number == 2
    store.discard("JP")
    assert names(state / "JP") == ["1", "active"]
    assert stage(store, numbered(3)).number == 2


def test_discarding_never_takes_the_active_generation(store, state):
    store_generation(store)
    (state / "JP" / "staged").symlink_to("1")
    store.discard("JP")
    assert names(state / "JP") == ["1", "active"]


def test_staging_again_gives_up_what_was_staged_before(store, state):
    stage(store, numbered(1))
    again = stage(store, numbered(2))
    assert store.staged("JP") == again
    store.promote("JP", again.number)
    assert names(state / "JP") == ["1", "active"]


def test_fences_do_not_see_each_other(store):
    store_generation(store)
    kr = stage(store, numbered(9), fence="KR")
    assert kr.number == 1
    assert store.fences() == ("JP", "KR")
    store.promote("KR", 1)
    assert store.fences() == ("JP", "KR")
    assert store.read("JP", 1).lists == LISTS


def test_a_state_directory_that_is_not_there_holds_nothing(tmp_path):
    store = Store(tmp_path / "nowhere", Disk())
    assert (store.fences(), store.numbers("JP"), store.staged("JP")) == ((), (), None)
    assert store.active("JP") == Found(generation=None)
    store.sweep("JP")
    assert not (tmp_path / "nowhere").exists()


def test_a_generations_files_satisfy_sha256sum(store, state):
    store_generation(store)
    directory = state / "JP" / "1"
    assert names(directory) == FILES
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, check=True)
    listed = (directory / "SHA256SUMS").read_text().split()[1::2]
    assert listed == ["inet.ipset", "inet6.ipset", "snapshot.json"]


def test_the_lists_lie_there_as_ipset_restore_loads_them(store, state):
    store_generation(store)
    assert (state / "JP" / "1" / "inet6.ipset").read_text() == (
        "create geofence-JP-inet6 hash:net family inet6 hashsize 1024 maxelem 65536\n"
        "add geofence-JP-inet6 2001:db8::/32\n"
    )


def test_the_same_list_is_the_same_bytes(tmp_path):
    both = [Store(tmp_path / name, Disk()) for name in ("a", "b")]
    stage(both[0])
    stage(both[1], dict(reversed([*LISTS.items()])))
    for name in ("inet.ipset", "inet6.ipset"):
        one, other = ((made.directory / "JP" / "1" / name).read_bytes() for made in both)
        assert one == other
    assert both[0].read("JP", 1).lists == both[1].read("JP", 1).lists == LISTS


def test_a_family_may_be_empty_or_absent(store):
    stage(store, {**lists("192.0.2.0/24"), Family.INET6: PrefixList(Family.INET6, ())})
    assert store.read("JP", 1).lists[Family.INET6].prefixes == ()
    assert set(stage(store, lists("2001:db8::/32")).lists) == {Family.INET6}
    assert set(store.read("JP", 1).lists) == {Family.INET6}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_root_alone_writes_and_its_group_reads(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "var" / "state", Disk())
        store.prepare()
        store_generation(store)
        store.confirm("JP", Confirmed(generation=1, at=NOW, origins=ORIGINS))
        with locks.writer(store.directory):
            pass
    finally:
        os.umask(before)
    for path in [tmp_path / "var", *(tmp_path / "var").rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = 0o750 if path.is_dir() else 0o640
            loosest = wanted if path.parent.name == "1" else wanted & ~umask
            assert mode & loosest == loosest, path
            assert not mode & ~wanted, path


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def damage_every(step: int) -> list[tuple[str, int]]:
    return [(name, percent) for name in FILES for percent in range(0, 100, step)]


@pytest.mark.parametrize(("name", "percent"), damage_every(7))
def test_a_generation_with_a_bit_flipped_is_not_used_and_the_one_before_is(
    store, state, name, percent
):
    older = store_generation(store, numbered(1))
    store_generation(store)
    path = state / "JP" / "2" / name
    flip(path, path.stat().st_size * percent // 100)
    with pytest.raises(DiskError, match="generation 2 of JP is damaged") as refused:
        store.read("JP", 2)
    assert refused.value.status == 74
    found = store.active("JP")
    assert found.generation == older
    assert [damage.partition(":")[0] for damage in found.damaged] == [
        "generation 2 of JP is damaged"
    ]


@pytest.mark.parametrize("size", [0, 1, -1])
@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_not_used(store, state, name, size):
    older = store_generation(store, numbered(1))
    store_generation(store)
    path = state / "JP" / "2" / name
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    assert store.active("JP").generation == older


@pytest.mark.parametrize("name", FILES)
def test_a_generation_with_a_file_missing_is_damaged(store, state, name):
    store_generation(store)
    (state / "JP" / "1" / name).unlink()
    with pytest.raises(DiskError, match="generation 1 of JP is damaged"):
        store.read("JP", 1)
    assert store.active("JP").generation is None


def test_bytes_that_were_added_are_noticed(store, state):
    for name in FILES:
        store_generation(store)
        with (state / "JP" / str(store.active_number("JP")) / name).open("a") as file:
            file.write("\n")
        assert store.active("JP").generation is None


def test_the_digest_in_the_snapshot_counts_beside_that_in_the_sums(store, state):
    store_generation(store)
    directory = state / "JP" / "1"
    text = (directory / "inet.ipset").read_text().replace("203.0.113.7/32", "203.0.113.8/32")
    (directory / "inet.ipset").write_text(text)
    sums = lab.run("sha256sum", *[directory / name for name in FILES if name != "SHA256SUMS"])
    (directory / "SHA256SUMS").write_text(sums.replace(f"{directory}/", ""))
    with pytest.raises(DiskError, match=r"inet\.ipset does not match its digest"):
        store.read("JP", 1)


def test_another_generations_files_are_not_this_ones(store, state):
    store_generation(store, numbered(1))
    (state / "JP" / "1").rename(state / "JP" / "7")
    with pytest.raises(DiskError, match=r"snapshot\.json is of schema 1, fence JP, generation 1"):
        store.read("JP", 7)
    (state / "KR").mkdir()
    (state / "JP" / "7").rename(state / "KR" / "1")
    with pytest.raises(DiskError, match="fence JP, generation 1"):
        store.read("KR", 1)


def test_a_generation_that_is_not_there_is_said_to_be_so(store):
    store_generation(store)
    with pytest.raises(DiskError, match=r"^JP: there is no generation 3$"):
        store.read("JP", 3)


def test_the_newest_sound_generation_before_the_active_one_serves(store, state):
    for i in range(1, 6):
        store_generation(store, numbered(i))
    (state / "JP" / "active").unlink()
    (state / "JP" / "active").symlink_to("4")
    for number in (3, 4):
        flip(state / "JP" / str(number) / "snapshot.json", 100)
    found = store.active("JP")
    assert found.generation
    assert found.generation.number == 2
    assert ["4" in found.damaged[0], "3" in found.damaged[1], len(found.damaged)] == [True, True, 2]


def test_a_pointer_to_a_generation_that_is_gone_falls_back_too(store, state):
    older = store_generation(store, numbered(1))
    (state / "JP" / "active").unlink()
    (state / "JP" / "active").symlink_to("2")
    assert store.active("JP").generation == older
    assert store.active("JP").damaged == ("JP: there is no generation 2",)


@pytest.mark.parametrize("target", ["x", "0", "01", "-1", "99999999999", "\N{FULLWIDTH DIGIT ONE}"])
def test_a_pointer_to_no_number_is_none(store, state, target):
    store_generation(store)
    (state / "JP" / "active").unlink()
    (state / "JP" / "active").symlink_to(target)
    assert store.active_number("JP") is None


def test_a_damaged_staged_generation_is_none_and_is_discarded(store, state):
    stage(store)
    flip(state / "JP" / "1" / "inet.ipset", 50)
    assert store.staged("JP") is None
    store.discard("JP")
    assert names(state / "JP") == []


def test_eight_generations_are_kept(store):
    for i in range(1, 12):
        store_generation(store, numbered(i))
    assert store.numbers("JP") == tuple(range(4, 12))


def test_as_many_generations_are_kept_as_asked_for(state):
    store = Store(state, Disk(), keep=2)
    for i in range(1, 5):
        store_generation(store, numbered(i))
    assert store.numbers("JP") == (3, 4)


def test_the_active_generation_is_kept_however_old(store):
    for i in range(1, 9):
        store_generation(store, numbered(i))
    store.promote("JP", 1)
    newest = stage(store, numbered(9))
    assert newest.number == 9
    store.discard("JP")
    assert store.numbers("JP") == tuple(range(1, 9))
    small = Store(store.directory, Disk(), keep=2)
    small.promote("JP", 1)
    assert small.numbers("JP") == (1, 7, 8)
    assert small.active("JP").generation


def test_a_number_is_never_given_twice_while_its_generation_is_there(store):
    for i in range(1, 4):
        store_generation(store, numbered(i))
    store.promote("JP", 1)
    assert stage(store, numbered(4)).number == 4


def test_a_list_that_cannot_be_written_leaves_nothing_behind(store, state, monkeypatch):
    store_generation(store, numbered(1))

    def interrupted(self, source, target):
        real(self, source, target)
        raise KeyboardInterrupt

    real = Disk.adopt
    monkeypatch.setattr(Disk, "adopt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage(store)
    assert names(state / "JP") == ["1", "active"]


def test_what_a_killed_run_left_unfinished_is_swept(store, state):
    store_generation(store)
    home = state / "JP"
    (home / ".tmp-file").write_text("half")
    (home / ".tmp-link").symlink_to("1")
    (home / ".tmp-directory").mkdir()
    (home / ".tmp-directory" / "inet.ipset").write_text("half")
    store.sweep("JP")
    assert names(home) == ["1", "active"]
    assert store.active("JP").generation


def test_what_was_confirmed_is_of_the_active_generation_alone(store):
    store_generation(store, numbered(1))
    confirmed = Confirmed(generation=1, at=NOW, origins=ORIGINS)
    assert store.confirmed("JP") is None
    store.confirm("JP", confirmed)
    assert store.confirmed("JP") == confirmed
    store_generation(store, numbered(2))
    assert store.confirmed("JP") is None


def test_what_is_held_is_remembered_until_it_is_forgotten(store):
    store_generation(store)
    held = Held(generation=3, digests=("a" * 64, "b" * 64))
    assert store.held("JP") is None
    store.hold("JP", held)
    assert store.held("JP") == held
    store.hold("JP", None)
    store.hold("JP", None)
    assert store.held("JP") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"generation": "x"}', b"\xff"])
def test_a_damaged_note_is_none(store, state, content):
    store_generation(store)
    for name in ("confirmed.json", "held.json"):
        (state / "JP" / name).write_bytes(content)
    assert (store.confirmed("JP"), store.held("JP")) == (None, None)
    assert store.active("JP").generation


@pytest.fixture
def synced(tmp_path, monkeypatch):
    """Note what is made durable: a file with its text, a directory with its names."""
    seen = []

    def fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path, names(path) if path.is_dir() else path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / ".tmp-a").touch()
    return seen


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (lambda disk, home: disk.write(home / "a", b"whole"), [".tmp-a", "a"]),
        (lambda disk, home: disk.adopt(home / ".tmp-a", home / "a"), ["a"]),
        (lambda disk, home: disk.point(home / "a", "1"), [".tmp-a", "a"]),
        (lambda disk, home: disk.make_directory(home / "a"), [".tmp-a", "a"]),
    ],
    ids=["write", "adopt", "point", "make-directory"],
)
def test_a_name_is_durable_when_the_act_returns(tmp_path, synced, act, left):
    act(Disk(), tmp_path)
    assert synced[-1] == (tmp_path, left)


def test_a_files_bytes_are_durable_before_its_name_is(tmp_path, synced):
    Disk().write(tmp_path / "a", b"whole")
    (path, text), (directory, _) = synced
    assert path.name.startswith(".tmp-")
    assert (path.parent, text, directory) == (tmp_path, "whole", tmp_path)


def test_every_directory_above_is_durable_too(tmp_path, synced):
    Disk().make_directory(tmp_path / "a" / "b")
    assert [path for path, _ in synced] == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize(
    "act",
    [
        lambda disk, taken: disk.write(taken, b"whole"),
        lambda disk, taken: disk.point(taken, "1"),
    ],
    ids=["write", "point"],
)
def test_what_cannot_take_its_place_leaves_nothing_behind(tmp_path, act):
    taken = tmp_path / "home" / "a"
    taken.mkdir(parents=True)
    with pytest.raises(DiskError, match="Is a directory"):
        act(Disk(), taken)
    assert names(tmp_path / "home") == ["a"]


def test_locks_can_be_taken_in_a_state_directory_that_was_prepared(tmp_path):
    store = Store(tmp_path / "not" / "yet", Disk())
    with pytest.raises(DiskError, match="cannot open the lock"), locks.updater(store.directory):
        pytest.fail("a lock in no directory")
    store.prepare()
    with locks.updater(store.directory), locks.writer(store.directory):
        store.prepare()


def test_an_update_is_not_waited_for_and_the_other_ones_pid_is_named(state):
    (state / "update.lock").write_text("4194303999\n")
    began = time.monotonic()
    with (
        locks.updater(state),
        pytest.raises(Busy) as refused,
        locks.updater(state),
    ):
        pytest.fail("two updates at once")
    assert time.monotonic() - began < 0.5
    assert refused.value.status == 75
    assert f"another update is at work (pid {os.getpid()}, lock {state}/update.lock)" == (
        refused.value.what
    )
    with locks.updater(state):
        assert (state / "update.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_is_free_again_whatever_happened_meanwhile(state):
    with pytest.raises(ZeroDivisionError), locks.updater(state):
        raise ZeroDivisionError
    with locks.updater(state), locks.writer(state):
        assert names(state) == ["lock", "update.lock"]


def test_a_writer_is_waited_for(state):
    with ExitStack() as first:
        first.enter_context(locks.writer(state))
        threading.Timer(0.1, first.pop_all().close).start()
        with locks.writer(state):
            assert (state / "lock").read_text() == f"{os.getpid()}\n"


def test_a_writer_is_not_waited_for_longer_than_that(state, monkeypatch):
    monkeypatch.setattr(locks, "WRITER_WAIT_SECONDS", 0.1)
    with (
        locks.writer(state),
        pytest.raises(Busy, match="another run is at work"),
        locks.writer(state),
    ):
        pytest.fail("two writers at once")


def test_a_lock_file_replaced_while_it_was_taken_does_not_count(state, monkeypatch):
    real = fcntl.flock
    taken: list[int] = []

    def replaced_before_the_first(descriptor, operation):
        if not taken:
            (state / "lock").unlink()
            (state / "lock").touch()
        taken.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replaced_before_the_first)
    with locks.writer(state):
        assert len(taken) == 2
        with (state / "lock").open() as file, pytest.raises(BlockingIOError):
            real(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.ENOLCK])
def test_a_lock_that_is_not_had_is_not_kept_open(state, monkeypatch, number):
    def refuse(_, operation):
        assert operation == fcntl.LOCK_EX | fcntl.LOCK_NB
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = names(Path("/proc/self/fd"))
    with pytest.raises((Busy, DiskError)) as refused, locks.updater(state):
        pytest.fail("a lock that was refused")
    assert refused.type is (Busy if number == errno.EWOULDBLOCK else DiskError)
    assert names(Path("/proc/self/fd")) == before


def test_a_holder_without_a_pid_is_unknown(state):
    with locks.updater(state):
        os.truncate(state / "update.lock", 0)
        with pytest.raises(Busy, match="pid unknown"), locks.updater(state):
            pytest.fail("two updates at once")


@pytest.mark.parametrize("name", ["lock", "update.lock"])
def test_a_symbolic_link_in_place_of_a_lock_is_refused(state, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (state / name).symlink_to(victim)
    held = locks.writer if name == "lock" else locks.updater
    with pytest.raises(DiskError, match="cannot open the lock") as refused, held(state):
        pytest.fail("a link was followed")
    assert refused.value.status == 74
    assert victim.read_text() == "precious"


def in_child(act: Callable[[], None]) -> None:
    """Run an act in a process with mounts of its own, and fail here as it fails there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        report = ""
        try:
            os.close(reader)
            act()
        except BaseException:  # noqa: BLE001, it is reported to the parent
            report = traceback.format_exc()
        os.write(writer, report.encode()[:60000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        report = pipe.read()
    os.waitpid(pid, 0)
    if report:
        pytest.fail(report, pytrace=False)


def mount(*options: str | Path) -> None:
    subprocess.run(["mount", *map(str, options)], check=True)


@pytest.fixture
def on_a_disk(tmp_path):
    """Run an act on a store on a small file system of its own, with one generation in it."""
    root = tmp_path / "mounted"
    root.mkdir()

    def run(options: str, act: Callable[[Store, Callable[[str], None]], None]) -> None:
        def child() -> None:
            assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
            mount("--make-rprivate", "/")
            mount("-t", "tmpfs", "-o", options, "none", root)
            store = Store(root / "state", Disk())
            store.prepare()
            store_generation(store, numbered(1))
            with locks.writer(store.directory), locks.updater(store.directory):
                pass
            act(store, lambda more: mount("-o", f"remount,{more}", root))

        in_child(child)

    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace of one's own is permitted")
    return run


MANY = {
    Family.INET: prefix_list(
        Family.INET, *[f"10.{i}.{j}.0/25" for i in range(20) for j in range(256)]
    )
}


def refused_and_whole(store: Store, of: Lists, cure: str) -> None:
    """Stage in vain, and find everything as it was."""
    home = store.directory / "JP"
    before = names(home)
    with pytest.raises(DiskError) as refused:
        stage(store, of)
    assert (refused.value.status, refused.value.cure) == (74, cure)
    assert names(home) == before == ["1", "active"]
    found = store.active("JP")
    assert (found.generation and found.generation.lists, found.damaged) == (numbered(1), ())


def test_on_a_full_disk_the_old_generation_stays_whole(on_a_disk):
    def act(store, _):
        room = "make room on that file system (df, df -i)"
        refused_and_whole(store, MANY, room)
        for name in ("lock", "update.lock"):
            os.truncate(store.directory / name, 0)
        filler = store.directory.parent / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", 0) as file:
            while True:
                file.write(b"\0" * 4096)
        refused_and_whole(store, numbered(2), room)
        with pytest.raises(DiskError, match=r"cannot write .*confirmed.json: No space left"):
            store.confirm("JP", Confirmed(generation=1, at=NOW, origins=ORIGINS))
        for held in (locks.writer, locks.updater):
            with held(store.directory):
                pass
        filler.unlink()
        assert store_generation(store, numbered(2)).number == 2

    on_a_disk("size=160k", act)


def test_on_a_disk_without_inodes_the_old_generation_stays_whole(on_a_disk):
    def act(store, remount):
        nodes = os.statvfs(store.directory)
        used = nodes.f_files - nodes.f_ffree
        for spare in range(6):  # the pointer, the directory, its four files
            remount(f"nr_inodes={used + spare}")
            refused_and_whole(store, LISTS, "make room on that file system (df, df -i)")
        remount(f"nr_inodes={used + 6}")
        assert stage(store).number == 2

    on_a_disk("nr_inodes=100", act)


def test_on_a_read_only_disk_the_old_generation_stays_whole(on_a_disk):
    def act(store, remount):
        with locks.writer(store.directory):
            pass
        remount("ro")
        cure = "mount that file system read-write"
        refused_and_whole(store, LISTS, cure)
        with pytest.raises(DiskError, match="Read-only file system") as refused:
            locks.updater(store.directory).__enter__()
        assert (refused.value.status, refused.value.cure) == (74, cure)
        with locks.writer(store.directory):  # restore goes on
            assert store.active("JP").generation
        remount("rw")
        assert stage(store).number == 2

    on_a_disk("size=1m", act)


@pytest.mark.skipif(
    len(Path("/proc/self/uid_map").read_text().splitlines()) == 1
    and Path("/proc/self/uid_map").read_text().split()[2] == "1",
    reason="there is nobody else in this user namespace to become",
)
def test_whoever_may_not_is_told_so(store):
    store_generation(store)

    def act():
        os.setuid(65534)
        for forbidden in (
            lambda: stage(store),
            store.fences,
            lambda: store.numbers("JP"),
            lambda: store.active("JP"),
            lambda: store.read("JP", 1),
            lambda: store.confirm("JP", Confirmed(generation=1, at=NOW, origins=())),
            locks.writer(store.directory).__enter__,
        ):
            with pytest.raises(NoPermission) as refused:
                forbidden()
            assert refused.value.status == 77

    in_child(act)
