/* SPDX-License-Identifier: Apache-2.0 */

/* Statistics and metrics: who gathers them, and who is told. */

#include "daemon.h"

#include "base/log.h"
#include "base/str.h"
#include "pod/served.h"

static void list_pods(StatsGather *gather, void *data)
{
        const Daemon *d = data;

        if (d->pods)
                pod_manager_list_stats(d->pods, gather);
}

int daemon_stats_start(Daemon *d, KlError **err)
{
        d->stats_options = (StatsOptions){
                .runtime = d->runtime,
                .node_name = d->name,
                .root_dir = d->flags->root_dir,
                .images_dir = d->flags->image_dir,
                .containers_dir = d->paths.data_dir,
        };
        return stats_new(d->loop, &d->stats_options, list_pods, d, &d->stats, err);
}

/* --- /stats --- */

typedef struct SummaryRequest {
        ServerRequest *rq;
        StatsJob *job;
} SummaryRequest;

static void summary_request_free(void *data)
{
        SummaryRequest *s = data;

        stats_job_free(s->job);
        free(s);
}

static void respond_summary(ServerRequest *rq, const StatsReport *report, bool only)
{
        KL_AUTOBUF body = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);

        stats_write_summary(report, only, &w);
        if (buf_error(&body))
                exchange_respond_text(server_request_exchange(rq), 500, "out of memory");
        else
                exchange_respond_buf(server_request_exchange(rq), 200, "application/json", &body);
}

static void on_summary(StatsJob *job, StatsReport *report, void *data)
{
        KL_AUTO(stats_report_free) StatsReport *mine = report;
        SummaryRequest *s = data;

        s->job = NULL;
        respond_summary(s->rq, mine, false);
}

static int start_summary(Daemon *d, ServerRequest *rq, StatsReport *report, KlError **err)
{
        SummaryRequest *s = calloc(1, sizeof(*s));

        if (!s) {
                stats_report_free(report);
                return kl_error_oom(err);
        }
        s->rq = rq;
        server_request_set_data(rq, s, summary_request_free);
        return stats_report_disks(d->stats, report, STATS_DISK_WAIT_MS, on_summary, s, &s->job,
                                  err);
}

static void serve_stats(ServerRequest *rq, void *data)
{
        Daemon *d = data;
        const Target *target = server_request_target(rq);
        bool only = str_eq(target_get(target, "only_cpu_and_memory"), "true");
        StatsReport *report;
        KL_AUTOERR err = NULL;
        int r;

        /* All that is left of /stats since Kubernetes 1.21. */
        if (target->n_segments != 2 || !str_eq(target->segments[1], "summary")) {
                exchange_respond_text(server_request_exchange(rq), 404, "404 page not found");
                return;
        }
        r = stats_report_new(d->stats, CGROUP_STATS_SUMMARY, &report, &err);
        if (r == 0 && only) {
                respond_summary(rq, report, true);
                stats_report_free(report);
        } else if (r == 0) {
                r = start_summary(d, rq, report, &err);
        }
        if (r < 0)
                exchange_respond_text(server_request_exchange(rq), 500, "%s", kl_error_msg(err));
}

int daemon_stats_serve(Daemon *d)
{
        return kubelet_server_handle(d->server, "stats", serve_stats, d);
}
