# SPDX-License-Identifier: Apache-2.0
"""Our CNI plugins against the real kernel and against the reference plugins.

The runner below does what libcni does with a configuration list. Everything happens in network namespaces of the test's own:
`node` plays the machine, each pod has one, and `outside` is a host beyond the node that knows no route to pods.
"""

import concurrent.futures
import contextlib
import fcntl
import ipaddress
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from support import build
from support.netns import NetNs, enter
from support.wait import eventually

REFERENCE = Path("/usr/lib/cni")
V4, V6 = "10.77.0", "fd77:0:0:1"
OUTSIDE, OUTSIDE6 = "203.0.113.2", "2001:db8:113::2"
NODE, NODE6 = "203.0.113.1", "2001:db8:113::1"


class PluginError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Node:
    """The network namespace that plugins are run in."""

    def __init__(self, ns, directory, data):
        self.ns, self.directory, self.data = ns, directory, data

    def start(self, plugin, command, config, directory=None, **env):
        directory = directory or self.directory
        variables = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": str(directory)}
        variables.update({k: v for k, v in env.items() if v is not None})
        for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if key in os.environ:
                variables[key] = os.environ[key]
        text = config if isinstance(config, (str, bytes)) else json.dumps(config)
        return subprocess.run(self.ns.prefix() + [str(directory / plugin)], env=variables,
                              input=text if isinstance(text, bytes) else text.encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)

    def call(self, plugin, command, config, directory=None, **env):
        done = self.start(plugin, command, config, directory, **env)
        answer = json.loads(done.stdout) if done.stdout.strip() else None
        if done.returncode != 0:
            assert answer is not None, done.stderr
            assert done.returncode == 1 and set(answer) >= {"code", "msg"}, (done, answer)
            raise PluginError(answer["code"], answer["msg"])
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr.decode()
        return answer

    def links(self, kind="veth"):
        listed = json.loads(self.ns.output("ip", "-json", "link", "show", "type", kind))
        return [link["ifname"] for link in listed if link and not link["ifname"].startswith(("uplink", "up"))]

    def tables(self):
        return [line for line in self.ns.output("nft", "list", "tables").splitlines() if "kubelite" in line]

    def rules(self):
        return self.ns.output("nft", "list", "ruleset")

    def sysctl(self, key):
        return self.ns.output("cat", f"/proc/sys/net/{key}").strip()


class Network:
    """A configuration list, run as libcni runs it."""

    def __init__(self, node, plugins, name="testnet", version="1.0.0", directories=None):
        self.node, self.plugins, self.name, self.version = node, plugins, name, version
        self.directories = directories or {}
        self.cache = {}

    def config(self, plugin, previous=None, runtime=None, **extra):
        config = dict(plugin, name=self.name, cniVersion=self.version)
        capabilities = config.get("capabilities", {})
        runtime = {k: v for k, v in (runtime or {}).items() if capabilities.get(k)}
        if runtime:
            config["runtimeConfig"] = runtime
        if previous is not None:
            config["prevResult"] = previous
        config.update(extra)
        return config

    def run(self, plugin, command, config, container=None, netns=None, ifname="eth0", args=None):
        return self.node.call(plugin["type"], command, config, self.directories.get(plugin["type"]),
                              CNI_CONTAINERID=container, CNI_NETNS=netns, CNI_IFNAME=ifname, CNI_ARGS=args)

    def add(self, container, netns, ifname="eth0", args=None, **runtime):
        result = None
        for plugin in self.plugins:
            result = self.run(plugin, "ADD", self.config(plugin, result, runtime), container, netns, ifname, args)
            assert result["cniVersion"] == self.version
        self.cache[container, ifname] = (result, runtime)
        return result

    def check(self, container, netns, ifname="eth0"):
        result, runtime = self.cache[container, ifname]
        for plugin in self.plugins:
            assert self.run(plugin, "CHECK", self.config(plugin, result, runtime), container, netns, ifname) is None

    def delete(self, container, netns=None, ifname="eth0"):
        result, runtime = self.cache.get((container, ifname), (None, {}))
        for plugin in reversed(self.plugins):
            config = self.config(plugin, result, runtime)
            assert self.run(plugin, "DEL", config, container, netns, ifname) is None

    def collect(self, live):
        valid = [{"containerID": container, "ifname": ifname} for container, ifname in live]
        for plugin in self.plugins:
            self.run(plugin, "GC", self.config(plugin, **{"cni.dev/valid-attachments": valid}), ifname=None)

    def status(self):
        for plugin in self.plugins:
            self.run(plugin, "STATUS", self.config(plugin), ifname=None)

    def reservations(self):
        directory = self.node.data / self.name
        return {p.name: p.read_bytes() for p in directory.iterdir() if p.name[0].isdigit() or ":" in p.name}


