# SPDX-License-Identifier: Apache-2.0
"""What a container finds: names and network files, and its environment.

One node with the stand-in API server, a cluster DNS and a resolv.conf of its own.
"""

import pytest

from support import pods
from support.fakeapi import FakeApi
from support.netns import NetNs
from support.node import Node
from support.wait import eventually

IMAGE = "docker.io/library/busybox:1"
SERVERS = "nameserver 9.9.9.9\nnameserver 8.8.8.8\nnameserver 7.7.7.7\n"
RESOLV = f"{SERVERS}search corp.example\noptions timeout:1\n"


@pytest.fixture(scope="module")
def node(busybox, tmp_path_factory):
    resolv = tmp_path_factory.mktemp("resolv") / "resolv.conf"
    resolv.write_text(RESOLV)
    config = {"clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local", "resolvConf": str(resolv)}
    with NetNs() as netns, FakeApi(netns) as api, Node("n1", netns=netns, cluster=api, config=config) as started:
        started.import_image(busybox, IMAGE)
        yield started


def run(node, name, script, until=None, container=None, **spec):
    """Runs a pod whose container says something, and returns (pod, what it said)."""
    api = node.cluster.admin
    pod = pods.pod(name, pods.container("c", IMAGE, script, **(container or {})), node=node.name,
                   **{"restartPolicy": "Never", **spec})
    seen = pods.run(api, pod, until or (lambda p: pods.phase(p) in ("Succeeded", "Failed")))
    said = node.cli("logs", name, "c").stdout if until is None else None
    return seen, said


def delete(node, *names):
    for name in names:
        pods.delete(node.cluster.admin, pods.pod(name))


def wait_events(node, name, reason, n=1):
    def found():
        messages = [e["message"] for e in pods.events(node.cluster.admin, pods.pod(name)) if e["reason"] == reason]
        return messages if len(messages) >= n else None
    return eventually(found, 15, f"{reason} of {name}")


# -- names and network files ----------------------------------------------------------------------------------------------

DNS = {
    "first": ({}, "search default.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\n"
              "options ndots:5\n"),
    "host": ({"dnsPolicy": "Default"}, f"search corp.example\n{SERVERS}options timeout:1\n"),
    "hostnet": ({"hostNetwork": True}, f"search corp.example\n{SERVERS}options timeout:1\n"),
    "withhost": ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
                 "search default.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\n"
                 "options ndots:5\n"),
    "none": ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
                                                 "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}},
             "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"),
}


def test_dns_policies(node):
    for name, (spec, expected) in DNS.items():
        _, said = run(node, name, "cat /etc/resolv.conf", **spec)
        assert said == expected, name
    delete(node, *DNS)


def test_dns_limits(node):
    """What does not fit is left out, and told as upstream tells it."""
    searches = [f"s{i:02}.example" for i in range(33)]
    _, said = run(node, "limits", "cat /etc/resolv.conf", dnsPolicy="Default",
                  dnsConfig={"nameservers": ["1.1.1.1"], "searches": searches})
    kept = " ".join(["corp.example", *searches[:31]])
    assert said.splitlines()[0] == f"search {kept}" and said.count("nameserver") == 3
    assert sorted(wait_events(node, "limits", "DNSConfigForming", 2)) == [
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        "9.9.9.9 8.8.8.8 7.7.7.7",
        f"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {kept}"]
    delete(node, "limits")


