/* SPDX-License-Identifier: Apache-2.0 */

/*
 * YAML to Value by libyaml's document API. Scalars are resolved as the YAML 1.1 subset that Go's
 * sigs.k8s.io/yaml accepts: null, booleans, decimal, octal (0644 and 0o644) and hexadecimal
 * integers, floats; quoted scalars and those tagged !!str are strings. Keys are always strings.
 */

#include "codec/yaml.h"

#include "base/str.h"
#include "codec/json.h"
#include "codec/value-internal.h"

#include <math.h>
#include <yaml.h>

typedef struct Build {
        yaml_document_t *document;
        size_t n_nodes;
        KlError **err;
} Build;

static void parser_cleanup(yaml_parser_t *parser)
{
        yaml_parser_delete(parser);
}

static void document_cleanup(yaml_document_t *document)
{
        yaml_document_delete(document);
}

static bool one_of(const char *s, const char *const *words)
{
        for (; *words; words++)
                if (strcmp(s, *words) == 0)
                        return true;
        return false;
}

/* Integers in base 8, 10 or 16; false if it is none. */
static bool scalar_int(const char *s, json_int_t *ret)
{
        const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
        unsigned int base = 10;
        uint64_t value = 0;

        if (strncmp(digits, "0x", 2) == 0)
                base = 16, digits += 2;
        else if (strncmp(digits, "0o", 2) == 0)
                base = 8, digits += 2;
        else if (digits[0] == '0' && digits[1])
                base = 8, digits += 1;
        if (!*digits)
                return false;
        for (; *digits; digits++) {
                const char *all = "0123456789abcdef", *digit;

                digit = strchr(all, *digits >= 'A' && *digits <= 'F' ? *digits + 32 : *digits);
                if (!digit || (unsigned int)(digit - all) >= base ||
                    value > (INT64_MAX - (uint64_t)(digit - all)) / base)
                        return false;
                value = value * base + (uint64_t)(digit - all);
        }
        *ret = *s == '-' ? -(json_int_t)value : (json_int_t)value;
        return true;
}

static bool scalar_real(const char *s, double *ret)
{
        char *end;

        if (!strpbrk(s, "0123456789") || s[strspn(s, "+-0123456789.eE")])
                return false;
        *ret = strtod(s, &end);
        return !*end && isfinite(*ret);
}

static json_t *scalar_value(const yaml_node_t *node)
{
        static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
        static const char *const trues[] = { "true", "True", "TRUE", "yes", "Yes",
                                             "YES",  "on",   "On",   "ON",  NULL };
        static const char *const falses[] = { "false", "False", "FALSE", "no",  "No",
                                              "NO",    "off",   "Off",   "OFF", NULL };
        const char *s = (const char *)node->data.scalar.value;
        size_t len = node->data.scalar.length;
        json_int_t integer;
        double real;

        if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || strlen(s) != len ||
            (node->tag && strcmp((const char *)node->tag, YAML_STR_TAG) == 0 &&
             node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE))
                return json_stringn(s, len);
        if (one_of(s, nulls))
                return json_null();
        if (one_of(s, trues))
                return json_true();
        if (one_of(s, falses))
                return json_false();
        if (scalar_int(s, &integer))
                return json_integer(integer);
        if (scalar_real(s, &real))
                return json_real(real);
        return json_stringn(s, len);
}

static json_t *build_node(Build *b, int id, int depth);

static int build_error(Build *b, const yaml_node_t *node, const char *what)
{
        return kl_error(b->err, -EINVAL, NULL, "line %zu, column %zu: %s",
                        node->start_mark.line + 1, node->start_mark.column + 1, what);
}

