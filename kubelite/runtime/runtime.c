/* SPDX-License-Identifier: Apache-2.0 */

/* The Runtime itself: directories, the group tree, the shim's program. */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/caps-internal.h"

#include <linux/capability.h>
#include <sys/resource.h>

#define IDS_PER_POD 65536
#define QOS_DEADLINE_MS 60000

static int copy_options(Runtime *runtime, const RuntimeOptions *o)
{
        runtime->state_dir = strdup(o->state_dir);
        runtime->pods_dir = str_format("%s/pods", o->state_dir);
        runtime->data_dir = strdup(o->data_dir);
        runtime->layers_dir = strdup(o->layers_dir);
        runtime->seccomp_dir = strdup(o->seccomp_dir ? o->seccomp_dir : "");
        return runtime->state_dir && runtime->pods_dir && runtime->data_dir &&
                               runtime->layers_dir && runtime->seccomp_dir
                       ? 0
                       : -ENOMEM;
}

static int take_ids(Runtime *runtime, const RuntimeOptions *o, KlError **err)
{
        runtime->user_namespaces = runtime_has_user_namespaces();
        runtime->ids_per_pod = o->ids_per_pod ? o->ids_per_pod : IDS_PER_POD;
        return ids_read_pool(o->etc_dir ? o->etc_dir : "/etc", runtime->ids_per_pod, o->max_pods,
                             &runtime->ids, err);
}

static int make_directories(const Runtime *runtime, KlError **err)
{
        int r = dir_make_all(runtime->pods_dir, 0700);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", runtime->pods_dir);
        r = dir_make_all(runtime->data_dir, 0700);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "make '%s'", runtime->data_dir);
        return 0;
}

static int make_groups(Runtime *runtime, const RuntimeOptions *o, KlError **err)
{
        static const Resources best_effort = { .cpu_shares = 2, .linear_weight = true };
        CgroupTreeOptions options = { .root = o->cgroup_root, .systemd = o->systemd_cgroups };
        int r = cgroup_tree_new(&options, &runtime->tree, err);

        for (QosClass qos = QOS_GUARANTEED; r == 0 && qos <= QOS_BEST_EFFORT; qos++)
                r = cgroup_create(runtime->tree, cgroup_qos_path(qos), true, err);
        if (r == 0)
                r = cgroup_apply(runtime->tree, cgroup_qos_path(QOS_BEST_EFFORT), &best_effort,
                                 false, err);
        return r;
}

static void on_warm(const SeccompProgram *program, const KlError *error, void *data)
{
        SeccompRequest **request = data;

        *request = seccomp_request_free(*request);
}

/* The default capabilities, and none: compiled before the first pod asks. Failures show when one
 * does. */
static void warm_seccomp(Runtime *runtime)
{
        const uint64_t sets[] = { caps_default() & runtime->caps_available, 0 };
        SeccompProgram program;

        for (size_t i = 0; i < ELEMENTS(sets); i++)
                seccomp_cache_get(runtime->seccomp, NULL, 0, sets[i], on_warm, &runtime->warm[i],
                                  &program, &runtime->warm[i], NULL);
}

