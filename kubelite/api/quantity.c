/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Quantities: a decimal number with a binary (Ki … Ei) or decimal (n u m k M G T P E) suffix, or a
 * decimal exponent. The number is held as a 128-bit integer of nano units, which is the finest that
 * the API keeps, so nothing is rounded before the caller's unit is known.
 */

#include "api/quantity.h"

#include "base/str.h"

#include <stdio.h>

typedef __int128 Nano;

#define NANO ((Nano)1000000000)
#define NANO_MAX ((Nano)INT64_MAX * NANO)
#define QUANTITY_DIGITS_MAX 40
#define QUANTITY_EXPONENT_MAX 18

static Nano nano_scale(Nano value, Nano factor)
{
        if (value > NANO_MAX / factor)
                return NANO_MAX;
        return value * factor;
}

/* Divides rounding up. */
static Nano nano_shrink(Nano value, Nano divisor)
{
        return (value + divisor - 1) / divisor;
}

static bool suffix_binary(const char *s, Nano *ret)
{
        static const char *const names[] = { "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                if (strcmp(s, names[i]) == 0) {
                        *ret = (Nano)1 << (10 * (i + 1));
                        return true;
                }
        }
        return false;
}

/* Decimal suffixes and exponents as a power of ten. */
static bool suffix_decimal(const char *s, int *ret)
{
        static const struct {
                const char *name;
                int power;
        } names[] = { { "n", -9 }, { "u", -6 }, { "m", -3 }, { "", 0 },   { "k", 3 },
                      { "M", 6 },  { "G", 9 },  { "T", 12 }, { "P", 15 }, { "E", 18 } };
        int64_t exponent;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                if (strcmp(s, names[i].name) == 0) {
                        *ret = names[i].power;
                        return true;
                }
        }
        if (*s != 'e' && *s != 'E')
                return false;
        s += s[1] == '+' ? 2 : 1;
        if (str_to_i64(s, -QUANTITY_EXPONENT_MAX, QUANTITY_EXPONENT_MAX, &exponent) < 0)
                return false;
        *ret = (int)exponent;
        return true;
}

static Nano nano_power(Nano value, int power)
{
        for (; power > 0; power--)
                value = nano_scale(value, 10);
        for (; power < 0; power++)
                value = nano_shrink(value, 10);
        return value;
}

static int quantity_parse(const char *text, Nano *ret)
{
        const char *p = text;
        bool negative = *p == '-', any = false;
        Nano value = 0, unit = NANO, factor;
        int power;

        if (*p == '-' || *p == '+')
                p++;
        if (strlen(p) > QUANTITY_DIGITS_MAX)
                return -EINVAL;
        for (; *p >= '0' && *p <= '9'; p++, any = true)
                value = nano_scale(value, 10) + (*p - '0') * NANO;
        if (value > NANO_MAX)
                value = NANO_MAX;
        if (*p == '.') {
                for (p++; *p >= '0' && *p <= '9'; p++, any = true) {
                        unit /= 10;
                        /* Finer than nano counts as one nano: quantities round up. */
                        value += unit ? (*p - '0') * unit : *p != '0';
                }
        }
        if (!any)
                return -EINVAL;
        if (suffix_binary(p, &factor))
                value = nano_scale(value, factor);
        else if (suffix_decimal(p, &power))
                value = nano_power(value, power);
        else
                return -EINVAL;
        *ret = negative ? -value : value;
        return 0;
}

static int quantity_in(const char *text, Nano unit, int64_t *ret)
{
        Nano value;
        int r = quantity_parse(text, &value);

        if (r < 0)
                return r;
        value = value < 0 ? -(-value / unit) : nano_shrink(value, unit);
        *ret = value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t)value;
        return 0;
}

int quantity_value(const char *text, int64_t *ret)
{
        return quantity_in(text, NANO, ret);
}

int quantity_milli(const char *text, int64_t *ret)
{
        return quantity_in(text, NANO / 1000, ret);
}

void quantity_format_milli(int64_t milli, char ret[static QUANTITY_SIZE])
{
        if (milli % 1000 == 0)
                snprintf(ret, QUANTITY_SIZE, "%lld", (long long)(milli / 1000));
        else
                snprintf(ret, QUANTITY_SIZE, "%lldm", (long long)milli);
}

void quantity_format_bytes(int64_t bytes, char ret[static QUANTITY_SIZE])
{
        static const char *const names[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
        size_t i = 0;

        while (bytes != 0 && bytes % 1024 == 0 && i + 1 < ELEMENTS(names)) {
                bytes /= 1024;
                i++;
        }
        snprintf(ret, QUANTITY_SIZE, "%lld%s", (long long)bytes, names[i]);
}
