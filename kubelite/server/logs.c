/* SPDX-License-Identifier: Apache-2.0 */

/* /containerLogs/{namespace}/{pod}/{container} */

#include "server/server-internal.h"

#include "base/str.h"

typedef struct LogRequest {
        ServerRequest *rq;
        LogReader *reader;
        char *path;
        size_t at; /* of a piece that was handed out in part */
} LogRequest;

static void log_request_free(void *data)
{
        LogRequest *l = data;

        log_reader_free(l->reader);
        free(l->path);
        free(l);
}

/* A piece may be more than one chunk: what was taken of it is skipped when it comes again. */
static int on_output(LogReader *reader, const char *bytes, size_t len, void *data)
{
        LogRequest *l = data;

        while (l->at < len) {
                size_t n =
                        len - l->at < HTTP_SERVER_CHUNK_MAX ? len - l->at : HTTP_SERVER_CHUNK_MAX;
                int r = exchange_write(l->rq->exchange, bytes + l->at, n);

                if (r < 0)
                        return r;
                l->at += n;
        }
        l->at = 0;
        return 0;
}

static bool on_goes_on(LogReader *reader, void *data)
{
        LogRequest *l = data;
        const KubeletServerOptions *o = &l->rq->server->options;
        char *const *names = l->rq->target.segments;

        return o->funcs->log_goes_on(names[1], names[2], names[3], l->path, o->data);
}

static void on_done(LogReader *reader, const KlError *err, void *data)
{
        LogRequest *l = data;

        if (err)
                exchange_abort(l->rq->exchange);
        else
                exchange_end(l->rq->exchange);
}

static void on_writable(Exchange *exchange)
{
        ServerRequest *rq = exchange_data(exchange);
        LogRequest *l = rq->data;

        log_reader_resume(l->reader);
}

static bool names_are_valid(const Target *t)
{
        return name_is_dns1123_label(t->segments[1]) && name_is_dns1123_subdomain(t->segments[2]) &&
               name_is_dns1123_label(t->segments[3]);
}

static int start(LogRequest *l, const LogOptions *options, KlError **err)
{
        static const LogReaderFuncs funcs = { on_output, on_goes_on, on_done };
        ServerRequest *rq = l->rq;
        const KubeletServerOptions *o = &rq->server->options;
        char *const *names = rq->target.segments;

        KL_TRY(o->funcs->find_log(names[1], names[2], names[3], options->previous, &l->path, err,
                                  o->data));
        if (log_reader_new(rq->server->logs, l->path, options, &funcs, l, &l->reader, err) < 0)
                return -EINVAL;
        return 0;
}

void server_container_logs(ServerRequest *rq)
{
        KL_AUTOERR err = NULL;
        LogOptions options;
        LogRequest *l;
        int r;

        if (!names_are_valid(&rq->target)) {
                exchange_respond_text(rq->exchange, 400, "malformed name");
                return;
        }
        r = log_options_parse(&rq->target, &options, &err);
        if (r < 0) {
                exchange_respond_text(rq->exchange, r == -EDOM ? 422 : 400, "%s",
                                      kl_error_msg(err));
                return;
        }
        l = calloc(1, sizeof(*l));
        if (!l) {
                exchange_respond_text(rq->exchange, 500, "out of memory");
                return;
        }
        l->rq = rq;
        server_request_set_data(rq, l, log_request_free);
        r = start(l, &options, &err);
        if (r < 0)
                exchange_respond_text(rq->exchange,
                                      r == -ENOENT   ? 404
                                      : r == -EINVAL ? 400
                                                     : 500,
                                      "%s", kl_error_msg(err));
        else
                exchange_begin(rq->exchange, 200, "text/plain; charset=utf-8", on_writable);
}
