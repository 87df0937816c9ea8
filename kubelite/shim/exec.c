/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Commands in running containers. Each has a cgroup of its own beneath the container's,
 * exec-<number>, that is killed when its time is over. Its standard streams are the descriptors
 * given, so its bytes go straight to the daemon; with a terminal the log writer carries them
 * between those and the pty. What a command leaves running when it ends belongs to the container.
 */

#include "shim/shim-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#define REASON "StartError"
#define GROUP_NAME_SIZE 24

Exec *exec_find(Shim *shim, uint32_t id)
{
        list_for_each (e, &shim->execs, Exec, link)
                if (e->id == id && e->connection == shim->connections)
                        return e;
        return NULL;
}

static void group_name(const Exec *e, char name[static GROUP_NAME_SIZE])
{
        /* The channel: requests' numbers begin again with each connection. */
        snprintf(name, GROUP_NAME_SIZE, "exec-%u", e->channel);
}

void exec_free(Shim *shim, Exec *e)
{
        list_unlink(&e->link);
        shim->n_execs--;
        source_close(shim, &e->status);
        kl_close(e->master_fd);
        kl_close(e->stdin_fd);
        kl_close(e->stdout_fd);
        kl_close(e->stderr_fd);
        free(e->message);
        free(e);
}

/* In the exec's group: remove it, or kill what is in it. True when nothing is left. */
static bool in_group(Shim *shim, const Exec *e, bool kill_them)
{
        Container *c = container_find(shim, e->container);
        char name[GROUP_NAME_SIZE];
        const ShimCgroup *group;
        bool empty = true;
        ShimStart start;
        Mapped mapped;

        group_name(e, name);
        if (!c || spec_map(c->spec_fd, &mapped) < 0)
                return true;
        if (shim_start_decode(mapped.data, mapped.len, SHIM_SPEC_FDS_MAX, &start) == 0) {
                group = cgroup_with_role(start.cgroups, start.n_cgroups,
                                         SHIM_CGROUP_UNIFIED | SHIM_CGROUP_FREEZER);
                if (group && kill_them)
                        empty = cgroup_kill(group, name) == 0 || cgroup_is_empty(group, name);
                if (group && empty) {
                        KL_AUTOFD int dir = open(group->path, O_PATH | O_DIRECTORY | O_CLOEXEC);

                        unlinkat(dir, name, AT_REMOVEDIR);
                }
                shim_start_deinit(&start);
        }
        spec_unmap(&mapped);
        return empty;
}

static void done(Shim *shim, Exec *e)
{
        in_group(shim, e, false);
        e->told = true;
        if (connection_exec_done(shim, e))
                exec_free(shim, e);
}

/* The command itself is reaped: with a terminal its last output comes first. */
static void maybe_done(Shim *shim, Exec *e)
{
        if (e->pid > 0 || e->helper > 0 || e->status.fd >= 0 || (e->killing && e->retry_at_ms))
                return;
        if (e->master_fd >= 0 && !e->relay_ended) {
                if (!e->ended) {
                        e->relay_until_ms = time_monotonic_ms() + LOG_END_MAX_MS;
                        log_end(shim, e->channel);
                }
                e->ended = true;
                return;
        }
        done(shim, e);
}

static void sweep(Shim *shim, Exec *e, uint64_t now_ms)
{
        bool empty = in_group(shim, e, true);

        /* In the group or not yet: it is ours, and not reaped. */
        if (e->pid > 0)
                kill(e->pid, SIGKILL);
        if (e->helper > 0)
                kill(e->helper, SIGKILL);
        e->retry_at_ms = empty ? 0 : now_ms + KILL_RETRY_MIN_MS;
}

void exec_kill(Shim *shim, Exec *e)
{
        e->killing = true;
        sweep(shim, e, time_monotonic_ms());
}

