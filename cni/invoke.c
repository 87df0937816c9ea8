/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Running one plugin: its environment, its standard input, what its exit and its output mean.
 *
 * Plugins get a clean environment: of ours they would inherit the service manager's variables.
 * They run in a process group of their own, which is killed as a whole, and without a parent-death
 * signal: see settle.c.
 */

#include "cni/cni-internal.h"
#include "cni/cni-result.h"
#include "cni/cni-settle.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <ctype.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PLUGIN_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int cni_find_plugin(const Cni *cni, const char *type, char **ret, KlError **err)
{
        KL_AUTOBUF dirs = BUF_INIT;

        for (size_t i = 0; cni->bin_dirs[i]; i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", cni->bin_dirs[i], type);
                struct stat st;

                if (!path)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
                        *ret = KL_STEAL(path);
                        return 0;
                }
                buf_addf(&dirs, "%s%s", i ? " " : "", cni->bin_dirs[i]);
        }
        return kl_error(err, -ENOENT, NULL, "failed to find plugin \"%s\" in path [%s]", type,
                        buf_str(&dirs));
}

/* A path that is no network namespace any more (unmounted, its process gone) is as good as none. */
static const char *usable_netns(const char *path)
{
        struct statfs fs;

        if (statfs(path, &fs) == 0 && (fs.f_type == NSFS_MAGIC || fs.f_type == PROC_SUPER_MAGIC))
                return path;
        return "";
}

static char **make_environment(const Cni *cni, const CniInvocation *inv)
{
        KL_AUTOSTRV env = NULL;
        const CniRecord *record = inv->record;
        int r;

        r = strv_add(&env, PLUGIN_PATH);
        r = r ? r : strv_addf(&env, "HOME=/root");
        r = r ? r : strv_addf(&env, "CNI_COMMAND=%s", inv->verb);
        r = r ? r : strv_addf(&env, "CNI_PATH=%s", cni->search_path);
        r = r ? r : strv_addf(&env, CNI_OWNER_VARIABLE "=%s", cni->owner);
        if (record) {
                bool del = str_eq(inv->verb, "DEL");

                r = r ? r : strv_addf(&env, "CNI_CONTAINERID=%s", record->id);
                r = r ? r : strv_addf(&env, "CNI_IFNAME=%s", record->ifname);
                r = r ? r : strv_addf(&env, "CNI_ARGS=%s", record->args);
                r = r ? r
                      : strv_addf(&env, "CNI_NETNS=%s",
                                  del ? usable_netns(record->netns) : record->netns);
        }
        return r == 0 ? KL_STEAL(env) : NULL;
}

/* Of the capability arguments those that the plugin asks for. */
static void write_runtime_config(JsonWriter *w, const Value *plugin, const Value *arguments)
{
        const Value *declared = value_get(plugin, "capabilities"), *child;
        bool open = false;
        const char *key;

        for (void *it = NULL; value_next(arguments, &it, &key, &child);) {
                if (!value_bool(value_get(declared, key), false))
                        continue;
                if (!open)
                        jw_kobject(w, "runtimeConfig");
                open = true;
                jw_key(w, key);
                jw_value(w, child);
        }
        if (open)
                jw_end(w);
}

/* libcni before 1.2 named the member of GC differently; both are written. */
static void write_attachments(JsonWriter *w, const char *json)
{
        static const char *const keys[] = { "cni.dev/valid-attachments", "cni.dev/attachments" };

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                jw_key(w, keys[i]);
                jw_raw(w, json, strlen(json));
        }
}

static int write_input(const CniInvocation *inv, Buf *to, KlError **err)
{
        static const char *const ours[] = { "cniVersion", "name", "prevResult", "runtimeConfig" };
        KL_AUTO(value_free) Value *arguments = NULL;
        JsonWriter w = JSON_WRITER(to);
        const Value *child;
        const char *key;
        int r;

        if (inv->record) {
                const char *text = inv->record->capabilities;

                r = json_parse(text, strlen(text), &arguments, err);
                if (r < 0)
                        return r;
        }
        jw_object(&w);
        jw_kstr(&w, "cniVersion", cni_versions[inv->version]);
        if (inv->network)
                jw_kstr(&w, "name", inv->network);
        for (void *it = NULL; inv->network && value_next(inv->plugin, &it, &key, &child);) {
                bool skip = false;

                for (size_t i = 0; i < ELEMENTS(ours); i++)
                        skip |= str_eq(key, ours[i]);
                if (skip)
                        continue;
                jw_key(&w, key);
                jw_value(&w, child);
        }
        write_runtime_config(&w, inv->plugin, arguments);
        if (inv->previous) {
                jw_key(&w, "prevResult");
                jw_raw(&w, inv->previous, strlen(inv->previous));
        }
        if (inv->valid_attachments)
                write_attachments(&w, inv->valid_attachments);
        jw_end(&w);
        return buf_error(to) ? kl_error(err, -ENOMEM, NULL, "out of memory") : 0;
}

