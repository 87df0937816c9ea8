# SPDX-License-Identifier: Apache-2.0
"""Statistics and metrics of a standalone node: the fields and names that upstream's serves (recordings/figures.yaml),
and figures that fit what containers do."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from support import images, pods
from support.pki import Authority
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
RECORDED = yaml.safe_load((Path(__file__).parent / "recordings" / "figures.yaml").read_text())
MIB = 1 << 20

# Uses a processor, 24 MiB of memory, the network, the log, its own files and two volumes.
BUSY = """
dd if=/dev/zero of=/layer bs=1M count=3 2>/dev/null
dd if=/dev/zero of=/disk/file bs=1M count=5 2>/dev/null
dd if=/dev/zero of=/memory/file bs=1M count=2 2>/dev/null
i=0; while [ $i -lt 4000 ]; do echo "line $i of a log that is to take some room on the disk"; i=$((i + 1)); done
ping -c 3 -s 500 GATEWAY >/dev/null
(while :; do :; done) &
exec awk 'BEGIN { x = sprintf("%24000000s", ""); print "all of it is in use"; fflush(); while (1) system("sleep 1000") }'
"""


@pytest.fixture
def stats_node(make_node, busybox, tmp_path):
    authority = Authority(tmp_path / "pki", "clients")
    node = make_node("n1", config={
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}})
    node.admin = authority.issue("admin", groups=["system:masters"])
    node.import_image(busybox, IMAGE)
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


def busy_pod(node):
    mounts = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"},
              {"name": "host", "mountPath": "/host"}]
    limits = {"limits": {"memory": "64Mi", "cpu": "500m"}}
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
               {"name": "host", "hostPath": {"path": "/etc"}}]
    return pods.pod("busy", pods.container("c", IMAGE, BUSY.replace("GATEWAY", node.address), volumeMounts=mounts,
                                           resources=limits),
                    pods.container("idle", "docker.io/library/pause:1"), volumes=volumes)


def start_pods(node):
    """A busy pod, and one in the host's network; waits until it has all that it takes."""
    node.add_manifest("busy", busy_pod(node))
    limited = pods.container("h", "docker.io/library/pause:1", resources={"limits": {"memory": "32Mi"}})
    node.add_manifest("host", pods.pod("host", limited, hostNetwork=True))
    node.wait_pods(lambda found: len(found) == 2 and all(p["phase"] == "Running" for p in found), what="both pods run")
    eventually(lambda: "all of it is in use" in node.cli("logs", "busy-n1", "c").stdout, 30, "the busy pod is busy")


def summary(node, **query):
    return node.kubelet(node.admin).get("/stats/summary", query)


def field_sets(value, at=""):
    """{path of an object: its fields that are no objects}"""
    found = {}
    if isinstance(value, dict):
        plain = {k for k, v in value.items() if not isinstance(v, (dict, list))}
        found[at] = plain
        for key, inner in value.items():
            for path, fields in field_sets(inner, f"{at}.{key}" if at else key).items():
                found.setdefault(path, set()).update(fields)
    elif isinstance(value, list):
        for inner in value:
            for path, fields in field_sets(inner, f"{at}[]").items():
                found.setdefault(path, set()).update(fields)
    return found


# Recorded, and rightly not here.
NOT_HERE = {
    # kubepods has no limit of its own unless enforceNodeAllocatable gives it one.
    "node.systemContainers[].memory.availableBytes",
}
# Here, and not recorded, since that node's cAdvisor did not see its sandboxes; both are in the API's types.
NOT_RECORDED = {"pods[].network", "pods[].network.interfaces[]", "pods[].process_stats"}


def test_summary_has_the_recorded_fields(stats_node):
    start_pods(stats_node)
    summary(stats_node)
    time.sleep(0.1)  # a rate takes two readings
    found = field_sets(summary(stats_node))
    missing = {f"{path}.{field}" for path, fields in RECORDED["summary"].items()
               for field in set(fields) - found.get(path, set())}
    assert missing - NOT_HERE == set()
    more = {path for path, fields in found.items() if fields and path not in RECORDED["summary"] and ".psi" not in path}
    assert more - NOT_RECORDED == set()


