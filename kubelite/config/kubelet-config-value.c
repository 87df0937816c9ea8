/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One field at a time: from a value of the document or the text of a flag into the field's slot.
 * Every refusal names the value; the caller adds the path (documents) or the flag.
 */

#include "config/kubelet-config-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#include <stdio.h>

#define SHOWN_VALUE_MAX 80

void *config_slot(const KubeletConfig *config, size_t i)
{
        if (config_fields[i].offset == CONFIG_NOWHERE)
                return &config->state->slots[i];
        return (char *)(uintptr_t)config + config_fields[i].offset;
}

bool config_field_is_zero(const KubeletConfig *config, size_t i)
{
        void *slot = config_slot(config, i);

        switch (config_fields[i].kind) {
        case CONFIG_STR:
        case CONFIG_JSON:
                return str_empty(*(char **)slot);
        case CONFIG_BOOL:
                return !*(bool *)slot;
        case CONFIG_INT:
        case CONFIG_DURATION:
                return *(int64_t *)slot == 0;
        case CONFIG_STRV:
                return !*(char ***)slot || !**(char ***)slot;
        case CONFIG_PAIRS:
        case CONFIG_GATES:
                return !*(ConfigPair **)slot || !(*(ConfigPair **)slot)->key;
        case CONFIG_TAINTS:
                return !*(ConfigTaint **)slot || !(*(ConfigTaint **)slot)->key;
        }
        return true;
}

static int no_memory(KlError **err)
{
        return kl_error(err, -ENOMEM, NULL, "out of memory");
}

static bool among(const char *choices, const char *text)
{
        size_t n = strlen(text);

        for (const char *p = choices; *p;) {
                size_t len = strcspn(p, "|");

                if (len == n && memcmp(p, text, n) == 0)
                        return true;
                p += len + (p[len] == '|');
        }
        return false;
}

static int check_choice(const ConfigField *field, const char *text, KlError **err)
{
        if (!field->choices || !*text || among(field->choices, text))
                return 0;
        return kl_error(err, -EINVAL, NULL, "'%s' is none of %s", text, field->choices);
}

static int check_range(const ConfigField *field, int64_t value, KlError **err)
{
        char low[CONFIG_DURATION_SIZE], high[CONFIG_DURATION_SIZE], shown[CONFIG_DURATION_SIZE];

        if (field->max <= field->min || (value >= field->min && value <= field->max))
                return 0;
        /* Zero is "not given" where upstream's field is no pointer. */
        if (value == 0 && !(field->flags & CONFIG_POINTER))
                return 0;
        if (field->kind == CONFIG_INT)
                return kl_error(err, -EINVAL, NULL, "%lld is not in %lld-%lld", (long long)value,
                                (long long)field->min, (long long)field->max);
        config_format_duration(value, shown);
        config_format_duration(field->min, low);
        config_format_duration(field->max, high);
        if (field->max == INT64_MAX)
                return kl_error(err, -EINVAL, NULL, "'%s' is less than %s", shown, low);
        return kl_error(err, -EINVAL, NULL, "'%s' is not in %s-%s", shown, low, high);
}

static int store_str(KubeletConfig *config, size_t i, const char *text, KlError **err)
{
        int r = check_choice(&config_fields[i], text, err);

        if (r < 0)
                return r;
        *(char **)config_slot(config, i) = arena_strdup(config->arena, text);
        return *(char **)config_slot(config, i) ? 0 : no_memory(err);
}

static int store_number(KubeletConfig *config, size_t i, int64_t value, KlError **err)
{
        int r = check_range(&config_fields[i], value, err);

        if (r < 0)
                return r;
        *(int64_t *)config_slot(config, i) = value;
        return 0;
}

static int store_duration(KubeletConfig *config, size_t i, const char *text, KlError **err)
{
        int64_t us;

        if (time_parse_duration(text, &us) < 0)
                return kl_error(err, -EINVAL, NULL,
                                "'%s' is no duration (such as \"10s\" or \"1m30s\")", text);
        return store_number(config, i, us, err);
}

