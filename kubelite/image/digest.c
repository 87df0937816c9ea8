/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The form of content digests. A digest that passed digest_check() consists of a known algorithm's
 * name, a colon and lower-case hex digits: it is safe as a part of a file name or a URL.
 */

#include "image/digest-internal.h"

#include "base/str.h"

static const struct {
        const char *name;
        size_t digits;
} algorithms[] = { { "sha256", 64 }, { "sha384", 96 }, { "sha512", 128 } };

static DigestCheck check(const char *digest, const char **ret_algorithm)
{
        const char *colon = digest ? strchr(digest, ':') : NULL;
        size_t name_len = colon ? (size_t)(colon - digest) : 0;
        size_t digits;

        if (!colon || name_len == 0)
                return DIGEST_BAD_FORMAT;
        digits = strlen(colon + 1);
        if (strspn(colon + 1, "0123456789abcdefABCDEF") != digits || digits < 32)
                return DIGEST_BAD_FORMAT;
        for (size_t i = 0; i < ELEMENTS(algorithms); i++) {
                if (strlen(algorithms[i].name) != name_len ||
                    memcmp(algorithms[i].name, digest, name_len) != 0)
                        continue;
                if (digits != algorithms[i].digits)
                        return DIGEST_BAD_LENGTH;
                if (strspn(colon + 1, "0123456789abcdef") != digits)
                        return DIGEST_BAD_FORMAT;
                *ret_algorithm = algorithms[i].name;
                return DIGEST_VALID;
        }
        return DIGEST_UNKNOWN_ALGORITHM;
}

DigestCheck digest_check(const char *digest)
{
        const char *algorithm;

        return check(digest, &algorithm);
}

bool digest_is_valid(const char *digest)
{
        return digest_check(digest) == DIGEST_VALID;
}

const char *digest_algorithm(const char *digest)
{
        const char *algorithm = NULL;

        check(digest, &algorithm);
        return algorithm;
}

const char *digest_hex(const char *digest)
{
        return strchr(digest, ':') + 1;
}

void digest_file_name(const char *digest, char ret[static DIGEST_TEXT_SIZE])
{
        snprintf(ret, DIGEST_TEXT_SIZE, "%s-%s", digest_algorithm(digest), digest_hex(digest));
}
