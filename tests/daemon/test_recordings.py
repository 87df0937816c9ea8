# SPDX-License-Identifier: Apache-2.0
"""Pods as Kubernetes 1.36's own node reports them (recordings/cases.yaml): phases, states, conditions, events, logs.

The stand-in API server keeps every status that the node posts; all cases run side by side on one node.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from support import images, pods
from support.api import ApiError
from support.fakeapi import FakeApi
from support.netns import NetNs
from support.node import Node
from support.registry import Registry
from support.wait import eventually

NAMESPACE = "rec"
IMAGE = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"
PRESENT = 'Container image "{image}" already present on machine and can be accessed by the pod'
DOCUMENT = yaml.safe_load((Path(__file__).parent / "recordings" / "cases.yaml").read_text())
SETTLES_WITHIN, GOES_WITHIN = 60, 60
SIDE_BY_SIDE = 8

# PodReadyToStartContainers, Initialized, Ready, ContainersReady: status and reason.
CONDITIONS = {
    "ready": ("True", "True", "True", "True"),
    "waiting": ("True", "True", "False ContainersNotReady", "False ContainersNotReady"),
    "unsandboxed": ("False", "True", "False ContainersNotReady", "False ContainersNotReady"),
    "failed": ("False", "True", "False PodFailed", "False PodFailed"),
    "completed": ("False", "True PodCompleted", "False PodCompleted", "False PodCompleted"),
    "init-failed": ("False", "False ContainersNotInitialized", "False PodFailed", "False PodFailed"),
    "rejected": (),
}
CONDITION_TYPES = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


def cases():
    found = {}
    for name, case in DOCUMENT["cases"].items():
        like = DOCUMENT["outcomes"][case["like"]] if "like" in case else {}
        found[name] = {"qos": "BestEffort", "states": {}, "messages": {}, "logs": {}, **like, **case}
    return found


CASES = cases()


# -- what a status says ---------------------------------------------------------------------------------------------------


def container_statuses(status):
    return (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])


def state_text(status):
    for kind, details in (status.get("state") or {}).items():
        details = details or {}
        words = [kind, details.get("reason"), str(details["exitCode"]) if kind == "terminated" else None]
        return " ".join(w for w in words if w), details
    return None, {}


def summary(status):
    """As `settled` and `ended` of a case, without `restarts`."""
    found = {"conditions": condition_texts(status)}
    for c in container_statuses(status):
        found[c["name"]] = state_text(c)[0]
    return found


def condition_texts(status):
    known = {c["type"]: " ".join(filter(None, (c["status"], c.get("reason")))) for c in status.get("conditions") or []}
    return tuple(known[t] for t in CONDITION_TYPES if t in known)


def expected_summary(wanted):
    found = {k: v for k, v in wanted.items() if k not in ("conditions", "restarts", "was-ready")}
    return {"conditions": CONDITIONS[wanted["conditions"]], **found}


def has_settled(case):
    wanted, restarts = expected_summary(case["settled"]), case["settled"].get("restarts", 0)
    was_ready = [not case["settled"].get("was-ready")]

    def check(pod):
        status = (pod or {}).get("status") or {}
        was_ready[0] |= pods.ready(pod)
        if not was_ready[0]:
            return False
        ran = max([c["restartCount"] for c in container_statuses(status)], default=0)
        ends = case["phases"][-1] if case["settled"]["conditions"] in ("completed", "failed", "init-failed") else None
        return summary(status) == wanted and ran >= restarts and ends in (None, status["phase"])
    return check


# -- running the cases ----------------------------------------------------------------------------------------------------


class Seen:
    """What became of one case's pod."""

    def __init__(self, name):
        self.name, self.case = name, CASES[name]
        self.statuses, self.settled, self.last = [], None, None
        self.events, self.logs, self.error = [], {}, None

    def fill(self, text):
        """A text of the case as a regular expression."""
        values = {"present": PRESENT, "name": self.name, "uid": self.uid, "image": self.image,
                  "ip": (self.settled or {}).get("podIP", "")}
        for _ in range(2):
            for key, value in values.items():
                text = text.replace("{%s}" % key, value)
        return re.escape(text).replace(r"\*", ".*")

    def matches(self, text, actual):
        return re.fullmatch(self.fill(text), actual, re.DOTALL) is not None


