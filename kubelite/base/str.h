/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_STR_H
#define KUBELITE_BASE_STR_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static inline bool str_eq(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool str_empty(const char *s)
{
        return !s || !*s;
}

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/* asprintf that returns the string, NULL when out of memory. */
char *str_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whole-string decimal numbers within [min, max]: 0, -EINVAL or -ERANGE. */
int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
int str_to_u64(const char *s, uint64_t max, uint64_t *ret);

/* Lower-case hex; out has room for 2 * len + 1. */
void hex_encode(const void *data, size_t len, char *out);

/* n random bytes (getrandom, blocking until seeded) as 2n hex digits and a NUL. */
void random_hex(char *out, size_t n_bytes);
uint64_t random_u64(void);

/* DNS-1123 label (at most 63) and subdomain (at most 253): names in the API. */
bool name_is_dns1123_label(const char *s);
bool name_is_dns1123_subdomain(const char *s);

/* 32-bit FNV-1a and 64-bit, for tables and names; not against attackers. */
uint32_t hash_fnv32(const void *data, size_t len);
uint64_t hash_fnv64(const void *data, size_t len);

/* --- NULL-terminated string vectors, the strings owned --- */

size_t strv_len(char *const *v);
char **strv_free(char **v);
/* Appends a copy; 0 or -ENOMEM. */
int strv_add(char ***v, const char *s);
int strv_addf(char ***v, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool strv_contains(char *const *v, const char *s);
/* Splits at every separator; empty parts are dropped. NULL when out of memory. */
char **strv_split(const char *s, char separator);
char **strv_copy(char *const *v);

KL_DEFINE_CLEANUP(char **, strv_free);
#define KL_AUTOSTRV KL_AUTO(strv_free) char **

#endif
