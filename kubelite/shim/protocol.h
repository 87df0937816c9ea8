/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_PROTOCOL_H
#define KUBELITE_SHIM_PROTOCOL_H

#include <stdint.h>

/*
 * What the daemon and a pod's shim say to each other, on a SOCK_SEQPACKET socket.
 *
 * Every packet is a ShimHeader and one body of a fixed size, at most SHIM_PACKET_MAX together.
 * Fields are only ever appended: a receiver takes the part that it knows, zero for what is missing.
 * Strings in bodies are NUL-terminated arrays. Numbers are in the machine's own order: both ends
 * are on one kernel.
 *
 * The daemon speaks first (HELLO); the shim answers with WELCOME, SANDBOX_STATE if there is a
 * sandbox, one CONTAINER per container, LISTED. Each later request is answered by one RESULT with
 * its number; what comes of it is told by events. A new connection replaces the one before it.
 *
 * Specs (shim/record.h) travel in a sealed memfd, the first descriptor of their packet. The
 * descriptors that a spec refers to by index come before it, in as many FDS packets as needed.
 */

#define SHIM_VERSION_MIN 1U
#define SHIM_VERSION_MAX 1U

/* First line of the files that the shim writes: "<name> <schema>". */
#define SHIM_STATE_SCHEMA 1

#define SHIM_PACKET_MAX 65536U
/* Below the kernel's SCM_MAX_FD, 253. */
#define SHIM_PACKET_FDS_MAX 250U
/* One spec's descriptors in all. */
#define SHIM_SPEC_FDS_MAX 2048U
#define SHIM_SPEC_MAX (4U << 20)

#define SHIM_ID_SIZE 72U /* 64 hex and NUL, rounded */
#define SHIM_NAME_SIZE 256U
#define SHIM_TEXT_SIZE 1024U
#define SHIM_GROUPS_MAX 1024U
#define SHIM_LOG_NAME_SIZE 32U

/* Names beneath the sandbox's state directory. */
#define SHIM_SOCKET_NAME "shim.sock"
#define SHIM_IPC_PIN_NAME "ipc"
#define SHIM_UTS_PIN_NAME "uts"
#define SHIM_CONTAINERS_NAME "containers"
#define SHIM_EXIT_NAME "exit" /* containers/<id>/exit */

/* Descriptors that a new shim finds: listening socket, first connection, state directory. */
#define SHIM_LISTEN_FD 3
#define SHIM_FIRST_FD 4
#define SHIM_STATE_FD 5

typedef enum ShimType {
        /* daemon to shim */
        SHIM_HELLO = 1,  /* ShimHello */
        SHIM_FDS,        /* no body: descriptors for the next spec */
        SHIM_SANDBOX,    /* spec */
        SHIM_START,      /* spec */
        SHIM_STOP,       /* ShimStop */
        SHIM_FORGET,     /* ShimTarget: the exit is on the daemon's record; drop it */
        SHIM_EXEC,       /* spec; the request's number names the exec from now on */
        SHIM_EXEC_KILL,  /* ShimTarget.exec */
        SHIM_RESIZE,     /* ShimResize */
        SHIM_ATTACH,     /* ShimAttach, up to three descriptors */
        SHIM_REOPEN_LOG, /* ShimTarget, one descriptor: the new log file */
        SHIM_SHUTDOWN,   /* no body: kill everything, unpin, RESULT, exit */

        /* shim to daemon */
        SHIM_WELCOME = 128, /* ShimWelcome */
        SHIM_RESULT,        /* ShimResult */
        SHIM_SANDBOX_STATE, /* ShimSandboxState */
        SHIM_CONTAINER,     /* ShimContainerState */
        SHIM_LISTED,        /* no body */
        SHIM_EXEC_DONE,     /* ShimExecDone */
        SHIM_LOG_ROTATED,   /* ShimTarget: a container's log was renamed and begun anew. May be
                               missed: one is sent for several */
} ShimType;

typedef struct ShimHeader {
        uint32_t type;    /* ShimType */
        uint32_t request; /* chosen by the daemon, never 0; 0 in events */
} ShimHeader;

typedef struct ShimHello {
        uint32_t version_min, version_max;
} ShimHello;

typedef struct ShimWelcome {
        uint32_t version; /* the highest that both know; 0: none, and the connection ends */
        int32_t pid;
        int32_t log_pid; /* of the log writer; 0: none yet */
        uint32_t n_containers;
} ShimWelcome;

typedef struct ShimResult {
        int32_t code; /* 0 or negative errno */
        char message[SHIM_TEXT_SIZE];
} ShimResult;

enum { SHIM_SANDBOX_MAKING, SHIM_SANDBOX_READY, SHIM_SANDBOX_FAILED };

typedef struct ShimSandboxState {
        uint32_t state;
        int32_t code;     /* FAILED: negative errno */
        int32_t init_pid; /* of the shared pid namespace, or 0 */
        uint32_t reserved;
        char id[SHIM_ID_SIZE];
        char netns_path[SHIM_NAME_SIZE]; /* "" with the host's network */
        char message[SHIM_TEXT_SIZE];
} ShimSandboxState;

enum { SHIM_CONTAINER_CREATED, SHIM_CONTAINER_RUNNING, SHIM_CONTAINER_EXITED };

typedef struct ShimContainerState {
        char id[SHIM_ID_SIZE];
        uint32_t state;
        int32_t pid; /* in the shim's pid namespace; 0 unless running */
        int64_t created_us, started_us, finished_us; /* realtime, 0: not yet */
        int32_t exit_code; /* 128 + signal for signals; 128 if it could not be started */
        int32_t signal;
        uint32_t oom_killed;
        uint32_t start_error; /* EXITED without having run: message says why */
        int32_t error_code;   /* of a start error: negative errno */
        uint32_t uid, gid, n_groups;
        uint32_t groups[SHIM_GROUPS_MAX];
        char reason[64]; /* of a start error: "StartError", "CreateContainerError", … */
        char message[SHIM_TEXT_SIZE];
} ShimContainerState;

typedef struct ShimStop {
        char id[SHIM_ID_SIZE];
        uint64_t grace_ms; /* 0: SIGKILL at once. Asked again, the earlier end counts. */
} ShimStop;

typedef struct ShimTarget {
        char id[SHIM_ID_SIZE]; /* container */
        uint32_t exec;         /* or exec, then id is "" */
        uint32_t reserved;
} ShimTarget;

typedef struct ShimResize {
        ShimTarget target;
        uint16_t rows, columns;
        uint32_t reserved;
} ShimResize;

enum { SHIM_ATTACH_STDIN = 1, SHIM_ATTACH_STDOUT = 2, SHIM_ATTACH_STDERR = 4 };

typedef struct ShimAttach {
        char id[SHIM_ID_SIZE];
        uint32_t streams; /* SHIM_ATTACH_ bits: the descriptors of the packet, in that order */
        uint32_t reserved;
} ShimAttach;

typedef struct ShimExecDone {
        uint32_t exec;
        int32_t exit_code; /* as for containers */
        int32_t signal;
        uint32_t timed_out;
        uint32_t start_error; /* it did not run: message says why */
        int32_t error_code;
        char message[SHIM_TEXT_SIZE];
} ShimExecDone;

#endif
