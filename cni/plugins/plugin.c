/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The frame around a plugin's verbs. Order as libcni's own plugins have it: environment first, then
 * the configuration on standard input, then the version, so that each mistake has its own code.
 * Names are checked here once and for all; nothing else may build paths, link names or rule
 * comments from unchecked ones.
 */

#include "cni/plugins/plugin.h"

#include "base/file.h"
#include "base/str.h"
#include "cni/plugins/netns.h"
#include "codec/json.h"

#include <stdarg.h>

static const char *const versions[] = {
        [PLUGIN_0_3_0] = "0.3.0", [PLUGIN_0_3_1] = "0.3.1", [PLUGIN_0_4_0] = "0.4.0",
        [PLUGIN_1_0_0] = "1.0.0", [PLUGIN_1_1_0] = "1.1.0",
};

const char *plugin_version_text(PluginVersion version)
{
        return versions[version];
}

static int version_parse(const char *text, PluginVersion *ret)
{
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                if (str_eq(versions[i], text)) {
                        *ret = (PluginVersion)i;
                        return 0;
                }
        }
        return -EPROTONOSUPPORT;
}

/* --- errors --- */

/* The token that carries a code through KlError. */
static const struct {
        PluginCode code;
        int error;
        const char *reason;
} codes[] = {
        { PLUGIN_VERSION_UNSUPPORTED, -EPROTONOSUPPORT, "CniIncompatibleVersion" },
        { PLUGIN_CONTAINER_UNKNOWN, -ESRCH, "CniUnknownContainer" },
        { PLUGIN_ENVIRONMENT, -EINVAL, "CniInvalidEnvironment" },
        { PLUGIN_IO, -EIO, "CniIoFailure" },
        { PLUGIN_DECODE, -EBADMSG, "CniDecodingFailure" },
        { PLUGIN_CONFIG, -EINVAL, "CniInvalidNetworkConfig" },
        { PLUGIN_NETNS, -EINVAL, "CniInvalidNetNS" },
        { PLUGIN_TRY_AGAIN, -EAGAIN, "CniTryAgainLater" },
        { PLUGIN_UNAVAILABLE, -ENOTSUP, "CniPluginNotAvailable" },
        { PLUGIN_FAILED, -EIO, "CniPluginFailed" },
};

int plugin_error(KlError **err, PluginCode code, const char *format, ...)
{
        KL_AUTOFREE char *msg = NULL;
        va_list args;
        size_t i = 0;

        while (i < ELEMENTS(codes) - 1 && codes[i].code != code)
                i++;
        va_start(args, format);
        if (vasprintf(&msg, format, args) < 0)
                msg = NULL;
        va_end(args);
        return kl_error(err, codes[i].error, codes[i].reason, "%s", msg ? msg : "out of memory");
}

PluginCode plugin_error_code(const KlError *err)
{
        for (size_t i = 0; err && i < ELEMENTS(codes); i++)
                if (str_eq(err->reason, codes[i].reason))
                        return codes[i].code;
        return PLUGIN_FAILED;
}

PluginCode plugin_code_from(int64_t code)
{
        for (size_t i = 0; i < ELEMENTS(codes); i++)
                if ((int64_t)codes[i].code == code)
                        return codes[i].code;
        return PLUGIN_FAILED;
}

int plugin_config_error(int r, KlError **err)
{
        if (r < 0 && err && *err && !(*err)->reason)
                kl_error_set_reason(*err, codes[5].reason);
        return r;
}

static int print_error(const char *version, const KlError *err)
{
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        jw_object(&w);
        jw_kstr(&w, "cniVersion", version);
        jw_kint(&w, "code", plugin_error_code(err));
        jw_kstr(&w, "msg", kl_error_msg(err));
        jw_kstr(&w, "details", "");
        jw_end(&w);
        buf_add_char(&text, '\n');
        fd_write_all(STDOUT_FILENO, buf_str(&text), text.len);
        return EXIT_FAILURE;
}

/* --- checks --- */

static bool is_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool plugin_name_valid(const char *name, size_t max)
{
        if (!is_alnum(*name))
                return false;
        for (const char *p = name; *p; p++)
                if (!is_alnum(*p) && *p != '_' && *p != '.' && *p != '-')
                        return false;
        return strlen(name) <= max;
}

/* dev_valid_name() of the kernel, without the characters that would be read as something else in a
 * /proc/sys path or a rule. */
