# SPDX-License-Identifier: Apache-2.0
"""Private images: a registry that wants a password, pull secrets and the node's own credentials."""

import base64
import json

import pytest

from support import images, pods
from support.registry import Registry

USER, PASSWORD = "puller", "let-me-in"


@pytest.fixture(scope="module")
def private(cluster):
    # Beside the registry of all other tests, whose ports it has at another address.
    with Registry(cluster.netns, address="127.0.0.2", users={USER: PASSWORD}) as r:
        for name in ("one", "two", "three", "four"):
            r.push(images.busybox(), f"team/{name}", "1")
        yield r


@pytest.fixture
def private_node(make_node):
    return make_node("n1")


def add_secret(cluster, namespace, name, registry, password, legacy=False):
    entries = {registry: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}
    kind, key = ("kubernetes.io/dockercfg", ".dockercfg") if legacy else ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")
    text = json.dumps(entries if legacy else {"auths": entries})
    cluster.admin.post(f"/api/v1/namespaces/{namespace}/secrets",
                       {"metadata": {"name": name}, "type": kind, "data": {key: base64.b64encode(text.encode()).decode()}})


def pod(private, node, namespace, image, *secrets):
    made = pods.pod(image, pods.container("c", f"{private.private_host}/team/{image}:1", "sleep 1000"), namespace=namespace,
                    node=node.name)
    made["spec"]["imagePullSecrets"] = [{"name": s} for s in secrets]
    return made


def test_pull_secrets(cluster, private, private_node, namespace):
    host = private.private_host
    add_secret(cluster, namespace, "wrong", host, "guess")
    add_secret(cluster, namespace, "other", "elsewhere.example.com", PASSWORD)
    add_secret(cluster, namespace, "good", f"http://{host}", PASSWORD)
    add_secret(cluster, namespace, "old", f"{host}/team", PASSWORD, legacy=True)
    assert pods.run(cluster.admin, pod(private, private_node, namespace, "one", "good"))
    # Each credential that matches is tried; a secret that is not there does not matter.
    assert pods.run(cluster.admin, pod(private, private_node, namespace, "two", "absent", "other", "wrong", "old"))
    refused = pod(private, private_node, namespace, "three", "other", "wrong")
    path = f"/api/v1/namespaces/{namespace}/pods"
    cluster.admin.post(path, refused)
    seen = cluster.admin.wait_for(f"{path}/three", lambda p: pods.reason_of(p) in ("ErrImagePull", "ImagePullBackOff"), 30)
    assert seen["status"]["phase"] == "Pending"
    assert PASSWORD not in private_node.log() and "guess" not in private_node.log()


def test_node_credentials(cluster, private, private_node, namespace):
    config = private_node.dir / "root" / "config.json"
    config.write_text(json.dumps({"auths": {private.private_host: {"username": USER, "password": PASSWORD}}}))
    config.chmod(0o600)
    assert pods.run(cluster.admin, pod(private, private_node, namespace, "four"))
