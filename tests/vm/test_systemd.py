# SPDX-License-Identifier: Apache-2.0
"""The units under Debian's systemd, cgroup v2 and Debian's kernel: pods outlive whatever happens to the daemon.

One machine serves all tests of this file, since booting it takes most of the time.
"""

import json
import time

import pytest
import yaml

from support import images
from support.pki import Authority
from support.vm import Vm
from support.wait import eventually

UNIT = "/sys/fs/cgroup/system.slice/kubelite-pods.service"
IMAGE = "localhost/busybox:1"
LAYERS = 60  # more than what one page of mount options holds by digest


def pod(name, command, **more):
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", command], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}


WEB = pod("web", "mkdir -p /www; echo hello >/www/index.html; exec httpd -f -p 8080 -h /www",
          resources={"requests": {"memory": "8Mi"}, "limits": {"memory": "32Mi", "cpu": "500m"}})


CLIENTS = yaml.safe_dump({"authentication": {"x509": {"clientCAFile": "/root/ca.crt"}, "webhook": {"enabled": False}},
                          "authorization": {"mode": "AlwaysAllow"}})


class Machine:
    """The virtual machine with what these tests ask of it."""

    def __init__(self, vm):
        self.vm, self.run = vm, vm.run

    def put(self, path, text):
        """By rename, as everybody writes manifests."""
        self.run(f"cat >{path}.new <<'END'\n{text}\nEND\nmv {path}.new {path}")

    def add(self, manifest):
        self.put(f"/etc/kubelite/manifests/{manifest['metadata']['name']}.yaml", yaml.safe_dump(manifest))

    def pods(self):
        result = self.run("kubelite pods -o json", check=False)
        return {p["name"]: p for p in json.loads(result.output)} if result.status == 0 else {}

    def wait_ready(self, name, timeout=120):
        def ready():
            found = self.pods().get(f"{name}-vm")
            return found if found and found["ready"] else None
        return eventually(ready, timeout, f"pod {name} ready", interval=0.5)

    def containers(self, *arguments):
        return json.loads(self.run(f"kubelite ps -o json {' '.join(arguments)}").output)

    def pid(self, name):
        found = [c["pid"] for c in self.containers() if c["pod"] == f"{name}-vm"]
        assert len(found) == 1, found
        return found[0]

    def main_pid(self):
        return int(self.run("systemctl show -p MainPID --value kubelite").output)

    def wait_daemon(self, before):
        def there():
            state = self.run("systemctl is-active kubelite", check=False).output.strip()
            return state == "active" and self.main_pid() not in (0, before) and self.pods()
        eventually(there, 60, "daemon back", interval=0.3)


@pytest.fixture(scope="module")
def machine(installed, apparmor_parser, tmp_path_factory):
    archive = tmp_path_factory.mktemp("images") / "busybox.tar"
    images.busybox().write_oci_archive(archive, [IMAGE])
    many = tmp_path_factory.mktemp("images") / "layers.tar"
    layers = [images.Layer().file(f"layer/{i}", f"{i}\n") for i in range(LAYERS)]
    images.busybox().with_(layers=layers).write_oci_archive(many, ["localhost/layers:1"])
    authority = Authority(tmp_path_factory.mktemp("pki"), "clients")
    admin = authority.issue("admin")
    pki = {"root/ca.crt": authority.cert_path, "root/admin.crt": admin.cert, "root/admin.key": admin.key}
    payload = {**pki, "usr/local": installed / "usr/local", "usr/sbin/apparmor_parser": apparmor_parser, "root/busybox.tar": archive, "root/layers.tar": many}
    with Vm(payload=payload) as vm:
        vm.run("mkdir -p /etc/cni/net.d /etc/kubelite/manifests"
               " && cp /usr/local/share/doc/kubelite/10-kubelite.conflist /etc/cni/net.d"
               " && cp /usr/local/share/doc/kubelite/kubelet-config.yaml /etc/kubelite/config.yaml"
               f" && echo '{CLIENTS}' >>/etc/kubelite/config.yaml"
               " && echo KUBELITE_ARGS=--config=/etc/kubelite/config.yaml >/etc/default/kubelite"
               " && systemctl daemon-reload && systemctl enable --now kubelite")
        machine = Machine(vm)
        vm.run("kubelite import /root/busybox.tar")
        machine.add(WEB)
        machine.wait_ready("web")
        yield machine


