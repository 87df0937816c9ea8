/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a profile to the program that the kernel runs, and the cache of programs.
 *
 * libseccomp compiles what it knows. In front of its program stands a prologue of ours for system
 * calls that came later: those that the profile names get its action by number, those beyond the
 * newest that the profile names answer ENOSYS (otherwise EPERM, the default action, would be taken
 * by C libraries for a real refusal instead of a reason to fall back).
 *
 * Compiling takes milliseconds and leaves a large heap behind, so it happens in a forked worker.
 * Programs are kept in memory for good (a few kilobytes each, a handful of profiles a node) and in
 * a directory on tmpfs, for the next daemon.
 */

#include "runtime/seccomp-internal.h"

#include "base/file.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"
#include "loop/worker.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Bump when the compiler's output changes for the same profile. */
#define CACHE_VERSION "1"
#define COMPILE_DEADLINE_MS 30000
#define X32_BIT 0x40000000U

/* Since Linux 5.17, one number on all architectures. */
static const char *const new_names[] = {
        "cachestat",         "fchmodat2",         "map_shadow_stack", "futex_wake",
        "futex_wait",        "futex_requeue",     "statmount",        "listmount",
        "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal",
        "setxattrat",        "getxattrat",        "listxattrat",      "removexattrat",
        "open_tree_attr",    "file_getattr",      "file_setattr",
};

int seccomp_new_number(const char *name)
{
        for (size_t i = 0; i < ELEMENTS(new_names); i++)
                if (str_eq(new_names[i], name))
                        return SECCOMP_UNIFIED_FIRST + (int)i;
        return -1;
}

/* --- the prologue --- */

typedef struct Prologue {
        struct sock_filter insns[160];
        size_t n;
} Prologue;

static void emit(Prologue *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
        assert(p->n < ELEMENTS(p->insns));
        p->insns[p->n++] = (struct sock_filter){ .code = code, .jt = jt, .jf = jf, .k = k };
}

static void emit_load(Prologue *p, size_t offset)
{
        emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The newest call that the profile names on an architecture; -1 if it names none. */
static int newest_named(const SeccompProfile *profile, uint32_t arch)
{
        int newest = -1;

        for (size_t i = 0; i < profile->n_rules; i++)
                for (char **name = profile->rules[i].names; *name; name++) {
                        int nr = seccomp_syscall_resolve_name_arch(arch, *name);

                        if (nr < 0)
                                nr = seccomp_new_number(*name);
                        if (nr > newest)
                                newest = nr;
                }
        return newest;
}

/* One architecture: `A` holds seccomp_data.arch, and again afterwards if it is another one. */
static void emit_arch(Prologue *p, const SeccompProfile *profile, uint32_t arch, int newest)
{
        size_t skip = p->n, x32 = 0;

        emit(p, BPF_JMP | BPF_JEQ | BPF_K, arch, 0, 0);
        emit_load(p, offsetof(struct seccomp_data, nr));
        if (arch == AUDIT_ARCH_X86_64) {
                x32 = p->n;
                emit(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 0);
        }
        for (size_t i = 0; i < profile->n_rules; i++) {
                const SeccompRule *rule = &profile->rules[i];

                for (char **name = rule->names; *name && rule->n_args == 0; name++) {
                        int nr = seccomp_new_number(*name);

                        if (nr < 0 || p->n + 8 > ELEMENTS(p->insns))
                                continue;
                        emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1);
                        /* SCMP_ACT_ values are the kernel's. */
                        emit(p, BPF_RET | BPF_K, rule->action, 0, 0);
                }
        }
        if (profile->enosys_for_newer && newest >= 0) {
                emit(p, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)newest, 0, 1);
                emit(p, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
        }
        if (x32)
                p->insns[x32].jt = (uint8_t)(p->n - x32 - 1);
        emit_load(p, offsetof(struct seccomp_data, arch));
        p->insns[skip].jf = (uint8_t)(p->n - skip - 1);
}

static void make_prologue(Prologue *p, const SeccompProfile *profile)
{
        emit_load(p, offsetof(struct seccomp_data, arch));
        /* SCMP_ARCH_ values are AUDIT_ARCH_ values, but for x32, which shares its with x86-64. */
        emit_arch(p, profile, seccomp_arch_native(), newest_named(profile, seccomp_arch_native()));
        for (size_t i = 0; i < profile->n_archs; i++)
                if (profile->archs[i] == SCMP_ARCH_X86 || profile->archs[i] == SCMP_ARCH_ARM)
                        emit_arch(p, profile, profile->archs[i],
                                  newest_named(profile, profile->archs[i]));
}

