/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_RECORD_H
#define KUBELITE_SHIM_RECORD_H

#include "base/buf.h"
#include "shim/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Specs: what a sandbox, a container or an exec is to be, resolved to the last detail, and their
 * encoding as tagged fields. Unknown tags are skipped, so both ends may be newer. The encoder
 * copies all; a decoded spec borrows its strings from the encoded bytes and owns only its arrays
 * (…_deinit). Lists of strings end in NULL and are never NULL after decoding.
 *
 * Descriptors: in a spec given to the encoder they are descriptors of the caller, which keeps them;
 * the encoded form holds indexes into RecordFds. After decoding they are such indexes (-1: none).
 */

/* --- sandbox --- */

enum {
        SHIM_CGROUP_UNIFIED = 1, /* v2: everything */
        SHIM_CGROUP_MEMORY = 2,  /* v1: memory.oom_control is here */
        SHIM_CGROUP_FREEZER = 4, /* v1: freezer.state is here, exec-N are made beneath */
};

/* One directory to join. v1: one a hierarchy; v2: one. */
typedef struct ShimCgroup {
        uint32_t roles;
        const char *name; /* v1: as /proc/self/cgroup calls it ("cpu,cpuacct", "name=systemd"); v2:
                             "" */
        const char *path; /* absolute; made, limited and removed by the daemon */
} ShimCgroup;

typedef struct ShimIdMap {
        uint32_t inside, outside, count;
} ShimIdMap;

typedef struct ShimSysctl {
        const char *name, *value; /* "net.ipv4.ip_forward" or with slashes */
} ShimSysctl;

typedef struct ShimSandbox {
        const char *id;
        const char *netns_path; /* where to pin the netns; its directory is made. Unused with
                                   host_network */
        const char
                *hostname; /* unused with host_network, which keeps the host's uts namespace too */
        bool host_network, host_pid, host_ipc, share_pid;
        const ShimIdMap *uid_maps, *gid_maps; /* none: the host's user namespace */
        size_t n_uid_maps, n_gid_maps;
        const ShimSysctl *sysctls; /* after the defaults, so they win */
        size_t n_sysctls;
        const ShimCgroup *cgroups; /* pod<uid>/shim: of the shim itself, its log writer and init */
        size_t n_cgroups;
        uint64_t shm_bytes;    /* 0: 64 MiB */
        int32_t oom_score_adj; /* of the shim's processes; not permitted is no error */
} ShimSandbox;

/* --- container --- */

typedef enum ShimMountKind {
        SHIM_MOUNT_BIND, /* fd: a detached mount (open_tree with OPEN_TREE_CLONE) */
        SHIM_MOUNT_PROC,
        SHIM_MOUNT_SYSFS,
        SHIM_MOUNT_TMPFS,
        SHIM_MOUNT_DEV,    /* tmpfs with the standard nodes and links */
        SHIM_MOUNT_DEVPTS, /* new instance */
        SHIM_MOUNT_SHM,    /* the pod's, or the host's with host_ipc */
        SHIM_MOUNT_MQUEUE,
        SHIM_MOUNT_CGROUP, /* v2: one mount; v1: a tmpfs with one a hierarchy in ShimStart.cgroups
                            */
        SHIM_MOUNT_KINDS,
} ShimMountKind;

enum {
        SHIM_MOUNT_RO = 1,
        SHIM_MOUNT_RO_RECURSIVE = 2, /* fails where the kernel cannot (before 5.12) */
        SHIM_MOUNT_NOSUID = 4,
        SHIM_MOUNT_NODEV = 8,
        SHIM_MOUNT_NOEXEC = 16,
        SHIM_MOUNT_IDMAP = 32, /* BIND in a pod with a user namespace: ids as in the pod */
};

enum { SHIM_PROPAGATION_PRIVATE, SHIM_PROPAGATION_SLAVE, SHIM_PROPAGATION_SHARED };

typedef struct ShimMount {
        ShimMountKind kind;
        const char *target; /* in the container; missing ones are made, links resolved inside */
        int fd;             /* BIND, else -1 */
        uint32_t flags;
        uint32_t propagation;
        const char *options; /* of the file system: "size=1048576,mode=1777"; may be NULL */
} ShimMount;

typedef struct ShimDevice {
        const char *path; /* "/dev/fuse" */
        char type;        /* 'c', 'b' */
        uint32_t major, minor, mode, uid, gid;
} ShimDevice;

typedef struct ShimRlimit {
        uint32_t resource;
        uint64_t soft, hard; /* UINT64_MAX: none. A hard limit that may not be raised is clamped. */
} ShimRlimit;

