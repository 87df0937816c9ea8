/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_DOCUMENT_INTERNAL_H
#define KUBELITE_RUNTIME_DOCUMENT_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "runtime/cgroup-internal.h"
#include "runtime/runtime.h"
#include "runtime/seccomp-internal.h"
#include "shim/record.h"

/*
 * A container with all defaults filled in: what the OCI document says and what the shim is told
 * are two views of it.
 */

#define LAYERS_MAX 127
#define MOUNTS_MAX 1024
#define HOST_DEVICES_MAX 2048
#define USER_ID_MAX 2147483647

/* What the document depends on besides the container itself. */
typedef struct DocumentContext {
        const char *pod_uid, *pod_namespace, *pod_name, *sandbox_id;
        const char *hostname;
        bool host_network, host_pid, host_ipc, share_pid;
        IdRange ids; /* of the pod's user namespace; count 0: the host's */
        const char *netns_path;
        const char *cgroup_path;   /* of the container, beneath the tree's root */
        const char *cgroup_prefix; /* of that root; NULL is "" */
        uint64_t caps_available;
        uint64_t nofile_hard;
        const ShimDevice *host_devices; /* for privileged containers */
        size_t n_host_devices;
        /* For another runtime: */
        const char *bundle;              /* its directory; NULL: the embedded runtime */
        const char *ipc_path, *uts_path; /* where the pod's namespaces are pinned */
        char pid_path[48];               /* of the shared pid namespace, or "" */
} DocumentContext;

typedef struct DocumentMount {
        ShimMountKind kind;
        const char *source; /* binds */
        int source_fd;      /* owned, or -1 */
        const char *target;
        uint32_t flags;       /* SHIM_MOUNT_ */
        uint32_t propagation; /* SHIM_PROPAGATION_ */
        const char *options;
        const char *sub_path; /* or NULL */
} DocumentMount;

/* Everything is owned by the arena, but for the descriptors of mounts. */
typedef struct Document {
        Arena *arena;
        const char *id, *name;
        unsigned int attempt;
        const char *image, *image_id, *image_ref, *spec_hash;
        char **layers, **args, **env;
        const char *cwd;
        ShimUser user;
        bool privileged, no_new_privs, read_only_root;
        char **writable_paths; /* of a read-only root */
        uint64_t caps;
        SeccompKind seccomp;
        const char *seccomp_profile;
        const char *apparmor; /* "" : none */
        FileSpec *files;
        size_t n_files;
        DocumentMount *mounts;
        size_t n_mounts;
        char **masked_paths, **read_only_paths;
        ShimRlimit *rlimits;
        size_t n_rlimits;
        const ShimDevice *devices;
        size_t n_devices;
        const DeviceRule *device_rules;
        size_t n_device_rules;
        Resources resources;
        int oom_score_adj;
        bool tty, stdin_open, stdin_once;
        const char *log_path;
        int64_t log_max_bytes;
        uint32_t stop_signal;
        const char *pid_target; /* id, or "" */
} Document;

/* -EINVAL with reason CreateContainerError or CreateContainerConfigError. */
int document_new(const ContainerSpec *spec, const DocumentContext *context, Document **ret,
                 KlError **err);
Document *document_free(Document *document);
KL_DEFINE_CLEANUP(Document *, document_free);

/* The OCI runtime specification's config.json. seccomp may be NULL: then it is left out. */
int document_render(const Document *document, const DocumentContext *context,
                    const SeccompProfile *seccomp, Buf *to);

/* The same in parts, for a runtime whose process is written by the shim: see shim/record.h. */
typedef struct DocumentParts {
        char *head, *tail, *process_rest;
} DocumentParts;

int document_render_parts(const Document *document, const DocumentContext *context,
                          const SeccompProfile *seccomp, DocumentParts *ret);
void document_parts_deinit(DocumentParts *parts);

/* "SIGTERM", "term", "15", "SIGRTMIN+3"; the number, 0 for "", -EINVAL. */
int signal_from_name(const char *name);

/* The nodes beneath /dev, in the arena. */
int devices_collect(const char *dev_dir, Arena *arena, ShimDevice **ret, size_t *ret_n,
                    KlError **err);

/* Absolute, without ".", ".." and doubled slashes; NULL for what is not absolute or out of memory.
 */
char *path_clean(Arena *arena, const char *path);
/* Ids and pod uids become names of directories. */
bool id_is_valid(const char *id);
bool uid_is_valid(const char *uid);

#endif
