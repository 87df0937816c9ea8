/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Layers in parallel. Each has an unpacker and, unless its blob is a file already, a fetcher; the
 * two are joined by a pipe that this process does not read.
 *
 * A layer is good when its unpacker says so: it has compared size and digests. The marks of opaque
 * directories, which the unpacker may not set, are set here afterwards, with paths resolved inside
 * the layer.
 */

#include "image/worker/layers-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"
#include "image/worker/child-internal.h"
#include "image/worker/session-internal.h"
#include "image/worker/status-internal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define PIPE_SIZE (1 << 20)
#define OPAQUE_BYTES_MAX (16U << 20)
#define OPAQUE_XATTR "trusted.overlay.opaque"

typedef struct Pipeline {
        LayerJob *job; /* NULL: free */
        RoleChild unpack, fetch;
        int partial_fd;
        bool resumed; /* it began with bytes of an earlier try */
        bool retried;
        Buf opaque; /* paths in hex, a line each */
        uint64_t shown_ms;
        bool shown_last;
} Pipeline;

typedef struct Run {
        LayerSet *set;
        Pipeline pipelines[LAYERS_PARALLEL];
        size_t next;
} Run;

static void pipeline_stop(Pipeline *p)
{
        role_child_deinit(&p->fetch);
        role_child_deinit(&p->unpack);
        p->partial_fd = kl_close(p->partial_fd);
        buf_deinit(&p->opaque);
        p->job = NULL;
}

static void run_deinit(Run *run)
{
        for (size_t i = 0; i < LAYERS_PARALLEL; i++)
                pipeline_stop(&run->pipelines[i]);
}

static const char *job_name(const LayerJob *job)
{
        return job->digest ? job->digest : job->diff_id;
}

/* --- start --- */

static int on_unpack_line(RoleChild *child, char letter, char *text, void *data)
{
        Pipeline *p = data;

        if (letter != 'o')
                return -EPROTO;
        buf_add_str(&p->opaque, text);
        buf_add_char(&p->opaque, '\n');
        return buf_error(&p->opaque);
}

static void partial_name(const LayerJob *job, char ret[static DIGEST_TEXT_SIZE])
{
        digest_file_name(job->digest, ret);
}

/* A file that another pull is writing is left to it; without one there is no resuming, no more. */
static void open_partial(Run *run, Pipeline *p)
{
        char name[DIGEST_TEXT_SIZE];
        struct stat st;
        int fd;

        p->resumed = false;
        if (p->job->size < LAYER_PARTIAL_MIN)
                return;
        partial_name(p->job, name);
        fd = openat(run->set->layout->ingest_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                    0600);
        if (fd < 0)
                return;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0) {
                close(fd);
                return;
        }
        p->resumed = st.st_size > 0;
        p->partial_fd = fd;
}

static void drop_partial(Run *run, Pipeline *p)
{
        char name[DIGEST_TEXT_SIZE];

        if (p->partial_fd < 0)
                return;
        partial_name(p->job, name);
        unlinkat(run->set->layout->ingest_fd, name, 0);
        p->partial_fd = kl_close(p->partial_fd);
}

static int start_unpack(Run *run, Pipeline *p, int in_fd, KlError **err)
{
        LayerSet *set = run->set;
        LayerJob *job = p->job;
        RoleSpec spec = { .role = ROLE_UNPACK, .in_fd = in_fd, .fds = { -1, -1 } };
        KL_AUTOSTRV args = NULL;
        int r;

        snprintf(job->tmp_name, sizeof(job->tmp_name), "%zu", (size_t)(job - set->jobs));
        tree_remove_at(set->tmp_fd, job->tmp_name);
        /* the mode of an image's root where no entry says otherwise, whatever our umask is */
        if (mkdirat(set->tmp_fd, job->tmp_name, 0755) < 0 ||
            fchmodat(set->tmp_fd, job->tmp_name, 0755, 0) < 0)
                return kl_error_errno(err, -errno, NULL, "make a directory for the layer");
        r = strv_addf(&args, "%s/tmp/%s/%s", set->layout->path, set->tmp_name, job->tmp_name);
        if (r == 0)
                r = strv_add(&args, job->digest ? job->digest : "-");
        if (r == 0)
                r = strv_add(&args, job->diff_id);
        if (r == 0)
                r = strv_addf(&args, "%llu", (unsigned long long)job->size);
        if (r == 0 && job->file_fd >= 0)
                r = strv_addf(&args, "%llu", (unsigned long long)job->offset);
        if (r < 0)
                return kl_error(err, r, NULL, "out of memory");
        spec.args = args;
        p->unpack = (RoleChild){ .fd = -1, .on_line = on_unpack_line, .data = p };
        return role_child_start(&p->unpack, &spec, err);
}

