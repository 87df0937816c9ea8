/* SPDX-License-Identifier: Apache-2.0 */

/* Running another plugin: configuration by memfd, so that no pipe can fill up on either side. */

#include "cni/plugins/ipam.h"

#include "base/file.h"
#include "base/str.h"
#include "cni/plugins/host-local.h"
#include "codec/json.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int find_plugin(const PluginCall *call, const char *type, char **ret, KlError **err)
{
        KL_AUTOSTRV dirs = strv_split(call->path, ':');

        if (!plugin_name_valid(type, NAME_MAX))
                return plugin_error(err, PLUGIN_CONFIG, "ipam.type is not a valid plugin name");
        if (!dirs)
                return -ENOMEM;
        for (char **dir = dirs; *dir; dir++) {
                KL_AUTOFREE char *path = str_format("%s/%s", *dir, type);
                struct stat st;

                if (!path)
                        return -ENOMEM;
                if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
                        *ret = KL_STEAL(path);
                        return 0;
                }
        }
        return plugin_error(err, PLUGIN_FAILED, "failed to find plugin \"%s\" in path [%s]", type,
                            call->path);
}

/* Whether path is the host-local in the directory of the running program. */
static bool is_our_host_local(const char *path)
{
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - sizeof("host-local"));
        struct stat a, b;
        char *slash;

        if (n <= 0)
                return false;
        self[n] = '\0';
        slash = strrchr(self, '/');
        if (!slash)
                return false;
        memcpy(slash + 1, "host-local", sizeof("host-local"));
        return stat(self, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

static int run_host_local(const PluginCall *call, const char *command, Buf *output, KlError **err)
{
        if (str_eq(command, "ADD"))
                return host_local_ops.add(call, output, err);
        if (str_eq(command, "DEL"))
                return host_local_ops.del(call, err);
        if (str_eq(command, "CHECK"))
                return host_local_ops.check(call, err);
        if (str_eq(command, "STATUS"))
                return host_local_ops.status(call, err);
        return host_local_ops.gc(call, err);
}

static int config_fd(const PluginCall *call)
{
        KL_AUTOFD int fd = memfd_create("cni-config", MFD_CLOEXEC);
        int r;

        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, call->config_text, call->config_len);
        if (r < 0)
                return r;
        return lseek(fd, 0, SEEK_SET) < 0 ? -errno : KL_STEAL_FD(fd);
}

static int spawn(const char *path, int in, int out, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        char *argv[] = { (char *)path, NULL };
        int r = posix_spawn_file_actions_init(&actions);

        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn(ret, path, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int read_output(int fd, Buf *to)
{
        for (;;) {
                char *at = buf_reserve(to, 16384);
                ssize_t n;

                if (!at)
                        return buf_error(to);
                n = read(fd, at, 16384);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                buf_commit(to, (size_t)n);
        }
}

/* A plugin that failed has said why in an error object. */
static int failure(const char *type, const Buf *output, int status, KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;
        const char *msg, *details;

        if (json_parse(buf_str(output), output->len, &v, NULL) == 0 &&
            (msg = value_get_str(v, "msg"))) {
                details = value_get_str(v, "details");
                return plugin_error(err, plugin_code_from(value_int(value_get(v, "code"), 0)),
                                    "%s%s%s", msg, str_empty(details) ? "" : "; ",
                                    details ? details : "");
        }
        if (WIFSIGNALED(status))
                return plugin_error(err, PLUGIN_FAILED, "plugin \"%s\" was killed by signal %d",
                                    type, WTERMSIG(status));
        return plugin_error(err, PLUGIN_FAILED,
                            "plugin \"%s\" failed with exit status %d and no error message", type,
                            WEXITSTATUS(status));
}

static int exec_plugin(const PluginCall *call, const char *type, const char *path,
                       const char *command, Buf *output, KlError **err)
{
        KL_AUTOFD int in = config_fd(call), out = -1;
        KL_AUTOPID pid_t pid = -1;
        int status, pipe_fds[2], r;

        if (in < 0)
                return kl_error_errno(err, in, NULL, "hand over the configuration");
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return kl_error_errno(err, -errno, NULL, "make a pipe");
        out = pipe_fds[0];
        setenv("CNI_COMMAND", command, true);
        r = spawn(path, in, pipe_fds[1], &pid);
        kl_close(pipe_fds[1]);
        if (r < 0) {
                pid = -1;
                return kl_error_errno(err, r, NULL, "run '%s'", path);
        }
        r = read_output(out, output);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read from plugin \"%s\"", type);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return kl_error_errno(err, -errno, NULL, "wait for plugin \"%s\"", type);
        pid = -1;
        return status == 0 ? 0 : failure(type, output, status, err);
}

static int delegate(const PluginCall *call, const char *type, const char *command, Buf *output,
                    KlError **err)
{
        KL_AUTOFREE char *path = NULL;
        int r = find_plugin(call, type, &path, err);

        if (r < 0)
                return r;
        if (str_eq(type, "host-local") && is_our_host_local(path))
                return run_host_local(call, command, output, err);
        return exec_plugin(call, type, path, command, output, err);
}

int ipam_add(const PluginCall *call, const char *type, Result *ret, KlError **err)
{
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTOBUF output = BUF_INIT_LIMIT(IPAM_OUTPUT_MAX);
        int r = delegate(call, type, "ADD", &output, err);

        if (r < 0)
                return r;
        r = json_parse(buf_str(&output), output.len, &v, err);
        if (r == 0)
                r = result_parse(v, call->arena, ret, err);
        if (r == 0 && ret->n_ips == 0)
                r = plugin_error(err, PLUGIN_FAILED, "IPAM plugin returned missing IP config");
        if (r < 0) {
                ipam_run(call, type, "DEL", NULL);
                return kl_error_wrap(err, r, "result of plugin \"%s\"", type);
        }
        return 0;
}

int ipam_run(const PluginCall *call, const char *type, const char *command, KlError **err)
{
        KL_AUTOBUF output = BUF_INIT_LIMIT(IPAM_OUTPUT_MAX);

        return delegate(call, type, command, &output, err);
}