/* Who: run_as_user wins over image_user; names are looked up beneath the container's root. */
typedef struct ShimUser {
        int64_t run_as_user, run_as_group; /* -1: unset */
        const char *image_user;            /* "", "1000", "app:staff" */
        bool non_root;                     /* uid 0 is a start error */
        bool strict_groups;                /* nothing from /etc/group */
        const uint32_t *groups;
        size_t n_groups;
} ShimUser;

typedef struct ShimStart {
        const char *id;
        char *const *args;    /* at least one; found in env's PATH if without a slash */
        char *const *env;     /* HOME is added when missing */
        const char *cwd;      /* "" is "/"; made if missing */
        const char *apparmor; /* profile that the program runs in; "": as the shim. NULL is "" */
        ShimUser user;
        uint64_t cap_bounding, cap_effective; /* 1 << CAP_X; effective is permitted too; inheritable
                                                 and ambient are always empty */
        bool no_new_privs;
        const void *seccomp; /* struct sock_filter array, or NULL */
        size_t seccomp_size; /* in bytes */
        uint32_t seccomp_flags;
        const ShimRlimit *rlimits;
        size_t n_rlimits;
        int32_t oom_score_adj; /* clamped to what is permitted */
        const ShimCgroup *cgroups;
        size_t n_cgroups;

        int layers_fd;       /* directory of the layers */
        char *const *layers; /* names beneath it, lowest first; at least one, at most 127 */
        int rw_fd;           /* directory for "upper" and "work", which are made */
        bool read_only_root;
        char *const *writable_paths; /* directories of a read-only root; NULL: none */
        const ShimMount *mounts;     /* in this order */
        size_t n_mounts;
        char *const *masked_paths, *const *read_only_paths;
        const ShimDevice *devices; /* besides the standard ones */
        size_t n_devices;

        bool tty, stdin_open, stdin_once;
        int log_fd;           /* the CRI log file, opened O_APPEND; -1: no log */
        uint32_t stop_signal; /* 0: SIGTERM */
        /* Id of a running container whose pid namespace this one enters; "" or NULL: its own. */
        const char *pid_target;

        /* Rotation: the log's directory, its name in it, and the size that it may reach. */
        int log_dir_fd;       /* -1: none */
        const char *log_name; /* "3.log"; below SHIM_LOG_NAME_SIZE */
        uint64_t log_max_bytes;

        /*
         * An OCI runtime's program, which makes the container; NULL: the embedded one does. The
         * document is config_head, the process and config_tail; the process ends in process_rest
         * (`"env":[…],"cwd":…`), which execs have too. BIND and SHM mounts are at
         * m/<index in mounts> beneath the bundle, which is the runtime's working directory.
         */
        const char *handler, *config_head, *config_tail, *process_rest;
} ShimStart;

/* --- exec: all else as the container was started --- */

typedef struct ShimExec {
        const char *container;
        char *const *args;
        char *const *extra_env; /* NULL: none */
        const char *cwd;        /* "": the container's */
        bool tty;
        int stdin_fd, stdout_fd,
                stderr_fd;   /* -1: /dev/null. With tty they are joined to the pty. */
        uint64_t timeout_ms; /* 0: none */
} ShimExec;

/* Descriptors that go with a spec; borrowed. */
typedef struct RecordFds {
        int fds[SHIM_SPEC_FDS_MAX];
        size_t n;
} RecordFds;

/* -EMSGSIZE above SHIM_SPEC_MAX or SHIM_SPEC_FDS_MAX, -ENOMEM. */
int shim_sandbox_encode(const ShimSandbox *sandbox, Buf *buf);
int shim_start_encode(const ShimStart *start, Buf *buf, RecordFds *fds);
int shim_exec_encode(const ShimExec *exec, Buf *buf, RecordFds *fds);

/* -EBADMSG for anything that is not well-formed; n_fds bounds the indexes. */
int shim_sandbox_decode(const void *data, size_t len, ShimSandbox *ret);
int shim_start_decode(const void *data, size_t len, size_t n_fds, ShimStart *ret);
int shim_exec_decode(const void *data, size_t len, size_t n_fds, ShimExec *ret);

void shim_sandbox_deinit(ShimSandbox *sandbox);
void shim_start_deinit(ShimStart *start);
void shim_exec_deinit(ShimExec *exec);

/* --- containers/<id>/exit: text, "kubelite-exit 1" and one "key value" a line --- */

int shim_exit_format(const ShimContainerState *state, Buf *buf);
/* -EBADMSG; state EXITED on success. Unknown keys are skipped. */
int shim_exit_parse(const char *text, size_t len, ShimContainerState *ret);

#endif
