# SPDX-License-Identifier: Apache-2.0
"""Crash-only: the daemon, shims or both are killed at any moment; containers go on, or end and are restarted by policy."""

import json
import os
import re
import shutil
import signal
import threading
import time

import pytest

from support import build, cgroups, images, pods, scratch
from support.faulty import FaultyRegistry
from support.registry import Registry
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
SLEEP = "sleep 100000"


@pytest.fixture
def node(fake_api, make_node, busybox):
    """A node joined to a stand-in API server, with busybox:1."""
    return joined(make_node, fake_api, busybox)


def joined(make_node, fake_api, busybox, **kwargs):
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, **kwargs)
    node.import_image(busybox, IMAGE)
    return node


def sleeper(node, name="p", script=SLEEP, container=None, **spec):
    return pods.pod(name, pods.container("c", IMAGE, script, **(container or {})), node=node.name, **spec)


def run(node, pod, until=None):
    return pods.run(node.cluster.admin, pod, until)


def get(node, pod):
    return node.cluster.admin.get(pods.path(pod))


def wait_for(node, pod, predicate, what=None, timeout=60):
    return node.cluster.admin.wait_for(pods.path(pod), predicate, timeout, what)


def group_of(node, uid):
    """The paths of a pod's control group, one in each hierarchy."""
    return [g for g in cgroups.groups(node.cgroup) if g.name == f"pod{uid}"]


def processes_of(node, uid, leaf=""):
    found = set()
    for group in group_of(node, uid):
        for directory, _, _ in os.walk(group / leaf):
            try:
                with open(f"{directory}/cgroup.procs", encoding="ascii") as f:
                    found.update(int(p) for p in f.read().split())
            except OSError:
                pass
    return found


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def shim_of(node, uid):
    """The shim itself: of the processes in its leaf, the one that none of them started."""
    mine = processes_of(node, uid, "shim")
    [shim] = [p for p in mine if parent(p) not in mine]
    return shim


def containers_processes(node, uid):
    return processes_of(node, uid) - processes_of(node, uid, "shim")


def alive(pids):
    return {p for p in pids if os.path.exists(f"/proc/{p}") and not is_zombie(p)}


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def identity(pod, name="c"):
    """What changes when a container restarts."""
    status = pods.status_of(pod, name)
    return status["containerID"], status["restartCount"], status["state"]["running"]["startedAt"], pod["status"].get("podIP")


class Watching:
    """Collects the watch events of all pods while it is open."""

    def __init__(self, api):
        self.api, self.version = api, api.store.version

    def unready(self):
        """Events by which a pod that was Ready is not."""
        with self.api.store.changed:
            events = [e for e in self.api.store.events if e[0] > self.version and e[1][1] == "pods" and e[4]]
        return [item["status"] for _, _, kind, item, old in events
                if kind == "MODIFIED" and pods.ready(old) and not pods.ready(item)]


# -- the daemon -----------------------------------------------------------------------------------------------------------


