/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_RUNTIME_SHIM_CLIENT_H
#define KUBELITE_RUNTIME_SHIM_CLIENT_H

#include "base/error.h"
#include "loop/loop.h"
#include "shim/protocol.h"
#include "shim/record.h"

/*
 * The daemon's end of one shim. Nothing here blocks: requests are queued (at most
 * SHIM_CLIENT_QUEUE_MAX, then -ENOBUFS) and what comes of them is told by events, from the loop,
 * never within the call. All descriptors given are duplicated.
 */

#define SHIM_CLIENT_QUEUE_MAX 1024U

typedef struct ShimClient ShimClient;

/* Events' structs are valid during the call; the client may be freed in any of them. */
typedef struct ShimClientEvents {
        /* READY or FAILED after shim_client_sandbox; also before synced if there is a sandbox. */
        void (*sandbox)(ShimClient *client, const ShimSandboxState *state, void *data);
        /* Each change of a container; before synced once for each that exists. */
        void (*container)(ShimClient *client, const ShimContainerState *state, void *data);
        /* The hello is done and everything that the shim has was told. */
        void (*synced)(ShimClient *client, const ShimWelcome *welcome, void *data);
        /* A container's log was rotated, once or more. */
        void (*log_rotated)(ShimClient *client, const char *id, void *data);
        void (*exec_done)(ShimClient *client, const ShimExecDone *done, void *data);
        /* The answer to every request but exec's start error, which is an exec_done. code: 0 or
         * negative errno. For START 0 means that container events will follow. */
        void (*result)(ShimClient *client, uint32_t request, const ShimResult *result, void *data);
        /* The connection ended: the shim is dead or dying (or speaks no version of ours: error says
         * so). Nothing comes after it. */
        void (*lost)(ShimClient *client, const KlError *error, void *data);
} ShimClientEvents;

/*
 * The shim's program as a sealed memfd: one for all shims of this daemon, so that its pages are
 * shared and nobody can write to it through /proc/<pid>/exe. Blocks on the disk: call at start.
 */
int shim_program_open(const char *path, int *ret_fd, KlError **err);

typedef struct ShimSpawn {
        int program_fd;        /* of shim_program_open */
        const char *state_dir; /* exists, absolute; the socket and containers/ are made in it */
        const char *name;      /* shown by ps: the pod's or sandbox's id */
        int stderr_fd;         /* the shim's; -1: /dev/null */
} ShimSpawn;

/* Starts a shim and connects to it; synced follows (with no sandbox yet). */
int shim_client_spawn(Loop *loop, const ShimSpawn *spawn, const ShimClientEvents *events,
                      void *data, ShimClient **ret, KlError **err);

/* Connects to the shim of a state directory. -ENOENT or -ECONNREFUSED: there is none (any more);
 * -EPERM: the peer is not root. */
int shim_client_connect(Loop *loop, const char *state_dir, const ShimClientEvents *events,
                        void *data, ShimClient **ret, KlError **err);

/* Disconnects; the shim goes on. */
ShimClient *shim_client_free(ShimClient *client);
KL_DEFINE_CLEANUP(ShimClient *, shim_client_free);

/* The shim's pid, known from synced on (or at once if it was started by this daemon). */
pid_t shim_client_pid(const ShimClient *client);

/* Each returns the request's number (> 0) or a negative errno. */
int shim_client_sandbox(ShimClient *client, const ShimSandbox *sandbox);
int shim_client_start(ShimClient *client, const ShimStart *start);
/* Its stop signal to the first process, SIGKILL to all of its cgroup after the grace. */
int shim_client_stop(ShimClient *client, const char *id, uint64_t grace_ms);
/* Acknowledges an exit: its record goes, in memory and on disk. -EBUSY as result while it runs. */
int shim_client_forget(ShimClient *client, const char *id);
/* The number returned names the exec. */
int shim_client_exec(ShimClient *client, const ShimExec *exec);
int shim_client_exec_kill(ShimClient *client, uint32_t exec);
/* Of a container (exec 0) or an exec (id NULL). */
int shim_client_resize(ShimClient *client, const char *id, uint32_t exec, uint16_t rows,
                       uint16_t columns);
/* Descriptors: -1 for streams that are not wanted; sockets or pipes. Detached when closed. */
int shim_client_attach(ShimClient *client, const char *id, int stdin_fd, int stdout_fd,
                       int stderr_fd);
/* Log rotation: whole records go to the old file, the rest to this one. */
int shim_client_reopen_log(ShimClient *client, const char *id, int log_fd);
/* Kills all, unpins the namespaces, ends the shim: a result, then lost. */
int shim_client_shutdown(ShimClient *client);

#endif
