/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Attachment records. They are replaced by rename, so that a reader finds the old or the new one;
 * they are not synced to disk, as networks do not survive a loss of power either.
 */

#include "cni/cni-record.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <stdio.h>

static const char *const state_names[] = {
        [CNI_ADDING] = "adding",
        [CNI_ADDED] = "added",
        [CNI_DELETING] = "deleting",
};

CniRecord *cni_record_free(CniRecord *record)
{
        if (!record)
                return NULL;
        free(record->id);
        free(record->ifname);
        free(record->netns);
        free(record->args);
        free(record->capabilities);
        cni_config_free(record->config);
        free(record->owner);
        free(record->boot_id);
        free(record->result);
        free(record);
        return NULL;
}

void cni_boot_id(char *buf, size_t size)
{
        if (file_read_line("/proc/sys/kernel/random/boot_id", buf, size) < 0)
                buf[0] = '\0';
}

uint64_t cni_process_start(pid_t pid)
{
        char path[64], line[1024];
        const char *p;
        uint64_t start;
        char *end;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        if (file_read_line(path, line, sizeof(line)) < 0)
                return 0;
        /* The command's name may hold anything, blanks and brackets too. Field 3 follows it. */
        p = strrchr(line, ')');
        for (int field = 2; p && field < 22; field++) {
                p = strchr(p, ' ');
                p = p ? p + 1 : NULL;
        }
        if (!p)
                return 0;
        end = strchr(p, ' ');
        if (end)
                *end = '\0';
        return str_to_u64(p, UINT64_MAX, &start) == 0 ? start : 0;
}

/* --- making one --- */

/* Bursts are without a limit, as containerd asks for. */
static void write_bandwidth(JsonWriter *w, const CniAttachment *a)
{
        jw_kobject(w, "bandwidth");
        jw_kint(w, "ingressRate", (int64_t)a->ingress_bps);
        jw_kint(w, "ingressBurst", a->ingress_bps ? UINT32_MAX : 0);
        jw_kint(w, "egressRate", (int64_t)a->egress_bps);
        jw_kint(w, "egressBurst", a->egress_bps ? UINT32_MAX : 0);
        jw_end(w);
}

static char *write_capabilities(const CniAttachment *a)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);

        jw_object(&w);
        if (a->n_ports)
                jw_karray(&w, "portMappings");
        for (size_t i = 0; i < a->n_ports; i++) {
                jw_object(&w);
                jw_kint(&w, "hostPort", a->ports[i].host_port);
                jw_kint(&w, "containerPort", a->ports[i].container_port);
                jw_kstr(&w, "protocol", a->ports[i].protocol);
                jw_kstr(&w, "hostIP", a->ports[i].host_ip ? a->ports[i].host_ip : "");
                jw_end(&w);
        }
        if (a->n_ports)
                jw_end(&w);
        if (a->ingress_bps || a->egress_bps)
                write_bandwidth(&w, a);
        jw_end(&w);
        return buf_steal(&buf);
}

/* In CNI_ARGS `;` and `=` are separators; no name or uid in the API holds one. */
static bool args_are_valid(const CniAttachment *a)
{
        const char *const all[] = { a->pod_namespace, a->pod_name, a->pod_uid };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                if (all[i] && strpbrk(all[i], ";=\n"))
                        return false;
        return true;
}

int cni_record_new(const CniAttachment *a, const CniConfig *config, CniRecord **ret, KlError **err)
{
        KL_AUTO(cni_record_free) CniRecord *r = calloc(1, sizeof(*r));
        char boot_id[64];
        int rc;

        if (!r)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (!cni_id_is_valid(a->id) || !cni_ifname_is_valid(a->ifname) || !args_are_valid(a))
                return kl_error(err, -EINVAL, NULL,
                                "'%s' with interface '%s' cannot be attached to a network",
                                a->id ? a->id : "", a->ifname ? a->ifname : "");
        rc = cni_config_parse(config->text, strlen(config->text), true, NULL, &r->config, err);
        if (rc < 0)
                return rc;
        cni_boot_id(boot_id, sizeof(boot_id));
        r->id = strdup(a->id);
        r->ifname = strdup(a->ifname);
        r->netns = strdup(a->netns ? a->netns : "");
        r->args = str_format("IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;"
                             "K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s",
                             a->pod_namespace ? a->pod_namespace : "",
                             a->pod_name ? a->pod_name : "", a->id, a->pod_uid ? a->pod_uid : "");
        r->capabilities = write_capabilities(a);
        r->boot_id = strdup(boot_id);
        r->version = cni_version_highest(r->config->versions);
        if (!r->id || !r->ifname || !r->netns || !r->args || !r->capabilities || !r->boot_id)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(r);
        return 0;
}

