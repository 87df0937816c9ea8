/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The containers of a sandbox.
 *
 * A start prepares three things side by side: the record on disk (at once), the files, descriptors
 * and the control group, and the system call filter (by workers). When all are there, the shim is
 * told. From then on the shim is the truth, and what it reports is only kept here. A container's
 * exit record is on disk before anybody is told: the shim writes it, or container_end() does where
 * there is no shim.
 */

#include "runtime/runtime-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#define START_ERROR_CODE 128
#define KILLED_CODE (128 + SIGKILL)
#define PREPARE_DEADLINE_MS 60000
#define REASON_CREATE "CreateContainerError"
#define REASON_CREATE_CONFIG "CreateContainerConfigError"

Container *container_find(const Sandbox *s, const char *id)
{
        list_for_each (c, &s->containers, Container, link)
                if (!c->removed && str_eq(c->record.id, id))
                        return c;
        return NULL;
}

static int copy_record(Container *c, const ContainerRecord *r)
{
        c->record = (ContainerRecord){
                .id = arena_strdup(c->arena, r->id),
                .name = arena_strdup(c->arena, r->name),
                .image = arena_strdup(c->arena, r->image),
                .image_id = arena_strdup(c->arena, r->image_id),
                .image_ref = arena_strdup(c->arena, r->image_ref),
                .spec_hash = arena_strdup(c->arena, r->spec_hash),
                .attempt = r->attempt,
                .created_us = r->created_us,
                .sandbox_attempt = r->sandbox_attempt,
        };
        return c->record.id && c->record.name && c->record.image && c->record.image_id &&
                               c->record.image_ref && c->record.spec_hash
                       ? 0
                       : -ENOMEM;
}

int container_new(Sandbox *s, const ContainerRecord *record, Container **ret)
{
        KL_AUTO(container_free) Container *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        list_init(&c->link);
        c->sandbox = s;
        c->arena = arena_new();
        if (!c->arena || copy_record(c, record) < 0)
                return -ENOMEM;
        c->dir = str_format("%s/" SHIM_CONTAINERS_NAME "/%s", s->dir, record->id);
        if (!c->dir)
                return -ENOMEM;
        list_append(&s->containers, &c->link);
        *ret = KL_STEAL(c);
        return 0;
}

void container_cancel(Container *c)
{
        c->prepare_worker = worker_free(c->prepare_worker);
        c->seccomp_request = seccomp_request_free(c->seccomp_request);
        c->digest = digest_free(c->digest);
        document_parts_deinit(&c->parts);
        c->document = document_free(c->document);
}

Container *container_free(Container *c)
{
        if (!c)
                return NULL;
        list_unlink(&c->link);
        container_cancel(c);
        free(c->groups);
        free(c->reason);
        free(c->message);
        free(c->dir);
        arena_free(c->arena);
        free(c);
        return NULL;
}

static const char *reason_of(const Container *c)
{
        if (c->state != CONTAINER_EXITED)
                return "";
        if (!str_empty(c->reason))
                return c->reason;
        if (c->start_error)
                return "StartError";
        if (c->oom_killed)
                return "OOMKilled";
        return c->exit_code == 0 ? "Completed" : "Error";
}

void container_info(const Container *c, ContainerInfo *ret)
{
        *ret = (ContainerInfo){
                .id = c->record.id,
                .name = c->record.name,
                .attempt = c->record.attempt,
                .image = c->record.image,
                .image_id = c->record.image_id,
                .image_ref = c->record.image_ref,
                .spec_hash = c->record.spec_hash,
                .sandbox_attempt = c->record.sandbox_attempt,
                .state = c->state,
                .pid = c->state == CONTAINER_RUNNING ? c->pid : 0,
                .created_us = c->record.created_us,
                .started_us = c->started_us,
                .finished_us = c->finished_us,
                .exit_code = c->exit_code,
                .signal = c->signal,
                .oom_killed = c->oom_killed,
                .reason = reason_of(c),
                .message = c->message ? c->message : "",
                .uid = c->uid,
                .gid = c->gid,
                .groups = c->groups,
                .n_groups = c->n_groups,
        };
}

