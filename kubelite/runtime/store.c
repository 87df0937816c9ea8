/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Records on disk, beneath <state-dir>/pods/<uid>/: sandbox.json, and containers/<id>/ with
 * meta.json (ours), config.json (for people and other runtimes) and exit (the shim's, or ours when
 * the shim is gone). The schema's version is the first field. All are replaced by rename and never
 * synced: the state directory does not survive a reboot in any useful way.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#define RECORD_MAX (1 << 20)
#define SYSCTLS_MAX 256

static int write_file(const char *dir, const char *name, const Buf *buf, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);
        int r = path ? buf_error(buf) : -ENOMEM;

        if (r == 0)
                r = file_replace(path, buf->data, buf->len, 0600, false);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "write '%s/%s'", dir, name);
        return 0;
}

static int read_json(const char *dir, const char *name, Value **ret, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name), *text = NULL;
        KL_AUTO(value_free) Value *v = NULL;
        int64_t schema = 0;
        size_t len;
        Field root;
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = file_read(path, RECORD_MAX, &text, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", path);
        r = json_parse(text, len, &v, err);
        if (r == 0) {
                root = field_root(v);
                r = field_int(&root, "schema", 1, INT32_MAX, &schema, err);
        }
        if (r == 0 && schema != STORE_SCHEMA)
                r = kl_error(err, -EINVAL, NULL, "schema %lld is not known", (long long)schema);
        if (r < 0)
                return kl_error_wrap(err, r, "'%s'", path);
        *ret = KL_STEAL(v);
        return 0;
}

/* --- sandbox.json --- */

static const struct {
        const char *name;
        QosClass qos;
} qos_names[] = {
        { "Guaranteed", QOS_GUARANTEED },
        { "Burstable", QOS_BURSTABLE },
        { "BestEffort", QOS_BEST_EFFORT },
};

static void put_resources(JsonWriter *w, const Resources *res)
{
        jw_kobject(w, "resources");
        jw_kint(w, "cpuShares", (int64_t)res->cpu_shares);
        jw_kint(w, "cpuQuota", res->cpu_quota_us);
        jw_kint(w, "cpuPeriod", (int64_t)res->cpu_period_us);
        jw_kint(w, "memory", res->memory_bytes);
        jw_kint(w, "pids", res->pids);
        jw_end(w);
}

int store_write_sandbox(const char *dir, const SandboxSpec *spec, const char *boot_id,
                        KlError **err)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter writer = JSON_WRITER(&buf), *w = &writer;

        jw_object(w);
        jw_kint(w, "schema", STORE_SCHEMA);
        jw_kstr(w, "bootId", boot_id);
        jw_kstr(w, "id", spec->id);
        jw_kstr(w, "uid", spec->pod_uid);
        jw_kstr(w, "namespace", spec->pod_namespace);
        jw_kstr(w, "name", spec->pod_name);
        jw_kint(w, "attempt", spec->attempt);
        jw_kint(w, "podStartMicros", spec->pod_start_us);
        jw_kstr_opt(w, "hostname", spec->hostname);
        jw_kstr_opt(w, "handler", spec->handler);
        jw_kstr_opt(w, "logDir", spec->log_dir);
        jw_kbool(w, "hostNetwork", spec->host_network);
        jw_kbool(w, "hostPid", spec->host_pid);
        jw_kbool(w, "hostIpc", spec->host_ipc);
        jw_kbool(w, "sharePid", spec->share_pid);
        if (spec->user_namespace) {
                jw_kobject(w, "userIds");
                jw_kint(w, "first", spec->ids.first);
                jw_kint(w, "count", spec->ids.count);
                jw_end(w);
        }
        for (size_t i = 0; i < ELEMENTS(qos_names); i++)
                if (qos_names[i].qos == spec->qos)
                        jw_kstr(w, "qos", qos_names[i].name);
        put_resources(w, &spec->resources);
        jw_karray(w, "sysctls");
        for (size_t i = 0; i < spec->n_sysctls; i++) {
                jw_object(w);
                jw_kstr(w, "name", spec->sysctls[i].name);
                jw_kstr(w, "value", spec->sysctls[i].value);
                jw_end(w);
        }
        jw_end(w);
        jw_end(w);
        return write_file(dir, "sandbox.json", &buf, err);
}

