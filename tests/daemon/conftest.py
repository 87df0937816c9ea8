# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the daemon tests: nodes without a real API server, alone or against the stand-in."""

import contextlib

import pytest

from support import images, pods
from support.fakeapi import FakeApi
from support.kubelet import IMAGE, Client
from support.netns import NetNs
from support.node import Node
from support.pki import Authority


@pytest.fixture
def fresh_netns():
    """A namespace for one test alone."""
    with NetNs() as ns:
        yield ns


@pytest.fixture
def make_node(netns):
    """make_node("n1", ...) starts a standalone node; all of them end, checked for leaks, after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name="n1", **kwargs: stack.enter_context(Node(name, **{"netns": netns, **kwargs}))


@pytest.fixture
def fake_api(fresh_netns):
    with FakeApi(fresh_netns) as api:
        yield api


@pytest.fixture
def standalone(make_node, busybox):
    """A standalone node with busybox:1 and pause:1 in its store, for one test."""
    node = make_node("n1")
    node.import_image(busybox, "docker.io/library/busybox:1")
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki", "clients")


@pytest.fixture
def api_node(make_node, busybox, authority):
    """A standalone node whose HTTPS port lets in who has a certificate of `authority`."""
    node = make_node("n1", config={
        "authentication": {"x509": {"clientCAFile": str(authority.cert_path)}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"}, "tlsCipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]})
    node.import_image(busybox, IMAGE)
    node.import_image(images.pause(), "docker.io/library/pause:1")
    return node


@pytest.fixture
def admin(api_node, authority):
    return Client(api_node, authority.issue("admin", groups=["system:masters"]))


# -- one node for a file of tests, telling the stand-in API server what it sees ---------------------------------------------


@pytest.fixture(scope="module")
def api():
    with NetNs() as netns, FakeApi(netns) as fake:
        fake.netns = netns
        yield fake


@pytest.fixture(scope="module")
def node(api):
    with Node("n1", netns=api.netns, cluster=api) as n:
        n.import_image(images.busybox(), "docker.io/library/busybox:1")
        yield n


@pytest.fixture
def run(api, node, request):
    """run(script, **fields of the container) makes a pod of one container, named after the test; it goes after it.

    `spec` are fields of the pod, `containers` further containers.
    """
    made = []
    name = request.node.name.removeprefix("test_").replace("_", "-").replace("[", "-").rstrip("]").lower()[:50]

    def start(script, spec=None, containers=(), **fields):
        c = pods.container("c", "busybox:1", script, imagePullPolicy="Never", **fields)
        pod = pods.pod(f"{name}-{len(made)}", c, *containers, node=node.name, **(spec or {}))
        api.admin.post(pods.collection(), pod)
        made.append(pod)
        return pod
    yield start
    for pod in made:
        if api.admin.get_or_none(pods.path(pod)):
            api.admin.delete(pods.path(pod))
