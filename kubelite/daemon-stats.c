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

/* --- the stats command --- */

typedef struct StatsCommand {
        ControlReply *reply;
        char *namespace, *name; /* NULL: all */
        StatsJob *job;
} StatsCommand;

static void command_free(StatsCommand *c)
{
        if (!c)
                return;
        stats_job_free(c->job);
        free(c->namespace);
        free(c->name);
        free(c);
}

static void write_usage(JsonWriter *w, const StatsGroup *g)
{
        if (g->has_rate)
                jw_kint(w, "cpu_nano_cores", (int64_t)g->nano_cores);
        jw_kint(w, "cpu_core_nano_seconds", (int64_t)g->used.cpu_usage_ns);
        jw_kint(w, "memory_working_set_bytes", (int64_t)g->used.memory_working_set_bytes);
        if (g->used.memory_limit_bytes)
                jw_kint(w, "memory_limit_bytes", (int64_t)g->used.memory_limit_bytes);
        jw_kint(w, "pids", (int64_t)g->used.pids);
}

static void write_pod_stats(JsonWriter *w, const StatsPod *pod)
{
        jw_object(w);
        jw_kstr(w, "name", pod->name);
        jw_kstr(w, "namespace", pod->namespace);
        jw_kstr(w, "uid", pod->uid);
        write_usage(w, &pod->group);
        if (pod->ephemeral.known)
                jw_kint(w, "ephemeral_bytes", (int64_t)pod->ephemeral.used_bytes);
        jw_karray(w, "containers");
        for (size_t i = 0; i < pod->n_containers; i++) {
                const StatsContainer *c = &pod->containers[i];

                jw_object(w);
                jw_kstr(w, "name", c->name);
                jw_kstr(w, "id", c->id);
                write_usage(w, &c->group);
                if (c->rootfs.known)
                        jw_kint(w, "rootfs_bytes", (int64_t)c->rootfs.used_bytes);
                if (c->logs.known)
                        jw_kint(w, "logs_bytes", (int64_t)c->logs.used_bytes);
                jw_end(w);
        }
        jw_end(w);
        jw_end(w);
}

static bool is_asked_for(const StatsCommand *c, const StatsPod *pod)
{
        return pod->group.known && (!c->namespace || str_eq(c->namespace, pod->namespace)) &&
               (!c->name || str_eq(c->name, pod->name));
}

static void reply_stats(const StatsCommand *c, const StatsReport *report)
{
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOERR err = NULL;
        JsonWriter w = JSON_WRITER(&text);
        bool found = !c->name;

        jw_array(&w);
        for (size_t i = 0; i < report->n_pods; i++) {
                if (!is_asked_for(c, &report->pods[i]))
                        continue;
                found = true;
                write_pod_stats(&w, &report->pods[i]);
        }
        jw_end(&w);
        if (found) {
                control_reply_result(c->reply, buf_error(&text) ? NULL : buf_str(&text), text.len);
                return;
        }
        kl_error(&err, -ENOENT, "NotFound", "there is no running pod '%s'", c->name);
        control_reply_error(c->reply, err);
}

static void on_command_ready(StatsJob *job, StatsReport *report, void *data)
{
        KL_AUTO(stats_report_free) StatsReport *mine = report;
        StatsCommand *c = data;

        c->job = NULL;
        reply_stats(c, mine);
        command_free(c);
}

static void on_command_cancelled(ControlReply *reply, void *data)
{
        command_free(data);
}

static char *copy_of(const Value *request, const char *key)
{
        const char *text = value_get_str(request, key);

        return str_empty(text) ? NULL : strdup(text);
}

void daemon_stats_command(ControlReply *reply, const Value *request, int fd, void *data)
{
        Daemon *d = data;
        StatsCommand *c = calloc(1, sizeof(*c));
        StatsReport *report;
        KL_AUTOERR err = NULL;
        int r = c ? 0 : kl_error_oom(&err);

        if (r == 0) {
                c->reply = reply;
                c->namespace = copy_of(request, "namespace");
                c->name = copy_of(request, "name");
                r = stats_report_new(d->stats, CGROUP_STATS_SUMMARY, &report, &err);
        }
        if (r == 0)
                r = stats_report_disks(d->stats, report, STATS_DISK_WAIT_MS, on_command_ready, c,
                                       &c->job, &err);
        if (r < 0) {
                control_reply_error(reply, err);
                command_free(c);
                return;
        }
        control_reply_on_cancel(reply, on_command_cancelled, c);
}
