"""What is recorded of an enabled fence: read back, whole or not at all, and of use at a boot."""

import datetime
import json
import subprocess

import pytest

from geofence import enabled, rules, ruletext
from geofence.disk import Disk
from geofence.errors import DiskError
from geofence.kernel.iptables import Variant
from geofence.model import Family, Fence, Forward, Private, Style
from tests import lab, rulesets
from tests.fakes import Counted
from tests.rulesets import FakeRules

NOW = datetime.datetime(2026, 11, 20, 12, 30, tzinfo=datetime.UTC)
JP = Fence(
    name="JP",
    countries=("JP",),
    position=3,
    private=Private.JUDGE,
    forward=Forward.FORWARD,
    outside=("eth0", "wg+"),
)
ALLOW = Fence(
    name="US", countries=("US",), style=Style.ALLOW, target="WEB", families=(Family.INET,)
)


def written(fence):
    """Give the goals of a fence on a host whose families are of different variants."""
    held = (FakeRules(), FakeRules(family=Family.INET6, variant=Variant.LEGACY))
    goals = rules.wanted(fence, held, trusting=True)
    record = enabled.record_of(fence, goals, NOW)
    return goals, record, enabled.files(record, goals)


def store(fence, state, disk=None):
    state.mkdir(exist_ok=True)
    _, record, files = written(fence)
    enabled.store(files, fence.name, state, disk or Disk())
    return record


@pytest.mark.parametrize("fence", [JP, ALLOW], ids=lambda fence: fence.name)
def test_a_record_is_read_back_as_it_was_written(tmp_path, fence):
    record = store(fence, tmp_path)
    assert enabled.read(fence.name, tmp_path) == record
    assert record.at == NOW
    variants = {Family.INET: "nft", Family.INET6: "legacy"}
    assert record.variants == {
        family: variants[family] for family in fence.families or tuple(Family)
    }


def test_a_fence_gets_the_rules_it_was_enabled_with(tmp_path):
    record = store(JP, tmp_path)
    bare = Fence(name="JP", countries=("JP",))
    assert record.fence_as_enabled(bare) == JP
    assert store(ALLOW, tmp_path).fence_as_enabled(Fence(name="US", countries=("US",))) == ALLOW


def test_the_files_are_what_a_boot_loads_and_their_sums(tmp_path):
    goals, _, files = written(JP)
    store(JP, tmp_path)
    home = tmp_path / "JP" / "enabled"
    assert {path.name for path in home.iterdir()} == {
        "enabled.json", "inet.nft.rules", "inet6.legacy.rules", "SHA256SUMS",
    }  # fmt: skip
    for goal, name in zip(goals, ("inet.nft.rules", "inet6.legacy.rules"), strict=True):
        assert (home / name).read_text() == ruletext.loading(goal.own) == files[name]
    subprocess.run(["sha256sum", "-c", "--strict", "--status", "SHA256SUMS"], cwd=home, check=True)
    assert json.loads(files["enabled.json"])["schema"] == 1


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_a_kernel_that_holds_nothing_of_the_fence_takes_the_files(kernel, tmp_path, variant):
    rulesets.make_sets()
    rulesets.make_trusted()
    held = tuple(rulesets.real(family, variant) for family in Family)
    fence = Fence(name="JP", countries=("JP",))
    goals = rules.wanted(fence, held, trusting=True)
    files = enabled.files(enabled.record_of(fence, goals, NOW), goals)
    for family in Family:
        rulesets.load(family, variant, files[f"{family}.{variant}.rules"])
    assert rules.present(goals)


def test_a_new_record_takes_the_place_of_the_old_and_nothing_else_is_left(tmp_path):
    store(JP, tmp_path)
    record = store(Fence(name="JP", countries=("JP",), families=(Family.INET,)), tmp_path)
    assert enabled.read("JP", tmp_path) == record
    found = {path.name for path in (tmp_path / "JP").iterdir()}
    assert found == {"enabled", str((tmp_path / "JP/enabled").readlink())}
    assert not (tmp_path / "JP" / "enabled" / "inet6.legacy.rules").exists()


def test_a_record_is_forgotten_and_forgetting_twice_is_fine(tmp_path):
    store(JP, tmp_path)
    for _ in range(2):
        enabled.forget("JP", tmp_path, Disk())
        assert enabled.read("JP", tmp_path) is None
    assert enabled.all_of(tmp_path) == {}


def test_every_enabled_fence_is_found_and_no_other(tmp_path):
    records = {fence.name: store(fence, tmp_path) for fence in (JP, ALLOW)}
    (tmp_path / "KR").mkdir()
    (tmp_path / "lock").write_text("")
    assert enabled.all_of(tmp_path) == records
    assert enabled.all_of(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[:-20], id="cut"),
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda _: "[]", id="another-thing"),
        pytest.param(lambda text: text.replace('"schema": 1', '"schema": 2'), id="schema"),
        pytest.param(lambda text: text.replace('"JP"', '"KR"'), id="another-fence"),
        pytest.param(lambda text: text.replace('"gate"', '"wall"'), id="style"),
    ],
)
def test_a_damaged_record_is_none(tmp_path, damage):
    store(JP, tmp_path)
    path = tmp_path / "JP" / "enabled" / "enabled.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    assert enabled.read("JP", tmp_path) is None
    assert enabled.all_of(tmp_path) == {}


def test_a_disk_that_refuses_a_new_record_keeps_the_old(tmp_path):
    record = store(JP, tmp_path)

    def refuse(_call, name, _arguments):
        if name == "write":
            raise DiskError("no room")

    with pytest.raises(DiskError):
        store(Fence(name="JP", countries=("JP",)), tmp_path, Counted(Disk(), refuse))
    assert enabled.read("JP", tmp_path) == record
    found = {path.name for path in (tmp_path / "JP").iterdir()}
    assert found == {"enabled", str((tmp_path / "JP/enabled").readlink())}