class Pod:
    """A network namespace, with servers in it that answer with the address they were asked from."""

    def __init__(self, name):
        self.name, self.path = name, f"/run/netns/{name}"
        self.sockets = []

    def inside(self, function, *args):
        result = []

        def body():
            try:
                enter(self.path)
                result.append((function(*args), None))
            except BaseException as e:  # handed to the caller, whatever it is
                result.append((None, e))

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join()
        if result[0][1] is not None:
            raise result[0][1]
        return result[0][0]

    def ip(self, *args):
        return subprocess.run(["ip", "-n", self.name, *args], check=True, stdout=subprocess.PIPE, text=True).stdout

    def output(self, *argv):
        return subprocess.run(["nsenter", f"--net={self.path}", "--", *argv], check=True, stdout=subprocess.PIPE,
                              text=True).stdout

    def serve(self, port, host="::", udp=False):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def make():
            s = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind((host, port))
            if not udp:
                s.listen(16)
            return s

        s = self.inside(make)
        self.sockets.append(s)
        threading.Thread(target=self._answer_udp if udp else self._answer_tcp, args=(s,), daemon=True).start()

    def _reply(self, peer):
        return f"{self.name} {peer[0].removeprefix('::ffff:')}".encode()

    def _answer_tcp(self, s):
        with contextlib.suppress(OSError):
            while True:
                connection, peer = s.accept()
                connection.sendall(self._reply(peer))
                connection.close()

    def _answer_udp(self, s):
        with contextlib.suppress(OSError):
            while True:
                _, peer = s.recvfrom(100)
                if peer:
                    s.sendto(self._reply(peer), peer)

    def close(self):
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)


def ask(where, host, port, timeout=3.0):
    """(who answered, the address that it saw); where is a Pod or a NetNs."""
    def connect():
        with socket.create_connection((host, port), timeout) as s:
            return s.recv(200).decode()
    return tuple(where.inside(connect).split())


def refused(where, host, port, timeout=0.7):
    try:
        ask(where, host, port, timeout)
        return False
    except OSError:
        return True


@pytest.fixture
def node(tmp_path):
    with NetNs(subnet=77) as ns:
        yield Node(ns, build.plugins(), tmp_path / "networks")


@pytest.fixture
def make_pod():
    pods = []

    def make(label):
        pod = Pod(f"klt-{os.getpid()}-p{len(pods)}{label}")
        subprocess.run(["ip", "netns", "add", pod.name], check=True)
        pods.append(pod)
        pod.ip("link", "set", "lo", "up")
        return pod

    yield make
    for pod in pods:
        pod.close()


@pytest.fixture
def outside(node, make_pod):
    """A host behind one of the node's links, without routes to anything else."""
    pod = make_pod("outside")
    node.ns.ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", pod.name)
    node.ns.ip("link", "set", "up0", "up")
    node.ns.ip("address", "add", f"{NODE}/24", "dev", "up0")
    node.ns.ip("address", "add", f"{NODE6}/64", "dev", "up0", "nodad")
    pod.ip("link", "set", "eth0", "up")
    pod.ip("address", "add", f"{OUTSIDE}/24", "dev", "eth0")
    pod.ip("address", "add", f"{OUTSIDE6}/64", "dev", "eth0", "nodad")
    return pod


def bridge(node, **more):
    ranges = [[{"subnet": f"{V4}.0/24"}], [{"subnet": f"{V6}::/64"}]]
    config = {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "ipMasq": True, "hairpinMode": True,
              "ipam": {"type": "host-local", "dataDir": str(node.data), "ranges": ranges}}
    config.update(more)
    return config


def bridge4(node, subnet=f"{V4}.0/24", **more):
    return bridge(node, ipam={"type": "host-local", "dataDir": str(node.data), "ranges": [[{"subnet": subnet}]]}, **more)


PORTMAP = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}


def mapping(host_port, port, protocol="tcp", **more):
    return {"hostPort": host_port, "containerPort": port, "protocol": protocol, **more}


def addresses(result):
    return [ip["address"].split("/")[0] for ip in result["ips"]]


def empty(node):
    """Nothing of any attachment is left; the bridge stays."""
    assert node.links() == []
    assert node.tables() == []


# --- the chain ---

