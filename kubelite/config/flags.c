/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line, as pflag reads it: --name=value, --name value, switches without a value or with
 * =true and =false, underscores for dashes, -v and -h. Values of configuration fields are kept as
 * text and applied over the files later, so that a flag always wins.
 */

#include "config/flags.h"

#include "config/flags-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <sys/utsname.h>

#define FLAG_NAME_MAX 64
#define NODE_IPS_MAX 2

static int no_memory(KlError **err)
{
        return kl_error(err, -ENOMEM, NULL, "out of memory");
}

static const FlagSpec *find(const char *name)
{
        for (size_t i = 0; i < flag_specs_len; i++)
                if (str_eq(flag_specs[i].name, name))
                        return &flag_specs[i];
        return NULL;
}

/* Levenshtein distance; names longer than FLAG_NAME_MAX are cut. */
static size_t distance(const char *a, const char *b)
{
        size_t row[FLAG_NAME_MAX + 1], n = strnlen(b, FLAG_NAME_MAX);

        for (size_t j = 0; j <= n; j++)
                row[j] = j;
        for (size_t i = 0; a[i] && i < FLAG_NAME_MAX; i++) {
                size_t diagonal = row[0];

                row[0] = i + 1;
                for (size_t j = 0; j < n; j++) {
                        size_t best = diagonal + (a[i] != b[j]);

                        diagonal = row[j + 1];
                        if (row[j] + 1 < best)
                                best = row[j] + 1;
                        if (diagonal + 1 < best)
                                best = diagonal + 1;
                        row[j + 1] = best;
                }
        }
        return row[n];
}

static int unknown_flag(const char *name, KlError **err)
{
        const FlagSpec *nearest = NULL;
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < flag_specs_len; i++) {
                size_t d = distance(name, flag_specs[i].name);

                if (d < best) {
                        best = d;
                        nearest = &flag_specs[i];
                }
        }
        if (best > strlen(name) / 2)
                return kl_error(err, -EINVAL, NULL, "unknown flag --%s (see --help)", name);
        return kl_error(err, -EINVAL, NULL, "unknown flag --%s, did you mean --%s?", name,
                        nearest->name);
}

static bool takes_no_value(const FlagSpec *spec)
{
        return spec->kind == FLAG_BOOL || spec->kind == FLAG_UNUSED_BOOL ||
               (spec->kind == FLAG_CONFIG && kubelet_config_is_bool(spec->path));
}

static int add_override(Flags *flags, const FlagSpec *spec, const char *value, KlError **err)
{
        size_t n = 0;
        ConfigPair *longer;

        while (flags->overrides && flags->overrides[n].key)
                n++;
        longer = ARENA_ARRAY(flags->arena, n + 2, ConfigPair);
        if (!longer)
                return no_memory(err);
        if (n)
                memcpy(longer, flags->overrides, n * sizeof(*longer));
        longer[n].key = arena_strdup(flags->arena, spec->name);
        longer[n].value = arena_strdup(flags->arena, value);
        flags->overrides = longer;
        return longer[n].key && longer[n].value ? 0 : no_memory(err);
}

static int add_list(Flags *flags, char ***list, const char *text, KlError **err)
{
        KL_AUTOSTRV parts = strv_split(text, ',');
        size_t n = strv_len(*list), m;
        char **longer;

        if (!parts)
                return no_memory(err);
        m = strv_len(parts);
        longer = ARENA_ARRAY(flags->arena, n + m + 1, char *);
        if (!longer)
                return no_memory(err);
        for (size_t i = 0; i < n; i++)
                longer[i] = (*list)[i];
        for (size_t i = 0; i < m; i++)
                if (!(longer[n + i] = arena_strdup(flags->arena, parts[i])))
                        return no_memory(err);
        *list = longer;
        return 0;
}