static int start_fetch(Run *run, Pipeline *p, int pipe_fd, KlError **err)
{
        RoleSpec spec = { .role = ROLE_FETCH, .fds = { pipe_fd, p->partial_fd } };
        KL_AUTOBUF request = BUF_INIT;
        JsonWriter w = JSON_WRITER(&request);
        int fds[2];
        int r;

        jw_object(&w);
        jw_kstr(&w, "digest", p->job->digest);
        jw_kint(&w, "size", (int64_t)p->job->size);
        jw_end(&w);
        buf_add_char(&request, '\n');
        if (pipe2(fds, O_CLOEXEC) < 0)
                return kl_error_errno(err, -errno, NULL, "start the fetch process");
        spec.in_fd = fds[0];
        p->fetch = (RoleChild){ .fd = -1 };
        r = role_child_start(&p->fetch, &spec, err);
        close(fds[0]);
        if (r == 0) {
                r = session_send_lines(fds[1], run->set->plan, &request);
                if (r < 0)
                        kl_error_errno(err, r, NULL, "speak to the fetch process");
        }
        close(fds[1]);
        return r;
}

static int pipeline_start(Run *run, Pipeline *p, LayerJob *job, KlError **err)
{
        int fds[2];
        int r;

        p->job = job;
        p->partial_fd = -1;
        p->shown_ms = 0;
        p->shown_last = false;
        p->fetch = (RoleChild){ .fd = -1 };
        p->opaque = (Buf)BUF_INIT_LIMIT(OPAQUE_BYTES_MAX);
        if (job->file_fd >= 0)
                return start_unpack(run, p, job->file_fd, err);
        open_partial(run, p);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return kl_error_errno(err, -errno, NULL, "make a pipe");
        fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE);
        r = start_unpack(run, p, fds[0], err);
        if (r == 0)
                r = start_fetch(run, p, fds[1], err);
        close(fds[0]);
        close(fds[1]);
        return r;
}

/* --- progress --- */

static void show_progress(Pipeline *p)
{
        uint64_t now = time_monotonic_ms();
        bool last = p->unpack.progress >= p->job->size;

        if (p->shown_last || (!last && p->shown_ms && now < p->shown_ms + STATUS_INTERVAL_MS))
                return;
        p->shown_ms = now;
        p->shown_last = last;
        status_progress(job_name(p->job), last ? "unpacking" : "fetching", p->unpack.progress,
                        p->job->size);
}

/* --- end --- */

static int mark_opaque(int layer_fd, const char *path)
{
        KL_AUTOFD int fd =
                path_open_in_root(layer_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);

        if (fd < 0)
                return fd;
        return fsetxattr(fd, OPAQUE_XATTR, "y", 1, 0) < 0 ? -errno : 0;
}

