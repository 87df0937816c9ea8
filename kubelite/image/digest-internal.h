/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_DIGEST_INTERNAL_H
#define KUBELITE_IMAGE_DIGEST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

/* Content digests, "<algorithm>:<hex>": sha256, sha384, sha512. */

/* The longest one, "sha512:" and 128 digits, and its terminator. */
#define DIGEST_TEXT_SIZE 136

typedef enum DigestCheck {
        DIGEST_VALID,
        DIGEST_BAD_FORMAT,
        DIGEST_UNKNOWN_ALGORITHM,
        DIGEST_BAD_LENGTH,
} DigestCheck;

DigestCheck digest_check(const char *digest);
bool digest_is_valid(const char *digest);
/* "sha256"; a static string, NULL for what is no valid digest. */
const char *digest_algorithm(const char *digest);
/* The part after the colon; digest must be valid. */
const char *digest_hex(const char *digest);
/* "sha256-<hex>", a file name. */
void digest_file_name(const char *digest, char ret[static DIGEST_TEXT_SIZE]);

#endif