def test_summary_fits_what_containers_do(stats_node):
    start_pods(stats_node)
    first = summary(stats_node)
    time.sleep(1)
    found = summary(stats_node)
    by_name = {p["podRef"]["name"]: p for p in found["pods"]}
    busy, host = by_name["busy-n1"], by_name["host-n1"]
    containers = {c["name"]: c for c in busy["containers"]}
    used, idle = containers["c"], containers["idle"]

    before = {c["name"]: c for p in first["pods"] for c in p["containers"]}["c"]
    assert used["cpu"]["usageCoreNanoSeconds"] > before["cpu"]["usageCoreNanoSeconds"]
    assert 20_000_000 < used["cpu"]["usageNanoCores"] < 700_000_000, "a loop under a limit of half a processor"
    assert idle["cpu"]["usageNanoCores"] < 20_000_000
    assert busy["cpu"]["usageCoreNanoSeconds"] >= used["cpu"]["usageCoreNanoSeconds"]
    node = found["node"]
    assert node["cpu"]["usageCoreNanoSeconds"] > busy["cpu"]["usageCoreNanoSeconds"]

    assert 22 * MIB < used["memory"]["workingSetBytes"] < 64 * MIB
    assert used["memory"]["rssBytes"] > 20 * MIB
    assert used["memory"]["availableBytes"] + used["memory"]["workingSetBytes"] == 64 * MIB
    assert "availableBytes" not in idle["memory"], "it has no limit"
    assert used["memory"]["pageFaults"] > 1000
    assert node["memory"]["workingSetBytes"] > 22 * MIB and node["memory"]["availableBytes"] > 0

    assert 3 * MIB <= used["rootfs"]["usedBytes"] < 4 * MIB
    assert 200_000 < used["logs"]["usedBytes"] < 2 * MIB
    volumes = {v["name"]: v for v in busy["volume"]}
    assert set(volumes) == {"disk", "memory"}, "nobody measures the host's own directories"
    assert 5 * MIB <= volumes["disk"]["usedBytes"] < 6 * MIB and volumes["disk"]["inodesUsed"] == 2
    assert 2 * MIB <= volumes["memory"]["usedBytes"] < 3 * MIB
    parts = [c[k]["usedBytes"] for c in busy["containers"] for k in ("rootfs", "logs")] + [volumes["disk"]["usedBytes"]]
    assert 0 < busy["ephemeral-storage"]["usedBytes"] - sum(parts) <= 8192, "and its hosts file"
    assert node["fs"]["capacityBytes"] > node["fs"]["usedBytes"] > 0
    assert node["runtime"]["imageFs"]["usedBytes"] > MIB
    assert node["runtime"]["containerFs"]["usedBytes"] >= used["rootfs"]["usedBytes"]

    assert busy["network"]["name"] == "eth0" and busy["network"]["txBytes"] > 500
    assert [i["name"] for i in busy["network"]["interfaces"]] == ["eth0"]
    assert "network" not in host, "that would be the node's"
    assert node["rlimit"]["curproc"] > 10 and node["rlimit"]["maxpid"] >= 32768
    assert busy["process_stats"]["process_count"] >= 3
    assert {c["name"] for c in node["systemContainers"]} >= {"pods"}

    only = summary(stats_node, only_cpu_and_memory="true")
    assert set(only["node"]) == {"nodeName", "systemContainers", "startTime", "cpu", "memory", "swap"}
    for pod in only["pods"]:
        assert set(pod) == {"podRef", "startTime", "containers", "cpu", "memory", "swap"}
        assert all(set(c) == {"name", "startTime", "cpu", "memory", "swap"} for c in pod["containers"])


