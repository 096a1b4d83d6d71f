"""Geofence does not write beside who would undo it, and is not put off by anybody else."""

import pytest

from tests import lab

OF_OWNERS = {
    # What each of them makes, whatever its configuration says.
    "firewalld": ["INPUT_ZONES", "FORWARD_ZONES", "IN_public", "IN_public_allow"],
    "Shorewall": ["shorewall", "net-fw", "fw-net", "sha-lh-0123456789abcdef0123"],
    "CSF": ["LOGDROPIN", "LOGDROPOUT", "DENYIN", "DENYOUT", "ALLOWIN", "LOCALINPUT"],
    "APF": ["TALLOW", "TDENY", "TGALLOW", "TGDENY", "REFRESH_TEMP"],
    "SuSEfirewall2": ["input_ext", "forward_ext", "reject_func"],
}
OF_OTHERS = {
    "ufw": ["ufw-before-input", "ufw-user-input", "ufw-track-input", "ufw-reject-input"],
    "Docker": ["DOCKER", "DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-FORWARD"],
    "fail2ban": ["f2b-sshd", "fail2ban-SSH"],
    "libvirt": ["LIBVIRT_INP", "LIBVIRT_FWI"],
    "kube-proxy": ["KUBE-SERVICES", "KUBE-FIREWALL", "KUBE-FORWARD", "KUBE-NODEPORTS"],
    "Proxmox": ["PVEFW-INPUT", "PVEFW-Drop", "PVEFW-reject", "PVEFW-smurfs"],
    "others": ["reject", "dynamic", "cali-INPUT", "ts-input", "RH-Firewall-1-INPUT", "logdrop"],
}


def save_all():
    return [
        line
        for variant in lab.VARIANTS
        for program in ("iptables", "ip6tables")
        for line in lab.run(f"{program}-{variant}-save").splitlines()
        if not line.startswith("#")
    ]


def chains(variant, *names):
    for name in names:
        lab.run(f"iptables-{variant}", "-w", "-N", name)
        lab.run(f"iptables-{variant}", "-w", "-A", "INPUT", "-j", name)


@pytest.fixture
def fence(geofence, kernel):
    geofence("update", "--country", "LI", "--source", "bundled")
    yield geofence
    lab.run("nft", "flush", "ruleset")


@pytest.mark.parametrize("variant", lab.VARIANTS)
@pytest.mark.parametrize("owner", OF_OWNERS)
def test_beside_who_would_undo_it_nothing_is_written(owner, variant, fence):
    chains(variant, *OF_OWNERS[owner])
    before = save_all()
    answer = fence("enable", "--without-rehearsal")
    assert (answer.status, f"{owner} rules this host" in answer.err) == (71, True)
    assert save_all() == before


@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_beside_who_lets_others_alone_it_is_enabled(variant, fence):
    for names in OF_OTHERS.values():
        chains(variant, *names)
    answer = fence("enable", "--without-rehearsal")
    assert answer.status == 0, answer.err


def test_firewalld_is_known_by_its_native_table(fence):
    lab.run("nft", "add", "table", "inet", "firewalld")
    answer = fence("enable", "--without-rehearsal")
    assert (answer.status, "systemctl disable --now firewalld" in answer.err) == (71, True)


def test_another_native_table_is_nobody_to_give_way_to(fence):
    lab.run("nft", "add", "table", "inet", "crowdsec")
    assert fence("enable", "--without-rehearsal").status == 0