static void tell(Container *c)
{
        Sandbox *s = c->sandbox;
        ContainerInfo info;

        if (!s->events || !s->events->container_changed || c->removed)
                return;
        container_info(c, &info);
        s->events->container_changed(s, &info, s->data);
}

static ContainerState state_of(uint32_t state)
{
        return state == SHIM_CONTAINER_EXITED    ? CONTAINER_EXITED
               : state == SHIM_CONTAINER_RUNNING ? CONTAINER_RUNNING
                                                 : CONTAINER_CREATED;
}

/* Memory that runs out here loses a text, never the state. */
static void take(Container *c, const ShimContainerState *st)
{
        size_t n = st->n_groups < SHIM_GROUPS_MAX ? st->n_groups : SHIM_GROUPS_MAX;

        c->state = state_of(st->state);
        c->known = true;
        c->pid = st->pid;
        c->started_us = st->started_us;
        c->finished_us = st->finished_us;
        c->exit_code = st->exit_code;
        c->signal = st->signal;
        c->oom_killed = st->oom_killed;
        c->start_error = st->start_error;
        c->uid = st->uid;
        c->gid = st->gid;
        free(c->groups);
        c->groups = n ? malloc(n * sizeof(*c->groups)) : NULL;
        c->n_groups = c->groups ? n : 0;
        if (c->groups)
                memcpy(c->groups, st->groups, n * sizeof(*c->groups));
        free(c->reason);
        free(c->message);
        c->reason = st->reason[0] ? strndup(st->reason, sizeof(st->reason) - 1) : NULL;
        c->message = st->message[0] ? strndup(st->message, sizeof(st->message) - 1) : NULL;
}

static void remove_cgroup(Container *c)
{
        KL_AUTOFREE char *path = str_format("%s/%s", c->sandbox->cgroup, c->record.id);

        if (path)
                gc_add(c->sandbox->runtime, c->sandbox->spec.pod_uid, "", path, NULL, NULL);
}

void container_update(Container *c, const ShimContainerState *st)
{
        ContainerState before = c->state;
        bool known = c->known;

        if (c->removed || (known && before == CONTAINER_EXITED))
                return;
        take(c, st);
        if (known && c->state == before && c->state != CONTAINER_EXITED)
                return;
        if (c->state == CONTAINER_EXITED) {
                container_cancel(c);
                if (!c->sandbox->destroying)
                        remove_cgroup(c);
        }
        if (c->state != CONTAINER_CREATED)
                tell(c);
}

void container_end(Container *c, int exit_code, const char *reason, const char *message)
{
        KL_AUTOFREE ShimContainerState *st = calloc(1, sizeof(*st));
        KL_AUTOERR err = NULL;
        char label[512];

        container_cancel(c);
        if (!st || (c->known && c->state == CONTAINER_EXITED))
                return;
        snprintf(st->id, sizeof(st->id), "%s", c->record.id);
        st->state = SHIM_CONTAINER_EXITED;
        st->created_us = c->record.created_us;
        st->started_us = c->started_us;
        st->finished_us = time_realtime_us();
        st->exit_code = exit_code;
        st->signal = exit_code > 128 ? exit_code - 128 : 0;
        st->start_error = exit_code == START_ERROR_CODE;
        st->uid = c->uid;
        st->gid = c->gid;
        st->n_groups = (uint32_t)c->n_groups;
        if (c->n_groups)
                memcpy(st->groups, c->groups, c->n_groups * sizeof(*c->groups));
        snprintf(st->reason, sizeof(st->reason), "%s", reason);
        snprintf(st->message, sizeof(st->message), "%s", message);
        if (store_write_exit(c->dir, st, &err) < 0)
                log_warning(sandbox_label(c->sandbox, label, sizeof(label)),
                            "Cannot record the end of container '%s', ignoring: %s", c->record.name,
                            kl_error_msg(err));
        container_update(c, st);
}