def test_summary_of_what_comes_and_goes(stats_node):
    assert summary(stats_node)["pods"] == []
    stats_node.add_manifest("once", pods.pod("once", pods.container("c", IMAGE, "exit 0"), restartPolicy="Never"))
    stats_node.wait_pods(lambda found: found and found[0]["phase"] == "Succeeded", what="it ended")
    for pod in summary(stats_node)["pods"]:
        assert pod["containers"] == []
    client = stats_node.kubelet(stats_node.admin)
    assert client.request("GET", "/stats/")[0] == 404
    assert client.request("GET", "/stats/container")[0] == 404
    assert client.request("GET", "/spec/")[0] == 404
    assert client.request("POST", "/stats/summary")[0] == 405
    headers = client.request("GET", "/stats/summary")[1]
    assert headers["Content-Type"] == "application/json"


def test_stats_command(stats_node):
    start_pods(stats_node)
    found = {p["name"]: p for p in stats_node.cli_json("stats")}
    assert set(found) == {"busy-n1", "host-n1"}
    containers = {c["name"]: c for c in found["busy-n1"]["containers"]}
    assert containers["c"]["cpu_nano_cores"] > 10_000_000, "a first reading waits for a second"
    assert 22 * MIB < containers["c"]["memory_working_set_bytes"] < containers["c"]["memory_limit_bytes"] == 64 * MIB
    assert "memory_limit_bytes" not in containers["idle"]
    assert containers["c"]["rootfs_bytes"] >= 3 * MIB and containers["c"]["logs_bytes"] > 200_000
    table = stats_node.cli("stats", "busy-n1").stdout.splitlines()
    assert table[0].split() == ["POD", "NAMESPACE", "CONTAINER", "CPU", "MEMORY", "LIMIT", "DISK", "LOGS"]
    assert [row.split()[:3] for row in table[1:]] == [["busy-n1", "default", "c"], ["busy-n1", "default", "idle"]]
    assert [p["name"] for p in stats_node.cli_json("stats", "-n", "other")] == []
    missing = stats_node.cli("stats", "nothing", check=False)
    assert missing.returncode == 1 and "there is no running pod 'nothing'" in missing.stderr


# -- metrics ------------------------------------------------------------------------------------------------------------------

PAGES = {"/metrics/resource": "resource", "/metrics/cadvisor": "cadvisor", "/metrics/probes": "probes", "/metrics": "metrics"}
# Of the recorded ones. Constants upstream: never measured there either, or of hardware that these machines have not.
NO_CADVISOR = {
    "container_cpu_load_average_10s", "container_cpu_load_d_average_10s", "container_tasks_state", "container_health_state",
    "container_fs_io_current", "container_fs_io_time_seconds_total", "container_fs_io_time_weighted_seconds_total",
    "container_fs_read_seconds_total", "container_fs_reads_merged_total", "container_fs_reads_total",
    "container_fs_sector_reads_total", "container_fs_sector_writes_total", "container_fs_write_seconds_total",
    "container_fs_writes_merged_total", "container_fs_writes_total",
    "machine_cpu_books", "machine_cpu_drawers", "machine_nvm_avg_power_budget_watts", "machine_nvm_capacity",
    # A look at every descriptor of every process at each scrape.
    "container_file_descriptors", "container_sockets",
}
# Families of /metrics that stand for a part that kubelite does not have, or has in another form.
NO_METRICS = (
    "kubelet_cgroup_manager", "kubelet_container_requested_resizes", "kubelet_cpu_manager", "kubelet_evented_pleg",
    "kubelet_first_network_pod_start", "kubelet_graceful_shutdown", "kubelet_image_manager_ensure", "kubelet_image_volume",
    "kubelet_imagemanager", "kubelet_memory_manager", "kubelet_metrics_provider", "kubelet_node_startup",
    "kubelet_orphan_pod_cleaned_volumes", "kubelet_pleg", "kubelet_pod_in_progress_resizes", "kubelet_pod_resize",
    "kubelet_pod_watch_events_dropped", "kubelet_started_user_namespaced_pods", "kubelet_terminated_containers",
    "kubelet_topology_manager", "kubernetes_feature_enabled", "process_network", "rest_client_", "storage_operation",
    "volume_operation",
)
# Of things that did not happen yet.
NOT_YET = {"kubelet_admission_rejections_total", "kubelet_restarted_pods_total", "kubelet_image_pull_duration_seconds",
           "kubelet_started_containers_errors_total", "kubelet_run_podsandbox_errors_total",
           "kubelet_runtime_operations_errors_total", "kubelet_volume_metric_collection_duration_seconds",
           "prober_probe_duration_seconds", "prober_probe_total"}


