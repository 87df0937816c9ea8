/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The plan. A pod is in one of two modes. Running: volumes, sandbox and images are made ready side
 * by side, then the network, then containers in order. Ending: containers stop, sidecars after the
 * others and in reverse, then the network goes, the sandbox, and the volumes. A lost sandbox is
 * ended first and then made anew.
 */

#include "pod/plan.h"

#include <string.h>

static void plan_add(Plan *plan, ActionType type, size_t container)
{
        plan->actions[plan->n++] = (Action){ .type = type, .container = container };
}

static void plan_wake(Plan *plan, uint64_t at_ms)
{
        if (!plan->wake_ms || at_ms < plan->wake_ms)
                plan->wake_ms = at_ms;
}

static bool is_alive(const PlanContainer *c)
{
        return c->run == RUN_STARTING || c->run == RUN_RUNNING || c->run == RUN_STOPPING;
}

/* It has a process that can be told to stop. */
static bool is_stoppable(const PlanContainer *c)
{
        return c->run == RUN_RUNNING || (c->run == RUN_STARTING && c->in_post_start);
}

static RestartPolicy policy_of(const PlanInput *in, const PlanContainer *c)
{
        if (c->own_policy)
                return c->policy;
        if (c->kind == CONTAINER_INIT && in->restart_policy == RESTART_ALWAYS)
                return RESTART_ON_FAILURE;
        return in->restart_policy;
}

bool pod_plan_restarts(const PlanInput *in, const PlanContainer *c)
{
        return c->sidecar || restart_wanted(c->kind, policy_of(in, c), c->rule, c->exit_code);
}

static bool ended_for_good(const PlanInput *in, const PlanContainer *c)
{
        return c->run == RUN_EXITED && !pod_plan_restarts(in, c);
}

/* Once a main container was started, the init containers have done their work, even if their
 * records are gone. In a new sandbox they run again. */
static bool mains_began(const PlanInput *in)
{
        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (c->kind == CONTAINER_MAIN && c->run != RUN_NONE && !c->earlier)
                        return true;
        }
        return false;
}

static bool init_failed(const PlanInput *in, const PlanContainer *c)
{
        return c->kind == CONTAINER_INIT && !c->sidecar && c->exit_code != 0 &&
               ended_for_good(in, c);
}

/* A container ended in a way that makes all start over, and they have not yet. */
static bool restarts_all(const PlanInput *in)
{
        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (c->kind != CONTAINER_EPHEMERAL && c->run == RUN_EXITED && !c->earlier &&
                    c->rule == RULE_RESTART_ALL)
                        return true;
        }
        return false;
}

bool pod_plan_is_complete(const PlanInput *in)
{
        size_t mains = 0, ended = 0;

        if (in->finished)
                return true;
        if (restarts_all(in))
                return false;
        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (init_failed(in, c) && !mains_began(in))
                        return true;
                if (c->kind != CONTAINER_MAIN)
                        continue;
                mains++;
                ended += ended_for_good(in, c);
        }
        return mains > 0 && mains == ended;
}

/* Sidecars stop after all others have, in reverse order of their start. True while any is alive. */
static bool plan_stop_containers(const PlanInput *in, Plan *plan)
{
        bool others = false, alive = false;

        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (!is_alive(c))
                        continue;
                alive = true;
                if (c->sidecar)
                        continue;
                others = true;
                if (is_stoppable(c))
                        plan_add(plan, ACTION_STOP, i);
        }
        if (others || !alive)
                return alive;
        for (size_t i = in->n_containers; i-- > 0;) {
                const PlanContainer *c = &in->containers[i];

                if (!is_alive(c))
                        continue;
                if (is_stoppable(c))
                        plan_add(plan, ACTION_STOP, i);
                break;
        }
        return true;
}

/* Network, then sandbox. True when neither is left. */
static bool plan_clear_sandbox(const PlanInput *in, Plan *plan)
{
        if (in->sandbox == SANDBOX_CREATING || in->sandbox == SANDBOX_DESTROYING ||
            in->network == NETWORK_ADDING || in->network == NETWORK_DELETING)
                return false;
        if (in->network == NETWORK_READY) {
                plan_add(plan, ACTION_DELETE_NETWORK, 0);
                return false;
        }
        if (in->sandbox != SANDBOX_NONE) {
                plan_add(plan, ACTION_DESTROY_SANDBOX, 0);
                return false;
        }
        return true;
}

static void plan_ending(const PlanInput *in, Plan *plan)
{
        bool unused = in->sandbox == SANDBOX_READY && in->network != NETWORK_ADDING, cleared;

        /* An ending sandbox takes whatever still runs with it, but a clean stop comes first. */
        if (in->sandbox == SANDBOX_READY && plan_stop_containers(in, plan))
                return;
        cleared = plan_clear_sandbox(in, plan);
        /* After a clean stop nobody uses the volumes: they go while the network does. */
        if (!cleared && !unused)
                return;
        if (in->volumes != VOLUME_STATE_GONE && in->volumes != VOLUME_STATE_TEARING_DOWN)
                plan_add(plan, ACTION_TEARDOWN_VOLUMES, 0);
        if (cleared && in->volumes == VOLUME_STATE_GONE && in->removed)
                plan_add(plan, ACTION_FINISH, 0);
}

static bool sandbox_usable(const PlanInput *in)
{
        return in->sandbox == SANDBOX_READY && in->volumes == VOLUME_STATE_READY &&
               (in->host_network || in->network == NETWORK_READY);
}

