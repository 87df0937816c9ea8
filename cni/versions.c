/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which version of the specification a network is used with. A configuration that names one leaves
 * no choice, and its plugins refuse it themselves if they must; only where "cniVersions" offers
 * several are the plugins asked, once for each state of a binary.
 */

#include "cni/cni-internal.h"
#include "cni/cni-result.h"

#include "base/log.h"
#include "base/str.h"

#include <sys/stat.h>

typedef struct PluginVersions {
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec mtime;
        unsigned int set;
} PluginVersions;

struct CniChoice {
        Cni *cni;
        CniConfig *config;
        size_t at;
        unsigned int set;
        char *path;
        struct stat st;
        Worker *worker;
        CniChoiceFunc done;
        void *data;
};

static int choice_step(CniChoice *c, KlError **err);

CniChoice *cni_choice_free(CniChoice *choice)
{
        if (!choice)
                return NULL;
        worker_free(choice->worker);
        cni_config_free(choice->config);
        free(choice->path);
        free(choice);
        return NULL;
}

static void choice_end(CniChoice *c, const KlError *error)
{
        CniChoiceFunc done = c->done;
        void *data = c->data;
        CniVersion version = c->set ? cni_version_highest(c->set) : CNI_0_1_0;
        KL_AUTOERR none = NULL;

        if (!error && !c->set) {
                kl_error(&none, -EPROTONOSUPPORT, NULL,
                         "the plugins of network \"%s\" have no version in common with it",
                         c->config->name);
                error = none;
        }
        cni_choice_free(c);
        done(version, error, data);
}

static void remember(CniChoice *c, unsigned int set)
{
        PluginVersions *v = malloc(sizeof(*v));

        if (!v)
                return;
        *v = (PluginVersions){ c->st.st_dev, c->st.st_ino, c->st.st_size, c->st.st_mtim, set };
        if (map_set(c->cni->versions, c->path, v) < 0)
                free(v);
}

static void on_versions(Worker *worker, WorkerResult *result, void *data)
{
        CniChoice *c = data;
        KL_AUTOERR err = NULL;
        unsigned int set = 0;

        if (cni_outcome(result, CNI_QUERY_TIMEOUT_MS, &err) == 0)
                cni_version_info_parse(result->out, result->out_len, &set, &err);
        c->worker = worker_free(worker);
        if (err) {
                log_warning(NULL, "CNI plugin '%s' does not tell its versions, ignoring: %s",
                            c->path, kl_error_msg(err));
                set = ~0u;
        } else {
                remember(c, set);
        }
        c->set &= set;
        c->at++;
        err = kl_error_free(err);
        if (choice_step(c, &err) <= 0)
                choice_end(c, err);
}

static bool known(CniChoice *c)
{
        const PluginVersions *v = map_get(c->cni->versions, c->path);

        if (!v || v->dev != c->st.st_dev || v->ino != c->st.st_ino || v->size != c->st.st_size ||
            v->mtime.tv_sec != c->st.st_mtim.tv_sec || v->mtime.tv_nsec != c->st.st_mtim.tv_nsec)
                return false;
        c->set &= v->set;
        c->at++;
        return true;
}

/* 1: a plugin is being asked; 0: all are known. */
static int choice_step(CniChoice *c, KlError **err)
{
        for (;;) {
                const Value *plugin = cni_config_plugin(c->config, c->at);
                CniInvocation inv = { .verb = "VERSION",
                                      .plugin = plugin,
                                      .version = cni_version_highest(c->config->versions),
                                      .timeout_ms = CNI_QUERY_TIMEOUT_MS };
                int r;

                if (c->at == c->config->n_plugins)
                        return 0;
                free(KL_STEAL(c->path));
                r = cni_find_plugin(c->cni, value_get_str(plugin, "type"), &c->path, err);
                if (r == 0 && stat(c->path, &c->st) < 0)
                        r = kl_error_errno(err, -errno, NULL, "read '%s'", c->path);
                if (r == 0 && known(c))
                        continue;
                if (r == 0)
                        r = cni_invoke(c->cni, &inv, on_versions, c, &c->worker, err);
                return r < 0 ? cni_wrap_plugin(err, r, plugin, inv.verb) : 1;
        }
}

int cni_choose_version(Cni *cni, const CniConfig *config, CniChoiceFunc done, void *data,
                       CniChoice **ret, KlError **err)
{
        KL_AUTOERR why = NULL;
        CniChoice *c;
        int r;

        *ret = NULL;
        if ((config->versions & (config->versions - 1)) == 0) {
                done(cni_version_highest(config->versions), NULL, data);
                return 0;
        }
        c = calloc(1, sizeof(*c));
        if (!c)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *c = (CniChoice){ .cni = cni, .set = config->versions, .done = done, .data = data };
        r = cni_config_parse(config->text, strlen(config->text), true, NULL, &c->config, err);
        if (r < 0) {
                cni_choice_free(c);
                return r;
        }
        if (choice_step(c, &why) > 0)
                *ret = c;
        else
                choice_end(c, why);
        return 0;
}
