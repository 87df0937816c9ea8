/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Network configurations: CNI specification 1.1.0, section 1, and what libcni makes of a directory.
 *
 * Every configuration is kept as a list, in JSON, since that is what an attachment's record stores:
 * an attachment is taken down with the configuration that it was made with, whatever the directory
 * says by then.
 */

#include "cni/cni-config.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#include <ctype.h>
#include <fcntl.h>

const char *const cni_versions[CNI_VERSIONS] = {
        [CNI_0_1_0] = "0.1.0", [CNI_0_2_0] = "0.2.0", [CNI_0_3_0] = "0.3.0", [CNI_0_3_1] = "0.3.1",
        [CNI_0_4_0] = "0.4.0", [CNI_1_0_0] = "1.0.0", [CNI_1_1_0] = "1.1.0",
};

int cni_version_parse(const char *text, CniVersion *ret)
{
        for (size_t i = 0; text && i < CNI_VERSIONS; i++)
                if (str_eq(cni_versions[i], text)) {
                        *ret = (CniVersion)i;
                        return 0;
                }
        return -EINVAL;
}

CniVersion cni_version_highest(unsigned int set)
{
        return (CniVersion)(31 - __builtin_clz(set));
}

/* [A-Za-z0-9][A-Za-z0-9_.-]*: names of networks and ids of containers. */
static bool is_plain_name(const char *s, size_t max)
{
        size_t len = s ? strlen(s) : 0;

        if (len == 0 || len > max || !isalnum((unsigned char)s[0]))
                return false;
        for (size_t i = 1; i < len; i++)
                if (!isalnum((unsigned char)s[i]) && !strchr("_.-", s[i]))
                        return false;
        return true;
}

bool cni_id_is_valid(const char *id)
{
        return is_plain_name(id, 128);
}

bool cni_ifname_is_valid(const char *ifname)
{
        size_t len = ifname ? strlen(ifname) : 0;

        if (len == 0 || len > 15 || str_eq(ifname, ".") || str_eq(ifname, ".."))
                return false;
        for (size_t i = 0; i < len; i++)
                if (ifname[i] == '/' || ifname[i] == ':' || !isgraph((unsigned char)ifname[i]))
                        return false;
        return true;
}

CniConfig *cni_config_free(CniConfig *config)
{
        if (!config)
                return NULL;
        value_free(config->list);
        free(config->text);
        free(config);
        return NULL;
}

const Value *cni_config_plugin(const CniConfig *config, size_t i)
{
        return value_at(value_get(config->list, "plugins"), i);
}

/* Without "cniVersion" a configuration is 0.1.0, as libcni has it. */
static int config_versions(CniConfig *c, KlError **err)
{
        const Value *version = value_get(c->list, "cniVersion");
        const Value *more = value_get(c->list, "cniVersions");
        CniVersion v = CNI_0_1_0;

        if (version && value_type(version) != VALUE_STRING)
                return kl_error(err, -EINVAL, NULL, "cniVersion: expected a string");
        if (!version ? value_len(more) == 0 : cni_version_parse(value_str(version), &v) == 0)
                c->versions |= 1u << v;
        for (size_t i = 0; i < value_len(more); i++)
                if (cni_version_parse(value_str(value_at(more, i)), &v) == 0)
                        c->versions |= 1u << v;
        if (!c->versions)
                return kl_error(err, -EINVAL, NULL, "cniVersion: '%s' is not supported",
                                value_str(version) ? value_str(version) : "");
        return 0;
}

static int config_plugins(CniConfig *c, KlError **err)
{
        const Value *plugins = value_get(c->list, "plugins");

        c->n_plugins = value_len(plugins);
        if (value_type(plugins) != VALUE_ARRAY || c->n_plugins == 0)
                return kl_error(err, -EINVAL, NULL, "it has no plugins");
        if (c->n_plugins > CNI_PLUGINS_MAX)
                return kl_error(err, -EINVAL, NULL, "%zu plugins are more than %d", c->n_plugins,
                                CNI_PLUGINS_MAX);
        for (size_t i = 0; i < c->n_plugins; i++) {
                const char *type = value_get_str(cni_config_plugin(c, i), "type");

                if (str_empty(type) || strchr(type, '/') || str_eq(type, ".") || str_eq(type, ".."))
                        return kl_error(err, -EINVAL, NULL,
                                        "plugins[%zu].type: '%s' is no plugin's name", i,
                                        type ? type : "");
        }
        return 0;
}

