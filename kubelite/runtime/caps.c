/* SPDX-License-Identifier: Apache-2.0 */

/* Capabilities by name. The table is linux/capability.h's; newer ones are unknown here. */

#include "runtime/caps-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <linux/capability.h>
#include <strings.h>
#include <sys/prctl.h>

static const char *const names[] = {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
};

int cap_from_name(const char *name)
{
        if (strncasecmp(name, "CAP_", 4) == 0)
                name += 4;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strcasecmp(names[i] + 4, name) == 0)
                        return (int)i;
        return -EINVAL;
}

const char *cap_name(unsigned int cap)
{
        return cap < ELEMENTS(names) ? names[cap] : NULL;
}

uint64_t caps_default(void)
{
        return CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_FSETID) |
               CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_MKNOD) | CAP_BIT(CAP_NET_RAW) |
               CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETFCAP) |
               CAP_BIT(CAP_SETPCAP) | CAP_BIT(CAP_NET_BIND_SERVICE) | CAP_BIT(CAP_SYS_CHROOT) |
               CAP_BIT(CAP_KILL) | CAP_BIT(CAP_AUDIT_WRITE);
}

uint64_t caps_available(void)
{
        uint64_t set = 0;

        for (unsigned int i = 0; i < ELEMENTS(names); i++)
                if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
                        set |= CAP_BIT(i);
        return set;
}

/* The named ones as bits; "ALL" is told apart. */
static int set_of(char *const *list, uint64_t *ret, bool *ret_all, KlError **err)
{
        *ret = 0;
        *ret_all = false;
        for (char *const *p = list; p && *p; p++) {
                int cap;

                if (strcasecmp(*p, "ALL") == 0) {
                        *ret_all = true;
                        continue;
                }
                cap = cap_from_name(*p);
                if (cap < 0)
                        return kl_error(err, -EINVAL, "CreateContainerError",
                                        "unknown capability \"%s\"", *p);
                *ret |= CAP_BIT(cap);
        }
        return 0;
}

/* The order is containerd's: both "ALL" first, so that single names refine them; then single
 * additions, then single removals, which win. */
int caps_resolve(char *const *add, char *const *drop, bool privileged, uint64_t available,
                 uint64_t *ret, KlError **err)
{
        uint64_t added, dropped, set = caps_default();
        bool add_all, drop_all;
        int r = set_of(add, &added, &add_all, err);

        if (r == 0)
                r = set_of(drop, &dropped, &drop_all, err);
        if (r < 0)
                return r;
        if (add_all)
                set = UINT64_MAX;
        if (drop_all)
                set = 0;
        set = (set | added) & ~dropped;
        *ret = (privileged ? UINT64_MAX : set) & available;
        return 0;
}
