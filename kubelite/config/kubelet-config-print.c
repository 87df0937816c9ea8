/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration as a JSON document, in the table's order; what is empty is left out as upstream
 * leaves it out. */

#include "config/kubelet-config-internal.h"

#include "base/str.h"
#include "codec/json.h"

#include <stdio.h>

void config_format_duration(int64_t us, char ret[static CONFIG_DURATION_SIZE])
{
        uint64_t left = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;
        const char *sign = us < 0 ? "-" : "";
        char fraction[16] = "";
        uint64_t seconds = left / 1000000, rest = left % 1000000;

        if (left && left < 1000) {
                snprintf(ret, CONFIG_DURATION_SIZE, "%s%llu\xc2\xb5s", sign,
                         (unsigned long long)left);
                return;
        }
        if (left && left < 1000000) {
                snprintf(ret, CONFIG_DURATION_SIZE, "%s%.6gms", sign, (double)left / 1000);
                return;
        }
        if (rest) {
                size_t n = (size_t)snprintf(fraction, sizeof(fraction), ".%06llu",
                                            (unsigned long long)rest);

                while (fraction[n - 1] == '0')
                        fraction[--n] = '\0';
        }
        if (seconds >= 3600)
                snprintf(ret, CONFIG_DURATION_SIZE, "%s%lluh%um%u%ss", sign,
                         (unsigned long long)(seconds / 3600), (unsigned)(seconds / 60 % 60),
                         (unsigned)(seconds % 60), fraction);
        else if (seconds >= 60)
                snprintf(ret, CONFIG_DURATION_SIZE, "%s%um%u%ss", sign, (unsigned)(seconds / 60),
                         (unsigned)(seconds % 60), fraction);
        else
                snprintf(ret, CONFIG_DURATION_SIZE, "%s%u%ss", sign, (unsigned)seconds, fraction);
}

static bool shown(const KubeletConfig *config, size_t i)
{
        const ConfigField *field = &config_fields[i];

        if (field->kind == CONFIG_DURATION)
                return true;
        if (field->flags & CONFIG_POINTER)
                return field->fallback || config->state->given[i];
        return !config_field_is_zero(config, i);
}

static void print_pairs(JsonWriter *w, const ConfigPair *pairs, bool booleans)
{
        jw_object(w);
        for (; pairs && pairs->key; pairs++) {
                jw_key(w, pairs->key);
                if (booleans)
                        jw_bool(w, str_eq(pairs->value, "true"));
                else
                        jw_str(w, pairs->value);
        }
        jw_end(w);
}

static void print_taints(JsonWriter *w, const ConfigTaint *taints)
{
        jw_array(w);
        for (; taints && taints->key; taints++) {
                jw_object(w);
                jw_kstr(w, "key", taints->key);
                jw_kstr_opt(w, "value", taints->value);
                jw_kstr(w, "effect", taints->effect);
                jw_end(w);
        }
        jw_end(w);
}

static void print_list(JsonWriter *w, char *const *list)
{
        jw_array(w);
        for (; list && *list; list++)
                jw_str(w, *list);
        jw_end(w);
}

static void print_field(JsonWriter *w, const KubeletConfig *config, size_t i)
{
        const ConfigField *field = &config_fields[i];
        const void *slot = config_slot(config, i);
        char duration[CONFIG_DURATION_SIZE];
        const char *text;

        switch (field->kind) {
        case CONFIG_STR:
                text = *(char *const *)slot;
                jw_str(w, text ? text : "");
                break;
        case CONFIG_BOOL:
                jw_bool(w, *(const bool *)slot);
                break;
        case CONFIG_INT:
                jw_int(w, *(const int64_t *)slot);
                break;
        case CONFIG_DURATION:
                config_format_duration(*(const int64_t *)slot, duration);
                jw_str(w, duration);
                break;
        case CONFIG_STRV:
                print_list(w, *(char **const *)slot);
                break;
        case CONFIG_PAIRS:
        case CONFIG_GATES:
                print_pairs(w, *(ConfigPair *const *)slot, field->kind == CONFIG_GATES);
                break;
        case CONFIG_TAINTS:
                print_taints(w, *(ConfigTaint *const *)slot);
                break;
        case CONFIG_JSON:
                text = *(char *const *)slot;
                jw_raw(w, text, strlen(text));
                break;
        }
}

/* Length of the part of the path that names its object: "authentication.webhook" of ….enabled. */
static size_t group_len(const char *path)
{
        const char *dot = strrchr(path, '.');

        return dot ? (size_t)(dot - path) : 0;
}

static bool within(const char *path, const char *group, size_t len)
{
        return len == 0 || (strncmp(path, group, len) == 0 && path[len] == '.');
}

/* Closes objects until the open one holds path, then opens those that lead to it. */
static void move_to(JsonWriter *w, const char **group, size_t *len, const char *path)
{
        size_t target = group_len(path);

        while (!within(path, *group, *len)) {
                size_t up = *len;

                while (up > 0 && (*group)[up - 1] != '.')
                        up--;
                *len = up > 0 ? up - 1 : 0;
                jw_end(w);
        }
        while (*len < target) {
                size_t start = *len ? *len + 1 : 0;
                size_t n = strcspn(path + start, ".");
                char key[64];

                snprintf(key, sizeof(key), "%.*s", (int)n, path + start);
                jw_kobject(w, key);
                *len = start + n;
        }
        *group = path;
}

int kubelet_config_print(const KubeletConfig *config, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);
        const char *group = "";
        size_t len = 0;

        jw_object(&w);
        jw_kstr(&w, "kind", KUBELET_CONFIG_KIND);
        jw_kstr(&w, "apiVersion", KUBELET_CONFIG_API_VERSION);
        for (size_t i = 0; i < config_fields_len; i++) {
                const char *path = config_fields[i].path;

                if (!shown(config, i))
                        continue;
                move_to(&w, &group, &len, path);
                jw_key(&w, path + (len ? len + 1 : 0));
                print_field(&w, config, i);
        }
        while (w.depth > 0)
                jw_end(&w);
        return buf_error(to);
}