static int store(Flags *flags, const FlagSpec *spec, const char *value, Buf *unused, KlError **err)
{
        char *slot = (char *)flags + spec->offset;

        switch (spec->kind) {
        case FLAG_STR:
                *(char **)slot = *value ? arena_strdup(flags->arena, value) : NULL;
                return *value && !*(char **)slot ? no_memory(err) : 0;
        case FLAG_ONE_LIST:
                *(char ***)slot = NULL;
                return add_list(flags, (char ***)slot, value, err);
        case FLAG_LIST:
                return add_list(flags, (char ***)slot, value, err);
        case FLAG_PAIRS:
                return config_pairs_parse(flags->arena, value, (ConfigPair **)slot, err);
        case FLAG_BOOL:
                if (!str_eq(value, "true") && !str_eq(value, "false"))
                        return kl_error(err, -EINVAL, NULL, "'%s' is neither true nor false",
                                        value);
                *(bool *)slot = str_eq(value, "true");
                return 0;
        case FLAG_CONFIG:
                return add_override(flags, spec, value, err);
        case FLAG_UNUSED:
        case FLAG_UNUSED_BOOL:
                buf_addf(unused, "%s--%s", unused->len ? ", " : "", spec->name);
                return buf_error(unused) < 0 ? no_memory(err) : 0;
        }
        return -EINVAL;
}

/* "--name", "-v" or "-h" into a name; false for anything else. *ret_value: behind "=", or NULL. */
static bool split_flag(const char *arg, char name[static FLAG_NAME_MAX], const char **ret_value)
{
        const char *start = arg + (str_starts(arg, "--") ? 2 : 1);
        size_t n = strcspn(start, "=");

        if (arg[0] != '-' || n == 0 || n >= FLAG_NAME_MAX)
                return false;
        if (start == arg + 1 && (n != 1 || (*start != 'v' && *start != 'h')))
                return false;
        for (size_t i = 0; i < n; i++)
                name[i] = start[i] == '_' ? '-' : start[i];
        name[n] = '\0';
        if (str_eq(name, "h"))
                memcpy(name, "help", 5);
        *ret_value = start[n] == '=' ? start + n + 1 : NULL;
        return true;
}

static int parse_all(Flags *flags, int argc, char *const *argv, Buf *unused, KlError **err)
{
        for (int i = 1; i < argc; i++) {
                char name[FLAG_NAME_MAX];
                const FlagSpec *spec;
                const char *value;
                int r;

                if (!split_flag(argv[i], name, &value))
                        return kl_error(err, -EINVAL, NULL, "'%s' is no flag (see --help)",
                                        argv[i]);
                spec = find(name);
                if (!spec)
                        return unknown_flag(name, err);
                if (!value && takes_no_value(spec))
                        value = "true";
                if (!value && i + 1 >= argc)
                        return kl_error(err, -EINVAL, NULL, "flag --%s needs a value", name);
                if (!value)
                        value = argv[++i];
                r = store(flags, spec, value, unused, err);
                if (r < 0)
                        return kl_error_wrap(err, r, "flag --%s", name);
        }
        return 0;
}

static int apply_fallbacks(Flags *flags, KlError **err)
{
        for (size_t i = 0; i < flag_specs_len; i++) {
                const FlagSpec *spec = &flag_specs[i];
                char **slot = (char **)((char *)flags + spec->offset);

                if (spec->kind != FLAG_STR || !spec->fallback || *slot)
                        continue;
                *slot = arena_strdup(flags->arena, spec->fallback);
                if (!*slot)
                        return no_memory(err);
        }
        return 0;
}

/* --- checks --- */

