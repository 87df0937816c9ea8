# SPDX-License-Identifier: Apache-2.0
"""Input that is wrong in every way: a clear error each time, and everything else goes on."""

import json
import os
import subprocess
import time

import pytest

from support import build, images, pods
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
SLEEP = "sleep 100000"


@pytest.fixture
def node(fake_api, make_node, busybox):
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns)
    node.import_image(busybox, IMAGE)
    return node


def sleeper(node, name="p", script=SLEEP, image=IMAGE, container=None, **spec):
    return pods.pod(name, pods.container("c", image, script, **(container or {})), node=node.name, **spec)


def identity(pod):
    status = pods.status_of(pod)
    return status["containerID"], status["restartCount"], status["state"]["running"]["startedAt"]


def event(node, pod, reason, timeout=30):
    """Waits for an event about the pod; its message."""
    def check():
        return [e["message"] for e in pods.events(node.cluster.admin, pod) if e["reason"] == reason]
    return eventually(check, timeout, f"event {reason}")[0]


# -- pods -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 2000])
def test_pod_with_so_many_containers(node, fake_api, n):
    """Told in its status and by an event, and it can be deleted."""
    good = pods.run(fake_api.admin, sleeper(node, "good"))
    bad = pods.pod("bad", *[pods.container(f"c{i}", IMAGE, "true") for i in range(n)], node=node.name)
    seen = pods.run(fake_api.admin, bad, lambda p: pods.phase(p) == "Failed")
    assert "spec.containers" in seen["status"]["message"]
    assert "spec.containers" in event(node, bad, "FailedValidation")
    pods.delete(fake_api.admin, bad, timeout=20)
    assert identity(fake_api.admin.get(pods.path(good))) == identity(good)


def test_undecodable_pod_that_goes_while_the_daemon_is_dead(node, fake_api):
    bad = pods.pod("bad", node=node.name)
    pods.run(fake_api.admin, bad, lambda p: pods.phase(p) == "Failed")
    node.kill9()
    fake_api.admin.delete(pods.path(bad))
    node.start()
    fake_api.admin.wait_for(pods.path(bad), lambda p: p is None, 20)


