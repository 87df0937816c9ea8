# SPDX-License-Identifier: Apache-2.0
"""What a container finds around it, looked at from the inside."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import build, images, pods
from support.inside import IMAGE, Inside, imported, inside, phase, refused, start, waiting
from support.netns import NetNs
from support.node import Node
from support.wait import eventually

DEFAULT_CAPABILITIES = 0x00000000A80425FB


@pytest.fixture(scope="module")
def node():
    config = {"allowedUnsafeSysctls": ["kernel.msg*", "net.core.somaxconn"]}
    with NetNs() as netns, Node("iso", netns=netns, config=config) as n:
        n.import_image(images.busybox(), IMAGE)
        yield n


# -- devices, capabilities, system calls ----------------------------------------------------------------------------------


def test_devices(node):
    """Access is denied by the control group, not by the lack of a node: 10:229 is fuse."""
    found = inside(node, "mknod /tmp/fuse c 10 229 && (: < /tmp/fuse) 2>&1; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null;"
                         "ls /dev; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/full")
    assert "not permitted" in found.out and "null\n" in found.out
    listed = set(found.lines)
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin",
            "stdout", "stderr", "termination-log"} <= listed
    assert not {"kmsg", "mem", "sda", "fuse", "kvm", "vda"} & listed


def test_privileged(node):
    found = inside(node, "mknod /tmp/fuse c 10 229 && (: < /tmp/fuse) 2>&1 && echo opened; grep CapEff /proc/self/status;"
                         "mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted;"
                         "grep Seccomp: /proc/self/status; test -w /proc/sys/kernel/msgmax && echo writable; ls /dev | wc -l",
                   container={"securityContext": {"privileged": True}})
    if os.path.exists("/dev/fuse"):
        assert "opened" in found.out
    assert "mounted" in found.out and "Seccomp:\t0" in found.out and "writable" in found.out
    effective = int(re.search(r"CapEff:\s*(\w+)", found.out)[1], 16)
    assert effective & ~DEFAULT_CAPABILITIES


def capabilities(found):
    return {k: int(v, 16) for k, v in re.findall(r"Cap(\w+):\s*(\w+)", found.out)}


def test_capabilities(node):
    """Upstream runtimes' default set; ambient and inheritable are empty."""
    caps = capabilities(inside(node, "grep Cap /proc/self/status"))
    assert caps == {"Inh": 0, "Prm": DEFAULT_CAPABILITIES, "Eff": DEFAULT_CAPABILITIES, "Bnd": DEFAULT_CAPABILITIES, "Amb": 0}
    dropped = inside(node, "grep Cap /proc/self/status",
                     container={"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}})
    assert capabilities(dropped)["Bnd"] == 1 << 10
    user = capabilities(inside(node, "grep Cap /proc/self/status", container={"securityContext": {"runAsUser": 1000}}))
    assert user["Eff"] == user["Prm"] == user["Inh"] == user["Amb"] == 0 and user["Bnd"] == DEFAULT_CAPABILITIES
    # What may bind to low ports without a capability (a default that images take for granted).
    assert inside(node, "nc -l -p 80 -w 1 < /dev/null; echo $?", container={"securityContext": {"runAsUser": 1000}}
                  ).out.strip() in ("0", "1") and "denied" not in inside(
                      node, "timeout 1 nc -l -p 80; :", container={"securityContext": {"runAsUser": 1000}}).err


def test_no_new_privileges(node):
    line = "grep NoNewPrivs /proc/self/status"
    assert inside(node, line).out.split()[-1] == "0"
    assert inside(node, line, container={"securityContext": {"allowPrivilegeEscalation": False}}).out.split()[-1] == "1"


SYSCALLS = "unshare -m true 2>&1 && echo unshared; mount -t tmpfs none /tmp 2>&1 && echo mounted; grep Seccomp: /proc/self/status"


def test_seccomp(node):
    """With all capabilities of mounting: what stops it is the filter."""
    context = {"capabilities": {"add": ["SYS_ADMIN"]}}
    default = {"seccompProfile": {"type": "RuntimeDefault"}}
    # The default rules follow the capability set, as the runtime's that upstream uses.
    filtered = inside(node, SYSCALLS, container={"securityContext": default})
    assert "Seccomp:\t2" in filtered.out and "unshared" not in filtered.out and "mounted" not in filtered.out
    free = inside(node, SYSCALLS, container={"securityContext": {**context, "seccompProfile": {"type": "Unconfined"}}})
    assert "Seccomp:\t0" in free.out and "unshared" in free.out and "mounted" in free.out
    allowed = inside(node, SYSCALLS, container={"securityContext": {**context, **default}})
    assert "Seccomp:\t2" in allowed.out and "unshared" in allowed.out


def test_seccomp_profile_that_is_none_is_not_unconfined(node):
    """CVE-2023-2431: missing, empty, damaged, no file, outside of the node's directory, without a name."""
    directory = node.dir / "root" / "seccomp"
    directory.mkdir(exist_ok=True)
    (directory / "empty.json").touch()
    (directory / "damaged.json").write_text("{")
    (directory / "list.json").write_text("[]")
    (directory / "action.json").write_text('{"defaultAction": "SCMP_ACT_SOMETHING"}')
    (directory / "directory.json").mkdir()
    os.mkfifo(directory / "fifo.json")
    (directory / "out.json").symlink_to("/proc/self/environ")
    for profile in ("nope.json", *sorted(p.name for p in directory.iterdir())):
        context = {"seccompProfile": {"type": "Localhost", "localhostProfile": profile}}
        name = start(node, "echo ran", container={"securityContext": context})
        details = waiting(node, name)
        assert details["reason"] == "CreateContainerError" and profile in details["message"], details
    for profile in ("", "../../etc/passwd", "/etc/passwd"):
        context = {"seccompProfile": {"type": "Localhost", "localhostProfile": profile}}
        name = start(node, "echo ran", container={"securityContext": context})
        eventually(lambda: f"{name}.yaml' is not used" in node.log(), 20, "the verdict")
        assert phase(node, name) is None
        node.remove_manifest(name)


def test_seccomp_default():
    """seccompDefault: what names no profile has the runtime's; Unconfined has none."""
    line = "grep Seccomp: /proc/self/status"
    with NetNs() as netns, Node("sec", netns=netns, config={"seccompDefault": True}) as n:
        n.import_image(images.busybox(), IMAGE)
        assert inside(n, line).out == "Seccomp:\t2\n"
        assert inside(n, line, securityContext={"seccompProfile": {"type": "Unconfined"}}).out == "Seccomp:\t0\n"


def test_seccomp_profile_of_the_nodes_own(node):
    directory = node.dir / "root" / "seccomp" / "profiles"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "no-mkdir.json").write_text(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}))
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/no-mkdir.json"}}
    for where in ({"securityContext": profile}, {"container": {"securityContext": profile}}):
        found = inside(node, "mkdir /x; touch /y && echo touched", **where)
        assert "Operation not permitted" in found.err and found.out == "touched\n"


