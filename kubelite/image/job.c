/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pulls and imports of the daemon: one kubelite-image each, several jobs may wait for one pull.
 *
 * A task owns its worker and its jobs. Jobs are told once and then freed; a task whose last job was
 * cancelled is freed with its worker.
 */

#include "image/store-internal.h"

#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>

/* Stalls end a pull long before; this is for what makes progress for ever. */
#define TASK_DEADLINE_MS (12ULL * 3600 * 1000)
/* status-internal.h of the worker says what a line may have at most. */
#define TASK_LINE_MAX (256U << 10)

typedef struct Task {
        List link;
        ImageStore *store;
        bool import, pin;
        bool busy;   /* telling progress: it must not be freed */
        bool doomed; /* its last job was cancelled meanwhile */
        char *name;  /* the normalised reference, or the path */
        char *auth;  /* JSON, or NULL */
        int fd;      /* of an import, or -1 */
        Worker *worker;
        List jobs;
        Buf line;
        char *result; /* JSON of the R line */
        KlError *err;
} Task;

struct ImageJob {
        List link;
        Task *task;
        bool telling;
        ImagePull pull;     /* of it the callbacks and data */
        ImageImport import; /* or these */
};

static Task *task_free(Task *task)
{
        if (!task)
                return NULL;
        list_unlink(&task->link);
        list_for_each (job, &task->jobs, ImageJob, link) {
                list_unlink(&job->link);
                free(job);
        }
        if (task->worker) {
                task->store->n_running--;
                worker_free(task->worker);
        }
        free(task->name);
        if (task->auth)
                explicit_bzero(task->auth, strlen(task->auth));
        free(task->auth);
        kl_close(task->fd);
        buf_deinit(&task->line);
        free(task->result);
        kl_error_free(task->err);
        free(task);
        return NULL;
}
KL_DEFINE_CLEANUP(Task *, task_free);

void store_free_tasks(ImageStore *store)
{
        list_for_each (task, &store->tasks, Task, link)
                task_free(task);
}

/* --- what the worker says --- */

static void tell_progress(Task *task, const ImageProgress *progress)
{
        list_for_each (job, &task->jobs, ImageJob, link) {
                if (task->import && job->import.progress)
                        job->import.progress(progress, job->import.data);
                else if (!task->import && job->pull.progress)
                        job->pull.progress(progress, job->pull.data);
        }
}

/* "<layer or -> <phase> <done> <total>" */
static void take_progress(Task *task, char *text)
{
        char *save = NULL;
        const char *layer = strtok_r(text, " ", &save), *phase = strtok_r(NULL, " ", &save);
        const char *done = strtok_r(NULL, " ", &save), *total = strtok_r(NULL, " ", &save);
        ImageProgress progress = { .phase = phase };

        if (!layer || !phase || !done || !total ||
            str_to_u64(done, UINT64_MAX, &progress.done_bytes) < 0 ||
            str_to_u64(total, UINT64_MAX, &progress.total_bytes) < 0)
                return;
        progress.layer = str_eq(layer, "-") ? NULL : layer;
        tell_progress(task, &progress);
}

static const char *static_reason(const char *reason)
{
        static const char *const reasons[] = { "ErrImagePull", "InvalidImageName",
                                               "RegistryUnavailable", "SignatureValidationFailed" };

        for (size_t i = 0; i < ELEMENTS(reasons); i++)
                if (str_eq(reasons[i], reason))
                        return reasons[i];
        return "ErrImagePull";
}

static void take_error(Task *task, const char *json)
{
        KL_AUTO(value_free) Value *document = NULL;
        const char *message;
        int64_t code;

        if (json_parse(json, strlen(json), &document, NULL) < 0)
                return;
        code = value_int(value_get(document, "code"), EIO);
        message = value_get_str(document, "message");
        kl_error(&task->err, code > 0 && code < 4096 ? (int)-code : -EIO,
                 static_reason(value_get_str(document, "reason")), "%s",
                 message ? message : "kubelite-image failed");
}

static void take_line(Task *task, char *line)
{
        if (str_starts(line, "P ")) {
                take_progress(task, line + 2);
        } else if (str_starts(line, "E ")) {
                take_error(task, line + 2);
        } else if (str_starts(line, "R ")) {
                free(task->result);
                task->result = strdup(line + 2);
        }
}

