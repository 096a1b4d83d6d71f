"""What locks owners out, done by SSH: the session goes on, and a new one can begin in time."""

import os
import shutil
from pathlib import Path

import pytest

from tests import lab
from tests.drills.town import FOREIGN, JAPANESE, SSHD, STRANGER, town
from tests.watched import until

BACK_SECONDS = 5.0

pytestmark = pytest.mark.slow


@pytest.fixture(params=["nft"])
def place(request, kernel, tmp_path):
    if os.geteuid():
        pytest.skip("sshd needs root")
    if not Path(SSHD).exists() or not shutil.which("ssh"):
        pytest.skip("the drills need the packages openssh-server and openssh-client")
    with town(tmp_path, request.param) as built:
        yield built


both_variants = pytest.mark.parametrize("place", lab.VARIANTS, indirect=True)


def test_wrong_country(place):
    owner = place.session(JAPANESE)
    before = place.rules()
    place.serve("KR")
    answer = owner(f"{place.geofence} enable --fence KR")
    assert answer.status in (65, 71), answer.out
    assert place.rules() == before
    assert owner.is_alive()
    assert place.lets_in(JAPANESE)


def test_empty_set(place):
    owner = place.session(JAPANESE)
    before = place.rules()
    place.on_host("ipset", "flush", "geofence-JP-inet")
    answer = owner(f"{place.geofence} enable")
    assert answer.status == 65, answer.out
    assert "empty" in answer.out
    assert place.rules() == before
    assert owner.is_alive()
    assert place.lets_in(JAPANESE)


def test_the_owners_address_is_not_in_the_list(place):
    owner = place.session(FOREIGN)
    answer = owner(f"{place.geofence} enable")
    assert answer.status == 65, answer.out
    assert f"geofence trust {FOREIGN}" in answer.out
    assert owner.is_alive()
    assert place.lets_in(FOREIGN)
    assert owner(f"{place.geofence} trust {FOREIGN}").status == 0
    assert owner(f"{place.geofence} enable").status == 0
    assert owner.is_alive()
    assert place.lets_in(FOREIGN)
    assert place.lets_in(JAPANESE)
    assert not place.lets_in(STRANGER)


@both_variants
def test_nobody_confirms(place):
    owner = place.session(JAPANESE)
    before = place.rules()
    lock_out(place, owner)
    assert owner.is_alive()
    restored(place, before)
    assert owner.is_alive()


def test_somebody_confirms_from_a_new_session(place):
    owner = place.session(JAPANESE)
    assert owner(f"{place.geofence} enable --confirm 60").status == 0
    assert place.session(JAPANESE)(f"{place.geofence} confirm").status == 0
    assert owner.is_alive()
    assert place.lets_in(JAPANESE)
    assert not place.lets_in(STRANGER)


def test_geofence_is_killed_between_apply_and_confirm(place):
    owner = place.session(JAPANESE)
    before = place.rules()
    deadly(place)
    path = f"PATH={place.home}/deadly:$PATH"
    answer = owner(f"{path} {place.geofence} enable --without-rehearsal --confirm 2")
    assert answer.status == 128 + 9, answer.out
    assert "ALLOW-JP-INPUT" in place.rules()
    place.on_host("ipset", "flush", "geofence-JP-inet")
    assert not place.lets_in(JAPANESE)
    restored(place, before)
    assert owner.is_alive()


def deadly(place):
    """Put a program into PATH that, once, kills who called it, after its work is done."""
    name = f"ip6tables-{place.variant}-restore"
    (place.home / "deadly").mkdir()
    program = place.home / "deadly" / name
    once = f'rm {program}; /usr/sbin/{name} "$@" && kill -9 $PPID'
    program.write_text(f"#!/bin/sh\n{once}\n")
    program.chmod(0o755)


def test_the_terminal_is_closed(place):
    owner = place.session(JAPANESE, "-tt")
    before = place.rules()
    lock_out(place, owner)
    owner.kill()
    restored(place, before)


def test_a_configuration_with_a_typo(place):
    owner = place.session(JAPANESE)
    place.configure('[fence.JP]\ncontries = ["JP"]\n')
    before = place.rules()
    for verb in ("enable", "enable --confirm 60", "repair"):
        answer = owner(f"{place.geofence} {verb}")
        assert answer.status == 78, answer.out
    assert place.rules() == before
    assert owner.is_alive()
    assert place.lets_in(JAPANESE)


def test_the_set_is_flushed_by_another_tool(place):
    owner = place.session(JAPANESE)
    assert owner(f"{place.geofence} enable --without-rehearsal").status == 0
    place.on_host("ipset", "flush")
    assert not place.lets_in(JAPANESE)
    assert owner(f"{place.geofence} restore").status == 0
    assert place.lets_in(JAPANESE)
    assert not place.lets_in(STRANGER)


@both_variants
def test_rules_and_set_are_destroyed_by_another_tool(place):
    owner = place.session(JAPANESE)
    assert owner(f"{place.geofence} enable --without-rehearsal").status == 0
    for program in ("iptables", "ip6tables"):
        place.on_host(f"{program}-{place.variant}", "-F")
    place.on_host("ipset", "destroy")
    assert owner.is_alive()
    assert owner(f"{place.geofence} repair").status == 0
    assert owner.is_alive()
    assert place.lets_in(JAPANESE)
    assert not place.lets_in(STRANGER)


def lock_out(place, owner):
    """Switch the fence on for a trial, and have its set emptied: nobody comes in any more."""
    answer = owner(f"{place.geofence} enable --without-rehearsal --confirm 2")
    assert answer.status == 0, answer.out
    place.on_host("ipset", "flush", "geofence-JP-inet")
    assert not place.lets_in(JAPANESE)


def restored(place, before):
    """Assert that within the time that was asked for the rules are the old ones again."""
    until(lambda: place.rules() == before, BACK_SECONDS)
    assert place.lets_in(JAPANESE)
