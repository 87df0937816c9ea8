/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_INTERNAL_H
#define KUBELITE_SHIM_INTERNAL_H

#include "base/error.h"
#include "base/list.h"
#include "shim/record.h"
#include "shim/user.h"

#include <sys/resource.h>
#include <sys/types.h>

/*
 * The shim's own process: one epoll loop, no threads. It keeps specs as their memfds and maps them
 * when it needs them, so that an idle shim holds next to no memory.
 */

typedef struct Shim Shim;
typedef struct Source Source;

/* A watched descriptor, embedded in its owner. func may free the owner. */
struct Source {
        void (*func)(Shim *shim, Source *source);
        int fd; /* owned; -1: none */
};

/* A spec in its memfd. */
typedef struct Mapped {
        void *data;
        size_t len;
} Mapped;

int spec_map(int fd, Mapped *ret);
void spec_unmap(Mapped *mapped);

/* Longest the exit of a container waits for its last output to be on disk. */
#define LOG_END_MAX_MS 2000U
/* Between looks at a cgroup that does not become empty; doubles. */
#define KILL_RETRY_MIN_MS 1U
#define KILL_RETRY_MAX_MS 100U
#define CONTAINERS_MAX 2048U
#define EXECS_MAX 1024U

/* What the set-up of a container or an exec tells the shim, in one packet each. */
enum { REPORT_IDS = 1, REPORT_PID, REPORT_TTY, REPORT_ERROR };

typedef struct Report {
        uint32_t kind;
        int32_t code; /* ERROR: negative errno; PID: the pid */
        uint32_t uid, gid, n_groups;
        uint32_t groups[SHIM_GROUPS_MAX];
        char reason[64];
        char message[SHIM_TEXT_SIZE];
} Report;

typedef struct Container {
        List link;
        Source status; /* of the set-up, until it executes the program */
        char id[SHIM_ID_SIZE];
        uint32_t state; /* SHIM_CONTAINER_ */
        pid_t pid;      /* first process; 0 once it is reaped */
        pid_t helper;   /* first stage of the set-up in a user namespace, or a runtime's driver */
        bool handler;   /* made by another runtime */
        int spec_fd, log_fd;
        int log_dir_fd; /* -1: the log is not rotated */
        uint64_t log_max_bytes;
        char log_name[SHIM_LOG_NAME_SIZE];
        int stdin_fd, out_fd,
                err_fd; /* our ends, kept for a new log writer; with a tty all are out_fd */
        bool tty, stdin_open, stdin_once, started, ended, oom_killed;
        bool untold; /* a change is to be sent when the connection takes it */
        bool rotation_untold;
        int wait_status;
        uint32_t stop_signal, channel;
        uint64_t kill_at_ms, retry_at_ms, log_until_ms; /* monotonic; 0: none */
        uint32_t retry_ms;
        int64_t created_us, started_us, finished_us;
        uint32_t uid, gid, n_groups, *groups;
        int error_code; /* of a start error */
        char *reason, *message;
} Container;

typedef struct Exec {
        List link;
        Source status;
        uint32_t id, channel;
        uint64_t connection; /* the one that asked; others hear nothing of it */
        char container[SHIM_ID_SIZE];
        pid_t pid;
        pid_t helper;                                  /* of another runtime: its driver */
        int master_fd, stdin_fd, stdout_fd, stderr_fd; /* only with a tty */
        bool ended, killing, timed_out, relay_ended;
        bool told; /* it is over; kept only until the connection takes that */
        bool tty;
        uint16_t rows, columns; /* asked for before the terminal was there */
        int wait_status;
        uint64_t kill_at_ms, retry_at_ms, relay_until_ms;
        int error_code;
        char *message;
} Exec;

struct Shim {
        int epoll_fd, state_fd, pidns_fd;
        const char *state_path;
        struct rlimit nofile; /* as it was found, for containers; the shim has more */
        Source listener, connection, signals, log, sandbox;
        uint64_t connections; /* counts them */
        uint32_t version;     /* 0 until hello */

