# SPDX-License-Identifier: Apache-2.0
"""Pods of a real API server, from a watch event to a running process and back to a status."""

import pytest

from support import pods
from support.wait import eventually


@pytest.fixture
def image(cluster_registry):
    return f"{cluster_registry.host}/busybox:1"


def terminated(pod, name="c"):
    kind, details = pods.state_of(pod, name)
    return details if kind == "terminated" else None


def is_phase(phase):
    return lambda p: pods.phase(p) == phase


def waits_with(reason, name="c"):
    return lambda p: pods.state_of(p, name)[0] == "waiting" and pods.reason_of(p, name) == reason


def log_of(node, pod, container="c"):
    return node.cli("logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], container).stdout


def test_pod_runs_and_goes(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "echo hello; sleep 100"), namespace=namespace, node=node.name, dnsPolicy="Default")
    seen = pods.run(cluster.admin, p)
    assert seen["status"]["podIP"].startswith("10.88.")
    assert seen["status"]["hostIP"] == node.address
    assert pods.state_of(seen)[0] == "running"
    assert seen["status"]["qosClass"] == "BestEffort"
    status = pods.status_of(seen)
    assert status["containerID"].startswith("kubelite://") and len(status["containerID"]) == 11 + 64
    assert "@sha256:" in status["imageID"]
    eventually(lambda: log_of(node, p) == "hello\n", 5, "the log line")
    pods.delete(cluster.admin, p)
    expected = ["Pulling", "Pulled", "Created", "Started", "Killing"]
    eventually(lambda: pods.event_reasons(cluster.admin, p) == expected, 5, "the events")


@pytest.mark.parametrize("script, phase, code, reason", [
    ("exit 0", "Succeeded", 0, "Completed"),
    ("exit 3", "Failed", 3, "Error"),
    # $$ is an escaped $ in a pod's command. The first process of a pid namespace is immune to itself.
    ("sh -c 'kill -9 $$$$'; exit $?", "Failed", 137, "Error"),
])
def test_end_of_a_pod_that_never_restarts(node, cluster, image, namespace, script, phase, code, reason):
    p = pods.pod("p", pods.container("c", image, script), namespace=namespace, node=node.name, restartPolicy="Never")
    seen = pods.run(cluster.admin, p, is_phase(phase))
    assert terminated(seen)["exitCode"] == code
    assert terminated(seen)["reason"] == reason
    assert pods.condition(seen, "Ready") == "False"
    # Its sandbox goes, its record and log stay until it is deleted.
    cluster.admin.wait_for(pods.path(p), lambda o: pods.condition(o, "PodReadyToStartContainers") in ("False", None))
    pods.delete(cluster.admin, p)


def test_crash_loop(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "echo again; exit 1"), namespace=namespace, node=node.name)
    seen = pods.run(cluster.admin, p, waits_with("CrashLoopBackOff"))
    assert pods.status_of(seen)["restartCount"] >= 1
    assert pods.status_of(seen)["lastState"]["terminated"]["exitCode"] == 1
    assert pods.state_of(seen)[1]["message"].startswith("back-off 10s restarting failed container=c pod=p_")
    assert pods.phase(seen) == "Running"
    eventually(lambda: "BackOff" in pods.event_reasons(cluster.admin, p), 5, "the event")
    assert "again" in node.cli("logs", "-p", "-n", namespace, "p", "c").stdout


def test_missing_command(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, ["/no/such"]), namespace=namespace, node=node.name, restartPolicy="Never")
    seen = pods.run(cluster.admin, p, is_phase("Failed"))
    assert terminated(seen)["reason"] == "StartError"
    assert terminated(seen)["exitCode"] == 128
    assert 'exec: "/no/such"' in terminated(seen)["message"]
    eventually(lambda: pods.event_reasons(cluster.admin, p)[-1:] == ["Failed"], 5, "the event")


def test_image_errors(node, cluster, cluster_registry, namespace):
    host = cluster_registry.host
    missing = pods.pod("missing", pods.container("c", f"{host}/none:1"), namespace=namespace, node=node.name)
    never = pods.pod("never", pods.container("c", f"{host}/none:2", imagePullPolicy="Never"), namespace=namespace,
                     node=node.name)
    invalid = pods.pod("invalid", pods.container("c", "UPPER//x:1"), namespace=namespace, node=node.name)
    for p in (missing, never, invalid):
        cluster.admin.post(pods.collection(namespace), p)
    for p, reason in ((missing, "ErrImagePull"), (missing, "ImagePullBackOff"), (never, "ErrImageNeverPull"),
                      (invalid, "InvalidImageName")):
        cluster.admin.wait_for(pods.path(p), waits_with(reason), 30, f"{p['metadata']['name']}: {reason}")
    expected = ["Pulling", "Failed", "Failed", "BackOff"]
    eventually(lambda: pods.event_reasons(cluster.admin, missing)[:4] == expected, 5, "the events")
    pods.delete(cluster.admin, missing)