void containers_write_off(Sandbox *s)
{
        KL_AUTOFREE ShimContainerState *st = calloc(1, sizeof(*st));

        list_for_each (c, &s->containers, Container, link) {
                KL_AUTOERR err = NULL;

                container_cancel(c);
                if (c->removed || (c->known && c->state == CONTAINER_EXITED))
                        continue;
                if (st && store_read_exit(c->dir, st, &err) == 0)
                        container_update(c, st);
                else
                        container_end(c, KILLED_CODE, REASON_UNKNOWN, MESSAGE_UNKNOWN);
        }
}

/* --- starting --- */

static void container_send(Container *c)
{
        Sandbox *s = c->sandbox;
        int r;

        if (!c->seccomp_ready || !c->digest || s->destroying)
                return;
        c->digest->start.seccomp = c->seccomp.insns;
        c->digest->start.seccomp_size = c->seccomp.len;
        r = s->client ? shim_client_start(s->client, &c->digest->start) : -ENOTCONN;
        if (r < 0) {
                container_end(c, START_ERROR_CODE, "StartError", strerror(-r));
                return;
        }
        c->start_request = (uint32_t)r;
        c->told_shim = true;
        container_cancel(c);
        if (c->stop_wanted)
                shim_client_stop(s->client, c->record.id, c->stop_grace_ms);
}

static void on_seccomp(const SeccompProgram *program, const KlError *error, void *data)
{
        Container *c = data;

        c->seccomp_request = seccomp_request_free(c->seccomp_request);
        if (error) {
                container_end(c, START_ERROR_CODE, "StartError", kl_error_msg(error));
                return;
        }
        c->seccomp = *program;
        c->seccomp_ready = true;
        container_send(c);
}

/* The text of a Localhost profile, named beneath the node's profile directory. */
static int read_profile(const Container *c, char **ret, size_t *ret_len, KlError **err)
{
        const char *name = c->document->seccomp_profile;
        const char *dir = c->sandbox->runtime->seccomp_dir;
        KL_AUTOFD int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFD int fd = dir_fd < 0 ? -1 : path_open_in_root(dir_fd, name, O_PATH, 0);
        KL_AUTOFREE char *self = NULL;
        int r = dir_fd < 0 ? -errno : fd;

        if (r >= 0) {
                self = str_format("/proc/self/fd/%d", fd);
                r = self ? file_read(self, SECCOMP_PROFILE_MAX, ret, ret_len) : -ENOMEM;
        }
        if (r == -ENOENT)
                return kl_error(
                        err, r, "CreateContainerError",
                        "cannot load seccomp profile \"%s/%s\": open %s/%s: no such file or "
                        "directory",
                        dir, name, dir, name);
        if (r < 0)
                return kl_error_errno(err, r, "CreateContainerError",
                                      "cannot load seccomp profile \"%s/%s\"", dir, name);
        if (*ret_len == 0)
                return kl_error(err, -EINVAL, "CreateContainerError",
                                "cannot load seccomp profile \"%s/%s\": it is empty", dir, name);
        return 0;
}

/* The filter of the container; another runtime compiles its own. text: a Localhost profile. */
static int get_seccomp(Container *c, const char *text, size_t len, KlError **err)
{
        int r;

        if (c->document->seccomp == SECCOMP_UNCONFINED || !str_empty(c->sandbox->spec.handler)) {
                c->seccomp_ready = true;
                return 0;
        }
        r = seccomp_cache_get(c->sandbox->runtime->seccomp, text, len, c->document->caps,
                              on_seccomp, c, &c->seccomp, &c->seccomp_request, err);
        if (r < 0) {
                if (err && *err)
                        kl_error_set_reason(*err, "CreateContainerError");
                return text ? kl_error_wrap(err, r, "seccomp profile \"%s\"",
                                            c->document->seccomp_profile)
                            : r;
        }
        c->seccomp_ready = r > 0;
        return 0;
}

static int make_cgroup(const Container *c, KlError **err)
{
        const CgroupTree *tree = c->sandbox->runtime->tree;
        KL_AUTOFREE char *path = str_format("%s/%s", c->sandbox->cgroup, c->record.id);
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = cgroup_create(tree, path, false, err);
        if (r == 0)
                r = cgroup_apply(tree, path, &c->document->resources, false, err);
        if (r == 0)
                r = cgroup_apply_container(tree, path, &c->document->resources, err);
        if (r == 0 && !c->document->privileged)
                r = cgroup_set_devices(tree, path, c->document->device_rules,
                                       c->document->n_device_rules, err);
        return r;
}

