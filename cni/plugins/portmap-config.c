/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration of portmap and the port mappings of the runtime. */

#include "cni/plugins/portmap.h"

#include "base/str.h"

#include <netinet/in.h>

static const char *const config_keys[] = {
        "backend", "snat",        "conditionsV4",         "conditionsV6",
        "masqAll", "markMasqBit", "externalSetMarkChain", NULL,
};

/* --- conditions --- */

typedef struct Words {
        char *const *next;
        int family;
} Words;

static const char *word(Words *words)
{
        return *words->next ? *words->next++ : "";
}

static int condition_error(const char *text, KlError **err)
{
        return plugin_error(err, PLUGIN_CONFIG, "unsupported condition at '%s'", text);
}

static int parse_prefix(const char *text, int family, IpPrefix *ret, KlError **err)
{
        if (ip_prefix_parse(text, ret) < 0) {
                if (ip_parse(text, &ret->ip) < 0)
                        return condition_error(text, err);
                ret->len = ip_bits(&ret->ip);
        }
        return ret->ip.family == family ? 0 : condition_error(text, err);
}

static int parse_link(const char *text, Condition *ret, KlError **err)
{
        size_t n = strlen(text);
        bool quoted = n > 2 && text[0] == '"' && text[n - 1] == '"';

        if (quoted) {
                text++;
                n -= 2;
        }
        if (n >= sizeof(ret->link))
                return condition_error(text, err);
        ret->kind = CONDITION_IIFNAME;
        memcpy(ret->link, text, n);
        ret->link[n] = '\0';
        /* Wildcards are of the two languages, not of the names. */
        if (!plugin_ifname_valid(ret->link) || strpbrk(ret->link, "*+"))
                return condition_error(text, err);
        return 0;
}

/* After `!` or nothing: -s X, -d X, -i X. */
static int parse_iptables(const char *option, Words *words, Condition *ret, KlError **err)
{
        if (str_eq(option, "-i") || str_eq(option, "--in-interface"))
                return parse_link(word(words), ret, err);
        if (str_eq(option, "-s") || str_eq(option, "--source"))
                ret->kind = CONDITION_SOURCE;
        else if (str_eq(option, "-d") || str_eq(option, "--destination"))
                ret->kind = CONDITION_DESTINATION;
        else
                return condition_error(option, err);
        return parse_prefix(word(words), words->family, &ret->prefix, err);
}

/* `==` and `!=` are optional words before the value. */
static const char *operand(Words *words, bool *ret_negate)
{
        const char *text = word(words);

        *ret_negate = str_eq(text, "!=");
        return *ret_negate || str_eq(text, "==") ? word(words) : text;
}

/* ip saddr X, ip6 daddr != X, iifname X */
static int parse_nftables(const char *first, Words *words, Condition *ret, KlError **err)
{
        const char *field;

        if (str_eq(first, "iifname"))
                return parse_link(operand(words, &ret->negate), ret, err);
        if (!str_eq(first, words->family == AF_INET6 ? "ip6" : "ip"))
                return condition_error(first, err);
        field = word(words);
        if (str_eq(field, "saddr"))
                ret->kind = CONDITION_SOURCE;
        else if (str_eq(field, "daddr"))
                ret->kind = CONDITION_DESTINATION;
        else
                return condition_error(field, err);
        return parse_prefix(operand(words, &ret->negate), words->family, &ret->prefix, err);
}

static int parse_condition(Words *words, Condition *ret, KlError **err)
{
        const char *first = word(words);

        *ret = (Condition){ 0 };
        if (str_eq(first, "!")) {
                int r = parse_iptables(word(words), words, ret, err);

                ret->negate = true;
                return r;
        }
        return *first == '-' ? parse_iptables(first, words, ret, err)
                             : parse_nftables(first, words, ret, err);
}

