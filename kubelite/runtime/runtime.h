/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_RUNTIME_H
#define KUBELITE_RUNTIME_RUNTIME_H

#include "base/error.h"
#include "loop/loop.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The embedded container runtime, as the daemon sees it: sandboxes (one shim process each) and the
 * containers in them. Calls only start something; what came of it is told by SandboxEvents, from
 * the loop, never within the call. The truth lives in the shims and in <state-dir>/pods/<uid>/, so
 * that a new daemon finds everything by runtime_adopt().
 *
 * Records: a container exists from sandbox_start_container() until sandbox_remove_container(); one
 * that ended keeps its record (exit status, times), also over restarts of the daemon and after the
 * loss of its sandbox.
 */

typedef struct Runtime Runtime;
typedef struct Sandbox Sandbox;

typedef enum CgroupMode {
        CGROUP_V1,
        CGROUP_V2,
} CgroupMode;

typedef struct RuntimeOptions {
        const char *state_dir;   /* /run/kubelite */
        const char *data_dir;    /* containers' writable layers: <image-dir>/../containers */
        const char *layers_dir;  /* image_store_layers_dir() */
        const char *seccomp_dir; /* <root-dir>/seccomp: Localhost profiles */
        const char *shim_path;
        const char *cgroup_root; /* "/" or KubeletConfiguration's cgroupRoot */
        char *const *handlers;   /* other OCI runtimes, "name=/path/of/program"; NULL: none */
        bool systemd_cgroups;    /* cgroupDriver: systemd */
        uint32_t ids_per_pod;    /* of a user namespace; 0: 65536 */
        int64_t max_pods;        /* that a pool of ids must suffice for */
        const char *etc_dir;     /* of subuid and subgid; NULL: /etc */
} RuntimeOptions;

/* Makes kubepods and the QoS groups. */
int runtime_new(Loop *loop, const RuntimeOptions *options, Runtime **ret, KlError **err);
/* Disconnects; sandboxes go on. */
Runtime *runtime_free(Runtime *runtime);
KL_DEFINE_CLEANUP(Runtime *, runtime_free);
CgroupMode runtime_cgroup_mode(const Runtime *runtime);
/* Whether this machine can give pods user namespaces of their own. */
bool runtime_has_user_namespaces(void);
bool runtime_has_apparmor(void);

/* Whether a handler of that name is there; the embedded one, "", is. */
bool runtime_has_handler(const Runtime *runtime, const char *name);

/* --- resources, in the kernel's terms --- */

#define HUGEPAGES_MAX 8

typedef struct HugepageLimit {
        uint64_t page_bytes, limit_bytes;
} HugepageLimit;

typedef struct Resources {
        uint64_t cpu_shares;    /* v1 scale 2-262144; 0: unset. v2 weights are computed from it, */
        bool linear_weight;     /* on the kubelet's scale for groups of pods, not the runtimes' */
        int64_t cpu_quota_us;   /* per period; 0: none */
        uint64_t cpu_period_us; /* 0: 100000 */
        int64_t memory_bytes;   /* 0: none */
        int64_t pids;           /* 0: none */
        HugepageLimit hugepages[HUGEPAGES_MAX]; /* sizes that are not here are left alone */
        size_t n_hugepages;
        /* of containers only */
        int64_t swap_bytes;   /* beside memory; version 2 */
        bool oom_kill_single; /* not all of the container at once; version 2 */
} Resources;

typedef enum QosClass {
        QOS_GUARANTEED,
        QOS_BURSTABLE,
        QOS_BEST_EFFORT,
} QosClass;

/* Limits any group of the machine ("/system.slice"), which must exist. Blocks: for a worker. */
int runtime_limit_group(const char *group, const Resources *resources, KlError **err);

/* Of kubepods itself (QOS_GUARANTEED) or of one of its two groups; unset values are left alone. In
 * a worker; a failure is logged. */
int runtime_set_qos_resources(Runtime *runtime, QosClass qos, const Resources *resources,
                              KlError **err);

