/* SPDX-License-Identifier: Apache-2.0 */

/* Tables, ages, sizes, JSON and YAML. Text from pods and images is foreign: nothing of it may steer
 * a terminal. */

#include "cli/cli-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#include <ctype.h>
#include <stdarg.h>

int cli_fail(const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOBUF clean = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        cli_add_clean(&clean, buf_str(&text));
        fprintf(stderr, "kubelite: %s\n", buf_str(&clean));
        return CLI_FAILED;
}

/* C1 controls (U+0080-U+009F) are two bytes in UTF-8: 0xc2 0x80-0x9f. */
void cli_add_clean(Buf *to, const char *text)
{
        for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
                if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
                        p++;
                else if (*p >= 0x20 && *p != 0x7f) {
                        buf_add_char(to, (char)*p);
                        continue;
                }
                buf_add_char(to, '?');
        }
}

/* --- tables --- */

void cli_table_init(CliTable *table, const char *const *header, size_t n)
{
        *table = (CliTable){ .n_columns = n };
        for (size_t i = 0; i < n; i++)
                cli_table_add(table, header[i]);
}

void cli_table_add(CliTable *table, const char *text)
{
        KL_AUTOBUF clean = BUF_INIT;
        char **more = reallocarray(table->cells, table->n_rows + 1, sizeof(char *));

        if (!more) {
                table->failed = true;
                return;
        }
        table->cells = more;
        cli_add_clean(&clean, str_empty(text) ? "-" : text);
        table->cells[table->n_rows] = buf_steal(&clean);
        table->failed |= !table->cells[table->n_rows];
        table->n_rows++;
}

void cli_table_addf(CliTable *table, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        cli_table_add(table, buf_str(&text));
}

/* Columns on the screen, with one for each character of UTF-8. */
static size_t text_width(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char)*s & 0xc0) != 0x80;
        return n;
}

static size_t column_width(const CliTable *table, size_t column)
{
        size_t width = 0;

        for (size_t i = column; i < table->n_rows; i += table->n_columns) {
                size_t w = table->cells[i] ? text_width(table->cells[i]) : 0;

                width = w > width ? w : width;
        }
        return width;
}

static void print_row(const CliTable *table, size_t row, const size_t *widths, FILE *to)
{
        for (size_t i = 0; i < table->n_columns; i++) {
                const char *text = table->cells[row + i];
                size_t pad = widths[i] + 3 - text_width(text);

                fputs(text, to);
                if (i + 1 < table->n_columns)
                        fprintf(to, "%*s", (int)pad, "");
        }
        fputc('\n', to);
}

int cli_table_print(CliTable *table, FILE *to)
{
        size_t widths[16] = { 0 };
        bool failed = table->failed || table->n_columns > ELEMENTS(widths);

        for (size_t i = 0; !failed && i < table->n_columns; i++)
                widths[i] = column_width(table, i);
        for (size_t row = 0; !failed && row + table->n_columns <= table->n_rows;
             row += table->n_columns)
                print_row(table, row, widths, to);
        for (size_t i = 0; i < table->n_rows; i++)
                free(table->cells[i]);
        free(table->cells);
        *table = (CliTable){ 0 };
        return failed ? cli_fail("out of memory") : CLI_OK;
}

/* --- ages and sizes --- */

void cli_format_age(const char *rfc3339, int64_t now_us, char *buf, size_t size)
{
        int64_t then, s;

        if (str_empty(rfc3339) || time_parse_rfc3339(rfc3339, &then) < 0) {
                snprintf(buf, size, "-");
                return;
        }
        s = now_us > then ? (now_us - then) / 1000000 : 0;
        if (s < 120)
                snprintf(buf, size, "%llds", (long long)s);
        else if (s < 2 * 3600)
                snprintf(buf, size, "%lldm", (long long)s / 60);
        else if (s < 48 * 3600)
                snprintf(buf, size, "%lldh", (long long)s / 3600);
        else
                snprintf(buf, size, "%lldd", (long long)s / 86400);
}

void cli_format_bytes(uint64_t bytes, char *buf, size_t size)
{
        static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
        double value = (double)bytes;
        size_t unit = 0;

        for (; value >= 1000 && unit + 1 < ELEMENTS(units); unit++)
                value /= 1000;
        snprintf(buf, size, unit && value < 100 ? "%.1f%s" : "%.0f%s", value, units[unit]);
}

/* --- JSON and YAML --- */

static bool is_plain_scalar(const char *s)
{
        static const char *const special[] = { "true", "false", "null", "yes", "no",
                                               "on",   "off",   "y",    "n",   "~" };

        if (!isalpha((unsigned char)s[0]) && s[0] != '/')
                return false;
        for (size_t i = 0; i < ELEMENTS(special); i++)
                if (strcasecmp(s, special[i]) == 0)
                        return false;
        for (const char *p = s; *p; p++)
                if (!isalnum((unsigned char)*p) && !strchr("-_./@+", *p) &&
                    !(*p == ':' && isalnum((unsigned char)p[1])))
                        return false;
        return true;
}

static void yaml_string(const char *s, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        if (is_plain_scalar(s))
                buf_add_str(to, s);
        else
                jw_str(&w, s);
}

static void yaml_node(const Value *v, unsigned int indent, bool in_list, Buf *to);

static void yaml_child(const Value *v, unsigned int indent, Buf *to)
{
        ValueType type = value_type(v);
        bool nested = (type == VALUE_OBJECT || type == VALUE_ARRAY) && value_len(v) > 0;

        buf_add_char(to, nested ? '\n' : ' ');
        yaml_node(v, type == VALUE_ARRAY ? indent : indent + 2, false, to);
}

static void yaml_object(const Value *v, unsigned int indent, bool in_list, Buf *to)
{
        const Value *child;
        const char *key;

        for (void *it = NULL; value_next(v, &it, &key, &child);) {
                if (!in_list)
                        buf_addf(to, "%*s", (int)indent, "");
                in_list = false;
                yaml_string(key, to);
                buf_add_char(to, ':');
                yaml_child(child, indent, to);
        }
}

static void yaml_array(const Value *v, unsigned int indent, bool in_list, Buf *to)
{
        for (size_t i = 0; i < value_len(v); i++) {
                if (!in_list)
                        buf_addf(to, "%*s", (int)indent, "");
                in_list = false;
                buf_add_str(to, "- ");
                yaml_node(value_at(v, i), indent + 2, true, to);
        }
}

/* in_list: the cursor stands behind "- " already. */
static void yaml_node(const Value *v, unsigned int indent, bool in_list, Buf *to)
{
        ValueType type = value_type(v);

        if (type == VALUE_OBJECT && value_len(v) > 0) {
                yaml_object(v, indent, in_list, to);
                return;
        }
        if (type == VALUE_ARRAY && value_len(v) > 0) {
                yaml_array(v, indent, in_list, to);
                return;
        }
        if (type == VALUE_STRING)
                yaml_string(value_str(v), to);
        else if (json_print(v, to) < 0)
                buf_add_str(to, "null");
        buf_add_char(to, '\n');
}

void cli_yaml_write(const Value *value, Buf *to)
{
        yaml_node(value, 0, false, to);
}

int cli_print_value(const Value *value, CliFormat format)
{
        KL_AUTOBUF text = BUF_INIT;

        if (format == CLI_YAML)
                cli_yaml_write(value, &text);
        else if (json_print(value, &text) == 0)
                buf_add_char(&text, '\n');
        if (buf_error(&text) || !text.len)
                return cli_fail("out of memory");
        fputs(buf_str(&text), stdout);
        return CLI_OK;
}
