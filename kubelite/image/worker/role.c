/* SPDX-License-Identifier: Apache-2.0 */

/* Starting roles, and the lines which they speak. */

#include "image/worker/role-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SELF "/proc/self/exe"
#define MESSAGE_MAX 2048
#define HIGH_FD 32

/* --- start --- */

static void __attribute__((noreturn))
child_exec(const RoleSpec *spec, char **argv, char **envp, pid_t parent)
{
        int from[4] = { spec->in_fd, spec->out_fd, spec->fds[0], spec->fds[1] };
        static const int to[4] = { 0, 1, 3, 4 };
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(126);
        if (from[0] < 0)
                from[0] = null;
        for (int i = 0; i < 4; i++)
                if (from[i] >= 0)
                        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, HIGH_FD);
        syscall(SYS_close_range, 3, HIGH_FD - 1, 0);
        for (int i = 0; i < 4; i++)
                if (from[i] >= 0 && dup2(from[i], to[i]) < 0)
                        _exit(126);
        syscall(SYS_close_range, HIGH_FD, ~0U, 0);
        execve(SELF, argv, envp);
        _exit(127);
}

/* Only what a network client needs of the environment. */
static int role_environment(char ***ret)
{
        static const char *const names[] = { "http_proxy",    "https_proxy",  "no_proxy",
                                             "HTTP_PROXY",    "HTTPS_PROXY",  "NO_PROXY",
                                             "SSL_CERT_FILE", "SSL_CERT_DIR", "ASAN_OPTIONS",
                                             "LSAN_OPTIONS",  "UBSAN_OPTIONS" };
        int r = strv_addf(ret, "PATH=/usr/sbin:/usr/bin:/sbin:/bin");

        for (size_t i = 0; i < ELEMENTS(names) && r == 0; i++)
                if (getenv(names[i]))
                        r = strv_addf(ret, "%s=%s", names[i], getenv(names[i]));
        return r;
}

int role_spawn(const RoleSpec *spec, pid_t *ret, KlError **err)
{
        KL_AUTOSTRV argv = NULL;
        KL_AUTOSTRV envp = NULL;
        pid_t parent = getpid(), pid;
        int r = strv_add(&argv, "kubelite-image");

        if (r == 0)
                r = strv_add(&argv, spec->role);
        for (size_t i = 0; r == 0 && spec->args && spec->args[i]; i++)
                r = strv_add(&argv, spec->args[i]);
        if (r == 0)
                r = role_environment(&envp);
        if (r < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        pid = fork();
        if (pid < 0)
                return kl_error_errno(err, -errno, NULL, "start the %s process", spec->role);
        if (pid == 0)
                child_exec(spec, argv, envp, parent);
        *ret = pid;
        return 0;
}

/* --- speaking --- */

void role_send(const Buf *text)
{
        fd_write_all(STDOUT_FILENO, text->data, text->len);
}

void role_progress(uint64_t bytes)
{
        char line[32];
        int n = snprintf(line, sizeof(line), "p %llu\n", (unsigned long long)bytes);

        fd_write_all(STDOUT_FILENO, line, (size_t)n);
}

void role_error_line(const KlError *err, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        buf_add_str(to, "e ");
        jw_object(&w);
        jw_kint(&w, "code", err ? -err->code : EIO);
        jw_kstr(&w, "message", kl_error_msg(err));
        jw_end(&w);
        buf_add_char(to, '\n');
}

int role_fail(const KlError *err)
{
        KL_AUTOBUF line = BUF_INIT;

        role_error_line(err, &line);
        role_send(&line);
        return 1;
}

/* --- listening --- */

int role_decode_error(const char *json, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        const char *message;
        int64_t code;

        if (json_parse(json, strlen(json), &document, NULL) < 0)
                return kl_error(err, -EIO, NULL, "a process of kubelite-image reported nonsense");
        code = value_int(value_get(document, "code"), EIO);
        message = value_get_str(document, "message");
        if (code <= 0 || code > 4095)
                code = EIO;
        return kl_error(err, (int)-code, NULL, "%.*s", MESSAGE_MAX, message ? message : "failed");
}
