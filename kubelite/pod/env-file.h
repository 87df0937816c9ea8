/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_ENV_FILE_H
#define KUBELITE_POD_ENV_FILE_H

#include "base/error.h"

/* A file that fileKeyRef names may not be larger. */
#define ENV_FILE_MAX (1U << 20)

/*
 * Finds a variable in the text of an env file (KEP-3721): lines of VAR='value', the value taken
 * literally and over as many lines as it has, blank lines, and comments. The first one counts; what
 * stands behind it is not looked at. Sets *ret (to be freed) or leaves it NULL where there is none.
 * -EINVAL with the line of what is not understood.
 */
int env_file_find(const char *text, const char *key, char **ret, KlError **err);

#endif