bool plugin_ifname_valid(const char *name)
{
        size_t n = strlen(name);

        if (n == 0 || n > 15 || str_eq(name, ".") || str_eq(name, ".."))
                return false;
        for (const char *p = name; *p; p++)
                if (*p <= ' ' || *p == '/' || *p == ':' || *p == '"' || *p == '%' || *p > '~')
                        return false;
        return true;
}

static bool is_listed(const char *const *list, const char *key)
{
        for (; *list; list++)
                if (str_eq(*list, key))
                        return true;
        return false;
}

int plugin_check_keys(const Value *object, const char *path, const char *const *known,
                      KlError **err)
{
        static const char *const common[] = { "cniVersion",   "name", "type",          "ipam",
                                              "dns",          "args", "runtimeConfig", "prevResult",
                                              "capabilities", NULL };
        bool top = *path == '\0';
        const Value *child;
        const char *key;

        for (void *it = NULL; value_next(object, &it, &key, &child);) {
                if (is_listed(known, key))
                        continue;
                if (top && (is_listed(common, key) || str_starts(key, "cni.dev/")))
                        continue;
                return plugin_error(err, PLUGIN_CONFIG, "unsupported key '%s%s%s'", path,
                                    top ? "" : ".", key);
        }
        return 0;
}

int plugin_refuse(const char *key, const char *why, KlError **err)
{
        return plugin_error(err, PLUGIN_CONFIG, "unsupported value of '%s': %s", key, why);
}

/* --- CNI_ARGS --- */

/* Splits "KEY=VALUE" at its first '='; NULL when there is none. */
static const char *arg_value(const char *pair, size_t *ret_key_len)
{
        const char *eq = strchr(pair, '=');

        if (!eq || eq == pair)
                return NULL;
        *ret_key_len = (size_t)(eq - pair);
        return eq + 1;
}

int plugin_arg(const PluginCall *call, const char *key, const char **ret, KlError **err)
{
        KL_AUTOSTRV pairs = strv_split(call->args, ';');
        size_t n = strlen(key), len;

        *ret = NULL;
        if (!pairs)
                return -ENOMEM;
        for (char **p = pairs; *p; p++) {
                const char *value = arg_value(*p, &len);

                if (!value)
                        return plugin_error(err, PLUGIN_ENVIRONMENT,
                                            "CNI_ARGS: '%s' is not KEY=VALUE", *p);
                if (len == n && strncmp(*p, key, n) == 0) {
                        *ret = arena_strdup(call->arena, value);
                        return *ret ? 0 : -ENOMEM;
                }
        }
        return 0;
}

int plugin_check_args(const PluginCall *call, const char *const *known, KlError **err)
{
        KL_AUTOSTRV pairs = strv_split(call->args, ';');
        const char *ignore;
        int r = plugin_arg(call, "IgnoreUnknown", &ignore, err);

        if (r < 0)
                return r;
        if (!pairs)
                return -ENOMEM;
        if (str_eq(ignore, "1") || str_eq(ignore, "true"))
                return 0;
        for (char **p = pairs; *p; p++) {
                char *eq = strchr(*p, '=');

                if (eq)
                        *eq = '\0';
                if (!str_eq(*p, "IgnoreUnknown") && !is_listed(known, *p))
                        return plugin_error(err, PLUGIN_ENVIRONMENT, "CNI_ARGS: unknown key '%s'",
                                            *p);
        }
        return 0;
}

/* --- owners --- */

void plugin_owner(const PluginCall *call, char to[static PLUGIN_OWNER_SIZE])
{
        snprintf(to, PLUGIN_OWNER_SIZE, "%s/%s/%s", call->network, call->container_id,
                 call->ifname);
}

int plugin_valid_attachments(const PluginCall *call, PluginAttachment **ret, size_t *ret_n,
                             KlError **err)
{
        Field config = field_root(call->config), list;
        PluginAttachment *attachments;
        size_t n;
        int r;

        r = field_array(&config, "cni.dev/valid-attachments", PLUGIN_ATTACHMENTS_MAX, &list, &n,
                        err);
        if (r < 0)
                return plugin_config_error(r, err);
        if (!field_present(&list))
                return plugin_error(err, PLUGIN_CONFIG,
                                    "GC needs the key 'cni.dev/valid-attachments'");
        attachments = ARENA_ARRAY(call->arena, n + 1, PluginAttachment);
        if (!attachments)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const Value *v = value_at(list.value, i);

                attachments[i].container_id = value_get_str(v, "containerID");
                attachments[i].ifname = value_get_str(v, "ifname");
                if (!attachments[i].container_id || !attachments[i].ifname)
                        return plugin_error(err, PLUGIN_CONFIG,
                                            "cni.dev/valid-attachments[%zu]: containerID and "
                                            "ifname are required",
                                            i);
        }
        *ret = attachments;
        *ret_n = n;
        return 0;
}

