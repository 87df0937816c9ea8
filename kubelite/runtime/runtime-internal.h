/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_RUNTIME_INTERNAL_H
#define KUBELITE_RUNTIME_RUNTIME_INTERNAL_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "loop/worker.h"
#include "runtime/cgroup-internal.h"
#include "runtime/document-internal.h"
#include "runtime/runtime.h"
#include "runtime/seccomp-internal.h"
#include "runtime/shim-client.h"

/*
 * The objects behind runtime.h. The Runtime owns its sandboxes, a sandbox its containers and execs.
 * Whatever frees one unlinks it everywhere; workers and requests in flight belong to the object
 * whose field holds them, and go with it.
 */

#define NETNS_DIR "/run/netns"
#define STORE_SCHEMA 1
#define BOOT_ID_SIZE 40

/* Sandboxes at once, and containers in one, dead ones included. */
#define SANDBOXES_MAX 4096
#define CONTAINERS_MAX 1024
#define EXECS_MAX 256

#define REASON_UNKNOWN "ContainerStatusUnknown"
#define MESSAGE_UNKNOWN "The container could not be located when the pod was terminated"

/* --- files.c: what a container's start does with file systems, in a worker --- */

/* Each has its place, also where there is no log; then the bind mounts. */
enum { FD_LAYERS, FD_RW, FD_LOG, FD_LOG_DIR, FD_MOUNTS };
#define FILES_FDS_MAX (FD_MOUNTS + MOUNTS_MAX)

/* Makes the files, opens the descriptors; how many, or -errno. */
int files_open(const Document *document, const char *layers_dir, const char *data_dir, int *fds,
               KlError **err);

/* --- digest.c: what a Document becomes for the shim --- */

typedef struct Digest {
        ShimStart start;
        ShimMount *mounts;
        int *fds; /* owned */
        size_t n_fds;
        char *cgroup_paths[CGROUP_HIERARCHIES_MAX];
        ShimCgroup cgroups[CGROUP_HIERARCHIES_MAX];
} Digest;

/* fds, n: of files_open; taken over. The document must outlive it. */
int digest_new(const Document *document, const CgroupTree *tree, const char *cgroup_path, int *fds,
               size_t n, Digest **ret, KlError **err);
Digest *digest_free(Digest *digest);
KL_DEFINE_CLEANUP(Digest *, digest_free);

/* Fills cgroups (CGROUP_HIERARCHIES_MAX) and paths, which are to be freed; returns how many, or
 * -ENOMEM. */
int digest_cgroups(const CgroupTree *tree, const char *path, ShimCgroup *cgroups, char **paths);

/* --- id-ranges.c --- */

/* The ids that pods' ranges are taken from, by the texts of subuid and subgid; pure. */
int ids_pool(const char *subuid, const char *subgid, uint32_t per_pod, int64_t max_pods,
             IdRange *ret, KlError **err);
int ids_read_pool(const char *etc_dir, uint32_t per_pod, int64_t max_pods, IdRange *ret,
                  KlError **err);
/* The lowest free range; -ENOSPC. Pure. */
int ids_pick(const IdRange *pool, uint32_t per_pod, const IdRange *taken, size_t n_taken,
             IdRange *ret);
/* One that no sandbox has. */
int ids_assign(const Runtime *runtime, IdRange *ret, KlError **err);

/* --- apparmor.c --- */

#define APPARMOR_NAME_MAX 1024
/* Begins to load the default profile, where there is AppArmor. */
void apparmor_load(Runtime *runtime);
/* `loaded` is the kernel's list; pure. */
bool apparmor_is_loaded(const char *loaded, const char *name);
/* -ENOENT with reason CreateContainerError for a profile that is not loaded; NULL and "" are none.
 */
int apparmor_check(const char *name, KlError **err);

/* --- store.c: records on disk --- */

typedef struct ContainerRecord {
        const char *id, *name, *image, *image_id, *image_ref, *spec_hash;
        unsigned int attempt;
        int64_t created_us;
        int64_t sandbox_attempt; /* of the sandbox that it was started in; -1: not recorded */
} ContainerRecord;

int store_write_sandbox(const char *dir, const SandboxSpec *spec, const char *boot_id,
                        KlError **err);
