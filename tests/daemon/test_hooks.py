# SPDX-License-Identifier: Apache-2.0
"""Lifecycle hooks, stop signals, grace periods and termination messages."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from support import pods, process
from support.wait import eventually

SLEEP = "trap 'exit 0' TERM; sleep 100000 & wait"
VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT = [{"name": "v", "mountPath": "/v"}]


def wait(api, pod, until, timeout=40):
    return api.admin.wait_for(pods.path(pod), until, timeout)


def shell(command):
    return {"exec": {"command": ["sh", "-c", command]}}


def running(pod):
    return pods.state_of(pod)[0] == "running"


def statuses(api, pod):
    """Every status that the node told of a pod."""
    with api.store.changed:
        return [item for _, key, kind, item, _ in api.store.events
                if key[1:] == ("pods", "default", pod["metadata"]["name"]) and kind != "DELETED"]


@pytest.fixture(scope="module")
def server(api):
    """An HTTP server beside the pods; `asked` are (path, headers) of what came in."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *args):
            pass

    http = HTTPServer(("", 0), Handler, bind_and_activate=False)
    http.socket.close()
    http.socket = api.netns.listen("0.0.0.0", 8099)
    http.asked = asked
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


# -- postStart ------------------------------------------------------------------------------------------------------------


def test_post_start_holds_back_start_readiness_and_the_next_container(api, run):
    """The hook ends only once its file is there, and the second container only runs after it."""
    after = pods.container("after", "busybox:1", f"test -f /v/done && touch /v/after; {SLEEP}", imagePullPolicy="Never",
                           volumeMounts=MOUNT)
    pod = run(f"sleep 2; touch /v/go; {SLEEP}", spec=VOLUME, volumeMounts=MOUNT, containers=[after],
              readinessProbe={"exec": {"command": ["test", "-f", "/v/after"]}, "periodSeconds": 1},
              lifecycle={"postStart": shell("while ! test -f /v/go; do sleep 0.2; done; touch /v/done")})
    pods.wait_event(api.admin, pod, "Started")
    time.sleep(0.5)
    assert not running(api.admin.get(pods.path(pod)))
    wait(api, pod, pods.ready)
    for status in statuses(api, pod):
        assert running(status) or pods.state_of(status, "after")[0] != "running"


def test_a_failed_post_start_hook_ends_the_container(api, run):
    pod = run(SLEEP, lifecycle={"postStart": shell("echo no luck; exit 7")})
    wait(api, pod, lambda p: pods.reason_of(p) == "CrashLoopBackOff")
    pods.wait_event(api.admin, pod, "FailedPostStartHook", "PostStartHook failed")
    pods.wait_event(api.admin, pod, "Killing", "FailedPostStartHook")
    messages = [pods.state_of(s)[1]["message"] for s in statuses(api, pod) if pods.reason_of(s) == "PostStartHookError"]
    name = pod["metadata"]["name"]
    assert messages and messages[0].startswith(
        f'Exec lifecycle hook ([sh -c echo no luck; exit 7]) for Container "c" in Pod "{name}_default(')
    assert "exited with 7" in messages[0] and "no luck" in messages[0]


def test_a_tcp_hook_cannot_be_run(api, run):
    pod = run(SLEEP, lifecycle={"postStart": {"tcpSocket": {"port": 80}}}, spec={"restartPolicy": "Never"})
    wait(api, pod, lambda p: pods.phase(p) in ("Succeeded", "Failed"))
    pods.wait_event(api.admin, pod, "FailedPostStartHook", "PostStartHook failed")


def test_deletion_ends_a_hanging_post_start_hook(api, run):
    pod = run(SLEEP, lifecycle={"postStart": shell("sleep 23456")}, spec={"terminationGracePeriodSeconds": 30})
    eventually(lambda: process.running("sleep\00023456"), 20, "the hook")
    pods.delete(api.admin, pod, timeout=20)
    eventually(lambda: not process.running("sleep\00023456"), 10, "the hook is gone")