static int get_resources(const Field *root, Resources *ret, KlError **err)
{
        int64_t shares = 0, period = 0;
        Field f;
        int r = field_object(root, "resources", &f, err);

        if (r)
                return r < 0 ? r : 0;
        r = field_int(&f, "cpuShares", 0, INT64_MAX, &shares, err);
        if (r == 0)
                r = field_int(&f, "cpuQuota", INT64_MIN, INT64_MAX, &ret->cpu_quota_us, err);
        if (r == 0)
                r = field_int(&f, "cpuPeriod", 0, INT64_MAX, &period, err);
        if (r == 0)
                r = field_int(&f, "memory", INT64_MIN, INT64_MAX, &ret->memory_bytes, err);
        if (r == 0)
                r = field_int(&f, "pids", INT64_MIN, INT64_MAX, &ret->pids, err);
        ret->cpu_shares = (uint64_t)shares;
        ret->cpu_period_us = (uint64_t)period;
        return r;
}

static int get_sysctls(const Field *root, Arena *arena, SandboxSpec *ret, KlError **err)
{
        Field list;
        Sysctl *sysctls;
        size_t n = 0;
        int r = field_array(root, "sysctls", SYSCTLS_MAX, &list, &n, err);

        if (r < 0 || n == 0)
                return r;
        sysctls = ARENA_ARRAY(arena, n, Sysctl);
        if (!sysctls)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; i < n && r == 0; i++) {
                Field f = field_at(&list, i);

                r = field_str(&f, "name", arena, (char **)&sysctls[i].name, err);
                if (r == 0)
                        r = field_str(&f, "value", arena, (char **)&sysctls[i].value, err);
                if (r == 0 && (!sysctls[i].name || !sysctls[i].value))
                        r = field_error(&f, err, "name or value is missing");
        }
        ret->sysctls = sysctls;
        ret->n_sysctls = n;
        return r;
}

static int get_ids(const Field *root, SandboxSpec *ret, KlError **err)
{
        int64_t first = 0, count = 0;
        Field f;
        int r = field_object(root, "userIds", &f, err);

        if (r)
                return r < 0 ? r : 0;
        r = field_int(&f, "first", 1, UINT32_MAX, &first, err);
        if (r == 0)
                r = field_int(&f, "count", 1, UINT32_MAX, &count, err);
        ret->user_namespace = true;
        ret->ids = (IdRange){ (uint32_t)first, (uint32_t)count };
        return r;
}

static int get_flags(const Field *root, SandboxSpec *ret, KlError **err)
{
        int r = field_bool(root, "hostNetwork", &ret->host_network, err);

        if (r == 0)
                r = field_bool(root, "hostPid", &ret->host_pid, err);
        if (r == 0)
                r = field_bool(root, "hostIpc", &ret->host_ipc, err);
        if (r == 0)
                r = field_bool(root, "sharePid", &ret->share_pid, err);
        return r;
}

typedef struct StringKey {
        const char *key;
        const char **to;
} StringKey;