/* Pressure stall information, as Linux has it since 4.20 (groups: version 2 only). */
typedef struct CgroupPressureLine {
        double avg10, avg60, avg300; /* percent */
        uint64_t total_us;
} CgroupPressureLine;

typedef struct CgroupPressure {
        bool known;
        CgroupPressureLine some, full;
} CgroupPressure;

/* How much is read of a group: each level costs more than the one before. */
typedef enum CgroupStatsLevel {
        CGROUP_STATS_BASIC,   /* processor and memory, with swap and limits */
        CGROUP_STATS_SUMMARY, /* and processes and pressure */
        CGROUP_STATS_ALL,
        /* Or'ed to one of these: the limits of memory and swap that the result holds already are
         * kept instead of read again. */
        CGROUP_STATS_KEEP_LIMITS = 1 << 8,
} CgroupStatsLevel;

#define CGROUP_STATS_UNLIMITED UINT64_MAX

/* What a group has used; values that the kernel does not tell are 0. */
typedef struct CgroupStats {
        uint64_t cpu_usage_ns;
        uint64_t memory_usage_bytes, memory_working_set_bytes, memory_rss_bytes;
        uint64_t memory_cache_bytes, memory_mapped_bytes;
        uint64_t memory_inactive_file_bytes, memory_active_file_bytes;
        uint64_t page_faults, major_page_faults;
        uint64_t memory_limit_bytes; /* 0: none */
        uint64_t swap_usage_bytes;
        uint64_t swap_limit_bytes; /* besides memory; CGROUP_STATS_UNLIMITED: none */

        uint64_t pids;
        CgroupPressure cpu_pressure, memory_pressure, io_pressure;

        uint64_t cpu_user_ns, cpu_system_ns;
        uint64_t cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
        uint64_t cpu_shares, cpu_period_us, cpu_quota_us; /* 0: none */
        uint64_t memory_max_bytes, memory_kernel_bytes, memory_reservation_bytes;
        uint64_t memory_failures, oom_kills;
        uint64_t own_page_faults, own_major_page_faults; /* without groups beneath, if known */
        uint64_t pids_limit;                             /* 0: none */
} CgroupStats;

/* --- sandboxes --- */

typedef struct Sysctl {
        const char *name, *value;
} Sysctl;

/* Of the host, for users and groups alike; count 0: none. */
typedef struct IdRange {
        uint32_t first, count;
} IdRange;

typedef struct SandboxSpec {
        const char *id; /* 64 hex */
        const char *pod_uid, *pod_namespace, *pod_name;
        unsigned int attempt;
        const char *hostname; /* ignored with host_network */
        const char *handler;  /* name of the runtime for its containers; NULL or "": embedded */
        bool host_network, host_pid, host_ipc, share_pid;
        bool user_namespace; /* its own, with ids that sandbox_create chooses */
        IdRange ids;
        const Sysctl *sysctls;
        size_t n_sysctls;
        QosClass qos;
        Resources resources;  /* of the pod's cgroup */
        const char *log_dir;  /* /var/log/pods/<ns>_<name>_<uid> */
        int64_t pod_start_us; /* kept for whoever adopts it; 0: unknown */
} SandboxSpec;

typedef enum ContainerState {
        CONTAINER_CREATED, /* being started */
        CONTAINER_RUNNING,
        CONTAINER_EXITED,
} ContainerState;

/* What is known of a container. Borrowed; valid during the callback or until the next change. */
typedef struct ContainerInfo {
        const char *id, *name;
        unsigned int attempt;
        const char *image, *image_id, *image_ref; /* as given in the ContainerSpec */
        const char *spec_hash;
        int64_t sandbox_attempt; /* of the sandbox that it ran in; -1: unknown */
        ContainerState state;
        pid_t pid;                                   /* host pid while running */
        int64_t created_us, started_us, finished_us; /* realtime; 0: not yet */
        int exit_code; /* 128 + signal for signals, as runtimes report it */
        int signal;    /* 0, or what ended it */
        bool oom_killed;
        const char *reason;  /* "Completed", "Error", "OOMKilled", "StartError",
                                "ContainerStatusUnknown", … */
        const char *message; /* of a StartError and the like, or "" */
        uint32_t uid, gid;   /* of its first process */
        const uint32_t *groups;
        size_t n_groups;
} ContainerInfo;