/* --- files --- */

static char *record_path(const char *dir, const char *id, const char *ifname)
{
        return str_format("%s/%s@%s.json", dir, id, ifname);
}

static void record_write(const CniRecord *r, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_object(&w);
        jw_kint(&w, "schema", CNI_RECORD_SCHEMA);
        jw_kstr(&w, "id", r->id);
        jw_kstr(&w, "ifname", r->ifname);
        jw_kstr(&w, "netns", r->netns);
        jw_kstr(&w, "args", r->args);
        jw_kstr(&w, "state", state_names[r->state]);
        jw_kstr(&w, "version", cni_versions[r->version]);
        jw_kstr_opt(&w, "owner", r->owner);
        jw_kstr(&w, "bootId", r->boot_id);
        jw_kint(&w, "startedMs", (int64_t)r->started_ms);
        jw_kint(&w, "pid", r->pid);
        jw_kint(&w, "pidStart", (int64_t)r->pid_start);
        jw_key(&w, "capabilities");
        jw_raw(&w, r->capabilities, strlen(r->capabilities));
        jw_key(&w, "config");
        jw_raw(&w, r->config->text, strlen(r->config->text));
        if (r->result) {
                jw_key(&w, "result");
                jw_raw(&w, r->result, strlen(r->result));
        }
        jw_end(&w);
}

int cni_record_save(const char *dir, const CniRecord *record, KlError **err)
{
        KL_AUTOFREE char *path = record_path(dir, record->id, record->ifname);
        KL_AUTOBUF text = BUF_INIT_LIMIT(CNI_RECORD_MAX);
        int r;

        record_write(record, &text);
        r = path ? buf_error(&text) : -ENOMEM;
        if (r == 0)
                r = file_replace(path, text.data, text.len, 0600, false);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "write '%s'", path ? path : dir);
        return 0;
}

static char *print_member(const Value *root, const char *key)
{
        KL_AUTOBUF buf = BUF_INIT;

        return json_print(value_get(root, key), &buf) == 0 ? buf_steal(&buf) : NULL;
}

static char *copy_str(const Value *root, const char *key)
{
        const char *s = value_get_str(root, key);

        return strdup(s ? s : "");
}

static int parse_state(const Value *root, CniState *ret)
{
        for (size_t i = 0; i < ELEMENTS(state_names); i++)
                if (str_eq(state_names[i], value_get_str(root, "state"))) {
                        *ret = (CniState)i;
                        return 0;
                }
        return -EINVAL;
}