int exec_resize(Exec *e, uint16_t rows, uint16_t columns)
{
        struct winsize size = { .ws_row = rows, .ws_col = columns };

        if (!e->tty)
                return -ENOTTY;
        e->rows = rows;
        e->columns = columns;
        if (e->master_fd < 0)
                return 0;
        return ioctl(e->master_fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

/* Nobody will hear of them, nor read what they write. */
void execs_abandon(Shim *shim)
{
        list_for_each (e, &shim->execs, Exec, link)
                if (e->told)
                        exec_free(shim, e);
                else if (!e->killing)
                        exec_kill(shim, e);
}

void exec_relay_ended(Shim *shim, Exec *e)
{
        e->relay_ended = true;
        maybe_done(shim, e);
}

void exec_reaped(Shim *shim, Exec *e, int wait_status)
{
        e->pid = 0;
        e->wait_status = wait_status;
        e->kill_at_ms = 0;
        if (e->status.fd >= 0) {
                e->status.func(shim, &e->status);
                return;
        }
        maybe_done(shim, e);
}

void exec_helper_reaped(Shim *shim, Exec *e)
{
        e->helper = 0;
        if (e->status.fd >= 0)
                e->status.func(shim, &e->status);
        else
                maybe_done(shim, e);
}

uint64_t exec_tick(Shim *shim, Exec *e, uint64_t now_ms)
{
        if (e->told)
                return 0;
        if (e->kill_at_ms && e->kill_at_ms <= now_ms) {
                e->kill_at_ms = 0;
                e->timed_out = true;
                exec_kill(shim, e);
        }
        if (e->retry_at_ms && e->retry_at_ms <= now_ms) {
                sweep(shim, e, now_ms);
                if (!e->retry_at_ms && e->pid == 0) {
                        maybe_done(shim, e);
                        return now_ms;
                }
        }
        if (e->relay_until_ms && e->relay_until_ms <= now_ms) {
                e->relay_ended = true;
                done(shim, e);
                return 0;
        }
        return e->kill_at_ms ? e->kill_at_ms : e->retry_at_ms ? e->retry_at_ms : e->relay_until_ms;
}

static void heard(Shim *shim, Source *source)
{
        Exec *e = container_of(source, Exec, status);
        Report report;
        int fd = -1;

        for (;;) {
                size_t n_fds;
                ssize_t n = packet_receive(source->fd, &report, sizeof(report), &fd, 1, &n_fds);

                if (n == -EAGAIN)
                        return;
                if (n != (ssize_t)sizeof(report))
                        break;
                if (report.kind == REPORT_ERROR && !e->message) {
                        report.message[sizeof(report.message) - 1] = '\0';
                        e->message = strdup(report.message);
                        e->error_code = report.code;
                }
                if (report.kind == REPORT_PID)
                        e->pid = report.code;
                if (report.kind == REPORT_TTY && n_fds == 1 && e->master_fd < 0) {
                        e->master_fd = fd;
                        if (e->rows || e->columns)
                                exec_resize(e, e->rows, e->columns);
                        log_add_exec(shim, e);
                } else if (n_fds == 1) {
                        kl_close(fd);
                }
        }
        source_close(shim, source);
        maybe_done(shim, e);
}

static int make_group(const ShimStart *start, const Exec *e, int *ret_fd)
{
        const ShimCgroup *group = cgroup_with_role(start->cgroups, start->n_cgroups,
                                                   SHIM_CGROUP_UNIFIED | SHIM_CGROUP_FREEZER);
        KL_AUTOFD int dir = group ? open(group->path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        char name[GROUP_NAME_SIZE];

        *ret_fd = -1;
        if (!group)
                return 0;
        group_name(e, name);
        if (dir < 0 || (mkdirat(dir, name, 0755) < 0 && errno != EEXIST))
                return -errno;
        if (!(group->roles & SHIM_CGROUP_UNIFIED))
                return 0;
        *ret_fd = openat(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return *ret_fd < 0 ? -errno : 0;
}

static void take_stdio(Setup *setup, const ShimExec *exec, const int *fds)
{
        setup->stdio[0] = exec->stdin_fd < 0 ? -1 : fds[exec->stdin_fd];
        setup->stdio[1] = exec->stdout_fd < 0 ? -1 : fds[exec->stdout_fd];
        setup->stdio[2] = exec->stderr_fd < 0 ? -1 : fds[exec->stderr_fd];
}

static pid_t fork_exec(Shim *shim, Exec *e, const ShimStart *start, const ShimExec *exec,
                       pid_t target, const int *fds, int status_fd)
{
        KL_AUTOFD int pidfd = sys_pidfd_open(target), group = -1;
        char name[GROUP_NAME_SIZE];
        pid_t pid;
        int r;

        if (pidfd < 0)
                return KL_STEAL_FD(pidfd);
        r = make_group(start, e, &group);
        if (r < 0)
                return r;
        if (setns(pidfd, CLONE_NEWPID) < 0)
                return -errno;
        pid = sys_fork(0, group);
        if (pid == 0) {
                Setup setup = { .shim = shim,
                                .start = start,
                                .status_fd = status_fd,
                                .args = exec->args,
                                .cwd = *exec->cwd ? exec->cwd : start->cwd,
                                .tty = exec->tty,
                                .root_fd = -1,
                                .shm_fd = -1,
                                .dev_fd = -1 };

                take_stdio(&setup, exec, fds);
                group_name(e, name);
                setup_exec(&setup, exec, pidfd, name);
        }
        if (setns(shim->pidns_fd, CLONE_NEWPID) < 0)
                _exit(1);
        return pid;
}

/* The runtime joins what there is to join. */
static pid_t fork_handler(Shim *shim, Exec *e, const Container *c, const ShimStart *start,
                          const ShimExec *exec, const int *fds, int status_fd)
{
        char name[GROUP_NAME_SIZE];
        pid_t pid = sys_fork(0, -1);

        if (pid == 0) {
                Setup setup = { .shim = shim,
                                .start = start,
                                .status_fd = status_fd,
                                .args = exec->args,
                                .tty = exec->tty,
                                .user = { .uid = c->uid, .gid = c->gid, .n_groups = c->n_groups },
                                .root_fd = -1,
                                .shm_fd = -1,
                                .dev_fd = -1 };

                memcpy(setup.user.groups, c->groups, c->n_groups * sizeof(*c->groups));
                take_stdio(&setup, exec, fds);
                group_name(e, name);
                handler_exec(&setup, name);
        }
        return pid;
}

static int keep(const int *fds, int index)
{
        return index < 0 ? -1 : fcntl(fds[index], F_DUPFD_CLOEXEC, 3);
}

static int start_exec(Shim *shim, uint32_t id, Container *c, const ShimStart *start,
                      const ShimExec *exec, const int *fds)
{
        Exec *e = calloc(1, sizeof(*e));
        int pair[2], r;

        if (!e)
                return -ENOMEM;
        e->status.fd = e->master_fd = e->stdin_fd = e->stdout_fd = e->stderr_fd = -1;
        e->id = id;
        e->connection = shim->connections;
        e->channel = ++shim->channels;
        memcpy(e->container, c->id, sizeof(e->container));
        list_append(&shim->execs, &e->link);
        shim->n_execs++;
        e->tty = exec->tty;
        if (exec->tty) {
                e->stdin_fd = keep(fds, exec->stdin_fd);
                e->stdout_fd = keep(fds, exec->stdout_fd);
        }
        r = packet_pair(pair);
        if (r == 0) {
                pid_t pid = start->handler ? fork_handler(shim, e, c, start, exec, fds, pair[1])
                                           : fork_exec(shim, e, start, exec, c->pid, fds, pair[1]);

                *(start->handler ? &e->helper : &e->pid) = pid;
                close(pair[1]);
                r = pid < 0 ? pid : source_add(shim, &e->status, pair[0], heard);
                if (pid < 0)
                        close(pair[0]);
        }
        if (r < 0) {
                e->pid = e->helper = 0;
                exec_free(shim, e);
                return r;
        }
        if (exec->timeout_ms)
                e->kill_at_ms = time_monotonic_ms() + exec->timeout_ms;
        return 0;
}

static int with_container(Shim *shim, uint32_t id, const ShimExec *exec, const int *fds,
                          KlError **err)
{
        Container *c = container_find(shim, exec->container);
        ShimStart start;
        Mapped mapped;
        int r;

        if (!c)
                return kl_error(err, -ENOENT, REASON, "there is no container '%.80s'",
                                exec->container);
        if (c->state != SHIM_CONTAINER_RUNNING || c->pid == 0)
                return kl_error(err, -ESRCH, REASON, "container '%s' is not running", c->id);
        if (shim->n_execs >= EXECS_MAX)
                return kl_error(err, -EMFILE, REASON, "more than %u commands in one pod",
                                EXECS_MAX);
        r = spec_map(c->spec_fd, &mapped);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "read container spec");
        r = shim_start_decode(mapped.data, mapped.len, SHIM_SPEC_FDS_MAX, &start);
        if (r == 0) {
                r = start_exec(shim, id, c, &start, exec, fds);
                shim_start_deinit(&start);
        }
        spec_unmap(&mapped);
        return r < 0 ? kl_error_errno(err, r, REASON, "start command") : 0;
}

int exec_start(Shim *shim, uint32_t id, int spec_fd, const int *fds, size_t n_fds, KlError **err)
{
        KL_AUTOFD int spec = spec_fd;
        ShimExec exec;
        Mapped mapped;
        int r;

        r = spec_map(spec, &mapped);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "read exec spec");
        r = shim_exec_decode(mapped.data, mapped.len, n_fds, &exec);
        if (r < 0) {
                spec_unmap(&mapped);
                return kl_error_errno(err, r, REASON, "read exec spec");
        }
        r = with_container(shim, id, &exec, fds, err);
        shim_exec_deinit(&exec);
        spec_unmap(&mapped);
        return r;
}