/* Exit statuses of the worker. Its standard output is the reason of a refusal. */
enum { PREPARE_REFUSED = 1, PREPARE_NO_CGROUP = 2 };

static int complain(int status, const KlError *err)
{
        if (status == PREPARE_REFUSED)
                dprintf(STDOUT_FILENO, "%s", kl_error_reason(err, REASON_CREATE));
        dprintf(STDERR_FILENO, "%s", kl_error_msg(err));
        return status;
}

/* Worker: file systems may hang; and making groups waits while any process on the node is being
 * moved between groups, which on version 1 can take more than 10 ms. */
static int prepare_body(void *arg)
{
        const Container *c = arg;
        const Runtime *runtime = c->sandbox->runtime;
        KL_AUTOFREE int *fds = calloc(FILES_FDS_MAX, sizeof(*fds));
        KL_AUTOERR err = NULL;
        int n = fds ? files_open(c->document, runtime->layers_dir, runtime->data_dir, fds, &err)
                    : kl_error(&err, -ENOMEM, NULL, "out of memory");

        if (n < 0)
                return complain(PREPARE_REFUSED, err);
        if (make_cgroup(c, &err) < 0)
                return complain(PREPARE_NO_CGROUP, err);
        return worker_pass_fds(fds, (size_t)n) < 0;
}

static void container_discard(Container *c)
{
        Runtime *runtime = c->sandbox->runtime;
        KL_AUTOFREE char *data_dir = str_format("%s/%s", runtime->data_dir, c->record.id);
        KL_AUTOFREE char *cgroup = str_format("%s/%s", c->sandbox->cgroup, c->record.id);

        container_cancel(c);
        c->removed = true;
        gc_add(runtime, c->sandbox->spec.pod_uid, c->record.id, cgroup, data_dir, c->dir);
}

static void container_refuse(Container *c, const char *reason, const char *message)
{
        Sandbox *s = c->sandbox;
        KL_AUTOERR err = NULL;

        kl_error(&err, -EIO,
                 str_eq(reason, REASON_CREATE_CONFIG) ? REASON_CREATE_CONFIG : REASON_CREATE, "%s",
                 message);
        container_discard(c);
        if (s->events && s->events->container_refused)
                s->events->container_refused(s, c->record.id, err, s->data);
}

static void on_prepared(Worker *worker, WorkerResult *result, void *data)
{
        Container *c = data;
        Runtime *runtime = c->sandbox->runtime;
        KL_AUTOFREE char *path = str_format("%s/%s", c->sandbox->cgroup, c->record.id);
        KL_AUTOERR err = NULL;
        char how[128];
        int r;

        c->prepare_worker = worker_free(c->prepare_worker);
        if (result->status != 0) {
                worker_describe(result, PREPARE_DEADLINE_MS, how, sizeof(how));
                if (WIFEXITED(result->status) && WEXITSTATUS(result->status) == PREPARE_NO_CGROUP)
                        container_end(c, START_ERROR_CODE, "StartError", result->errors);
                else if (result->errors_len)
                        container_refuse(c, result->out, result->errors);
                else
                        container_refuse(c, REASON_CREATE, how);
                return;
        }
        r = path ? digest_new(c->document, runtime->tree, path, result->passed_fds,
                              result->n_passed_fds, &c->digest, &err)
                 : kl_error(&err, -ENOMEM, NULL, "out of memory");
        if (r < 0) {
                container_refuse(c, REASON_CREATE, kl_error_msg(err));
                return;
        }
        handler_digest(c);
        container_send(c);
}

