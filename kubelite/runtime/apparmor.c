/* SPDX-License-Identifier: Apache-2.0 */

/*
 * AppArmor. The shim enters a profile with the container's program; here is the node's own one,
 * which RuntimeDefault means, and what the kernel has loaded. Compiling a profile is
 * apparmor_parser's job (Debian's package apparmor): without it RuntimeDefault is refused, and
 * profiles of the administrator's that are loaded by then work.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <unistd.h>

#define ENABLED "/sys/module/apparmor/parameters/enabled"
#define LOADED "/sys/kernel/security/apparmor/profiles"
#define LOADED_MAX (1U << 20)
#define LOAD_DEADLINE_MS 60000

/* What runtimes allow by default: all but the kernel's settings, mounting, and others' processes.
 * It includes nothing, so that it does not depend on what lies in /etc/apparmor.d. */
static const char profile[] =
        "profile " APPARMOR_DEFAULT " flags=(attach_disconnected,mediate_deleted) {\n"
        "  network,\n"
        "  capability,\n"
        "  file,\n"
        "  umount,\n"
        "  signal (receive) peer=unconfined,\n"
        "  signal (send,receive) peer=" APPARMOR_DEFAULT ",\n"
        "  ptrace (trace,read,tracedby,readby) peer=" APPARMOR_DEFAULT ",\n"
        "  deny mount,\n"
        "  deny /proc/* w,\n"
        "  deny /proc/sys/** w,\n"
        "  deny /proc/{kcore,sysrq-trigger} rwklx,\n"
        "  deny /sys/[^f]*/** wklx,\n"
        "  deny /sys/f[^s]*/** wklx,\n"
        "  deny /sys/fs/[^c]*/** wklx,\n"
        "  deny /sys/firmware/** rwklx,\n"
        "  deny /sys/kernel/security/** rwklx,\n"
        "}\n";

bool runtime_has_apparmor(void)
{
        char enabled[8];

        return file_read_line(ENABLED, enabled, sizeof(enabled)) == 0 && enabled[0] == 'Y';
}

static void on_loaded(Worker *worker, WorkerResult *result, void *data)
{
        Runtime *runtime = data;
        char how[128];

        if (result->status != 0) {
                worker_describe(result, LOAD_DEADLINE_MS, how, sizeof(how));
                log_warning(NULL,
                            "The AppArmor profile of the node cannot be loaded, containers that "
                            "want it will not start: apparmor_parser %s: %s",
                            how, result->errors);
        }
        runtime->apparmor_loader = worker_free(runtime->apparmor_loader);
}

void apparmor_load(Runtime *runtime)
{
        static const char *const parsers[] = { "/usr/sbin/apparmor_parser",
                                               "/sbin/apparmor_parser" };
        char *argv[] = { (char *)"apparmor_parser", (char *)"-Kr", NULL };
        WorkerSpec spec = {
                .name = "apparmor_parser",
                .argv = argv,
                .input = profile,
                .input_len = sizeof(profile) - 1,
                .deadline_ms = LOAD_DEADLINE_MS,
                .done = on_loaded,
                .data = runtime,
        };
        KL_AUTOERR err = NULL;

        if (!runtime_has_apparmor())
                return;
        for (size_t i = 0; !spec.path && i < ELEMENTS(parsers); i++)
                if (access(parsers[i], X_OK) == 0)
                        spec.path = parsers[i];
        if (!spec.path)
                log_info(NULL, "Without apparmor_parser no container can have the AppArmor profile "
                               "RuntimeDefault");
        else if (worker_start(runtime->loop, &spec, &runtime->apparmor_loader, &err) < 0)
                log_warning(NULL, "The AppArmor profile of the node cannot be loaded: %s",
                            kl_error_msg(err));
}

bool apparmor_is_loaded(const char *loaded, const char *name)
{
        size_t n = strlen(name);

        for (; *loaded; loaded += strcspn(loaded, "\n"), loaded += *loaded == '\n')
                if (strncmp(loaded, name, n) == 0 && strncmp(loaded + n, " (", 2) == 0)
                        return true;
        return false;
}

int apparmor_check(const char *name, KlError **err)
{
        KL_AUTOFREE char *loaded = NULL;

        if (str_empty(name))
                return 0;
        if (strpbrk(name, "\n\r") || strlen(name) > APPARMOR_NAME_MAX)
                return kl_error(err, -EINVAL, "CreateContainerError",
                                "the name of the AppArmor profile is none");
        /* Where securityfs is not mounted, the kernel says the same later. */
        if (file_read(LOADED, LOADED_MAX, &loaded, NULL) < 0)
                return 0;
        return apparmor_is_loaded(loaded, name)
                       ? 0
                       : kl_error(err, -ENOENT, "CreateContainerError",
                                  "failed to generate apparmor spec opts: apparmor profile not "
                                  "found %s",
                                  name);
}