/* Appends or replaces; a NULL value removes. */
static int pairs_put(Arena *arena, ConfigPair **pairs, const char *key, const char *value)
{
        ConfigPair *list = *pairs, *longer;
        size_t n = 0, at;

        while (list && list[n].key)
                n++;
        for (at = 0; at < n && !str_eq(list[at].key, key);)
                at++;
        if (!value) {
                if (at < n)
                        memmove(&list[at], &list[at + 1], (n - at) * sizeof(*list));
                return 0;
        }
        if (at == n) {
                longer = ARENA_ARRAY(arena, n + 2, ConfigPair);
                if (!longer)
                        return -ENOMEM;
                if (n)
                        memcpy(longer, list, n * sizeof(*list));
                *pairs = list = longer;
                list[at].key = arena_strdup(arena, key);
        }
        list[at].value = arena_strdup(arena, value);
        return list[at].key && list[at].value ? 0 : -ENOMEM;
}

const char *config_pair_get(const ConfigPair *pairs, const char *key)
{
        for (; pairs && pairs->key; pairs++)
                if (str_eq(pairs->key, key))
                        return pairs->value;
        return NULL;
}

int config_pairs_parse(Arena *arena, const char *text, ConfigPair **ret, KlError **err)
{
        KL_AUTOSTRV parts = strv_split(text, ',');

        if (!parts)
                return no_memory(err);
        for (char **p = parts; *p; p++) {
                size_t n = strcspn(*p, "=<");
                bool separated = (*p)[n] != '\0';

                if (n == 0 || !separated)
                        return kl_error(err, -EINVAL, NULL, "'%s' is not key=value", *p);
                (*p)[n] = '\0';
                if (pairs_put(arena, ret, *p, *p + n + 1) < 0)
                        return no_memory(err);
        }
        return 0;
}

static bool taint_effect_known(const char *effect)
{
        return str_eq(effect, "NoSchedule") || str_eq(effect, "PreferNoSchedule") ||
               str_eq(effect, "NoExecute");
}

/* "key=value:Effect", "key:Effect" */
static int taint_parse(Arena *arena, const char *text, ConfigTaint *ret, KlError **err)
{
        const char *colon = strrchr(text, ':');
        const char *equals = strchr(text, '=');

        if (!colon || colon == text || (equals && (equals > colon || equals == text)) ||
            !taint_effect_known(colon + 1))
                return kl_error(err, -EINVAL, NULL,
                                "'%s' is no taint (key=value:Effect with the effect NoSchedule, "
                                "PreferNoSchedule or NoExecute)",
                                text);
        ret->key = arena_strndup(arena, text, (size_t)((equals ? equals : colon) - text));
        ret->value = equals ? arena_strndup(arena, equals + 1, (size_t)(colon - equals - 1))
                            : arena_strdup(arena, "");
        ret->effect = arena_strdup(arena, colon + 1);
        return ret->key && ret->value && ret->effect ? 0 : no_memory(err);
}

int config_taints_parse(Arena *arena, const char *text, ConfigTaint **ret, KlError **err)
{
        KL_AUTOSTRV parts = strv_split(text, ',');
        ConfigTaint *taints;

        if (!parts)
                return no_memory(err);
        taints = ARENA_ARRAY(arena, strv_len(parts) + 1, ConfigTaint);
        if (!taints)
                return no_memory(err);
        for (size_t i = 0; parts[i]; i++) {
                int r = taint_parse(arena, parts[i], &taints[i], err);

                if (r < 0)
                        return r;
        }
        *ret = taints;
        return 0;
}