/* --- the rest, by libseccomp --- */

static void filter_release(scmp_filter_ctx *ctx)
{
        if (*ctx)
                seccomp_release(*ctx);
}

static struct scmp_arg_cmp compare(const SeccompArg *arg)
{
        return (struct scmp_arg_cmp){ .arg = arg->index,
                                      .op = (enum scmp_compare)arg->op,
                                      .datum_a = arg->value,
                                      .datum_b = arg->value_two };
}

/* Two conditions on one argument cannot be one rule for libseccomp: as in runc, each becomes a rule
 * of its own then. */
static bool repeats_argument(const SeccompRule *rule)
{
        unsigned int seen = 0;

        for (size_t i = 0; i < rule->n_args; i++) {
                if (seen & 1U << rule->args[i].index)
                        return true;
                seen |= 1U << rule->args[i].index;
        }
        return false;
}

static int add_call(scmp_filter_ctx ctx, const SeccompRule *rule, int nr)
{
        struct scmp_arg_cmp args[SECCOMP_ARGS_MAX];
        int r = 0;

        for (size_t i = 0; i < rule->n_args; i++)
                args[i] = compare(&rule->args[i]);
        if (!repeats_argument(rule))
                return seccomp_rule_add_array(ctx, rule->action, nr, (unsigned int)rule->n_args,
                                              args);
        for (size_t i = 0; i < rule->n_args && r == 0; i++)
                r = seccomp_rule_add_array(ctx, rule->action, nr, 1, &args[i]);
        return r;
}

static int add_rule(scmp_filter_ctx ctx, const SeccompProfile *profile, const SeccompRule *rule,
                    KlError **err)
{
        if (rule->action == profile->default_action)
                return 0;
        for (char **name = rule->names; *name; name++) {
                int nr = seccomp_syscall_resolve_name(*name), r;

                /* Unknown names are calls of other architectures, or in the prologue. */
                if (nr == __NR_SCMP_ERROR)
                        continue;
                r = add_call(ctx, rule, nr);
                if (r < 0 && r != -EEXIST)
                        return kl_error_errno(err, r, NULL, "add a rule for %s", *name);
        }
        return 0;
}

static int export(scmp_filter_ctx ctx, Buf *to, KlError **err)
{
        KL_AUTOFD int fd = memfd_create("seccomp", MFD_CLOEXEC);
        struct stat st;
        char *room;
        int r;

        if (fd < 0)
                return kl_error_errno(err, -errno, NULL, "create a memory file");
        r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "compile the filter");
        if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return kl_error_errno(err, -errno, NULL, "read the filter");
        room = buf_reserve(to, (size_t)st.st_size);
        if (!room || fd_read_all(fd, room, (size_t)st.st_size) != st.st_size)
                return kl_error(err, -ENOMEM, NULL, "read the filter");
        buf_commit(to, (size_t)st.st_size);
        return 0;
}

int seccomp_compile(const SeccompProfile *profile, Buf *to, KlError **err)
{
        __attribute__((cleanup(filter_release))) scmp_filter_ctx ctx =
                seccomp_init(profile->default_action);
        Prologue prologue = { .n = 0 };
        size_t start = to->len;
        int r = 0;

        if (!ctx)
                return kl_error(err, -ENOMEM, NULL, "start a filter");
        for (size_t i = 0; i < profile->n_archs && r == 0; i++) {
                r = seccomp_arch_add(ctx, profile->archs[i]);
                if (r == -EEXIST)
                        r = 0;
        }
        if (r < 0)
                return kl_error_errno(err, r, NULL, "add an architecture");
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, profile->default_action);
        for (size_t i = 0; i < profile->n_rules; i++) {
                r = add_rule(ctx, profile, &profile->rules[i], err);
                if (r < 0)
                        return r;
        }
        make_prologue(&prologue, profile);
        buf_add(to, prologue.insns, prologue.n * sizeof(prologue.insns[0]));
        r = export(ctx, to, err);
        if (r < 0)
                return r;
        if ((to->len - start) / sizeof(struct sock_filter) > SECCOMP_INSNS_MAX)
                return kl_error(err, -E2BIG, NULL, "the compiled filter is too long");
        return buf_error(to) ? kl_error(err, buf_error(to), NULL, "out of memory") : 0;
}