static int start_prepare(Container *c, KlError **err)
{
        KL_AUTOFREE int *held = calloc(c->document->n_mounts + 1, sizeof(*held));
        size_t n = 0;
        WorkerSpec spec = {
                .name = "container files and groups",
                .body = prepare_body,
                .body_arg = c,
                .hold_fds = held,
                .out_max = sizeof(REASON_CREATE_CONFIG),
                .deadline_ms = PREPARE_DEADLINE_MS,
                .done = on_prepared,
                .data = c,
        };

        if (!held)
                return kl_error_oom(err);
        for (size_t i = 0; i < c->document->n_mounts; i++)
                if (c->document->mounts[i].source_fd >= 0)
                        held[n++] = c->document->mounts[i].source_fd;
        spec.n_hold_fds = n;
        return worker_start(c->sandbox->runtime->loop, &spec, &c->prepare_worker, err);
}

static int write_records(Container *c, const DocumentContext *context, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/config.json", c->dir);
        KL_AUTOBUF buf = BUF_INIT;
        DocumentContext whole = *context;
        int r = path ? dir_make_all(c->dir, 0700) : -ENOMEM;

        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", c->dir);
        whole.bundle = NULL;
        r = document_render(c->document, &whole, NULL, &buf);
        if (r == 0)
                r = file_replace(path, buf.data, buf.len, 0600, false);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "write '%s'", path);
        return store_write_container(c->dir, &c->record, err);
}

static void fill_context(const Sandbox *s, const char *cgroup_path, DocumentContext *ret)
{
        const SandboxSpec *p = &s->spec;

        *ret = (DocumentContext){
                .pod_uid = p->pod_uid,
                .pod_namespace = p->pod_namespace,
                .pod_name = p->pod_name,
                .sandbox_id = p->id,
                .hostname = p->hostname,
                .host_network = p->host_network,
                .host_pid = p->host_pid,
                .host_ipc = p->host_ipc,
                .share_pid = p->share_pid,
                .ids = p->ids,
                .netns_path = s->netns_path,
                .cgroup_path = cgroup_path,
                .cgroup_prefix = cgroup_prefix(s->runtime->tree),
                .caps_available = s->runtime->caps_available,
                .nofile_hard = s->runtime->nofile_hard,
        };
}

/* Everything up to where the workers start; what it leaves behind on failure is removed by the
 * caller. */
static int prepare(Container *c, const DocumentContext *context, KlError **err)
{
        KL_AUTOFREE char *profile = NULL;
        size_t len = 0;
        int r = apparmor_check(c->document->apparmor, err);

        if (r == 0 && c->document->seccomp == SECCOMP_LOCALHOST)
                r = read_profile(c, &profile, &len, err);
        if (r == 0)
                r = get_seccomp(c, profile, len, err);
        if (r == 0)
                r = handler_render(c, context, profile, len, err);
        if (r == 0)
                r = write_records(c, context, err);
        if (r == 0)
                r = start_prepare(c, err);
        return r;
}

static int check_start(const Sandbox *s, const ContainerSpec *spec, KlError **err)
{
        size_t n = 0;

        if (s->state != SANDBOX_READY || s->destroying)
                return kl_error(err, -ESHUTDOWN, "RunContainerError", "the sandbox is not ready");
        list_for_each (c, &s->containers, Container, link) {
                n++;
                if (str_eq(c->record.id, spec->id))
                        return kl_error(err, -EEXIST, "CreateContainerError",
                                        "container '%s' exists already", spec->id);
        }
        if (n >= CONTAINERS_MAX)
                return kl_error(err, -E2BIG, "CreateContainerError",
                                "the pod has more than %d containers", CONTAINERS_MAX);
        return 0;
}

