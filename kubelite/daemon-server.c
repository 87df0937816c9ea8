/* SPDX-License-Identifier: Apache-2.0 */

/* What the kubelet API is told by the other rooms. */

#include "daemon.h"

#include "pod/served.h"

static int write_pods(Buf *to, void *data)
{
        return pod_manager_write_pods(((Daemon *)data)->pods, to);
}

static int write_running(Buf *to, void *data)
{
        return pod_manager_write_running(((Daemon *)data)->pods, to);
}

static int find_log(const char *namespace, const char *pod, const char *container, bool previous,
                    char **ret_path, KlError **err, void *data)
{
        return pod_manager_find_log(((Daemon *)data)->pods, namespace, pod, container, previous,
                                    ret_path, err);
}

static bool log_goes_on(const char *namespace, const char *pod, const char *container,
                        const char *path, void *data)
{
        return pod_manager_log_goes_on(((Daemon *)data)->pods, namespace, pod, container, path);
}

static int find_place(const PlaceName *name, Place *ret, void *data)
{
        return pod_manager_find_place(((Daemon *)data)->pods, name, ret);
}

int daemon_server_start(Daemon *d, KlError **err)
{
        static const KubeletServerFuncs funcs = {
                .write_pods = write_pods,
                .write_running = write_running,
                .find_log = find_log,
                .log_goes_on = log_goes_on,
                .find_place = find_place,
        };
        KubeletServerOptions options = {
                .config = d->config,
                .node_name = d->name,
                .cert_dir = d->flags->cert_dir,
                .log_dir = d->config->pod_logs_dir,
                .addresses = node_addresses(d->node),
                .api = d->api,
                .funcs = &funcs,
                .data = d,
        };

        if (!d->config->enable_server || d->config->port <= 0)
                return 0;
        KL_TRY(kubelet_server_new(d->loop, &options, &d->server, err));
        return daemon_stats_serve(d) < 0 || daemon_metrics_serve(d) < 0 ? kl_error_oom(err) : 0;
}