class Recorder:
    """One node with the stand-in API server, and what the cases' pods need."""

    def __init__(self, api, node, registry):
        self.api, self.node, self.registry = api, node, registry

    def run(self, name):
        seen = Seen(name)
        try:
            self._run(seen)
        except (AssertionError, ApiError, OSError) as e:
            seen.error = e
        return seen

    def _run(self, seen):
        admin, case = self.api.admin, seen.case
        pod = self._pod(seen)
        seen.image = pod["spec"]["containers"][0]["image"]
        seen.uid = admin.post(pods.collection(NAMESPACE), pod)["metadata"]["uid"]
        try:
            admin.wait_for(pods.path(pod), has_settled(case), SETTLES_WITHIN, f"{seen.name} settled")
        finally:
            self._collect(seen, pod)
        seen.settled = admin.get(pods.path(pod))["status"]
        self._wait_for_events(seen, pod, len(case["events"]) - self._events_of_the_end(case))
        eventually(lambda: self._read_logs(seen), 10, f"{seen.name}: logs")
        pods.delete(admin, pod, case.get("delete-grace"), GOES_WITHIN)
        self._wait_for_events(seen, pod, len(case["events"]))
        self._collect(seen, pod)

    def _pod(self, seen):
        spec = {**seen.case["spec"]}
        for kind in ("containers", "initContainers"):
            if kind in spec:
                spec[kind] = [{"image": IMAGE, **c} for c in spec[kind]]
                for c in spec[kind]:
                    c["image"] = c["image"].replace("{registry}", self.registry.host)
        containers = spec.pop("containers")
        return pods.pod(seen.name, *containers, namespace=NAMESPACE, node=self.node.name, labels={"case": seen.name},
                        **{"terminationGracePeriodSeconds": 2, "restartPolicy": "Always", **spec})

    def _events_of_the_end(self, case):
        return len([e for e in case["events"] if e.startswith("N Killing") and "sidecar" not in case.get("like", "")])

    def _wait_for_events(self, seen, pod, n):
        def enough():
            seen.events = self._event_texts(pod)
            return len(seen.events) >= n
        eventually(enough, 15, f"{seen.name}: {n} kinds of events")

    def _event_texts(self, pod):
        """In the order in which they first came; a repeated one is changed later."""
        with self.api.store.changed:
            new = [item for _, key, kind, item, _ in self.api.store.events
                   if kind == "ADDED" and key[1:3] == ("events", NAMESPACE)]
        mine = [e for e in new if e["involvedObject"]["name"] == pod["metadata"]["name"]]
        return list(dict.fromkeys(f"{e['type'][0]} {e['reason']}: {e['message']}" for e in mine))

    def _read_logs(self, seen):
        for container, text in seen.case["logs"].items():
            done = self.node.cli("logs", "-n", NAMESPACE, seen.name, container)
            seen.logs[container] = done.stdout + done.stderr
            assert seen.matches(text, seen.logs[container]), f"{seen.logs[container]!r} is not {text!r}"
        return True

    def _collect(self, seen, pod):
        """Every status that a watch would have seen, from the server's history."""
        with self.api.store.changed:
            history = [e for e in self.api.store.events if e[1][1:] == ("pods", NAMESPACE, seen.name)]
        seen.statuses = [item["status"] for _, _, kind, item, _ in history if kind != "DELETED"]
        seen.last = history[-1][3]["status"] if history else {}


@pytest.fixture(scope="module")
def recorder():
    config = {"clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local"}
    with NetNs() as netns, FakeApi(netns) as api, Registry(netns) as registry:
        _populate(api)
        with Node("rec", netns=netns, cluster=api, config=config) as node:
            node.import_image(images.busybox(), IMAGE)
            yield Recorder(api, node, registry)