int runtime_new(Loop *loop, const RuntimeOptions *options, Runtime **ret, KlError **err)
{
        KL_AUTO(runtime_free) Runtime *runtime = calloc(1, sizeof(*runtime));
        KL_AUTOFREE char *seccomp_dir = str_format("%s/seccomp", options->state_dir);
        struct rlimit nofile;
        int r;

        if (!runtime || !seccomp_dir)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        runtime->loop = loop;
        runtime->program_fd = -1;
        list_init(&runtime->gc_queue);
        list_init(&runtime->gc_running);
        runtime->sandboxes = map_new(NULL);
        runtime->gc_timer = gc_timer_new(runtime);
        if (!runtime->sandboxes || !runtime->gc_timer || copy_options(runtime, options) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        runtime->caps_available = caps_available();
        if (getrlimit(RLIMIT_NOFILE, &nofile) == 0)
                runtime->nofile_hard = nofile.rlim_max;
        r = file_read_line("/proc/sys/kernel/random/boot_id", runtime->boot_id,
                           sizeof(runtime->boot_id));
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the boot id");
        r = make_directories(runtime, err);
        if (r == 0)
                r = handlers_copy(options->handlers, &runtime->handlers, err);
        if (r == 0)
                r = take_ids(runtime, options, err);
        if (r == 0)
                r = make_groups(runtime, options, err);
        if (r == 0)
                r = seccomp_cache_new(loop, seccomp_dir, &runtime->seccomp, err);
        if (r == 0)
                r = shim_program_open(options->shim_path, &runtime->program_fd, err);
        if (r < 0)
                return kl_error_wrap(err, r, "start the container runtime");
        if (!(runtime->caps_available & CAP_BIT(CAP_SYS_RESOURCE)))
                log_info(NULL, "Without CAP_SYS_RESOURCE no process can get a lower oom_score_adj "
                               "than the daemon's, and no higher hard limits");
        warm_seccomp(runtime);
        apparmor_load(runtime);
        *ret = KL_STEAL(runtime);
        return 0;
}

Runtime *runtime_free(Runtime *runtime)
{
        Sandbox *s;

        if (!runtime)
                return NULL;
        adopt_drop(runtime);
        worker_free(runtime->qos_worker);
        gc_drop(runtime);
        worker_free(runtime->apparmor_loader);
        for (size_t i = 0; runtime->sandboxes && map_next(runtime->sandboxes, &i, NULL, &s);)
                sandbox_free(s);
        map_free(runtime->sandboxes);
        for (size_t i = 0; i < ELEMENTS(runtime->warm); i++)
                seccomp_request_free(runtime->warm[i]);
        seccomp_cache_free(runtime->seccomp);
        timer_free(runtime->gc_timer);
        cgroup_tree_free(runtime->tree);
        kl_close(runtime->program_fd);
        free(runtime->state_dir);
        free(runtime->pods_dir);
        free(runtime->data_dir);
        free(runtime->layers_dir);
        free(runtime->seccomp_dir);
        strv_free(runtime->handlers);
        free(runtime);
        return NULL;
}

CgroupMode runtime_cgroup_mode(const Runtime *runtime)
{
        return cgroup_tree_mode(runtime->tree);
}

int runtime_limit_group(const char *group, const Resources *resources, KlError **err)
{
        const CgroupTreeOptions options = { .root = "/" };
        KL_AUTO(cgroup_tree_free) CgroupTree *tree = NULL;

        KL_TRY(cgroup_tree_new(&options, &tree, err));
        while (*group == '/')
                group++;
        return cgroup_apply(tree, group, resources, false, err);
}

/* --- the groups above the pods' --- */

/* Worker: lowering memory.max reclaims before the write returns. */
static int qos_body(void *arg)
{
        const Runtime *runtime = arg;
        int status = 0;

        for (size_t i = 0; i < ELEMENTS(runtime->qos_wanted); i++) {
                KL_AUTOERR err = NULL;

                if (!runtime->qos_pending[i] ||
                    cgroup_apply(runtime->tree, cgroup_qos_path((QosClass)i),
                                 &runtime->qos_wanted[i], false, &err) == 0)
                        continue;
                dprintf(STDERR_FILENO, "%s; ", kl_error_msg(err));
                status = 1;
        }
        return status;
}

static void qos_start(Runtime *runtime);

static void on_qos_done(Worker *worker, WorkerResult *result, void *data)
{
        Runtime *runtime = data;
        char how[128];

        runtime->qos_worker = worker_free(runtime->qos_worker);
        if (result->status != 0) {
                worker_describe(result, QOS_DEADLINE_MS, how, sizeof(how));
                log_warning(NULL, "Cannot set the resources of the pods' groups, ignoring: %s",
                            result->errors_len ? result->errors : how);
        }
        qos_start(runtime);
}

static void qos_start(Runtime *runtime)
{
        WorkerSpec spec = {
                .name = "pods' groups",
                .body = qos_body,
                .body_arg = runtime,
                .deadline_ms = QOS_DEADLINE_MS,
                .done = on_qos_done,
                .data = runtime,
        };
        KL_AUTOERR err = NULL;
        bool any = false;

        for (size_t i = 0; i < ELEMENTS(runtime->qos_pending); i++)
                any |= runtime->qos_pending[i];
        if (!any || runtime->qos_worker)
                return;
        if (worker_start(runtime->loop, &spec, &runtime->qos_worker, &err) < 0)
                log_warning(NULL, "Cannot set the resources of the pods' groups, ignoring: %s",
                            kl_error_msg(err));
        /* The fork has them; a queued one takes what is newest then. */
        if (!runtime->qos_worker || worker_pid(runtime->qos_worker) > 0)
                memset(runtime->qos_pending, 0, sizeof(runtime->qos_pending));
}

int runtime_set_qos_resources(Runtime *runtime, QosClass qos, const Resources *resources,
                              KlError **err)
{
        runtime->qos_wanted[qos] = *resources;
        runtime->qos_pending[qos] = true;
        qos_start(runtime);
        return 0;
}
