"""The order in which RHEL's and SysV's scripts do what they do, with what we put beside them.

The scripts are our own; they do what iptables-services and ipset-service do at each step: an
ipset service that destroys, or else flushes, every set it has no file of; an iptables script that
reads its configuration as shell, loads the saved rules or none at all, and flushes before a start.
"""

import pytest

from geofence.bootfiles import IPSET_SERVICE, IPTABLES_SERVICES, SYSV
from tests.boot import booted, overlay
from tests.boot.overlay import JUMP, OWN_RULE, end, is_in_force

LINKS = [
    *(f"JP/active/{family}.ipset" for family in ("inet", "inet6")),
    *(f"trusted/{family}.ipset" for family in ("inet", "inet6")),
]

IPSET_SERVICE_START = """
names=
for file in /etc/sysconfig/ipset.d/*.set; do
    [ -f "$file" ] || continue
    name=$(awk 'NR == 1 { print $2 }' "$file")
    names="$names $name"
    ipset destroy tmp 2>/dev/null || :
    sed "s/ $name / tmp /" "$file" | ipset restore
    if ipset list -n | grep -qx "$name"; then
        ipset swap tmp "$name" && ipset destroy tmp
    else
        ipset rename tmp "$name"
    fi
done
for live in $(ipset list -n); do
    case " $names " in
    *" $live "*) ;;
    *) ipset destroy "$live" 2>/dev/null || ipset flush "$live" ;;
    esac
done
"""

IPTABLES_START = """#!/bin/sh
program=${0##*/}
[ ! -f "/etc/sysconfig/$program-config" ] || . "/etc/sysconfig/$program-config"
case $1 in
stop | restart)
    for chain in INPUT FORWARD OUTPUT; do "$program" -P "$chain" ACCEPT; done
    "$program" -F
    "$program" -X
    ;;
esac
case $1 in
start | restart | reload)
    [ -f "/etc/sysconfig/$program" ] || exit 6
    "$program-restore" <"/etc/sysconfig/$program"
    ;;
esac
"""

SAVE = (
    "iptables-save >/etc/sysconfig/iptables; ip6tables-save >/etc/sysconfig/ip6tables"
    f"; sed -i 's/^COMMIT/{OWN_RULE.replace('/', '.')}\\nCOMMIT/; s/66.32/66\\/32/'"
    " /etc/sysconfig/iptables"
)
INIT = "/etc/rc.d/init.d"


@pytest.fixture
def systemd(private, tmp_path):
    """Give a machine with iptables-services and ipset-service."""
    files = tmp_path / "installed"
    files.mkdir()
    overlay.installed(files, [IPTABLES_SERVICES, IPSET_SERVICE], LINKS)
    machine = overlay.machine(tmp_path, files)
    for name in ("iptables", "ip6tables"):
        machine.put(f"usr/libexec/iptables/{name}", IPTABLES_START, 0o755)
    machine.put("usr/libexec/ipset/start", f"#!/bin/sh\n{IPSET_SERVICE_START}", 0o755)
    machine.put("etc/sysconfig/iptables-config", "# mine\n")
    return machine


def unit(name, act):
    """Do what systemd does with our drop-in: each of its commands at its time, failures ignored."""
    drop_in = f"/etc/systemd/system/{name}.service.d/geofence.conf"
    own = f"/usr/libexec/iptables/{name} {act} || started=$?"
    if act == "reload":
        return f"{own}\n{commands(drop_in, 'ExecReload')}"
    pre, post = commands(drop_in, "ExecStartPre"), commands(drop_in, "ExecStartPost")
    return f"{pre}\n{own}\n{post}"


def commands(file, key):
    return f"sed -n 's/^{key}=-//p' {file} | sh || :"


def boot_of(act="start"):
    return "\n".join(["/usr/libexec/ipset/start", unit("ip6tables", act), unit("iptables", act)])


def test_systemd_brings_sets_and_rules_back(systemd):
    assert is_in_force(systemd.boot(boot_of(), status=6))  # there are no saved rules yet


def test_rules_that_were_saved_with_the_fence_load_at_the_second_boot(systemd):
    systemd.boot(f"{boot_of()}\n{SAVE}", status=6)
    text = systemd.boot(boot_of())
    assert is_in_force(text)
    assert OWN_RULE in end(text)


@pytest.mark.parametrize("act", ["restart", "reload"])
def test_rules_that_were_saved_without_it_get_it_again_at_each(systemd, act):
    for name in ("iptables", "ip6tables"):
        systemd.put(f"etc/sysconfig/{name}", "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    again = "\n".join([unit("ip6tables", act), unit("iptables", act)])
    assert is_in_force(systemd.boot(f"{boot_of()}\n{again}"))


def test_a_restart_of_ipset_service_leaves_the_sets_that_rules_use(systemd):
    assert is_in_force(systemd.boot(f"{boot_of()}\n/usr/libexec/ipset/start", status=6))


def test_without_our_links_it_would_have_emptied_them(systemd):
    text = systemd.boot(
        f"{boot_of()}\nrm /etc/sysconfig/ipset.d/*\n/usr/libexec/ipset/start", status=6
    )
    assert JUMP in end(text)
    assert "add geofence-JP-inet " not in end(text)


@pytest.fixture
def sysv(private, tmp_path):
    """Give a machine with scripts below /etc/rc.d."""
    files = tmp_path / "installed"
    for name in ("iptables", "ip6tables"):
        path = files / "etc/rc.d/init.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(IPTABLES_START)
        path.chmod(0o755)
    overlay.installed(files, [SYSV])
    for name in ("iptables", "ip6tables"):
        path = files / f"etc/rc.d/rc3.d/S08{name}"
        path.symlink_to(f"../init.d/{name}")
    return overlay.machine(tmp_path, files, "legacy")


RC = "\n".join(
    [
        "for script in /etc/rc.d/rc3.d/S*; do",
        "    case $script in",
        "    *geofence) sh $script start || started=1 ;;",
        f"    *) {INIT}/${{script##*S08}} start || [ $? = 6 ] || started=1 ;;",
        "    esac",
        "done",
    ]
)


def test_sysv_brings_sets_and_rules_back(sysv):
    assert is_in_force(sysv.boot(RC))


def test_saved_rules_that_name_the_sets_load_in_the_order_of_sysv(sysv):
    sysv.boot(f"{RC}\n{SAVE}")
    text = sysv.boot(RC)
    assert is_in_force(text)
    assert OWN_RULE in end(text)


def test_without_our_block_they_would_not_have_loaded(sysv):
    sysv.boot(f"{RC}\n{SAVE}")
    for name in ("iptables", "ip6tables"):
        sysv.put(f"etc/sysconfig/{name}-config", "")
    assert OWN_RULE not in end(sysv.boot(RC, status=1))


def test_a_restart_of_saved_rules_leaves_the_fence_in_force(sysv):
    sysv.boot(f"{RC}\n{SAVE}")
    again = f"{INIT}/iptables restart\n{INIT}/ip6tables restart"
    assert is_in_force(sysv.boot(f"{RC}\n{again}"))


def test_nothing_happens_when_the_script_is_stopped_or_asked(sysv):
    sysv.boot(f"{RC}\n{SAVE}")
    booted.store(sysv.state, booted.OLDER)
    link = "ln -sfn 1 /var/lib/geofence/JP/active"
    asked = f"{RC}\n{link}\n{INIT}/iptables status\n{INIT}/geofence stop\n{INIT}/geofence status"
    assert is_in_force(sysv.boot(asked), booted.OLDER)