# -- preStop --------------------------------------------------------------------------------------------------------------


def test_pre_stop_runs_before_the_signal_and_within_the_grace_period(api, run):
    """The process says in its message what it found when SIGTERM came; the hook took a second of its five."""
    pod = run("trap 'ls /v >/dev/termination-log; exit 0' TERM; sleep 100000 & wait", spec={
        **VOLUME, "terminationGracePeriodSeconds": 5}, volumeMounts=MOUNT, lifecycle={"preStop": shell("sleep 1; touch /v/hook")})
    wait(api, pod, running)
    pods.delete(api.admin, pod)
    assert pods.state_of(statuses(api, pod)[-1])[1]["message"] == "hook\n"


def test_a_pre_stop_hook_that_never_ends_leaves_two_seconds(api, run):
    pod = run("trap 'sleep 1; echo in time >/dev/termination-log; exit 0' TERM; sleep 100000 & wait",
              spec={"terminationGracePeriodSeconds": 1}, lifecycle={"preStop": shell("sleep 34567")})
    wait(api, pod, running)
    pods.delete(api.admin, pod)
    assert pods.state_of(statuses(api, pod)[-1])[1]["message"] == "in time\n"
    assert not process.running("sleep\00034567")
    pods.wait_event(api.admin, pod, "FailedPreStopHook", "PreStopHook failed")


def test_a_shorter_grace_period_cuts_a_pre_stop_hook_short(api, run):
    pod = run(SLEEP, spec={"terminationGracePeriodSeconds": 3600}, lifecycle={"preStop": {"sleep": {"seconds": 3000}}})
    wait(api, pod, running)
    api.admin.delete(pods.path(pod))
    pods.wait_event(api.admin, pod, "Killing")
    api.admin.delete(pods.path(pod), 1)
    wait(api, pod, lambda p: p is None, 30)


def test_pre_stop_runs_before_a_restart_for_liveness_but_not_for_an_own_exit(api, run):
    spec = {**VOLUME, "terminationGracePeriodSeconds": 2}
    killed = run(SLEEP, spec=spec, volumeMounts=MOUNT, lifecycle={"preStop": shell("touch /v/hook")},
                 livenessProbe={"exec": {"command": ["test", "-f", "/v/hook"]}, "periodSeconds": 1, "failureThreshold": 1})
    ended = run("test ! -f /v/hook || touch /v/bad; test -f /v/bad || exit 1; " + SLEEP, spec=spec, volumeMounts=MOUNT,
                lifecycle={"preStop": shell("touch /v/hook")})
    wait(api, killed, lambda p: pods.status_of(p).get("restartCount") == 1 and running(p))
    wait(api, ended, lambda p: pods.reason_of(p) == "CrashLoopBackOff")


def test_a_sleep_of_zero_seconds_is_a_hook(api, run):
    pod = run(SLEEP, lifecycle={"postStart": {"sleep": {"seconds": 0}}, "preStop": {"sleep": {"seconds": 0}}})
    wait(api, pod, pods.ready)
    pods.delete(api.admin, pod)
    assert not [e["message"] for e in pods.events(api.admin, pod) if "Hook" in e["reason"]]


def test_http_hooks(api, run, server):
    """Any answer will do; HTTPS that is answered in HTTP falls back, without the credentials."""
    hook = {"host": api.netns.address, "port": 8099, "httpHeaders": [{"name": "Authorization", "value": "secret"}]}
    pod = run(SLEEP, lifecycle={"postStart": {"httpGet": {**hook, "path": "/start"}},
                                "preStop": {"httpGet": {**hook, "path": "/stop", "scheme": "HTTPS"}}})
    wait(api, pod, pods.ready)
    pods.delete(api.admin, pod)
    assert [path for path, _ in server.asked] == ["/start", "/stop"]
    start, stop = (headers for _, headers in server.asked)
    assert start["Authorization"] == "secret" and "Authorization" not in stop
    assert start["User-Agent"].startswith("kube-lifecycle/1.") and start["Accept"] == "*/*"
    assert start["Host"] == f"{api.netns.address}:8099"
    event = pods.wait_event(api.admin, pod, "LifecycleHTTPFallback")
    assert event["message"] == f"request to HTTPS lifecycle hook {api.netns.address}:8099 got HTTP response, retry with HTTP " \
                               "succeeded"