typedef struct SandboxEvents {
        /* Namespaces exist; netns_path is /run/netns/<…>, or "" with the host's network. */
        void (*ready)(Sandbox *sandbox, const char *netns_path, void *data);
        /* Could not be made; everything of it is gone again but the object: sandbox_destroy ends
         * that. Reason FailedCreatePodSandBox. */
        void (*failed)(Sandbox *sandbox, const KlError *error, void *data);
        /* Running, exited or failed to start (EXITED with StartError). */
        void (*container_changed)(Sandbox *sandbox, const ContainerInfo *info, void *data);
        /* A container's log was rotated, since it was asked about or started. May be NULL. */
        void (*log_rotated)(Sandbox *sandbox, const ContainerInfo *info, void *data);
        /* A start came to nothing before the shim was asked: there never was such a container.
         * Reason CreateContainerError. May be NULL. */
        void (*container_refused)(Sandbox *sandbox, const char *id, const KlError *error,
                                  void *data);
        /* The shim is gone: all containers were killed and told as changed before. Only
         * sandbox_destroy makes sense now. */
        void (*lost)(Sandbox *sandbox, void *data);
        /* sandbox_destroy is done: no process, mount, namespace or cgroup is left. The object is
         * freed after the callback. Records of containers are kept unless they were to go too: the
         * next sandbox of the same pod has them, and so has the next daemon. */
        void (*destroyed)(Sandbox *sandbox, void *data);
} SandboxEvents;

/* -EEXIST while the pod has one that is not destroyed yet, -EAGAIN until runtime_adopt is done. */
int sandbox_create(Runtime *runtime, const SandboxSpec *spec, const SandboxEvents *events,
                   void *data, Sandbox **ret, KlError **err);
/* Kills what runs, unpins namespaces, ends the shim, removes cgroups and (with `records`) the
 * containers' records and writable layers. May be called in any state, also when lost; idempotent.
 */
void sandbox_destroy(Sandbox *sandbox, bool records);

/* Removes, in the background, what is on record of a pod whose sandbox was destroyed without its
 * records. Does nothing while the pod has a sandbox. */
void runtime_forget_pod(Runtime *runtime, const char *pod_uid);

/* Removes a file or a tree, in the background. */
void runtime_remove(Runtime *runtime, const char *path);

/* Unpins the network namespace of a sandbox whose record was lost. */
void runtime_unpin(const char *sandbox_id);

/* For what holds something of a sandbox (a socket in its network): called once, when the sandbox is
 * lost or begins to be destroyed; within it the watch is gone. */
typedef struct SandboxWatch SandboxWatch;
/* NULL when out of memory. */
SandboxWatch *sandbox_watch_new(Sandbox *sandbox, void (*ended)(void *data), void *data);
SandboxWatch *sandbox_watch_free(SandboxWatch *watch);

const char *sandbox_id(const Sandbox *sandbox);
const char *sandbox_netns(const Sandbox *sandbox);
/* for (size_t i = 0; sandbox_container_at(s, i, &info); i++) */
bool sandbox_container_at(const Sandbox *sandbox, size_t i, ContainerInfo *ret);
bool sandbox_container(const Sandbox *sandbox, const char *id, ContainerInfo *ret);

/* --- containers --- */

typedef enum MountPropagation {
        PROPAGATION_NONE,
        PROPAGATION_HOST_TO_CONTAINER,
        PROPAGATION_BIDIRECTIONAL,
} MountPropagation;

typedef struct MountSpec {
        const char
                *source; /* host path; opened by the runtime without following a last magic link */
        int source_fd;   /* or an O_PATH descriptor above 2 (source is then only for messages); 0 or
                            -1: none */
        const char *target; /* in the container; missing ones are made */
        bool read_only, recursive_read_only;
        MountPropagation propagation;
        const char *sub_path; /* beneath the source, never out of it; made if missing; or NULL */
} MountSpec;