/* The strings are in the arena. *ret_boot_id is the one it was written under. */
int store_read_sandbox(const char *dir, Arena *arena, SandboxSpec *ret, char **ret_boot_id,
                       KlError **err);
int store_write_container(const char *dir, const ContainerRecord *record, KlError **err);
int store_read_container(const char *dir, Arena *arena, ContainerRecord *ret, KlError **err);
/* >0 (1): there is none. */
int store_read_exit(const char *dir, ShimContainerState *ret, KlError **err);
int store_write_exit(const char *dir, const ShimContainerState *state, KlError **err);

/* --- objects --- */

struct Container {
        List link;
        Sandbox *sandbox;
        Arena *arena;
        ContainerRecord record;
        char *dir; /* of its record */

        ContainerState state;
        pid_t pid;
        int64_t started_us, finished_us;
        int exit_code, signal;
        bool oom_killed, start_error;
        uint32_t uid, gid, *groups;
        size_t n_groups;
        char *reason, *message; /* of a start error and the like */

        bool known;     /* its state came from the shim or from a record */
        bool told_shim; /* START was sent */
        bool removed;   /* hidden: its remains are being removed */

        /* until START is sent */
        Document *document;
        Digest *digest;
        DocumentParts parts; /* for another runtime */
        SeccompRequest *seccomp_request;
        SeccompProgram seccomp;
        Worker *prepare_worker; /* files and control group */
        bool seccomp_ready;
        uint32_t start_request;
        bool stop_wanted;
        uint64_t stop_grace_ms;
};
typedef struct Container Container;

struct Exec {
        List link;
        Sandbox *sandbox;
        uint32_t number;
        Buf output;
        int out_fd;
        Watch *watch;
        Deferred *deferred; /* tells a failure that happened within the call */
        KlError *error;
        void (*done)(Exec *, int, bool, const char *, size_t, const KlError *, void *);
        void *data;
};

typedef enum SandboxState {
        SANDBOX_CREATING,
        SANDBOX_READY,
        SANDBOX_FAILING, /* being cleaned up after a failed start */
        SANDBOX_FAILED,
        SANDBOX_LOSING, /* what its shim left behind is being killed */
        SANDBOX_LOST,
} SandboxState;

struct Sandbox {
        Runtime *runtime;
        Arena *arena;
        SandboxSpec spec;
        char *dir, *cgroup, *netns_path;
        SandboxState state;
        bool adopting; /* not yet told to the owner */
        bool destroying;
        bool records, cleaning_records; /* remove them too: asked for, being done */
        unsigned int cleanups;          /* attempts so far */
        ShimClient *client;
        bool synced, cgroup_ready, asked, same_boot;
        pid_t init_pid; /* of the shared pid namespace, or 0 */
        uint32_t sandbox_request, shutdown_request;
        KlError *error;
        Worker *worker; /* the one blocking job at a time */
        Timer *timer;
        List containers, execs, watches;
        const SandboxEvents *events;
        void *data;
};

typedef struct GcEntry {
        List link;
        char *uid, *id; /* "" where there is no sandbox */
        char *cgroup;   /* or NULL */
        char *trees[2]; /* or NULL */
        unsigned int attempts;
} GcEntry;

struct Runtime {
        Loop *loop;
        char *state_dir, *pods_dir, *data_dir, *layers_dir, *seccomp_dir;
        CgroupTree *tree;
        SeccompCache *seccomp;
        SeccompRequest *warm[2]; /* the filters that nearly every container uses */
        int program_fd;
        char boot_id[BOOT_ID_SIZE];
        uint64_t caps_available, nofile_hard;
        Worker *apparmor_loader;
        char **handlers; /* "name=/program" */
        bool user_namespaces;
        IdRange ids; /* all that pods' ranges are taken from */
        uint32_t ids_per_pod;
        Map *sandboxes; /* by pod uid */

        Resources qos_wanted[3]; /* by QosClass */
        bool qos_pending[3];
        Worker *qos_worker;

        List gc_queue, gc_running;
        Worker *gc_worker;
        Timer *gc_timer;

        /* while adopting */
        size_t n_adopting;
        bool adopting;
        void (*found)(const AdoptedSandbox *adopted, void *data);
        void (*adopted)(void *data);
        void *adopt_data;
        Deferred *adopt_deferred;
        Worker *adopt_worker;
};