int cni_invoke(Cni *cni, const CniInvocation *inv, WorkerFunc done, void *data, Worker **ret,
               KlError **err)
{
        const char *type = value_get_str(inv->plugin, "type");
        KL_AUTOFREE char *path = NULL;
        KL_AUTOSTRV env = NULL;
        KL_AUTOBUF input = BUF_INIT;
        int r;

        r = cni_find_plugin(cni, type, &path, err);
        if (r == 0)
                r = write_input(inv, &input, err);
        if (r < 0)
                return r;
        env = make_environment(cni, inv);
        if (!env)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return worker_start(cni->loop,
                            &(WorkerSpec){ .name = "CNI plugin",
                                           .path = path,
                                           .argv = (char *[]){ path, NULL },
                                           .envp = env,
                                           .input = input.data,
                                           .input_len = input.len,
                                           .out_max = CNI_OUTPUT_MAX,
                                           .deadline_ms = inv->timeout_ms,
                                           .outlives_us = true,
                                           .own_group = true,
                                           .done = done,
                                           .data = data },
                            ret, err);
}

/* Foreign text for an event: control characters become blanks, and it is cut. */
static char *printable(const char *text, size_t len)
{
        KL_AUTOBUF buf = BUF_INIT;

        while (len > 0 && isspace((unsigned char)text[len - 1]))
                len--;
        for (size_t i = 0; i < len && i < 1024; i++)
                buf_add_char(&buf, iscntrl((unsigned char)text[i]) ? ' ' : text[i]);
        if (len > 1024)
                buf_add_str(&buf, "...");
        buf_add_str(&buf, "");
        return buf.len ? buf_steal(&buf) : strdup("");
}

static int failure_without_output(const WorkerResult *result, uint64_t timeout_ms, KlError **err)
{
        KL_AUTOFREE char *errors = printable(result->errors, result->errors_len);
        char how[128];

        if (errors && *errors)
                return kl_error(err, -EIO, NULL, "netplugin failed: \"%s\"", errors);
        worker_describe(result, timeout_ms, how, sizeof(how));
        return kl_error(err, -EIO, NULL, "netplugin failed with no error message: it %s", how);
}

int cni_outcome(const WorkerResult *result, uint64_t timeout_ms, KlError **err)
{
        KL_AUTOFREE char *text = NULL, *shown = NULL;
        KL_AUTOERR why = NULL;
        int code = 0;

        if (result->timed_out)
                return kl_error(err, -ETIMEDOUT, NULL, "it did not end within %g s and was killed",
                                (double)timeout_ms / 1000);
        if (result->truncated)
                return kl_error(err, -EMSGSIZE, NULL, "it printed more than %d bytes",
                                CNI_OUTPUT_MAX);
        if (WIFEXITED(result->status) && WEXITSTATUS(result->status) == 0)
                return 0;
        if (result->out_len == 0)
                return failure_without_output(result, timeout_ms, err);
        if (cni_error_parse(result->out, result->out_len, &code, &text, &why) == 0) {
                shown = printable(text, strlen(text));
                return kl_error(err, -EIO, NULL, "%s", shown ? shown : "");
        }
        shown = printable(result->out, result->out_len);
        return kl_error(err, -EIO, NULL,
                        "netplugin failed but error parsing its diagnostic message \"%s\": %s",
                        shown ? shown : "", kl_error_msg(why));
}

int cni_wrap_plugin(KlError **err, int code, const Value *plugin, const char *verb)
{
        const char *name = value_get_str(plugin, "name");
        char lower[16] = "";

        if (str_eq(verb, "DEL"))
                verb = "delete";
        for (size_t i = 0; verb[i] && i < sizeof(lower) - 1; i++)
                lower[i] = (char)tolower((unsigned char)verb[i]);
        return kl_error_wrap(err, code, "plugin type=\"%s\"%s%s%s failed (%s)",
                             value_get_str(plugin, "type"), name ? " name=\"" : "",
                             name ? name : "", name ? "\"" : "", lower);
}
