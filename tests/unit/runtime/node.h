/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_RUNTIME_NODE_H
#define KUBELITE_TESTS_RUNTIME_NODE_H

#include "runtime/runtime-internal.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#define WAIT_MS 30000

extern char base[128];
extern Loop *loop;
extern Runtime *runtime;
extern bool timed_out;
extern const SandboxEvents node_events;

typedef struct Seen {
        char id[65];
        ContainerState state;
        pid_t pid;
        int exit_code, changes;
        bool oom_killed;
        char reason[64], message[512];
        uint32_t uid, gid;
} Seen;

typedef struct Pod {
        Sandbox *sandbox;
        char uid[48], id[65];
        bool ready, failed, lost, destroyed;
        char refused[65], refusal[64]; /* a container's id, and the reason */
        char netns[PATH_MAX], error[512];
        Seen seen[16];
        size_t n_seen;
} Pod;

typedef struct Box {
        ContainerSpec spec;
        char id[65], log[PATH_MAX];
        char *args[4];
} Box;

#define WAIT_FOR(condition)                                                                        \
        do {                                                                                       \
                Timer *timer_ = timer_new(loop, on_wait_timeout, NULL);                            \
                timed_out = false;                                                                 \
                timer_start(timer_, WAIT_MS);                                                      \
                while (!(condition) && !timed_out)                                                 \
                        loop_turn(loop, true);                                                     \
                timer_free(timer_);                                                                \
                if (!(condition))                                                                  \
                        fail_msg("waited in vain for: %s", #condition);                            \
        } while (0)

void on_wait_timeout(Timer *timer, void *data);
Seen *seen_of(Pod *pod, const char *id);
void runtime_up(void);
bool gc_idle(void);
int after_each(void **state);
SandboxSpec pod_spec(Pod *pod);
void create(Pod *pod, const SandboxSpec *spec);
void up(Pod *pod);
void expect_nothing(const Pod *pod, bool records);
void down(Pod *pod);
void box_init(Box *box, const char *script);
Seen *start(Pod *pod, Box *box);
Seen *run_to_end(Pod *pod, Box *box);
char *log_of(const Box *box);
bool log_has(const Box *box, const char *text);
void expect_log(const Box *box, const char *text);
void turn(void);
bool alive(pid_t pid);
int run_on_node(const struct CMUnitTest *tests, size_t n);

#endif
