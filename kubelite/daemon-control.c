/* SPDX-License-Identifier: Apache-2.0 */

/* The commands of the local socket, each answered from the room that knows. */

#include "daemon.h"

#include "base/clock.h"
#include "base/str.h"
#include "server/control.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_SIZE 1024

static void reply_json(ControlReply *reply, Buf *text)
{
        control_reply_result(reply, buf_error(text) ? NULL : buf_str(text), text->len);
}

static const char *string_of(const Value *request, const char *key)
{
        const char *text = value_get_str(request, key);

        return str_empty(text) ? NULL : text;
}

/* --- pods and containers --- */

static void on_pods(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        PodFilter filter = { .namespace = string_of(request, "namespace"),
                             .name = string_of(request, "name") };
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        pod_manager_list(d->pods, &filter, &w);
        reply_json(reply, &text);
}

static void on_ps(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        PodFilter filter = {
                .namespace = string_of(request, "namespace"),
                .name = string_of(request, "pod"),
                .container = string_of(request, "name"),
                .all = value_bool(value_get(request, "all"), false),
        };
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        pod_manager_list_containers(d->pods, &filter, &w);
        reply_json(reply, &text);
}

static void write_image(const Image *image, JsonWriter *w)
{
        jw_object(w);
        jw_kstr(w, "id", image->id);
        jw_kstrv(w, "tags", image->tags);
        jw_kstrv(w, "digests", image->digests);
        jw_kint(w, "size_bytes", (int64_t)image->size_bytes);
        jw_kbool(w, "pinned", image->pinned);
        jw_end(w);
}

static void write_image_config(const Image *image, JsonWriter *w)
{
        jw_object(w);
        jw_key(w, "image");
        write_image(image, w);
        jw_kobject(w, "config");
        jw_kstr(w, "user", image->user);
        jw_kstrv(w, "env", image->env);
        jw_kstrv(w, "entrypoint", image->entrypoint);
        jw_kstrv(w, "cmd", image->cmd);
        jw_kstr(w, "working_dir", image->working_dir);
        jw_kstr(w, "stop_signal", image->stop_signal);
        jw_kstrv(w, "volumes", image->volumes);
        jw_kstr(w, "architecture", image->architecture);
        jw_kstr(w, "os", image->os);
        jw_end(w);
        jw_kstrv(w, "layers", image->layers);
        jw_end(w);
}

static void on_inspect(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        const char *name = string_of(request, "name");
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        const Image *image;

        if (!name) {
                control_reply_refuse(reply, "InvalidRequest", "inspect needs a name");
                return;
        }
        if (pod_manager_inspect(d->pods, string_of(request, "namespace"), name, &w) == 0) {
                reply_json(reply, &text);
                return;
        }
        if (str_eq(name, d->name) && node_print(d->node, &text) == 0) {
                reply_json(reply, &text);
                return;
        }
        image = image_find(d->images, name);
        if (!image) {
                control_reply_refuse(reply, "NotFound", "there is no pod, container or image '%s'",
                                     name);
                return;
        }
        write_image_config(image, &w);
        reply_json(reply, &text);
}

/* --- images --- */

static void on_images(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        const Image *image;

        jw_array(&w);
        for (size_t i = 0; (image = image_at(d->images, i)); i++)
                write_image(image, &w);
        jw_end(&w);
        reply_json(reply, &text);
}

/* A pull or import under way for one client. */
typedef struct Transfer {
        ControlReply *reply;
        ImageJob *job;
        char *reference;
} Transfer;

static void transfer_free(Transfer *t)
{
        free(t->reference);
        free(t);
}

static void on_transfer_cancelled(ControlReply *reply, void *data)
{
        Transfer *t = data;

        image_job_cancel(t->job);
        transfer_free(t);
}

static void on_progress(const ImageProgress *progress, void *data)
{
        Transfer *t = data;
        KL_AUTOBUF text = BUF_INIT_LIMIT(PROGRESS_SIZE);
        JsonWriter w = JSON_WRITER(&text);

        jw_object(&w);
        jw_kstr(&w, "phase", progress->phase);
        jw_kstr_opt(&w, "layer", progress->layer);
        jw_kint(&w, "bytes", (int64_t)progress->done_bytes);
        if (progress->total_bytes)
                jw_kint(&w, "total", (int64_t)progress->total_bytes);
        jw_end(&w);
        if (!buf_error(&text))
                control_reply_progress(t->reply, buf_str(&text), text.len);
}

static Transfer *transfer_new(ControlReply *reply, const char *reference)
{
        Transfer *t = calloc(1, sizeof(*t));

        if (t && !(t->reference = strdup(reference))) {
                free(t);
                t = NULL;
        }
        if (t)
                t->reply = reply;
        return t;
}

