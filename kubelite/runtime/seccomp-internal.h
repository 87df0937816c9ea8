/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_SECCOMP_INTERNAL_H
#define KUBELITE_RUNTIME_SECCOMP_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "loop/loop.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * System call filters: profiles (the built-in one, or files in the format of OCI and docker) and
 * the programs they compile to.
 */

#define SECCOMP_PROFILE_MAX (1 << 20)
#define SECCOMP_RULES_MAX 1024
#define SECCOMP_NAMES_MAX 2048
#define SECCOMP_ARGS_MAX 6
/* The kernel takes no longer program. */
#define SECCOMP_INSNS_MAX 4096

typedef struct SeccompArg {
        unsigned int index;
        int op; /* enum scmp_compare */
        uint64_t value, value_two;
} SeccompArg;

typedef struct SeccompRule {
        char **names;
        uint32_t action; /* SCMP_ACT_ */
        SeccompArg args[SECCOMP_ARGS_MAX];
        size_t n_args;
} SeccompRule;

typedef struct SeccompProfile {
        uint32_t default_action;
        uint32_t *archs; /* SCMP_ARCH_, the native one excluded */
        size_t n_archs;
        SeccompRule *rules;
        size_t n_rules;
        /* System calls newer than the newest that is named answer ENOSYS, so that programs fall
         * back to older ones instead of taking EPERM for the truth. */
        bool enosys_for_newer;
} SeccompProfile;

/* The rules of RuntimeDefault for a bounding set. NULL: out of memory. */
SeccompProfile *seccomp_default_profile(Arena *arena, uint64_t bounding);

/* Of a file; conditions on capabilities and architectures are decided here. */
int seccomp_parse_profile(const char *json, size_t len, uint64_t bounding, Arena *arena,
                          SeccompProfile **ret, KlError **err);

/* Appends the program (struct sock_filter). Takes milliseconds and memory: for workers. */
int seccomp_compile(const SeccompProfile *profile, Buf *to, KlError **err);

/* Numbers of system calls that libseccomp is too old to know; -1 if we do not know either. They are
 * the same on all architectures. */
#define SECCOMP_UNIFIED_FIRST 451
int seccomp_new_number(const char *name);

/* --- cache --- */

typedef struct SeccompCache SeccompCache;

typedef struct SeccompProgram {
        const void *insns;
        size_t len; /* bytes */
} SeccompProgram;

/* dir holds compiled programs over restarts; made if missing. */
int seccomp_cache_new(Loop *loop, const char *dir, SeccompCache **ret, KlError **err);
SeccompCache *seccomp_cache_free(SeccompCache *cache);
KL_DEFINE_CLEANUP(SeccompCache *, seccomp_cache_free);

/* A request for one program; lives until it was answered or freed. */
typedef struct SeccompRequest SeccompRequest;
typedef void (*SeccompFunc)(const SeccompProgram *program, const KlError *error, void *data);

/*
 * The program for the built-in profile (json NULL) or the given text. >0 (1): it was cached and
 * *ret_program is filled, borrowed from the cache for good; 0: it is being compiled, func is
 * called once. A profile that cannot be read is an error at once.
 */
int seccomp_cache_get(SeccompCache *cache, const char *json, size_t len, uint64_t bounding,
                      SeccompFunc func, void *data, SeccompProgram *ret_program,
                      SeccompRequest **ret_request, KlError **err);
SeccompRequest *seccomp_request_free(SeccompRequest *request);

#endif