/* --- cache --- */

typedef struct Entry {
        char *key;
        Buf about;   /* what it was compiled from; the key is its hash */
        void *insns; /* NULL while it is compiled */
        size_t len;
        List requests;
        Worker *worker;
        Arena *arena; /* of the profile, until the worker was forked */
        SeccompProfile *profile;
        SeccompCache *cache;
} Entry;

struct SeccompCache {
        Loop *loop;
        char *dir;
        Map *entries;
};

struct SeccompRequest {
        List link;
        SeccompFunc func;
        void *data;
};

static void entry_free(void *value)
{
        Entry *e = value;

        worker_free(e->worker);
        arena_free(e->arena);
        list_for_each (request, &e->requests, SeccompRequest, link)
                list_unlink(&request->link);
        free(e->key);
        buf_deinit(&e->about);
        free(e->insns);
        free(e);
}

int seccomp_cache_new(Loop *loop, const char *dir, SeccompCache **ret, KlError **err)
{
        KL_AUTO(seccomp_cache_free) SeccompCache *cache = calloc(1, sizeof(*cache));
        int r;

        if (!cache || !(cache->dir = strdup(dir)) || !(cache->entries = map_new(entry_free)))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        cache->loop = loop;
        r = dir_make_all(dir, 0700);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", dir);
        *ret = KL_STEAL(cache);
        return 0;
}

SeccompCache *seccomp_cache_free(SeccompCache *cache)
{
        if (!cache)
                return NULL;
        map_free(cache->entries);
        free(cache->dir);
        free(cache);
        return NULL;
}

SeccompRequest *seccomp_request_free(SeccompRequest *request)
{
        if (request)
                list_unlink(&request->link);
        free(request);
        return NULL;
}

/* What decides about the program: the compiler, the architecture, the set, the profile's text. */
static void describe(const char *json, size_t len, uint64_t bounding, Buf *to)
{
        const struct scmp_version *version = seccomp_version();

        buf_addf(to, "%s %s %u.%u.%u %x %llx %s\n", CACHE_VERSION, KUBELITE_VERSION, version->major,
                 version->minor, version->micro, seccomp_arch_native(),
                 (unsigned long long)bounding, json ? "file" : "default");
        if (json)
                buf_add(to, json, len);
}

/* The file is the description, its length before it, and the program. */
static bool load(Entry *e)
{
        KL_AUTOFREE char *path = str_format("%s/%s.bpf", e->cache->dir, e->key), *data = NULL;
        size_t len = 0, skip = sizeof(e->about.len) + e->about.len;

        if (!path ||
            file_read(path, skip + SECCOMP_INSNS_MAX * sizeof(struct sock_filter), &data, &len) < 0)
                return false;
        if (len <= skip || (len - skip) % sizeof(struct sock_filter) != 0 ||
            memcmp(data, &e->about.len, sizeof(e->about.len)) != 0 ||
            memcmp(data + sizeof(e->about.len), e->about.data, e->about.len) != 0)
                return false;
        e->insns = malloc(len - skip);
        if (!e->insns)
                return false;
        memcpy(e->insns, data + skip, len - skip);
        e->len = len - skip;
        return true;
}

/* Only saves the next daemon the work. */
static void save(const Entry *e)
{
        KL_AUTOFREE char *path = str_format("%s/%s.bpf", e->cache->dir, e->key);
        KL_AUTOBUF file = BUF_INIT;

        buf_add(&file, &e->about.len, sizeof(e->about.len));
        buf_add(&file, e->about.data, e->about.len);
        buf_add(&file, e->insns, e->len);
        if (path && buf_error(&file) == 0)
                file_replace(path, file.data, file.len, 0600, false);
}

/* Worker: the program goes to standard output, a complaint to standard error. */
static int compile_body(void *arg)
{
        KL_AUTOERR err = NULL;
        KL_AUTOBUF out = BUF_INIT;
        Entry *e = arg;

        if (seccomp_compile(e->profile, &out, &err) < 0) {
                dprintf(STDERR_FILENO, "%s", kl_error_msg(err));
                return 1;
        }
        return fd_write_all(STDOUT_FILENO, out.data, out.len) < 0;
}