static int hex_digit(char c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; false for what is no path in hex. */
static bool decode_hex(char *text)
{
        size_t len = strlen(text), n = 0;

        for (size_t i = 0; i + 1 < len; i += 2) {
                int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

                if (high < 0 || low < 0 || high * 16 + low == 0)
                        return false;
                text[n++] = (char)(high * 16 + low);
        }
        text[n] = '\0';
        return len % 2 == 0;
}

static int mark_all_opaque(Run *run, Pipeline *p, KlError **err)
{
        KL_AUTOFD int layer = openat(run->set->tmp_fd, p->job->tmp_name,
                                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char *line = p->opaque.data;
        int r = layer < 0 ? -errno : 0;

        while (r == 0 && line && *line) {
                char *end = strchr(line, '\n');

                *end = '\0';
                r = decode_hex(line) ? mark_opaque(layer, line) : -EPROTO;
                line = end + 1;
        }
        return r < 0 ? kl_error_errno(err, r, NULL, "mark a directory as opaque") : 0;
}

static int take_unpacked(Run *run, Pipeline *p, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        int r = mark_all_opaque(run, p, err);

        if (r < 0)
                return r;
        if (json_parse(p->unpack.result, strlen(p->unpack.result), &document, NULL) == 0)
                p->job->unpacked_bytes = (uint64_t)value_int(value_get(document, "bytes"), 0);
        drop_partial(run, p);
        p->job->done = true;
        pipeline_stop(p);
        return 0;
}

/* The error that says why: a cut-off stream is the fetcher's fault, everything else is not. */
static int pipeline_error(Pipeline *p, KlError **err)
{
        int code = p->unpack.err ? p->unpack.err->code : -EIO;

        if (p->fetch.err && (code == -EPIPE || !p->unpack.err))
                return kl_error_move(err, &p->fetch.err);
        kl_error_move(err, &p->unpack.err);
        if (p->job->digest)
                return kl_error_wrap(err, code, "failed to extract layer %s", p->job->digest);
        return kl_error_wrap(err, code, "failed to extract layer %s", p->job->diff_id);
}

/* What was kept of an earlier try may be rotten after a crash: then once more from the start. */
static bool worth_a_restart(const Pipeline *p)
{
        int code = p->unpack.err ? p->unpack.err->code : 0;

        return p->resumed && !p->retried && (code == -EBADMSG || code == -EINVAL);
}

static int pipeline_end(Run *run, Pipeline *p, KlError **err)
{
        LayerJob *job = p->job;

        if (p->unpack.result && !p->unpack.err)
                return take_unpacked(run, p, err);
        if (p->unpack.err && p->unpack.err->code != -EPIPE)
                drop_partial(run, p);
        if (worth_a_restart(p)) {
                pipeline_stop(p);
                p->retried = true;
                return pipeline_start(run, p, job, err);
        }
        return pipeline_error(p, err);
}

/* --- the loop --- */

/* The next job that needs work; those whose diff is here or comes with a layer above are present.
 */
static LayerJob *next_job(Run *run)
{
        LayerSet *set = run->set;

        while (run->next < set->n_jobs) {
                LayerJob *job = &set->jobs[run->next++];
                char name[LAYER_NAME_MAX];
                bool again = false;

                for (size_t i = run->next; i < set->n_jobs && !again; i++)
                        again = str_eq(set->jobs[i].diff_id, job->diff_id);
                job->present =
                        again || job->done || layout_find_diff(set->layout, job->diff_id, name);
                if (!job->present)
                        return job;
                if (!again)
                        status_progress(job_name(job), "exists", job->size, job->size);
        }
        return NULL;
}

static int start_more(Run *run, KlError **err)
{
        for (size_t i = 0; i < LAYERS_PARALLEL; i++) {
                Pipeline *p = &run->pipelines[i];
                LayerJob *job = p->job ? NULL : next_job(run);
                int r;

                if (!job)
                        continue;
                p->retried = false;
                r = pipeline_start(run, p, job, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int serve_pipeline(Run *run, Pipeline *p, const struct pollfd *fds, KlError **err)
{
        if (fds[0].revents)
                role_child_read(&p->unpack);
        if (fds[1].revents)
                role_child_read(&p->fetch);
        if (p->unpack.fd >= 0) {
                show_progress(p);
                return 0;
        }
        /* an unpacker that failed for itself has no use for the rest */
        if (p->fetch.fd >= 0 && (!p->unpack.err || p->unpack.err->code == -EPIPE))
                return 0;
        return pipeline_end(run, p, err);
}

/* 1 while something runs. */
static int run_turn(Run *run, KlError **err)
{
        struct pollfd fds[2 * LAYERS_PARALLEL];
        bool any = false;
        int r = start_more(run, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < LAYERS_PARALLEL; i++) {
                Pipeline *p = &run->pipelines[i];

                fds[2 * i] = (struct pollfd){ p->job ? p->unpack.fd : -1, POLLIN, 0 };
                fds[2 * i + 1] = (struct pollfd){ p->job ? p->fetch.fd : -1, POLLIN, 0 };
                any |= p->job != NULL;
        }
        if (!any)
                return 0;
        if (poll(fds, ELEMENTS(fds), -1) < 0 && errno != EINTR)
                return kl_error_errno(err, -errno, NULL, "wait for layers");
        for (size_t i = 0; i < LAYERS_PARALLEL && r == 0; i++)
                if (run->pipelines[i].job)
                        r = serve_pipeline(run, &run->pipelines[i], &fds[2 * i], err);
        return r < 0 ? r : 1;
}

int layers_run(LayerSet *set, KlError **err)
{
        __attribute__((cleanup(run_deinit))) Run run = { .set = set };
        int r;

        for (size_t i = 0; i < LAYERS_PARALLEL; i++) {
                run.pipelines[i].partial_fd = -1;
                run.pipelines[i].fetch.fd = -1;
                run.pipelines[i].unpack.fd = -1;
        }
        do
                r = run_turn(&run, err);
        while (r > 0);
        return r;
}
