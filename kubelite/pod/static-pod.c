/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Static pods: what a manifest's document is completed with (pkg/kubelet/config/common.go), and the
 * references that it may not have, since nobody checked its author's right to them
 * (PreventStaticPodAPIReferences, on since 1.36).
 */

#include "pod/source-file.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#define ANNOTATION_HASH "kubernetes.io/config.hash"
#define ANNOTATION_SEEN "kubernetes.io/config.seen"
#define ANNOTATION_SOURCE "kubernetes.io/config.source"

static int refuse(KlError **err, const char *field)
{
        return kl_error(err, -EINVAL, NULL,
                        "%s: a static pod must not refer to API objects, and this names one",
                        field);
}

static int refuse_env(const Container *c, KlError **err)
{
        static const char *const lists[] = { "initContainers", "containers",
                                             "ephemeralContainers" };
        char path[512];

        for (size_t i = 0; i < c->n_env; i++) {
                EnvSource source = c->env[i].source;

                if (source != ENV_CONFIG_MAP && source != ENV_SECRET)
                        continue;
                snprintf(path, sizeof(path), "spec.%s{%s}.env{%s}.valueFrom.%s", lists[c->kind],
                         c->name, c->env[i].name,
                         source == ENV_SECRET ? "secretKeyRef" : "configMapKeyRef");
                return refuse(err, path);
        }
        if (!c->n_env_from)
                return 0;
        snprintf(path, sizeof(path), "spec.%s{%s}.envFrom[0].%s", lists[c->kind], c->name,
                 c->env_from[0].secret ? "secretRef" : "configMapRef");
        return refuse(err, path);
}

static int refuse_volume(const Volume *v, size_t index, KlError **err)
{
        char path[512];

        if (str_eq(v->type, "persistentVolumeClaim") || str_eq(v->type, "ephemeral")) {
                snprintf(path, sizeof(path), "spec.volumes[%zu].%s", index, v->type);
                return refuse(err, path);
        }
        for (size_t i = 0; i < v->n_sources; i++) {
                if (v->sources[i].kind == PROJECTION_DOWNWARD_API)
                        continue;
                if (v->kind == VOLUME_PROJECTED)
                        snprintf(path, sizeof(path), "spec.volumes[%zu].projected.sources[%zu].%s",
                                 index, i, v->sources[i].type);
                else
                        snprintf(path, sizeof(path), "spec.volumes[%zu].%s", index, v->type);
                return refuse(err, path);
        }
        return 0;
}

static int refuse_references(const Pod *pod, KlError **err)
{
        if (!str_empty(pod->service_account))
                return refuse(err, "spec.serviceAccountName");
        if (pod->image_pull_secrets && pod->image_pull_secrets[0])
                return refuse(err, "spec.imagePullSecrets[0]");
        for (size_t i = 0; i < pod->n_volumes; i++)
                KL_TRY(refuse_volume(&pod->volumes[i], i, err));
        for (size_t i = 0; i < pod->n_containers; i++)
                KL_TRY(refuse_env(&pod->containers[i], err));
        return 0;
}

/* 32 hex over node, file and content, as upstream's MD5 is: stable over restarts of the daemon. */
static int static_uid(const Value *document, const char *node_name, const char *path, char ret[33])
{
        KL_AUTOBUF text = BUF_INIT;
        uint64_t high;

        buf_addf(&text, "host:%s\nfile:%s\n", node_name, path);
        high = hash_fnv64(text.data, text.len);
        if (json_print(document, &text) < 0 || buf_error(&text))
                return -ENOMEM;
        snprintf(ret, 33, "%016llx%016llx", (unsigned long long)hash_fnv64(text.data, text.len),
                 (unsigned long long)high);
        return 0;
}

static int complete_metadata(Value *document, const char *node_name, const char *uid)
{
        Value *meta = value_object_at(document, "metadata"), *annotations;
        const char *name = value_get_str(meta, "name");
        KL_AUTOFREE char *full = name ? str_format("%s-%s", name, node_name) : NULL;
        char seen[TIME_RFC3339_SIZE];
        int r = 0;

        annotations = meta ? value_object_at(meta, "annotations") : NULL;
        if (!annotations)
                return -ENOMEM;
        time_format_rfc3339_micro(time_realtime_us(), seen);
        if (full)
                r |= value_set_str(meta, "name", full);
        if (str_empty(value_get_str(meta, "namespace")))
                r |= value_set_str(meta, "namespace", "default");
        r |= value_set_str(meta, "uid", uid);
        r |= value_set_str(annotations, ANNOTATION_HASH, uid);
        r |= value_set_str(annotations, ANNOTATION_SEEN, seen);
        r |= value_set_str(annotations, ANNOTATION_SOURCE, "file");
        return r ? -ENOMEM : 0;
}

int static_pod_decode(Value *document, const char *node_name, const char *path, Pod **ret,
                      KlError **err)
{
        KL_AUTO(pod_free) Pod *pod = NULL;
        KL_AUTOBUF text = BUF_INIT;
        Value *spec;
        char uid[33];

        if (value_type(document) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "document: expected a map, got %s",
                                value_type_name(value_type(document)));
        if (!str_eq(value_get_str(document, "kind"), "Pod"))
                return kl_error(err, -EINVAL, NULL, "kind: '%s' is not Pod",
                                value_get_str(document, "kind") ? value_get_str(document, "kind")
                                                                : "");
        if (value_type(value_get(document, "spec")) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "spec: is required");
        value_remove(document, "status");
        if (static_uid(document, node_name, path, uid) < 0 ||
            complete_metadata(document, node_name, uid) < 0)
                return kl_error_oom(err);
        spec = value_object_at(document, "spec");
        if (!spec || value_set_str(spec, "nodeName", node_name) < 0)
                return kl_error_oom(err);
        KL_TRY(pod_decode(document, &pod, err));
        KL_TRY(refuse_references(pod, err));
        if (json_print(document, &text) < 0)
                return kl_error_oom(err);
        pod->is_static = true;
        pod->static_json = arena_strdup(pod->arena, buf_str(&text));
        pod->source = arena_strdup(pod->arena, path);
        if (!pod->static_json || !pod->source)
                return kl_error_oom(err);
        *ret = KL_STEAL(pod);
        return 0;
}