def test_init_containers_and_sidecar(node, cluster, image, namespace):
    share = [{"name": "v", "mountPath": "/v"}]
    p = pods.pod(
        "p", pods.container("c", image, "cat /v/steps; sleep 100", volumeMounts=share), namespace=namespace, node=node.name,
        initContainers=[pods.container("i1", image, "echo one >> /v/steps", volumeMounts=share),
                        pods.container("i2", image, "echo two >> /v/steps", volumeMounts=share)],
        volumes=[{"name": "v", "emptyDir": {}}])
    seen = pods.run(cluster.admin, p)
    assert [s["state"]["terminated"]["reason"] for s in seen["status"]["initContainerStatuses"]] == ["Completed"] * 2
    eventually(lambda: log_of(node, p) == "one\ntwo\n", 5, "the steps in order")


def test_environment_and_volumes(node, cluster, image, namespace):
    base = f"/api/v1/namespaces/{namespace}"
    cluster.admin.post(f"{base}/configmaps", {"metadata": {"name": "m"}, "data": {"k": "v1", "file": "text"}})
    cluster.admin.post(f"{base}/secrets", {"metadata": {"name": "s"}, "stringData": {"pw": "geheim"}})
    script = ("echo $POD $NODE $K $PW $IP; cat /m/file /s/pw /d/labels; "
              "test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; "
              "grep -c tmpfs /proc/mounts >/dev/null; stat -f -c %T /s; while true; do cat /m/k; echo; sleep 0.2; done")
    p = pods.pod(
        "p", pods.container(
            "c", image, script,
            env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                 {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                 {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                 {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
                 {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}}],
            volumeMounts=[{"name": "m", "mountPath": "/m"}, {"name": "s", "mountPath": "/s"},
                          {"name": "d", "mountPath": "/d"}]),
        namespace=namespace, node=node.name, labels={"app": "x"},
        volumes=[{"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}},
                 {"name": "d", "downwardAPI": {"items": [{"path": "labels",
                                                          "fieldRef": {"fieldPath": "metadata.labels"}}]}}])
    seen = pods.run(cluster.admin, p)
    expected = f"p {node.name} v1 geheim {seen['status']['podIP']}\ntextgeheimapp=\"x\"token\ntmpfs\n"
    eventually(lambda: log_of(node, p).startswith(expected), 5, "environment and files")
    cluster.admin.patch(f"{base}/configmaps/m", {"data": {"k": "v2"}})
    eventually(lambda: "v2" in log_of(node, p), 10, "the updated file")


def test_missing_configmap_comes_later(node, cluster, image, namespace):
    env = [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]
    p = pods.pod("p", pods.container("c", image, "sleep 100", env=env), namespace=namespace, node=node.name)
    seen = pods.run(cluster.admin, p, waits_with("CreateContainerConfigError"))
    assert pods.state_of(seen)[1]["message"] == 'configmap "late" not found'
    cluster.admin.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "late"}, "data": {"k": "v"}})
    cluster.admin.wait_for(pods.path(p), pods.ready, 20)


def test_missing_volume_source(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "sleep 100", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
                 namespace=namespace, node=node.name, volumes=[{"name": "v", "configMap": {"name": "late"}}])
    cluster.admin.post(pods.collection(namespace), p)
    found = eventually(lambda: [e for e in pods.events(cluster.admin, p) if e["reason"] == "FailedMount"], 15, "FailedMount")
    assert found[0]["message"] == 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
    cluster.admin.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "late"}, "data": {"k": "v"}})
    cluster.admin.wait_for(pods.path(p), pods.ready, 20)


def test_rejected_pods(node, cluster, image, namespace):
    big = pods.pod("big", pods.container("c", image, resources={"requests": {"cpu": "640"}}), namespace=namespace,
                   node=node.name)
    other = pods.pod("other", pods.container("c", image), namespace=namespace, node=node.name, nodeSelector={"no": "such"})
    for p, reason in ((big, "OutOfcpu"), (other, "NodeAffinity")):
        seen = pods.run(cluster.admin, p, is_phase("Failed"))
        assert seen["status"]["reason"] == reason
        eventually(lambda: pods.event_reasons(cluster.admin, p) == [reason], 5, "the event")
        pods.delete(cluster.admin, p)