/* --- sandbox.c --- */

/* "pod=<namespace>/<name>", for logs. */
const char *sandbox_label(const Sandbox *sandbox, char *buf, size_t size);
int sandbox_new(Runtime *runtime, const SandboxSpec *spec, Sandbox **ret, KlError **err);
Sandbox *sandbox_free(Sandbox *sandbox);
KL_DEFINE_CLEANUP(Sandbox *, sandbox_free);
/* The shim is gone: kills what it left, then tells the owner. */
void sandbox_lose(Sandbox *sandbox);
/* Connects to the shim of a record, or loses the sandbox; adopt_finished follows. */
void sandbox_adopt(Sandbox *sandbox);

/* --- adopt.c --- */

/* The sandbox is connected or lost: it can be told. */
void adopt_finished(Sandbox *sandbox);
/* Stops it. */
void adopt_drop(Runtime *runtime);

/* --- sandbox-cleanup.c: function workers --- */

/* Kills everything in the pod's groups; mounts and records stay. */
int cleanup_kill_body(void *sandbox);
/* Leaves nothing of it (of the records only with `records`). */
int cleanup_all_body(void *sandbox);
#define CLEANUP_DEADLINE_MS 120000
#define CLEANUP_RETRY_FIRST_MS 200
#define CLEANUP_RETRY_LAST_MS 30000
/* A shim that does not answer is killed: at the end, or when found by a new daemon. */
#define SHUTDOWN_TIMEOUT_MS 30000
#define SYNC_TIMEOUT_MS 60000

/* --- container.c --- */

Container *container_find(const Sandbox *sandbox, const char *id);
int container_new(Sandbox *sandbox, const ContainerRecord *record, Container **ret);
Container *container_free(Container *container);
KL_DEFINE_CLEANUP(Container *, container_free);
void container_info(const Container *container, ContainerInfo *ret);
/* From the shim or from disk; tells the owner if anything changed. */
void container_update(Container *container, const ShimContainerState *state);
/* Ends it here, without the shim: writes its exit record and tells. */
void container_end(Container *container, int exit_code, const char *reason, const char *message);
/* Stops preparing its start. */
void container_cancel(Container *container);
/* Reads containers/<id>/ of a sandbox. Those without an exit record are not `known` afterwards. */
int containers_load(Sandbox *sandbox, KlError **err);
/* The shim is gone: what it put on record is read, all others that have not ended are written off
 * with exit code 137. */
void containers_write_off(Sandbox *sandbox);
/* Those that neither the shim nor a record knows were never started: forgotten. */
void containers_drop_unknown(Sandbox *sandbox);

/* --- handler.c: other OCI runtimes --- */

int handlers_copy(char *const *handlers, char ***ret, KlError **err);
/* NULL: there is none of that name. */
const char *handler_program(const Runtime *runtime, const char *name);
/* Whether a sandbox may have the handler that it asks for. */
int handler_check(const Runtime *runtime, const SandboxSpec *spec, KlError **err);
/* What such a container's document depends on besides. Strings are the arena's. */
int handler_context(const Sandbox *sandbox, const ContainerSpec *spec, Arena *arena,
                    DocumentContext *ret, KlError **err);
/* Renders the document; profile: of Localhost. */
int handler_render(Container *container, const DocumentContext *context, const char *profile,
                   size_t len, KlError **err);
/* Adds it to what the shim is told. */
void handler_digest(Container *container);

/* --- exec.c --- */

void execs_done(Sandbox *sandbox, const ShimExecDone *done);
void execs_on_result(Sandbox *sandbox, uint32_t request, const ShimResult *result);
/* The connection is gone: all end with an error. */
void execs_lost(Sandbox *sandbox);
/* Freed, and nobody is told. */
void execs_drop(Sandbox *sandbox);

/* --- gc.c: removal in the background, one worker at a time --- */

/* The strings are copied. */
void gc_add(Runtime *runtime, const char *uid, const char *id, const char *cgroup,
            const char *tree_a, const char *tree_b);
void gc_drop(Runtime *runtime);
Timer *gc_timer_new(Runtime *runtime);

#endif