static int config_check(CniConfig *c, KlError **err)
{
        int r;

        c->name = value_get_str(c->list, "name");
        if (!is_plain_name(c->name, 255))
                return kl_error(err, -EINVAL, NULL, "name: '%s' is no network name",
                                c->name ? c->name : "");
        r = config_versions(c, err);
        if (r == 0)
                r = config_plugins(c, err);
        c->disable_check = value_bool(value_get(c->list, "disableCheck"), false);
        c->disable_gc = value_bool(value_get(c->list, "disableGC"), false);
        return r;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* File names of a directory with one of these endings, sorted; none if there is no directory. */
static int list_files(const char *dir, const char *const *endings, size_t n_endings, char ***ret)
{
        KL_AUTODIR DIR *d = opendir(dir);
        KL_AUTOSTRV names = NULL;
        size_t n = 0;

        if (!d)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        for (struct dirent *e; (e = readdir(d)) && n < CNI_FILES_MAX;)
                for (size_t i = 0; i < n_endings; i++)
                        if (str_ends(e->d_name, endings[i])) {
                                if (strv_add(&names, e->d_name) < 0)
                                        return -ENOMEM;
                                n++;
                                break;
                        }
        if (n > 1)
                qsort(names, n, sizeof(*names), compare_names);
        *ret = KL_STEAL(names);
        return 0;
}

/* Plugins that live beside a list, in <dir>/<name>/<file>.conf, follow those within it. */
static int add_subdirectory(JsonWriter *w, const char *dir, const char *name, KlError **err)
{
        static const char *const endings[] = { ".conf" };
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);
        KL_AUTOSTRV files = NULL;
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = list_files(path, endings, ELEMENTS(endings), &files);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", path);
        for (size_t i = 0; files && files[i]; i++) {
                KL_AUTOFREE char *file = str_format("%s/%s", path, files[i]);
                KL_AUTOFREE char *data = NULL;
                KL_AUTO(value_free) Value *plugin = NULL;
                size_t len = 0;

                r = file ? file_read(file, CNI_CONF_MAX, &data, &len) : -ENOMEM;
                if (r < 0)
                        return kl_error_errno(err, r, NULL, "read '%s/%s'", path, files[i]);
                r = json_parse(data, len, &plugin, err);
                if (r < 0)
                        return kl_error_wrap(err, r, "%s", file);
                jw_value(w, plugin);
        }
        return 0;
}

static int write_list(const Value *root, bool is_list, const char *dir, Buf *to, KlError **err)
{
        JsonWriter w = JSON_WRITER(to);
        const Value *version = value_get(root, "cniVersion"), *child;
        const char *key;
        int r = 0;

        jw_object(&w);
        if (!is_list) {
                if (version) {
                        jw_key(&w, "cniVersion");
                        jw_value(&w, version);
                }
                jw_kstr(&w, "name", value_get_str(root, "name"));
        }
        for (void *it = NULL; is_list && value_next(root, &it, &key, &child);) {
                if (str_eq(key, "plugins"))
                        continue;
                jw_key(&w, key);
                jw_value(&w, child);
        }
        jw_karray(&w, "plugins");
        if (!is_list)
                jw_value(&w, root);
        for (size_t i = 0; is_list && i < value_len(value_get(root, "plugins")); i++)
                jw_value(&w, value_at(value_get(root, "plugins"), i));
        if (is_list && dir && is_plain_name(value_get_str(root, "name"), 255) &&
            !value_bool(value_get(root, "loadOnlyInlinedPlugins"), false))
                r = add_subdirectory(&w, dir, value_get_str(root, "name"), err);
        jw_end(&w);
        jw_end(&w);
        if (r == 0 && buf_error(to))
                r = kl_error(err, -ENOMEM, NULL, "out of memory");
        return r;
}

int cni_config_parse(const char *json, size_t len, bool is_list, const char *dir, CniConfig **ret,
                     KlError **err)
{
        KL_AUTO(cni_config_free) CniConfig *c = calloc(1, sizeof(*c));
        KL_AUTO(value_free) Value *root = NULL;
        KL_AUTOBUF text = BUF_INIT;
        int r;

        if (!c)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = json_parse(json, len, &root, err);
        if (r < 0)
                return r;
        if (value_type(root) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "expected an object");
        if (value_get(root, "plugins") && value_type(value_get(root, "plugins")) != VALUE_ARRAY)
                return kl_error(err, -EINVAL, NULL, "plugins: expected an array");
        if (!is_list && value_get(root, "plugins") && !value_get(root, "type"))
                return kl_error(err, -EINVAL, NULL,
                                "a list of plugins belongs in a .conflist file");
        r = write_list(root, is_list, dir, &text, err);
        if (r < 0)
                return r;
        r = json_parse(buf_str(&text), text.len, &c->list, err);
        if (r < 0)
                return r;
        r = config_check(c, err);
        if (r < 0)
                return r;
        c->text = buf_steal(&text);
        *ret = KL_STEAL(c);
        return 0;
}

static int load_file(const char *dir, const char *path, CniConfig **ret, KlError **err)
{
        KL_AUTOFREE char *data = NULL;
        size_t len = 0;
        int r;

        r = file_read(path, CNI_CONF_MAX, &data, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "cannot read it");
        return cni_config_parse(data, len, str_ends(path, ".conflist"), dir, ret, err);
}

int cni_config_load(const char *dir, CniConfig **ret, KlError **err)
{
        static const char *const endings[] = { ".conf", ".conflist", ".json" };
        KL_AUTOSTRV files = NULL;
        int r;

        r = list_files(dir, endings, ELEMENTS(endings), &files);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", dir);
        for (size_t i = 0; files && files[i]; i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", dir, files[i]);
                KL_AUTOERR why = NULL;

                if (!path)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                r = load_file(dir, path, ret, &why);
                if (r == 0)
                        return 0;
                if (r == -ENOMEM)
                        return kl_error_move(err, &why);
                log_warning(NULL, "CNI configuration '%s' is not usable, ignoring: %s", path,
                            kl_error_msg(why));
        }
        return 1;
}