static int record_decode(const Value *root, CniRecord *r, KlError **err)
{
        KL_AUTOFREE char *config = NULL;

        if (value_int(value_get(root, "schema"), 0) != CNI_RECORD_SCHEMA)
                return kl_error(err, -EINVAL, NULL, "schema: expected %d", CNI_RECORD_SCHEMA);
        if (parse_state(root, &r->state) < 0)
                return kl_error(err, -EINVAL, NULL, "state: not a known one");
        if (!cni_id_is_valid(value_get_str(root, "id")) ||
            !cni_ifname_is_valid(value_get_str(root, "ifname")))
                return kl_error(err, -EINVAL, NULL, "id or ifname is missing or wrong");
        if (cni_version_parse(value_get_str(root, "version"), &r->version) < 0)
                return kl_error(err, -EINVAL, NULL, "version: not a known one");
        if (value_type(value_get(root, "capabilities")) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "capabilities: expected an object");
        r->id = copy_str(root, "id");
        r->ifname = copy_str(root, "ifname");
        r->netns = copy_str(root, "netns");
        r->args = copy_str(root, "args");
        r->owner = copy_str(root, "owner");
        r->boot_id = copy_str(root, "bootId");
        r->started_ms = (uint64_t)value_int(value_get(root, "startedMs"), 0);
        r->pid = (pid_t)value_int(value_get(root, "pid"), 0);
        r->pid_start = (uint64_t)value_int(value_get(root, "pidStart"), 0);
        r->capabilities = print_member(root, "capabilities");
        config = print_member(root, "config");
        if (value_get(root, "result"))
                r->result = print_member(root, "result");
        if (!r->id || !r->ifname || !r->netns || !r->args || !r->owner || !r->boot_id ||
            !r->capabilities || !config || (value_get(root, "result") && !r->result))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return cni_config_parse(config, strlen(config), true, NULL, &r->config, err);
}

int cni_record_parse(const char *json, size_t len, CniRecord **ret, KlError **err)
{
        KL_AUTO(cni_record_free) CniRecord *record = calloc(1, sizeof(*record));
        KL_AUTO(value_free) Value *root = NULL;
        int r;

        if (!record)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = json_parse(json, len, &root, err);
        if (r == 0)
                r = record_decode(root, record, err);
        if (r < 0)
                return r;
        *ret = KL_STEAL(record);
        return 0;
}

int cni_record_load(const char *dir, const char *id, const char *ifname, CniRecord **ret,
                    KlError **err)
{
        KL_AUTO(cni_record_free) CniRecord *record = NULL;
        KL_AUTOFREE char *path = NULL, *data = NULL;
        size_t len = 0;
        int r;

        if (!cni_id_is_valid(id) || !cni_ifname_is_valid(ifname))
                return 1;
        path = record_path(dir, id, ifname);
        r = path ? file_read(path, CNI_RECORD_MAX, &data, &len) : -ENOMEM;
        if (r == -ENOENT)
                return 1;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the CNI record of '%s'", id);
        r = cni_record_parse(data, len, &record, err);
        if (r < 0)
                return kl_error_wrap(err, r, "read '%s'", path);
        if (!str_eq(record->id, id) || !str_eq(record->ifname, ifname))
                return kl_error(err, -EINVAL, NULL, "read '%s': it is of another attachment", path);
        *ret = KL_STEAL(record);
        return 0;
}

int cni_record_remove(const char *dir, const char *id, const char *ifname)
{
        KL_AUTOFREE char *path = record_path(dir, id, ifname);

        if (!path)
                return -ENOMEM;
        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

CniKey *cni_keys_free(CniKey *keys, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(keys[i].id);
                free(keys[i].ifname);
        }
        free(keys);
        return NULL;
}

static bool key_parse(const char *file, CniKey *ret)
{
        const char *at = strrchr(file, '@');

        if (!at || !str_ends(file, ".json"))
                return false;
        *ret = (CniKey){ strndup(file, (size_t)(at - file)),
                         strndup(at + 1, strlen(at + 1) - strlen(".json")) };
        if (cni_id_is_valid(ret->id) && cni_ifname_is_valid(ret->ifname))
                return true;
        free(ret->id);
        free(ret->ifname);
        return false;
}

int cni_record_list(const char *dir, CniKey **ret, size_t *ret_n, KlError **err)
{
        KL_AUTODIR DIR *d = opendir(dir);
        CniKey *keys = NULL, key;
        size_t n = 0;

        if (!d)
                return kl_error_errno(err, -errno, NULL, "read '%s'", dir);
        for (struct dirent *e; (e = readdir(d));) {
                CniKey *more;

                if (!key_parse(e->d_name, &key))
                        continue;
                more = reallocarray(keys, n + 1, sizeof(*keys));
                if (!more) {
                        free(key.id);
                        free(key.ifname);
                        cni_keys_free(keys, n);
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                }
                keys = more;
                keys[n++] = key;
        }
        *ret = keys;
        *ret_n = n;
        return 0;
}