/* A file of the node's own, made in a worker before the mounts are opened. */
typedef enum FileKind {
        FILE_TEXT,  /* with this text; replaced where it has another one */
        FILE_FRESH, /* empty, for everybody to write; not there before, and removed after a failure
                     */
        FILE_LINK,  /* a link to text, if it can be made */
} FileKind;

typedef struct FileSpec {
        FileKind kind;
        const char *path; /* missing directories are made */
        const char *text;
} FileSpec;

typedef enum SeccompKind {
        SECCOMP_UNCONFINED,
        SECCOMP_RUNTIME_DEFAULT,
        SECCOMP_LOCALHOST,
} SeccompKind;

/* The profile that the runtime loads, for RuntimeDefault. */
#define APPARMOR_DEFAULT "kubelite-default"

typedef struct RlimitSpec {
        int resource;
        uint64_t soft, hard;
} RlimitSpec;

/*
 * One container, as the pod room compiled it. runtime/ adds the defaults (mounts of /proc, /dev, …,
 * masked paths, devices, default capabilities), renders the OCI document for the record, and hands
 * the shim the pre-digested form.
 */
typedef struct ContainerSpec {
        const char *id; /* 64 hex */
        const char *name;
        unsigned int attempt;
        const char *image, *image_id, *image_ref, *spec_hash; /* kept for ContainerInfo */

        char *const *layers; /* lowest first, beneath layers_dir */
        char *const *args;   /* at least one */
        char *const *env;
        const char *cwd; /* "" means "/"; made if missing */

        /* Who: run_as_user wins over image_user; names are looked up in the container's files. */
        int64_t run_as_user, run_as_group; /* -1: unset */
        const char *image_user;            /* "", "1000", "app:staff" */
        bool run_as_non_root; /* refuse uid 0; a name that is no number is refused as upstream does
                               */
        const uint32_t *supplementary_groups;
        size_t n_supplementary_groups;
        bool strict_groups; /* supplementalGroupsPolicy: Strict: ignore /etc/group */

        bool privileged, allow_privilege_escalation, read_only_root;
        char *const *volumes; /* the image's VOLUMEs: they stay writable with read_only_root */
        char *const *cap_add, *const *cap_drop; /* "NET_ADMIN", "ALL" */
        bool unmasked_proc;
        SeccompKind seccomp;
        const char *seccomp_profile; /* Localhost: path beneath seccomp_dir */
        const char *apparmor;        /* name of a loaded profile, or NULL: none */

        const FileSpec *files;
        size_t n_files;
        const MountSpec *mounts;
        size_t n_mounts;
        const RlimitSpec *rlimits;
        size_t n_rlimits;
        Resources resources;
        int oom_score_adj;

        bool tty, stdin_open, stdin_once;
        const char *log_path;    /* CRI log file; made 0640, with its directory */
        int64_t log_max_bytes;   /* rotated before it grows beyond this; 0: never */
        const char *stop_signal; /* "" or "SIGTERM", "TERM", "15" */
        const char
                *pid_target; /* id of a running container whose pid namespace it enters, or NULL */
} ContainerSpec;

/* -EINVAL with reason CreateContainerConfigError or CreateContainerError for a spec that cannot be
 * run (bad seccomp profile, unknown capability …). What only shows when files and volumes are
 * opened, which a worker does, comes as container_refused. */
int sandbox_start_container(Sandbox *sandbox, const ContainerSpec *spec, KlError **err);

/* Stops: the container's stop signal to its first process, SIGKILL to everything in it after
 * grace_ms (0: at once). Asked again with a shorter grace, the shorter one counts. Ends in
 * container_changed. */
void sandbox_stop_container(Sandbox *sandbox, const char *id, uint64_t grace_ms);

/* Forgets an exited container: record, writable layer, cgroup. */
void sandbox_remove_container(Sandbox *sandbox, const char *id);