@pytest.mark.parametrize("how", ["volume type", "name", "uid", "no spec", "numbers"])
def test_pods_that_no_server_would_let_through(node, fake_api, how):
    """A server with a fault, or one of another make."""
    bad = sleeper(node, "bad")
    if how == "volume type":
        bad["spec"]["volumes"] = [{"name": "v", "gitRepo": {"repository": "https://x"}}]
        bad["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    elif how == "name":
        bad["metadata"]["name"] = "..%2f..%2fetc"
    elif how == "no spec":
        bad["spec"] = {"nodeName": node.name}
    elif how == "numbers":
        bad["spec"]["terminationGracePeriodSeconds"] = "soon"
        bad["spec"]["containers"][0]["ports"] = [{"containerPort": 99999}]
    made = fake_api.create(pods.collection(), bad)
    if how == "uid":
        with fake_api.store.changed:
            item = fake_api.store.objects[("", "pods", "default", "bad")]
            item["metadata"]["uid"] = "../../../../tmp/x"
            fake_api.store.put(("", "pods", "default", "bad"), item, "MODIFIED")
    good = pods.run(fake_api.admin, sleeper(node, "good"))
    assert pods.ready(good) and node.healthy()
    assert not [p for p in node.ps() if p["pod"] != "good"]
    fake_api.store.put(("", "pods", "default", made["metadata"]["name"]), made, "DELETED")


# -- images and entrypoints -----------------------------------------------------------------------------------------------


ENTRYPOINTS = {
    "missing": (["/no/such"], "no such file"), "not executable": (["/etc/passwd"], "ermission denied"),
    "a directory": (["/etc"], ""), "no interpreter": (["/script"], "no such file"), "no program": (["/text"], ""),
    "not in PATH": (["nosuch"], "not found"), "empty": ([""], ""), "a fifo": (["/fifo"], ""),
}


@pytest.mark.parametrize("kind", ENTRYPOINTS)
def test_entrypoints(node, fake_api, busybox, kind):
    layer = (images.Layer().file("script", "#!/no/interpreter\n", mode=0o755).file("text", "\x01\x02\x03 no program", mode=0o755)
             .fifo("fifo", mode=0o755))
    node.import_image(busybox.with_(layers=[layer]), "docker.io/library/odd:1")
    command, text = ENTRYPOINTS[kind]
    pod = sleeper(node, script=command, image="docker.io/library/odd:1", restartPolicy="Never")
    seen = pods.run(fake_api.admin, pod, lambda p: pods.phase(p) == "Failed")
    details = pods.state_of(seen)[1]
    assert (details["reason"], details["exitCode"]) == ("StartError", 128)
    assert text in details["message"] and command[0] in details["message"]
    assert details["message"] in event(node, pod, "Failed")


def test_user_that_is_not_in_the_image(node, fake_api, busybox):
    node.import_image(busybox.with_(user="nosuch"), "docker.io/library/user:1")
    pod = sleeper(node, image="docker.io/library/user:1", restartPolicy="Never")
    seen = pods.run(fake_api.admin, pod, lambda p: pods.phase(p) == "Failed")
    assert pods.state_of(seen)[1]["message"] == "unable to find user nosuch: no matching entries in passwd file"


# -- CNI plugins ----------------------------------------------------------------------------------------------------------


PLUGINS = {
    "crashes": ("kill -SEGV $$", "signal 11"),
    "half a JSON": ('echo \'{"cniVersion":"1.0.0","ips":[{"addr\'; exit 0', ""),
    "no JSON": ("echo hello; exit 0", ""),
    "nothing": ("exit 0", ""),
    "an error of its own": ('echo \'{"cniVersion":"1.0.0","code":11,"msg":"no cable","details":"plug it in"}\'; exit 1', "no cable"),
    "an error without JSON": ("echo broken >&2; exit 3", "broken"),
    "ten megabytes": ("head -c 10000000 /dev/zero | tr '\\0' x; exit 0", ""),
    "hangs": ("exec sleep 1000", ""),
}


@pytest.fixture
def odd_plugins(tmp_path):
    for plugin in build.plugins().iterdir():
        if os.access(plugin, os.X_OK) and plugin.is_file() and plugin.name != "bridge":
            (tmp_path / plugin.name).symlink_to(plugin)
    return tmp_path


def plugin(directory, add):
    """A bridge whose ADD is a script; its other verbs are the real ones'."""
    temporary = directory / ".bridge"
    temporary.write_text(f"""#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then
        cat >/dev/null
        {add}
fi
exec {build.plugins()}/bridge
""")
    temporary.chmod(0o755)
    temporary.rename(directory / "bridge")


def repair(directory):
    (directory / ".real").symlink_to(build.plugins() / "bridge")
    (directory / ".real").rename(directory / "bridge")


@pytest.mark.parametrize("kind", [k for k in PLUGINS if k != "hangs"] + ["missing"])
def test_plugins(fake_api, make_node, busybox, odd_plugins, kind):
    """The event says which plugin and why; pods with the host's network run, and all do once it is repaired."""
    if kind != "missing":
        plugin(odd_plugins, PLUGINS[kind][0])
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, plugins=str(odd_plugins))
    node.import_image(busybox, IMAGE)
    pod = sleeper(node)
    fake_api.admin.post(pods.collection(), pod)
    pods.run(fake_api.admin, sleeper(node, "host", hostNetwork=True))
    if kind == "missing":
        text = "bridge"
        message = eventually(lambda: [e["message"] for e in pods.events(fake_api.admin, pod)], 30, "an event")[0]
    else:
        text = PLUGINS[kind][1]
        message = event(node, pod, "FailedCreatePodSandBox")
        assert message.startswith("Failed to create pod sandbox: ") and 'plugin type="bridge"' in message
    assert text in message
    repair(odd_plugins)
    fake_api.admin.wait_for(pods.path(pod), pods.ready, 60)


def test_plugin_that_hangs_holds_up_nobody(fake_api, make_node, busybox, odd_plugins):
    plugin(odd_plugins, PLUGINS["hangs"][0])
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, plugins=str(odd_plugins))
    node.import_image(busybox, IMAGE)
    pod = sleeper(node)
    fake_api.admin.post(pods.collection(), pod)
    for i in range(3):
        pods.run(fake_api.admin, sleeper(node, f"host{i}", hostNetwork=True), timeout=20)
    # It is deleted in the middle of that.
    plugin(odd_plugins, "exit 1")
    fake_api.admin.delete(pods.path(pod))
    assert node.healthy()
    for process in hanging(odd_plugins):
        os.kill(process, 9)
    fake_api.admin.wait_for(pods.path(pod), lambda p: p is None, 60)


def test_plugin_that_hangs_is_killed_at_its_deadline(fake_api, make_node, busybox, odd_plugins):
    """The event says so, nothing of it is left, and the pod runs once the plugin is repaired."""
    plugin(odd_plugins, "sleep 1000 & wait")
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, plugins=str(odd_plugins),
                     config={"runtimeRequestTimeout": "4s"})
    node.import_image(busybox, IMAGE)
    pod = sleeper(node)
    fake_api.admin.post(pods.collection(), pod)
    assert 'plugin type="bridge" failed (add): it did not end within 4 s and was killed' in \
        event(node, pod, "FailedCreatePodSandBox", 60)
    repair(odd_plugins)
    fake_api.admin.wait_for(pods.path(pod), pods.ready, 60)
    eventually(lambda: not hanging(odd_plugins), 10, "no process of the plugin left")