def test_units_are_as_promised(machine):
    show = machine.run("systemctl show kubelite kubelite-pods -p Id,Names,Type,Delegate,KillMode,Restart,OOMScoreAdjust,"
                       "RefuseManualStop,StartLimitIntervalUSec,LimitCORE,WatchdogUSec,ActiveState,StatusErrno").output
    daemon, pods = (dict(line.split("=", 1) for line in part.splitlines() if "=" in line) for part in show.split("\n\n"))
    assert sorted(daemon["Names"].split()) == ["kubelet.service", "kubelite.service"]
    assert (daemon["Type"], daemon["KillMode"], daemon["Restart"], daemon["Delegate"]) == ("notify", "process", "always", "no")
    assert daemon["OOMScoreAdjust"] == "-999" and daemon["StartLimitIntervalUSec"] == "0"
    assert daemon["LimitCORE"] == "infinity" and daemon["WatchdogUSec"] == "1min"
    assert (pods["KillMode"], pods["Delegate"], pods["RefuseManualStop"]) == ("process", "yes", "yes")
    assert machine.run("systemctl stop kubelite-pods", check=False).status != 0
    assert machine.run("systemctl is-system-running").output.strip() == "running"


def test_groups_of_pods_are_beneath_the_delegated_unit(machine):
    pid = machine.pid("web")
    group = machine.run(f"cat /proc/{pid}/cgroup").output.strip()
    assert group.startswith("0::/system.slice/kubelite-pods.service/kubepods/burstable/pod"), group
    directory = "/sys/fs/cgroup" + group[3:]
    values = machine.run(f"cd {directory} && cat memory.max cpu.max memory.oom.group memory.swap.max").output.splitlines()
    assert values == [str(32 << 20), "50000 100000", "1", "0"]
    assert machine.run(f"cat {directory}/../cgroup.procs {UNIT}/cgroup.procs").output == ""
    daemon = machine.run(f"cat /proc/{machine.main_pid()}/cgroup").output.strip()
    assert daemon == "0::/system.slice/kubelite.service"


def test_summary_of_cgroup_v2(machine):
    """Figures of groups with their pressure, and the daemon's own group among the system's."""
    curl = "curl -sSk --cert /root/admin.crt --key /root/admin.key https://127.0.0.1:10250/stats/summary"
    machine.run(curl)
    found = json.loads(machine.run(f"sleep 0.2; {curl}").output)
    pod = next(p for p in found["pods"] if p["podRef"]["name"] == "web-vm")
    container = pod["containers"][0]
    memory = container["memory"]
    assert 0 < memory["workingSetBytes"] <= memory["usageBytes"]
    assert memory["availableBytes"] + memory["workingSetBytes"] == 32 << 20
    assert container["cpu"]["usageCoreNanoSeconds"] > 1_000_000 and "usageNanoCores" in container["cpu"]
    for what in ("cpu", "memory", "io"):
        assert set(container[what]["psi"]) == {"some", "full"}, "Debian's kernel has pressure"
    assert container["rootfs"]["usedBytes"] > 0 and pod["network"]["name"] == "eth0"
    system = {c["name"]: c for c in found["node"]["systemContainers"]}
    assert set(system) == {"kubelet", "pods"}
    assert 0 < system["kubelet"]["memory"]["workingSetBytes"] < 64 << 20
    node = found["node"]["memory"]
    assert node["workingSetBytes"] > system["pods"]["memory"]["workingSetBytes"] and node["availableBytes"] > 0


def test_values_of_groups(machine):
    """Weights of groups of pods on the kubelet's line, of containers on the runtimes' curve."""
    own = pod("own", "sleep 1000", resources={"requests": {"cpu": "100m"}})
    own["spec"]["resources"] = {"requests": {"cpu": "300m", "memory": "24Mi"}, "limits": {"cpu": "2", "memory": "48Mi"}}
    machine.add(own)
    machine.wait_ready("own")
    group = machine.run(f"cat /proc/{machine.pid('own')}/cgroup").output.strip()[3:]
    values = machine.run(f"cd /sys/fs/cgroup{group} && cat cpu.weight cpu.max memory.max && cd .. &&"
                         " cat cpu.weight cpu.max memory.max").output.splitlines()
    # 102 shares; then the pod's 307.
    assert values == ["17", "200000 100000", str(48 << 20), "12", "200000 100000", str(48 << 20)]
    above = machine.run(f"cd {UNIT}/kubepods && cat burstable/cpu.weight besteffort/cpu.weight").output.split()
    # web requests 500m by its limit: 819 shares together.
    assert above == ["32", "1"]
    total = int(machine.run("grep MemTotal /proc/meminfo").output.split()[1])
    limit = int(machine.run(f"cat {UNIT}/kubepods/memory.max").output)
    assert limit == (total << 10) - (64 << 20)  # systemReserved
    machine.run("rm /etc/kubelite/manifests/own.yaml")
    eventually(lambda: "own-vm" not in machine.pods(), 60, "pod gone", interval=0.5)