static void on_out(Worker *worker, const char *data, size_t len, void *data_ptr)
{
        Task *task = data_ptr;

        task->busy = true;
        while (len > 0) {
                const char *end = memchr(data, '\n', len);
                size_t n = end ? (size_t)(end - data) : len;

                buf_add(&task->line, data, n);
                if (end && buf_error(&task->line) == 0 && task->line.len > 0)
                        take_line(task, task->line.data);
                if (end)
                        buf_clear(&task->line);
                n += end != NULL;
                data += n;
                len -= n;
        }
        task->busy = false;
        if (task->doomed)
                task_free(task);
}

/* --- the end --- */

static void tell_job(Task *task, ImageJob *job, const Image *image, char *const *names)
{
        static char *const none[] = { NULL };

        job->telling = true;
        if (task->import)
                job->import.done(job,
                                 task->err ? NULL
                                 : names   ? names
                                           : none,
                                 task->err, job->import.data);
        else
                job->pull.done(job, task->err ? NULL : image, task->err, job->pull.data);
        free(job);
}

static void tell_jobs(Task *task)
{
        KL_AUTO(value_free) Value *document = NULL;
        KL_AUTOSTRV names = NULL;
        const Value *list;
        int r = 0;

        if (task->result)
                json_parse(task->result, strlen(task->result), &document, NULL);
        list = value_get(document, "names");
        for (size_t i = 0; r == 0 && i < value_len(list); i++)
                if (value_str(value_at(list, i)))
                        r = strv_add(&names, value_str(value_at(list, i)));
        while (!list_empty(&task->jobs)) {
                ImageJob *job = list_first(&task->jobs, ImageJob, link);
                const char *id = value_get_str(document, "id");
                ImageRecord *record = id ? map_get(task->store->records, id) : NULL;

                /* another job's callback may have removed it */
                if (!task->import && !task->err && !record)
                        kl_error(&task->err, -ENOENT, "ErrImagePull", "image '%s' was removed",
                                 task->name);
                list_unlink(&job->link);
                tell_job(task, job, record ? &record->image : NULL, names);
        }
}

static void on_done(Worker *worker, WorkerResult *result, void *data)
{
        KL_AUTO(task_free) Task *task = data;
        ImageStore *store = task->store;
        char how[128];

        list_unlink(&task->link);
        if (!task->err && (result->status != 0 || !task->result)) {
                worker_describe(result, TASK_DEADLINE_MS, how, sizeof(how));
                kl_error(&task->err, result->timed_out ? -ETIMEDOUT : -EIO, "ErrImagePull",
                         "kubelite-image %s: %.1000s", how, result->errors);
        }
        if (!task->err)
                store_reload(store, &task->err);
        kl_error_default_reason(task->err, "ErrImagePull");
        tell_jobs(task);
        deferred_schedule(store->start);
}

/* --- start --- */