def _populate(api):
    api.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    base = f"/api/v1/namespaces/{NAMESPACE}"
    api.create(f"{base}/serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "default"}})
    api.create(f"{base}/configmaps", {"kind": "ConfigMap", "metadata": {"name": "rec-cm"}, "data": {"a": "1", "b.txt": "2"}})
    api.create(f"{base}/secrets", {"kind": "Secret", "metadata": {"name": "rec-secret"}, "data": {"user": "dQ==", "pass": "cA=="}})
    api.create("/apis/node.k8s.io/v1/runtimeclasses", {"kind": "RuntimeClass", "metadata": {"name": "rec-rc"},
                                                       "handler": "no-such-handler"})
    api.create("/api/v1/namespaces/default/services", {
        "kind": "Service", "metadata": {"name": "kubernetes"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "protocol": "TCP", "port": 443}]}})


@pytest.fixture(scope="module")
def runs(recorder, request):
    """Futures of those cases that this run of pytest asks for."""
    wanted = dict.fromkeys(i.callspec.params["name"] for i in request.session.items
                           if i.path == request.path and hasattr(i, "callspec") and "name" in i.callspec.params)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        yield {name: executor.submit(recorder.run, name) for name in wanted}


def differences(seen):
    """What is not as recorded, as texts."""
    case, found = seen.case, []

    def compare(what, actual, wanted):
        if actual != wanted:
            found.append(f"{what}: {actual}, recorded: {wanted}")

    phases = [s["phase"] for s in seen.statuses]
    compare("phases", [p for i, p in enumerate(phases) if i == 0 or phases[i - 1] != p], case["phases"])
    compare("qosClass", seen.last.get("qosClass"), case["qos"])
    compare("reason", seen.last.get("reason"), case.get("reason"))
    compare("settled", summary(seen.settled or seen.last), expected_summary(case["settled"]))
    compare("ended", summary(seen.last), expected_summary(case["ended"]))
    for what, actual in (("ready", changes(seen, ready_of)), ("started", changes(seen, started_of))):
        wanted = case.get(what, actual)
        if wanted[:1] == ["(false)"]:
            wanted = [False, *wanted[1:]] if actual[:1] == [False] else wanted[1:]
        compare(what, actual, wanted)
    states, messages = history(seen)
    compare("containers", sorted(states), sorted(case["states"]))
    for name, wanted in case["states"].items():
        short = {s.strip("()") for s in wanted if s.startswith("(")}
        compare(f"states of {name}", sorted(states.get(name, set()) | short), sorted({s.strip("()") for s in wanted}))
    for key, text in case["messages"].items():
        if not seen.matches(text, messages.get(key, "")):
            found.append(f"message of {key}: {messages.get(key)!r}, recorded: {text!r}")
    if len(seen.events) != len(case["events"]) or not all(map(seen.matches, case["events"], seen.events)):
        found.append(f"events: {seen.events}, recorded: {case['events']}")
    for status in seen.statuses[1:]:
        if status.get("observedGeneration") != 1:
            found.append(f"observedGeneration: {status.get('observedGeneration')}")
    return found


def changes(seen, read):
    """What read() finds in the statuses, in order, each once."""
    found = [value for value in map(read, seen.statuses) if value is not None]
    return [value for i, value in enumerate(found) if i == 0 or found[i - 1] != value]


def ready_of(status):
    return pods.condition({"status": status}, "Ready")


def started_of(status):
    for c in container_statuses(status):
        return c.get("started")
    return None


def history(seen):
    """All states of each container, and the messages of those that had one."""
    states, messages = {}, {"pod": seen.last.get("message", "")}
    for status in seen.statuses:
        for c in container_statuses(status):
            text, details = state_text(c)
            states.setdefault(c["name"], set()).add(text)
            if details.get("message"):
                messages.setdefault(f"{c['name']} {details.get('reason')}", details["message"])
    return states, messages


@pytest.mark.parametrize("name", CASES)
def test_as_recorded(runs, name):
    seen = runs[name].result(SETTLES_WITHIN + GOES_WITHIN + 600)
    found = differences(seen)
    if seen.error:
        found.insert(0, str(seen.error)[:1500])
    assert not found, "\n".join(found)