# -- signals and grace periods ----------------------------------------------------------------------------------------------


def test_stop_signal_of_the_container(api, run):
    pod = run("trap 'echo usr1 >/dev/termination-log; exit 0' USR1; trap '' TERM; sleep 100000 & wait",
              spec={"terminationGracePeriodSeconds": 20}, lifecycle={"stopSignal": "SIGUSR1"})
    wait(api, pod, running)
    pods.delete(api.admin, pod, timeout=15)
    assert pods.state_of(statuses(api, pod)[-1])[1]["message"] == "usr1\n"


def test_deletion_in_back_off(api, run):
    pod = run("exit 1")
    wait(api, pod, lambda p: pods.reason_of(p) == "CrashLoopBackOff")
    pods.delete(api.admin, pod, timeout=20)


def test_a_killed_daemon_runs_pre_stop_again(api, node, run):
    pod = run(SLEEP, spec={**VOLUME, "terminationGracePeriodSeconds": 60}, volumeMounts=MOUNT, lifecycle={"preStop": shell(
        "test -f /v/once && touch /v/twice; touch /v/once; test -f /v/twice || sleep 45678")})
    wait(api, pod, running)
    api.admin.delete(pods.path(pod))
    eventually(lambda: process.running("sleep\00045678"), 20, "the hook")
    node.kill9()
    node.start()
    wait(api, pod, lambda p: p is None, 50)
    eventually(lambda: not process.running("sleep\00045678"), 10, "nothing of the first hook is left")


def test_a_killed_daemon_takes_post_start_for_done(api, node, run):
    pod = run(SLEEP, lifecycle={"postStart": shell("sleep 56789")})
    eventually(lambda: process.running("sleep\00056789"), 20, "the hook")
    node.kill9()
    node.start()
    wait(api, pod, pods.ready)


# -- termination messages ---------------------------------------------------------------------------------------------------


def message_of(api, pod, name="c"):
    seen = wait(api, pod, lambda p: pods.state_of(p, name)[0] == "terminated")
    return pods.state_of(seen, name)[1].get("message")


def over(command, **fields):
    return {"script": command, "spec": {"restartPolicy": "Never"}, **fields}


def test_termination_message_is_the_end_of_the_file(api, run):
    pod = run(**over("(head -c 100 /dev/zero | tr '\\0' x; head -c 4096 /dev/zero | tr '\\0' y) >/tmp/own; exit 1",
                     terminationMessagePath="/tmp/own"))
    assert message_of(api, pod) == "y" * 4096


def test_termination_messages_of_a_pod_share_twelve_kibibytes(api, run):
    more = [pods.container(f"c{i}", "busybox:1", "head -c 4000 /dev/zero | tr '\\0' x >/dev/termination-log",
                           imagePullPolicy="Never") for i in range(5)]
    pod = run(**over("true", containers=more))
    assert message_of(api, pod, "c4") == "x" * 2048


def test_termination_message_falls_back_to_the_log_on_errors_only(api, run):
    lines = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    failed, fine = run(**over(f"{lines}; exit 1", **policy)), run(**over(lines, **policy))
    own = run(**over("echo log; echo own >/dev/termination-log; exit 1", **policy))
    assert message_of(api, failed) == "".join(f"line {i}\n" for i in range(20, 100))
    assert message_of(api, fine) is None
    assert message_of(api, own) == "own\n"


def test_termination_message_of_long_log_lines(api, run):
    pod = run(**over("head -c 40000 /dev/zero | tr '\\0' x; echo; echo end; exit 1",
                     terminationMessagePolicy="FallbackToLogsOnError"))
    assert message_of(api, pod) == "x" * 2043 + "\nend\n"
