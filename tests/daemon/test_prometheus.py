# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes all pages of a node over HTTPS, with a client certificate, and answers a query about a pod."""

import contextlib
import json
import shutil
import urllib.parse

import pytest
import yaml

from support import pods
from support.api import Api
from support.pki import Authority
from support.process import Process
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
PAGES = ["/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource"]
PORT = 9090


def configuration(address, pair):
    jobs = [{"job_name": path, "scheme": "https", "metrics_path": path, "honor_timestamps": True,
             "static_configs": [{"targets": [f"{address}:10250"]}],
             "tls_config": {"cert_file": str(pair.cert), "key_file": str(pair.key), "insecure_skip_verify": True}}
            for path in PAGES]
    return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}


@contextlib.contextmanager
def prometheus(netns, directory, config):
    directory.mkdir()
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{PORT}", "--log.level=warn"]
    process = Process(argv, directory / "log", netns=netns)
    try:
        yield Api("127.0.0.1", PORT, netns.connect, tls=False)
    finally:
        process.kill()


def ask(api, path, **query):
    try:
        status, _, body = api.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
    except OSError:
        return None  # it is not there yet
    return json.loads(body)["data"] if status == 200 else None


def all_up(api):
    found = (ask(api, "targets") or {}).get("activeTargets", [])
    broken = [t["lastError"] for t in found if t["health"] == "down" and "refused" not in t["lastError"]]
    assert not broken, broken
    return len(found) == len(PAGES) and all(t["health"] == "up" for t in found)


def value(api, query):
    found = (ask(api, "query", query=query) or {}).get("result") or []
    return float(found[0]["value"][1]) if found else None


@pytest.mark.release  # what a scraper makes of the pages does not depend on how the daemon was built
def test_prometheus_scrapes_a_node(make_node, busybox, tmp_path):
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus: Debian's package of that name")
    authority = Authority(tmp_path / "pki", "clients")
    node = make_node("n1", config={
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}})
    node.import_image(busybox, IMAGE)
    node.add_manifest("web", pods.pod("web", pods.container("c", IMAGE, "while :; do :; done")))
    node.wait_pods(lambda found: found and found[0]["phase"] == "Running", what="it runs")
    config = configuration(node.address, authority.issue("prometheus"))
    with prometheus(node.netns, tmp_path / "prometheus", config) as api:
        eventually(lambda: all_up(api), 60, "all targets are up")
        pod = 'namespace="default",pod="web-n1",container="c"'
        query = f"rate(container_cpu_usage_seconds_total{{job='/metrics/cadvisor',{pod}}}[30s])"
        eventually(lambda: (value(api, query) or 0) > 0.01, 60, "a rate of the container's loop")
        assert value(api, query) < 2
        assert value(api, f"container_memory_working_set_bytes{{job='/metrics/resource',{pod}}}") > 0
        assert value(api, "kubelet_running_pods") == 1
        assert value(api, 'up{job="/metrics/probes"}') == 1