def test_host_names(node):
    show = "hostname; echo $HOSTNAME; grep $(hostname -i) /etc/hosts"
    cases = {
        "own": ({}, "own\nown\n{ip}\town\n"),
        "sub": ({"hostname": "h", "subdomain": "s"}, "h\nh\n{ip}\th.s.default.svc.cluster.local\th\n"),
        "fqdn": ({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": True},
                 "h.s.default.svc.cluster.local\n" * 2 + "{ip}\th.s.default.svc.cluster.local\th\n"),
        "override": ({"hostname": "h", "subdomain": "s", "hostnameOverride": "my.very.own"},
                     "my.very.own\nmy.very.own\n{ip}\tmy.very.own\n"),
        "aliases": ({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b", "c"]}]}, "aliases\naliases\n{ip}\taliases\n"),
    }
    for name, (spec, expected) in cases.items():
        seen, said = run(node, name, show + "; tail -n 2 /etc/hosts" * (name == "aliases"), **spec)
        more = "# Entries added by HostAliases.\n1.2.3.4\ta.b\tc\n" if name == "aliases" else ""
        assert said == expected.format(ip=seen["status"]["podIP"]) + more, name
    delete(node, *cases)


def test_full_name_that_is_too_long(node):
    """64 bytes are the limit of the kernel; the sandbox is not made."""
    long = "h" * 40
    run(node, "long", "true", until=lambda p: True, hostname=long, subdomain="s", setHostnameAsFQDN=True)
    full = f"{long}.s.default.svc.cluster.local"
    assert wait_events(node, "long", "FailedCreatePodSandBox") == [
        f"Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
        f"(64 characters is the max, {len(full)} characters requested)"]
    delete(node, "long")


def test_own_mount_over_hosts(node):
    """A user's own file at /etc/hosts stays theirs, and so does resolv.conf."""
    mounts = [{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"},
              {"name": "v", "mountPath": "/etc/resolv.conf", "subPath": "resolv"}]
    init = pods.container("i", IMAGE, "echo mine >/v/hosts; echo ours >/v/resolv", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    _, said = run(node, "mine", "cat /etc/hosts /etc/resolv.conf", container={"volumeMounts": mounts}, initContainers=[init],
                  volumes=[{"name": "v", "emptyDir": {}}])
    assert said == "mine\nours\n"
    delete(node, "mine")


def test_huge_files_of_containers(node):
    """What a container makes of its hosts, resolv.conf and termination message costs the daemon nothing."""
    before = _memory(node)
    script = ("for f in /etc/hosts /etc/resolv.conf /dev/termination-log; do dd if=/dev/zero bs=1M count=24 2>/dev/null | tr '\\0' x >>$f; "
              "done; exit 1")
    seen, _ = run(node, "huge", script)
    message = pods.state_of(seen)[1]["message"]
    assert message == "x" * 4096
    assert _memory(node) - before < 8 << 20
    delete(node, "huge")


def _memory(node):
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


def test_host_ports_of_host_network(node):
    """A container port on the host's network is a host port: the second pod does not fit."""
    ports = {"ports": [{"containerPort": 18123}]}
    run(node, "port1", "sleep 1000", until=pods.ready, container=ports, hostNetwork=True)
    seen, _ = run(node, "port2", "sleep 1000", until=lambda p: pods.phase(p) == "Failed", container=ports, hostNetwork=True)
    assert seen["status"]["reason"] == "NodePorts"
    delete(node, "port1", "port2")


# -- environment ----------------------------------------------------------------------------------------------------------


def field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name, what, **more):
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": what, **more}}}


def variables(said):
    return dict(line.split("=", 1) for line in said.splitlines())


@pytest.mark.parametrize("host", [False, True], ids=["own network", "host's network"])
def test_fields(node, host):
    paths = {"NAME": "metadata.name", "NAMESPACE": "metadata.namespace", "UID_": "metadata.uid",
             "LABEL": "metadata.labels['app.x/y']", "NOTE": "metadata.annotations['n']", "NONE": "metadata.labels['none']",
             "NODE": "spec.nodeName", "ACCOUNT": "spec.serviceAccountName", "HOST": "status.hostIP", "HOSTS": "status.hostIPs",
             "IP": "status.podIP", "IPS": "status.podIPs"}
    api = node.cluster.admin
    pod = pods.pod("fields", pods.container("c", IMAGE, "env", env=[field(n, p) for n, p in paths.items()]), node=node.name,
                   labels={"app.x/y": "v"}, annotations={"n": "two words"}, restartPolicy="Never", hostNetwork=host)
    seen = pods.run(api, pod, lambda p: pods.phase(p) == "Succeeded")
    found = variables(node.cli("logs", "fields", "c").stdout)
    ip = node.address if host else seen["status"]["podIP"]
    expected = {"NAME": "fields", "NAMESPACE": "default", "UID_": seen["metadata"]["uid"], "LABEL": "v", "NOTE": "two words",
                "NONE": "", "NODE": node.name, "ACCOUNT": "", "HOST": node.address, "HOSTS": node.address, "IP": ip, "IPS": ip}
    assert {n: found.get(n) for n in paths} == expected
    delete(node, "fields")


def test_resources(node):
    env = [resource("CPU", "limits.cpu"), resource("CPU_M", "limits.cpu", divisor="1m"),
           resource("MEM", "requests.memory", divisor="1Mi"), resource("NONE", "requests.cpu"),
           resource("NODE", "limits.memory", containerName="bare", divisor="1Ki")]
    spec = {"resources": {"limits": {"cpu": "150m"}, "requests": {"memory": "33Mi", "cpu": "0"}}, "env": env}
    bare = pods.container("bare", IMAGE, "true")
    api = node.cluster.admin
    pod = pods.pod("resources", pods.container("c", IMAGE, "env", **spec), bare, node=node.name, restartPolicy="Never")
    pods.run(api, pod, lambda p: pods.phase(p) == "Succeeded")
    found = variables(node.cli("logs", "resources", "c").stdout)
    assert [found[n] for n in ("CPU", "CPU_M", "MEM", "NONE")] == ["1", "150", "33", "0"]
    allocatable = api.get(f"/api/v1/nodes/{node.name}")["status"]["allocatable"]["memory"]
    assert f"{found['NODE']}Ki" == allocatable
    delete(node, "resources")


def test_sources_and_expansion(node):
    """envFrom with prefixes, its order, optional ones, and $(VAR) over all of it."""
    api = node.cluster.admin
    base = "/api/v1/namespaces/default"
    api.post(f"{base}/configmaps", {"kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"A": "1", "b.c-d": "2", "X": "cm"}})
    api.post(f"{base}/secrets", {"kind": "Secret", "metadata": {"name": "s"}, "data": {"X": "c2VjcmV0"}})
    env_from = [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}},
                {"configMapRef": {"name": "none", "optional": True}}]
    key = {"configMapKeyRef": {"name": "cm", "key": "none", "optional": True}}
    env = [{"name": "Y", "value": "$(P_A)$(X)$(Z)$$(A)"}, {"name": "Z", "value": "late"}, {"name": "MISSING", "valueFrom": key},
           {"name": "A", "value": "mine"}, {"name": "AA", "value": "<$(A)>"}]
    command = ["/bin/sh", "-c", 'env; echo "args=$0 $1"', "$(AA)", "$$(AA) $(NO)"]
    _, said = run(node, "sources", command, container={"envFrom": env_from, "env": env})
    found = variables(said)
    assert {n: found.get(n) for n in ("P_A", "P_b.c-d", "P_X", "X", "Y", "MISSING", "A", "AA", "args")} == {
        "P_A": "1", "P_b.c-d": found.get("P_b.c-d"), "P_X": "cm", "X": "secret", "Y": "1secret$(Z)$(A)", "MISSING": None,
        "A": "mine", "AA": "<mine>", "args": "<mine> $(AA) $(NO)"}
    delete(node, "sources")


def file_ref(name, key, path="e.env", **more):
    return {"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": path, "key": key, **more}}}


def write_env(text):
    return pods.container("i", IMAGE, f'cat >/v/e.env <<"EOF"\n{text}\nEOF\nln -s /etc/passwd /v/link; mkfifo /v/pipe',
                          volumeMounts=[{"name": "v", "mountPath": "/v"}])


def test_env_files(node):
    """KEP-3721: read from an emptyDir that the container itself does not mount."""
    volumes = [{"name": "v", "emptyDir": {}}]
    env = [file_ref("ONE", "ONE"), file_ref("MANY", "MANY"), file_ref("NONE", "NONE", optional=True),
           file_ref("NOFILE", "ONE", "other", optional=True), {"name": "REF", "value": "<$(ONE)>"}]
    _, said = run(node, "files", "env; ls /v 2>&1", container={"env": env}, volumes=volumes,
                  initContainers=[write_env("# c\nONE='1 $(X)'\nMANY='a\nb'")])
    assert "ONE=1 $(X)\n" in said and "MANY=a\nb\n" in said and "NONE" not in said and "NOFILE" not in said
    assert "REF=<1 $(X)>\n" in said and "No such file" in said
    delete(node, "files")


ENV_FILE_ERRORS = {
    "nokey": (file_ref("A", "B"), 'environment variable key "B" not found in file "v/e.env"'),
    "nofile": (file_ref("A", "A", "none"), 'failed to open environment variable file "v/none": no such file or directory'),
    "format": (file_ref("A", "C"), "invalid environment variable format at line 2: value must be enclosed in single quotes"),
    "outside": (file_ref("A", "A", "link"), 'failed to open environment variable file "v/link": no such file or directory'),
    "pipe": (file_ref("A", "A", "pipe"), 'failed to open environment variable file "v/pipe": Invalid argument'),
}


def test_env_file_errors(node):
    """Nothing outside of the volume is read, nothing blocks, and the container says why it does not start."""
    api = node.cluster.admin
    for name, (env, _) in ENV_FILE_ERRORS.items():
        text = "A='1'\nB=2" if name == "format" else "A='1'"
        pod = pods.pod(name, pods.container("c", IMAGE, "env", env=[env]), node=node.name, initContainers=[write_env(text)],
                       volumes=[{"name": "v", "emptyDir": {}}])
        api.post(pods.collection(), pod)
    for name, (_, message) in ENV_FILE_ERRORS.items():
        seen = api.wait_for(pods.path(pods.pod(name)), lambda p: pods.reason_of(p) == "CreateContainerConfigError")
        assert pods.state_of(seen)[1]["message"] == message
    delete(node, *ENV_FILE_ERRORS)


def test_services_come_first(node):
    """No pod starts before the services were read: its variables could be missing."""
    api = node.cluster.admin
    node.kill9()
    node.cluster.create("/api/v1/namespaces/default/services", {
        "kind": "Service", "metadata": {"name": "my-db"}, "spec": {"clusterIP": "10.96.0.7", "ports": [
            {"name": "sql", "protocol": "TCP", "port": 5432}]}})
    hang = node.cluster.fail("hang", "/api/v1/services")
    node.start(ready=False)
    pod = pods.pod("svc", pods.container("c", IMAGE, "env"), node=node.name, restartPolicy="Never")
    plain = pods.pod("nolinks", pods.container("c", IMAGE, "env"), node=node.name, restartPolicy="Never", enableServiceLinks=False)
    api.post(pods.collection(), pod)
    api.post(pods.collection(), plain)
    api.wait_for(pods.path(pod), lambda p: pods.condition(p, "PodReadyToStartContainers") == "True")
    assert pods.state_of(api.get(pods.path(pod)))[0] == "waiting"
    node.cluster.clear(hang)
    for p in (pod, plain):
        api.wait_for(pods.path(p), lambda q: pods.phase(q) == "Succeeded", 60)
    found = variables(node.cli("logs", "svc", "c").stdout)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.7" and found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.96.0.7:5432"
    assert "MY_DB" not in node.cli("logs", "nolinks", "c").stdout
    delete(node, "svc", "nolinks")
