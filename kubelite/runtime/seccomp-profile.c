/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Profiles from files, in the format of the OCI runtime specification with docker's additions
 * (archMap, includes and excludes). A file that says something we do not understand is refused:
 * a filter that is weaker than its author meant is worse than none.
 */

#include "runtime/seccomp-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "runtime/caps-internal.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>

typedef struct Named {
        const char *name;
        uint32_t value;
} Named;

static const Named operators[] = {
        { "SCMP_CMP_NE", SCMP_CMP_NE },
        { "SCMP_CMP_LT", SCMP_CMP_LT },
        { "SCMP_CMP_LE", SCMP_CMP_LE },
        { "SCMP_CMP_EQ", SCMP_CMP_EQ },
        { "SCMP_CMP_GE", SCMP_CMP_GE },
        { "SCMP_CMP_GT", SCMP_CMP_GT },
        { "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static const Named archs[] = {
        { "SCMP_ARCH_X86", SCMP_ARCH_X86 },
        { "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },
        { "SCMP_ARCH_X32", SCMP_ARCH_X32 },
        { "SCMP_ARCH_ARM", SCMP_ARCH_ARM },
        { "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 },
        { "SCMP_ARCH_MIPS", SCMP_ARCH_MIPS },
        { "SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64 },
        { "SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32 },
        { "SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL },
        { "SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64 },
        { "SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32 },
        { "SCMP_ARCH_PPC", SCMP_ARCH_PPC },
        { "SCMP_ARCH_PPC64", SCMP_ARCH_PPC64 },
        { "SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE },
        { "SCMP_ARCH_S390", SCMP_ARCH_S390 },
        { "SCMP_ARCH_S390X", SCMP_ARCH_S390X },
        { "SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64 },
};

/* What this build is called in docker's conditions. */
static const char go_arch[] =
#if defined(__x86_64__)
        "amd64";
#elif defined(__aarch64__)
        "arm64";
#elif defined(__arm__)
        "arm";
#elif defined(__riscv)
        "riscv64";
#else
        "";
#endif

static int lookup(const Named *table, size_t n, const Field *f, uint32_t *ret, KlError **err)
{
        const char *text = value_str(f->value);

        for (size_t i = 0; text && i < n; i++)
                if (str_eq(table[i].name, text)) {
                        *ret = table[i].value;
                        return 0;
                }
        return field_error(f, err, "unknown value \"%s\"", text ? text : "");
}

static int parse_action(const Field *object, const char *key, const char *errno_key,
                        uint32_t default_errno, uint32_t *ret, KlError **err)
{
        Field f = field_get(object, key);
        const char *text = value_str(f.value);
        int64_t number = default_errno;
        int r = field_int(object, errno_key, 0, 4095, &number, err);

        if (r < 0)
                return r;
        if (str_eq(text, "SCMP_ACT_ALLOW"))
                *ret = SCMP_ACT_ALLOW;
        else if (str_eq(text, "SCMP_ACT_ERRNO"))
                *ret = SCMP_ACT_ERRNO(number);
        else if (str_eq(text, "SCMP_ACT_KILL") || str_eq(text, "SCMP_ACT_KILL_THREAD"))
                *ret = SCMP_ACT_KILL_THREAD;
        else if (str_eq(text, "SCMP_ACT_KILL_PROCESS"))
                *ret = SCMP_ACT_KILL_PROCESS;
        else if (str_eq(text, "SCMP_ACT_TRAP"))
                *ret = SCMP_ACT_TRAP;
        else if (str_eq(text, "SCMP_ACT_LOG"))
                *ret = SCMP_ACT_LOG;
        else if (str_eq(text, "SCMP_ACT_TRACE"))
                *ret = SCMP_ACT_TRACE(number);
        else
                return field_error(&f, err, "unknown action \"%s\"", text ? text : "");
        return 0;
}

static int parse_arg(const Field *f, SeccompArg *ret, KlError **err)
{
        int64_t index = -1, value = 0, value_two = 0;
        Field op = field_get(f, "op");
        uint32_t number = 0;
        int r = field_int(f, "index", 0, SECCOMP_ARGS_MAX - 1, &index, err);

        if (r == 0)
                r = field_int(f, "value", INT64_MIN, INT64_MAX, &value, err);
        if (r == 0)
                r = field_int(f, "valueTwo", INT64_MIN, INT64_MAX, &value_two, err);
        if (r == 0)
                r = lookup(operators, ELEMENTS(operators), &op, &number, err);
        if (r < 0)
                return r;
        if (index < 0)
                return field_error(f, err, "index is missing");
        *ret = (SeccompArg){ .index = (unsigned int)index,
                             .op = (int)number,
                             .value = (uint64_t)value,
                             .value_two = (uint64_t)value_two };
        return 0;
}

/* docker's conditions. *ret: whether this set of them is fulfilled; an empty one is. */
static int condition_met(const Field *rule, const char *key, uint64_t bounding, bool all,
                         Arena *arena, bool *ret, KlError **err)
{
        Field f;
        char **caps = NULL, **arches = NULL;
        int r = field_object(rule, key, &f, err);
        bool any = false, every = true;

        if (r)
                return r < 0 ? r : (*ret = all, 0);
        r = field_strv(&f, "caps", arena, &caps, err);
        if (r == 0)
                r = field_strv(&f, "arches", arena, &arches, err);
        if (r < 0)
                return r;
        for (char **p = caps; p && *p; p++) {
                int cap = cap_from_name(*p);
                bool have = cap >= 0 && (bounding & CAP_BIT(cap));

                any |= have;
                every &= have;
        }
        if (arches && arches[0]) {
                bool here = strv_contains(arches, go_arch);

                any |= here;
                every &= here;
        }
        *ret = all ? every : any;
        return 0;
}

static int parse_rule(const Field *f, uint64_t bounding, Arena *arena, SeccompProfile *profile,
                      KlError **err)
{
        SeccompRule *rule = &profile->rules[profile->n_rules];
        bool included = true, excluded = false;
        char *name = NULL;
        Field args;
        size_t n_args = 0;
        int r;

        r = condition_met(f, "includes", bounding, true, arena, &included, err);
        if (r == 0)
                r = condition_met(f, "excludes", bounding, false, arena, &excluded, err);
        if (r < 0 || !included || excluded)
                return r;
        r = field_strv(f, "names", arena, &rule->names, err);
        if (r == 0)
                r = field_str(f, "name", arena, &name, err);
        if (r == 0 && name && (!rule->names || !rule->names[0])) {
                rule->names = ARENA_ARRAY(arena, 2, char *);
                if (!rule->names)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                rule->names[0] = name;
        }
        if (r == 0)
                r = parse_action(f, "action", "errnoRet", EPERM, &rule->action, err);
        if (r == 0)
                r = field_array(f, "args", SECCOMP_ARGS_MAX, &args, &n_args, err);
        if (r < 0)
                return r;
        if (!rule->names || !rule->names[0])
                return field_error(f, err, "names is empty");
        if (strv_len(rule->names) > SECCOMP_NAMES_MAX)
                return field_error(f, err, "more than %d names", SECCOMP_NAMES_MAX);
        for (size_t i = 0; i < n_args; i++) {
                Field arg = field_at(&args, i);

                r = parse_arg(&arg, &rule->args[i], err);
                if (r < 0)
                        return r;
        }
        rule->n_args = n_args;
        profile->n_rules++;
        return 0;
}

static int add_arch(const Field *f, SeccompProfile *profile, KlError **err)
{
        uint32_t arch;
        int r = lookup(archs, ELEMENTS(archs), f, &arch, err);

        if (r < 0 || arch == seccomp_arch_native())
                return r;
        for (size_t i = 0; i < profile->n_archs; i++)
                if (profile->archs[i] == arch)
                        return 0;
        if (profile->n_archs == ELEMENTS(archs))
                return field_error(f, err, "too many architectures");
        profile->archs[profile->n_archs++] = arch;
        return 0;
}

static int parse_archs(const Field *root, const char *key, SeccompProfile *profile, KlError **err)
{
        Field list;
        size_t n = 0;
        int r = field_array(root, key, ELEMENTS(archs), &list, &n, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                Field f = field_at(&list, i);

                r = add_arch(&f, profile, err);
        }
        return r;
}

/* Only the entry for the native architecture counts. */
static int parse_arch_map(const Field *root, SeccompProfile *profile, KlError **err)
{
        Field list;
        size_t n = 0;
        int r = field_array(root, "archMap", ELEMENTS(archs), &list, &n, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                Field f = field_at(&list, i), name = field_get(&f, "architecture");
                uint32_t arch;

                r = lookup(archs, ELEMENTS(archs), &name, &arch, err);
                if (r == 0 && arch == seccomp_arch_native())
                        r = parse_archs(&f, "subArchitectures", profile, err);
        }
        return r;
}

int seccomp_parse_profile(const char *json, size_t len, uint64_t bounding, Arena *arena,
                          SeccompProfile **ret, KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;
        SeccompProfile *profile = ARENA_NEW(arena, SeccompProfile);
        int64_t default_errno = EPERM;
        Field root, rules;
        size_t n = 0;
        int r = json_parse(json, len, &v, err);

        if (r < 0)
                return r;
        root = field_root(v);
        if (value_type(v) != VALUE_OBJECT)
                return field_error(&root, err, "expected an object");
        if (value_get(v, "listenerPath"))
                return field_error(&root, err, "listenerPath is not supported");
        r = field_int(&root, "defaultErrnoRet", 0, 4095, &default_errno, err);
        if (r == 0)
                r = field_array(&root, "syscalls", SECCOMP_RULES_MAX, &rules, &n, err);
        if (r < 0)
                return r;
        if (!profile || !(profile->rules = ARENA_ARRAY(arena, n + 1, SeccompRule)) ||
            !(profile->archs = ARENA_ARRAY(arena, ELEMENTS(archs), uint32_t)))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = parse_action(&root, "defaultAction", "defaultErrnoRet", EPERM, &profile->default_action,
                         err);
        if (r == 0)
                r = parse_archs(&root, "architectures", profile, err);
        if (r == 0)
                r = parse_arch_map(&root, profile, err);
        for (size_t i = 0; i < n && r == 0; i++) {
                Field f = field_at(&rules, i);

                r = parse_rule(&f, bounding, arena, profile, err);
        }
        if (r < 0)
                return r;
        profile->enosys_for_newer =
                (profile->default_action & SECCOMP_RET_ACTION_FULL) == SCMP_ACT_ERRNO(0);
        *ret = profile;
        return 0;
}
