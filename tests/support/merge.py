# SPDX-License-Identifier: Apache-2.0
"""Patches as an API server applies them: JSON merge and Kubernetes' strategic merge, without a schema."""

import copy

# Lists that are merged by a key; every other list is replaced. (field name, parent field) first, then the field alone.
MERGE_KEYS = {
    "conditions": "type", "containers": "name", "initContainers": "name", "ephemeralContainers": "name",
    "volumes": "name", "env": "name", "volumeMounts": "mountPath", "podIPs": "ip", "hostIPs": "ip",
    "addresses": "type", "ownerReferences": "uid", "imagePullSecrets": "name", "ports": "containerPort",
    "secrets": "name", "readinessGates": None, "taints": None, "images": None,
}
PRIMITIVE_SETS = {"finalizers", "podCIDRs"}
DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/")


def merge_patch(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic(target, patch):
    """The result of a strategic merge patch on a dict."""
    if patch.get("$patch") == "replace":
        return {k: copy.deepcopy(v) for k, v in patch.items() if k != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target or {})
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.split("/", 1)[1]
            result[field] = [v for v in result.get(field) or [] if v not in value]
        elif key.startswith(DIRECTIVES):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_value(key, result.get(key), value)
    if "$retainKeys" in patch:
        result = {k: v for k, v in result.items() if k in patch["$retainKeys"]}
    return result


def _merge_value(key, old, new):
    if isinstance(new, dict):
        return strategic(old if isinstance(old, dict) else {}, new)
    if isinstance(new, list):
        return _merge_list(key, old or [], new)
    return new


def _merge_list(key, old, new):
    if key in PRIMITIVE_SETS:
        return old + [v for v in new if v not in old]
    merge_key = MERGE_KEYS.get(key)
    if merge_key is None or not all(isinstance(v, dict) for v in new):
        return copy.deepcopy(new)
    if any(v.get("$patch") == "replace" for v in new):
        return [copy.deepcopy(v) for v in new if "$patch" not in v]
    result = [copy.deepcopy(v) for v in old]
    for item in new:
        _merge_item(result, item, merge_key)
    return result


def _merge_item(result, item, merge_key):
    at = next((i for i, v in enumerate(result) if v.get(merge_key) == item.get(merge_key)), None)
    if item.get("$patch") == "delete":
        if at is not None:
            del result[at]
    elif at is None:
        result.append(strategic({}, item))
    else:
        result[at] = strategic(result[at], item)