def test_apparmor_that_the_kernel_has_not_is_refused(node):
    """By field and by annotation; Unconfined wants nothing."""
    if Path("/sys/module/apparmor/parameters/enabled").exists():
        build.skip_for_kernel("this one has AppArmor")
    profiles = ({"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "x"})
    for profile in profiles:
        for where in ("securityContext", "container"):
            context = {"appArmorProfile": profile}
            more = {"securityContext": context} if where == "securityContext" else {"container": {"securityContext": context}}
            name = start(node, "echo ran", **more)
            eventually(lambda: phase(node, name) == "Failed", 20, "the rejection")
            status = node.cli_json("inspect", f"{name}-{node.name}")["status"]
            assert status["reason"] == "AppArmor"
            assert "Cannot enforce AppArmor: AppArmor is not enabled on the host" in status["message"]
            node.remove_manifest(name)
    assert inside(node, "echo ran", securityContext={"appArmorProfile": {"type": "Unconfined"}}).out == "ran\n"
    annotated = pods.pod("annotated", pods.container("c", IMAGE, "echo ran", imagePullPolicy="Never"), restartPolicy="Never",
                         annotations={"container.apparmor.security.beta.kubernetes.io/c": "localhost/x"})
    node.add_manifest("annotated", annotated)
    eventually(lambda: phase(node, "annotated") == "Failed", 20, "the rejection")
    node.remove_manifest("annotated")


# -- /proc and /sys -------------------------------------------------------------------------------------------------------


def test_masked_and_read_only_paths(node):
    script = ("cat /proc/kcore | head -c 1 | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware /proc/scsi 2>/dev/null | grep -vc :;"
              "echo 1 > /proc/sys/kernel/msgmax; echo b > /proc/sysrq-trigger; echo 1 > /proc/irq/0/smp_affinity;"
              "mkdir /sys/fs/x; echo x > /sys/kernel/uevent_helper; mount -o remount,rw /proc/sys; umount /proc/kcore; echo end")
    found = inside(node, script)
    assert found.lines[:2] == ["0", "0"] and found.lines[-1] == "end"
    assert found.err.count("Read-only file system") >= 4 or found.err.count("denied") + found.err.count("ead-only") >= 4
    assert Path("/proc/sys/kernel/msgmax").read_text().strip() != "1"


def test_no_foreign_descriptors(node):
    """Neither at the start nor in what it starts; none of them leads out."""
    found = inside(node, "for p in /proc/[0-9]*; do ls -l $p/fd; done | grep -- '->' | sed 's/.* //' | sort | uniq")
    assert all(re.match(r"(pipe:|/dev/null$|/proc/\d+/fd$|/dev/pts|/dev/tty)", line) for line in found.lines), found.lines


def test_nothing_of_the_host_in_the_mount_table(node):
    """No mount of another pod or of the host; sources of our own directories only where volumes are."""
    found = inside(node, "cut -d' ' -f5 /proc/self/mountinfo; echo; cat /proc/self/mountinfo")
    targets = found.out.split("\n\n")[0].splitlines()
    allowed = re.compile(r"^/($|proc|sys|dev|etc/(hosts|hostname|resolv.conf)$)")
    assert all(allowed.match(t) for t in targets), targets
    assert "shared:" not in found.out


def test_own_program_cannot_be_written(node):
    """/proc/1/exe and /proc/self/exe of what runs the container lead to nothing writable of the host."""
    program = build.program("kubelite/shim/kubelite-shim") if (build.directory() / "kubelite/shim/kubelite-shim").exists() \
        else None
    before = program.read_bytes() if program else b""
    script = images.Layer().file("self", "#!/proc/self/exe\n", mode=0o755)
    image = imported(node, images.busybox().with_(layers=[script]), "selfexe")
    inside(node, "i=0; while [ $i -lt 50 ]; do /self; i=$((i+1)); : > /proc/1/exe; done 2>/dev/null; exit 0", image)
    name = start(node, None, image, container={"command": ["/self"]})
    eventually(lambda: phase(node, name) in ("Failed", "Succeeded"), 30, "its end")
    node.remove_manifest(name)
    assert not program or program.read_bytes() == before


# -- namespaces -----------------------------------------------------------------------------------------------------------


def namespaces_of(found):
    return dict(re.findall(r"(\w+) -> \w+:\[(\d+)\]", found.out))


NAMESPACES = "cd /proc/self/ns; for n in net ipc uts pid mnt cgroup user; do echo $n '->' $(readlink $n); done; ps | wc -l; id -u"


def test_groups(node):
    """The image's, the pod's and the volume's, merged or strict; as they are in the status."""
    context = {"runAsUser": 1000, "supplementalGroups": [4000], "fsGroup": 5000}
    cases = {None: ("1000", "2000", "4000", "5000"), "Merge": ("1000", "2000", "4000", "5000"), "Strict": ("1000", "4000", "5000")}
    for policy, wanted in cases.items():
        found = inside(node, "id -G; stat -c '%g %a' /v; touch /v/x; stat -c %g /v/x",
                       securityContext={**context, **({"supplementalGroupsPolicy": policy} if policy else {})},
                       container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "emptyDir": {}}])
        assert sorted(found.lines[0].split()) == sorted(wanted), policy
        assert found.lines[1:] == ["5000 2777", "5000"]
        user = found.shown["status"]["containerStatuses"][0]["user"]["linux"]
        assert (user["uid"], user["gid"], sorted(user["supplementalGroups"])) == (1000, 1000, sorted(map(int, wanted)))


