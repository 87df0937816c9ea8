# SPDX-License-Identifier: Apache-2.0
"""The containers of a pod: init containers, sidecars, restart rules, deadlines, conditions.

One node with the stand-in API server, which keeps the fields that the real one (1.20) drops.
"""

import os
import signal

import pytest

from support import cgroups, pods
from support.fakeapi import FakeApi
from support.netns import NetNs
from support.node import Node
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
SLEEP = "sleep 100000"


@pytest.fixture(scope="module")
def node(busybox):
    with NetNs() as netns, FakeApi(netns) as api, Node("n1", netns=netns, cluster=api) as started:
        started.import_image(busybox, IMAGE)
        yield started


def box(name, script=SLEEP, **more):
    return pods.container(name, IMAGE, script, **more)


class Told:
    """A pod whose containers append what they do to one file (`echo … >>/t/told`)."""

    def __init__(self, node, name, main, init=(), **spec):
        self.api, self.file = node.cluster.admin, node.dir / f"told-{name}"
        self.file.mkdir()
        for container in [*main, *init]:
            container["volumeMounts"] = [{"name": "t", "mountPath": "/t"}]
        volumes = [{"name": "t", "hostPath": {"path": str(self.file)}}]
        self.pod = pods.pod(name, *main, node=node.name, volumes=volumes, **spec, **({"initContainers": list(init)} if init else {}))

    def run(self, until=None):
        return pods.run(self.api, self.pod, until)

    def wait(self, until):
        return self.api.wait_for(pods.path(self.pod), until, 60)

    def lines(self):
        told = self.file / "told"
        return told.read_text().split() if told.exists() else []

    def wait_lines(self, *wanted):
        def check():
            assert self.lines() == list(wanted)
            return True
        return eventually(check, 30, f"{wanted}")

    def delete(self):
        pods.delete(self.api, self.pod)


def status(pod, name, kind="containerStatuses"):
    return pods.status_of(pod, name, kind)


def restarts(pod, name="c", kind="containerStatuses"):
    return status(pod, name, kind).get("restartCount")


def full_condition(pod, kind):
    return next((c for c in pod["status"].get("conditions") or [] if c["type"] == kind), {})


AFTER = "until grep -q {0} /t/told; do sleep 0.05; done; echo {1} >>/t/told"
ON_TERM = 'trap "echo {0}-term >>/t/told; exit 0" TERM; echo {0} >>/t/told; while :; do sleep 0.05; done'


# -- init containers and sidecars -----------------------------------------------------------------------------------------


def test_startup_and_stop_in_order(node):
    """Init containers and sidecars one after the other; sidecars stop last, in reverse."""
    told = Told(node, "order", [box("c", ON_TERM.format("c"))], [
        box("s1", ON_TERM.format("s1"), restartPolicy="Always"), box("i1", AFTER.format("s1", "i1")),
        box("s2", ON_TERM.format("s2"), restartPolicy="Always"), box("i2", AFTER.format("s2", "i2"))],
        terminationGracePeriodSeconds=20)
    told.run()
    told.wait_lines("s1", "i1", "s2", "i2", "c")
    told.delete()
    told.wait_lines("s1", "i1", "s2", "i2", "c", "c-term", "s2-term", "s1-term")


def test_sidecar_restarts_beside_a_slow_init_container(node):
    told = Told(node, "sidecar", [box("c")], [
        box("s", "echo s >>/t/told; [ -f /t/once ] && sleep 100000; touch /t/once; exit 1", restartPolicy="Always"),
        box("i", "while [ ! -f /t/go ]; do sleep 0.05; done; echo i >>/t/told")])
    told.run(lambda p: restarts(p, "s", "initContainerStatuses") == 1)
    (told.file / "go").touch()
    seen = told.wait(pods.ready)
    told.wait_lines("s", "s", "i")
    assert status(seen, "s", "initContainerStatuses")["lastState"]["terminated"]["exitCode"] == 1
    told.delete()


def test_init_container_is_tried_again(node):
    told = Told(node, "again", [box("c")], [box("i", "echo i >>/t/told; [ -f /t/x ] || { touch /t/x; exit 3; }")])
    seen = told.run()
    assert restarts(seen, "i", "initContainerStatuses") == 1
    told.wait_lines("i", "i")
    told.delete()


