# SPDX-License-Identifier: Apache-2.0
"""Liveness, readiness and startup probes of every kind."""

import time

from support import pods, process
from support.wait import eventually

SLEEP = "trap 'exit 0' TERM; sleep 100000 & wait"


def wait(api, pod, until, timeout=40):
    return api.admin.wait_for(pods.path(pod), until, timeout)


def ready(pod):
    return pods.ready(pod)


def probe(period=1, **handler):
    return {"periodSeconds": period, **handler}


def execute(command, **more):
    return probe(exec={"command": ["sh", "-c", command]}, **more)


def restarts(pod):
    return pods.status_of(pod).get("restartCount", 0)


def httpd(path="ok", before=""):
    return f"{before} mkdir -p /w; echo fine >/w/{path}; httpd -p 8080 -h /w; {SLEEP}"


# -- exec -----------------------------------------------------------------------------------------------------------------


def test_readiness_follows_a_command(api, run):
    pod = run(f"sleep 1; touch /r; {SLEEP}", readinessProbe=execute("echo not yet >&2; test -f /r"))
    assert not ready(wait(api, pod, lambda p: pods.state_of(p)[0] == "running"))
    seen = wait(api, pod, ready)
    assert pods.status_of(seen)["started"] is True
    assert pods.wait_event(api.admin, pod, "Unhealthy")["message"] == "Readiness probe failed: not yet\n"