class Page:
    """An exposition, parsed strictly: samples by family, label sets, and what is wrong with it."""

    SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: (\d+))?')
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"(,|$)')

    def __init__(self, text):
        self.text, self.types, self.samples = text, {}, {}
        assert text.endswith("\n")
        family = None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                assert family not in self.types, f"{family} comes in two places"
            elif line.startswith("# TYPE "):
                _, _, name, self.types[family] = line.split(" ")
                assert name == family
            else:
                self._add(family, line)

    def _add(self, family, line):
        name, labels, value, _ = self.SAMPLE.fullmatch(line).groups()
        suffixes = ("_bucket", "_sum", "_count") if self.types[family] == "histogram" else ("",)
        assert name in [family + s for s in suffixes], line
        found, rest = {}, labels or ""
        while rest:
            match = self.LABEL.match(rest)
            assert match, line
            assert match.group(1) not in found, line
            found[match.group(1)] = match.group(2)
            rest = rest[match.end():]
        key = (name, tuple(sorted(found.items())))
        assert key not in self.samples, f"twice: {line}"
        self.samples[key] = float(value)

    def families(self):
        """{name: (type, labels)} of families with samples."""
        found = {}
        for name, labels in self.samples:
            for family in (name, *(name.removesuffix(s) for s in ("_bucket", "_sum", "_count"))):
                if family in self.types:
                    found.setdefault(family, (self.types[family], set()))[1].update(k for k, _ in labels if k != "le")
                    break
        return found

    def get(self, name, /, **labels):
        """Values of the samples that have these labels."""
        wanted = set(labels.items())
        return [v for (n, have), v in self.samples.items() if n == name and wanted <= set(have)]


def page(node, path):
    status, headers, body = node.kubelet(node.admin).request("GET", path)
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(body.decode())