@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_result_and_life_cycle(node, make_pod, version):
    network = Network(node, [bridge(node), PORTMAP], version=version)
    pod = make_pod("a")
    result = network.add("c1", pod.path, portMappings=[mapping(8080, 80)])
    assert [i["name"] for i in result["interfaces"]][::2] == ["cni0", "eth0"]
    assert result["interfaces"][2]["sandbox"] == pod.path
    assert addresses(result) == [f"{V4}.2", f"{V6}::2"]
    assert [ip["gateway"] for ip in result["ips"]] == [f"{V4}.1", f"{V6}::1"]
    assert [ip["interface"] for ip in result["ips"]] == [2, 2]
    assert [ip.get("version") for ip in result["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert {(r["dst"], r["gw"]) for r in result["routes"]} == {("0.0.0.0/0", f"{V4}.1"), ("::/0", f"{V6}::1")}
    assert len(node.links()) == 1 and len(node.tables()) == 2
    if version >= "0.4.0":
        network.check("c1", pod.path)
        pod.ip("address", "del", f"{V4}.2/24", "dev", "eth0")
        with pytest.raises(PluginError, match="lost the address"):
            network.check("c1", pod.path)
    if version >= "1.1.0":
        network.status()
    network.delete("c1", pod.path)
    empty(node)
    assert network.reservations() == {}
    network.delete("c1", pod.path)
    assert json.loads(pod.ip("-json", "link", "show"))[1:] == []


def test_traffic(node, make_pod, outside):
    network = Network(node, [bridge(node), PORTMAP])
    a, b = make_pod("a"), make_pod("b")
    a4, a6 = addresses(network.add("a", a.path, portMappings=[mapping(8080, 80), mapping(8081, 81, hostIP="127.0.0.1")]))
    b4, b6 = addresses(network.add("b", b.path))
    for pod in (a, b, outside):
        pod.serve(80)
    a.serve(81)
    # Pod to pod, node to pod, pod to gateway.
    for host, me in ((a4, b4), (a6, b6)):
        assert ask(b, host, 80) == (a.name, me)
    assert ask(node.ns, a4, 80) == (a.name, f"{V4}.1")
    assert ask(node.ns, a6, 80) == (a.name, f"{V6}::1")
    server = Pod("node")
    server.inside = node.ns.inside
    server.serve(90)
    assert ask(a, f"{V4}.1", 90)[1] == a4 and ask(a, f"{V6}::1", 90)[1] == a6
    # hostPort: from outside, from the node by any of its addresses, from a neighbour, from the pod itself.
    assert ask(outside, NODE, 8080) == (a.name, OUTSIDE)
    assert ask(outside, NODE6, 8080) == (a.name, OUTSIDE6)
    for host in (NODE, NODE6, "127.0.0.1", f"{V4}.1"):
        assert ask(node.ns, host, 8080)[0] == a.name, host
    assert ask(b, NODE, 8080) == (a.name, b4) and ask(b, NODE6, 8080) == (a.name, b6)
    assert ask(a, NODE, 8080) == (a.name, f"{V4}.1") and ask(a, NODE6, 8080) == (a.name, f"{V6}::1")
    # hostIP.
    assert ask(node.ns, "127.0.0.1", 8081)[0] == a.name
    assert refused(outside, NODE, 8081) and refused(b, NODE, 8081)
    # A host port is the node's: the same port elsewhere is not taken (CVE-2025-67499).
    outside.serve(8080)
    assert ask(b, OUTSIDE, 8080) == (outside.name, NODE)
    # Outwards with the node's address.
    assert ask(a, OUTSIDE, 80) == (outside.name, NODE) and ask(a, OUTSIDE6, 80) == (outside.name, NODE6)
    network.check("a", a.path)
    network.delete("a", a.path)
    assert refused(outside, NODE, 8080) and refused(node.ns, "127.0.0.1", 8080)
    assert ask(b, OUTSIDE, 80) == (outside.name, NODE)
    network.delete("b", b.path)
    empty(node)
    server.sockets[0].close()


def test_udp_flow_older_than_its_mapping(node, make_pod, outside):
    """The kernel knows the flow already, without translation: it must forget it."""
    network = Network(node, [bridge4(node), PORTMAP])
    a = make_pod("a")
    a.serve(53, udp=True)
    client = outside.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client:
        client.settimeout(3)
        client.bind((OUTSIDE, 40000))
        client.sendto(b"early", (NODE, 5353))
        network.add("a", a.path, portMappings=[mapping(5353, 53, "udp")])
        for _ in range(2):
            client.sendto(b"late", (NODE, 5353))
        while True:
            try:
                answer = client.recv(100)
                break
            except ConnectionRefusedError:
                continue
        assert answer.decode().split() == [a.name, OUTSIDE]
    network.delete("a", a.path)
    empty(node)


def test_udp_flow_that_is_no_mapping(node, make_pod, outside):
    """A container waits for an answer from another host while the same port of the node is mapped."""
    network = Network(node, [bridge4(node), PORTMAP])
    a, b = make_pod("a"), make_pod("b")
    network.add("b", b.path)
    server = outside.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = b.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        for s in (server, client):
            s.settimeout(3)
        server.bind((OUTSIDE, 53))
        client.sendto(b"query", (OUTSIDE, 53))
        _, peer = server.recvfrom(100)
        assert peer[0] == NODE
        network.add("a", a.path, portMappings=[mapping(53, 53, "udp")])
        server.sendto(b"answer", peer)
        assert client.recv(100) == b"answer"
    network.delete("a", a.path)
    network.delete("b", b.path)


def test_neighbours_do_not_reach_localhost(node, make_pod):
    """route_localnet is on for the bridge; only the guard keeps a pod from the node's 127.0.0.1 (CVE-2020-8558)."""
    network = Network(node, [bridge4(node), PORTMAP])
    a, b = make_pod("a"), make_pod("b")
    network.add("a", a.path, portMappings=[mapping(8080, 80)])
    network.add("b", b.path)
    assert node.sysctl("ipv4/conf/cni0/route_localnet") == "1"
    local = Pod("node")
    local.inside = node.ns.inside
    local.serve(9999, "127.0.0.1")
    b.output("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet")
    b.ip("address", "flush", "dev", "lo")
    b.ip("route", "add", "127.0.0.1/32", "via", f"{V4}.1", "dev", "eth0")
    assert refused(b, "127.0.0.1", 9999)
    # The same without the guard shows that the packet does arrive.
    node.ns.run(["nft", "flush", "chain", "inet", "kubelite_portmap", "guard"])
    assert ask(b, "127.0.0.1", 9999)[0] == "node"
    local.sockets[0].close()
    network.delete("a", a.path)
    assert node.sysctl("ipv4/conf/cni0/route_localnet") == "0"
    network.delete("b", b.path)
    empty(node)


def test_services_come_first(node, make_pod, outside):
    """What kube-proxy takes for a service at a node's address is not the host port's (CVE-2019-9946)."""
    network = Network(node, [bridge4(node), PORTMAP])
    a, b = make_pod("a"), make_pod("b")
    network.add("a", a.path, portMappings=[mapping(8080, 80)])
    b4 = addresses(network.add("b", b.path))[0]
    a.serve(80)
    b.serve(80)
    assert ask(outside, NODE, 8080)[0] == a.name
    node.ns.run(["nft", "-f", "-"], text=True, input=f"""
        table ip services {{ chain prerouting {{ type nat hook prerouting priority dstnat
            ip daddr {NODE} tcp dport 8080 dnat to {b4}:80
        }}
        }}""")
    assert ask(outside, NODE, 8080)[0] == b.name
    for pod in (a, b):
        network.delete("a" if pod is a else "b", pod.path)
    empty(node)


def test_owners_of_one_address(node, make_pod):
    """Two attachments with the same address: DEL takes the rules of its own only."""
    network = Network(node, [PORTMAP])
    result = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
              "ips": [{"address": f"{V4}.9/24", "interface": 0}]}
    pod = make_pod("a")
    for container, port in (("one", 1001), ("two", 1002)):
        config = network.config(PORTMAP, result, {"portMappings": [mapping(port, 80)]})
        network.run(PORTMAP, "ADD", config, container, pod.path)
    network.delete("one")
    assert "dport 1002" in node.rules() and "dport 1001" not in node.rules()
    network.delete("two")
    empty(node)


def test_conditions(node, make_pod, outside):
    for conditions in (["ip", "saddr", "!=", f"{OUTSIDE}/32"], ["!", "-s", OUTSIDE], ["iifname != up0"]):
        network = Network(node, [bridge4(node), dict(PORTMAP, conditionsV4=conditions)])
        a = make_pod("a")
        a.serve(80)
        network.add("a", a.path, portMappings=[mapping(8080, 80)])
        assert refused(outside, NODE, 8080)
        network.delete("a", a.path)


# --- bridge ---

def test_links(node, make_pod):
    config = bridge4(node, mtu=1400, portIsolation=True, capabilities={"mac": True})
    network = Network(node, [config])
    a = make_pod("a")
    result = network.add("a", a.path, mac="02:00:00:00:00:77")
    host = result["interfaces"][1]["name"]
    port = json.loads(node.ns.output("ip", "-json", "-details", "link", "show", host))[0]
    data = port["linkinfo"]["info_slave_data"]
    assert data["hairpin"] is True and data["isolated"] is True and data["state"] == "forwarding"
    assert port["mtu"] == 1400 and port["operstate"] == "UP"
    link = json.loads(a.ip("-json", "link", "show", "eth0"))[0]
    assert link["address"] == "02:00:00:00:00:77" == result["interfaces"][2]["mac"] and link["mtu"] == 1400
    assert port["address"] == result["interfaces"][1]["mac"]
    for key, value in (("ipv6/conf/eth0/accept_ra", "0"), ("ipv6/conf/eth0/accept_dad", "0"),
                       ("ipv4/conf/eth0/arp_notify", "1")):
        assert a.output("cat", f"/proc/sys/net/{key}").strip() == value
    assert node.sysctl("ipv4/ip_forward") == "1"
    assert json.loads(node.ns.output("ip", "-json", "link", "show", "cni0"))[0]["address"] == result["interfaces"][0]["mac"]
    with pytest.raises(PluginError, match="already has an interface"):
        network.add("a", a.path)
    network.delete("a", a.path)


def test_promiscuous_bridge_and_layer_2(node, make_pod):
    network = Network(node, [{"type": "bridge", "bridge": "l2", "promiscMode": True}])
    a = make_pod("a")
    result = network.add("a", a.path)
    assert "ips" not in result and "PROMISC" in node.ns.output("ip", "link", "show", "l2")
    assert "UP" in a.ip("link", "show", "eth0")
    network.check("a", a.path)
    network.delete("a", a.path)
    down = Network(node, [{"type": "bridge", "bridge": "l2", "disableContainerInterface": True}])
    down.add("a", a.path)
    assert "state DOWN" in a.ip("link", "show", "eth0")
    down.delete("a", a.path)
    empty(node)


def test_duplicate_address_detection(node, make_pod):
    network = Network(node, [bridge(node, enabledad=True)])
    a = make_pod("a")
    network.add("a", a.path)
    assert "tentative" not in a.ip("address", "show", "eth0")
    network.delete("a", a.path)


def test_address_that_somebody_has(node, make_pod):
    """Two networks on one bridge with the same range: the second container must not get the first one's address."""
    a, b = make_pod("a"), make_pod("b")
    six = {"type": "host-local", "dataDir": str(node.data), "subnet": f"{V6}::/64"}
    networks = [Network(node, [bridge(node, enabledad=True, ipam=six)], name) for name in ("one", "two")]
    networks[0].add("a", a.path)
    with pytest.raises(PluginError, match="in use by somebody else"):
        networks[1].add("b", b.path)
    assert len(node.links()) == 1 and networks[1].reservations() == {}
    networks[0].delete("a", a.path)


def test_announcement(node, make_pod):
    """Neighbours learn that an address has moved: the announcement comes when the bridge forwards."""
    network = Network(node, [bridge(node)])
    first, second = make_pod("a"), make_pod("b")
    network.add("a", first.path)
    with node.ns.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))) as s:
        s.bind(("cni0", 0))
        s.settimeout(3)
        result = network.add("b", second.path)
        wanted = {ip.packed for ip in map(ipaddress.ip_address, addresses(result))}
        while wanted:
            frame = s.recv(2000)
            if frame[12:14] == b"\x08\x06":
                wanted.discard(frame[28:32])
            elif frame[12:14] == b"\x86\xdd" and frame[54] == 136:  # neighbour advertisement
                wanted.discard(frame[62:78])
    for container, pod in (("a", first), ("b", second)):
        network.delete(container, pod.path)


