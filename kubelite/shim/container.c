/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Containers, as the shim sees them: CREATED while its child sets itself up, RUNNING once the
 * program is executed, EXITED when the first process is gone, its cgroup is empty and its output is
 * written. The exit is on disk before it is told, and stays there and in memory until it is
 * forgotten.
 */

#include "shim/shim-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#define REASON "StartError"
#define START_ERROR_CODE 128

static int path_in_state(const Container *c, const char *name, char *buf, size_t size)
{
        int n = snprintf(buf, size, "%s/%s%s%s", SHIM_CONTAINERS_NAME, c->id, *name ? "/" : "",
                         name);

        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

Container *container_find(Shim *shim, const char *id)
{
        list_for_each (c, &shim->containers, Container, link)
                if (strcmp(c->id, id) == 0)
                        return c;
        return NULL;
}

static void close_stdio(Container *c)
{
        c->stdin_fd = kl_close(c->stdin_fd);
        if (c->err_fd != c->out_fd)
                kl_close(c->err_fd);
        c->err_fd = -1;
        c->out_fd = kl_close(c->out_fd);
        c->log_fd = kl_close(c->log_fd);
        c->log_dir_fd = kl_close(c->log_dir_fd);
}

static void container_free(Shim *shim, Container *c)
{
        list_unlink(&c->link);
        shim->n_containers--;
        source_close(shim, &c->status);
        close_stdio(c);
        kl_close(c->spec_fd);
        free(c->groups);
        free(c->reason);
        free(c->message);
        free(c);
}

void container_state(const Container *c, ShimContainerState *ret)
{
        int status = c->wait_status;

        memset(ret, 0, sizeof(*ret));
        memcpy(ret->id, c->id, sizeof(ret->id));
        ret->state = c->state;
        ret->pid = c->state == SHIM_CONTAINER_RUNNING ? c->pid : 0;
        ret->created_us = c->created_us;
        ret->started_us = c->started_us;
        ret->finished_us = c->finished_us;
        ret->uid = c->uid;
        ret->gid = c->gid;
        ret->n_groups = c->n_groups;
        if (c->n_groups)
                memcpy(ret->groups, c->groups, c->n_groups * sizeof(*c->groups));
        if (c->state != SHIM_CONTAINER_EXITED)
                return;
        ret->oom_killed = c->oom_killed;
        if (!c->started) {
                ret->start_error = 1;
                ret->exit_code = START_ERROR_CODE;
                ret->error_code = c->error_code ? c->error_code : -EIO;
                snprintf(ret->reason, sizeof(ret->reason), "%s", c->reason ? c->reason : REASON);
                snprintf(ret->message, sizeof(ret->message), "%s",
                         c->message ? c->message : "set-up of the container died");
                return;
        }
        ret->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        ret->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- the end --- */

/* The container's cgroups, as they are in its spec. */
static void with_cgroups(const Container *c, void (*func)(const ShimStart *start, void *data),
                         void *data)
{
        ShimStart start;
        Mapped mapped;

        if (spec_map(c->spec_fd, &mapped) < 0)
                return;
        if (shim_start_decode(mapped.data, mapped.len, SHIM_SPEC_FDS_MAX, &start) == 0) {
                func(&start, data);
                shim_start_deinit(&start);
        }
        spec_unmap(&mapped);
}

static const ShimCgroup *kill_group(const ShimStart *start)
{
        return cgroup_with_role(start->cgroups, start->n_cgroups,
                                SHIM_CGROUP_UNIFIED | SHIM_CGROUP_FREEZER);
}

static void kill_all(const ShimStart *start, void *data)
{
        const ShimCgroup *group = kill_group(start);
        bool *empty = data;

        /* Empty right after the kill is the common case of a pid namespace whose init is gone. */
        *empty = !group || cgroup_kill(group, NULL) == 0 || cgroup_is_empty(group, NULL);
}

static void look_back(const ShimStart *start, void *data)
{
        const ShimCgroup *group = kill_group(start);
        Container *c = data;

        c->oom_killed = cgroup_had_oom(start->cgroups, start->n_cgroups);
        if (group)
                cgroup_remove_execs(group);
}

static void write_exit(Shim *shim, const Container *c)
{
        char path[sizeof(SHIM_CONTAINERS_NAME) + SHIM_ID_SIZE + 16];
        KL_AUTOBUF text = BUF_INIT;
        ShimContainerState state;

        container_state(c, &state);
        if (shim_exit_format(&state, &text) == 0 &&
            path_in_state(c, SHIM_EXIT_NAME, path, sizeof(path)) == 0)
                (void)file_swap(shim->state_fd, path, text.data, text.len);
}

static void finish(Shim *shim, Container *c)
{
        c->log_until_ms = 0;
        c->kill_at_ms = 0;
        c->retry_at_ms = 0;
        c->state = SHIM_CONTAINER_EXITED;
        close_stdio(c);
        write_exit(shim, c);
        connection_container(shim, c);
}

/* Kills what is left; asks for its last output when nothing is. */
static void sweep(Shim *shim, Container *c, uint64_t now_ms)
{
        bool empty = true;

        with_cgroups(c, kill_all, &empty);
        /* What is still setting itself up may not be in its cgroup yet. */
        if (!c->started && c->pid > 0)
                kill(c->pid, SIGKILL);
        if (c->helper > 0)
                kill(c->helper, SIGKILL);
        if (!empty || c->pid > 0 || c->helper > 0) {
                c->retry_ms = c->retry_ms ? c->retry_ms * 2 : KILL_RETRY_MIN_MS;
                if (c->retry_ms > KILL_RETRY_MAX_MS)
                        c->retry_ms = KILL_RETRY_MAX_MS;
                c->retry_at_ms = now_ms + c->retry_ms;
                return;
        }
        c->retry_at_ms = 0;
        if (c->ended || c->state == SHIM_CONTAINER_EXITED)
                return;
        c->ended = true;
        if (c->handler)
                handler_delete(shim, c);
        if (!c->finished_us)
                c->finished_us = time_realtime_us();
        with_cgroups(c, look_back, c);
        c->log_until_ms = now_ms + LOG_END_MAX_MS;
        log_end(shim, c->channel);
}

void container_log_ended(Shim *shim, Container *c)
{
        if (c->ended && c->state != SHIM_CONTAINER_EXITED)
                finish(shim, c);
}

void container_helper_reaped(Shim *shim, Container *c)
{
        c->helper = 0;
        if (c->status.fd >= 0)
                c->status.func(shim, &c->status);
        if (c->status.fd < 0 && c->pid == 0 && (!c->started || c->finished_us))
                sweep(shim, c, time_monotonic_ms());
}

void container_reaped(Shim *shim, Container *c, int wait_status)
{
        c->pid = 0;
        c->wait_status = wait_status;
        c->finished_us = time_realtime_us();
        /* How the set-up went may be waiting still. */
        if (c->status.fd >= 0)
                c->status.func(shim, &c->status);
        if (c->status.fd < 0)
                sweep(shim, c, time_monotonic_ms());
}

static bool earlier(uint64_t *first, uint64_t at)
{
        if (at && (!*first || at < *first)) {
                *first = at;
                return true;
        }
        return false;
}

uint64_t container_tick(Shim *shim, Container *c, uint64_t now_ms)
{
        uint64_t first = 0;

        if (c->kill_at_ms && c->kill_at_ms <= now_ms) {
                c->kill_at_ms = 0;
                sweep(shim, c, now_ms);
        }
        if (c->retry_at_ms && c->retry_at_ms <= now_ms)
                sweep(shim, c, now_ms);
        if (c->log_until_ms && c->log_until_ms <= now_ms)
                finish(shim, c);
        earlier(&first, c->kill_at_ms);
        earlier(&first, c->retry_at_ms);
        earlier(&first, c->log_until_ms);
        return first;
}

/* The process that another runtime told of may be its own monitor. */
static void send_signal(Shim *shim, const Container *c, int number)
{
        if (c->handler)
                handler_signal(shim, c, number);
        else
                kill(c->pid, number);
}

void container_stop(Shim *shim, Container *c, uint64_t grace_ms)
{
        uint64_t now = time_monotonic_ms(),
                 at = grace_ms > UINT64_MAX - now ? UINT64_MAX : now + grace_ms;

        if (c->state == SHIM_CONTAINER_EXITED)
                return;
        if (grace_ms == 0) {
                c->kill_at_ms = 0;
                sweep(shim, c, now);
                return;
        }
        /* Unreaped, so the number is still this process's. */
        if (c->pid > 0 && !c->kill_at_ms)
                send_signal(shim, c, (int)(c->stop_signal ? c->stop_signal : SIGTERM));
        if (!c->kill_at_ms || at < c->kill_at_ms)
                c->kill_at_ms = at;
}

void container_forget(Shim *shim, Container *c)
{
        char path[sizeof(SHIM_CONTAINERS_NAME) + SHIM_ID_SIZE + 16];

        if (path_in_state(c, SHIM_EXIT_NAME, path, sizeof(path)) == 0)
                unlinkat(shim->state_fd, path, 0);
        if (path_in_state(c, "", path, sizeof(path)) == 0)
                unlinkat(shim->state_fd, path, AT_REMOVEDIR);
        container_free(shim, c);
}

/* --- the start --- */

static void started(Shim *shim, Container *c)
{
        source_close(shim, &c->status);
        if (c->message)
                return;
        c->started = true;
        c->started_us = time_realtime_us();
        c->state = SHIM_CONTAINER_RUNNING;
        connection_container(shim, c);
}

static void take_ids(Container *c, const Report *report)
{
        size_t n = report->n_groups > SHIM_GROUPS_MAX ? SHIM_GROUPS_MAX : report->n_groups;

        c->uid = report->uid;
        c->gid = report->gid;
        c->groups = calloc(n + 1, sizeof(*c->groups));
        if (!c->groups)
                return;
        memcpy(c->groups, report->groups, n * sizeof(*c->groups));
        c->n_groups = (uint32_t)n;
}

static void take_error(Container *c, Report *report)
{
        report->reason[sizeof(report->reason) - 1] = '\0';
        report->message[sizeof(report->message) - 1] = '\0';
        c->error_code = report->code;
        free(c->reason);
        free(c->message);
        c->reason = strdup(report->reason);
        c->message = strdup(report->message);
}

static void take_tty(Shim *shim, Container *c, int fd)
{
        kl_close(c->out_fd);
        c->out_fd = fd;
        log_add_container(shim, c);
}

/* Until the set-up executes the program, or dies. */
static void heard(Shim *shim, Source *source)
{
        Container *c = container_of(source, Container, status);
        Report report;
        int fd = -1;

        for (;;) {
                size_t n_fds;
                ssize_t n = packet_receive(source->fd, &report, sizeof(report), &fd, 1, &n_fds);

                if (n == -EAGAIN)
                        return;
                if (n != (ssize_t)sizeof(report))
                        break;
                if (report.kind == REPORT_IDS)
                        take_ids(c, &report);
                else if (report.kind == REPORT_ERROR)
                        take_error(c, &report);
                else if (report.kind == REPORT_PID)
                        c->pid = report.code;
                if (report.kind == REPORT_TTY && n_fds == 1)
                        take_tty(shim, c, fd);
                else if (n_fds == 1)
                        kl_close(fd);
        }
        /* A program that was never reached has told nothing, or its error. */
        if (!c->message && !c->groups)
                c->message = strdup("set-up of the container died");
        started(shim, c);
        if (c->message && c->pid == 0 && c->helper == 0)
                sweep(shim, c, time_monotonic_ms());
}

typedef struct Stdio {
        int child[3];
} Stdio;

static int make_pipe(int *ours, int *child, bool child_writes)
{
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *ours = fds[child_writes ? 0 : 1];
        *child = fds[child_writes ? 1 : 0];
        return 0;
}

static int make_stdio(Container *c, Stdio *stdio)
{
        int r = 0;

        if (c->tty)
                return 0;
        if (c->stdin_open)
                r = make_pipe(&c->stdin_fd, &stdio->child[0], false);
        if (r == 0)
                r = make_pipe(&c->out_fd, &stdio->child[1], true);
        if (r == 0)
                r = make_pipe(&c->err_fd, &stdio->child[2], true);
        return r;
}

typedef struct Birth {
        const ShimStart *start;
        Stdio stdio;
        int status[2];
        pid_t pid_holder;
} Birth;

/* Whose pid namespace the container enters: the pod's init, the first process of the container that
 * it names, or nobody (0). The shim has not reaped either, so neither pid can mean another. */
static pid_t pid_holder(Shim *shim, const ShimStart *start, KlError **err)
{
        const Container *target;

        if (shim->host_pid || shim->init_pid > 0)
                return shim->init_pid;
        if (str_empty(start->pid_target))
                return 0;
        target = container_find(shim, start->pid_target);
        if (!target || target->state != SHIM_CONTAINER_RUNNING || target->pid <= 0)
                return kl_error(err, -ESRCH, REASON,
                                "invalid target container: container \"%s\" is not running",
                                start->pid_target);
        return target->pid;
}

/* The pid namespace for the child: another one's is entered by the shim for this one clone. */
static pid_t fork_child(Shim *shim, const Birth *birth, uint64_t flags)
{
        const ShimStart *start = birth->start;
        const ShimCgroup *v2 = start->handler ? NULL
                                              : cgroup_with_role(start->cgroups, start->n_cgroups,
                                                                 SHIM_CGROUP_UNIFIED);
        KL_AUTOFD int group = v2 ? open(v2->path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        KL_AUTOFD int init = -1;
        pid_t pid;

        if (v2 && group < 0)
                return -errno;
        if (birth->pid_holder > 0 && !shim->user_ns && !start->handler) {
                init = sys_pidfd_open(birth->pid_holder);
                if (init < 0)
                        return init;
                if (setns(init, CLONE_NEWPID) < 0)
                        return -errno;
        }
        pid = sys_fork(flags, group);
        if (pid != 0 && init >= 0 && setns(shim->pidns_fd, CLONE_NEWPID) < 0)
                _exit(1);
        return pid;
}

static int give_birth(Shim *shim, Container *c, Birth *birth, const int *fds, size_t n_fds)
{
        uint64_t flags = 0;
        pid_t pid;

        if (!shim->user_ns && !shim->host_pid && birth->pid_holder == 0 && !birth->start->handler)
                flags |= CLONE_NEWPID;
        pid = fork_child(shim, birth, flags);
        if (pid == 0) {
                Setup setup = { .shim = shim,
                                .start = birth->start,
                                .fds = fds,
                                .n_fds = n_fds,
                                .pid_holder = birth->pid_holder,
                                .status_fd = birth->status[1],
                                .args = birth->start->args,
                                .cwd = birth->start->cwd,
                                .tty = birth->start->tty,
                                .root_fd = -1,
                                .shm_fd = -1,
                                .dev_fd = -1 };

                for (int i = 0; i < 3; i++)
                        setup.stdio[i] = birth->stdio.child[i];
                setup_container(&setup);
        }
        if (pid < 0)
                return pid;
        if (shim->user_ns || c->handler)
                c->helper = pid;
        else
                c->pid = pid;
        return 0;
}

static Container *container_new(Shim *shim, const ShimStart *start, int spec_fd)
{
        Container *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        memcpy(c->id, start->id, strlen(start->id) + 1);
        c->status.fd = c->stdin_fd = c->out_fd = c->err_fd = c->log_fd = c->log_dir_fd = -1;
        c->spec_fd = spec_fd;
        c->tty = start->tty;
        c->handler = start->handler != NULL;
        c->stdin_open = start->stdin_open;
        c->stdin_once = start->stdin_once;
        c->stop_signal = start->stop_signal < 65 ? start->stop_signal : 0;
        c->channel = ++shim->channels;
        c->created_us = time_realtime_us();
        list_append(&shim->containers, &c->link);
        shim->n_containers++;
        return c;
}

static int take_log(Container *c, const ShimStart *start, const int *fds)
{
        if (start->log_fd < 0)
                return 0;
        c->log_fd = fcntl(fds[start->log_fd], F_DUPFD_CLOEXEC, 3);
        if (c->log_fd < 0)
                return -errno;
        if (start->log_dir_fd < 0)
                return 0;
        if (!start->log_name[0] || strchr(start->log_name, '/') ||
            strlen(start->log_name) >= sizeof(c->log_name))
                return -EINVAL;
        c->log_dir_fd = fcntl(fds[start->log_dir_fd], F_DUPFD_CLOEXEC, 3);
        if (c->log_dir_fd < 0)
                return -errno;
        snprintf(c->log_name, sizeof(c->log_name), "%s", start->log_name);
        c->log_max_bytes = start->log_max_bytes;
        return 0;
}

static int start_container(Shim *shim, Container *c, const ShimStart *start, pid_t holder,
                           const int *fds, size_t n_fds)
{
        Birth birth = { .start = start,
                        .stdio = { { -1, -1, -1 } },
                        .status = { -1, -1 },
                        .pid_holder = holder };
        char path[sizeof(SHIM_CONTAINERS_NAME) + SHIM_ID_SIZE + 16];
        int r = path_in_state(c, "", path, sizeof(path));

        if (r == 0 && mkdirat(shim->state_fd, path, 0700) < 0 && errno != EEXIST)
                r = -errno;
        if (r == 0)
                r = take_log(c, start, fds);
        if (r == 0)
                r = make_stdio(c, &birth.stdio);
        if (r == 0)
                r = packet_pair(birth.status);
        if (r == 0)
                r = give_birth(shim, c, &birth, fds, n_fds);
        if (r == 0) {
                r = source_add(shim, &c->status, birth.status[0], heard);
                birth.status[0] = -1;
        }
        if (r == 0 && !c->tty)
                log_add_container(shim, c);
        for (int i = 0; i < 3; i++)
                kl_close(birth.stdio.child[i]);
        for (int i = 0; i < 2; i++)
                kl_close(birth.status[i]);
        return r;
}

int container_start(Shim *shim, int spec_fd, const int *fds, size_t n_fds, KlError **err)
{
        ShimStart start;
        Container *c = NULL;
        Mapped mapped;
        pid_t holder;
        int r;

        if (shim->sandbox_state != SHIM_SANDBOX_READY || shim->shutting_down) {
                close(spec_fd);
                return kl_error(err, -EAGAIN, REASON, "the sandbox is not ready");
        }
        if (shim->share_pid && !shim->host_pid && shim->init_pid == 0) {
                close(spec_fd);
                return kl_error(err, -ESRCH, REASON, "init of the shared pid namespace is gone");
        }
        r = spec_map(spec_fd, &mapped);
        if (r == 0) {
                r = shim_start_decode(mapped.data, mapped.len, n_fds, &start);
                if (r < 0)
                        spec_unmap(&mapped);
        }
        if (r < 0) {
                close(spec_fd);
                return kl_error_errno(err, r, REASON, "read container spec");
        }
        holder = pid_holder(shim, &start, err);
        if (holder < 0)
                r = holder;
        else if (container_find(shim, start.id))
                r = kl_error(err, -EEXIST, REASON, "there is a container '%s' already", start.id);
        else if (shim->n_containers >= CONTAINERS_MAX)
                r = kl_error(err, -EMFILE, REASON, "more than %u containers", CONTAINERS_MAX);
        else if (!(c = container_new(shim, &start, spec_fd)))
                r = kl_error_errno(err, -ENOMEM, REASON, "start container");
        if (!c)
                close(spec_fd);
        if (c) {
                r = start_container(shim, c, &start, holder, fds, n_fds);
                if (r < 0) {
                        kl_error_errno(err, r, REASON, "start container");
                        container_free(shim, c);
                }
        }
        shim_start_deinit(&start);
        spec_unmap(&mapped);
        return r;
}
