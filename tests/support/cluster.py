# SPDX-License-Identifier: Apache-2.0
"""A real control plane in a network namespace: Debian's etcd, Kubernetes as build-kubernetes.sh made it."""

import http.client
import json
import shutil
import subprocess
from pathlib import Path

from support import pki, scratch
from support.api import Api, ApiError, kubeconfig
from support.netns import NetNs
from support.process import Process
from support.wait import eventually

SUPPORT = Path(__file__).resolve().parent
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
FEATURE_GATES = ("BoundServiceAccountTokenVolume=true", "EphemeralContainers=true", "GenericEphemeralVolume=true",
                 "CSIServiceAccountToken=true", "SizeMemoryBackedVolumes=true", "ProcMountType=true")
SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.0/16"
PORT = 6443
# Bodies of what a node writes are needed to judge it; secrets stay out of the log, tokens are needed for their audience.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "configmaps"]}]},
        {"level": "RequestResponse", "userGroups": ["system:nodes"], "verbs": ["create", "update", "patch", "delete"]},
        {"level": "Metadata", "userGroups": ["system:nodes"]},
        {"level": "None"},
    ],
}


def kubernetes_bin():
    """The directory of the Kubernetes programs (they may be missing)."""
    script = SUPPORT / "build-kubernetes.sh"
    return Path(subprocess.check_output(["sh", str(script), "--print-bin"], text=True).strip())


def missing_parts():
    """What this machine lacks for a cluster, as text; empty when nothing."""
    bin_dir = kubernetes_bin()
    missing = [n for n in PROGRAMS if not (bin_dir / n).exists()]
    if not shutil.which("etcd"):
        missing.append("etcd")
    return ", ".join(missing)