/* Absent ones become "". */
static int get_strings(const Field *root, Arena *arena, const StringKey *keys, size_t n,
                       KlError **err)
{
        for (size_t i = 0; i < n; i++) {
                char *text = NULL;
                int r = field_str(root, keys[i].key, arena, &text, err);

                if (r < 0)
                        return r;
                *keys[i].to = text ? text : arena_strdup(arena, "");
                if (!*keys[i].to)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        return 0;
}

int store_read_sandbox(const char *dir, Arena *arena, SandboxSpec *ret, char **ret_boot_id,
                       KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;
        SandboxSpec spec = { .attempt = 0 };
        const char *boot_id = NULL, *qos = NULL;
        int64_t attempt = 0;
        Field root;
        int r = read_json(dir, "sandbox.json", &v, err);
        const StringKey keys[] = {
                { "bootId", &boot_id },       { "id", &spec.id },
                { "uid", &spec.pod_uid },     { "namespace", &spec.pod_namespace },
                { "name", &spec.pod_name },   { "hostname", &spec.hostname },
                { "logDir", &spec.log_dir },  { "qos", &qos },
                { "handler", &spec.handler },
        };

        if (r < 0)
                return r;
        root = field_root(v);
        r = get_strings(&root, arena, keys, ELEMENTS(keys), err);
        if (r == 0)
                r = field_int(&root, "attempt", 0, UINT32_MAX, &attempt, err);
        if (r == 0)
                r = field_int(&root, "podStartMicros", 0, INT64_MAX, &spec.pod_start_us, err);
        if (r == 0)
                r = get_flags(&root, &spec, err);
        if (r == 0)
                r = get_ids(&root, &spec, err);
        if (r == 0)
                r = get_resources(&root, &spec.resources, err);
        if (r == 0)
                r = get_sysctls(&root, arena, &spec, err);
        if (r < 0)
                return kl_error_wrap(err, r, "'%s/sandbox.json'", dir);
        if (!id_is_valid(spec.id) || !uid_is_valid(spec.pod_uid))
                return kl_error(err, -EINVAL, NULL, "'%s/sandbox.json': no valid id", dir);
        for (size_t i = 0; i < ELEMENTS(qos_names); i++)
                if (str_eq(qos_names[i].name, qos))
                        spec.qos = qos_names[i].qos;
        spec.attempt = (unsigned int)attempt;
        *ret_boot_id = (char *)boot_id;
        *ret = spec;
        return 0;
}

/* --- containers --- */

int store_write_container(const char *dir, const ContainerRecord *record, KlError **err)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter writer = JSON_WRITER(&buf), *w = &writer;

        jw_object(w);
        jw_kint(w, "schema", STORE_SCHEMA);
        jw_kstr(w, "id", record->id);
        jw_kstr(w, "name", record->name);
        jw_kint(w, "attempt", record->attempt);
        jw_kstr(w, "image", record->image);
        jw_kstr(w, "imageId", record->image_id);
        jw_kstr(w, "imageRef", record->image_ref);
        jw_kstr(w, "specHash", record->spec_hash);
        jw_kint(w, "createdUs", record->created_us);
        jw_kint(w, "sandboxAttempt", record->sandbox_attempt);
        jw_end(w);
        return write_file(dir, "meta.json", &buf, err);
}

int store_read_container(const char *dir, Arena *arena, ContainerRecord *ret, KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;
        ContainerRecord record = { .sandbox_attempt = -1 };
        int64_t attempt = 0;
        Field root;
        int r = read_json(dir, "meta.json", &v, err);
        const StringKey keys[] = {
                { "id", &record.id },
                { "name", &record.name },
                { "image", &record.image },
                { "imageId", &record.image_id },
                { "imageRef", &record.image_ref },
                { "specHash", &record.spec_hash },
        };

        if (r < 0)
                return r;
        root = field_root(v);
        r = get_strings(&root, arena, keys, ELEMENTS(keys), err);
        if (r == 0)
                r = field_int(&root, "attempt", 0, UINT32_MAX, &attempt, err);
        if (r == 0)
                r = field_int(&root, "createdUs", 0, INT64_MAX, &record.created_us, err);
        if (r == 0)
                r = field_int(&root, "sandboxAttempt", -1, UINT32_MAX, &record.sandbox_attempt,
                              err);
        if (r < 0)
                return kl_error_wrap(err, r, "'%s/meta.json'", dir);
        if (!id_is_valid(record.id))
                return kl_error(err, -EINVAL, NULL, "'%s/meta.json': no valid id", dir);
        record.attempt = (unsigned int)attempt;
        *ret = record;
        return 0;
}

int store_read_exit(const char *dir, ShimContainerState *ret, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/" SHIM_EXIT_NAME, dir), *text = NULL;
        size_t len;
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = file_read(path, RECORD_MAX, &text, &len);
        if (r == -ENOENT)
                return 1;
        if (r == 0)
                r = shim_exit_parse(text, len, ret);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", path);
        return 0;
}

int store_write_exit(const char *dir, const ShimContainerState *state, KlError **err)
{
        KL_AUTOBUF buf = BUF_INIT;
        int r = shim_exit_format(state, &buf);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "write an exit record");
        return write_file(dir, SHIM_EXIT_NAME, &buf, err);
}
