# SPDX-License-Identifier: Apache-2.0
"""Pod objects for tests, and what is read from them."""

import yaml

from support.wait import eventually


def container(name, image, command=None, **more):
    """A container; `more` are fields by their API names."""
    fields = {"name": name, "image": image, **more}
    if command is not None:
        fields["command"] = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    return fields


def pod(name, *containers, namespace="default", node=None, labels=None, annotations=None, **spec):
    """A Pod; grace period 1 s unless `spec` says otherwise; `node` binds it without the scheduler."""
    metadata = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    if annotations:
        metadata["annotations"] = annotations
    full = {"containers": list(containers), "terminationGracePeriodSeconds": 1, **spec}
    if node:
        full["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full}


def path(pod_object):
    metadata = pod_object["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def collection(namespace="default"):
    return f"/api/v1/namespaces/{namespace}/pods"


def run(api, pod_object, until=None, timeout=60):
    """Creates a pod and waits for until(pod), by default for Ready; returns the pod as it is then."""
    api.post(collection(pod_object["metadata"]["namespace"]), pod_object)
    return api.wait_for(path(pod_object), until or ready, timeout)


def delete(api, pod_object, grace=None, timeout=60):
    """Deletes a pod and waits until it is gone."""
    api.delete(path(pod_object), grace)
    api.wait_for(path(pod_object), lambda p: p is None, timeout)


def events(api, pod_object):
    """The events about a pod, oldest first."""
    metadata = pod_object["metadata"]
    query = {"fieldSelector": f"involvedObject.name={metadata['name']},involvedObject.namespace={metadata['namespace']}"}
    found = api.get(f"/api/v1/namespaces/{metadata['namespace']}/events", query)["items"]
    return sorted(found, key=lambda e: int(e["metadata"]["resourceVersion"]))


def event_reasons(api, pod_object):
    return [e["reason"] for e in events(api, pod_object)]


def wait_event(api, pod_object, reason, text="", timeout=40):
    """The first event with this reason and this in its message."""
    def found():
        for e in events(api, pod_object):
            if e["reason"] == reason and text in e["message"]:
                return e
        return None
    return eventually(found, timeout, f"event {reason} {text!r}")


def phase(pod_object):
    return ((pod_object or {}).get("status") or {}).get("phase")


def condition(pod_object, kind):
    """The status of a condition ("True"), None without it."""
    for c in ((pod_object or {}).get("status") or {}).get("conditions") or []:
        if c["type"] == kind:
            return c["status"]
    return None


def ready(pod_object):
    return condition(pod_object, "Ready") == "True"


def status_of(pod_object, name="c", kind="containerStatuses"):
    """The status of one container, {} without it."""
    for status in ((pod_object or {}).get("status") or {}).get(kind) or []:
        if status["name"] == name:
            return status
    return {}


def state_of(pod_object, name="c"):
    """("running"|"waiting"|"terminated"|None, its details)."""
    for key, details in (status_of(pod_object, name).get("state") or {}).items():
        return key, details or {}
    return None, {}


def reason_of(pod_object, name="c"):
    return state_of(pod_object, name)[1].get("reason")


def dump(*objects):
    """YAML documents for a manifest directory."""
    return yaml.safe_dump_all(objects, sort_keys=False)