static bool plan_image(const PlanInput *in, Plan *plan, size_t i)
{
        const PlanContainer *c = &in->containers[i];

        if (c->image == IMAGE_FAILED && c->image_retry_ms > in->now_ms) {
                plan_wake(plan, c->image_retry_ms);
                return false;
        }
        if (c->image == IMAGE_UNKNOWN || c->image == IMAGE_FAILED)
                plan_add(plan, ACTION_ENSURE_IMAGE, i);
        return c->image == IMAGE_READY;
}

/* A container that should run and does not; held: not yet. True when its start is on its way. */
static bool plan_start(const PlanInput *in, Plan *plan, size_t i, bool held)
{
        const PlanContainer *c = &in->containers[i];

        if (c->start_retry_ms > in->now_ms) {
                plan_wake(plan, c->start_retry_ms);
                if (c->run == RUN_EXITED)
                        plan_add(plan, ACTION_REPORT_BACKOFF, i);
                return false;
        }
        if (plan_image(in, plan, i) && sandbox_usable(in) && !held)
                plan_add(plan, ACTION_START, i);
        return c->image != IMAGE_FAILED;
}

/* The furthest init container that ran in this sandbox: those before it were passed. */
static size_t init_reached(const PlanInput *in)
{
        size_t reached = 0;

        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (c->kind == CONTAINER_INIT && c->run != RUN_NONE && !c->earlier)
                        reached = i;
        }
        return reached;
}

static bool init_passed(const PlanContainer *c)
{
        if (c->sidecar)
                return c->run == RUN_RUNNING && !c->starting_up;
        return c->run == RUN_EXITED && c->exit_code == 0 && !c->earlier;
}

/* True when all init containers have done what main containers wait for. Sidecars that were passed
 * are kept running beside whatever comes behind them. */
static bool plan_init(const PlanInput *in, Plan *plan)
{
        bool began = mains_began(in);
        size_t reached = init_reached(in);

        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];
                bool behind = began || i < reached;

                if (c->kind != CONTAINER_INIT)
                        continue;
                if (c->run == RUN_RUNNING && (c->outdated || c->unhealthy) && c->sidecar)
                        plan_add(plan, ACTION_STOP, i);
                if (!is_alive(c) && (c->sidecar || (!behind && !init_passed(c))))
                        plan_start(in, plan, i, false);
                if (!behind && !init_passed(c))
                        return false;
        }
        return true;
}

/* True when the containers behind it wait: its postStart hook comes first, or runs. */
static bool plan_main(const PlanInput *in, Plan *plan, size_t i, bool held)
{
        const PlanContainer *c = &in->containers[i];
        bool starting = c->run == RUN_STARTING;

        if (c->run == RUN_RUNNING && (c->outdated || c->unhealthy) && c->kind == CONTAINER_MAIN)
                plan_add(plan, ACTION_STOP, i);
        if (c->run == RUN_NONE || (c->run == RUN_EXITED && pod_plan_restarts(in, c)))
                starting = plan_start(in, plan, i, held);
        return starting && c->post_start_pending;
}

/* Nobody is asked nicely, and nothing is kept but the sandbox and the volumes (KEP-5532). */
static void plan_restart_all(const PlanInput *in, Plan *plan)
{
        bool alive = false;

        for (size_t i = 0; i < in->n_containers; i++) {
                const PlanContainer *c = &in->containers[i];

                if (c->kind == CONTAINER_EPHEMERAL || !is_alive(c))
                        continue;
                alive = true;
                if (is_stoppable(c))
                        plan_add(plan, ACTION_KILL, i);
        }
        if (!alive)
                plan_add(plan, ACTION_RESET, 0);
}

static void plan_sandbox(const PlanInput *in, Plan *plan)
{
        if (in->volumes == VOLUME_STATE_NONE || in->volumes == VOLUME_STATE_GONE)
                plan_add(plan, ACTION_SETUP_VOLUMES, 0);
        if (in->sandbox == SANDBOX_NONE) {
                if (in->sandbox_retry_ms > in->now_ms)
                        plan_wake(plan, in->sandbox_retry_ms);
                else if (!in->host_network && !in->network_available)
                        plan_add(plan, ACTION_REPORT_NO_NETWORK, 0);
                else
                        plan_add(plan, ACTION_CREATE_SANDBOX, 0);
                return;
        }
        if (in->sandbox == SANDBOX_READY && !in->host_network && in->network == NETWORK_NONE)
                plan_add(plan, ACTION_ADD_NETWORK, 0);
}

/* Ephemeral containers start whatever becomes of the init containers. */
static void plan_containers(const PlanInput *in, Plan *plan)
{
        bool held = false;

        for (size_t i = 0; i < in->n_containers; i++)
                if (in->containers[i].kind == CONTAINER_EPHEMERAL)
                        plan_main(in, plan, i, false);
        if (restarts_all(in)) {
                plan_restart_all(in, plan);
                return;
        }
        if (!plan_init(in, plan))
                return;
        for (size_t i = 0; i < in->n_containers; i++)
                if (in->containers[i].kind == CONTAINER_MAIN)
                        held |= plan_main(in, plan, i, held);
}

void pod_plan(const PlanInput *in, Plan *ret)
{
        ret->n = 0;
        ret->wake_ms = 0;
        if (in->terminating || pod_plan_is_complete(in)) {
                plan_ending(in, ret);
                return;
        }
        if (in->deadline_ms && in->now_ms >= in->deadline_ms) {
                plan_add(ret, ACTION_EXPIRE, 0);
                return;
        }
        if (in->deadline_ms)
                plan_wake(ret, in->deadline_ms);
        if (in->sandbox == SANDBOX_LOST || in->sandbox == SANDBOX_DESTROYING) {
                plan_clear_sandbox(in, ret);
                return;
        }
        plan_sandbox(in, ret);
        plan_containers(in, ret);
}