class Cluster:
    """Context manager: etcd, kube-apiserver, kube-controller-manager and kube-scheduler in one namespace."""

    def __init__(self, *, netns=None, feature_gates=FEATURE_GATES, apiserver_args=(), controllers=True, scheduler=True,
                 pod_cidrs=False):
        self.netns = netns
        self._own_netns = netns is None
        self.feature_gates = tuple(feature_gates)
        self.apiserver_args = tuple(apiserver_args)
        self.pod_cidrs = pod_cidrs  # spec.podCIDR of nodes; its controller alone takes 10 s to start
        self.want = {"kube-controller-manager": controllers, "kube-scheduler": scheduler}
        self.processes = {}
        self.bin = kubernetes_bin()
        self.dir = None

    def __enter__(self):
        if self._own_netns:
            self.netns = NetNs()
            self.netns.__enter__()
        self.dir = scratch.make("cluster", _fast_dir())
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        # Nothing here is worth a graceful end: an API server with open watches takes a minute over it.
        for process in reversed(list(self.processes.values())):
            process.kill()
        if self._own_netns:
            self.netns.close()
        scratch.remove(self.dir)

    @property
    def url(self):
        return f"https://{self.netns.address}:{PORT}"

    @property
    def audit_log(self):
        return self.dir / "audit.log"

    def _prepare(self):
        self.ca = pki.Authority(self.dir / "pki", "kubernetes")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", "10.96.0.1",
                 self.netns.address, self.netns.address6)
        self.server_pair = self.ca.issue("kube-apiserver", names=names)
        self.kubelet_client_pair = self.ca.issue("kube-apiserver-kubelet-client", groups=["system:masters"])
        self.admin_pair = self.ca.issue("admin", groups=["system:masters"])
        self.service_account_key = self.dir / "pki" / "sa.key"
        pki.write_public_key(pki.write_key(self.service_account_key), self.dir / "pki" / "sa.pub")
        (self.dir / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
        self.admin = self.client(self.admin_pair)
        self.admin_kubeconfig = self.kubeconfig("admin", self.admin_pair)

    def client(self, pair=None, token=None):
        """An API client with the identity of a certificate or token."""
        return Api(self.netns.address, PORT, self.netns.connect, ca=self.ca.cert_path, pair=pair, token=token)

    def kubeconfig(self, file, pair=None, **kwargs):
        kwargs.setdefault("ca", self.ca.cert_path)
        kwargs.setdefault("server", self.url)
        return kubeconfig(self.dir / f"{file}.kubeconfig", pair=pair, **kwargs)

    def node_pair(self, node, **kwargs):
        """A client certificate of system:node:<node>; further arguments as Authority.issue's."""
        return self.ca.issue(f"system:node:{node}", groups=["system:nodes"], **kwargs)

    def node_client(self, node):
        return self.client(self.node_pair(node))

    def node_kubeconfig(self, node, inline=False):
        return self.kubeconfig(f"node-{node}", self.node_pair(node), inline=inline)

    def _start(self):
        self.start_etcd()
        self.start_apiserver()
        for name, wanted in self.want.items():
            if wanted:
                getattr(self, "start_" + name.replace("kube-", "").replace("-", "_"))()
        self.wait_default_service_account()

    def _spawn(self, name, program, *args):
        argv = [program] + [str(a) for a in args]
        again = name in self.processes
        self.processes[name] = Process(argv, self.dir / f"{name}.log", netns=self.netns, name=name, append=again)
        return self.processes[name]

    def start_etcd(self):
        local = "http://127.0.0.1:2379"
        process = self._spawn("etcd", "etcd", "--data-dir", self.dir / "etcd", "--listen-client-urls", local,
                              "--advertise-client-urls", local, "--listen-peer-urls", "http://127.0.0.1:2380",
                              "--snapshot-count=10000", "--quota-backend-bytes=1073741824")
        eventually(lambda: process.assert_alive() and self._etcd_healthy(), 30, "etcd healthy")

    def _etcd_healthy(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 2379)
            connection.sock = self.netns.connect("127.0.0.1", 2379, 2.0)
            connection.request("GET", "/health")
            return json.load(connection.getresponse()).get("health") == "true"
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def start_apiserver(self):
        """Also restarts it, on the same etcd, when a test has stopped it."""
        sa_key = self.service_account_key
        args = [
            "--etcd-servers=http://127.0.0.1:2379", f"--secure-port={PORT}", f"--advertise-address={self.netns.address}",
            f"--tls-cert-file={self.server_pair.cert}", f"--tls-private-key-file={self.server_pair.key}",
            f"--client-ca-file={self.ca.cert_path}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.dir}/pki/sa.pub", f"--service-account-signing-key-file={sa_key}",
            "--api-audiences=https://kubernetes.default.svc", f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            "--enable-bootstrap-token-auth=true", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={self.kubelet_client_pair.cert}",
            f"--kubelet-client-key={self.kubelet_client_pair.key}",
            f"--audit-policy-file={self.dir}/audit-policy.json", f"--audit-log-path={self.audit_log}",
            "--audit-log-format=json",
        ]
        if self.feature_gates:
            args.append("--feature-gates=" + ",".join(self.feature_gates))
        process = self._spawn("apiserver", self.bin / "kube-apiserver", *args, *self.apiserver_args)
        eventually(lambda: process.assert_alive() and self._ready(), 120, "API server ready", interval=0.1)

    def _ready(self):
        try:
            return self.admin.get("/readyz") == "ok"
        except (OSError, ApiError, http.client.HTTPException):
            return False

    def stop_apiserver(self, hard=False):
        process = self.processes["apiserver"]
        process.kill() if hard else process.stop()

    def start_controller_manager(self):
        controllers = "*,bootstrapsigner,tokencleaner"
        allocate = ["--allocate-node-cidrs=true", f"--cluster-cidr={POD_CIDR}"]
        if not self.pod_cidrs:
            controllers, allocate = controllers + ",-nodeipam", []
        self._spawn("controller-manager", self.bin / "kube-controller-manager", "--leader-elect=false",
                    "--bind-address=127.0.0.1", "--port=0", f"--kubeconfig={self.admin_kubeconfig}",
                    f"--service-account-private-key-file={self.service_account_key}",
                    f"--root-ca-file={self.ca.cert_path}", f"--cluster-signing-cert-file={self.ca.cert_path}",
                    f"--cluster-signing-key-file={self.ca.key_path}", f"--controllers={controllers}",
                    "--use-service-account-credentials=true", f"--service-cluster-ip-range={SERVICE_CIDR}", *allocate)

    def start_scheduler(self):
        self._spawn("scheduler", self.bin / "kube-scheduler", "--leader-elect=false", "--bind-address=127.0.0.1",
                    "--port=0", f"--kubeconfig={self.admin_kubeconfig}")

    def wait_default_service_account(self):
        """Pods are refused before the controller has made this; without controllers it is made here."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        if self.want["kube-controller-manager"]:
            self.admin.wait_for(path, lambda sa: sa is not None and sa.get("secrets"), 60)
        else:
            self.admin.wait_for("/api/v1/namespaces/default", lambda ns: ns is not None, 30)
            account = {"metadata": {"name": "default"}, "automountServiceAccountToken": False}
            self.admin.post("/api/v1/namespaces/default/serviceaccounts", account)

    def namespace(self, name):
        """Creates a namespace with its default service account ready; returns its name."""
        self.admin.post("/api/v1/namespaces", {"metadata": {"name": name}})
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        if self.want["kube-controller-manager"]:
            # After an outage of the API server the controllers come back by their own back-off.
            self.admin.wait_for(path, lambda sa: sa is not None and sa.get("secrets"), 120)
        else:
            self.admin.post(path.rsplit("/", 1)[0], {"metadata": {"name": "default"}})
        return name


def _fast_dir():
    """etcd waits for every fsync: memory, if there is some."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 2 << 30 else "/tmp"
