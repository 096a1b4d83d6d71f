"""``geofence install`` puts the right files in place, ``uninstall`` takes just those away."""

import dataclasses
import hashlib
import json
import stat
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from geofence import bootfiles, enabled
from geofence.disk import Disk
from geofence.persistence import brings_back
from tests.boot import booted

BOOT = "usr/local/lib/geofence/boot"
PLUGINS = "usr/share/netfilter-persistent/plugins.d"
WANTS = "etc/systemd/system/multi-user.target.wants"
STOCK_INIT = """#!/bin/sh
# before.init: if executable, called by ufw-init
set -e
case "$1" in
start)
    ;;
esac
"""
OWN_CONFIG = 'IPTABLES_SAVE_ON_STOP="no"\n'


class Root:
    """The files of a host, below a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "var/lib/geofence"

    def put(self, name: str, content: str = "", mode: int = 0o644) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)

    def runs_at_boot(self, unit: str) -> None:
        wants = self.path / WANTS
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to(f"/lib/systemd/system/{unit}")

    def files(self) -> dict[str, object]:
        """Give every path below it, with what it holds and its mode, the state left out."""
        found: dict[str, object] = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if name.startswith("var"):
                continue
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif path.is_file():
                found[name] = (path.read_text(), stat.S_IMODE(path.stat().st_mode))
            else:
                found[name] = "a directory"
        return found


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.path.mkdir()
    booted.store(root.state)
    return root


@pytest.fixture
def run(root, geofence, tmp_path):
    """Run geofence on that host."""
    geofence.state = root.state
    (tmp_path / "empty.toml").touch()

    def run(*arguments):
        config = ["--config", tmp_path / "empty.toml"]
        return geofence(*config, *arguments, "--root", root.path)

    return run


def debian(root):
    root.put("lib/systemd/systemd")
    root.put(f"{PLUGINS}/15-ip4tables", mode=0o755)
    root.runs_at_boot("netfilter-persistent.service")


def redhat(root):
    root.put("usr/lib/systemd/systemd")
    root.put("usr/lib/systemd/system/iptables.service")
    root.put("usr/libexec/ipset/ipset.start-stop")
    root.put("etc/sysconfig/iptables-config", OWN_CONFIG)
    root.runs_at_boot("iptables.service")


def old_redhat(root):
    for name in ("iptables", "ip6tables"):
        root.put(f"etc/rc.d/init.d/{name}", f". /etc/sysconfig/{name}-config\n", mode=0o755)
    root.put("etc/sysconfig/iptables-config", OWN_CONFIG, 0o600)
    for level in "0123456":
        (root.path / f"etc/rc.d/rc{level}.d").mkdir()


def ubuntu(root):
    root.put("lib/systemd/systemd")
    root.put("etc/ufw/ufw.conf", "ENABLED=yes\n")
    root.put("etc/ufw/before.init", STOCK_INIT, 0o640)
    root.put("etc/ufw/after.init", STOCK_INIT, 0o640)
    root.runs_at_boot("ufw.service")


def bare(root):
    root.put("usr/lib/systemd/systemd")


HOSTS = {
    "debian": (
        debian,
        ["netfilter-persistent"],
        {f"{PLUGINS}/12-geofence", f"{PLUGINS}/30-geofence"},
    ),
    "redhat": (
        redhat,
        ["iptables-services", "ipset-service"],
        {
            "etc/systemd/system/iptables.service.d/geofence.conf",
            "etc/systemd/system/ip6tables.service.d/geofence.conf",
            "etc/sysconfig/ipset.d/geofence-JP-inet.set",
            "etc/sysconfig/ipset.d/geofence-JP-inet6.set",
        },
    ),
    "old-redhat": (
        old_redhat,
        ["sysv"],
        {
            "etc/rc.d/init.d/geofence",
            "etc/sysconfig/iptables-config",
            "etc/sysconfig/ip6tables-config",
        }
        | {f"etc/rc.d/rc{level}.d/S09geofence" for level in "2345"},
    ),
    "ubuntu": (ubuntu, ["ufw"], {"etc/ufw/before.init", "etc/ufw/after.init"}),
    "bare": (
        bare,
        ["unit"],
        {"etc/systemd/system/geofence-boot.service", f"{WANTS}/geofence-boot.service"},
    ),
}


@pytest.fixture(params=HOSTS)
def host(request, root):
    """Give a host as it is before anything is installed, and what is to be put there."""
    prepare, kinds, paths = HOSTS[request.param]
    prepare(root)
    return root, kinds, paths | {BOOT}


def changed(before, after):
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {path for path in paths if after.get(path, before.get(path)) != "a directory"}


def test_what_fits_the_host_is_put_in_place(host, run):
    root, kinds, paths = host
    before = root.files()
    answer = run("install", "--json")
    assert (answer.status, answer.document["kinds"]) == (0, kinds)
    assert changed(before, root.files()) == paths
    assert {one["path"] for one in answer.document["files"]} == {f"/{path}" for path in paths}


def test_a_dry_run_tells_the_same_and_changes_nothing(host, run):
    root, _, paths = host
    before = root.files()
    dry = run("install", "--dry-run").out
    assert root.files() == before
    assert not (root.state / "installed.json").exists()
    assert not (root.state / "JP" / "bundled").exists()
    assert all(f"/{path}: " in dry for path in paths)
    assert run("install").out == dry
    assert run("uninstall", "--dry-run").status == 0
    assert (root.path / BOOT).exists()


def test_twice_is_as_good_as_once(host, run):
    root, _, _ = host
    run("install")
    before = {path: path.lstat().st_mtime_ns for path in root.path.rglob("*")}
    answer = run("install", "--json")
    assert not any(one["changed"] for one in answer.document["files"])
    assert {path: path.lstat().st_mtime_ns for path in root.path.rglob("*")} == before


def test_uninstall_leaves_everything_as_it_was(host, run):
    root, _, _ = host
    before, state = root.files(), sorted(path.name for path in root.state.rglob("*"))
    run("install")
    run("install")
    assert run("uninstall").status == 0
    assert root.files() == before
    assert sorted(path.name for path in root.state.rglob("*")) == state
    assert run("uninstall").out == "nothing is installed\n"


def test_a_reboot_then_brings_an_enabled_fence_back(host, run):
    root, kinds, paths = host
    assert "geofence enable" in brings_back(root.path, root.state, ["JP"]).cure
    booted.enable(root.state)
    assert brings_back(root.path, root.state, ["JP"]).cure == "geofence install"
    run("install")
    found = brings_back(root.path, root.state, ["JP"])
    assert (found.back, found.by, found.cure) == (True, kinds[0], "")
    for path in sorted(paths):
        if "ipset.d" in path:
            continue
        there = root.path / path
        moved = there.rename(there.with_name("moved"))
        assert not brings_back(root.path, root.state, ["JP"]).back, path
        moved.rename(there)
    enabled.forget("JP", root.state, Disk())
    assert not brings_back(root.path, root.state, ["JP"]).back


@pytest.mark.parametrize("name", ["debian", "redhat", "ubuntu"])
def test_what_is_not_started_at_boot_brings_nothing_back(root, run, name):
    prepare, kinds, _ = HOSTS[name]
    prepare(root)
    booted.enable(root.state)
    for unit in (root.path / WANTS).iterdir():
        unit.unlink()
    run("install", *kinds)
    assert not brings_back(root.path, root.state, ["JP"]).back
    assert "unit" in run("install", "--json").document["kinds"]
    assert brings_back(root.path, root.state, ["JP"]).by == "unit"


def test_a_masked_unit_does_not_run(root, run):
    debian(root)
    booted.enable(root.state)
    run("install")
    assert brings_back(root.path, root.state, ["JP"]).back
    (root.path / "etc/systemd/system/netfilter-persistent.service").symlink_to("/dev/null")
    assert not brings_back(root.path, root.state, ["JP"]).back


def test_a_hook_that_looks_into_another_state_brings_nothing_back(root, run, tmp_path):
    debian(root)
    run("install")
    booted.store(tmp_path / "other")
    booted.enable(tmp_path / "other")
    assert not brings_back(root.path, tmp_path / "other", ["JP"]).back


def test_a_fence_without_a_list_is_not_brought_back(root, run):
    debian(root)
    booted.enable(root.state)
    run("install")
    booted.enable(root.state, fence=dataclasses.replace(booted.JP, name="US"))
    assert not brings_back(root.path, root.state, ["JP", "US"]).back
    run("install")
    assert brings_back(root.path, root.state, ["JP", "US"]).back


def test_the_hook_is_told_where_the_state_is(root, run):
    bare(root)
    run("install")
    text = (root.path / BOOT).read_text()
    assert "\nSTATE=/var/lib/geofence\nGEOFENCE=geofence\n" in text
    shipped = (Path(__file__).parents[2] / "cron" / "boot").read_text()
    assert text == shipped
    assert bootfiles.script(
        bootfiles.Boot(root=root.path, state=PurePosixPath("/a b"), geofence="x")
    ).content.count(b"\nSTATE='/a b'\nGEOFENCE=x\nPATH=")


def test_the_fences_own_snapshot_and_policy_are_stored_for_sh(root, run):
    bare(root)
    run("install")
    sums = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=root.state / "JP" / "bundled", check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert sums.stdout == "inet.ipset: OK\ninet6.ipset: OK\n"
    assert (root.state / "JP" / "on_missing").read_text() == "bundled\n"


def test_an_administrators_words_around_a_block_stay(root, run):
    old_redhat(root)
    run("install")
    path = root.path / "etc/sysconfig/iptables-config"
    assert path.read_text().endswith(OWN_CONFIG)
    path.write_text(f"# before\n{path.read_text()}# after\n")
    run("install")
    assert path.read_text().count("geofence: begin") == 1
    run("uninstall")
    assert path.read_text() == f"# before\n{OWN_CONFIG}# after\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_block_comes_behind_the_first_line_of_a_script_and_makes_it_run(root, run):
    ubuntu(root)
    run("install")
    path = root.path / "etc/ufw/before.init"
    assert path.read_text().startswith("#!/bin/sh\n# geofence: begin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    subprocess.run(["dash", "-n", path], check=True)


CHANGED = [BOOT, f"{PLUGINS}/12-geofence"]


@pytest.mark.parametrize("path", CHANGED)
def test_a_file_that_was_changed_since_is_kept_and_named(root, run, path):
    debian(root)
    run("install")
    (root.path / path).write_text("#!/bin/sh\n# mine\n")
    answer = run("install")
    assert answer.status == 1
    assert f"/{path} is somebody else's, or changed since: kept" in answer.err
    answer = run("uninstall")
    assert answer.status == 1
    assert f"/{path} is somebody else's, or changed since: kept" in answer.err
    assert (root.path / path).read_text() == "#!/bin/sh\n# mine\n"
    assert not (root.path / PLUGINS / "30-geofence").exists()


def test_a_block_that_was_changed_since_is_kept_and_named(root, run):
    ubuntu(root)
    run("install")
    path = root.path / "etc/ufw/before.init"
    path.write_text(path.read_text().replace("pre-start", "pre-start # mine"))
    assert run("install").status == 1
    assert run("uninstall").status == 1
    assert "pre-start # mine" in path.read_text()


def test_somebody_elses_link_is_kept(root, run):
    redhat(root)
    links = root.path / "etc/sysconfig/ipset.d"
    links.mkdir()
    (links / "geofence-JP-inet.set").symlink_to("/etc/mine")
    assert run("install").status == 1
    assert str((links / "geofence-JP-inet.set").readlink()) == "/etc/mine"


def test_a_file_of_an_older_version_is_written_anew(root, run):
    debian(root)
    run("install")
    boot, record = root.path / BOOT, root.state / "installed.json"
    boot.write_text("an older version\n")
    facts = json.loads(record.read_text())
    facts["puts"][0]["digest"] = hashlib.sha256(boot.read_bytes()).hexdigest()
    record.write_text(json.dumps(facts))
    assert run("install").status == 0
    assert boot.read_text().startswith("#!/bin/sh\n# Put geofence's")


def test_where_nothing_is_known_to_load_rules_the_owner_is_told_what_to_call(root, run):
    answer = run("install")
    assert answer.status == 1
    assert "/usr/local/lib/geofence/boot pre-start" in answer.err
    assert (root.path / BOOT).exists()


def test_a_kind_that_is_unknown_is_a_usage_error(root, run):
    answer = run("install", "openrc")
    assert answer.status == 2
    assert "known: iptables-services, netfilter-persistent, sysv, ufw" in answer.err


def test_a_root_that_is_not_there_is_a_usage_error_and_not_made(root, geofence, tmp_path):
    for verb in ("install", "uninstall"):
        answer = geofence(verb, "--root", tmp_path / "typo")
        assert answer.status == 2
        assert f"{tmp_path}/typo is no directory" in answer.err
        assert not (tmp_path / "typo").exists()


def test_what_is_done_is_told_when_it_is_done(root, run):
    debian(root)
    plugins = root.path / PLUGINS
    with booted.read_only(plugins):
        answer = run("install")
    assert answer.status == 74
    assert answer.out == ""
    assert f"/{BOOT} is in place\n" in answer.err
    assert "then geofence install does the rest; or: geofence uninstall" in answer.err
    assert run("install").status == 0
    with booted.read_only(plugins):
        answer = run("uninstall")
    assert (answer.status, answer.out) == (74, "")
    assert "nothing was changed" in answer.err
    assert run("uninstall").status == 0
    assert not (root.path / BOOT).exists()


def test_where_nothing_can_be_written_it_says_that_nothing_was_changed(root, run):
    debian(root)
    with booted.read_only(root.path):
        answer = run("install")
    assert (answer.status, answer.out) == (74, "")
    assert "nothing was changed" in answer.err


def test_a_snapshot_that_the_disk_does_not_take_is_told_beside_what_is_in_place(root, run):
    debian(root)
    with booted.read_only(root.state / "JP"):
        answer = run("install")
    assert answer.status == 74
    assert "what brings the fences back at boot is in place" in answer.err
    assert (root.path / BOOT).exists()


@pytest.mark.parametrize("text", ["", "case $1 in\nstart) ;;\nesac\n"], ids=["empty", "without"])
def test_a_script_that_says_no_shell_is_given_one_until_it_is_uninstalled(root, run, text):
    ubuntu(root)
    root.put("etc/ufw/before.init", text, 0o640)
    before = root.files()
    run("install")
    path = root.path / "etc/ufw/before.init"
    assert path.read_text().startswith("#!/bin/sh\n# geofence: begin")
    assert path.read_text().endswith(text)
    assert run("install").out.count("as it should be") == 3
    run("uninstall")
    assert root.files() == before


def test_sysv_scripts_that_do_not_ask_geofence_for_the_sets_are_named(root, run):
    (root.path / "etc/init.d").mkdir(parents=True)
    warnings = run("install", "sysv", "--json").document["warnings"]
    assert "/etc/sysconfig/iptables-config is left out" in warnings[0]
    assert not (root.path / "etc/sysconfig").exists()
    root.put("etc/init.d/iptables", "iptables-restore < /etc/iptables.rules\n")
    warnings = run("install", "sysv", "--json").document["warnings"]
    assert "does not seem to read /etc/sysconfig/iptables-config" in warnings[0]
    assert (root.path / "etc/sysconfig/iptables-config").exists()


def test_a_sysv_script_that_reads_its_configuration_is_given_one(root, run):
    old_redhat(root)
    (root.path / "etc/sysconfig/iptables-config").unlink()
    assert run("install", "--json").document["warnings"] == []
    assert "pre-start" in (root.path / "etc/sysconfig/iptables-config").read_text()


def test_scripts_are_told_the_warnings_too(root, run):
    debian(root)
    (root.state / "ASIA" / "1").mkdir(parents=True)
    booted.enable(root.state)
    (warning,) = run("install", "--json").document["warnings"]
    assert warning.startswith("ASIA: no snapshot for the boot hook: ")
    (warning,) = run("uninstall", "--json").document["warnings"]
    assert warning == "JP: a reboot does not bring it back any more"


def test_what_is_installed_is_found_out_again_where_the_record_is_damaged(root, run):
    debian(root)
    before = root.files()
    run("install")
    (root.state / "installed.json").write_text("{")
    answer = run("uninstall")
    assert answer.status == 74
    assert "installed.json is damaged" in answer.err
    assert run("install").status == 0
    assert run("uninstall").status == 0
    assert {path for path in root.files() if "geofence" in path} <= {
        *before,
        "usr/local/lib/geofence",
    }


def test_an_edited_file_is_to_be_removed_before_it_is_installed_again(root, run):
    bare(root)
    booted.enable(root.state)
    run("install")
    for path in (BOOT, "etc/systemd/system/geofence-boot.service"):
        text = (root.path / path).read_text()
        (root.path / path).write_text(text.replace("STATE=", "HOME=").replace("pre-start", "start"))
        found = brings_back(root.path, root.state, ["JP"])
        assert found.cure == f"remove /{path}, which was changed; then: geofence install"
        (root.path / path).unlink()
        run("install")
        assert brings_back(root.path, root.state, ["JP"]).back


def test_uninstall_warns_of_saved_rules_that_no_boot_could_load(root, run):
    debian(root)
    booted.enable(root.state)
    run("install")
    root.put("etc/iptables/rules.v4", "-A X -m set --match-set geofence-JP-inet src -j RETURN\n")
    answer = run("uninstall")
    assert "JP: a reboot does not bring it back any more" in answer.err
    assert "/etc/iptables/rules.v4 names geofence's sets" in answer.err


@pytest.mark.parametrize("name", ["boot", "12-geofence", "30-geofence", "init", "iptables-config",
                                  "ufw-before", "ufw-after"])  # fmt: skip
def test_every_shipped_script_is_posix_sh(name):
    path = Path(__file__).parents[2] / "cron" / name
    for shell in (["dash"], ["busybox", "ash"]):
        subprocess.run([*shell, "-n", path], check=True)


def test_units_are_as_systemd_reads_them():
    cron = Path(__file__).parents[2] / "cron"
    for name in ("geofence-boot.service", "iptables-services.conf"):
        for line in (cron / name).read_text().splitlines():
            assert not line or line.startswith(("#", "[")) or "=" in line
