/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_LOOP_LOOP_H
#define KUBELITE_LOOP_LOOP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The one event loop of the one thread. Callbacks may create, stop and free any object, their own
 * too: what is freed is never called again, and its memory goes at the end of the turn.
 *
 * All objects are single-owner: who makes one frees it, before the loop goes.
 */
typedef struct Loop Loop;

int loop_new(Loop **ret, KlError **err);
/* All objects must have been freed. */
Loop *loop_free(Loop *loop);
KL_DEFINE_CLEANUP(Loop *, loop_free);

/* Runs until loop_stop. */
void loop_run(Loop *loop);
void loop_stop(Loop *loop);
/* One turn; waits for an event if wait. For tests. */
void loop_turn(Loop *loop, bool wait);

/* uv_loop_t *, for the rooms that give it to a library (net). */
void *loop_uv(Loop *loop);

/* --- timers: monotonic, one shot --- */

typedef struct Timer Timer;
typedef void (*TimerFunc)(Timer *timer, void *data);

/* NULL when out of memory. */
Timer *timer_new(Loop *loop, TimerFunc func, void *data);
Timer *timer_free(Timer *timer);
KL_DEFINE_CLEANUP(Timer *, timer_free);
/* (Re)starts. */
void timer_start(Timer *timer, uint64_t delay_ms);
void timer_stop(Timer *timer);
bool timer_active(const Timer *timer);

/* --- end-of-turn calls: marks that are worked off once, after all callbacks of this turn --- */

typedef struct Deferred Deferred;
typedef void (*DeferredFunc)(Deferred *deferred, void *data);

Deferred *deferred_new(Loop *loop, DeferredFunc func, void *data);
Deferred *deferred_free(Deferred *deferred);
KL_DEFINE_CLEANUP(Deferred *, deferred_free);
/* func runs once, however often it is asked for; asked for within func, it runs next turn. */
void deferred_schedule(Deferred *deferred);

/* --- file descriptors: level-triggered --- */

typedef struct Watch Watch;
enum { WATCH_READ = 1, WATCH_WRITE = 2, WATCH_HANGUP = 4, WATCH_PRI = 8 };
/* events has WATCH_ bits; on an error of the descriptor all asked-for bits are set. */
typedef void (*WatchFunc)(Watch *watch, int fd, unsigned int events, void *data);

/* fd is not owned; free the watch before closing it. */
int watch_new(Loop *loop, int fd, unsigned int events, WatchFunc func, void *data, Watch **ret);
Watch *watch_free(Watch *watch);
KL_DEFINE_CLEANUP(Watch *, watch_free);
int watch_set(Watch *watch, unsigned int events);

/* --- signals --- */

typedef struct Signal Signal;
typedef void (*SignalFunc)(Signal *signal, int signo, void *data);

int signal_new(Loop *loop, int signo, SignalFunc func, void *data, Signal **ret);
Signal *signal_free(Signal *signal);
KL_DEFINE_CLEANUP(Signal *, signal_free);

/* --- processes, by pidfd (Linux 5.3) --- */

typedef struct Child Child;
/* status as of waitpid(2). Called once; the child is reaped. */
typedef void (*ChildFunc)(Child *child, int status, void *data);

/* pid must be an unreaped child of ours. Freeing before it ended leaves it running and unreaped. */
int child_new(Loop *loop, pid_t pid, ChildFunc func, void *data, Child **ret);
Child *child_free(Child *child);
/* It is reaped when it ends, and nobody is told. */
void child_abandon(Child *child);
KL_DEFINE_CLEANUP(Child *, child_free);

/* A process that is not our child: told when it is gone, without a status. */
int process_watch_new(Loop *loop, int pidfd, WatchFunc func, void *data, Watch **ret);

#endif