def test_capabilities_of_any_spelling(node):
    """ALL is all, in any case; a prefix is allowed; what is no capability is refused."""
    for drop in ("ALL", "all", "All"):
        found = inside(node, "grep Cap /proc/self/status", container={"securityContext": {"capabilities": {
            "drop": [drop], "add": ["CAP_NET_ADMIN", "chown"]}}})
        assert capabilities(found)["Bnd"] == 1 << 12 | 1
    everything = capabilities(inside(node, "grep Cap /proc/self/status", container={"securityContext": {
        "capabilities": {"add": ["all"], "drop": ["SYS_TIME"]}}}))
    assert everything["Eff"] & DEFAULT_CAPABILITIES == DEFAULT_CAPABILITIES and everything["Eff"] & 1 << 21
    assert not everything["Eff"] & 1 << 25 and everything["Inh"] == 0
    details = waiting(node, start(node, "echo ran", container={"securityContext": {"capabilities": {"add": ["NO_SUCH"]}}}))
    assert details["reason"].startswith("CreateContainer") and "NO_SUCH" in details["message"]


def test_settings_that_do_not_go_together_are_refused(node):
    """With upstream's words and the field's path; nothing of such a pod is made."""
    cases = [({"container": {"securityContext": {"allowPrivilegeEscalation": False, "privileged": True}}},
              "spec.containers[0].securityContext: Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
             ({"container": {"securityContext": {"procMount": "Unmasked"}}}, "`hostUsers` must be false to use `Unmasked`"),
             ({"hostPID": True, "shareProcessNamespace": True}, "ShareProcessNamespace and HostPID cannot both be enabled")]
    for more, text in cases:
        name = start(node, "echo ran", **more)
        eventually(lambda: text in node.log(), 20, text)
        assert phase(node, name) is None
        node.remove_manifest(name)


def test_who_runs_is_judged_again_at_restarts(node):
    """CVE-2019-11245: the second run is as the first, and one as root stays refused."""
    image = imported(node, images.busybox().with_(user="1000"), "again")
    for context, uid in (({"runAsNonRoot": True}, "1000"), ({"runAsUser": 1234, "runAsNonRoot": True}, "1234")):
        name = start(node, "id -u; exit 1", image, container={"securityContext": context}, restartPolicy="OnFailure")
        shown = lambda: node.cli_json("inspect", f"{name}-{node.name}")  # noqa: E731
        eventually(lambda: pods.status_of(shown()).get("restartCount", 0) >= 1
                   and node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == f"{uid}\n", 30, "the second run")
        node.remove_manifest(name)


def test_namespaces(node):
    host = {n: re.search(r"\d+", os.readlink(f"/proc/self/ns/{n}"))[0] for n in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user")}
    own = namespaces_of(inside(node, NAMESPACES))
    assert {n for n in own if own[n] != host[n]} == {"net", "ipc", "uts", "pid", "mnt", "cgroup"}
    assert namespaces_of(inside(node, NAMESPACES, hostPID=True))["pid"] == host["pid"]
    assert namespaces_of(inside(node, NAMESPACES, hostIPC=True))["ipc"] == host["ipc"]
    network = namespaces_of(inside(node, NAMESPACES, hostNetwork=True))
    assert network["uts"] == host["uts"] and network["net"] == str(node.netns.inode())


def test_shared_pid_namespace(node):
    """The first process tells nothing, holds nothing, and cannot be entered; it reaps what nobody waits for."""
    script = ("grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/1/status; ls /proc/1/fd 2>&1 | wc -l; ls /proc/1/root/ 2>&1; "
              "cat /proc/1/environ /proc/1/maps 2>&1 | head -c 200; "
              "sh -c '(sleep 0.2 &)'; sleep 0.6; ps | grep -c '\\[sleep\\]'; kill -9 1; kill -TERM 1; sleep 0.2; echo alive")
    found = inside(node, script, shareProcessNamespace=True)
    assert "Uid:\t65535\t65535\t65535\t65535" in found.out and "alive" in found.out
    assert "shadow" not in found.out and "etc" not in found.lines
    assert "CapEff:\t0000000000000000" in found.out


def test_pid_namespaces_are_apart(node):
    assert int(inside(node, "ls -d /proc/[0-9]* | wc -l").out) < 6


# -- the pod's files ------------------------------------------------------------------------------------------------------


def test_shm_hostname_hosts(node):
    found = inside(node, "df -k /dev/shm | tail -1; hostname; cat /etc/hosts; cat /etc/hostname; stat -c %a /etc/hosts /etc/resolv.conf",
                   hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x.y", "z"]}])
    assert found.lines[0].split()[1] == "65536"
    assert "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n" in found.out and "1.2.3.4\tx.y\tz\n" in found.out
    assert found.lines[1] in found.lines[2:] or f"\t{found.lines[1]}\n" in found.out
    assert found.lines[-2:] == ["644", "644"]


def test_dns(node):
    settings = {"nameservers": ["1.1.1.1", "2.2.2.2"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]}
    assert inside(node, "cat /etc/resolv.conf", dnsPolicy="None", dnsConfig=settings).out == (
        "search a.b\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:2\n")


def test_read_only_root(node):
    found = inside(node, "touch /x; touch /tmp/x; touch /dev/shm/x && touch /v/x && echo end",
                   container={"securityContext": {"readOnlyRootFilesystem": True},
                              "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                   volumes=[{"name": "v", "emptyDir": {}}])
    assert found.err.count("Read-only file system") == 2 and "end" in found.out


def test_sysctls(node):
    safe = [{"name": "net/ipv4/tcp_syncookies", "value": "0"}, {"name": "net.ipv4.ip_local_port_range", "value": "20000 30000"}, {"name": "kernel.shm_rmid_forced", "value": "1"},
            {"name": "net/core/somaxconn", "value": "77"}, {"name": "kernel.msgmax", "value": "1234"}]
    found = inside(node, "cd /proc/sys; cat net/ipv4/ip_local_port_range kernel/shm_rmid_forced net/core/somaxconn kernel/msgmax net/ipv4/tcp_syncookies "
                         "net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range",
                   securityContext={"sysctls": safe})
    assert [line.split() for line in found.lines] == [["20000", "30000"], ["1"], ["77"], ["1234"], ["0"], ["0"], ["0", "2147483647"]]


def test_sysctls_that_are_not_the_pods_own_are_forbidden(node):
    cases = {"kernel.core_uses_pid": ({}, 'forbidden sysctl: "kernel.core_uses_pid" not allowlisted'),
             "kernel/core_uses_pid": ({}, 'forbidden sysctl: "kernel.core_uses_pid" not allowlisted'),
             "kernel.shm_rmid_forced": ({"hostIPC": True}, 'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled'),
             "net/ipv4/tcp_rmem": ({"hostNetwork": True}, 'forbidden sysctl: "net.ipv4.tcp_rmem" not allowed with host net enabled')}
    for key, (more, text) in cases.items():
        name = start(node, "echo ran", securityContext={"sysctls": [{"name": key, "value": "1"}]}, **more)
        eventually(lambda: phase(node, name) == "Failed", 20, "the rejection")
        status = node.cli_json("inspect", f"{name}-{node.name}")["status"]
        assert status["reason"] == "SysctlForbidden" and text in status["message"]
        node.remove_manifest(name)


@pytest.mark.parametrize("name, value", [
    ("kernel.core_pattern", "|/bin/x"), ("kernel.shm_rmid_forced+x", "1"), ("net.ipv4.tcp_syncookies\n", "1"),
    ("../../proc/sysrq-trigger", "b"), ("kernel.msg/../../sysrq-trigger", "b"),
])
def test_hostile_sysctls(node, name, value):
    """Refused at the latest by the runtime; in no case is anything written outside."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    started = start(node, "echo ran", securityContext={"sysctls": [{"name": name, "value": value}]})
    eventually(lambda: phase(node, started) == "Failed" or re.search(
        rf"({started}.yaml' is not used|{started}-.*FailedCreatePodSandBox)", node.log()), 20, "the refusal")
    assert node.cli("logs", f"{started}-{node.name}", "c", check=False).stdout == ""
    node.remove_manifest(started)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


# -- who and where --------------------------------------------------------------------------------------------------------


def test_working_directory(node):
    assert inside(node, "pwd; stat -c '%u %a' .", container={"workingDir": "/made/on/the/way"}).lines == ["/made/on/the/way", "0 755"]
    assert inside(node, "pwd", imported(node, images.busybox().with_(workdir="/tmp"), "workdir")).out == "/tmp\n"


@pytest.mark.parametrize("directory", [f"/proc/self/fd/{n}" for n in range(0, 12)] + ["/proc/1/cwd", "/proc/self/root", "/up"])
def test_working_directory_does_not_lead_out(node, directory):
    """Descriptors of whoever starts the container must not be a way to the host."""
    layer = images.Layer().symlink("up", "/proc/self/fd/7/../../../../../..")
    image = imported(node, images.busybox().with_(layers=[layer]), "linked")
    name = start(node, "pwd -P; ls -a; cat ../../../../../../etc/hostname; ls ../../../../work 2>/dev/null; ls ../../../../../root",
                 image, container={"workingDir": directory})
    eventually(lambda: phase(node, name) in ("Failed", "Succeeded"), 30, "the end")
    found = Inside(node, name)
    node.remove_manifest(name)
    assert found.reason == "StartError" or "image" in found.out, (found.reason, found.out, found.message)
    assert "vmlinuz" not in found.out and ".bashrc" not in found.out


USERS = {  # image USER -> (uid, gid) or a text of the error
    "": (0, 0), "0": (0, 0), "0:0": (0, 0), "1000": (1000, 1000), "app": (1000, 1000), "app:extra": (1000, 2000),
    "app:77": (1000, 77), "77:app": (77, 1000), "4000": (4000, 0), "nobody": (65534, 65534),
    "nosuch": "nosuch", "app:nosuch": "nosuch", "4294967296": "4294967296", "-1": "-1",
    "99999999999999999999": "99999999999999999999", "2147483648": "2147483648", "0:4294967296": "4294967296", "+0": "+0", ":": None, "app:": None, "1:2:3": "2:3",
}


@pytest.mark.parametrize("user", USERS, ids=[u or "none" for u in USERS])
def test_image_user(node, user):
    wanted = USERS[user]
    image = imported(node, images.busybox().with_(user=user), "user")
    name = start(node, "id -u; id -g", image)
    eventually(lambda: phase(node, name) in ("Failed", "Succeeded") or refused(node, name), 30, "the verdict")
    shown = node.cli_json("inspect", f"{name}-{node.name}")
    kind, details = pods.state_of(shown)
    out = node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout
    node.remove_manifest(name)
    if isinstance(wanted, tuple):
        assert tuple(map(int, out.split())) == wanted
        assert shown["status"]["containerStatuses"][0]["user"]["linux"]["uid"] == wanted[0]
    elif wanted:
        assert out == "" and wanted in details["message"], (kind, details)
    else:
        assert out == "" or out.split()[0] in ("0", "1000")


def test_endless_user_files(node):
    """/etc/passwd that is a device, a fifo, a link out, or has a line without end: no user of that name, and no harm."""
    kinds = {"fifo": images.Layer().whiteout("etc/passwd").fifo("etc/passwd"),
             "out": images.Layer().whiteout("etc/passwd").symlink("etc/passwd", "../../../../../../etc/passwd"),
             "zero": images.Layer().whiteout("etc/passwd").symlink("etc/passwd", "/dev/zero"),
             "line": images.Layer().file("etc/passwd", "x" * (3 << 20))}
    for kind, layer in kinds.items():
        image = imported(node, images.busybox().with_(layers=[layer], user="daemon"), f"users-{kind}")
        name = start(node, "id -u", image)
        eventually(lambda: phase(node, name) in ("Failed", "Succeeded") or refused(node, name), 30, kind)
        assert node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "", kind
        node.remove_manifest(name)
    for kind, layer in {"fifo": images.Layer().whiteout("etc/group").fifo("etc/group"),
                        "line": images.Layer().file("etc/group", "extra:x:" + "9" * (3 << 20))}.items():
        image = imported(node, images.busybox().with_(layers=[layer], user="app:extra"), f"groups-{kind}")
        name = start(node, "id -g", image)
        eventually(lambda: phase(node, name) in ("Failed", "Succeeded") or refused(node, name), 30, kind)
        assert node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "", kind
        node.remove_manifest(name)


def test_non_root_is_judged_by_what_would_run(node):
    context = {"securityContext": {"runAsNonRoot": True}}
    for user in ("", "0", "root", "app"):
        image = imported(node, images.busybox().with_(user=user), f"nonroot{len(user)}")
        details = waiting(node, start(node, "id -u", image, container=context))
        assert details["reason"] == "CreateContainerConfigError"
        assert ("will run as root" if user in ("", "0") else "non-numeric user") in details["message"]
    image = imported(node, images.busybox().with_(user="1000"), "nonroot1000")
    assert inside(node, "id -u", image, container=context).out == "1000\n"


def test_environment(node):
    """The image's variables are overridden by the pod's, and no reference sees them."""
    image = imported(node, images.busybox().with_(env=["PATH=/bin", "FROM=image", "KEEP=1"]), "env")
    found = inside(node, "echo $FROM $KEEP $REF $HOSTNAME; exec env", image,
                   container={"env": [{"name": "FROM", "value": "pod"}, {"name": "REF", "value": "$(KEEP)-$(FROM)-$$(FROM)"}]})
    assert found.lines[0].startswith("pod 1 $(KEEP)-pod-$(FROM) p")
    args = inside(node, None, image, container={"command": ["/bin/echo", "$(FROM)", "$(KEEP)", "$$(FROM)"],
                                                "env": [{"name": "FROM", "value": "pod"}]})
    assert args.out == "pod $(KEEP) $(FROM)\n"


# -- volumes --------------------------------------------------------------------------------------------------------------


def mount(name="v", path="/v", **more):
    return {"volumeMounts": [{"name": name, "mountPath": path, **more}]}


def test_sub_paths_stay_inside(node):
    """Links in a volume never lead a mount to the host."""
    directory = node.dir / "sub"
    (directory / "ok").mkdir(parents=True)
    (directory / "ok" / "file").write_text("inside\n")
    secret = node.dir / "secret"
    secret.write_text("outside\n")
    links = {"absolute": str(secret), "up": "../secret", "root": "/", "proc": "/proc/1/root", "chain": "up"}
    for name, target in links.items():
        (directory / name).symlink_to(target)
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    assert inside(node, "cat /v/file", container=mount(subPath="ok"), volumes=volumes).out == "inside\n"
    assert inside(node, "touch /v/x; ls -d /v", container=mount(subPath="new/deep"), volumes=volumes).out == "/v\n"
    assert (directory / "new" / "deep" / "x").exists()
    for sub in (*links, "ok/../../secret", "absolute/x", "up/../.."):
        name = start(node, "cat /v 2>/dev/null; ls -a /v; cat /v/etc/hostname", container=mount(subPath=sub), volumes=volumes)
        eventually(lambda: phase(node, name) in ("Failed", "Succeeded") or f"{name}.yaml' is not used" in node.log()
                   or refused(node, name), 30, sub)
        out = node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout
        node.remove_manifest(name)
        assert "outside" not in out and "vmlinuz" not in out and "boot" not in out, (sub, out)


HOST_PATHS = {  # type -> what it takes, as made by the test
    "": {"directory", "file", "socket", "missing"}, "Directory": {"directory"}, "DirectoryOrCreate": {"directory", "missing"},
    "File": {"file"}, "FileOrCreate": {"file", "missing"}, "Socket": {"socket"}, "CharDevice": {"device"}, "BlockDevice": set(),
}


@pytest.mark.parametrize("kind", HOST_PATHS, ids=[k or "any" for k in HOST_PATHS])
def test_host_path_types(node, kind):
    base = node.dir / f"host-{kind or 'any'}"
    base.mkdir()
    (base / "directory").mkdir()
    (base / "file").touch()
    os.mknod(base / "device", 0o600 | 0o020000, os.makedev(1, 3))
    subprocess.run(["/usr/bin/python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).bind('{base}/socket')"], check=True)
    wanted = HOST_PATHS[kind]
    names = {}
    for what in ("directory", "file", "socket", "device", "missing"):
        volumes = [{"name": "v", "hostPath": {"path": str(base / what), "type": kind}}]
        names[what] = start(node, "stat -c %F /v", container=mount(), volumes=volumes)
    ran = set()
    for what, name in names.items():
        if what in wanted or (kind == "" and what == "device"):
            eventually(lambda: phase(node, name) == "Succeeded", 30, f"{kind} takes {what}")
            ran.add(what)
        else:
            eventually(lambda: re.search(rf"{name}-.*FailedMount", node.log()), 30, f"{kind} refuses {what}")
            assert phase(node, name) == "Pending"
    for name in names.values():
        node.remove_manifest(name)
    if kind in ("", "DirectoryOrCreate"):
        assert (base / "missing").is_dir() and (base / "missing").stat().st_mode & 0o777 == 0o755
    if kind == "FileOrCreate":
        assert (base / "missing").is_file() and (base / "missing").stat().st_mode & 0o777 == 0o644


def test_empty_dir(node):
    found = inside(node, "df -k /m | tail -1; stat -f -c %T /m; stat -c %a /m /v; dd if=/dev/zero of=/m/x bs=1M count=8 2>&1",
                   container={"volumeMounts": [{"name": "m", "mountPath": "/m"}, {"name": "v", "mountPath": "/v"}]},
                   volumes=[{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}, {"name": "v", "emptyDir": {}}])
    assert found.lines[0].split()[1] == "4096" and found.lines[1] == "tmpfs"
    assert found.lines[2:4] == ["777", "777"] and "No space left" in found.out


def test_mount_propagation(node):
    directory = node.dir / "propagated"
    for name in ("none", "from", "both"):
        (directory / name).mkdir(parents=True)
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    script = "echo up; i=0; while [ $i -lt 100 ] && ! [ -e /v/from/x ]; do sleep 0.1; i=$((i+1)); done; ls /v/from"
    sees = start(node, script, container=mount(mountPropagation="HostToContainer"), volumes=volumes)
    blind = start(node, "echo up; sleep 4; ls /v/from", container=mount(), volumes=volumes)
    for name in (sees, blind):
        eventually(lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout == "up\n", 20, "start")
    subprocess.run(["mount", "-t", "tmpfs", "none", directory / "from"], check=True)
    try:
        (directory / "from" / "x").touch()
        eventually(lambda: phase(node, sees) == phase(node, blind) == "Succeeded", 30, "both ends")
        assert Inside(node, sees).out == "up\nx\n" and Inside(node, blind).out == "up\n"
    finally:
        subprocess.run(["umount", directory / "from"], check=True)
    both = start(node, "mount -t tmpfs none /v/both && touch /v/both/y && sleep 100",
                 container={**mount(mountPropagation="Bidirectional"), "securityContext": {"privileged": True}}, volumes=volumes)
    try:
        eventually(lambda: (directory / "both" / "y").exists(), 20, "the container's mount on the host")
    finally:
        for name in (sees, blind, both):
            node.remove_manifest(name)
        eventually(lambda: phase(node, both) is None, 20, "its end")
        subprocess.run(["umount", directory / "both"], check=False)


def test_recursive_read_only(node):
    directory = node.dir / "rro"
    (directory / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", directory / "below"], check=True)
    try:
        volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
        script = "touch /v/x 2>&1; touch /v/below/x 2>&1; echo end"
        plain = inside(node, script, container=mount(readOnly=True), volumes=volumes)
        assert plain.out.count("Read-only") == 1
        recursive = inside(node, script, container=mount(readOnly=True, recursiveReadOnly="Enabled"), volumes=volumes)
        assert recursive.out.count("Read-only") == 2
    finally:
        subprocess.run(["umount", directory / "below"], check=True)


# -- hostile images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "dev/null", "dev/pts", "dev/shm",
                                   "dev/termination-log"])
def test_mount_targets_that_are_links(node, where):
    """Nothing is mounted or made outside of the container."""
    canary = node.dir / f"canary-{where.replace('/', '-')}"
    canary.mkdir()
    (canary / "file").write_text("before")
    layer = images.Layer().whiteout(where)
    if "/" in where and where.startswith("dev/"):
        layer.dir("dev")
    layer.symlink(where, f"../../../../../../../..{canary}" if "." not in where else f"../../../../../../../..{canary}/file")
    image = imported(node, images.busybox().with_(layers=[layer]), "links")
    name = start(node, "echo x > /dev/termination-log; echo ran", image)
    eventually(lambda: phase(node, name) in ("Failed", "Succeeded"), 30, "the end")
    node.remove_manifest(name)
    assert sorted(os.listdir(canary)) == ["file"] and (canary / "file").read_text() == "before"
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(canary) in line]


def test_image_volumes_stay_writable(node):
    """As runtimes have it: with a read-only root, an image's VOLUMEs are where it may write; the pod's own mounts go over them."""
    layer = images.Layer().dir("data", uid=1000, gid=1000, mode=0o750).file("data/seed", "seed\n", uid=1000).symlink("link", "/data")
    volumes = ["/data", "/data/deeper/", "/new/one", "/mounted", "/proc", "/sys/x", "/dev", "/", "relative", "/link/inside"]
    image = imported(node, images.busybox().with_(layers=[layer], volumes=volumes), "volumes-ro")
    script = ("cat /data/seed; stat -c '%u %a' /data; for d in /data /data/deeper /new/one /link/inside; do touch $d/x && echo $d; done;"
              "touch /x /new/x /proc/x /sys/x; cat /mounted/name; echo; echo /proc/1 /dev/null | xargs ls -d")
    found = inside(node, script, image, container={"securityContext": {"readOnlyRootFilesystem": True},
                                                   "volumeMounts": [{"name": "info", "mountPath": "/mounted"}]},
                   volumes=[{"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}])
    assert found.lines[:6] == ["seed", "1000 750", "/data", "/data/deeper", "/new/one", "/link/inside"], (found.out, found.message)
    assert found.lines[6].startswith("p") and found.lines[-2:] == ["/dev/null", "/proc/1"]
    assert found.err.count("Read-only file system") >= 2


def test_stop_signal_of_the_image(node):
    image = imported(node, images.busybox().with_(stop_signal="SIGUSR1"), "stopped")
    name = start(node, "trap 'echo usr1; exit 0' USR1; trap 'echo term; exit 1' TERM; echo up; while :; do sleep 0.1; done", image)
    log = lambda: node.cli("logs", f"{name}-{node.name}", "c", check=False).stdout  # noqa: E731
    eventually(lambda: log() == "up\n", 30, "its start")
    follow = subprocess.Popen(node.netns.prefix() + [str(node.binary), "logs", "--state-dir", str(node.dir / "state"), "-f",
                                                     f"{name}-{node.name}", "c"], stdout=subprocess.PIPE, text=True)
    node.remove_manifest(name)
    assert follow.communicate(timeout=30)[0] == "up\nusr1\n"


def test_image_volumes_and_labels_change_nothing(node):
    image = imported(node, images.busybox().with_(volumes=["/proc", "/etc", "/../../x"],
                                                  labels={"io.kubernetes.cri.x": "$(reboot)"}), "volumes")
    assert inside(node, "cat /etc/hostname; test -d /proc/1 && echo proc", image).out.endswith("proc\n")


def test_directories_of_the_node_are_closed(node):
    """Programs with more rights in a root filesystem are out of the reach of other users of the machine."""
    layers = next((node.dir / "images" / "layers").iterdir())
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    for path in (layers, node.dir / "containers", node.dir / "state" / "pods"):
        assert subprocess.run([*nobody, "ls", path], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
    sockets = Path("/proc/net/unix").read_text()
    assert not re.search(r"@.*kubelite", sockets)