def test_pod_answers(machine):
    address = machine.pods()["web-vm"]["ip"]
    assert machine.run(f"curl -sS --max-time 20 http://{address}:8080/").output == "hello\n"


def test_devices_are_denied(machine):
    """The device program of cgroup v2: anything may be made, but 10:229 not opened, as /dev/null may."""
    machine.add(pod("devices", "mknod /tmp/n c 1 3 && echo x >/tmp/n && echo null works;"
                               " mknod /tmp/f c 10 229 && echo made; cat /tmp/f 2>&1; sleep 1000"))
    machine.wait_ready("devices")
    text = machine.vm.eventually("kubelite logs devices-vm | grep -q cat: && kubelite logs devices-vm", 30)
    assert text.splitlines() == ["null works", "made", "cat: can't open '/tmp/f': Operation not permitted"]
    machine.run("rm /etc/kubelite/manifests/devices.yaml")
    eventually(lambda: "devices-vm" not in machine.pods(), 60, "pod gone", interval=0.5)


def ended(machine, manifest):
    """The pod's status when it is over or does not start, and what it printed."""
    name = manifest["metadata"]["name"]
    manifest["spec"]["restartPolicy"] = "Never"
    machine.add(manifest)

    def over():
        status = json.loads(machine.run(f"kubelite inspect {name}-vm -o json", check=False).output or "{}").get("status") or {}
        waiting = [(c["state"].get("waiting") or {}).get("reason") for c in status.get("containerStatuses") or []]
        bad = [w for w in waiting if w not in (None, "ContainerCreating")]
        return status if bad or status.get("phase") in ("Succeeded", "Failed") else None
    status = eventually(over, 120, f"{name} has a verdict", interval=0.5)
    out = machine.run(f"kubelite logs {name}-vm", check=False).output
    machine.run(f"rm /etc/kubelite/manifests/{name}.yaml")
    return status, out


def test_apparmor(machine):
    """By field and by annotation, the node's profile and the administrator's; one that is not loaded runs nothing."""
    script = "cat /proc/self/attr/current; mount -t tmpfs none /mnt 2>&1 || mkdir -p /mnt && mount -t tmpfs none /mnt 2>&1 && echo mounted"
    capable = {"capabilities": {"add": ["SYS_ADMIN"]}}
    machine.vm.eventually("grep -q kubelite-default /sys/kernel/security/apparmor/profiles", 60)
    machine.put("/root/mine", "profile mine { file, capability, mount, deny /etc/hostname r, }")
    machine.run("apparmor_parser -Kr /root/mine", timeout=120)
    free = ended(machine, pod("aa-none", script, securityContext=capable))
    assert "unconfined" in free[1] and "mounted" in free[1]
    own = ended(machine, pod("aa-default", script, securityContext={**capable, "appArmorProfile": {"type": "RuntimeDefault"}}))
    assert "kubelite-default (enforce)" in own[1] and "mounted" not in own[1]
    mine = ended(machine, pod("aa-mine", "cat /etc/hostname || cat /proc/self/attr/current", securityContext={
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}}))
    assert "mine (enforce)" in mine[1] and "ermission denied" in mine[1]
    annotated = pod("aa-note", "cat /proc/self/attr/current")
    annotated["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/main": "localhost/mine"}
    assert "mine (enforce)" in ended(machine, annotated)[1]
    missing = ended(machine, pod("aa-missing", "echo ran", securityContext={
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "nope"}}))
    waiting = missing[0]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerError" and "apparmor profile not found nope" in waiting["message"]
    assert "ran" not in missing[1].split()


def test_user_namespaces_need_a_newer_kernel(machine):
    """6.1 cannot map ids of tmpfs: such a pod is told so and nothing of it runs."""
    manifest = pod("userns", "echo ran")
    manifest["spec"]["hostUsers"] = False
    machine.add(manifest)
    machine.vm.eventually("journalctl -u kubelite --no-pager | grep -q 'FailedCreatePodSandBox.*does not support user namespaces.*6[.]3'", 60)
    assert machine.pods()["userns-vm"]["phase"] == "Pending"
    machine.run("rm /etc/kubelite/manifests/userns.yaml")