static json_t *build_sequence(Build *b, const yaml_node_t *node, int depth)
{
        json_t *array = json_array();

        for (yaml_node_item_t *i = node->data.sequence.items.start;
             array && i < node->data.sequence.items.top; i++) {
                json_t *child = build_node(b, *i, depth + 1);

                if (!child || json_array_append_new(array, child) < 0) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

static json_t *build_mapping(Build *b, const yaml_node_t *node, int depth)
{
        json_t *object = json_object();

        for (yaml_node_pair_t *i = node->data.mapping.pairs.start;
             object && i < node->data.mapping.pairs.top; i++) {
                yaml_node_t *key = yaml_document_get_node(b->document, i->key);
                const char *name;
                json_t *child;
                int r = 0;

                if (!key || key->type != YAML_SCALAR_NODE)
                        r = build_error(b, node, "a key is no scalar");
                name = r ? NULL : (const char *)key->data.scalar.value;
                if (name && json_object_get(object, name)) {
                        KL_AUTOFREE char *what = str_format("key '%s' is there twice", name);

                        r = build_error(b, key, what ? what : "a key is there twice");
                }
                child = r ? NULL : build_node(b, i->value, depth + 1);
                if (!child || json_object_set_new(object, name, child) < 0) {
                        json_decref(object);
                        return NULL;
                }
        }
        return object;
}

static json_t *build_node(Build *b, int id, int depth)
{
        yaml_node_t *node = yaml_document_get_node(b->document, id);
        json_t *j = NULL;

        if (!node)
                return json_null();
        if (depth > YAML_DEPTH_MAX) {
                build_error(b, node, "nested too deeply");
                return NULL;
        }
        if (++b->n_nodes > YAML_NODES_MAX) {
                build_error(b, node, "too many nodes");
                return NULL;
        }
        if (node->type == YAML_SCALAR_NODE)
                j = scalar_value(node);
        else if (node->type == YAML_SEQUENCE_NODE)
                j = build_sequence(b, node, depth);
        else if (node->type == YAML_MAPPING_NODE)
                j = build_mapping(b, node, depth);
        if (!j && b->err && !*b->err)
                build_error(b, node, "cannot be read (bad UTF-8, or out of memory)");
        return j;
}

static void documents_free(Value **v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                value_free(v[i]);
        free(v);
}

/* 1: a document was added or skipped; 0: end of stream. */
static int read_next(yaml_parser_t *parser, Value ***v, size_t *n, size_t *n_nodes, KlError **err)
{
        __attribute__((cleanup(document_cleanup))) yaml_document_t document = { 0 };
        yaml_node_t *root;
        Build b = { .document = &document, .n_nodes = *n_nodes, .err = err };
        Value **grown;
        json_t *j;

        if (!yaml_parser_load(parser, &document))
                return kl_error(err, -EINVAL, NULL, "line %zu, column %zu: %s",
                                parser->problem_mark.line + 1, parser->problem_mark.column + 1,
                                parser->problem ? parser->problem : "not valid YAML");
        root = yaml_document_get_root_node(&document);
        if (!root)
                return 0;
        if (*n >= YAML_DOCUMENTS_MAX)
                return kl_error(err, -E2BIG, NULL, "more than %d documents", YAML_DOCUMENTS_MAX);
        j = build_node(&b, 1, 0);
        if (!j)
                return kl_error(err, -EINVAL, NULL, "not valid YAML");
        *n_nodes = b.n_nodes;
        if (json_is_null(j)) {
                json_decref(j);
                return 1;
        }
        grown = reallocarray(*v, *n + 1, sizeof(*grown));
        if (!grown) {
                json_decref(j);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        grown[(*n)++] = value_wrap(j);
        *v = grown;
        return 1;
}

int yaml_read_documents(const char *data, size_t len, Value ***ret, size_t *ret_n, KlError **err)
{
        __attribute__((cleanup(parser_cleanup))) yaml_parser_t parser = { 0 };
        size_t n = 0, n_nodes = 0;
        KL_AUTOERR error = NULL;
        Value **v = NULL;
        int r;

        if (!yaml_parser_initialize(&parser))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        yaml_parser_set_input_string(&parser, (const unsigned char *)data, len);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        do
                r = read_next(&parser, &v, &n, &n_nodes, &error);
        while (r > 0);
        if (r < 0) {
                documents_free(v, n);
                kl_error_move(err, &error);
                return r;
        }
        *ret = v;
        *ret_n = n;
        return 0;
}

int yaml_read(const char *data, size_t len, Value **ret, KlError **err)
{
        Value **v = NULL;
        size_t n = 0;
        int r;

        r = yaml_read_documents(data, len, &v, &n, err);
        if (r < 0)
                return r;
        *ret = n ? v[0] : NULL;
        if (n)
                v[0] = NULL;
        for (size_t i = 1; i < n; i++)
                value_free(v[i]);
        free(v);
        return 0;
}