def test_lost_sandbox_runs_init_containers_again(node):
    """Also when the daemon was away while the sandbox was lost, and in the right order."""
    told = Told(node, "lost", [box("c", "echo c >>/t/told; sleep 100000")],
                [box("s", "echo s >>/t/told; sleep 100000", restartPolicy="Always"), box("i", "echo i >>/t/told")])
    first = told.run()
    told.wait_lines("s", "i", "c")
    _kill_shim(node, first)
    told.wait(lambda p: restarts(p) == 1 and pods.ready(p))
    told.wait_lines("s", "i", "c", "s", "i", "c")
    node.kill9()
    _kill_shim(node, first)
    node.start()
    seen = told.wait(lambda p: restarts(p) == 2 and pods.ready(p))
    told.wait_lines(*["s", "i", "c"] * 3)
    assert restarts(seen, "i", "initContainerStatuses") == restarts(seen, "s", "initContainerStatuses") == 2
    # A restart alone starts nothing: the records say in which sandbox containers ran.
    node.kill9()
    node.start()
    pods.run(told.api, pods.pod("later", box("c"), node=node.name))
    assert len(told.lines()) == 9
    told.delete()


def _kill_shim(node, pod):
    """Its processes in the pod's leaf of theirs; the daemon finds the rest."""
    for group in cgroups.groups(node.cgroup):
        if group.name == f"pod{pod['metadata']['uid']}" and (group / "shim").exists():
            for pid in (group / "shim" / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            return


# -- ephemeral containers -------------------------------------------------------------------------------------------------


def ephemeral(name, script, **more):
    return box(name, script, imagePullPolicy="IfNotPresent", **more)


def debug(node, pod, *containers):
    """As `kubectl debug` does it, through the subresource."""
    path = pods.path(pod) + "/ephemeralcontainers"
    node.cluster.admin.patch(path, {"spec": {"ephemeralContainers": list(containers)}})


def ephemeral_state(pod, name):
    return next(iter((status(pod, name, "ephemeralContainerStatuses").get("state") or {}).items()), (None, {}))


def logs(node, pod, container):
    return node.cli("logs", pod["metadata"]["name"], container).stdout


@pytest.mark.parametrize("users", [True, False], ids=["host users", "users of its own"])
def test_ephemeral_containers(node, users):
    """Added to a running pod; the target's processes are theirs to see; they run once and hold up nothing."""
    api = node.cluster.admin
    pod = pods.pod("debugged", box("c", "exec sleep 77777"), node=node.name, hostUsers=users)
    first = pods.run(api, pod)
    debug(node, pod, ephemeral("sees", "ps -o args; exit 3", targetContainerName="c"), ephemeral("alone", "ps -o args"),
          ephemeral("none", "true", targetContainerName="nobody"))
    seen = api.wait_for(pods.path(pod), lambda p: all(ephemeral_state(p, n)[0] == "terminated" for n in ("sees", "alone"))
                        and ephemeral_state(p, "none")[1].get("reason") == "CreateContainerConfigError")
    assert ephemeral_state(seen, "sees")[1]["exitCode"] == 3
    assert ephemeral_state(seen, "none")[1]["message"] == "unable to find target container nobody"
    assert "sleep 77777" in logs(node, pod, "sees") and "sleep 77777" not in logs(node, pod, "alone")
    assert pods.ready(seen) and status(seen, "c") == status(first, "c")
    node.kill9()
    node.start()
    debug(node, pod, ephemeral("after", "ps -o args", targetContainerName="c"))
    seen = api.wait_for(pods.path(pod), lambda p: ephemeral_state(p, "after")[0] == "terminated")
    assert "sleep 77777" in logs(node, pod, "after")
    assert restarts(seen, "sees", "ephemeralContainerStatuses") == 0
    pods.delete(api, pod)


# -- restart rules --------------------------------------------------------------------------------------------------------


def rule(action="Restart", operator="In", values=(42,)):
    return {"action": action, "exitCodes": {"operator": operator, "values": list(values)}}


# name: pod's policy, container's fields, kind, exit code, whether it runs again
RULES = {
    "own-always": ("Never", {"restartPolicy": "Always"}, "main", 0, True),
    "own-onfailure": ("Never", {"restartPolicy": "OnFailure"}, "main", 1, True),
    "own-never": ("Always", {"restartPolicy": "Never"}, "main", 1, False),
    "in": ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule()]}, "main", 42, True),
    "in-other": ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule()]}, "main", 43, False),
    "not-in": ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule(operator="NotIn")]}, "main", 43, True),
    "init-rule": ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule()]}, "init", 42, True),
    "init-never": ("Always", {"restartPolicy": "Never"}, "init", 1, False),
}


def test_restart_rules(node):
    """Per container, by exit code; each case's container ends once in its way, then well."""
    api = node.cluster.admin
    made = {}
    for name, (policy, fields, kind, code, _) in RULES.items():
        subject = box("x", f"[ -f /t/x ] && exit 0; touch /t/x; exit {code}", **fields)
        main, init = ([subject], []) if kind == "main" else ([box("c", "true")], [subject])
        made[name] = Told(node, name, main, init, restartPolicy=policy)
        api.post(pods.collection(), made[name].pod)
    for name, (_, _, kind, code, again) in RULES.items():
        statuses = "containerStatuses" if kind == "main" else "initContainerStatuses"
        if again:
            seen = made[name].wait(lambda p, s=statuses: (restarts(p, "x", s) or 0) >= 1)
        else:
            seen = made[name].wait(lambda p: pods.phase(p) == "Failed")
            assert restarts(seen, "x", statuses) == 0 and status(seen, "x", statuses)["state"]["terminated"]["exitCode"] == code
        made[name].delete()