def test_a_failed_liveness_probe_restarts_the_container(api, run):
    pod = run("test -f /v/once || touch /v/sick /v/once; exec sleep 100000", livenessProbe=execute("test ! -f /v/sick"),
              spec={"volumes": [{"name": "v", "emptyDir": {}}]}, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    pod_now = wait(api, pod, lambda p: restarts(p) == 1)
    assert pod_now["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
    assert "Container c failed liveness probe, will be restarted" in pods.wait_event(api.admin, pod, "Killing")["message"]


def test_startup_holds_back_liveness_and_readiness(api, run):
    pod = run(f"sleep 2; touch /up; {SLEEP}", startupProbe=execute("test -f /up", failureThreshold=30),
              livenessProbe=execute("test -f /up", failureThreshold=1), readinessProbe=execute("test -f /up"))
    seen = wait(api, pod, lambda p: pods.state_of(p)[0] == "running")
    assert pods.status_of(seen)["started"] is False and not ready(seen)
    seen = wait(api, pod, ready)
    assert pods.status_of(seen)["started"] is True and restarts(seen) == 0
    messages = {e["message"] for e in pods.events(api.admin, pod) if e["reason"] == "Unhealthy"}
    assert messages == {"Startup probe failed: "}


def test_a_failed_startup_probe_ends_the_container(api, run):
    pod = run(SLEEP.replace("exit 0", "exit 3"), startupProbe=execute("false", failureThreshold=1),
              spec={"restartPolicy": "Never"})
    seen = wait(api, pod, lambda p: pods.phase(p) == "Failed")
    assert pods.state_of(seen)[1]["exitCode"] == 3
    assert pods.wait_event(api.admin, pod, "Killing")["message"] == "Container c failed startup probe"


def test_probes_have_a_grace_period_of_their_own(api, run):
    """The pod's would be an hour; the shell does not die of SIGTERM."""
    pod = run(SLEEP, livenessProbe=execute("false", failureThreshold=1, terminationGracePeriodSeconds=1),
              spec={"terminationGracePeriodSeconds": 3600})
    wait(api, pod, lambda p: restarts(p) == 1)
    api.admin.delete(pods.path(pod), 0)


def test_a_command_that_never_ends_fails_at_its_time_out(api, node, run):
    pod = run(SLEEP, readinessProbe=execute("sleep 54321 & sleep 54322", timeoutSeconds=1))
    event = pods.wait_event(api.admin, pod, "Unhealthy")
    assert event["message"].startswith('Readiness probe failed: command timed out: "sh -c sleep 54321 & sleep 54322"')
    eventually(lambda: not process.running("5432"), 10, "all that the probe started is gone")


def test_a_command_that_writes_endlessly_is_cut_off(api, node, run):
    pod = run(SLEEP, readinessProbe=execute("yes endless | cat", timeoutSeconds=1), livenessProbe=execute(
        "head -c 100000 /dev/zero | tr '\\0' x; exit 0"))
    pods.wait_event(api.admin, pod, "Unhealthy", "timed out")
    eventually(lambda: not process.running("yes\0endless"), 10, "the writer is gone")
    assert restarts(api.admin.get(pods.path(pod))) == 0


def test_a_command_that_is_missing_is_no_result(api, run):
    pod = run(SLEEP, livenessProbe=probe(exec={"command": ["/no/such"]}, failureThreshold=1),
              readinessProbe=probe(exec={"command": ["$(HOW)", "-c", "test $(HOW) = sh"]}), env=[{"name": "HOW", "value": "sh"}])
    event = pods.wait_event(api.admin, pod, "Unhealthy")
    assert event["message"].startswith("Liveness probe errored and resulted in unknown state: ")
    assert restarts(wait(api, pod, ready)) == 0


# -- http -----------------------------------------------------------------------------------------------------------------


def test_http_is_asked_at_the_pods_address(api, run):
    pod = run(httpd(), ports=[{"name": "web", "containerPort": 8080}],
              readinessProbe=probe(httpGet={"path": "/ok", "port": "web"}),
              livenessProbe=probe(httpGet={"path": "/missing", "port": 8080}, failureThreshold=100))
    wait(api, pod, ready)
    assert pods.wait_event(api.admin, pod, "Unhealthy", "Liveness")["message"] == \
        "Liveness probe failed: HTTP probe failed with statuscode: 404"


def test_tcp_connects(api, run):
    pod = run(httpd(before="sleep 1;"), readinessProbe=probe(tcpSocket={"port": 8080}))
    address = wait(api, pod, ready)["status"]["podIP"]
    assert pods.wait_event(api.admin, pod, "Unhealthy")["message"] == \
        f"Readiness probe failed: dial tcp {address}:8080: connect: connection refused"


def test_a_port_that_nobody_has(api, run):
    pod = run(SLEEP, livenessProbe=probe(tcpSocket={"port": "nobody"}, failureThreshold=1))
    event = pods.wait_event(api.admin, pod, "Unhealthy")
    assert event["message"] == 'Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing "nobody": ' \
                               'invalid syntax'
    assert restarts(api.admin.get(pods.path(pod))) == 0


# -- over the pod's life ----------------------------------------------------------------------------------------------------


def test_readiness_goes_on_while_the_pod_ends(api, run):
    pod = run("trap 'rm /r' TERM; touch /r; while true; do sleep 1; done", readinessProbe=execute("test -f /r", failureThreshold=1),
              livenessProbe=execute("test -f /r", failureThreshold=1), spec={"terminationGracePeriodSeconds": 30})
    wait(api, pod, ready)
    api.admin.delete(pods.path(pod), 8)
    wait(api, pod, lambda p: p and not ready(p) and pods.state_of(p)[0] == "running")
    pods.wait_event(api.admin, pod, "Unhealthy", "Readiness")
    wait(api, pod, lambda p: p is None)
    assert not [e for e in pods.events(api.admin, pod) if "Liveness" in e["message"]]


def test_a_killed_daemon_leaves_ready_pods_ready(api, node, run):
    slow = {"periodSeconds": 600, "exec": {"command": ["true"]}}
    pod = run(SLEEP, readinessProbe=slow, startupProbe=slow, livenessProbe=execute("sleep 100", timeoutSeconds=50))
    before = wait(api, pod, ready)
    eventually(lambda: process.running("sleep\000100\000"), 10, "a probe that runs")
    node.kill9()
    node.start()
    eventually(lambda: node.pods(), 20, "pods after the restart")
    time.sleep(1)
    with api.store.changed:
        history = [item for _, key, kind, item, _ in api.store.events if key[1:] == ("pods", "default", pod["metadata"]["name"])]
    after = [item for item in history if int(item["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])]
    assert all(pods.ready(item) and pods.status_of(item)["started"] for item in after)
    assert pods.ready(api.admin.get(pods.path(pod)))