int conditions_parse(char *const *texts, int family, Conditions *ret, KlError **err)
{
        KL_AUTOSTRV list = NULL;
        Words words = { .family = family };

        *ret = (Conditions){ 0 };
        for (; texts && *texts; texts++) {
                KL_AUTOSTRV parts = strv_split(*texts, ' ');

                if (!parts)
                        return -ENOMEM;
                for (char **p = parts; *p; p++)
                        if (strv_add(&list, *p) < 0)
                                return -ENOMEM;
        }
        for (words.next = list; list && *words.next;) {
                int r;

                if (ret->n == PORTMAP_CONDITIONS_MAX)
                        return plugin_error(err, PLUGIN_CONFIG, "more than %d conditions",
                                            PORTMAP_CONDITIONS_MAX);
                r = parse_condition(&words, &ret->list[ret->n++], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_conditions(const Field *root, const char *key, int family, Arena *arena,
                            Conditions *ret, KlError **err)
{
        char **texts = NULL;
        int r = plugin_config_error(field_strv(root, key, arena, &texts, err), err);

        if (r == 0)
                r = conditions_parse(texts, family, ret, err);
        return r < 0 ? kl_error_wrap(err, r, "%s", key) : 0;
}

/* --- mappings --- */

static int parse_protocol(const Field *f, const char *text, uint8_t *ret, KlError **err)
{
        static const struct {
                const char *name;
                uint8_t number;
        } protocols[] = { { "tcp", IPPROTO_TCP },
                          { "udp", IPPROTO_UDP },
                          { "sctp", IPPROTO_SCTP } };

        for (size_t i = 0; text && i < ELEMENTS(protocols); i++) {
                if (strcasecmp(protocols[i].name, text) == 0) {
                        *ret = protocols[i].number;
                        return 0;
                }
        }
        return field_error(f, err, "protocol '%s' is not tcp, udp or sctp", text ? text : "");
}

static int parse_mapping(const Field *f, Arena *arena, PortMapping *ret, KlError **err)
{
        int64_t host_port = 0, container_port = 0;
        char *protocol = NULL, *host_ip = NULL;
        int r;

        r = field_int(f, "hostPort", 1, UINT16_MAX, &host_port, err);
        if (r == 0)
                r = field_int(f, "containerPort", 1, UINT16_MAX, &container_port, err);
        if (r == 0)
                r = field_str(f, "protocol", arena, &protocol, err);
        if (r == 0)
                r = field_str(f, "hostIP", arena, &host_ip, err);
        if (r == 0 && (host_port == 0 || container_port == 0))
                r = field_error(f, err, "hostPort and containerPort are required");
        if (r == 0)
                r = parse_protocol(f, protocol, &ret->protocol, err);
        if (r == 0 && !str_empty(host_ip) && ip_parse(host_ip, &ret->host_ip) < 0)
                r = field_error(f, err, "hostIP '%s' is not an address", host_ip);
        ret->host_port = (uint16_t)host_port;
        ret->container_port = (uint16_t)container_port;
        return r;
}

static int parse_mappings(const Field *root, Arena *arena, PortmapConfig *config, KlError **err)
{
        static const char *const known[] = { "portMappings", NULL };
        static const char *const keys[] = { "hostPort", "containerPort", "protocol",
                                            "hostIP",   "name",          NULL };
        Field runtime = field_get(root, "runtimeConfig"), list;
        int r = plugin_check_keys(runtime.value, "runtimeConfig", known, err);

        if (r < 0)
                return r;
        r = field_array(&runtime, "portMappings", PORTMAP_MAPPINGS_MAX, &list, &config->n_mappings,
                        err);
        if (r < 0)
                return plugin_config_error(r, err);
        config->mappings = ARENA_ARRAY(arena, config->n_mappings + 1, PortMapping);
        if (!config->mappings)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < config->n_mappings; i++) {
                Field f = field_at(&list, i);

                r = plugin_check_keys(f.value, "portMappings", keys, err);
                if (r == 0)
                        r = plugin_config_error(parse_mapping(&f, arena, &config->mappings[i], err),
                                                err);
        }
        return r;
}

/* --- the configuration --- */

/* No packet is marked here, so whichever bit markMasqBit reserves stays free. */
static int parse_options(const Field *root, Arena *arena, PortmapConfig *config, KlError **err)
{
        Field chain = field_get(root, "externalSetMarkChain");
        char *backend = NULL;
        int64_t bit = 0;
        int r;

        config->snat = true;
        r = field_bool(root, "snat", &config->snat, err);
        if (r == 0)
                r = field_bool(root, "masqAll", &config->masquerade_all, err);
        if (r == 0)
                r = field_int(root, "markMasqBit", 0, 31, &bit, err);
        if (r == 0)
                r = field_str(root, "backend", arena, &backend, err);
        if (r < 0)
                return plugin_config_error(r, err);
        if (backend && !str_eq(backend, "nftables"))
                return plugin_refuse("backend", "only nftables is implemented", err);
        if (field_present(&chain))
                return plugin_refuse("externalSetMarkChain", "it is of the iptables backend", err);
        return 0;
}

int portmap_config_parse(const PluginCall *call, PortmapConfig *ret, KlError **err)
{
        Field root = field_root(call->config);
        PortmapConfig config = { 0 };
        int r;

        r = plugin_check_keys(call->config, "", config_keys, err);
        if (r == 0)
                r = parse_options(&root, call->arena, &config, err);
        if (r == 0)
                r = parse_conditions(&root, "conditionsV4", AF_INET, call->arena,
                                     &config.conditions_v4, err);
        if (r == 0)
                r = parse_conditions(&root, "conditionsV6", AF_INET6, call->arena,
                                     &config.conditions_v6, err);
        if (r == 0)
                r = parse_mappings(&root, call->arena, &config, err);
        if (r == 0)
                *ret = config;
        return r;
}