def test_killed_daemon_changes_nothing(node, fake_api):
    """Five times, the last one without a pause; containers, statuses and addresses stay."""
    plain = run(node, sleeper(node, "plain"))
    host = run(node, sleeper(node, "host", hostNetwork=True))
    shared = run(node, sleeper(node, "shared", shareProcessNamespace=True))
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    steps = run(node, sleeper(node, "steps", container=mounts, volumes=volumes,
                              initContainers=[pods.container("i", IMAGE, "true", **mounts)]))
    node.add_manifest("static", pods.pod("static", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    mirror = fake_api.admin.wait_for(pods.path(pods.pod(f"static-{node.name}")), pods.ready)
    all_pods = [plain, host, shared, steps, mirror]
    before = {p["metadata"]["name"]: identity(p) for p in all_pods}
    ran = {p["metadata"]["uid"]: processes_of(node, p["metadata"]["uid"]) for p in all_pods}
    watching = Watching(fake_api)
    for pause in (0, 1.5, 0, 0, 0):
        node.kill9()
        time.sleep(pause)
        node.start()
    node.wait_pods(lambda found: len(found) == 5 and all(p["ready"] for p in found), what="all pods ready")
    for p in all_pods:
        assert identity(get(node, p)) == before[p["metadata"]["name"]]
    assert {u: processes_of(node, u) for u in ran} == ran
    assert not watching.unready()
    # The one that knows of them by adoption alone can still tear them down.
    for p in all_pods[:4]:
        pods.delete(fake_api.admin, p)
    node.remove_manifest("static")
    fake_api.admin.wait_for(pods.path(mirror), lambda p: p is None)


def test_ends_while_the_daemon_is_dead(node):
    """Exit statuses are kept for the next one; restarts wait for it."""
    gate = "while [ ! -e /go/$NAME ]; do sleep 0.05; done; rm /go/$NAME; exit 7"
    directory = node.dir / "go"
    directory.mkdir()
    more = {"volumes": [{"name": "go", "hostPath": {"path": str(directory)}}]}
    mount = {"volumeMounts": [{"name": "go", "mountPath": "/go"}],
             "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}
    never = run(node, sleeper(node, "never", gate, mount, restartPolicy="Never", **more))
    always = run(node, sleeper(node, "always", gate, mount, **more))
    node.kill9()
    for pod in (never, always):
        (directory / pod["metadata"]["name"]).touch()
    for pod in (never, always):
        eventually(lambda: not containers_processes(node, pod["metadata"]["uid"]), 10, "the container's end")
    node.start()
    ended = wait_for(node, never, lambda p: pods.phase(p) == "Failed")
    assert pods.state_of(ended)[1]["exitCode"] == 7
    again = wait_for(node, always, lambda p: pods.ready(p) and pods.status_of(p)["restartCount"] == 1)
    assert pods.status_of(again)["lastState"]["terminated"]["exitCode"] == 7


def test_killed_while_pulling(fake_api, make_node):
    base = images.busybox()
    padding = images.Layer("none").file("padding", os.urandom(4 << 20))
    with Registry(fake_api.netns) as registry, FaultyRegistry(registry) as faulty:
        registry.push(base.with_(layers=[padding]), "slow", "1")
        node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
        faulty.fail("slow", "/blobs/", rate=200000)
        pod = pods.pod("p", pods.container("c", f"{faulty.host}/slow:1", SLEEP), node=node.name)
        fake_api.admin.post(pods.collection(), pod)
        eventually(lambda: len(faulty.recorded("/blobs/")) >= 2, 20, "the pull")
        node.kill9()
        faulty.clear()
        node.start()
        seen = wait_for(node, pod, pods.ready)
        assert pods.status_of(seen)["restartCount"] == 0
        pods.delete(fake_api.admin, pod)


@pytest.fixture
def slow_plugins(tmp_path):
    """A plugin directory in which `bridge ADD` takes its time while the file "slow" exists; "calls" lists its verbs."""
    for plugin in build.plugins().iterdir():
        if os.access(plugin, os.X_OK) and plugin.is_file() and plugin.name != "bridge":
            (tmp_path / plugin.name).symlink_to(plugin)
    (tmp_path / "bridge").write_text(f"""#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >>{tmp_path}/calls
if [ "$CNI_COMMAND" = ADD ] && [ -e {tmp_path}/slow ]; then
        cat >{tmp_path}/input.$$
        sleep 2
        exec {build.plugins()}/bridge <{tmp_path}/input.$$
fi
exec {build.plugins()}/bridge
""")
    (tmp_path / "bridge").chmod(0o755)
    return tmp_path


def calls(directory, verb):
    path = directory / "calls"
    return [line.split()[1] for line in (path.read_text() if path.exists() else "").splitlines() if line.startswith(verb)]


def test_killed_while_wiring(fake_api, make_node, busybox, slow_plugins):
    """The plugin that the dead daemon started is waited for, what it made is taken back, then comes a new attempt."""
    node = joined(make_node, fake_api, busybox, plugins=str(slow_plugins))
    (slow_plugins / "slow").touch()
    pod = sleeper(node)
    fake_api.admin.post(pods.collection(), pod)
    [first] = eventually(lambda: calls(slow_plugins, "ADD"), 20, "the plugin")
    node.kill9()
    (slow_plugins / "slow").unlink()
    node.start()
    seen = wait_for(node, pod, pods.ready)
    assert pods.status_of(seen)["restartCount"] == 0
    assert first in calls(slow_plugins, "DEL")
    leases = [p.name for p in (node.dir / "cni-data").glob("*/10.*")]
    assert leases == [seen["status"]["podIP"]]


@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3])
def test_killed_while_starting(node, fake_api, delay):
    """Eight pods at once; each container starts once, and the network knows each pod once."""
    wanted = [sleeper(node, f"p{i}") for i in range(8)]
    for pod in wanted:
        fake_api.admin.post(pods.collection(), pod)
    time.sleep(delay)  # the moment is the parameter
    node.kill9()
    node.start()
    for pod in wanted:
        seen = wait_for(node, pod, pods.ready)
        assert pods.status_of(seen)["restartCount"] == 0
        assert len(containers_processes(node, seen["metadata"]["uid"])) == 1
    addresses = {get(node, p)["status"]["podIP"] for p in wanted}
    assert len(addresses) == 8
    eventually(lambda: {p.name for p in (node.dir / "cni-data").glob("*/10.*")} == addresses, 20, "one address a pod")


@pytest.mark.parametrize("delay", [0, 0.05, 1.1, 1.3])
def test_killed_while_stopping(node, fake_api, delay):
    stubborn = sleeper(node, "stubborn", "trap '' TERM; while :; do sleep 1; done")
    willing = sleeper(node, "willing", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    for pod in (stubborn, willing):
        run(node, pod)
    for pod in (stubborn, willing):
        fake_api.admin.delete(pods.path(pod))
    time.sleep(delay)
    node.kill9()
    node.start()
    for pod in (stubborn, willing):
        wait_for(node, pod, lambda p: p is None, timeout=20)


def test_what_was_wanted_changes_while_the_daemon_is_dead(node, fake_api):
    """A pod deleted by force, one deleted with grace, one added; a manifest removed, one edited."""
    forced, graceful, added = (sleeper(node, n) for n in ("forced", "graceful", "added"))
    for pod in (forced, graceful):
        run(node, pod)
    static = lambda seconds: pods.pod("edited", pods.container("c", IMAGE, f"sleep {seconds}", imagePullPolicy="Never"))  # noqa: E731
    node.add_manifest("edited", static(1000))
    node.add_manifest("removed", pods.pod("removed", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    node.wait_pods(lambda found: len([p for p in found if p["ready"]]) == 4)
    node.kill9()
    fake_api.admin.delete(pods.path(forced), 0)
    fake_api.admin.delete(pods.path(graceful))
    fake_api.admin.post(pods.collection(), added)
    node.remove_manifest("removed")
    node.add_manifest("edited", static(2000))
    node.start()
    wait_for(node, graceful, lambda p: p is None)
    wait_for(node, added, pods.ready)
    mirror = pods.path(pods.pod(f"edited-{node.name}"))
    fake_api.admin.wait_for(
        mirror, lambda p: p and p["spec"]["containers"][0]["command"][2] == "sleep 2000" and pods.ready(p), 60)
    node.wait_pods(lambda found: sorted(p["name"] for p in found) == ["added", f"edited-{node.name}"])


def test_no_api_server_at_the_restart(node, fake_api):
    """Without one nobody may conclude that a pod is not wanted."""
    seen = run(node, sleeper(node))
    uid = seen["metadata"]["uid"]
    ran = processes_of(node, uid)
    fake_api.close()
    node.kill9()
    node.start(ready=False)
    time.sleep(3)
    assert processes_of(node, uid) == ran
    fake_api.open()
    watching = Watching(fake_api)
    fake_api.admin.wait_for(f"/api/v1/nodes/{node.name}", lambda n: n, 60)
    node.wait_pods(lambda found: found and found[0]["ready"])
    assert identity(get(node, seen)) == identity(seen)
    assert processes_of(node, uid) == ran and not watching.unready()


# -- shims ----------------------------------------------------------------------------------------------------------------


def lost(pod):
    """A container was restarted because nobody knows what became of it."""
    last = (pods.status_of(pod).get("lastState") or {}).get("terminated") or {}
    return pods.ready(pod) and last.get("reason") == "ContainerStatusUnknown" and last["exitCode"] == 137


ENTRYPOINTS = {
    "plain": (SLEEP, {}),
    # A death signal does not reach what changes its user and executes something.
    "setuid": (f"exec su app -s /bin/sh -c '{SLEEP}'", {}),
    "daemon on the host's pids": (f"(setsid sh -c '{SLEEP}; true' &) ; {SLEEP}", {"hostPID": True}),
    "fork bomb": ("b() { b | b & }; b; while :; do sleep 1; done", {}),
    "frozen": (SLEEP, {}),
    "shared pids": (SLEEP, {"shareProcessNamespace": True}),
    "no network of its own": (SLEEP, {"hostNetwork": True}),
}


@pytest.mark.parametrize("together", [False, True], ids=["shim", "shim and daemon"])
@pytest.mark.parametrize("entrypoint", ENTRYPOINTS)
def test_killed_shim(fake_api, make_node, busybox, entrypoint, together):
    """All processes of the pod end, whatever they are; the container comes back."""
    script, spec = ENTRYPOINTS[entrypoint]
    node = joined(make_node, fake_api, busybox, config={"podPidsLimit": 100})
    seen = run(node, sleeper(node, script=script, **spec))
    uid = seen["metadata"]["uid"]
    before = processes_of(node, uid)
    if entrypoint == "frozen":
        freeze(node, uid)
    if together:
        node.kill9()
    os.kill(shim_of(node, uid), signal.SIGKILL)
    if together:
        node.start(ready=False)
    after = wait_for(node, seen, lost)
    assert pods.status_of(after)["restartCount"] == 1
    eventually(lambda: not alive(before), 20, "the old processes' end")
    if entrypoint == "daemon on the host's pids":
        assert len(containers_processes(node, uid)) >= 2
    eventually(lambda: "SandboxChanged" in pods.event_reasons(fake_api.admin, seen) or together, 15)


def freeze(node, uid):
    for group in group_of(node, uid):
        for leaf in [p for p in group.iterdir() if p.is_dir() and p.name != "shim"]:
            for file, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
                if (leaf / file).exists():
                    (leaf / file).write_text(word)


@pytest.mark.parametrize("together", [False, True], ids=["shim", "shim and daemon"])
def test_killed_shim_of_a_pod_that_never_restarts(node, together):
    seen = run(node, sleeper(node, restartPolicy="Never"))
    if together:
        node.kill9()
    os.kill(shim_of(node, seen["metadata"]["uid"]), signal.SIGKILL)
    if together:
        node.start()
    after = wait_for(node, seen, lambda p: pods.phase(p) == "Failed")
    kind, details = pods.state_of(after)
    assert (kind, details["reason"], details["exitCode"]) == ("terminated", "ContainerStatusUnknown", 137)
    assert details["finishedAt"] and pods.status_of(after)["restartCount"] == 0


def test_exit_status_survives_the_shim(node):
    """What ended before the shim was killed keeps its own end."""
    fine = pods.container("fine", IMAGE, "exit 0")
    pod = pods.pod("p", pods.container("c", IMAGE, SLEEP), fine, node=node.name, restartPolicy="Never")
    seen = run(node, pod, lambda p: pods.state_of(p, "fine")[0] == "terminated" and pods.state_of(p)[0] == "running")
    os.kill(shim_of(node, seen["metadata"]["uid"]), signal.SIGKILL)
    after = wait_for(node, pod, lambda p: pods.phase(p) == "Failed")
    assert pods.state_of(after, "fine")[1]["reason"] == "Completed"
    assert pods.state_of(after)[1]["reason"] == "ContainerStatusUnknown"


def test_killed_log_writer(node):
    """The shim starts another one; the container notices nothing, and later lines are in the log."""
    seen = run(node, sleeper(node, script="i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"))
    uid = seen["metadata"]["uid"]
    shim = shim_of(node, uid)
    log = lambda: node.cli("logs", "-n", "default", "p", "c").stdout.split("\n")  # noqa: E731
    eventually(lambda: len(log()) > 5, 10, "lines")
    for pid in processes_of(node, uid, "shim") - {shim}:
        os.kill(pid, signal.SIGKILL)
    n = len(log())
    eventually(lambda: len(log()) > n + 10, 15, "more lines")
    assert identity(get(node, seen)) == identity(seen)


def test_container_that_floods_its_log_survives_the_daemon(node):
    """Nothing of the daemon is in the way of output."""
    seen = run(node, sleeper(node, script="while :; do echo 0123456789; done"))
    log = next((node.dir / "logs").glob("*/c/0.log"))
    node.kill9()
    size = log.stat().st_size
    eventually(lambda: log.stat().st_size > size + (1 << 20), 20, "a megabyte of lines")
    node.start()
    assert identity(get(node, seen)) == identity(seen)


# -- reboots --------------------------------------------------------------------------------------------------------------


def end_all(node):
    """As a reboot does it: every process of pods, then their mounts and namespaces are gone."""
    def gone():
        for pid in cgroups.processes(node.cgroup):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not cgroups.processes(node.cgroup)
    eventually(gone, 10, "all processes of pods gone")


def reboot(node):
    node.kill9()
    end_all(node)
    for record in (node.dir / "state").glob("pods/*/sandbox.json"):
        text = record.read_text()
        assert "bootId" in text
        record.write_text(re.sub(r'"bootId":"[^"]*"', '"bootId":"00000000-0000-0000-0000-000000000000"', text))


def test_another_boot(node, fake_api):
    """Static pods come back by themselves, those of the API by it."""
    seen = run(node, sleeper(node))
    never = run(node, sleeper(node, "never", restartPolicy="Never"))
    node.add_manifest("static", pods.pod("static", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    mirror = pods.path(pods.pod(f"static-{node.name}"))
    old = fake_api.admin.wait_for(mirror, pods.ready)
    reboot(node)
    node.start()
    after = wait_for(node, seen, lost)
    assert pods.status_of(after)["restartCount"] == 1
    fake_api.admin.wait_for(mirror, lambda p: lost(p) and p["metadata"]["uid"] == old["metadata"]["uid"], 60)
    assert pods.phase(wait_for(node, never, lambda p: pods.phase(p) == "Failed")) == "Failed"


def test_another_boot_alone(standalone):
    standalone.add_manifest("p", pods.pod("p", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    ready = lambda found: found and found[0]["ready"]  # noqa: E731
    [before] = standalone.wait_pods(ready)
    reboot(standalone)
    standalone.start()
    [after] = standalone.wait_pods(ready)
    assert after["id"] != before["id"] and after["restarts"] == before["restarts"] + 1


@pytest.mark.parametrize("running", [False, True], ids=["after a reboot", "under running pods"])
def test_state_directory_removed(node, fake_api, running):
    """What runs on nobody's record ends; what is wanted starts anew."""
    seen = run(node, sleeper(node))
    node.add_manifest("static", pods.pod("static", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    fake_api.admin.wait_for(pods.path(pods.pod(f"static-{node.name}")), pods.ready)
    before = processes_of(node, seen["metadata"]["uid"])
    old = pods.status_of(seen)["containerID"]
    node.kill9()
    if not running:
        end_all(node)
    scratch.unmount_below(node.dir / "state")
    shutil.rmtree(node.dir / "state")
    node.start()
    wait_for(node, seen, lambda p: pods.ready(p) and pods.status_of(p)["containerID"] != old)
    fake_api.admin.wait_for(pods.path(pods.pod(f"static-{node.name}")), pods.ready)
    eventually(lambda: not alive(before), 20, "the old processes' end")


def test_damaged_records(node):
    """Records that cannot be read cost their pod a restart, never the daemon."""
    first, second = run(node, sleeper(node, "first")), run(node, sleeper(node, "second"))
    old = pods.status_of(first)["containerID"]
    node.kill9()
    directory = node.dir / "state" / "pods" / first["metadata"]["uid"]
    (directory / "sandbox.json").write_text('{"schema":1,"bootId":')
    for name in ("not-a-pod", "x" * 200):
        (node.dir / "state" / "pods" / name).mkdir()
    node.start()
    wait_for(node, first, lambda p: pods.ready(p) and pods.status_of(p)["containerID"] != old)
    assert identity(get(node, second)) == identity(second)


def test_kills_all_the_time(node, fake_api):
    """Pods come and go while the daemon is killed again and again; in the end all is well."""
    stop = threading.Event()
    names = (f"q{i}" for i in range(1000))

    def churn():
        while not stop.is_set():
            pod = sleeper(node, next(names), script="trap 'exit 0' TERM; while :; do sleep 0.1; done")
            fake_api.admin.post(pods.collection(), pod)
            time.sleep(0.3)
            fake_api.admin.delete(pods.path(pod))
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        stays = run(node, sleeper(node, "stays"))
        for i in range(8):
            time.sleep(0.15 * i)
            node.kill9()
            node.start(ready=False)
    finally:
        stop.set()
        thread.join()
    node.wait_pods(lambda found: [p["name"] for p in found] == ["stays"], 90)
    assert identity(get(node, stays)) == identity(stays)


def test_records_say_their_version(node):
    seen = run(node, sleeper(node))
    record = node.dir / "state" / "pods" / seen["metadata"]["uid"] / "sandbox.json"
    assert json.loads(record.read_text())["schema"] == 1