static void on_pulled(ImageJob *job, const Image *image, const KlError *error, void *data)
{
        Transfer *t = data;
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        if (image) {
                jw_object(&w);
                jw_kstr(&w, "id", image->id);
                jw_kstr(&w, "image", t->reference);
                jw_kint(&w, "size_bytes", (int64_t)image->size_bytes);
                jw_end(&w);
                reply_json(t->reply, &text);
        } else {
                control_reply_error(t->reply, error);
        }
        transfer_free(t);
}

static void on_pull(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        const char *reference = string_of(request, "image");
        ImagePull pull = { .reference = reference, .progress = on_progress, .done = on_pulled };
        KL_AUTOERR err = NULL;
        Transfer *t = reference ? transfer_new(reply, reference) : NULL;

        if (!t) {
                control_reply_refuse(reply, "InvalidRequest", "pull needs an image");
                return;
        }
        pull.data = t;
        if (image_pull(d->images, &pull, &t->job, &err) < 0) {
                control_reply_error(reply, err);
                transfer_free(t);
                return;
        }
        control_reply_on_cancel(reply, on_transfer_cancelled, t);
}

static void on_imported(ImageJob *job, char *const *names, const KlError *error, void *data)
{
        Transfer *t = data;
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        if (error) {
                control_reply_error(t->reply, error);
        } else {
                jw_object(&w);
                jw_kstrv(&w, "images", names);
                jw_end(&w);
                reply_json(t->reply, &text);
        }
        transfer_free(t);
}

static void on_import(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        char path[PATH_MAX] = "", link[64];
        ImageImport import = { .fd = -1, .progress = on_progress, .done = on_imported };
        KL_AUTOERR err = NULL;
        Transfer *t = transfer_new(reply, "");
        struct stat st;

        if (!t || fd < 0 || fstat(fd, &st) < 0) {
                if (t)
                        transfer_free(t);
                control_reply_refuse(reply, "InvalidRequest",
                                     "import needs an archive or a directory");
                return;
        }
        if (S_ISDIR(st.st_mode)) {
                ssize_t n;

                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, path, sizeof(path) - 1);
                path[n > 0 ? n : 0] = '\0';
                import.path = path;
        } else {
                import.fd = fd;
        }
        import.data = t;
        if (image_import(d->images, &import, &t->job, &err) < 0) {
                control_reply_error(reply, err);
                transfer_free(t);
                return;
        }
        control_reply_on_cancel(reply, on_transfer_cancelled, t);
}

static void on_rmi(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        const char *reference = string_of(request, "image");
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        KL_AUTOERR err = NULL;

        if (!reference) {
                control_reply_refuse(reply, "InvalidRequest", "rmi needs an image");
                return;
        }
        if (image_remove(d->images, reference, &err) < 0) {
                if (err->code == -ENOENT)
                        kl_error_set_reason(err, "NotFound");
                control_reply_error(reply, err);
                return;
        }
        jw_object(&w);
        jw_kstr(&w, "id", reference);
        jw_karray(&w, "deleted");
        jw_str(&w, reference);
        jw_end(&w);
        jw_end(&w);
        reply_json(reply, &text);
}

static void on_version(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        char version[KUBERNETES_VERSION_SIZE], stamp[TIME_RFC3339_SIZE];
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);

        kubernetes_version(KUBERNETES_VERSION_FILE, version);
        time_format_rfc3339(d->started_us, stamp);
        jw_object(&w);
        jw_kstr(&w, "version", KUBELITE_VERSION);
        jw_kstr(&w, "kubernetes_version", version);
        jw_kstr(&w, "node", d->name);
        jw_kint(&w, "pid", getpid());
        jw_kstr(&w, "started_at", stamp);
        jw_end(&w);
        reply_json(reply, &text);
}

static const ControlHandler handlers[] = {
        { "pods", on_pods },
        { "ps", on_ps },
        { "images", on_images },
        { "pull", on_pull },
        { "import", on_import },
        { "rmi", on_rmi },
        { "inspect", on_inspect },
        { "version", on_version },
        { "stats", daemon_stats_command },
        { "exec", daemon_control_exec },
        { "attach", daemon_control_attach },
        { "forward", daemon_control_forward },
        { NULL, NULL },
};

int daemon_control_start(Daemon *d, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/kubelite.sock", d->flags->state_dir);

        if (!path)
                return kl_error_oom(err);
        return control_new(d->loop, path, handlers, d, &d->control, err);
}

void daemon_control_stop(Daemon *d)
{
        d->control = control_free(d->control);
}