/* Letters and digits at both ends, "-_." too in between; at most 63. */
static bool label_part_ok(const char *s, size_t n)
{
        if (n == 0 || n > 63 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
                        return false;
        return true;
}

static bool kubernetes_namespace(const char *ns)
{
        return str_eq(ns, "kubernetes.io") || str_ends(ns, ".kubernetes.io") ||
               str_eq(ns, "k8s.io") || str_ends(ns, ".k8s.io");
}

static bool kubelet_namespace(const char *ns)
{
        return str_eq(ns, "kubelet.kubernetes.io") || str_ends(ns, ".kubelet.kubernetes.io") ||
               str_eq(ns, "node.kubernetes.io") || str_ends(ns, ".node.kubernetes.io");
}

static bool kubelet_label(const char *key)
{
        static const char *const allowed[] = {
                "kubernetes.io/hostname",
                "kubernetes.io/os",
                "kubernetes.io/arch",
                "beta.kubernetes.io/os",
                "beta.kubernetes.io/arch",
                "beta.kubernetes.io/instance-type",
                "node.kubernetes.io/instance-type",
                "topology.kubernetes.io/zone",
                "topology.kubernetes.io/region",
                "failure-domain.beta.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/region",
        };

        for (size_t i = 0; i < ELEMENTS(allowed); i++)
                if (str_eq(allowed[i], key))
                        return true;
        return false;
}

/* What NodeRestriction would refuse anyway is refused at once, as upstream does. */
static int check_label(const ConfigPair *label, KlError **err)
{
        const char *slash = strchr(label->key, '/');
        const char *name = slash ? slash + 1 : label->key;
        KL_AUTOFREE char *ns = slash ? strndup(label->key, (size_t)(slash - label->key)) : NULL;

        if ((ns && !name_is_dns1123_subdomain(ns)) || !label_part_ok(name, strlen(name)))
                return kl_error(err, -EINVAL, NULL, "'%s' is no label key", label->key);
        if (*label->value && !label_part_ok(label->value, strlen(label->value)))
                return kl_error(err, -EINVAL, NULL, "'%s' is no label value", label->value);
        if (ns && kubernetes_namespace(ns) && !kubelet_namespace(ns) && !kubelet_label(label->key))
                return kl_error(err, -EINVAL, NULL,
                                "'%s': a node may not give itself labels of 'kubernetes.io' and "
                                "'k8s.io' other than those below kubelet.kubernetes.io and "
                                "node.kubernetes.io and the well-known ones",
                                label->key);
        return 0;
}

static int family(const char *address)
{
        unsigned char raw[16];

        if (inet_pton(AF_INET, address, raw) == 1)
                return AF_INET;
        return inet_pton(AF_INET6, address, raw) == 1 ? AF_INET6 : -1;
}

static int check(const Flags *flags, KlError **err)
{
        char *const *ips = flags->node_ips;
        size_t n = strv_len(ips);

        for (const ConfigPair *label = flags->node_labels; label && label->key; label++)
                if (check_label(label, err) < 0)
                        return kl_error_wrap(err, -EINVAL, "flag --node-labels");
        for (size_t i = 0; i < n; i++)
                if (family(ips[i]) < 0)
                        return kl_error(err, -EINVAL, NULL, "flag --node-ip: '%s' is no IP address",
                                        ips[i]);
        if (n > NODE_IPS_MAX || (n == 2 && family(ips[0]) == family(ips[1])))
                return kl_error(err, -EINVAL, NULL,
                                "flag --node-ip: one address, or one of each "
                                "family");
        if (flags->cloud_provider && !str_eq(flags->cloud_provider, "external"))
                return kl_error(err, -EINVAL, NULL,
                                "flag --cloud-provider: '%s' is neither empty "
                                "nor external",
                                flags->cloud_provider);
        return 0;
}

int flags_parse(int argc, char *const *argv, Flags **ret, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTO(flags_free) Flags *flags = NULL;
        KL_AUTOBUF unused = BUF_INIT;
        int r;

        flags = arena ? ARENA_NEW(arena, Flags) : NULL;
        if (!flags)
                return no_memory(err);
        flags->arena = KL_STEAL(arena);
        r = parse_all(flags, argc, argv, &unused, err);
        if (r >= 0)
                r = apply_fallbacks(flags, err);
        if (r >= 0 && !flags->help && !flags->version)
                r = check(flags, err);
        if (r >= 0 && unused.len)
                r = strv_addf(&flags->warnings, "Nothing here needs %s, ignoring",
                              buf_str(&unused));
        if (r < 0)
                return r;
        *ret = KL_STEAL(flags);
        return 0;
}

Flags *flags_free(Flags *flags)
{
        if (flags) {
                strv_free(flags->warnings);
                arena_free(flags->arena);
        }
        return NULL;
}

void flags_print_help(FILE *to)
{
        fputs("usage: kubelite [--FLAG=VALUE]...\n"
              "       kubelite COMMAND [ARGUMENT]...\n\n"
              "Without a command, runs the node agent. Flags marked with * are fields of the\n"
              "KubeletConfiguration and better set there.\n\n",
              to);
        for (size_t i = 0; i < flag_specs_len; i++) {
                const FlagSpec *spec = &flag_specs[i];
                char name[FLAG_NAME_MAX + 16];

                if (!spec->help)
                        continue;
                snprintf(name, sizeof(name), "--%s%s", spec->name,
                         takes_no_value(spec) ? "" : "=...");
                fprintf(to, "  %-48s %s%s", name, spec->kind == FLAG_CONFIG ? "*" : "", spec->help);
                if (!str_empty(spec->fallback))
                        fprintf(to, " (default: %s)", spec->fallback);
                fputc('\n', to);
        }
        fputs("\nAccepted without effect:\n", to);
        for (size_t i = 0; i < flag_specs_len; i++)
                if (!flag_specs[i].help)
                        fprintf(to, "  --%s\n", flag_specs[i].name);
}

void kubernetes_version(const char *file, char ret[static KUBERNETES_VERSION_SIZE])
{
        char line[KUBERNETES_VERSION_SIZE - 1];
        size_t n;

        snprintf(ret, KUBERNETES_VERSION_SIZE, "%s", KUBERNETES_VERSION_DEFAULT);
        if (file_read_line(file, line, sizeof(line)) < 0)
                return;
        n = strcspn(line, " \t\r\n");
        line[n] = '\0';
        if (n > 0)
                snprintf(ret, KUBERNETES_VERSION_SIZE, "%s%s", line[0] == 'v' ? "" : "v", line);
}

int daemon_config_load(const Flags *flags, KubeletConfig **ret, KlError **err)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        int r = kubelet_config_new(&config, err);

        if (r >= 0 && flags->config)
                r = kubelet_config_read_file(config, flags->config, err);
        if (r >= 0 && flags->config_dir)
                r = kubelet_config_read_dir(config, flags->config_dir, err);
        if (r < 0)
                return r;
        for (const ConfigPair *pair = flags->overrides; pair && pair->key; pair++) {
                const FlagSpec *spec = find(pair->key);

                assert(spec);
                r = kubelet_config_set(config, spec->path, pair->value, err);
                if (r < 0)
                        return kl_error_wrap(err, r, "flag --%s", pair->key);
        }
        r = kubelet_config_finish(config, err);
        if (r < 0)
                return flags->config ? kl_error_wrap(err, r, "%s", flags->config) : r;
        *ret = KL_STEAL(config);
        return 0;
}

int flags_node_name(const Flags *flags, char **ret, KlError **err)
{
        KL_AUTOFREE char *name = NULL;
        struct utsname machine;

        if (flags->hostname_override) {
                name = strdup(flags->hostname_override);
        } else {
                if (uname(&machine) < 0)
                        return kl_error_errno(err, -errno, NULL, "ask for the machine's name");
                name = strdup(machine.nodename);
        }
        if (!name)
                return no_memory(err);
        for (char *p = name; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        if (!name_is_dns1123_subdomain(name))
                return kl_error(err, -EINVAL, NULL,
                                "'%s' cannot be the name of a node "
                                "(set another with --hostname-override)",
                                name);
        *ret = KL_STEAL(name);
        return 0;
}