static int check_list(const ConfigField *field, char *const *list, KlError **err)
{
        for (; list && *list; list++) {
                int r = check_choice(field, *list, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int text_to_list(KubeletConfig *config, size_t i, const char *text, KlError **err)
{
        KL_AUTOSTRV parts = strv_split(text, ',');
        char **list;
        size_t n;
        int r;

        if (!parts)
                return no_memory(err);
        n = strv_len(parts);
        list = ARENA_ARRAY(config->arena, n + 1, char *);
        if (!list)
                return no_memory(err);
        for (size_t k = 0; k < n; k++)
                if (!(list[k] = arena_strdup(config->arena, parts[k])))
                        return no_memory(err);
        r = check_list(&config_fields[i], list, err);
        if (r < 0)
                return r;
        *(char ***)config_slot(config, i) = list;
        return 0;
}

static int check_gates(const ConfigPair *pairs, KlError **err)
{
        for (; pairs && pairs->key; pairs++)
                if (!str_eq(pairs->value, "true") && !str_eq(pairs->value, "false"))
                        return kl_error(err, -EINVAL, NULL, "'%s' of %s is neither true nor false",
                                        pairs->value, pairs->key);
        return 0;
}

int config_decode_text(KubeletConfig *config, size_t i, const char *text, KlError **err)
{
        const ConfigField *field = &config_fields[i];
        void *slot = config_slot(config, i);
        int64_t number;
        int r;

        switch (field->kind) {
        case CONFIG_STR:
        case CONFIG_JSON:
                return store_str(config, i, text, err);
        case CONFIG_BOOL:
                if (!str_eq(text, "true") && !str_eq(text, "false"))
                        return kl_error(err, -EINVAL, NULL, "'%s' is neither true nor false", text);
                *(bool *)slot = str_eq(text, "true");
                return 0;
        case CONFIG_INT:
                if (str_to_i64(text, INT64_MIN, INT64_MAX, &number) < 0)
                        return kl_error(err, -EINVAL, NULL, "'%s' is no integer", text);
                return store_number(config, i, number, err);
        case CONFIG_DURATION:
                return store_duration(config, i, text, err);
        case CONFIG_STRV:
                return text_to_list(config, i, text, err);
        case CONFIG_PAIRS:
                return config_pairs_parse(config->arena, text, (ConfigPair **)slot, err);
        case CONFIG_GATES:
                r = config_pairs_parse(config->arena, text, (ConfigPair **)slot, err);
                return r < 0 ? r : check_gates(*(ConfigPair **)slot, err);
        case CONFIG_TAINTS:
                return config_taints_parse(config->arena, text, (ConfigTaint **)slot, err);
        }
        return -EINVAL;
}

/* --- from the document --- */

static int wrong_type(const Field *f, const char *expected, KlError **err)
{
        KL_AUTOBUF shown = BUF_INIT;

        json_print(f->value, &shown);
        return field_error(f, err, "expected %s, got %.*s", expected, SHOWN_VALUE_MAX,
                           buf_str(&shown));
}

/* Puts the field's path before a message that has none. */
static int with_path(const Field *f, int r, KlError **err)
{
        char path[512];

        if (r >= 0)
                return r;
        field_path(f, path, sizeof(path));
        return kl_error_wrap(err, r, "%s", path);
}

static int decode_list(KubeletConfig *config, size_t i, const Field *f, KlError **err)
{
        size_t n = value_len(f->value);
        char **list;

        if (value_type(f->value) != VALUE_ARRAY)
                return wrong_type(f, "a list of strings", err);
        if (n > KUBELET_CONFIG_LIST_MAX)
                return field_error(f, err, "%zu elements, at most %d are allowed", n,
                                   KUBELET_CONFIG_LIST_MAX);
        list = ARENA_ARRAY(config->arena, n + 1, char *);
        if (!list)
                return no_memory(err);
        for (size_t k = 0; k < n; k++) {
                Field element = field_at(f, k);

                if (value_type(element.value) != VALUE_STRING)
                        return wrong_type(&element, "a string", err);
                if (!(list[k] = arena_strdup(config->arena, value_str(element.value))))
                        return no_memory(err);
        }
        *(char ***)config_slot(config, i) = list;
        return with_path(f, check_list(&config_fields[i], list, err), err);
}

/* The text of one map member; NULL for null, which removes the key. */
static int decode_pair(const ConfigField *field, const Field *f, char **ret, KlError **err)
{
        ValueType type = value_type(f->value);

        *ret = NULL;
        if (type == VALUE_NULL)
                return 0;
        if (field->kind == CONFIG_GATES) {
                if (type != VALUE_BOOL)
                        return wrong_type(f, "true or false", err);
                *ret = str_format("%s", value_bool(f->value, false) ? "true" : "false");
        } else if (type == VALUE_STRING) {
                *ret = str_format("%s", value_str(f->value));
        } else if (type == VALUE_INT || type == VALUE_REAL) {
                *ret = value_number_text(f->value);
        } else {
                return wrong_type(f, "a string", err);
        }
        return *ret ? 0 : no_memory(err);
}

static int decode_pairs(KubeletConfig *config, size_t i, const Field *f, KlError **err)
{
        ConfigPair **slot = config_slot(config, i);
        const char *key;
        const Value *child;

        if (value_type(f->value) != VALUE_OBJECT)
                return wrong_type(f, "a map", err);
        if (value_len(f->value) > KUBELET_CONFIG_LIST_MAX)
                return field_error(f, err, "%zu members, at most %d are allowed",
                                   value_len(f->value), KUBELET_CONFIG_LIST_MAX);
        for (void *it = NULL; value_next(f->value, &it, &key, &child);) {
                Field member = { .value = child, .parent = f, .key = key };
                KL_AUTOFREE char *text = NULL;
                int r = decode_pair(&config_fields[i], &member, &text, err);

                if (r < 0)
                        return r;
                if (pairs_put(config->arena, slot, key, text) < 0)
                        return no_memory(err);
        }
        return 0;
}

static int decode_taint(Arena *arena, const Field *f, ConfigTaint *ret, KlError **err)
{
        int r;

        if (value_type(f->value) != VALUE_OBJECT)
                return wrong_type(f, "a map", err);
        ret->value = arena_strdup(arena, "");
        r = field_str(f, "key", arena, &ret->key, err);
        if (r >= 0)
                r = field_str(f, "value", arena, &ret->value, err);
        if (r >= 0)
                r = field_str(f, "effect", arena, &ret->effect, err);
        if (r < 0)
                return r;
        if (str_empty(ret->key))
                return field_error(f, err, "a taint needs a key");
        if (!taint_effect_known(ret->effect))
                return field_error(f, err,
                                   "'%s' is no effect (NoSchedule, PreferNoSchedule or "
                                   "NoExecute)",
                                   ret->effect ? ret->effect : "");
        return 0;
}

static int decode_taints(KubeletConfig *config, size_t i, const Field *f, KlError **err)
{
        size_t n = value_len(f->value);
        ConfigTaint *taints;

        if (value_type(f->value) != VALUE_ARRAY)
                return wrong_type(f, "a list of taints", err);
        if (n > KUBELET_CONFIG_LIST_MAX)
                return field_error(f, err, "%zu elements, at most %d are allowed", n,
                                   KUBELET_CONFIG_LIST_MAX);
        taints = ARENA_ARRAY(config->arena, n + 1, ConfigTaint);
        if (!taints)
                return no_memory(err);
        for (size_t k = 0; k < n; k++) {
                Field element = field_at(f, k);
                int r = decode_taint(config->arena, &element, &taints[k], err);

                if (r < 0)
                        return r;
        }
        *(ConfigTaint **)config_slot(config, i) = taints;
        return 0;
}

static int decode_json(KubeletConfig *config, size_t i, const Field *f, KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;

        if (json_print(f->value, &text) < 0)
                return no_memory(err);
        return store_str(config, i, buf_str(&text), err);
}

int config_decode(KubeletConfig *config, size_t i, const Field *f, KlError **err)
{
        ValueType type = value_type(f->value);

        switch (config_fields[i].kind) {
        case CONFIG_STR:
                if (type != VALUE_STRING)
                        return wrong_type(f, "a string", err);
                return with_path(f, store_str(config, i, value_str(f->value), err), err);
        case CONFIG_BOOL:
                if (type != VALUE_BOOL)
                        return wrong_type(f, "true or false", err);
                *(bool *)config_slot(config, i) = value_bool(f->value, false);
                return 0;
        case CONFIG_INT:
                if (type != VALUE_INT)
                        return wrong_type(f, "an integer", err);
                return with_path(f, store_number(config, i, value_int(f->value, 0), err), err);
        case CONFIG_DURATION:
                if (type != VALUE_STRING)
                        return wrong_type(f, "a duration such as \"10s\"", err);
                return with_path(f, store_duration(config, i, value_str(f->value), err), err);
        case CONFIG_STRV:
                return decode_list(config, i, f, err);
        case CONFIG_PAIRS:
        case CONFIG_GATES:
                return decode_pairs(config, i, f, err);
        case CONFIG_TAINTS:
                return decode_taints(config, i, f, err);
        case CONFIG_JSON:
                return decode_json(config, i, f, err);
        }
        return -EINVAL;
}
