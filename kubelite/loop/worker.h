/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_LOOP_WORKER_H
#define KUBELITE_LOOP_WORKER_H

#include "loop/loop.h"

#include <stddef.h>

/*
 * Workers: child processes for whatever may block, parse hostile bytes, or is a foreign program.
 * Each has a deadline, bounded output, and a callback that comes exactly once, after its output
 * was drained and it was reaped (unless the worker is freed before: then it is killed and reaped,
 * and no callback comes).
 *
 * Two kinds: a program (fork and exec), or a function of ours run in a forked child. The daemon has
 * one thread, hence a forked child may use all of libc; it must not touch the loop or sockets of
 * its parent, and it ends with the function.
 */
typedef struct Worker Worker;

/* More at once are queued, first come first served. */
#define WORKERS_MAX 64

typedef struct WorkerResult {
        int status;      /* as of waitpid(2) */
        bool timed_out;  /* the deadline passed: it was killed */
        bool truncated;  /* it wrote more than the limit; the rest was dropped */
        const char *out; /* standard output, NUL-terminated, valid during the call */
        size_t out_len;
        const char *errors; /* standard error likewise, at most WORKER_STDERR_MAX bytes */
        size_t errors_len;
        int *passed_fds; /* that a function worker sent, in order; KL_STEAL_FD them or they are
                            closed */
        size_t n_passed_fds;
} WorkerResult;

#define WORKER_STDERR_MAX 8192
#define WORKER_FDS_MAX 2048
#define WORKER_HOLD_MIN 16

typedef void (*WorkerFunc)(Worker *worker, WorkerResult *result, void *data);

/* Runs in the child; fd_out is its result pipe (standard output). Returns the exit status 0-255. */
typedef int (*WorkerBody)(void *arg);

typedef struct WorkerSpec {
        const char *name; /* for logs; a static string */

        /* a program … */
        const char *path; /* absolute, unless a function is given */
        char *const *argv;
        char *const *envp; /* NULL: empty environment but PATH */
        /* … or a function */
        WorkerBody body;
        void *body_arg; /* must last until the worker is done: it may be queued before its fork */
        void (*free_arg)(void *arg); /* or is given away, also when the start fails */
        const int *hold_fds; /* that it uses, under the numbers that they have (copied); all from
                                WORKER_HOLD_MIN on; everything else is closed */
        size_t n_hold_fds;

        const void *input; /* standard input, copied; NULL: /dev/null */
        size_t input_len;
        int keep_fds[4]; /* given to a program as 3, 4, …, to a function from 4 on; terminated by 0
                            (unset) or -1 */
        const char *cwd;        /* NULL: / */
        size_t out_max;         /* bytes of standard output to keep */
        uint64_t deadline_ms;   /* 0 is not allowed: everything ends */
        uint64_t term_grace_ms; /* SIGTERM this long before SIGKILL; 0: SIGKILL at once */
        bool outlives_us;       /* no PDEATHSIG (CNI plugins) */
        bool own_group;         /* setsid; the deadline kills the process group */

        /* Called for each chunk instead of collecting it; may be NULL. */
        void (*on_out)(Worker *worker, const char *data, size_t len, void *data_ptr);

        WorkerFunc done;
        void *data;
} WorkerSpec;

/* Copies what it needs of the spec (argv, envp, input), not body_arg. */
int worker_start(Loop *loop, const WorkerSpec *spec, Worker **ret, KlError **err);

/* Kills (whole group if it has one), reaps, frees. One that no signal reaches, since its file
 * system hangs, is left to end by itself. */
Worker *worker_free(Worker *worker);
KL_DEFINE_CLEANUP(Worker *, worker_free);

/* 0 while it is queued. */
pid_t worker_pid(const Worker *worker);

/* Before a function worker returns: hands descriptors to its parent (WorkerResult.passed_fds). */
int worker_pass_fds(const int *fds, size_t n);

/* "exited with status 1", "was killed by signal 9 (Killed)", "did not end within 10 s". */
void worker_describe(const WorkerResult *result, uint64_t deadline_ms, char *buf, size_t size);

#endif