        int sandbox_fd; /* spec; -1 until asked for */
        uint32_t sandbox_state, sandbox_request;
        int sandbox_code;
        char *sandbox_message, *sandbox_id, *netns_path;
        bool host_network, host_pid, host_ipc, share_pid, user_ns;
        uint32_t root_uid, root_gid;         /* on the host, of the pod's root */
        int user_fd, net_fd, ipc_fd, uts_fd; /* namespaces; -1: the host's */
        int shm_ns_fd; /* mount namespace that has nothing but the pod's shm, as its root */
        pid_t sandbox_pid, init_pid, log_pid;

        List containers, execs;
        size_t n_containers, n_execs;
        uint32_t channels;

        int *fds; /* for the next spec */
        size_t n_fds;
        /* What the connection did not take yet; no request is read before the result is out. */
        bool sandbox_untold, listed_untold, result_untold;
        uint32_t result_request;
        int result_code;
        char *result_message;
        uint32_t shutdown_request;
        bool shutting_down, done;
};

/* main.c */
int source_add(Shim *shim, Source *source, int fd, void (*func)(Shim *shim, Source *source));
void source_close(Shim *shim, Source *source);

/* connection.c */
/* Gives back the memory of the last packet. */
void connection_release(void);
void connection_accept(Shim *shim, Source *source);
int connection_open(Shim *shim, int fd);
void connection_result(Shim *shim, uint32_t request, int code, const char *message);
void connection_sandbox(Shim *shim);
void connection_container(Shim *shim, Container *container);
void connection_log_rotated(Shim *shim, Container *container);
/* False: not yet; the connection frees it when it is told. */
bool connection_exec_done(Shim *shim, const Exec *exec);
/* The connection takes more: what is untold. */
void connection_flush(Shim *shim);

/* sandbox.c */
int sandbox_start(Shim *shim, int spec_fd, uint32_t request, KlError **err);
void sandbox_stop_making(Shim *shim);
void sandbox_unpin(Shim *shim);
/* In a child: joins the pod's network, ipc and uts namespaces, as far as it has its own. */
int sandbox_join(const Shim *shim, KlError **err);
/* In a child: the pod's user namespace, as its root. */
int sandbox_join_user(const Shim *shim, KlError **err);
/* In a child: a detached mount of the pod's shm. */
int sandbox_open_shm(const Shim *shim, KlError **err);

/* pod-init.c: pid 1 of a shared pid namespace; the child's pid or a negative errno. */
pid_t pod_init_start(Shim *shim);

/* container.c */
int container_start(Shim *shim, int spec_fd, const int *fds, size_t n_fds, KlError **err);
Container *container_find(Shim *shim, const char *id);
void container_stop(Shim *shim, Container *container, uint64_t grace_ms);
void container_forget(Shim *shim, Container *container);
void container_reaped(Shim *shim, Container *container, int wait_status);
void container_helper_reaped(Shim *shim, Container *container);
void container_log_ended(Shim *shim, Container *container);
/* Works off what is due; the time of the next thing that is, or 0. */
uint64_t container_tick(Shim *shim, Container *container, uint64_t now_ms);
void container_state(const Container *container, ShimContainerState *ret);

/* exec.c */
int exec_start(Shim *shim, uint32_t id, int spec_fd, const int *fds, size_t n_fds, KlError **err);
void exec_free(Shim *shim, Exec *exec);
Exec *exec_find(Shim *shim, uint32_t id);
void exec_kill(Shim *shim, Exec *exec);
void exec_reaped(Shim *shim, Exec *exec, int wait_status);
void exec_helper_reaped(Shim *shim, Exec *exec);
void exec_relay_ended(Shim *shim, Exec *exec);
/* 0 also before its terminal is there: it gets the size when it is. */
int exec_resize(Exec *exec, uint16_t rows, uint16_t columns);
/* The connection that asked is gone: kills what still runs. */
void execs_abandon(Shim *shim);
uint64_t exec_tick(Shim *shim, Exec *exec, uint64_t now_ms);

