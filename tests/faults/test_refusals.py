"""Every call of a door refused once, and from then on: one whole list is enforced."""

import itertools

import pytest

from geofence.errors import DiskError, GeofenceError, KernelRefused
from tests.fakes import Counted, FakeSets
from tests.faults.lists import Scene, real_sets, refuse

DOORS = {
    "kernel": ("watch_sets", KernelRefused("refused by the test")),
    "disk": ("watch_disk", DiskError("refused by the test")),
}


@pytest.fixture(params=["fake", "real"])
def sets(request):
    if request.param == "fake":
        yield FakeSets
        return
    request.getfixturevalue("kernel")
    with real_sets() as real:
        yield lambda: real


class Watched(Counted):
    """Remembers the calls before the one that was refused."""

    def __init__(self, real, before):
        self.done: list[tuple[str, str]] = []
        self.refused = False

        def remember(call, name, arguments):
            try:
                before(call, name, arguments)
            except GeofenceError:
                self.refused = True
                raise
            if not self.refused:
                self.done.append((name, str(arguments[0]) if arguments else ""))

        super().__init__(real, remember)


def promoted(watched):
    """Tell whether the new generation had become the active one before the refusal."""
    return any(name == "point" and target.endswith("/active") for name, target in watched[0].done)


def _scenes(tmp_path, sets):
    for number in itertools.count(1):
        directory = tmp_path / str(number)
        directory.mkdir()
        scene = Scene(directory, sets())
        yield number, scene


@pytest.mark.parametrize("once", [True, False], ids=["once", "from-then-on"])
@pytest.mark.parametrize("door", DOORS)
def test_whichever_call_is_refused_one_whole_list_is_enforced(tmp_path, sets, door, once):
    keyword, error = DOORS[door]
    refused = 0
    old, new = _both(tmp_path, sets)
    for number, scene in _scenes(tmp_path, sets):
        scene.update(scene.old)
        watched: list[Watched] = []

        def watch(real, number=number, watched=watched):
            watched.append(Watched(real, refuse(error, number, once=once)))
            return watched[-1]

        try:
            outcome = scene.update(scene.new, **{keyword: watch})
        except GeofenceError as raised:
            refused += 1
            assert raised.status == error.status
            if once:
                in_force = new if promoted(watched) else old
                assert (scene.live(), scene.active()) == (in_force, in_force), f"call {number}"
        else:
            assert outcome.changed
        live, active = scene.live(), scene.active()
        assert set(live) == set(old)
        assert all(live[family] in (old[family], new[family]) for family in live)
        assert active in (old, new)
        _the_next_run_succeeds(scene)
        assert scene.live() == new
        if watched[0].calls < number:
            break
    assert refused > 5, "the test refused next to nothing"


def _both(tmp_path, sets):
    """Give the old list and the new one as they are enforced."""
    scene = Scene(tmp_path, sets())
    scene.update(scene.old)
    old = scene.live()
    scene.update(scene.new)
    return old, scene.live()


def _the_next_run_succeeds(scene):
    scene.update(scene.new)
    assert scene.leftovers() == []
    assert scene.live() == scene.active()


def test_the_first_update_of_all_leaves_nothing_when_it_is_refused(tmp_path, sets):
    for number, scene in _scenes(tmp_path, sets):
        counted = Counted(scene.sets, refuse(KernelRefused("no"), number, once=True))
        for name in ("geofence-LI-inet", "geofence-LI-inet6"):
            if scene.sets.header(name):
                scene.sets.destroy(name)
        try:
            scene.update(scene.new, watch_sets=lambda _, counted=counted: counted)
        except KernelRefused:
            assert scene.live() == {}, "a first update that failed leaves no set"
            _the_next_run_succeeds(scene)
        if counted.calls < number:
            break