/* What kubelite-image's network part needs of the environment. */
static int task_environment(char ***ret)
{
        static const char *const names[] = { "http_proxy",    "https_proxy",  "no_proxy",
                                             "HTTP_PROXY",    "HTTPS_PROXY",  "NO_PROXY",
                                             "SSL_CERT_FILE", "SSL_CERT_DIR", "ASAN_OPTIONS",
                                             "LSAN_OPTIONS",  "UBSAN_OPTIONS" };
        int r = strv_add(ret, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

        for (size_t i = 0; r == 0 && i < ELEMENTS(names); i++)
                if (getenv(names[i]))
                        r = strv_addf(ret, "%s=%s", names[i], getenv(names[i]));
        return r;
}

static int task_arguments(const Task *task, char ***ret)
{
        int r = strv_add(ret, "kubelite-image");

        if (r == 0)
                r = strv_add(ret, task->import ? "import" : "pull");
        if (r == 0)
                r = strv_addf(ret, "--store=%s", task->store->layout->path);
        if (r == 0)
                r = strv_add(ret, "--owned");
        if (r == 0 && task->store->registries && !task->import)
                r = strv_addf(ret, "--registries=%s", task->store->registries);
        if (r == 0 && task->auth)
                r = strv_add(ret, "--auth");
        if (r == 0 && task->pin)
                r = strv_add(ret, "--pin");
        if (r == 0 && task->fd >= 0)
                r = strv_add(ret, "--fd=3");
        if (r == 0)
                r = strv_add(ret, "--");
        if (r == 0)
                r = strv_add(ret, task->name);
        return r;
}

static int task_start(Task *task, KlError **err)
{
        KL_AUTOSTRV argv = NULL;
        KL_AUTOSTRV envp = NULL;
        WorkerSpec spec = {
                .name = task->import ? "image-import" : "image-pull",
                .path = task->store->worker_path,
                .input = task->auth,
                .input_len = task->auth ? strlen(task->auth) : 0,
                .keep_fds = { task->fd, -1 },
                .out_max = 1,
                .deadline_ms = TASK_DEADLINE_MS,
                .on_out = on_out,
                .done = on_done,
                .data = task,
        };
        int r;

        if (task_arguments(task, &argv) < 0 || task_environment(&envp) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        spec.argv = argv;
        spec.envp = envp;
        r = worker_start(task->store->loop, &spec, &task->worker, err);
        if (r == 0)
                task->store->n_running++;
        return r;
}

void store_start_tasks(ImageStore *store)
{
        list_for_each (task, &store->tasks, Task, link) {
                if (store_is_removing(store) || store->n_running >= store->max_parallel)
                        return;
                if (task->worker || task_start(task, &task->err) == 0)
                        continue;
                list_unlink(&task->link);
                tell_jobs(task);
                task_free(task);
                deferred_schedule(store->start);
                return;
        }
}

/* --- jobs --- */

static ImageJob *job_new(Task *task)
{
        ImageJob *job = calloc(1, sizeof(*job));

        if (!job)
                return NULL;
        list_init(&job->link);
        job->task = task;
        return job;
}

static Task *task_new(ImageStore *store, const char *name)
{
        Task *task = calloc(1, sizeof(*task));

        if (!task)
                return NULL;
        list_init(&task->link);
        list_init(&task->jobs);
        task->store = store;
        task->fd = -1;
        task->line.limit = TASK_LINE_MAX;
        task->name = strdup(name);
        return task->name ? task : task_free(task);
}

static int encode_auth(const ImageAuth *auth, char **ret)
{
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        *ret = NULL;
        if (!auth)
                return 0;
        jw_object(&w);
        jw_kstr_opt(&w, "username", auth->username);
        jw_kstr_opt(&w, "password", auth->password);
        jw_kstr_opt(&w, "identityToken", auth->identity_token);
        jw_kstr_opt(&w, "registryToken", auth->registry_token);
        jw_end(&w);
        *ret = buf_steal(&text);
        return *ret ? 0 : -ENOMEM;
}

static Task *find_task(ImageStore *store, const char *name, const char *auth)
{
        list_for_each (task, &store->tasks, Task, link)
                if (!task->import && str_eq(task->name, name) && str_eq(task->auth, auth))
                        return task;
        return NULL;
}

int image_pull(ImageStore *store, const ImagePull *pull, ImageJob **ret, KlError **err)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTO(task_free) Task *new_task = NULL;
        KL_AUTOFREE char *name = NULL, *auth = NULL;
        Task *task;
        ImageJob *job;
        int r = image_ref_parse(pull->reference, &ref, err);

        if (r < 0)
                return r;
        name = image_ref_format(&ref);
        if (!name || encode_auth(pull->auth, &auth) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        task = find_task(store, name, auth);
        if (!task) {
                task = new_task = task_new(store, name);
                if (!task)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                task->auth = KL_STEAL(auth);
        }
        job = job_new(task);
        if (!job)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        job->pull = *pull;
        list_append(&task->jobs, &job->link);
        if (new_task) {
                list_append(&store->tasks, &task->link);
                new_task = NULL;
        }
        deferred_schedule(store->start);
        *ret = job;
        return 0;
}

int image_import(ImageStore *store, const ImageImport *import, ImageJob **ret, KlError **err)
{
        KL_AUTO(task_free) Task *task = task_new(store, import->path ? import->path : "-");
        ImageJob *job = task ? job_new(task) : NULL;

        if (!job)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        job->import = *import;
        list_append(&task->jobs, &job->link);
        task->import = true;
        task->pin = import->pin;
        if (!import->path) {
                task->fd = fcntl(import->fd, F_DUPFD_CLOEXEC, 3);
                if (task->fd < 0)
                        return kl_error_errno(err, -errno, NULL, "import the archive");
        }
        list_append(&store->tasks, &task->link);
        task = NULL;
        deferred_schedule(store->start);
        *ret = job;
        return 0;
}

ImageJob *image_job_cancel(ImageJob *job)
{
        Task *task;

        if (!job || job->telling)
                return NULL;
        task = job->task;
        list_unlink(&job->link);
        free(job);
        if (list_empty(&task->jobs) && task->busy) {
                list_unlink(&task->link);
                task->doomed = true;
        } else if (list_empty(&task->jobs)) {
                deferred_schedule(task->store->start);
                task_free(task);
        }
        return NULL;
}
