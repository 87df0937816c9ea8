/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of a sandbox.
 *
 *     CREATING -> READY -> LOSING -> LOST          its shim died
 *        |
 *        +-> FAILING -> FAILED                     it could not be made
 *
 * `destroying` may be set in any of them; then the shim is asked to end (it kills and unpins), a
 * worker removes what is left, and the owner is told `destroyed`. That path is the same for one
 * that failed. There is one blocking job at a time, in `worker`.
 *
 * Owners are told from callbacks of the loop only. They may call anything of runtime.h in there:
 * nothing is freed before `destroyed`.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <assert.h>
#include <signal.h>

static const ShimClientEvents shim_events;

const char *sandbox_label(const Sandbox *s, char *buf, size_t size)
{
        snprintf(buf, size, "pod=%s/%s", s->spec.pod_namespace, s->spec.pod_name);
        return buf;
}

#define LABEL_SIZE 512

/* --- object --- */

static int copy_sysctls(Arena *arena, const SandboxSpec *from, SandboxSpec *to)
{
        Sysctl *copy = ARENA_ARRAY(arena, from->n_sysctls + 1, Sysctl);

        for (size_t i = 0; copy && i < from->n_sysctls; i++) {
                copy[i].name = arena_strdup(arena, from->sysctls[i].name);
                copy[i].value = arena_strdup(arena, from->sysctls[i].value);
                if (!copy[i].name || !copy[i].value)
                        return -ENOMEM;
        }
        to->sysctls = copy;
        return copy ? 0 : -ENOMEM;
}

static const char *copy_text(Arena *arena, const char *text)
{
        return arena_strdup(arena, text ? text : "");
}

static int copy_spec(Arena *arena, const SandboxSpec *from, SandboxSpec *to)
{
        *to = *from;
        to->id = copy_text(arena, from->id);
        to->pod_uid = copy_text(arena, from->pod_uid);
        to->pod_namespace = copy_text(arena, from->pod_namespace);
        to->pod_name = copy_text(arena, from->pod_name);
        to->hostname = copy_text(arena, from->hostname);
        to->handler = copy_text(arena, from->handler);
        to->log_dir = copy_text(arena, from->log_dir);
        return to->id && to->pod_uid && to->pod_namespace && to->pod_name && to->hostname &&
                               to->handler && to->log_dir
                       ? copy_sysctls(arena, from, to)
                       : -ENOMEM;
}

/* --- those who want to know of its end --- */

struct SandboxWatch {
        List link;
        void (*ended)(void *data);
        void *data;
};

SandboxWatch *sandbox_watch_new(Sandbox *s, void (*ended)(void *data), void *data)
{
        SandboxWatch *watch = calloc(1, sizeof(*watch));

        if (!watch)
                return NULL;
        *watch = (SandboxWatch){ .ended = ended, .data = data };
        list_append(&s->watches, &watch->link);
        return watch;
}

SandboxWatch *sandbox_watch_free(SandboxWatch *watch)
{
        if (watch)
                list_unlink(&watch->link);
        free(watch);
        return NULL;
}

static void tell_watches(Sandbox *s)
{
        while (!list_empty(&s->watches)) {
                SandboxWatch *watch = list_first(&s->watches, SandboxWatch, link);
                void (*ended)(void *data) = watch->ended;
                void *data = watch->data;

                sandbox_watch_free(watch);
                ended(data);
        }
}