bool plugin_owner_is_stale(const PluginCall *call, const PluginAttachment *attachments, size_t n,
                           const char *owner)
{
        size_t len = strlen(call->network);
        char valid[PLUGIN_OWNER_SIZE];

        if (strncmp(owner, call->network, len) != 0 || owner[len] != '/')
                return false;
        for (size_t i = 0; i < n; i++) {
                snprintf(valid, sizeof(valid), "%s/%s/%s", call->network,
                         attachments[i].container_id, attachments[i].ifname);
                if (str_eq(valid, owner))
                        return false;
        }
        return true;
}

/* --- the program --- */

typedef enum Need { NEED_ID = 1, NEED_NETNS = 2, NEED_IFNAME = 4, NEED_PATH = 8 } Need;

typedef struct Verb {
        const char *name;
        unsigned int needs;
        PluginVersion since;
} Verb;

static const Verb verbs[] = {
        { "ADD", NEED_ID | NEED_NETNS | NEED_IFNAME | NEED_PATH, PLUGIN_0_3_0 },
        { "DEL", NEED_ID | NEED_IFNAME | NEED_PATH, PLUGIN_0_3_0 },
        { "CHECK", NEED_ID | NEED_NETNS | NEED_IFNAME | NEED_PATH, PLUGIN_0_4_0 },
        { "GC", NEED_PATH, PLUGIN_1_1_0 },
        { "STATUS", 0, PLUGIN_1_1_0 },
        { "VERSION", 0, PLUGIN_0_3_0 },
};

static const Verb *verb_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (str_eq(verbs[i].name, name))
                        return &verbs[i];
        return NULL;
}

static int env_read(const char *name, bool needed, const char **ret, KlError **err)
{
        const char *value = getenv(name);

        if (needed && str_empty(value))
                return plugin_error(err, PLUGIN_ENVIRONMENT,
                                    "required environment variable %s is missing", name);
        *ret = value ? value : "";
        return 0;
}

static int call_read_env(PluginCall *call, const Verb *verb, KlError **err)
{
        int r;

        r = env_read("CNI_CONTAINERID", verb->needs & NEED_ID, &call->container_id, err);
        if (r == 0)
                r = env_read("CNI_NETNS", verb->needs & NEED_NETNS, &call->netns, err);
        if (r == 0)
                r = env_read("CNI_IFNAME", verb->needs & NEED_IFNAME, &call->ifname, err);
        if (r == 0)
                r = env_read("CNI_PATH", verb->needs & NEED_PATH, &call->path, err);
        if (r == 0)
                r = env_read("CNI_ARGS", false, &call->args, err);
        if (r < 0)
                return r;
        if ((verb->needs & NEED_ID) &&
            !plugin_name_valid(call->container_id, PLUGIN_CONTAINER_ID_MAX))
                return plugin_error(err, PLUGIN_ENVIRONMENT,
                                    "CNI_CONTAINERID is not a valid container id");
        if ((verb->needs & NEED_IFNAME) && !plugin_ifname_valid(call->ifname))
                return plugin_error(err, PLUGIN_ENVIRONMENT,
                                    "CNI_IFNAME is not a valid interface name");
        return 0;
}

static int read_stdin(Buf *to, KlError **err)
{
        for (;;) {
                char *at = buf_reserve(to, 65536);
                ssize_t n;

                if (!at)
                        return plugin_error(err, PLUGIN_IO,
                                            "the configuration is longer than %d "
                                            "bytes",
                                            PLUGIN_CONFIG_MAX);
                n = read(STDIN_FILENO, at, 65536);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return plugin_error(err, PLUGIN_IO, "read the configuration: %s",
                                            strerror(errno));
                if (n == 0)
                        return to->len > PLUGIN_CONFIG_MAX
                                       ? plugin_error(err, PLUGIN_IO,
                                                      "the configuration is longer "
                                                      "than %d bytes",
                                                      PLUGIN_CONFIG_MAX)
                                       : 0;
                buf_commit(to, (size_t)n);
        }
}

