# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the cluster tests: one real control plane and registry for the whole run, nodes as tests want them."""

import contextlib
import itertools

import pytest

from support import audit, images
from support.cluster import Cluster, missing_parts
from support.node import Node
from support.registry import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(nothing_left_behind):
    """etcd, API server, controllers and scheduler. When they go, what nodes asked of them is judged."""
    missing = missing_parts()
    if missing:
        pytest.skip(f"no {missing}: sh tests/support/build-kubernetes.sh")
    with Cluster() as c:
        yield c
        assert_only_allowed_requests(c)


def assert_only_allowed_requests(cluster):
    """Fails when a node asked for something that a current API server would refuse."""
    found = audit.violations(cluster.audit_log) if cluster.audit_log.exists() else []
    assert not found, "requests that a current node authorizer refuses:\n" + "\n".join(found)


@pytest.fixture(scope="session")
def cluster_registry(cluster):
    """A registry beside the cluster with busybox:1 and pause:1."""
    with Registry(cluster.netns) as r:
        r.push(images.busybox(), "busybox", "1")
        r.push(images.pause(), "pause", "1")
        yield r


@pytest.fixture
def namespace(cluster):
    """A Kubernetes namespace of the test's own, with its default service account."""
    name = f"t{next(_numbers)}"
    cluster.namespace(name)
    yield name
    cluster.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def make_node(cluster):
    """make_node("n1", ...) starts a joined node; all of them end, checked for leaks, after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name="n1", **kwargs: stack.enter_context(Node(name, **{"cluster": cluster, **kwargs}))


@pytest.fixture
def node(make_node, cluster_registry):
    """A joined node with our own CNI plugins, for one test."""
    return make_node("n1")