static void answer(Entry *e, const KlError *error)
{
        SeccompProgram program = { .insns = e->insns, .len = e->len };

        /* Callbacks may free other requests, never make new ones of an entry that failed. */
        while (!list_empty(&e->requests)) {
                SeccompRequest *request = list_first(&e->requests, SeccompRequest, link);
                SeccompFunc func = request->func;
                void *data = request->data;

                list_unlink(&request->link);
                func(error ? NULL : &program, error, data);
        }
}

static void on_compiled(Worker *worker, WorkerResult *result, void *data)
{
        Entry *e = data;
        KL_AUTOERR err = NULL;

        if (result->status != 0 || result->truncated || result->out_len == 0)
                kl_error(&err, -EINVAL, "CreateContainerError", "compile seccomp profile: %s",
                         result->errors_len ? result->errors : "the compiler failed");
        else if ((e->insns = malloc(result->out_len))) {
                e->len = result->out_len;
                memcpy(e->insns, result->out, e->len);
                save(e);
        } else {
                kl_error(&err, -ENOMEM, NULL, "out of memory");
        }
        e->worker = worker_free(e->worker);
        e->arena = arena_free(e->arena);
        answer(e, err);
        if (!e->insns) {
                char key[64];

                snprintf(key, sizeof(key), "%s", e->key);
                map_remove(e->cache->entries, key);
        }
}

static int start_compiling(Entry *e, const char *json, size_t len, uint64_t bounding, KlError **err)
{
        WorkerSpec spec = {
                .name = "seccomp",
                .body = compile_body,
                .body_arg = e,
                .out_max = SECCOMP_INSNS_MAX * sizeof(struct sock_filter),
                .deadline_ms = COMPILE_DEADLINE_MS,
                .done = on_compiled,
                .data = e,
        };
        int r = 0;

        e->arena = arena_new();
        if (!e->arena)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (json)
                r = seccomp_parse_profile(json, len, bounding, e->arena, &e->profile, err);
        else
                e->profile = seccomp_default_profile(e->arena, bounding);
        if (r < 0)
                return r;
        if (!e->profile)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return worker_start(e->cache->loop, &spec, &e->worker, err);
}

/* Takes `about`. */
static Entry *entry_new(SeccompCache *cache, const char *key, Buf *about)
{
        Entry *e = calloc(1, sizeof(*e));

        if (!e)
                return NULL;
        list_init(&e->requests);
        e->cache = cache;
        e->about = *about;
        *about = (Buf)BUF_INIT;
        e->key = strdup(key);
        if (!e->key || map_set(cache->entries, key, e) < 0) {
                entry_free(e);
                return NULL;
        }
        return e;
}

/* The entry of that description, or NULL and the key that it is to have. Two descriptions of one
 * hash and length differ by their last digit. */
static Entry *find(const SeccompCache *cache, const Buf *about, char *key, size_t size)
{
        for (unsigned int i = 0;; i++) {
                Entry *e;

                snprintf(key, size, "%016llx-%zu-%u",
                         (unsigned long long)hash_fnv64(about->data, about->len), about->len, i);
                e = map_get(cache->entries, key);
                if (!e || (e->about.len == about->len &&
                           memcmp(e->about.data, about->data, about->len) == 0))
                        return e;
        }
}

int seccomp_cache_get(SeccompCache *cache, const char *json, size_t len, uint64_t bounding,
                      SeccompFunc func, void *data, SeccompProgram *ret_program,
                      SeccompRequest **ret_request, KlError **err)
{
        KL_AUTOBUF about = BUF_INIT;
        SeccompRequest *request;
        char key[64];
        Entry *e;
        int r;

        describe(json, len, bounding, &about);
        if (buf_error(&about))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        e = find(cache, &about, key, sizeof(key));
        if (!e) {
                e = entry_new(cache, key, &about);
                if (!e)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                r = load(e) ? 0 : start_compiling(e, json, len, bounding, err);
                if (r < 0) {
                        map_remove(cache->entries, key);
                        return r;
                }
        }
        if (e->insns) {
                *ret_program = (SeccompProgram){ .insns = e->insns, .len = e->len };
                return 1;
        }
        request = calloc(1, sizeof(*request));
        if (!request)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        request->func = func;
        request->data = data;
        list_append(&e->requests, &request->link);
        *ret_request = request;
        return 0;
}