def test_pod_with_a_user_namespace(node, make_pod):
    network = Network(node, [bridge(node), PORTMAP])
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            path = f"/proc/{process.pid}/ns/net"
            result = network.add("u", path, portMappings=[mapping(8080, 80)])
            network.check("u", path)
            inside = subprocess.run(["nsenter", f"--net={path}", "ip", "address", "show", "eth0"], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout
            assert all(address in inside for address in addresses(result))
            network.delete("u", path)
            empty(node)
        finally:
            process.kill()


def test_force_address(node, make_pod):
    pods = [make_pod("a"), make_pod("b"), make_pod("c")]
    Network(node, [bridge4(node)], "one").add("a", pods[0].path)
    other = bridge4(node, "10.78.0.0/24")
    with pytest.raises(PluginError, match="already has an IP address"):
        Network(node, [other], "two").add("b", pods[1].path)
    assert Network(node, [other], "two").reservations() == {} and len(node.links()) == 1
    Network(node, [dict(other, forceAddress=True)], "two").add("c", pods[2].path)
    assert "10.78.0.1/24" in node.ns.output("ip", "address", "show", "cni0")
    assert f"{V4}.1/24" not in node.ns.output("ip", "address", "show", "cni0")


def test_routes_and_dns(node, make_pod, tmp_path):
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("# comment\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:5\ndomain x.example\n")
    config = bridge4(node)
    config["ipam"].update(resolvConf=str(resolv), routes=[{"dst": "192.0.2.0/24", "gw": f"{V4}.7", "mtu": 1300},
                                                          {"dst": "198.51.100.0/24"}])
    network = Network(node, [config], version="1.1.0")
    a = make_pod("a")
    result = network.add("a", a.path)
    assert result["dns"] == {"nameservers": ["192.0.2.53"], "domain": "x.example", "search": ["a.example", "b.example"],
                             "options": ["ndots:5"]}
    routes = a.ip("route", "show")
    assert f"192.0.2.0/24 via {V4}.7 dev eth0 mtu 1300" in routes and f"198.51.100.0/24 via {V4}.1" in routes
    network.check("a", a.path)
    network.delete("a", a.path)
    network.plugins[0]["dns"] = {"nameservers": ["192.0.2.54"]}
    assert network.add("a", a.path)["dns"] == {"nameservers": ["192.0.2.54"]}
    network.delete("a", a.path)


# --- removal ---

def test_delete_without_namespace(node, make_pod):
    network = Network(node, [bridge(node), PORTMAP])
    for container, given in (("gone", True), ("unnamed", False), ("never", True)):
        pod = make_pod(container)
        if container != "never":
            network.add(container, pod.path, portMappings=[mapping(8080, 80)])
        if given:
            pod.close()
        network.delete(container, pod.path if given else None)
        network.delete(container, pod.path if given else None)
        empty(node)
        assert network.reservations() == {}


def test_namespace_path_that_is_none(node, tmp_path, make_pod):
    network = Network(node, [bridge4(node)])
    left_behind = tmp_path / "netns"
    left_behind.write_text("")
    with pytest.raises(PluginError, match="failed to open netns"):
        network.add("a", str(left_behind))
    network.delete("a", str(left_behind))
    for command in ("ADD", "DEL"):
        with pytest.raises(PluginError) as e:
            network.run(network.plugins[0], command, network.config(network.plugins[0]), "a", str(node.ns.path))
        assert e.value.code == 8
    empty(node)


@pytest.mark.parametrize("break_it", ["route", "address", "masquerade"])
def test_add_that_fails_midway(node, make_pod, break_it):
    config = bridge4(node)
    a = make_pod("a")
    if break_it == "route":
        config["ipam"]["routes"] = [{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]
    if break_it == "address":
        node.ns.ip("link", "add", "cni0", "type", "bridge")
        node.ns.ip("address", "add", "192.0.2.1/24", "dev", "cni0")
    if break_it == "masquerade":
        # A table that lacks its chain: somebody has tampered with it.
        node.ns.run(["nft", "add", "table", "inet", "kubelite_masquerade"])
    network = Network(node, [config])
    with pytest.raises(PluginError):
        network.add("a", a.path)
    assert node.links() == [] and network.reservations() == {}
    assert json.loads(a.ip("-json", "link", "show"))[1:] == []
    assert "testnet/a/eth0" not in node.rules()


def test_garbage_collection(node, make_pod):
    network = Network(node, [bridge(node), PORTMAP], version="1.1.0")
    other = Network(node, [bridge4(node, "10.79.0.0/24", bridge="cni1"), PORTMAP], "other", version="1.1.0")
    pods = [make_pod(c) for c in "abc"]
    for i, pod in enumerate(pods):
        network.add("abc"[i], pod.path, portMappings=[mapping(8000 + i, 80)])
    other_pod = make_pod("o")
    other.add("o", other_pod.path, portMappings=[mapping(9000, 80)])
    empty_file = node.data / "testnet" / f"{V4}.99"
    empty_file.touch()
    network.collect([("b", "eth0")])
    assert {v for v in network.reservations().values()} == {b"b\r\neth0"}
    rules = node.rules()
    assert "testnet/b/eth0" in rules and "testnet/a/eth0" not in rules and "testnet/c/eth0" not in rules
    assert "other/o/eth0" in rules and len(node.links()) == 2
    network.check("b", pods[1].path)
    other.check("o", other_pod.path)
    network.collect([])
    other.collect([])
    empty(node)


# --- host-local ---

def ipam(node, **more):
    return {"type": "host-local", "ipam": {"type": "host-local", "dataDir": str(node.data), **more}}


class Ipam(Network):
    def __init__(self, node, directory=None, **more):
        super().__init__(node, [ipam(node, **more)], directories={"host-local": directory} if directory else None)

    def reserve(self, container, ifname="eth0", args=None, **extra):
        config = self.config(self.plugins[0], **extra)
        return addresses(self.run(self.plugins[0], "ADD", config, container, "/none", ifname, args))

    def release(self, container):
        self.run(self.plugins[0], "DEL", self.config(self.plugins[0]), container)


needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="containernetworking-plugins is not installed")


@needs_reference
def test_state_is_the_references(node):
    ranges = [[{"subnet": "10.5.0.0/29"}], [{"subnet": "fd05::/125", "rangeStart": "fd05::3"}]]
    ours, theirs = Ipam(node, ranges=ranges), Ipam(node, REFERENCE, ranges=ranges)
    assert ours.reserve("a") == ["10.5.0.2", "fd05::3"]
    assert theirs.reserve("b") == ["10.5.0.3", "fd05::4"]
    assert ours.reserve("c") == ["10.5.0.4", "fd05::5"]
    assert ours.reservations()["10.5.0.3"] == b"b\r\neth0" and ours.reservations()["10.5.0.4"] == b"c\r\neth0"
    theirs.release("a")
    ours.release("b")
    assert ours.reserve("d") == ["10.5.0.5", "fd05::6"] and theirs.reserve("e") == ["10.5.0.6", "fd05::7"]
    assert ours.reserve("f") == ["10.5.0.2", "fd05::3"] and theirs.reserve("g") == ["10.5.0.3", "fd05::4"]
    for side in (ours, theirs):
        with pytest.raises(PluginError, match="no IP addresses available in range set: 10.5.0.1-10.5.0.6"):
            side.reserve("h")
    # Files of old versions have no interface.
    for name in ("10.5.0.2", "fd05::3"):
        (node.data / "testnet" / name).write_text("f")
    ours.release("f")
    for container in "cd":
        theirs.release(container)
    for container in "eg":
        ours.release(container)
    assert ours.reservations() == {}


def test_requested_addresses(node):
    one = Ipam(node, subnet="10.6.0.0/24", rangeStart="10.6.0.10", rangeEnd="10.6.0.20", gateway="10.6.0.254")
    assert one.reserve("a") == ["10.6.0.10"]
    assert one.reserve("b", args="IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.6.0.15") == ["10.6.0.15"]
    assert one.reserve("c", runtimeConfig={"ips": ["10.6.0.17/24"]}) == ["10.6.0.17"]
    assert one.reserve("d") == ["10.6.0.18"]
    for wish, message in (("10.6.0.15", "not available"), ("10.6.0.99", "all requested"), ("10.9.0.1", "all requested")):
        with pytest.raises(PluginError, match=message):
            one.reserve("e", runtimeConfig={"ips": [wish]})
    assert set(one.reservations()) == {"10.6.0.10", "10.6.0.15", "10.6.0.17", "10.6.0.18"}
    with pytest.raises(PluginError, match="duplicate allocation"):
        one.reserve("a")
    # The refused wishes have moved the search to the end of the range, so it starts over.
    assert one.reserve("a", ifname="net1") == ["10.6.0.11"]
    extra = one.reserve("r", runtimeConfig={"ipRanges": [[{"subnet": "10.16.0.0/24"}]]})
    assert extra == ["10.16.0.2", "10.6.0.12"]


def test_several_ranges_in_a_set(node):
    one = Ipam(node, ranges=[[{"subnet": "10.5.1.0/30"}, {"subnet": "10.5.2.0/30"}]])
    assert [one.reserve(c) for c in "ab"] == [["10.5.1.2"], ["10.5.2.2"]]
    one.release("a")
    assert one.reserve("c") == ["10.5.1.2"]
    with pytest.raises(PluginError, match="no IP addresses available"):
        one.reserve("d")


def test_lock_that_is_not_released(node):
    one = Ipam(node, subnet="10.7.0.0/24")
    one.reserve("a")
    config = json.dumps(one.config(one.plugins[0])).encode()
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "b", "CNI_NETNS": "/none", "CNI_IFNAME": "eth0", "CNI_PATH": "/none"}
    with open(node.data / "testnet" / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([node.directory / "host-local"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiter:
            waiter.stdin.write(config)
            waiter.stdin.close()
            waiting = re.compile(rf"-> FLOCK .* {waiter.pid} ")
            eventually(lambda: waiting.search(Path("/proc/locks").read_text()), 10, "host-local waits for the lock")
            waiter.send_signal(signal.SIGALRM)  # as its own alarm would
            answer = json.loads(waiter.stdout.read())
    assert answer["code"] == 11 and waiter.returncode == 1
    assert one.reserve("b") == ["10.7.0.3"]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with the reference"])
def test_parallel_reservations(node, others):
    if others and not REFERENCE.is_dir():
        pytest.skip("containernetworking-plugins is not installed")
    sides = [Ipam(node, subnet="10.7.0.0/24"), Ipam(node, REFERENCE if others else None, subnet="10.7.0.0/24")]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda i: sides[i % 2].reserve(f"c{i}")[0], range(100)))
        assert len(set(given)) == 100
        list(pool.map(lambda i: sides[i // 2 % 2].release(f"c{i}"), range(100)))
    assert sides[0].reservations() == {}


def test_parallel_chains(node, make_pod):
    """The bridge, both tables and all addresses come and go under contention."""
    network = Network(node, [bridge(node), PORTMAP])
    pods = [make_pod(str(i)) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            results = list(pool.map(lambda i: network.add(f"c{i}", pods[i].path, portMappings=[mapping(9000 + i, 80)]),
                                    range(len(pods))))
            assert len({a for r in results for a in addresses(r)}) == 2 * len(pods)
            assert node.rules().count("dnat") == 2 * len(pods)
            list(pool.map(lambda i: network.delete(f"c{i}", pods[i].path), range(len(pods))))
            empty(node)
            assert network.reservations() == {}
    assert node.sysctl("ipv4/conf/cni0/route_localnet") == "0"


# --- with the reference plugins ---

@needs_reference
@pytest.mark.parametrize("whose", ["their bridge", "their host-local", "their portmap"])
def test_mixed_with_the_reference(node, make_pod, outside, whose):
    directories = {"their bridge": {"bridge": REFERENCE}, "their host-local": {}, "their portmap": {"portmap": REFERENCE}}
    network = Network(node, [bridge4(node), PORTMAP], version="1.0.0", directories=directories[whose])
    if whose == "their host-local":
        network.directories["bridge"] = node.directory
    a = make_pod("a")
    a.serve(80)
    original = node.call

    def call(plugin, command, config, directory=None, **env):
        # The delegate is found through CNI_PATH: ours for their bridge, theirs for ours.
        if plugin == "bridge" and whose != "their portmap":
            env["CNI_PATH"] = str(node.directory if whose == "their bridge" else REFERENCE)
        return original(plugin, command, config, directory, **env)

    node.call = call
    ports = {"portMappings": [mapping(8080, 80)]}
    result = network.add("a", a.path, **ports)
    if whose != "their portmap":  # Debian's cannot check a container without IPv6
        network.check("a", a.path)
    assert addresses(result) == [f"{V4}.2"] and ask(outside, NODE, 8080)[0] == a.name
    assert network.reservations() == {f"{V4}.2": b"a\r\neth0"}
    network.delete("a", a.path)
    network.delete("a", a.path)
    empty(node)
    assert network.reservations() == {}


@needs_reference
def test_removal_of_what_the_reference_made(node, make_pod):
    theirs = Network(node, [bridge4(node, ipMasq=False)], directories={"bridge": REFERENCE})
    a = make_pod("a")
    theirs.add("a", a.path)
    ours = Network(node, theirs.plugins)
    ours.delete("a", a.path)
    empty(node)
    assert ours.reservations() == {}


def processor_time():
    """Of all children that have ended, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@needs_reference
@pytest.mark.release
def test_cheaper_than_the_reference(node, make_pod):
    """Processor time, since wall time is about what else runs on this machine."""
    pods = [make_pod(str(i)) for i in range(8)]
    took = {}
    for name, directory in (("ours", node.directory), ("theirs", REFERENCE)):
        network = Network(node, [bridge4(node, bridge=f"br-{name}"), PORTMAP], name)
        node.directory = directory
        start = processor_time()
        for i, pod in enumerate(pods):
            network.add(f"c{i}", pod.path, portMappings=[mapping(9000 + i, 80)])
            network.delete(f"c{i}", pod.path)
        took[name] = processor_time() - start
    assert took["ours"] * 3 < took["theirs"], took


# --- the protocol ---

def fails(node, code, plugin="bridge", command="ADD", config=None, match=None, **env):
    variables = {"CNI_CONTAINERID": "a", "CNI_NETNS": "/none", "CNI_IFNAME": "eth0"}
    variables.update(env)
    with pytest.raises(PluginError, match=match) as e:
        node.call(plugin, command, config if config is not None else {}, **variables)
    assert e.value.code == code, e.value


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "portmap"])
def test_versions(node, plugin):
    known = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert node.call(plugin, "VERSION", {"cniVersion": "0.4.0"}) == {"cniVersion": "0.4.0", "supportedVersions": known}
    assert node.call(plugin, "VERSION", "")["supportedVersions"] == known
    for version in ("0.2.0", "2.0.0", "", None):
        fails(node, 1, plugin, config={"cniVersion": version, "name": "x", "type": plugin})
    old = {"cniVersion": "0.3.1", "name": "x", "type": plugin}
    fails(node, 1, plugin, "CHECK", old)
    for command in ("GC", "STATUS"):
        fails(node, 1, plugin, command, dict(old, cniVersion="1.0.0"))


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "portmap"])
def test_bad_invocations(node, plugin):
    good = {"cniVersion": "1.1.0", "name": "x", "type": plugin}
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"):
        fails(node, 4, plugin, config=good, match=name, **{name: None if name != "CNI_PATH" else ""})
    for value in ("../a", "a/b", "-a", "a b", "a\nb", "x" * 129):
        fails(node, 4, plugin, config=good, CNI_CONTAINERID=value)
    for value in ("..", "a/b", "a:b", "a b", "x" * 16, 'a"b'):
        fails(node, 4, plugin, config=good, CNI_IFNAME=value)
    fails(node, 4, plugin, "FROB", good)
    for text in ("", "{", "[]", "null", "garbage", b"\xff\xfe{}", "[" * 100000):
        fails(node, 6, plugin, config=text)
    fails(node, 5, plugin, config=b'{"a":"' + b"x" * (1024 * 1024) + b'"}')
    for name in ("", "../x", "a/b", ".x", "x" * 91, None, 7):
        fails(node, 7, plugin, config=dict(good, name=name))
    fails(node, 7, plugin, "GC", dict(good, ipam={"type": "host-local", "subnet": "10.0.0.0/24"}))


@pytest.mark.parametrize("more", [
    {"frobnicate": 1}, {"vlan": 5}, {"vlanTrunk": [{"id": 7}]}, {"macspoofchk": True}, {"ipMasqBackend": "iptables"},
    {"isGateway": "yes"}, {"mtu": -1}, {"mtu": 1 << 40}, {"bridge": "../x"}, {"bridge": "x" * 16}, {"promiscMode": True},
    {"runtimeConfig": {"bandwidth": {}}}, {"runtimeConfig": {"mac": "01:00:00:00:00:00"}}, {"disableContainerInterface": True},
    {"ipam": {"type": "../../bin/sh"}}, {"ipam": {"subnet": "10.0.0.0/24"}}, {"ipam": {"type": "host-local"}},
    {"ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "frobnicate": 1}},
], ids=json.dumps)
def test_bridge_refuses(node, make_pod, more):
    config = dict(bridge(node), cniVersion="1.1.0", name="x") | more
    fails(node, 7, "bridge", config=config, CNI_NETNS=make_pod("a").path)
    assert node.links() == []


@pytest.mark.parametrize("more", [
    {"frobnicate": 1}, {"externalSetMarkChain": "X"}, {"backend": "iptables"}, {"markMasqBit": 32},
    {"conditionsV4": ["tcp dport 1"]}, {"conditionsV4": ["-d"]}, {"conditionsV4": ["ip6 saddr ::1"]}, {"conditionsV6": ["ip saddr 10.0.0.0/8"]},
    {"conditionsV4": ["iifname", "a*"]}, {"runtimeConfig": {"bandwidth": {}}}, {"prevResult": {"cniVersion": "1.1.0"}},
    {"prevResult": None}, {"prevResult": {"ips": "x"}},
    *({"runtimeConfig": {"portMappings": [m]}} for m in (
        mapping(0, 80), mapping(80, 0), mapping(65536, 80), mapping(80, 80, "icmp"), mapping(80, 80, hostIP="x"),
        mapping(80, 80, hostIP="10.0.0.0/8"), mapping("80", 80), {}, mapping(80, 80, frobnicate=1))),
], ids=json.dumps)
def test_portmap_refuses(node, more):
    result = {"cniVersion": "1.1.0", "ips": [{"address": f"{V4}.9/24"}]}
    config = {"cniVersion": "1.1.0", "name": "x", "type": "portmap", "prevResult": result,
              "runtimeConfig": {"portMappings": [mapping(80, 80)]}}
    fails(node, 7, "portmap", config=config | more)
    empty(node)


@pytest.mark.parametrize("more", [
    {}, {"subnet": "10.0.0.0"}, {"subnet": "10.0.0.1/24"}, {"subnet": "10.0.0.0/31"}, {"subnet": "10.0.0.0/33"},
    {"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}, {"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.1"},
    {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}, {"subnet": "10.0.0.0/24", "gateway": "fd00::1"},
    {"subnet": "10.0.0.0/24", "frobnicate": 1}, {"ranges": []}, {"ranges": [[]]}, {"ranges": [{"subnet": "10.0.0.0/24"}]},
    {"ranges": [[{"subnet": "10.0.0.0/24", "x": 1}]]}, {"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]},
    {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]}, {"subnet": "10.0.0.0/24", "dataDir": "relative"},
    {"subnet": "10.0.0.0/24", "routes": [{"dst": "x"}]}, {"subnet": "10.0.0.0/24", "routes": [{"dst": "10.0.0.0/8", "via": "x"}]},
    {"subnet": "10.0.0.0/24", "routes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]},
], ids=json.dumps)
def test_host_local_refuses(node, more):
    config = dict(ipam(node), cniVersion="1.1.0", name="x")
    config["ipam"] |= more
    fails(node, 7, "host-local", config=config)


def test_arguments(node):
    config = {"cniVersion": "1.1.0", "name": "x", "type": "host-local",
              "ipam": {"type": "host-local", "dataDir": str(node.data), "subnet": "10.0.0.0/24"}}
    fails(node, 4, "host-local", config=config, CNI_ARGS="FROB=1", match="unknown key 'FROB'")
    fails(node, 4, "host-local", config=config, CNI_ARGS="FROB")
    fails(node, 7, "host-local", config=config, CNI_ARGS="IP=x")
    assert node.call("host-local", "ADD", config, CNI_CONTAINERID="a", CNI_NETNS="/n", CNI_IFNAME="e",
                     CNI_ARGS="IgnoreUnknown=true;FROB=1")["ips"][0]["address"] == "10.0.0.2/24"


def test_errors_of_the_delegate(node, make_pod, tmp_path):
    """Whatever the IPAM plugin does, its words or its end are told, and nothing is left."""
    scripts = {
        "says": ("echo '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"come back\"}'; exit 1", 11, "come back"),
        "mute": ("exit 3", 100, "exit status 3"),
        "dies": ("kill -9 $$", 100, "signal 9"),
        "half": ("echo '{\"ips\":['", 100, "result of plugin"),
        "none": ("echo '{}'", 100, "missing IP config"),
        "flood": ("head -c 3000000 /dev/zero", 100, "flood"),
    }
    pod = make_pod("a")
    for name, (body, code, match) in scripts.items():
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\n{body}\n')
        script.chmod(0o755)
        config = dict(bridge(node), cniVersion="1.0.0", name="x", ipam={"type": name})
        fails(node, code, "bridge", config=config, match=match, CNI_NETNS=pod.path, CNI_PATH=str(tmp_path))
        empty(node)
    config["ipam"] = {"type": "missing"}
    fails(node, 100, "bridge", config=config, match="failed to find plugin", CNI_NETNS=pod.path, CNI_PATH=str(tmp_path))
    empty(node)


def test_status_says_what_is_missing(node, tmp_path):
    (tmp_path / "file").write_text("")
    broken = bridge4(node)
    broken["ipam"]["dataDir"] = str(tmp_path / "file")
    with pytest.raises(PluginError) as e:
        Network(node, [broken], version="1.1.0").status()
    assert e.value.code == 50