def hanging(directory):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        if f"CNI_PATH={directory}".encode() in environment and b"CNI_COMMAND=ADD" in environment:
            found.append(int(pid))
    return found


# -- a full disk ----------------------------------------------------------------------------------------------------------


def test_full_disk_for_logs(fake_api, make_node, busybox):
    """Lines are lost and counted, no container waits for the disk; what comes later is written."""
    node = make_node("n1", cluster=fake_api, netns=fake_api.netns, start=False)
    small = node.dir / "logs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", small], check=True)
    try:
        node.start()
        node.import_image(busybox, IMAGE)
        filler = small / "filler"
        script = ("i=0; while [ $i -lt 20000 ]; do echo line $i of many that fill a disk; i=$((i+1)); done; touch /tmp/filled;"
                  "while :; do echo alive; sleep 0.2; done")
        pod = pods.run(fake_api.admin, sleeper(node, script=script))
        log = next(small.glob("*/c/0.log"))
        eventually(lambda: log.stat().st_size > 400000, 30, "a full disk")
        other = pods.run(fake_api.admin, sleeper(node, "other", "echo other; sleep 1000"))
        before = identity(fake_api.admin.get(pods.path(pod)))
        filler.touch()
        subprocess.run(["mount", "-o", "remount,size=4m", small], check=True)
        eventually(lambda: b"alive" in log.read_bytes()[-2000:], 30, "lines after the gap")
        assert identity(fake_api.admin.get(pods.path(pod))) == before
        assert pods.ready(other)
        filler.unlink()
        node.delete_pods()
        node.stop()
    finally:
        node.process.kill()
        subprocess.run(["umount", "-l", small], check=False)


# -- daemons --------------------------------------------------------------------------------------------------------------


def test_second_daemon_on_the_same_state_directory(standalone):
    standalone.add_manifest("p", pods.pod("p", pods.container("c", IMAGE, SLEEP, imagePullPolicy="Never")))
    [before] = standalone.wait_pods(lambda found: found and found[0]["ready"])
    done = standalone.netns.run(standalone.argv(), check=False, timeout=30, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)
    assert done.returncode == 1 and "another kubelite uses the state directory" in done.stdout
    [after] = standalone.pods()
    assert after == before and standalone.healthy()


# -- the API server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["reset", "hang", "garbage", "truncate", "status", "break", "huge", "gone", "silent"])
def test_pods_outlive_a_server_that_misbehaves(node, fake_api, action):
    """Nothing happens to what runs; what ends meanwhile is told, and what is new runs, when the server is well again."""
    stays = pods.run(fake_api.admin, sleeper(node, "stays"))
    directory = node.dir / "go"
    directory.mkdir()
    ends = pods.run(fake_api.admin, sleeper(
        node, "ends", "while [ ! -e /go/x ]; do sleep 0.05; done; exit 5", restartPolicy="Never",
        container={"volumeMounts": [{"name": "go", "mountPath": "/go"}]},
        volumes=[{"name": "go", "hostPath": {"path": str(directory)}}]))
    watch_only = action in ("break", "huge", "gone", "silent")
    fault = fake_api.fail(action, "/pods" if watch_only else ".", watch=True if watch_only else None)
    with fake_api.store.changed:
        version = fake_api.store.version
    fake_api.server.break_connections()
    (directory / "x").touch()
    new = sleeper(node, "new")
    fake_api.create(pods.collection(), new)
    time.sleep(4)
    assert node.process.alive() and node.healthy()
    assert [p["name"] for p in node.ps() if p["state"] == "running" and p["name"] == "c" and p["pod"] == "stays"]
    fake_api.clear(fault)
    fake_api.server.break_connections()
    ended = fake_api.admin.wait_for(pods.path(ends), lambda p: pods.phase(p) == "Failed", 90)
    assert pods.state_of(ended)[1]["exitCode"] == 5
    fake_api.admin.wait_for(pods.path(new), pods.ready, 90)
    assert identity(fake_api.admin.get(pods.path(stays))) == identity(stays)
    with fake_api.store.changed:
        unready = [e for e in fake_api.store.events if e[0] > version and e[1][1:] == ("pods", "default", "stays")
                   and not pods.ready(e[3])]
    assert not unready
    memory = int(open(f"/proc/{node.process.pid}/statm", encoding="ascii").read().split()[1]) * 4096
    assert build.sanitized() or memory < 64 << 20, json.dumps({"resident": memory})