static int call_read_config(PluginCall *call, const Verb *verb, const Value *config, KlError **err)
{
        const char *version = value_get_str(config, "cniVersion");

        if (value_type(config) != VALUE_OBJECT)
                return plugin_error(err, PLUGIN_DECODE, "the configuration is not an object");
        if (!version || version_parse(version, &call->version) < 0)
                return plugin_error(err, PLUGIN_VERSION_UNSUPPORTED,
                                    "cniVersion '%s' is not supported: 0.3.0 to 1.1.0 are",
                                    version ? version : "");
        if (call->version < verb->since)
                return plugin_error(err, PLUGIN_VERSION_UNSUPPORTED, "cniVersion %s has no %s",
                                    version, verb->name);
        call->network = value_get_str(config, "name");
        if (!call->network || !plugin_name_valid(call->network, PLUGIN_NETWORK_NAME_MAX))
                return plugin_error(err, PLUGIN_CONFIG, "'name' is not a valid network name");
        call->config = config;
        return 0;
}

/* A runtime that passes its own namespace would have the node's interfaces reconfigured. */
static int check_netns(const PluginCall *call, KlError **err)
{
        if (!str_empty(call->netns) && netns_is_own(call->netns))
                return plugin_error(err, PLUGIN_NETNS,
                                    "CNI_NETNS '%s' is the network namespace of the plugin itself",
                                    call->netns);
        return 0;
}

static int print_versions(const Value *config)
{
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        const char *asked = value_get_str(config, "cniVersion");

        jw_object(&w);
        jw_kstr(&w, "cniVersion", asked ? asked : versions[PLUGIN_1_1_0]);
        jw_karray(&w, "supportedVersions");
        for (size_t i = 0; i < ELEMENTS(versions); i++)
                jw_str(&w, versions[i]);
        jw_end(&w);
        jw_end(&w);
        buf_add_char(&text, '\n');
        return fd_write_all(STDOUT_FILENO, buf_str(&text), text.len);
}

static int run_verb(const PluginOps *ops, const char *name, const PluginCall *call, Buf *result,
                    KlError **err)
{
        if (str_eq(name, "ADD"))
                return ops->add(call, result, err);
        if (str_eq(name, "DEL"))
                return ops->del(call, err);
        if (str_eq(name, "CHECK"))
                return ops->check(call, err);
        if (str_eq(name, "STATUS"))
                return ops->status(call, err);
        return ops->gc(call, err);
}

static int run(const PluginOps *ops, Value **config, Buf *text, Buf *result, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        PluginCall call = { .arena = arena };
        const char *command = NULL;
        const Verb *verb;
        int r;

        r = env_read("CNI_COMMAND", true, &command, err);
        if (r < 0)
                return r;
        verb = verb_find(command);
        if (!verb)
                return plugin_error(err, PLUGIN_ENVIRONMENT, "unknown CNI_COMMAND '%s'", command);
        r = call_read_env(&call, verb, err);
        if (r == 0)
                r = read_stdin(text, err);
        if (r < 0)
                return r;
        if (text->len > 0 || !str_eq(command, "VERSION")) {
                KL_AUTOERR parse = NULL;

                if (json_parse(buf_str(text), text->len, config, &parse) < 0)
                        return plugin_error(err, PLUGIN_DECODE, "parse the configuration: %s",
                                            kl_error_msg(parse));
        }
        if (str_eq(command, "VERSION"))
                return print_versions(*config);
        call.config_text = buf_str(text);
        call.config_len = text->len;
        r = call_read_config(&call, verb, *config, err);
        if (r == 0)
                r = check_netns(&call, err);
        if (r < 0)
                return r;
        if (!arena)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return run_verb(ops, command, &call, result, err);
}

int plugin_main(const PluginOps *ops)
{
        KL_AUTO(value_free) Value *config = NULL;
        KL_AUTOBUF text = BUF_INIT_LIMIT(PLUGIN_CONFIG_MAX + 65536 + 1);
        KL_AUTOBUF result = BUF_INIT;
        KL_AUTOERR err = NULL;
        int r = run(ops, &config, &text, &result, &err);

        if (r == 0 && buf_error(&result) < 0)
                r = kl_error(&err, -ENOMEM, NULL, "out of memory");
        if (r < 0) {
                PluginVersion version = PLUGIN_1_1_0;
                const char *asked = value_get_str(config, "cniVersion");

                if (asked)
                        version_parse(asked, &version);
                if (!err)
                        kl_error_errno(&err, r, NULL, "%s", getenv("CNI_COMMAND"));
                return print_error(versions[version], err);
        }
        if (result.len > 0) {
                buf_add_char(&result, '\n');
                if (fd_write_all(STDOUT_FILENO, buf_str(&result), result.len) < 0)
                        return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
