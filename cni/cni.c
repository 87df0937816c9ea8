/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The Cni object: the configuration in use, and the parts that work for it: calls (call.c), the
 * collector of what former daemons left (collect.c), the directory's follower (follow.c), the
 * question after the network's health (health.c). It owns them all; freeing it drops calls under
 * way, whose records tell the next one what to do.
 */

#include "cni/cni-internal.h"
#include "cni/cni-result.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

static void on_kick(Deferred *deferred, void *data)
{
        cni_calls_next(data);
}

Cni *cni_free(Cni *cni)
{
        if (!cni)
                return NULL;
        cni_calls_drop(cni);
        cni_collector_free(cni->collector);
        cni_health_free(cni->health);
        cni_follow_free(cni->follow);
        deferred_free(cni->kick);
        map_free(cni->versions);
        cni_config_free(cni->config);
        free(cni->conf_dir);
        free(cni->cache_dir);
        free(cni->search_path);
        strv_free(cni->bin_dirs);
        free(cni);
        return NULL;
}

static char *join_paths(char *const *dirs)
{
        KL_AUTOBUF buf = BUF_INIT;

        for (size_t i = 0; dirs[i]; i++)
                buf_addf(&buf, "%s%s", i ? ":" : "", dirs[i]);
        return buf.len ? buf_steal(&buf) : strdup("");
}

static void load_config(Cni *cni)
{
        CniConfig *config = NULL;
        KL_AUTOERR err = NULL;

        if (cni_config_load(cni->conf_dir, &config, &err) < 0)
                log_warning(NULL, "Cannot read the CNI configuration: %s", kl_error_msg(err));
        cni_config_free(cni->config);
        cni->config = config;
}

void cni_reload(Cni *cni)
{
        KL_AUTOFREE char *before = cni->config ? strdup(cni->config->text) : NULL;

        load_config(cni);
        if (str_eq(before, cni->config ? cni->config->text : NULL))
                return;
        if (cni->config)
                log_info(NULL, "Pods use the network '%s'", cni->config->name);
        else
                log_info(NULL, "No usable CNI configuration in '%s'", cni->conf_dir);
        cni_health_check(cni);
        cni_collector_config_changed(cni);
        if (cni->changed)
                cni->changed(cni->data);
}

static int cni_fill(Cni *cni, const CniOptions *options, KlError **err)
{
        static char *const no_dirs[] = { NULL };
        char *const *bin_dirs = options->bin_dirs ? options->bin_dirs : no_dirs;

        list_init(&cni->calls);
        cni->timeout_ms = options->timeout_ms && options->timeout_ms < CNI_TIMEOUT_MS
                                  ? options->timeout_ms
                                  : CNI_TIMEOUT_MS;
        cni->changed = options->changed;
        cni->data = options->data;
        random_hex(cni->owner, (sizeof(cni->owner) - 1) / 2);
        cni->conf_dir = strdup(options->conf_dir);
        cni->cache_dir = strdup(options->cache_dir);
        cni->bin_dirs = bin_dirs[0] ? strv_copy(bin_dirs) : calloc(1, sizeof(char *));
        cni->search_path = join_paths(bin_dirs);
        cni->versions = map_new(free);
        cni->kick = deferred_new(cni->loop, on_kick, cni);
        if (!cni->conf_dir || !cni->cache_dir || !cni->bin_dirs || !cni->search_path ||
            !cni->versions || !cni->kick)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return 0;
}

int cni_new(Loop *loop, const CniOptions *options, Cni **ret, KlError **err)
{
        KL_AUTO(cni_free) Cni *cni = calloc(1, sizeof(*cni));
        int r;

        if (!cni)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&cni->calls);
        cni->loop = loop;
        r = cni_fill(cni, options, err);
        if (r < 0)
                return r;
        r = dir_make_all(cni->cache_dir, 0700);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", cni->cache_dir);
        r = cni_collector_new(cni, err);
        if (r == 0)
                r = cni_health_new(cni, err);
        if (r == 0)
                r = cni_follow_new(cni, err);
        if (r < 0)
                return r;
        load_config(cni);
        cni_health_check(cni);
        *ret = KL_STEAL(cni);
        return 0;
}

const char *cni_not_ready_message(const Cni *cni)
{
        if (!cni->config)
                return "cni plugin not initialized";
        return cni_health_message(cni);
}

const char *cni_network_name(const Cni *cni)
{
        return cni->config ? cni->config->name : NULL;
}

int cni_cached_result(Cni *cni, const char *id, const char *ifname, CniResult **ret)
{
        KL_AUTO(cni_record_free) CniRecord *record = NULL;
        int r;

        r = cni_record_load(cni->cache_dir, id, ifname, &record, NULL);
        if (r < 0)
                return r;
        if (r > 0 || record->state != CNI_ADDED || !record->result)
                return -ENOENT;
        return cni_result_parse(record->result, ifname, ret, NULL);
}