int sandbox_new(Runtime *runtime, const SandboxSpec *spec, Sandbox **ret, KlError **err)
{
        KL_AUTO(sandbox_free) Sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        s->runtime = runtime;
        list_init(&s->containers);
        list_init(&s->execs);
        list_init(&s->watches);
        s->arena = arena_new();
        if (!s->arena || copy_spec(s->arena, spec, &s->spec) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        s->dir = str_format("%s/%s", runtime->pods_dir, s->spec.pod_uid);
        s->cgroup = cgroup_pod_path(s->spec.qos, s->spec.pod_uid);
        s->netns_path = spec->host_network ? strdup("") : str_format(NETNS_DIR "/%s", s->spec.id);
        if (!s->dir || !s->cgroup || !s->netns_path ||
            map_set(runtime->sandboxes, s->spec.pod_uid, s) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(s);
        return 0;
}

Sandbox *sandbox_free(Sandbox *s)
{
        if (!s)
                return NULL;
        execs_drop(s);
        tell_watches(s);
        if (s->spec.pod_uid && map_get(s->runtime->sandboxes, s->spec.pod_uid) == s)
                map_take(s->runtime->sandboxes, s->spec.pod_uid);
        list_for_each (c, &s->containers, Container, link)
                container_free(c);
        worker_free(s->worker);
        timer_free(s->timer);
        shim_client_free(s->client);
        kl_error_free(s->error);
        free(s->dir);
        free(s->cgroup);
        free(s->netns_path);
        arena_free(s->arena);
        free(s);
        return NULL;
}

const char *sandbox_id(const Sandbox *s)
{
        return s->spec.id;
}

const char *sandbox_netns(const Sandbox *s)
{
        return s->netns_path;
}

void sandbox_set_events(Sandbox *s, const SandboxEvents *events, void *data)
{
        s->events = events;
        s->data = data;
}

static int run_worker(Sandbox *s, const char *name, WorkerBody body, WorkerFunc done)
{
        WorkerSpec spec = {
                .name = name,
                .body = body,
                .body_arg = s,
                .deadline_ms = CLEANUP_DEADLINE_MS,
                .done = done,
                .data = s,
        };

        assert(!s->worker);
        return worker_start(s->runtime->loop, &spec, &s->worker, NULL);
}

/* --- the end: shut down, clean up, tell --- */

static void teardown(Sandbox *s);
static void start_cleanup(Sandbox *s);

static void finish(Sandbox *s)
{
        s->cleanups = 0;
        if (s->destroying && s->events && s->events->destroyed)
                s->events->destroyed(s, s->data);
        if (s->destroying) {
                sandbox_free(s);
                return;
        }
        s->state = SANDBOX_FAILED;
        if (s->adopting)
                adopt_finished(s);
        else if (s->events && s->events->failed)
                s->events->failed(s, s->error, s->data);
}

static void on_retry(Timer *timer, void *data)
{
        start_cleanup(data);
}

/* Something still lives or is held: tried until it works, since nothing may stay. */
static void retry_cleanup(Sandbox *s, const char *why)
{
        uint64_t wait = CLEANUP_RETRY_FIRST_MS;
        char label[LABEL_SIZE];

        for (unsigned int i = 0; i < s->cleanups && wait < CLEANUP_RETRY_LAST_MS; i++)
                wait *= 2;
        if (s->cleanups++ == 0)
                log_warning(sandbox_label(s, label, sizeof(label)),
                            "Cannot remove the sandbox yet, trying again: %s", why);
        timer_free(s->timer);
        s->timer = timer_new(s->runtime->loop, on_retry, s);
        if (s->timer)
                timer_start(s->timer, wait < CLEANUP_RETRY_LAST_MS ? wait : CLEANUP_RETRY_LAST_MS);
}

static void on_cleaned(Worker *worker, WorkerResult *result, void *data)
{
        Sandbox *s = data;
        KL_AUTOFREE char *why = NULL;
        char how[128];

        worker_describe(result, CLEANUP_DEADLINE_MS, how, sizeof(how));
        why = str_format("%s", result->errors_len ? result->errors : how);
        if (result->status == 0 && !s->records)
                containers_write_off(s);
        s->worker = worker_free(s->worker);
        if (result->status != 0)
                retry_cleanup(s, why ? why : how);
        else if (s->records && !s->cleaning_records)
                start_cleanup(s);
        else
                finish(s);
}

static void start_cleanup(Sandbox *s)
{
        s->cleaning_records = s->records;
        if (run_worker(s, "sandbox cleanup", cleanup_all_body, on_cleaned) < 0)
                retry_cleanup(s, "no worker could be started");
}

/* The shim did what it could, or is gone. */
static void end_of_shim(Sandbox *s)
{
        s->client = shim_client_free(s->client);
        s->timer = timer_free(s->timer);
        execs_lost(s);
        list_for_each (c, &s->containers, Container, link)
                container_cancel(c);
        start_cleanup(s);
}

static void on_shutdown_timeout(Timer *timer, void *data)
{
        Sandbox *s = data;
        char label[LABEL_SIZE];

        log_warning(sandbox_label(s, label, sizeof(label)),
                    "The shim does not answer, killing process %d", shim_client_pid(s->client));
        if (shim_client_pid(s->client) > 0)
                kill(shim_client_pid(s->client), SIGKILL);
        end_of_shim(s);
}

/* From FAILING or destroying, when no job is running. */
static void teardown(Sandbox *s)
{
        int r = s->client ? shim_client_shutdown(s->client) : -ENOTCONN;

        s->timer = timer_free(s->timer);
        if (r > 0)
                s->timer = timer_new(s->runtime->loop, on_shutdown_timeout, s);
        if (r <= 0 || !s->timer) {
                end_of_shim(s);
                return;
        }
        s->shutdown_request = (uint32_t)r;
        timer_start(s->timer, SHUTDOWN_TIMEOUT_MS);
}

static bool ending(const Sandbox *s)
{
        return s->destroying || s->state == SANDBOX_FAILING;
}

static void fail(Sandbox *s, const KlError *error, int code, const char *message)
{
        if (ending(s))
                return;
        s->state = SANDBOX_FAILING;
        if (!s->error)
                kl_error(&s->error, error ? error->code : code, "FailedCreatePodSandBox", "%s",
                         error ? kl_error_msg(error) : message);
        s->worker = worker_free(s->worker);
        teardown(s);
}

void sandbox_destroy(Sandbox *s, bool records)
{
        s->records |= records;
        if (s->destroying)
                return;
        s->destroying = true;
        tell_watches(s);
        list_for_each (c, &s->containers, Container, link)
                container_cancel(c);
        switch (s->state) {
        case SANDBOX_FAILING:
        case SANDBOX_LOSING:
                /* Its job goes on, and then comes here. */
                return;
        case SANDBOX_CREATING:
                s->worker = worker_free(s->worker);
                teardown(s);
                return;
        case SANDBOX_READY:
        case SANDBOX_FAILED:
        case SANDBOX_LOST:
        default:
                teardown(s);
        }
}

/* --- losing the shim --- */

static void tell_lost(Sandbox *s)
{
        containers_write_off(s);
        s->state = SANDBOX_LOST;
        if (s->adopting)
                adopt_finished(s);
        else if (s->events && s->events->lost && !s->destroying)
                s->events->lost(s, s->data);
}

static void on_killed(Worker *worker, WorkerResult *result, void *data)
{
        Sandbox *s = data;
        bool again = result->status != 0 && !s->destroying;
        char label[LABEL_SIZE];

        if (again)
                log_error(sandbox_label(s, label, sizeof(label)),
                          "Cannot kill what a lost shim left behind: %s",
                          result->errors_len ? result->errors : "the worker failed");
        s->worker = worker_free(s->worker);
        tell_lost(s);
        if (s->destroying)
                teardown(s);
}

void sandbox_lose(Sandbox *s)
{
        s->state = SANDBOX_LOSING;
        tell_watches(s);
        s->client = shim_client_free(s->client);
        s->timer = timer_free(s->timer);
        execs_lost(s);
        list_for_each (c, &s->containers, Container, link)
                container_cancel(c);
        if (run_worker(s, "lost sandbox", cleanup_kill_body, on_killed) < 0)
                tell_lost(s);
}

/* --- making one --- */

static int ask(Sandbox *s)
{
        char *paths[CGROUP_HIERARCHIES_MAX] = { NULL };
        ShimCgroup cgroups[CGROUP_HIERARCHIES_MAX];
        KL_AUTOFREE char *leaf = str_format("%s/" CGROUP_SHIM_LEAF, s->cgroup);
        KL_AUTOFREE ShimSysctl *sysctls = calloc(s->spec.n_sysctls + 1, sizeof(*sysctls));
        const ShimIdMap map = { 0, s->spec.ids.first, s->spec.ids.count };
        ShimSandbox sandbox = {
                .id = s->spec.id,
                .netns_path = s->netns_path,
                .hostname = s->spec.hostname,
                .host_network = s->spec.host_network,
                .host_pid = s->spec.host_pid,
                .host_ipc = s->spec.host_ipc,
                .share_pid = s->spec.share_pid && !s->spec.host_pid,
                .uid_maps = &map,
                .gid_maps = &map,
                .n_uid_maps = s->spec.user_namespace,
                .n_gid_maps = s->spec.user_namespace,
                .sysctls = sysctls,
                .n_sysctls = s->spec.n_sysctls,
                .cgroups = cgroups,
                .oom_score_adj = -998,
        };
        int r = leaf && sysctls ? digest_cgroups(s->runtime->tree, leaf, cgroups, paths) : -ENOMEM;

        if (r >= 0) {
                sandbox.n_cgroups = (size_t)r;
                for (size_t i = 0; i < s->spec.n_sysctls; i++)
                        sysctls[i] =
                                (ShimSysctl){ s->spec.sysctls[i].name, s->spec.sysctls[i].value };
                r = shim_client_sandbox(s->client, &sandbox);
        }
        for (size_t i = 0; i < ELEMENTS(paths); i++)
                free(paths[i]);
        return r;
}

/* The shim is up and its groups exist, in whichever order. */
static void ask_when_prepared(Sandbox *s)
{
        int r;

        if (!s->synced || !s->cgroup_ready || s->asked || s->state != SANDBOX_CREATING ||
            s->destroying)
                return;
        s->asked = true;
        r = ask(s);
        if (r < 0)
                fail(s, NULL, r, strerror(-r));
        else
                s->sandbox_request = (uint32_t)r;
}

static int make_cgroup_body(void *arg)
{
        const Sandbox *s = arg;
        const CgroupTree *tree = s->runtime->tree;
        KL_AUTOFREE char *leaf = str_format("%s/" CGROUP_SHIM_LEAF, s->cgroup);
        KL_AUTOERR err = NULL;
        int r = leaf ? cgroup_create(tree, s->cgroup, true, &err) : -ENOMEM;

        if (r == 0)
                r = cgroup_apply(tree, s->cgroup, &s->spec.resources, false, &err);
        if (r == 0)
                r = cgroup_create(tree, leaf, false, &err);
        if (r < 0)
                dprintf(STDERR_FILENO, "%s", err ? kl_error_msg(err) : strerror(-r));
        return r < 0;
}

static void on_cgroup_made(Worker *worker, WorkerResult *result, void *data)
{
        Sandbox *s = data;
        KL_AUTOFREE char *why = NULL;
        char how[128];

        if (result->status == 0) {
                s->worker = worker_free(s->worker);
                s->cgroup_ready = true;
                ask_when_prepared(s);
                return;
        }
        worker_describe(result, CLEANUP_DEADLINE_MS, how, sizeof(how));
        why = str_format("make its control groups: %s", result->errors_len ? result->errors : how);
        fail(s, NULL, -EIO, why ? why : how);
}

/* --- what the shim says --- */

static void on_shim_sandbox(ShimClient *client, const ShimSandboxState *state, void *data)
{
        Sandbox *s = data;

        s->init_pid = state->init_pid;
        if (ending(s) || s->state != SANDBOX_CREATING)
                return;
        if (state->state == SHIM_SANDBOX_FAILED) {
                fail(s, NULL, state->code < 0 ? state->code : -EIO, state->message);
                return;
        }
        if (state->state != SHIM_SANDBOX_READY)
                return;
        s->state = SANDBOX_READY;
        if (!s->adopting && s->events && s->events->ready)
                s->events->ready(s, s->netns_path, s->data);
}

static void on_shim_container(ShimClient *client, const ShimContainerState *state, void *data)
{
        Container *c = container_find(data, state->id);

        if (c)
                container_update(c, state);
}

static void on_shim_log_rotated(ShimClient *client, const char *id, void *data)
{
        Sandbox *s = data;
        const Container *c = container_find(s, id);
        ContainerInfo info;

        if (!c || !s->events || !s->events->log_rotated)
                return;
        container_info(c, &info);
        s->events->log_rotated(s, &info, s->data);
}

static void on_shim_synced(ShimClient *client, const ShimWelcome *welcome, void *data)
{
        Sandbox *s = data;

        s->synced = true;
        if (!s->adopting) {
                ask_when_prepared(s);
                return;
        }
        s->timer = timer_free(s->timer);
        /* A daemon that died while it made the sandbox left half a one. */
        if (s->state != SANDBOX_READY) {
                fail(s, NULL, -ECANCELED, "the sandbox was never finished");
                return;
        }
        containers_drop_unknown(s);
        adopt_finished(s);
}

static void on_shim_exec_done(ShimClient *client, const ShimExecDone *done, void *data)
{
        execs_done(data, done);
}

static void on_start_result(Sandbox *s, uint32_t request, const ShimResult *result)
{
        list_for_each (c, &s->containers, Container, link)
                if (c->start_request == request && !c->known) {
                        container_end(c, 128, "StartError", result->message);
                        return;
                }
}

static void on_shim_result(ShimClient *client, uint32_t request, const ShimResult *result,
                           void *data)
{
        Sandbox *s = data;

        if (request == s->shutdown_request && s->shutdown_request) {
                end_of_shim(s);
                return;
        }
        if (result->code >= 0)
                return;
        if (request == s->sandbox_request && s->state == SANDBOX_CREATING) {
                fail(s, NULL, result->code, result->message);
                return;
        }
        on_start_result(s, request, result);
        execs_on_result(s, request, result);
}

static void on_shim_lost(ShimClient *client, const KlError *error, void *data)
{
        Sandbox *s = data;
        char label[LABEL_SIZE];

        if (ending(s)) {
                end_of_shim(s);
                return;
        }
        log_warning(sandbox_label(s, label, sizeof(label)), "The pod's shim is gone: %s",
                    error ? kl_error_msg(error) : "connection closed");
        if (s->state == SANDBOX_CREATING && !s->adopting) {
                s->client = shim_client_free(s->client);
                fail(s, error, -EPIPE, "the shim ended");
                return;
        }
        sandbox_lose(s);
}

static const ShimClientEvents shim_events = {
        .sandbox = on_shim_sandbox,
        .container = on_shim_container,
        .synced = on_shim_synced,
        .exec_done = on_shim_exec_done,
        .log_rotated = on_shim_log_rotated,
        .result = on_shim_result,
        .lost = on_shim_lost,
};

static int start(Sandbox *s, KlError **err)
{
        ShimSpawn spawn = { .program_fd = s->runtime->program_fd,
                            .state_dir = s->dir,
                            .name = s->spec.id,
                            .stderr_fd = -1 };
        int r = dir_make_all(s->dir, 0700);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", s->dir);
        /* The record comes before anything that would have to be found by it. */
        r = store_write_sandbox(s->dir, &s->spec, s->runtime->boot_id, err);
        if (r == 0)
                r = containers_load(s, err);
        if (r < 0)
                return r;
        containers_write_off(s);
        r = run_worker(s, "pod cgroup", make_cgroup_body, on_cgroup_made);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "start a worker");
        return shim_client_spawn(s->runtime->loop, &spawn, &shim_events, s, &s->client, err);
}

int sandbox_create(Runtime *runtime, const SandboxSpec *spec, const SandboxEvents *events,
                   void *data, Sandbox **ret, KlError **err)
{
        KL_AUTO(sandbox_free) Sandbox *s = NULL;
        int r;

        if (!id_is_valid(spec->id) || !uid_is_valid(spec->pod_uid))
                return kl_error(err, -EINVAL, "FailedCreatePodSandBox", "no valid id or uid");
        if (runtime->adopting)
                return kl_error(err, -EAGAIN, "FailedCreatePodSandBox",
                                "what runs already is still being looked for");
        if (map_get(runtime->sandboxes, spec->pod_uid))
                return kl_error(err, -EEXIST, "FailedCreatePodSandBox",
                                "pod %s has a sandbox already", spec->pod_uid);
        if (map_len(runtime->sandboxes) >= SANDBOXES_MAX)
                return kl_error(err, -E2BIG, "FailedCreatePodSandBox", "more than %d sandboxes",
                                SANDBOXES_MAX);
        r = handler_check(runtime, spec, err);
        if (r == 0)
                r = sandbox_new(runtime, spec, &s, err);
        if (r == 0 && spec->user_namespace)
                r = ids_assign(runtime, &s->spec.ids, err);
        if (r == 0)
                r = start(s, err);
        if (r < 0) {
                if (err && *err)
                        kl_error_set_reason(*err, "FailedCreatePodSandBox");
                /* At once, since the owner may try again with the same directory and groups. */
                if (s && list_empty(&s->containers)) {
                        s->worker = worker_free(s->worker);
                        cgroup_remove(runtime->tree, s->cgroup, 0);
                        tree_remove(s->dir);
                }
                return r;
        }
        /* Only now: what was read from disk above is no news. */
        sandbox_set_events(s, events, data);
        *ret = KL_STEAL(s);
        return 0;
}

/* --- finding one again --- */

static void on_sync_timeout(Timer *timer, void *data)
{
        Sandbox *s = data;
        char label[LABEL_SIZE];

        log_error(sandbox_label(s, label, sizeof(label)),
                  "The pod's shim does not answer, giving it up: process %d",
                  shim_client_pid(s->client));
        if (shim_client_pid(s->client) > 0)
                kill(shim_client_pid(s->client), SIGKILL);
        sandbox_lose(s);
}

void sandbox_adopt(Sandbox *s)
{
        KL_AUTOERR err = NULL;
        char label[LABEL_SIZE];
        int r = -ENOENT;

        if (s->same_boot)
                r = shim_client_connect(s->runtime->loop, s->dir, &shim_events, s, &s->client,
                                        &err);
        if (r == 0 && (s->timer = timer_new(s->runtime->loop, on_sync_timeout, s))) {
                timer_start(s->timer, SYNC_TIMEOUT_MS);
                return;
        }
        if (r < 0 && s->same_boot)
                log_warning(sandbox_label(s, label, sizeof(label)), "The pod's shim is gone: %s",
                            kl_error_msg(err));
        sandbox_lose(s);
}
