# SPDX-License-Identifier: Apache-2.0
"""Holds what a node asked of the API server against what the node authorizer of a current release allows.

Kubernetes 1.20 lets much pass that 1.36 refuses: the API server's audit log tells what was asked, these rules judge it.
"""

import json
import urllib.parse
from dataclasses import dataclass

PREFIX = "system:node:"
TEST_AGENT = "kubelite-tests"  # what support.api calls itself
READ_BY_NAME = {("", "secrets"), ("", "configmaps"), ("", "persistentvolumes"), ("", "persistentvolumeclaims"),
                ("storage.k8s.io", "volumeattachments")}
GET_ONLY = {("", "persistentvolumes"), ("", "persistentvolumeclaims"), ("storage.k8s.io", "volumeattachments")}
OWN_BY_NAME = {("storage.k8s.io", "csinodes"): {"get", "create", "update", "patch", "delete"},
               ("coordination.k8s.io", "leases"): {"get", "create", "update", "patch", "delete"}}
# Every node may read these, all of them at once.
CLUSTER_READS = {("", "services"), ("node.k8s.io", "runtimeclasses"), ("storage.k8s.io", "csidrivers"),
                 ("resource.k8s.io", "resourceslices")}
REVIEWS = {("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews"),
           ("authorization.k8s.io", "localsubjectaccessreviews"),
           ("certificates.k8s.io", "certificatesigningrequests")}
READS = {"get", "list", "watch"}


@dataclass(frozen=True)
class Request:
    """One request of a node, from a line of the audit log."""

    node: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    selector: dict
    uri: str
    body: dict
    code: int
    agent: str

    @property
    def kind(self):
        return self.group, self.resource


def parse(line):
    """A Request, or None for a line that is no node's or no object's."""
    entry = json.loads(line)
    user = entry.get("user", {}).get("username", "")
    reference = entry.get("objectRef")
    if not user.startswith(PREFIX) or not reference or entry.get("stage") == "RequestReceived":
        return None
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(entry["requestURI"]).query)
    return Request(node=user[len(PREFIX):], verb=entry["verb"], group=reference.get("apiGroup", ""),
                   resource=reference.get("resource", ""), subresource=reference.get("subresource", ""),
                   namespace=reference.get("namespace", ""), name=reference.get("name", ""),
                   selector=_selector(query.get("fieldSelector", [""])[0]), uri=entry["requestURI"],
                   body=_body(entry), code=(entry.get("responseStatus") or {}).get("code", 0),
                   agent=entry.get("userAgent", ""))


def _body(entry):
    """What was sent; 1.20 logs no request of a token, but a good answer repeats it."""
    answer = entry.get("responseObject") or {}
    return entry.get("requestObject") or ({} if answer.get("kind") == "Status" else answer)


def requests(path):
    """All requests of nodes in an audit log."""
    with open(path) as f:
        return [r for r in map(parse, f) if r]


def _selector(text):
    terms = (t.partition("=") for t in text.split(",") if t and "!=" not in t)
    return {key: value.lstrip("=") for key, _, value in terms}


def violation(request):
    """Why a current API server would refuse it, or None."""
    rule = RULES.get(request.kind)
    if rule:
        return rule(request)
    if request.kind in READ_BY_NAME:
        return _read_by_name(request)
    if request.kind in OWN_BY_NAME:
        return _own(request)
    if request.kind in CLUSTER_READS:
        return None if request.verb in READS else "only reads are allowed"
    if request.kind in REVIEWS:
        return None if request.verb in {"create", "get", "list", "watch"} else "a review is created"
    return "a node has no right to this resource"


def _own_name(request):
    """The object's name; for a create it is in the body (older servers leave it out of the reference)."""
    name = request.name or request.selector.get("metadata.name", "")
    if not name and request.verb == "create":
        name = (request.body.get("metadata") or {}).get("name", "")
    return name


def _node(request):
    if request.verb == "delete":
        return "a node must not delete its Node"
    if _own_name(request) != request.node:
        return "only its own Node, by name or fieldSelector metadata.name"
    if request.subresource not in ("", "status"):
        return f"no subresource {request.subresource} of a Node"
    return None


def _pod(request):
    if request.subresource == "status":
        return None if request.verb in {"patch", "update"} else "the status is only written"
    if request.subresource == "eviction":
        return None if request.verb == "create" else "an eviction is created"
    if request.subresource:
        return f"no subresource {request.subresource} of a pod"
    if request.verb in {"list", "watch"}:
        own = request.selector.get("spec.nodeName") == request.node
        return None if own else "pods only with fieldSelector spec.nodeName of its own"
    if request.verb == "create":
        return _mirror(request)
    return None if request.verb in {"get", "delete"} else "a pod's spec is not a node's to write"


def _mirror(request):
    metadata = request.body.get("metadata") or {}
    if "kubernetes.io/config.mirror" not in (metadata.get("annotations") or {}):
        return "a node creates mirror pods only"
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("kind") == "Node" and owner.get("name") == request.node and owner.get("controller"):
            return None
    return "a mirror pod is owned (controller: true) by its Node"


def _read_by_name(request):
    if request.subresource:
        return f"no subresource {request.subresource}"
    if request.kind in GET_ONLY:
        return None if request.verb == "get" and request.name else "GET by name only"
    named = request.name or request.selector.get("metadata.name")
    return None if request.verb in READS and named else "read one object at a time, by name"


def _own(request):
    if request.verb not in OWN_BY_NAME[request.kind]:
        return f"verb {request.verb}"
    if _own_name(request) != request.node:
        return "only the one of its own name"
    if request.kind[1] == "leases" and request.namespace != "kube-node-lease":
        return "only in kube-node-lease"
    return None


def _event(request):
    if request.group == "events.k8s.io":
        return "events of core/v1 only"
    return None if request.verb in {"create", "patch", "update"} else "events are only written"


def _service_account(request):
    if request.subresource != "token":
        return None if request.verb == "get" and request.name else "a service account is read by name only"
    if request.verb != "create":
        return "a token is created"
    if request.code >= 400 and not request.body:
        return None  # refused (the authorizer's graph lags behind a binding), and 1.20 logs no body then
    spec = request.body.get("spec") or {}
    if len(spec.get("audiences") or []) > 1:
        return "one audience per TokenRequest"
    bound = spec.get("boundObjectRef") or {}
    if bound.get("kind") != "Pod" or not bound.get("name") or not bound.get("uid"):
        return "a token is bound to a pod, by name and uid"
    return None


def _claim(request):
    """Node expansion may write a claim's status; everything else is a plain GET."""
    if request.subresource == "status":
        return None if request.verb in {"get", "update", "patch"} else f"verb {request.verb}"
    return _read_by_name(request)


RULES = {("", "nodes"): _node, ("", "pods"): _pod, ("", "events"): _event, ("events.k8s.io", "events"): _event,
         ("", "serviceaccounts"): _service_account, ("", "persistentvolumeclaims"): _claim}


def violations(path):
    """Texts of all requests that a current API server would refuse, without those of the tests' own client."""
    found = []
    for request in requests(path):
        why = None if request.agent.startswith(TEST_AGENT) else violation(request)
        if why:
            found.append(f"{request.node}: {request.verb} {request.uri}: {why}")
    return sorted(set(found))
