/* SPDX-License-Identifier: Apache-2.0 */

/* The list that `check` prints; what is looked at is in check-kernel.c and check-node.c. */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "codec/json.h"

#include <stdarg.h>

static const char *const state_names[] = {
        [CHECK_OK] = "ok",
        [CHECK_WARNING] = "warning",
        [CHECK_MISSING] = "missing",
};

void check_add(Checks *checks, const char *name, CheckState state, const char *advice,
               const char *format, ...)
{
        va_list args;
        char *detail = NULL;

        if (checks->n == CHECKS_MAX)
                return;
        va_start(args, format);
        if (vasprintf(&detail, format, args) < 0)
                detail = NULL;
        va_end(args);
        checks->items[checks->n++] =
                (CheckItem){ name, state, detail, state == CHECK_OK ? NULL : advice };
}

static int print_json(const Checks *checks, CliFormat format)
{
        KL_AUTO(value_free) Value *all = NULL;
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);

        jw_array(&w);
        for (size_t i = 0; i < checks->n; i++) {
                jw_object(&w);
                jw_kstr(&w, "name", checks->items[i].name);
                jw_kstr(&w, "state", state_names[checks->items[i].state]);
                jw_kstr(&w, "detail", checks->items[i].detail);
                jw_kstr_opt(&w, "advice", checks->items[i].advice);
                jw_end(&w);
        }
        jw_end(&w);
        if (buf_error(&buf) || json_parse(buf_str(&buf), buf.len, &all, NULL) < 0)
                return cli_fail("out of memory");
        return cli_print_value(all, format);
}

static void print_lines(const Checks *checks)
{
        static const char *const colours[] = { "\033[32m", "\033[33m", "\033[31m" };
        bool tty = isatty(STDOUT_FILENO);

        for (size_t i = 0; i < checks->n; i++) {
                const CheckItem *item = &checks->items[i];
                KL_AUTOBUF clean = BUF_INIT;

                cli_add_clean(&clean, item->detail ? item->detail : "");
                printf("%s%-8s%s %-20s %s\n", tty ? colours[item->state] : "",
                       state_names[item->state], tty ? "\033[0m" : "", item->name, buf_str(&clean));
                if (item->advice)
                        printf("%-8s %-20s -> %s\n", "", "", item->advice);
        }
}

/* Ours, installed or in a build tree, then the usual places. */
static char **plugin_dirs(const char *given)
{
        static const char *const ours[] = { "../libexec/kubelite/cni", "../cni/plugins" };
        KL_AUTOSTRV dirs = NULL;
        char exe[4096];
        ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
        char *slash;

        if (given)
                return strv_split(given, ',');
        exe[n > 0 ? n : 0] = '\0';
        slash = strrchr(exe, '/');
        for (size_t i = 0; slash && i < ELEMENTS(ours); i++)
                if (strv_addf(&dirs, "%.*s/%s", (int)(slash - exe), exe, ours[i]) < 0)
                        return NULL;
        if (strv_add(&dirs, "/opt/cni/bin") < 0 || strv_add(&dirs, "/usr/lib/cni") < 0)
                return NULL;
        return KL_STEAL(dirs);
}

int cli_run_check(const CliCommand *command, int argc, char **argv)
{
        CheckPaths paths = { .root_dir = "/var/lib/kubelet",
                             .image_dir = "/var/lib/kubelite/images",
                             .cni_conf_dir = "/etc/cni/net.d" };
        const char *bin_dirs = NULL;
        const CliOption options[] = {
                { 0, "root-dir", "DIR", "as of the daemon", NULL, &paths.root_dir },
                { 0, "image-dir", "DIR", "as of the daemon", NULL, &paths.image_dir },
                { 0, "cni-conf-dir", "DIR", "as of the daemon", NULL, &paths.cni_conf_dir },
                { 0, "cni-bin-dir", "DIR,…", "as of the daemon", NULL, &bin_dirs },
                { 0 },
        };
        KL_AUTOSTRV dirs = NULL;
        Checks checks = { .n = 0 };
        CheckState worst = CHECK_OK;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 0, 0, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        dirs = plugin_dirs(bin_dirs);
        paths.state_dir = common.state_dir;
        paths.cni_bin_dirs = dirs;
        check_kernel(&checks);
        check_cgroups(&checks);
        check_node(&checks, &paths);
        r = CLI_OK;
        if (common.format != CLI_TABLE)
                r = print_json(&checks, common.format);
        else
                print_lines(&checks);
        for (size_t i = 0; i < checks.n; i++) {
                worst = checks.items[i].state > worst ? checks.items[i].state : worst;
                free(checks.items[i].detail);
        }
        return worst == CHECK_MISSING ? CLI_FAILED : r;
}
