/* SPDX-License-Identifier: Apache-2.0 */

#include "metrics/exposition.h"

#include <float.h>
#include <math.h>

/* Above it a double does not hold every whole number. */
#define WHOLE_MAX 9007199254740992.0

static const char *type_name(ExpoType type)
{
        switch (type) {
        case EXPO_COUNTER:
                return "counter";
        case EXPO_GAUGE:
                return "gauge";
        case EXPO_HISTOGRAM:
                return "histogram";
        }
        return "untyped";
}

/* The length of the character at s, 0 if these bytes are none (RFC 3629). */
static size_t utf8_length(const unsigned char *s)
{
        size_t n = s[0] < 0x80                    ? 1
                   : s[0] >= 0xc2 && s[0] < 0xe0  ? 2
                   : (s[0] & 0xf0) == 0xe0        ? 3
                   : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                  : 0;

        for (size_t i = 1; i < n; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
        if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
            (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
                return 0;
        return n;
}

static void add_escaped(Buf *to, const char *text, bool quotes)
{
        const char *from = text;

        while (*text) {
                size_t n = utf8_length((const unsigned char *)text);
                bool plain = n && *text != '\\' && *text != '\n' && !(quotes && *text == '"');

                if (plain) {
                        text += n;
                        continue;
                }
                buf_add(to, from, (size_t)(text - from));
                if (!n)
                        buf_add_str(to, "\xef\xbf\xbd");
                else
                        buf_add_str(to, *text == '\n' ? "\\n" : *text == '"' ? "\\\"" : "\\\\");
                from = ++text;
        }
        buf_add(to, from, (size_t)(text - from));
}

void expo_family(Buf *to, const char *name, const char *help, ExpoType type)
{
        buf_add_str(to, "# HELP ");
        buf_add_str(to, name);
        buf_add_char(to, ' ');
        add_escaped(to, help, false);
        buf_add_str(to, "\n# TYPE ");
        buf_add_str(to, name);
        buf_add_char(to, ' ');
        buf_add_str(to, type_name(type));
        buf_add_char(to, '\n');
}

ExpoSample expo_begin(Buf *to, const char *name, const char *suffix)
{
        buf_add_str(to, name);
        buf_add_str(to, suffix);
        return (ExpoSample){ .to = to };
}

void expo_label(ExpoSample *sample, const char *label, const char *value)
{
        buf_add_char(sample->to, sample->has_labels ? ',' : '{');
        sample->has_labels = true;
        buf_add_str(sample->to, label);
        buf_add_str(sample->to, "=\"");
        add_escaped(sample->to, value ? value : "", true);
        buf_add_char(sample->to, '"');
}

static void end_with(ExpoSample *sample, const char *value, int64_t time_ms)
{
        buf_add_str(sample->to, sample->has_labels ? "} " : " ");
        buf_add_str(sample->to, value);
        if (time_ms)
                buf_addf(sample->to, " %lld", (long long)time_ms);
        buf_add_char(sample->to, '\n');
}

void expo_end(ExpoSample *sample, double value, int64_t time_ms)
{
        char text[EXPO_VALUE_SIZE];

        expo_format(value, text);
        end_with(sample, text, time_ms);
}

void expo_end_u64(ExpoSample *sample, uint64_t value, int64_t time_ms)
{
        char text[EXPO_VALUE_SIZE];

        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        end_with(sample, text, time_ms);
}

/* The locale is "C": nothing here ever sets another one. */
void expo_format(double value, char ret[static EXPO_VALUE_SIZE])
{
        if (isnan(value)) {
                snprintf(ret, EXPO_VALUE_SIZE, "NaN");
        } else if (isinf(value)) {
                snprintf(ret, EXPO_VALUE_SIZE, value > 0 ? "+Inf" : "-Inf");
        } else if (value == floor(value) && fabs(value) <= WHOLE_MAX) {
                snprintf(ret, EXPO_VALUE_SIZE, "%.0f", value);
        } else {
                for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
                        snprintf(ret, EXPO_VALUE_SIZE, "%.*g", digits, value);
                        if (strtod(ret, NULL) == value)
                                break;
                }
        }
}