def check_with_promtool(text):
    """It must read all of it; what it has to say of names is for upstream, who chose them, but not of our own."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    complaints = (done.stdout + done.stderr).splitlines()
    assert done.returncode in (0, 3), complaints
    assert [c for c in complaints if c.startswith("kubelite_") or "help" in c] == []


def test_metrics_have_the_recorded_names_and_labels(stats_node):
    start_pods(stats_node)
    for path, kind in PAGES.items():
        found = page(stats_node, path)
        check_with_promtool(found.text)
        families = found.families()
        for name, recorded in RECORDED[kind].items():
            if name in NO_CADVISOR | NOT_YET or (kind == "metrics" and name.startswith(NO_METRICS)):
                continue
            assert name in families, f"{path}: {name}"
            if kind == "metrics":
                assert families[name][0] == recorded, name
            else:
                assert [families[name][0], *sorted(families[name][1])] == recorded, name


def test_metrics_fit_what_containers_do(stats_node):
    start_pods(stats_node)
    here = {"namespace": "default", "pod": "busy-n1"}
    resource, cadvisor, own = (page(stats_node, p) for p in ("/metrics/resource", "/metrics/cadvisor", "/metrics"))

    assert resource.get("container_cpu_usage_seconds_total", container="c", **here)[0] > 0.1
    assert 22 * MIB < resource.get("container_memory_working_set_bytes", container="c", **here)[0] < 64 * MIB
    assert resource.get("pod_cpu_usage_seconds_total", **here)[0] > 0.1
    assert abs(resource.get("container_start_time_seconds", container="c", **here)[0] - time.time()) < 300
    assert resource.get("node_cpu_usage_seconds_total")[0] > resource.get("pod_cpu_usage_seconds_total", **here)[0]
    assert resource.get("resource_scrape_error") == [0]

    (path,) = {dict(k)["id"] for n, k in cadvisor.samples if n == "container_memory_rss" and dict(k)["container"] == "c"}
    assert re.fullmatch(r"/[^/]+/kubepods/burstable/pod[^/]+/[0-9a-f]{64}", path)
    c = {"container": "c", "id": path, "image": IMAGE, "name": path.rsplit("/", 1)[1], **here}
    assert cadvisor.get("container_cpu_usage_seconds_total", cpu="total", **c)[0] > 0.1
    assert cadvisor.get("container_spec_memory_limit_bytes", **c) == [64 * MIB]
    assert cadvisor.get("container_spec_cpu_quota", **c) == [50000]
    assert cadvisor.get("container_cpu_cfs_periods_total", **c)[0] > 0
    assert cadvisor.get("container_processes", **c)[0] >= 2
    assert cadvisor.get("container_fs_usage_bytes", **c)[0] >= 3 * MIB
    assert cadvisor.get("container_network_transmit_bytes_total", container="", interface="eth0", **here)[0] > 500
    assert cadvisor.get("machine_cpu_cores")[0] == os.cpu_count()
    ids = {dict(k).get("id") for _, k in cadvisor.samples} - {None}
    assert "/" in ids and any(i.endswith("/kubepods/besteffort") for i in ids)

    assert own.get("kubelet_running_pods") == [2]
    assert own.get("kubelet_running_containers", container_state="running") == [3]
    assert own.get("kubelet_desired_pods", static="true") == [2]
    assert own.get("kubelet_working_pods", lifecycle="sync", config="desired", static="true") == [2]
    assert own.get("kubelet_started_pods_total") == [2]
    assert own.get("kubelet_started_containers_total", container_type="container") == [3]
    assert own.get("kubelet_runtime_operations_total", operation_type="start_container") == [3]
    assert own.get("kubelet_runtime_operations_duration_seconds_count", operation_type="run_podsandbox") == [2]
    assert own.get("kubelet_pod_start_duration_seconds_count") == [2]
    assert sum(own.get("kubelet_pod_start_sli_duration_seconds_count")) == 2
    assert own.get("kubelet_pod_start_sli_duration_seconds_count", first_with_network="true") == [1]
    assert own.get("kubelet_node_name", node="n1") == [1]
    assert own.get("kubelet_container_log_filesystem_used_bytes", container="c", **here)[0] > 200_000
    assert own.get("volume_manager_total_volumes", plugin_name="kubernetes.io/empty-dir",
                   state="actual_state_of_world") == [2]
    assert own.get("kubelet_http_requests_total", path="metrics/resource", method="GET", long_running="false",
                   server_type="readwrite") == [1]
    assert own.get("kubelet_http_requests_duration_seconds_count", path="metrics/cadvisor") == [1]
    assert own.get("kubelet_http_inflight_requests", path="metrics") == [1]
    assert own.get("process_open_fds")[0] > 10
    assert abs(own.get("process_start_time_seconds")[0] - time.time()) < 300
    assert stats_node.kubelet(stats_node.admin).request("GET", "/metrics/nothing")[0] == 404


def test_figures_of_pods_that_are_just_starting(stats_node):
    """Asked for at any moment: between the runtime's word that a container runs and the pod's own record of it, too."""
    client = stats_node.kubelet(stats_node.admin)
    for n in range(12):
        stats_node.add_manifest(f"p{n}", pods.pod(f"p{n}", pods.container("c", IMAGE, "exec sleep 100000")))

    def all_run():
        for path in ("/metrics", "/stats/summary", "/metrics/cadvisor", "/metrics/resource"):
            assert client.request("GET", path)[0] == 200
        return len([p for p in stats_node.pods() if p["phase"] == "Running"]) == 12

    eventually(all_run, 60, "all run")