/* A few words of the owner's on a container's record, for what a later daemon cannot see. Written
 * to tmpfs, by rename. 0 or -errno. */
#define CONTAINER_NOTE_MAX 256
int sandbox_write_note(Sandbox *sandbox, const char *id, const char *text);
/* To be freed; NULL: there is none. */
char *sandbox_read_note(const Sandbox *sandbox, const char *id);

/* --- what is used --- */

/* Of a container, or of the whole pod (id NULL). -ENOENT for what does not run. */
int sandbox_stats(const Sandbox *sandbox, const char *id, CgroupStatsLevel level, CgroupStats *ret);
/* Of kubepods (QOS_GUARANTEED) or one of its groups. */
int runtime_qos_stats(const Runtime *runtime, QosClass qos, CgroupStatsLevel level,
                      CgroupStats *ret);
/* Of the whole machine, with the pressure of /proc/pressure. */
int runtime_machine_stats(const Runtime *runtime, CgroupStatsLevel level, CgroupStats *ret);
/* Of the daemon's own group; 1: it has none of its own. */
int runtime_self_stats(const Runtime *runtime, CgroupStatsLevel level, CgroupStats *ret);
/* The group beneath the mount point, "/kubepods/burstable/pod<uid>[/<id>]"; of the QoS group. To be
 * freed. */
char *sandbox_group(const Sandbox *sandbox, const char *id);
char *runtime_qos_group(const Runtime *runtime, QosClass qos);
/* When it was made; realtime, 0 if it is unknown. */
int64_t runtime_qos_since_us(const Runtime *runtime, QosClass qos);
/* Processes of a container. */
uint64_t sandbox_processes(const Sandbox *sandbox, const char *id);
/* What a container wrote is beneath. To be freed. */
char *runtime_container_dir(const Runtime *runtime, const char *id);

/* --- exec --- */

typedef struct Exec Exec;

typedef struct ExecSpec {
        char *const *args;
        bool tty;
        int stdin_fd, stdout_fd, stderr_fd; /* handed over (dup'ed); -1: /dev/null */
        size_t out_max;      /* instead of descriptors: collect this much of both outputs */
        uint64_t timeout_ms; /* 0: none; then everything it started is killed */
        /* exit_code as for containers; error if it could not be started; output is what was
         * collected */
        void (*done)(Exec *exec, int exit_code, bool timed_out, const char *output, size_t len,
                     const KlError *error, void *data);
        void *data;
} ExecSpec;

/* Freed after its callback; exec_kill kills it, and forgets the callback. */
int sandbox_exec(Sandbox *sandbox, const char *container_id, const ExecSpec *spec, Exec **ret,
                 KlError **err);
Exec *exec_kill(Exec *exec);
int exec_resize(Exec *exec, uint16_t rows, uint16_t columns);

/* A running container's own streams (-1: not wanted) and terminal; log rotation. 0 or -errno. */
int sandbox_attach(Sandbox *sandbox, const char *id, int stdin_fd, int stdout_fd, int stderr_fd);
int sandbox_resize(Sandbox *sandbox, const char *id, uint16_t rows, uint16_t columns);
int sandbox_reopen_log(Sandbox *sandbox, const char *id, int log_fd);

/* --- after a start of the daemon --- */

typedef struct AdoptedSandbox {
        Sandbox *sandbox;
        SandboxSpec spec; /* strings borrowed */
        bool lost;        /* its shim is gone (other boot, or killed): destroy it */
} AdoptedSandbox;

/*
 * Finds every sandbox on record, connects to its shim (cleans up after those that are gone) and
 * calls found() for each, with sandbox_set_events() expected from it; then done(). What belongs to
 * another boot id has no processes: it is reported lost, its containers with
 * ContainerStatusUnknown.
 */
int runtime_adopt(Runtime *runtime, void (*found)(const AdoptedSandbox *adopted, void *data),
                  void (*done)(void *data), void *data, KlError **err);
void sandbox_set_events(Sandbox *sandbox, const SandboxEvents *events, void *data);

#endif
