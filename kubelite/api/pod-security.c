/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a pod says about security modules, and what its security settings may not say together
 * (upstream's pkg/apis/core/validation). An API server has checked that already; a manifest's
 * author nobody.
 */

#include "api/pod-internal.h"

#include "base/str.h"
#include "codec/sysctl-names.h"

#define APPARMOR_ANNOTATION "container.apparmor.security.beta.kubernetes.io/"

/* --- security modules --- */

int decode_apparmor(const Decode *d, const Field *security, AppArmorProfile *ret)
{
        Field profile;
        int r = field_object(security, "appArmorProfile", &profile, d->err);

        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(decode_name(d, &profile, "type", &ret->type));
        return field_str(&profile, "localhostProfile", d->arena, &ret->localhost_profile, d->err);
}

int decode_selinux(const Decode *d, const Field *security, bool *ret_given)
{
        Field options;
        int r = field_object(security, "seLinuxOptions", &options, d->err);

        *ret_given = r == 0;
        return r < 0 ? r : 0;
}

/* Of before 1.30; API servers make fields of them, manifests may still have them. */
static AppArmorProfile annotated_apparmor(const Pod *pod, const Container *c)
{
        AppArmorProfile none = { NULL, NULL };
        KL_AUTOFREE char *key = str_format(APPARMOR_ANNOTATION "%s", c->name);
        const char *value = key ? key_values_get(&pod->annotations, key) : NULL;

        if (!value)
                return none;
        if (str_eq(value, "unconfined"))
                return (AppArmorProfile){ (char *)"Unconfined", NULL };
        if (str_starts(value, "localhost/"))
                return (AppArmorProfile){ (char *)"Localhost",
                                          (char *)value + strlen("localhost/") };
        return (AppArmorProfile){ (char *)"RuntimeDefault", NULL };
}

AppArmorProfile pod_apparmor(const Pod *pod, const Container *c)
{
        AppArmorProfile profile = c->security.apparmor;

        if (!profile.type)
                profile = annotated_apparmor(pod, c);
        return profile.type ? profile : pod->security.apparmor;
}

/* --- conflicts --- */

static const char *const profile_types[] = { "RuntimeDefault", "Unconfined", "Localhost", NULL };

static bool is_one_of(const char *text, const char *const *list)
{
        for (; *list; list++)
                if (str_eq(text, *list))
                        return true;
        return false;
}

static int check_seccomp(const Field *security, const SeccompProfile *p, KlError **err)
{
        Field profile = field_get(security, "seccompProfile"), path, type;
        const char *name = p->localhost_profile;

        if (!p->type)
                return 0;
        path = field_get(&profile, "localhostProfile");
        type = field_get(&profile, "type");
        if (!is_one_of(p->type, profile_types))
                return field_error(&type, err,
                                   "Unsupported value: \"%s\": supported values: \"Localhost\", "
                                   "\"RuntimeDefault\", \"Unconfined\"",
                                   p->type);
        if (!str_eq(p->type, "Localhost"))
                return name ? field_error(
                                      &path, err,
                                      "Invalid value: \"%s\": can only be set when seccomp type "
                                      "is Localhost",
                                      name)
                            : 0;
        /* CVE-2023-2431: a profile without a name is none. */
        if (str_empty(name))
                return field_error(&path, err,
                                   "Required value: must be set when seccomp type is Localhost");
        if (name[0] == '/')
                return field_error(&path, err, "Invalid value: \"%s\": must be a relative path",
                                   name);
        for (const char *s = name; *s; s += strcspn(s, "/"), s += strspn(s, "/"))
                if (strncmp(s, "..", 2) == 0 && (s[2] == '/' || !s[2]))
                        return field_error(&path, err,
                                           "Invalid value: \"%s\": must not contain '..'", name);
        return 0;
}

static int check_apparmor(const Field *security, const AppArmorProfile *p, KlError **err)
{
        Field profile = field_get(security, "appArmorProfile"), name, type;

        if (!p->type)
                return 0;
        name = field_get(&profile, "localhostProfile");
        type = field_get(&profile, "type");
        if (!is_one_of(p->type, profile_types))
                return field_error(&type, err,
                                   "Unsupported value: \"%s\": supported values: \"Localhost\", "
                                   "\"RuntimeDefault\", \"Unconfined\"",
                                   p->type);
        if (!str_eq(p->type, "Localhost") && p->localhost_profile)
                return field_error(&name, err,
                                   "Invalid value: \"%s\": can only be set when AppArmor type is "
                                   "Localhost",
                                   p->localhost_profile);
        if (str_eq(p->type, "Localhost") && str_empty(p->localhost_profile))
                return field_error(&name, err,
                                   "Required value: must be set when AppArmor type is Localhost");
        return 0;
}

static int check_sysctls(const Field *security, const PodSecurity *s, KlError **err)
{
        Field list = field_get(security, "sysctls");

        for (size_t i = 0; i < s->sysctls.n; i++) {
                const char *name = s->sysctls.items[i].key;
                Field f = field_at(&list, i), key = field_get(&f, "name");

                if (!sysctl_name_is_valid(name))
                        return field_error(&key, err,
                                           "Invalid value: \"%s\": must have at most %d characters "
                                           "and match regex "
                                           "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]"
                                           "([-_a-z0-9]*[a-z0-9])?$",
                                           name, SYSCTL_NAME_MAX);
                for (size_t k = 0; k < i; k++)
                        if (str_eq(s->sysctls.items[k].key, name))
                                return field_error(&key, err, "Duplicate value: \"%s\"", name);
        }
        return 0;
}

static int check_namespaces(const Field *spec, const Pod *pod, KlError **err)
{
        const struct {
                const char *field;
                bool on;
        } host[] = { { "hostNetwork", pod->host_network },
                     { "hostPID", pod->host_pid },
                     { "hostIPC", pod->host_ipc } };

        for (size_t i = 0; i < ELEMENTS(host); i++) {
                Field f = field_get(spec, host[i].field);

                if (host[i].on && !pod->host_users)
                        return field_error(&f, err, "Forbidden: when `hostUsers` is false");
        }
        if (pod->share_pid && pod->host_pid) {
                Field f = field_get(spec, "shareProcessNamespace");

                return field_error(&f, err,
                                   "Invalid value: true: ShareProcessNamespace and HostPID cannot "
                                   "both be enabled");
        }
        return 0;
}

static int check_pod(const Field *spec, const Pod *pod, KlError **err)
{
        static const char *const policies[] = { "Merge", "Strict", NULL };
        const PodSecurity *s = &pod->security;
        Field security = field_get(spec, "securityContext"), policy;

        KL_TRY(check_namespaces(spec, pod, err));
        policy = field_get(&security, "supplementalGroupsPolicy");
        if (s->supplemental_groups_policy && !is_one_of(s->supplemental_groups_policy, policies))
                return field_error(&policy, err,
                                   "Unsupported value: \"%s\": supported values: \"Merge\", "
                                   "\"Strict\"",
                                   s->supplemental_groups_policy);
        KL_TRY(check_seccomp(&security, &s->seccomp, err));
        KL_TRY(check_apparmor(&security, &s->apparmor, err));
        return check_sysctls(&security, s, err);
}

static int check_escalation(const Field *security, const SecurityContext *s, KlError **err)
{
        if (s->allow_privilege_escalation != 0)
                return 0;
        if (s->privileged == 1)
                return field_error(security, err,
                                   "Invalid value: cannot set `allowPrivilegeEscalation` to false "
                                   "and `privileged` to true");
        for (char **cap = s->cap_add; cap && *cap; cap++)
                if (str_eq(*cap, "CAP_SYS_ADMIN"))
                        return field_error(security, err,
                                           "Invalid value: cannot set `allowPrivilegeEscalation` "
                                           "to false and `capabilities.Add` CAP_SYS_ADMIN");
        return 0;
}

static int check_proc_mount(const Field *security, const SecurityContext *s, const Pod *pod,
                            KlError **err)
{
        static const char *const types[] = { "Default", "Unmasked", NULL };
        Field f = field_get(security, "procMount");

        if (!s->proc_mount)
                return 0;
        if (!is_one_of(s->proc_mount, types))
                return field_error(&f, err,
                                   "Unsupported value: \"%s\": supported values: \"Default\", "
                                   "\"Unmasked\"",
                                   s->proc_mount);
        if (str_eq(s->proc_mount, "Unmasked") && pod->host_users)
                return field_error(&f, err,
                                   "Invalid value: \"Unmasked\": `hostUsers` must be false to use "
                                   "`Unmasked`");
        return 0;
}

static int check_propagation(const Field *container, const Container *c, KlError **err)
{
        Field mounts = field_get(container, "volumeMounts");

        for (size_t i = 0; i < c->n_mounts; i++) {
                Field m = field_at(&mounts, i), f = field_get(&m, "mountPropagation");

                if (str_eq(c->mounts[i].mount_propagation, "Bidirectional") &&
                    c->security.privileged != 1)
                        return field_error(
                                &f, err,
                                "Forbidden: Bidirectional mount propagation is available "
                                "only to privileged containers");
        }
        return 0;
}

int pod_check_security(const Field *spec, const Pod *pod, KlError **err)
{
        static const char *const lists[] = { "initContainers", "containers",
                                             "ephemeralContainers" };
        const size_t lengths[] = { pod->n_init, pod->n_main, pod->n_ephemeral };
        const Container *c = pod->containers;

        KL_TRY(check_pod(spec, pod, err));
        for (size_t l = 0; l < ELEMENTS(lists); l++) {
                Field list = field_get(spec, lists[l]);

                for (size_t i = 0; i < lengths[l]; i++, c++) {
                        Field f = field_at(&list, i), s = field_get(&f, "securityContext");

                        KL_TRY(check_escalation(&s, &c->security, err));
                        KL_TRY(check_proc_mount(&s, &c->security, pod, err));
                        KL_TRY(check_seccomp(&s, &c->security.seccomp, err));
                        KL_TRY(check_apparmor(&s, &c->security.apparmor, err));
                        KL_TRY(check_propagation(&f, c, err));
                }
        }
        return 0;
}