int sandbox_start_container(Sandbox *s, const ContainerSpec *spec, KlError **err)
{
        KL_AUTO(document_free) Document *document = NULL;
        KL_AUTO(arena_free) Arena *arena = NULL;
        KL_AUTOFREE char *cgroup_path = str_format("%s/%s", s->cgroup, spec->id ? spec->id : "");
        KL_AUTOERR error = NULL;
        DocumentContext context;
        ContainerRecord record;
        Container *c = NULL;
        int r = check_start(s, spec, err);

        if (r < 0)
                return r;
        arena = arena_new();
        if (!arena)
                return kl_error_oom(err);
        fill_context(s, cgroup_path, &context);
        if (spec->privileged) {
                ShimDevice *devices;

                r = devices_collect("/dev", arena, &devices, &context.n_host_devices, err);
                if (r < 0)
                        return r;
                context.host_devices = devices;
        }
        r = handler_context(s, spec, arena, &context, err);
        if (r < 0)
                return r;
        r = document_new(spec, &context, &document, err);
        if (r < 0)
                return r;
        record = (ContainerRecord){
                .id = document->id,
                .name = document->name,
                .image = document->image,
                .image_id = document->image_id,
                .image_ref = document->image_ref,
                .spec_hash = document->spec_hash,
                .attempt = document->attempt,
                .created_us = time_realtime_us(),
                .sandbox_attempt = s->spec.attempt,
        };
        if (!cgroup_path || container_new(s, &record, &c) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        c->document = KL_STEAL(document);
        r = prepare(c, &context, &error);
        if (r < 0) {
                kl_error_default_reason(error, "CreateContainerError");
                container_discard(c);
                return kl_error_move(err, &error);
        }
        return 0;
}

/* --- stopping, removing, looking --- */

void sandbox_stop_container(Sandbox *s, const char *id, uint64_t grace_ms)
{
        Container *c = container_find(s, id);

        if (!c || (c->known && c->state == CONTAINER_EXITED))
                return;
        if (c->told_shim) {
                if (s->client)
                        shim_client_stop(s->client, id, grace_ms);
                return;
        }
        c->stop_grace_ms =
                c->stop_wanted && c->stop_grace_ms < grace_ms ? c->stop_grace_ms : grace_ms;
        c->stop_wanted = true;
}

void sandbox_remove_container(Sandbox *s, const char *id)
{
        Container *c = container_find(s, id);

        if (!c || !c->known || c->state != CONTAINER_EXITED)
                return;
        if (s->client && s->synced)
                shim_client_forget(s->client, id);
        container_discard(c);
}

bool sandbox_container_at(const Sandbox *s, size_t i, ContainerInfo *ret)
{
        list_for_each (c, &s->containers, Container, link) {
                if (c->removed || i-- > 0)
                        continue;
                container_info(c, ret);
                return true;
        }
        return false;
}

bool sandbox_container(const Sandbox *s, const char *id, ContainerInfo *ret)
{
        const Container *c = container_find(s, id);

        if (c)
                container_info(c, ret);
        return c != NULL;
}

/* --- from disk --- */

static int load_one(Sandbox *s, const char *dir, const char *name)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOFREE ShimContainerState *st = calloc(1, sizeof(*st));
        KL_AUTOERR err = NULL;
        ContainerRecord record;
        Container *c = NULL;
        int r;

        if (!arena || !st)
                return -ENOMEM;
        r = store_read_container(dir, arena, &record, &err);
        if (r == 0 && !str_eq(record.id, name))
                r = -EINVAL;
        if (r == 0)
                r = container_new(s, &record, &c);
        if (r < 0)
                return r;
        c->told_shim = true;
        if (store_read_exit(dir, st, &err) == 0)
                take(c, st);
        return 0;
}

int containers_load(Sandbox *s, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/" SHIM_CONTAINERS_NAME, s->dir);
        KL_AUTODIR DIR *dir = path ? opendir(path) : NULL;
        struct dirent *entry;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (!dir)
                return errno == ENOENT ? 0 : kl_error_errno(err, -errno, NULL, "open '%s'", path);
        while ((entry = readdir(dir))) {
                KL_AUTOFREE char *one = NULL, *data_dir = NULL;

                if (entry->d_name[0] == '.' || container_find(s, entry->d_name))
                        continue;
                one = str_format("%s/%s", path, entry->d_name);
                data_dir = str_format("%s/%s", s->runtime->data_dir, entry->d_name);
                if (!one || !data_dir)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                /* A record that cannot be read says nothing: it goes. */
                if (!id_is_valid(entry->d_name) || load_one(s, one, entry->d_name) < 0)
                        gc_add(s->runtime, s->spec.pod_uid, "", NULL,
                               id_is_valid(entry->d_name) ? data_dir : NULL, one);
        }
        return 0;
}

void containers_drop_unknown(Sandbox *s)
{
        list_for_each (c, &s->containers, Container, link)
                if (!c->known && !c->removed)
                        container_discard(c);
}
