"""Debian's own boot scripts, in a throw-away overlay of this machine's files, with our plugins."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from geofence import enabled
from geofence.bootfiles import NETFILTER_PERSISTENT
from geofence.disk import Disk
from tests import lab
from tests.boot import booted, overlay
from tests.boot.overlay import JUMP, OWN_RULE, end, installed, is_in_force

PACKAGES = ["netfilter-persistent", "iptables-persistent", "ipset-persistent"]


class Debian(overlay.Machine):
    """A machine that netfilter-persistent starts."""

    @property
    def saved(self) -> Path:
        return self.disk / "etc" / "iptables"

    def boot(self, then: str = "", *, status: int = 0) -> str:
        """Boot it, then do more."""
        return super().boot(f"netfilter-persistent start || started=$?\n{then}", status=status)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Unpack the packages' files; nothing is installed."""
    if shutil.which("apt-get") is None:
        pytest.skip("Debian's packages are not to be had: no apt-get")
    home = tmp_path_factory.mktemp("packages")
    network = Path(f"/proc/{os.getppid()}/ns/net")
    command = ["nsenter", f"--net={network}", "apt-get", "-qq", "download", *PACKAGES]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    files = sorted(home.glob("*.deb"))
    if done.returncode or len(files) != len(PACKAGES):
        pytest.skip(f"Debian's packages are not to be had: {done.stderr.strip()}")
    for file in files:
        lab.run("dpkg-deb", "-x", file, home / "files")
    installed(home / "files", [NETFILTER_PERSISTENT])
    return home / "files"


@pytest.fixture
def machine(packages, private, tmp_path, request):
    """Give a machine with a stored list and an enabled fence, before its first boot."""
    variant = getattr(request, "param", "nft")
    return Debian(overlay.machine(tmp_path, packages, variant).home, variant)


@pytest.mark.parametrize("machine", lab.VARIANTS, indirect=True)
def test_a_boot_brings_sets_and_rules_back(machine):
    assert is_in_force(machine.boot())


def test_rules_that_were_saved_with_the_fence_load_at_the_second_boot(machine):
    machine.boot(f"iptables {OWN_RULE}\nnetfilter-persistent save")
    assert JUMP in (machine.saved / "rules.v4").read_text()
    text = machine.boot()
    assert is_in_force(text)
    assert OWN_RULE in end(text)


def test_without_our_plugins_the_saved_rules_would_not_have_loaded(machine):
    machine.boot(f"iptables {OWN_RULE}\nnetfilter-persistent save")
    (machine.saved / "ipsets").unlink()
    for plugin in ("12-geofence", "30-geofence"):
        name = f"usr/share/netfilter-persistent/plugins.d/{plugin}"
        machine.put(name, "#!/bin/sh\n", 0o755)
    assert OWN_RULE not in end(machine.boot())


@pytest.mark.parametrize("act", ["restart", "reload"])
def test_a_restart_takes_up_the_list_that_is_active_now(machine, act):
    booted.store(machine.state, booted.OLDER)
    link = "ln -sfn 1 /var/lib/geofence/JP/active"
    assert is_in_force(machine.boot(f"{link}\nnetfilter-persistent {act}"))


def test_a_save_in_the_middle_of_an_update_leaves_no_staging_set_at_the_next_boot(machine):
    machine.boot("ipset create geofence-JP-inet-next hash:net\nnetfilter-persistent save")
    assert "create geofence-JP-inet-next" in (machine.saved / "ipsets").read_text()
    assert is_in_force(machine.boot())


def test_an_old_copy_in_the_saved_sets_does_not_win(machine):
    machine.boot("netfilter-persistent save")
    booted.store(machine.state, booted.OLDER)
    assert is_in_force(machine.boot(), booted.OLDER)


def test_after_a_flush_a_start_brings_everything_back(machine):
    assert is_in_force(machine.boot("netfilter-persistent flush\nnetfilter-persistent start"))


def test_stop_takes_nothing_away(machine):
    assert is_in_force(machine.boot("netfilter-persistent stop"))


def test_with_the_stored_file_missing_the_snapshot_serves_and_it_is_told(machine):
    machine.boot("netfilter-persistent save")
    booted.bundle(machine.state)
    (machine.state / "JP" / "1" / "inet.ipset").unlink()
    (machine.saved / "ipsets").unlink()
    text = machine.boot(status=1)
    assert is_in_force(text, booted.OLDER)
    assert "JP: nothing sound is stored; the bundled snapshot serves" in text


def test_with_python_made_unusable_nothing_changes(machine):
    for home in ("usr/bin", "usr/local/bin"):
        for program in ("python3", "python", "python3.11", "geofence"):
            machine.put(f"{home}/{program}", "#!/bin/false\n", 0o755)
    assert is_in_force(machine.boot("! python3 -c pass\nnetfilter-persistent save"))
    assert is_in_force(machine.boot())


def test_a_fence_that_was_disabled_is_not_put_back(machine):
    enabled.forget("JP", machine.state, Disk())
    last = end(machine.boot())
    assert "ALLOW-JP-INPUT" not in last
    assert "add geofence-JP-inet " in last