def test_image_of_many_layers(machine):
    """This kernel's overlay takes all layers in one page of options."""
    machine.run("kubelite import /root/layers.tar", timeout=240)
    manifest = pod("layers", "ls /layer | wc -l; sleep 1000")
    manifest["spec"]["containers"][0]["image"] = "localhost/layers:1"
    machine.add(manifest)
    machine.wait_ready("layers")
    assert machine.vm.eventually(f"kubelite logs layers-vm | grep {LAYERS}", 30).strip() == str(LAYERS)
    machine.run("rm /etc/kubelite/manifests/layers.yaml")
    eventually(lambda: "layers-vm" not in machine.pods(), 60, "pod gone", interval=0.5)


def test_restarts_leave_pods_alone(machine):
    pid = machine.pid("web")
    for _ in range(4):
        before = machine.main_pid()
        machine.run("systemctl restart kubelite")
        machine.wait_daemon(before)
        assert machine.pid("web") == pid
    assert machine.run("systemctl show -p Result,NRestarts --value kubelite").output.split() == ["success", "0"]
    assert machine.wait_ready("web")["restarts"] == 0


def test_killed_daemon_comes_back(machine):
    pid = machine.pid("web")
    for _ in range(3):
        before = machine.main_pid()
        machine.run(f"kill -9 {before}")
        machine.wait_daemon(before)
        assert machine.pid("web") == pid
    assert machine.wait_ready("web")["restarts"] == 0


def test_stop_and_start(machine):
    pid = machine.pid("web")
    machine.run("systemctl stop kubelite")
    assert machine.run(f"cat /proc/{pid}/comm").output == "httpd\n"
    machine.run("systemctl start kubelite")
    assert machine.wait_ready("web")["restarts"] == 0 and machine.pid("web") == pid


def test_killed_container_is_restarted(machine):
    machine.run(f"kill -9 {machine.pid('web')}")
    eventually(lambda: machine.pods()["web-vm"]["restarts"] == 1, 60, "restart counted", interval=0.3)
    machine.wait_ready("web")


def test_killed_shim(machine):
    """Everything in the pod's groups ends with it; the pod comes back."""
    group = machine.run(f"cat /proc/{machine.pid('web')}/cgroup").output.strip()[3:].rpartition("/")[0]
    before = machine.pods()["web-vm"]["id"]
    machine.run(f"kill -9 $(head -n 1 /sys/fs/cgroup{group}/shim/cgroup.procs)")
    eventually(lambda: machine.pods()["web-vm"]["id"] not in ("", before), 60, "a new sandbox", interval=0.3)
    machine.wait_ready("web")
    assert len(machine.run("pidof httpd").output.split()) == 1


def test_daemon_starts_without_the_holder(machine):
    """The unit of the pods has failed, but its groups are there and full: a restart of the daemon still works."""
    pid = machine.pid("web")
    machine.run("kill -9 $(systemctl show -p MainPID --value kubelite-pods)")
    time.sleep(1)
    before = machine.main_pid()
    machine.run("systemctl restart kubelite")
    machine.wait_daemon(before)
    assert machine.pid("web") == pid


@pytest.mark.parametrize("hard", [False, True], ids=["orderly", "hard"])
def test_reboot(machine, hard):
    """Static pods return; nothing of the boot before is left."""
    old = machine.wait_ready("web")["id"]
    machine.vm.reboot(hard=hard, timeout=480)
    assert "Waiting for process" not in machine.vm.console()
    new = machine.wait_ready("web")
    assert new["id"] != old
    netns = machine.run("ls /run/netns").output.split()
    assert netns == [new["id"]]
    assert machine.run("ls /run/kubelite/pods").output.split() == [new["uid"]]
    running = [c["id"] for c in machine.containers()]
    eventually(lambda: machine.run("ls /var/lib/kubelite/containers").output.split() == running, 30, "only layers in use")
    assert [n[:64] for n in machine.run("ls /var/lib/kubelite/cni").output.split() if len(n) > 64] == [new["id"]]
    leases = [n for n in machine.run("ls /var/lib/cni/networks/kubelite").output.split() if n[0].isdigit()]
    assert leases == [new["ip"]]
    assert len(machine.run("ip -o link show type veth").output.splitlines()) == 1
    assert machine.run("systemctl is-active kubelite-pods").output == "active\n"
    assert machine.run(f"curl -sS --max-time 20 http://{new['ip']}:8080/").output == "hello\n"
