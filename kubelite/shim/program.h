/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_PROGRAM_H
#define KUBELITE_SHIM_PROGRAM_H

#include "base/error.h"

#include <limits.h>

/*
 * Finds what args[0] names, as the calling process with its root, directory and credentials, in the
 * PATH of env if there is no slash in it. Reason StartError, messages as other runtimes word them.
 */
int program_find(const char *name, char *const *env, char ret[static PATH_MAX], KlError **err);

/* Value of a variable, or NULL; the last one counts. */
const char *env_get(char *const *env, const char *name);

#endif