def test_sandbox_that_cannot_be_made(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "sleep 100"), namespace=namespace, node=node.name,
                 securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "many"}]})
    cluster.admin.post(pods.collection(namespace), p)

    def tries():
        return sum(e.get("count") or 1 for e in pods.events(cluster.admin, p) if e["reason"] == "FailedCreatePodSandBox")

    eventually(lambda: tries() >= 2, 30, "a second try")
    assert pods.reason_of(cluster.admin.get(pods.path(p))) == "ContainerCreating"
    pods.delete(cluster.admin, p)


def test_host_network(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "hostname -i; sleep 100"), namespace=namespace, node=node.name, hostNetwork=True)
    seen = pods.run(cluster.admin, p)
    assert seen["status"]["podIP"] == node.address


def test_grace_period_and_forced_deletion(node, cluster, image, namespace):
    stubborn = "trap '' TERM; while true; do sleep 0.1; done"
    p = pods.pod("p", pods.container("c", image, stubborn), namespace=namespace, node=node.name,
                 terminationGracePeriodSeconds=600)
    pods.run(cluster.admin, p)
    cluster.admin.delete(pods.path(p))
    cluster.admin.wait_for(pods.path(p), lambda o: o["metadata"].get("deletionTimestamp"))
    # A shorter grace shortens what is under way.
    pods.delete(cluster.admin, p, grace=1, timeout=20)


def test_oom(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "tail /dev/zero", resources={"limits": {"memory": "20Mi"}}),
                 namespace=namespace, node=node.name, restartPolicy="Never")
    seen = pods.run(cluster.admin, p, is_phase("Failed"))
    assert terminated(seen)["reason"] == "OOMKilled"
    assert terminated(seen)["exitCode"] == 137


def test_users(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "id; grep Cap /proc/self/status; sleep 100",
                                     securityContext={"runAsUser": 1000, "runAsGroup": 3000,
                                                      "capabilities": {"drop": ["ALL"]}}),
                 namespace=namespace, node=node.name, securityContext={"supplementalGroups": [4000], "fsGroup": 5000})
    pods.run(cluster.admin, p)
    text = eventually(lambda: (t := log_of(node, p)).count("\n") >= 6 and t, 5, "the log")
    assert text.startswith("uid=1000(app) gid=3000 groups=2000(extra),3000,4000,5000") or "uid=1000" in text
    assert "CapEff:\t0000000000000000" in text
    root = pods.pod("root", pods.container("c", image, securityContext={"runAsNonRoot": True}), namespace=namespace,
                    node=node.name)
    seen = pods.run(cluster.admin, root, waits_with("CreateContainerConfigError"))
    assert "container has runAsNonRoot and image will run as root" in pods.state_of(seen)[1]["message"]


def test_termination_message(node, cluster, image, namespace):
    p = pods.pod("p", pods.container("c", image, "echo bye > /dev/termination-log; exit 1"), namespace=namespace,
                 node=node.name, restartPolicy="Never")
    seen = pods.run(cluster.admin, p, is_phase("Failed"))
    assert terminated(seen)["message"] == "bye\n"


def test_static_pod_has_a_mirror(node, cluster, image):
    node.add_manifest("web", pods.pod("web", pods.container("c", image, "sleep 100"), namespace="kube-system"))
    path = f"/api/v1/namespaces/kube-system/pods/web-{node.name}"
    mirror = cluster.admin.wait_for(path, pods.ready, 30)
    owner = mirror["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", node.name, True)
    notes = mirror["metadata"]["annotations"]
    assert notes["kubernetes.io/config.mirror"] == notes["kubernetes.io/config.hash"]
    assert notes["kubernetes.io/config.source"] == "file"
    uid = mirror["metadata"]["uid"]
    cluster.admin.delete(path, grace=0)
    cluster.admin.wait_for(path, lambda p: p and p["metadata"]["uid"] != uid and pods.ready(p), 20, "made again")
    node.add_manifest("web", pods.pod("web", pods.container("c", image, "sleep 200"), namespace="kube-system"))
    cluster.admin.wait_for(path, lambda p: p and p["spec"]["containers"][0]["command"][2] == "sleep 200" and pods.ready(p),
                           30, "the edited pod")
    node.remove_manifest("web")
    cluster.admin.wait_for(path, lambda p: p is None, 30, "gone with its manifest")