def test_restart_all_containers(node):
    """Init containers first, at once and in the same sandbox; also what had succeeded; ephemeral ones are left alone."""
    told = Told(node, "all", [
        box("c", "echo c >>/t/told; trap 'echo term >>/t/told' TERM; while :; do sleep 0.05; done"), box("done", "true"),
        box("x", "while [ ! -f /t/go ]; do sleep 0.05; done; rm /t/go; exit 42", restartPolicy="Never",
            restartPolicyRules=[rule("RestartAllContainers")])],
        [box("i", "echo i >>/t/told")], restartPolicy="Never")
    first = told.run(lambda p: pods.state_of(p, "x")[0] == "running" and pods.state_of(p, "done")[0] == "terminated")
    told.wait_lines("i", "c")
    (told.file / "go").touch()
    seen = told.wait(lambda p: restarts(p, "x") == 1 and restarts(p, "done") == 1 and pods.state_of(p, "c")[0] == "running")
    told.wait_lines("i", "c", "i", "c")
    assert seen["status"]["podIP"] == first["status"]["podIP"]
    assert status(seen, "x")["lastState"]["terminated"]["exitCode"] == 42
    assert restarts(seen, "i", "initContainerStatuses") == 1
    assert pods.condition(seen, "AllContainersRestarting") == "False"
    told.delete()


# -- deadline, conditions -------------------------------------------------------------------------------------------------


def test_active_deadline(node):
    """The pod fails, and stays as it is over restarts of the daemon."""
    told = Told(node, "deadline", [box("c", ON_TERM.format("c"))], activeDeadlineSeconds=3, terminationGracePeriodSeconds=20)
    seen = told.run(lambda p: pods.phase(p) == "Failed")
    told.wait_lines("c", "c-term")
    assert seen["status"]["reason"] == "DeadlineExceeded"
    assert seen["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    assert full_condition(seen, "Ready")["reason"] == "PodFailed"
    assert pods.state_of(seen)[0] == "terminated"
    eventually(lambda: "DeadlineExceeded" in pods.event_reasons(told.api, told.pod), 15)
    node.kill9()
    node.start()
    pods.run(told.api, pods.pod("after", box("c"), node=node.name))
    after = told.api.get(pods.path(told.pod))
    assert after["status"] == seen["status"]
    told.delete()


def test_finished_pod_of_another_life_keeps_its_status(node):
    """A pod that was over before the node knew of it, and of which nothing is here, is only deleted."""
    api = node.cluster.admin
    pod = pods.pod("over", box("c"), node=node.name)
    pod["status"] = {"phase": "Succeeded", "message": "kept", "containerStatuses": [
        {"name": "c", "restartCount": 7, "ready": False, "image": "x", "imageID": "", "state": {"terminated": {"exitCode": 0}}}]}
    created = api.post(pods.collection(), pod)
    pods.run(api, pods.pod("beside", box("c"), node=node.name))
    assert api.get(pods.path(pod))["status"] == created["status"]
    pods.delete(api, pod)


def test_readiness_gate_and_others_conditions(node):
    """Ready waits for the gate's condition; conditions of other writers stay; generations are observed."""
    api = node.cluster.admin
    pod = pods.pod("gate", box("c"), node=node.name, readinessGates=[{"conditionType": "example.com/ready"}])
    seen = pods.run(api, pod, lambda p: pods.condition(p, "ContainersReady") == "True")
    assert full_condition(seen, "Ready")["reason"] == "ReadinessGatesNotReady"
    assert full_condition(seen, "Ready")["message"] == \
        'corresponding condition of pod readiness gate "example.com/ready" does not exist.'
    others = [{"type": "example.com/ready", "status": "True"}, {"type": "DisruptionTarget", "status": "True", "reason": "Test"}]
    api.patch(pods.path(pod) + "/status", {"status": {"conditions": others}})
    seen = api.wait_for(pods.path(pod), pods.ready)
    assert full_condition(seen, "DisruptionTarget")["reason"] == "Test"
    generation = seen["metadata"]["generation"]
    api.patch(pods.path(pod), {"spec": {"activeDeadlineSeconds": 10000}})
    seen = api.wait_for(pods.path(pod), lambda p: p["status"].get("observedGeneration") == generation + 1)
    assert full_condition(seen, "Ready")["observedGeneration"] == generation + 1
    pods.delete(api, pod)