/* log-client.c: the log writer, as the shim sees it. */
int log_start(Shim *shim);
void log_reaped(Shim *shim);
void log_add_container(Shim *shim, Container *container);
void log_add_exec(Shim *shim, Exec *exec);
void log_end(Shim *shim, uint32_t channel);
int log_attach(Shim *shim, const Container *container, uint32_t streams, const int *fds,
               size_t n_fds);
int log_reopen(Shim *shim, Container *container, int log_fd);
/* log-writer.c: its process. */
_Noreturn void log_writer_main(int control_fd);

/* cgroup.c */
/* Moves the caller into all of them. */
int cgroup_attach(const ShimCgroup *cgroups, size_t n, KlError **err);
const ShimCgroup *cgroup_with_role(const ShimCgroup *cgroups, size_t n, uint32_t role);
/* SIGKILLs all beneath `path` (of the unified or freezer hierarchy) once. 0: it was empty. */
int cgroup_kill(const ShimCgroup *cgroup, const char *sub);
bool cgroup_is_empty(const ShimCgroup *cgroup, const char *sub);
bool cgroup_had_oom(const ShimCgroup *cgroups, size_t n);
/* Removes the exec groups beneath a container's. */
void cgroup_remove_execs(const ShimCgroup *cgroup);

/* --- in the children that become containers and execs --- */

typedef struct Setup {
        const Shim *shim;
        const ShimStart *start;
        const int *fds; /* that the spec refers to */
        size_t n_fds;
        int status_fd;
        pid_t pid_holder;  /* a start: whose pid namespace it enters, or 0 */
        int stdio[3];      /* -1: /dev/null; with a tty all come from the pty */
        char *const *args; /* of the start or the exec */
        const char *cwd;
        bool tty;
        ResolvedUser user;
        char **env;
        /* on the way */
        int root_fd, shm_fd, dev_fd;
} Setup;

/* setup.c */
_Noreturn void setup_container(Setup *setup);
_Noreturn void setup_exec(Setup *setup, const ShimExec *exec, int pidfd, const char *exec_cgroup);
int report_send(int status_fd, const Report *report, int fd);
_Noreturn void setup_fail(const Setup *setup, int code, KlError *err);
/* setup-root.c */
/* Leaves the host's mount namespace for a copy, too. */
int setup_overlay(Setup *setup, KlError **err);
int setup_attach_root(Setup *setup, KlError **err);
int setup_pivot(Setup *setup, KlError **err);
/* setup-mount.c */
int setup_idmap(Setup *setup, KlError **err);
int setup_mounts(Setup *setup, KlError **err);
int setup_target(int root_fd, const char *path, bool dir, bool follow, KlError **err);
/* A new file system as a detached mount; options "a=b,c" or NULL. */
int setup_new_mount(const char *type, const char *options, unsigned int attr, KlError **err);
int setup_read_only(int mount_fd);
/* setup-dev.c */
int setup_dev(Setup *setup, const ShimMount *mount, KlError **err);
/* A pty of the devpts at /dev/pts, checked to be one. */
int setup_pty(int root_fd, int *ret_master, int *ret_slave, KlError **err);
int setup_console(Setup *setup, int slave, KlError **err);
/* setup-run.c */
_Noreturn void setup_run(Setup *setup);
int setup_report_ids(const Setup *setup);
/* The working directory, if it is missing; in vain on a read-only root. */
void setup_make_cwd(const Setup *setup);

/* handler.c */
/* In a child, instead of the set-up: has another runtime make the container, or an exec in it. */
_Noreturn void handler_container(Setup *setup);
_Noreturn void handler_exec(Setup *setup, const char *name);
/* In the background. */
void handler_signal(Shim *shim, const Container *container, int number);
void handler_delete(Shim *shim, const Container *container);

/* The outside id of an inside one, by the pod's maps; the same without a user namespace. */
uint32_t map_id(const ShimIdMap *maps, size_t n, uint32_t inside);

#endif
