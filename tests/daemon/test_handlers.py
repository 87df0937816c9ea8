# SPDX-License-Identifier: Apache-2.0
"""RuntimeClass handlers: containers that another OCI runtime, Debian's runc, makes beneath our shim."""

import os
import signal
import subprocess

import pytest

from support import images, pods
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
RUNC = "/usr/sbin/runc"


@pytest.fixture
def runc_node(make_node, busybox):
    node = make_node("n1", flags=["--runtime-handlers", f"runc={RUNC},broken=/bin/false"])
    node.import_image(busybox, IMAGE)
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


def classed(name, *containers, handler="runc", **more):
    pod = pods.pod(name, *containers, **more)
    pod["spec"]["runtimeClassName"] = handler
    return pod


def start(node, pod, phase="Running"):
    name = f"{pod['metadata']['name']}-{node.name}"
    node.add_manifest(pod["metadata"]["name"], pod)
    return node.wait_pods(lambda found: [p for p in found if p["name"] == name and p["phase"] == phase], 60,
                          f"{name} is {phase}"), name


def log_of(node, name, container="c"):
    return node.cli("logs", name, container).stdout


def state(node, name, container="c"):
    return max((c for c in node.cli_json("ps", "-a") if c["pod"] == name and c["name"] == container), key=lambda c: c["attempt"])


def containers_of_runc(node):
    """The ids that runc itself knows."""
    return subprocess.run([RUNC, "--root", str(next(node.dir.glob("state/pods/*/runtime"))), "list", "-q"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def test_a_pod_of_runc(runc_node):
    script = "echo out; echo err >&2; id -u; cat /etc/hostname; ls /etc/hosts; grep /dev/shm.tmpfs /proc/mounts; exec sleep 1000"
    pod = classed("p", pods.container("c", IMAGE, script, securityContext={"runAsUser": 1000}))
    _, name = start(runc_node, pod)
    text = eventually(lambda: (lambda t: t if "tmpfs" in t else None)(log_of(runc_node, name)), 10, "its output")
    assert "out" in text and "1000" in text
    path = next(runc_node.dir.glob(f"logs/*{name}*/c/0.log"))
    eventually(lambda: "stderr F err" in path.read_text(), 10, "its errors")
    container = state(runc_node, name)
    assert container["id"] in containers_of_runc(runc_node)


def test_exit_codes_and_restarts(runc_node):
    _, name = start(runc_node, classed("f", pods.container("c", IMAGE, "exit 3"), restartPolicy="Never"), "Failed")
    assert state(runc_node, name)["exit_code"] == 3
    _, name = start(runc_node, classed("k", pods.container("c", IMAGE, "sleep 1000"), restartPolicy="Never"))
    os.kill(state(runc_node, name)["pid"], signal.SIGKILL)
    runc_node.wait_pods(lambda found: [p for p in found if p["name"] == name and p["phase"] == "Failed"], 30, "killed")
    assert state(runc_node, name)["exit_code"] == 137


def test_volumes_and_the_pods_namespaces(runc_node):
    web = pods.container("web", IMAGE, "echo hello >/data/index.html; exec httpd -f -p 8080 -h /data",
                         volumeMounts=[{"name": "data", "mountPath": "/data"}])
    side = pods.container("c", IMAGE, "until wget -qO- 127.0.0.1:8080; do sleep 0.1; done; cat /ro/index.html; "
                                      "touch /ro/x 2>&1; exec sleep 1000",
                          volumeMounts=[{"name": "data", "mountPath": "/ro", "readOnly": True}])
    pod = classed("v", web, side, volumes=[{"name": "data", "emptyDir": {}}], shareProcessNamespace=True)
    _, name = start(runc_node, pod)
    text = eventually(lambda: (lambda t: t if "Read-only" in t else None)(log_of(runc_node, name)), 20, "both reads")
    assert text.count("hello") == 2


def test_stopping_is_by_signal(runc_node):
    script = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    _, name = start(runc_node, classed("s", pods.container("c", IMAGE, script), restartPolicy="Always"))
    eventually(lambda: "ready" in log_of(runc_node, name), 10, "the trap is set")
    path = next(runc_node.dir.glob(f"logs/*{name}*/c/0.log"))
    kept = os.open(path, os.O_RDONLY)
    runc_node.remove_manifest("s")
    runc_node.wait_pods(lambda found: not found, 40, "gone")
    assert b"bye" in os.read(kept, 4096)
    os.close(kept)


def test_survives_the_daemon(runc_node):
    _, name = start(runc_node, classed("p", pods.container("c", IMAGE, "exec sleep 1000")))
    before = state(runc_node, name)
    runc_node.kill9()
    runc_node.start()
    after = state(runc_node, name)
    assert (before["id"], before["attempt"]) == (after["id"], after["attempt"])
    os.kill(after["pid"], signal.SIGKILL)
    eventually(lambda: state(runc_node, name)["id"] != before["id"], 30, "it is started again")


def test_a_terminal(runc_node):
    pod = classed("t", pods.container("c", IMAGE, "tty; exec sleep 1000", tty=True, stdin=True))
    _, name = start(runc_node, pod)
    assert "/dev/pts/0" in eventually(lambda: log_of(runc_node, name), 10, "its terminal")


@pytest.mark.parametrize("handler,message", [("nobody", "no runtime for \"nobody\" is configured"), ("broken", "failed with")])
def test_handlers_that_cannot(runc_node, handler, message):
    runc_node.add_manifest("x", classed("x", pods.container("c", IMAGE, "sleep 1"), handler=handler))
    eventually(lambda: message in runc_node.log() + runc_node.cli("inspect", "x-n1").stdout, 20, message)
    assert runc_node.healthy()


def test_commands_in_its_containers(runc_node):
    good = {"exec": {"command": ["sh", "-c", "test $(id -u) = 1000 && cat /etc/hostname"]}, "periodSeconds": 1}
    bad = {"exec": {"command": ["sh", "-c", "echo gone wrong; exit 7"]}, "periodSeconds": 1}
    slow = {"exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    as_user = {"securityContext": {"runAsUser": 1000}}
    pod = classed("e", pods.container("c", IMAGE, "exec sleep 1000", readinessProbe=good, **as_user),
                  pods.container("d", IMAGE, "exec sleep 1000", readinessProbe=bad),
                  pods.container("s", IMAGE, "exec sleep 1000", readinessProbe=slow))
    start(runc_node, pod)
    runc_node.wait_pods(lambda found: found and found[0]["containers_ready"] == 1, 30, "the good one is ready")
    eventually(lambda: "Readiness probe failed: gone wrong" in runc_node.log(), 20, "output of the bad one")
    eventually(lambda: "timed out after 1s" in runc_node.log(), 20, "the slow one is cut off")
