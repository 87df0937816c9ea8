/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon: puts the rooms together, tells each what the others learn, runs the loop. Nothing
 * here decides anything about pods. Ending it leaves every pod running.
 */

#include "daemon.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TRIM_DELAY_MS 5000
#define RUNTIME_VERSION KUBELITE_VERSION
#define IMAGES_TOLD_MAX 256

/* --- what the rooms tell one another --- */

static void tell_images(Daemon *d)
{
        NodeImage images[IMAGES_TOLD_MAX];
        const Image *image;
        size_t n = 0;

        for (size_t i = 0; n < IMAGES_TOLD_MAX && (image = image_at(d->images, i)); i++)
                images[n++] = (NodeImage){ image->digests, image->tags, image->size_bytes };
        if (node_set_images(d->node, images, n) < 0)
                log_warning(NULL, "Images cannot be told to the node: out of memory");
}

static void tell_network(Daemon *d)
{
        const char *message = cni_not_ready_message(d->cni);
        KL_AUTOFREE char *text =
                message ? str_format("Network plugin returns error: %s", message) : NULL;

        node_set_network_ready(d->node, !message, text ? text : "");
}

static void on_changed(Deferred *deferred, void *data)
{
        Daemon *d = data;

        if (!d->pods)
                return;
        tell_images(d);
        tell_network(d);
        daemon_context_refresh(d);
        pod_manager_poke(d->pods);
}

static void on_room_changed(void *data)
{
        Daemon *d = data;

        deferred_schedule(d->changed);
}

static void on_node_changed(Node *node, void *data)
{
        on_room_changed(data);
}

static void on_signal(Signal *signal, int signo, void *data)
{
        Daemon *d = data;

        log_info(NULL, "Ending on signal %d; pods go on running", signo);
        loop_stop(d->loop);
}

static void on_watchdog(Timer *timer, void *data)
{
        daemon_notify("WATCHDOG=1");
        timer_start(timer, daemon_watchdog_ms());
}

/* What start-up needed and nobody needs now goes back to the system. */
static void on_trim(Timer *timer, void *data)
{
        malloc_trim(0);
}

/* --- preparation --- */

static int make_dirs(const Daemon *d, KlError **err)
{
        const struct {
                const char *path;
                mode_t mode;
        } dirs[] = {
                { d->flags->root_dir, 0750 },      { d->flags->state_dir, 0700 },
                { d->flags->image_dir, 0700 },     { d->paths.data_dir, 0700 },
                { d->config->pod_logs_dir, 0755 },
        };

        for (size_t i = 0; i < ELEMENTS(dirs); i++) {
                int r = dir_make_all(dirs[i].path, dirs[i].mode);

                if (r < 0)
                        return kl_error_errno(err, r, NULL, "make directory '%s'", dirs[i].path);
        }
        return 0;
}

static int lock_state(Daemon *d, KlError **err)
{
        KL_AUTOFREE char *path = str_format("%s/lock", d->flags->state_dir);

        if (!path)
                return kl_error_oom(err);
        d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (d->lock_fd < 0)
                return kl_error_errno(err, -errno, NULL, "open '%s'", path);
        if (fd_lock(d->lock_fd) < 0)
                return kl_error(err, -EBUSY, NULL,
                                "another kubelite uses the state directory '%s'; give this one a "
                                "--state-dir (and --root-dir) of its own",
                                d->flags->state_dir);
        return 0;
}

/* Bidirectional mounts of containers reach the host and other pods only through a shared root. */
static void share_root(void)
{
        if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
                log_warning(NULL, "The root mount cannot be made shared, ignoring: %s",
                            strerror(errno));
}

static void raise_limits(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                log_warning(NULL, "The limit of open files stays as it is: %s", strerror(errno));
}

static void print_warnings(char *const *warnings)
{
        for (; warnings && *warnings; warnings++)
                log_warning(NULL, "%s", *warnings);
}

static int read_configuration(Daemon *d, KlError **err)
{
        KL_TRY(daemon_config_load(d->flags, &d->config, err));
        log_set_json(str_eq(d->config->logging_format, "json"));
        log_set_level(d->config->logging_verbosity >= 2 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
        print_warnings(d->flags->warnings);
        print_warnings(d->config->warnings);
        KL_TRY(flags_node_name(d->flags, &d->name, err));
        if (!str_empty(d->flags->kubeconfig))
                KL_TRY(kubeconfig_read_file(d->flags->kubeconfig, &d->kubeconfig, err));
        return daemon_paths(d->flags->image_dir, &d->paths, err);
}

/* --- the rooms --- */

static int start_api(Daemon *d, KlError **err)
{
        ApiEndpoint endpoint;

        if (d->kubeconfig) {
                endpoint = node_api_endpoint(d->kubeconfig, "kubelite/" KUBELITE_VERSION);
                KL_TRY(api_client_new(d->loop, &endpoint, &d->api, err));
        }
        return event_recorder_new(d->loop, d->api, "kubelet", d->name, &d->events, err);
}

static int start_node(Daemon *d, KlError **err)
{
        char version[KUBERNETES_VERSION_SIZE];
        KL_AUTOFREE char *full = NULL;
        NodeOptions options = {
                .config = d->config,
                .name = d->name,
                .root_dir = d->flags->root_dir,
                .node_ips = d->flags->node_ips,
                .labels = d->flags->node_labels,
                .external_cloud = str_eq(d->flags->cloud_provider, "external"),
                .runtime_version = RUNTIME_VERSION,
                .runtime_handlers = d->flags->runtime_handlers,
                .user_namespaces = runtime_has_user_namespaces(),
                .recursive_read_only = true,
                .on_registered = on_node_changed,
                .on_changed = on_node_changed,
                .data = d,
        };

        kubernetes_version(KUBERNETES_VERSION_FILE, version);
        full = str_format("%s+kubelite.1", version);
        if (!full)
                return kl_error_oom(err);
        options.kubelet_version = full;
        return node_new(d->loop, d->api, d->events, &options, &d->node, err);
}

static int start_images(Daemon *d, KlError **err)
{
        ImageStoreOptions options = {
                .dir = d->flags->image_dir,
                .worker_path = d->paths.image_worker,
                .registries = d->flags->registries,
                .max_parallel_pulls = d->config->serialize_image_pulls
                                              ? 1
                                              : (unsigned int)d->config->max_parallel_image_pulls,
                .changed = on_room_changed,
                .data = d,
        };

        return image_store_new(d->loop, &options, &d->images, err);
}

static int start_runtime(Daemon *d, KlError **err)
{
        KL_AUTOFREE char *seccomp = str_format("%s/seccomp", d->flags->root_dir);
        RuntimeOptions options = {
                .state_dir = d->flags->state_dir,
                .data_dir = d->paths.data_dir,
                .layers_dir = image_store_layers_dir(d->images),
                .seccomp_dir = seccomp,
                .shim_path = d->paths.shim,
                .handlers = d->flags->runtime_handlers,
                .cgroup_root = str_empty(d->config->cgroup_root) ? "/" : d->config->cgroup_root,
                .systemd_cgroups = str_eq(d->config->cgroup_driver, "systemd"),
                .ids_per_pod = (uint32_t)d->config->user_namespace_ids_per_pod,
                .max_pods = d->config->max_pods,
        };

        if (!seccomp)
                return kl_error_oom(err);
        return runtime_new(d->loop, &options, &d->runtime, err);
}

static int start_network(Daemon *d, KlError **err)
{
        KL_AUTOFREE char *cache = str_format("%s/cni", d->paths.layers_parent);
        CniOptions options = {
                .conf_dir = d->flags->cni_conf_dir,
                .cache_dir = cache,
                /* A plugin runs within a runtime request of upstream's. */
                .timeout_ms = (uint64_t)d->config->runtime_request_timeout_us / 1000,
                .changed = on_room_changed,
                .data = d,
        };

        d->cni_bin_dirs = strv_copy(d->flags->cni_bin_dirs);
        if (d->cni_bin_dirs && !d->flags->cni_bin_dirs) {
                strv_add(&d->cni_bin_dirs, d->paths.cni_plugins);
                strv_add(&d->cni_bin_dirs, "/opt/cni/bin");
                strv_add(&d->cni_bin_dirs, "/usr/lib/cni");
        }
        options.bin_dirs = d->cni_bin_dirs;
        if (!cache || !d->cni_bin_dirs)
                return kl_error_oom(err);
        return cni_new(d->loop, &options, &d->cni, err);
}

static int start_pods(Daemon *d, KlError **err)
{
        VolumesOptions volumes = { .root_dir = d->flags->root_dir, .client = d->api };
        PodManagerOptions options = {
                .manifest_path = d->config->static_pod_path,
                .file_check_ms = (uint64_t)d->config->file_check_frequency_us / 1000,
        };
        LogTidyOptions log_tidy = {
                .max_files = d->config->container_log_max_files,
                .workers = (unsigned int)d->config->container_log_max_workers,
                .interval_ms = (uint64_t)d->config->container_log_monitor_interval_us / 1000,
        };
        char version[KUBERNETES_VERSION_SIZE];

        kubernetes_version(KUBERNETES_VERSION_FILE, version);
        KL_TRY(prober_new(d->loop, version, &d->prober, err));
        if (d->api)
                KL_TRY(services_new(d->api, on_room_changed, d, &d->services, err));
        KL_TRY(runtime_classes_new(d->api, on_room_changed, d, &d->runtime_classes, err));
        KL_TRY(object_cache_new(d->loop, d->api, &d->objects, err));
        volumes.objects = d->objects;
        KL_TRY(volumes_new(d->loop, &volumes, &d->volumes, err));
        KL_TRY(log_tidy_new(d->loop, &log_tidy, &d->log_tidy, err));
        KL_TRY(daemon_context_init(d, err));
        return pod_manager_new(&d->context, &options, &d->pods, err);
}

static int start_rooms(Daemon *d, KlError **err)
{
        KL_TRY(loop_new(&d->loop, err));
        d->changed = deferred_new(d->loop, on_changed, d);
        d->trim = timer_new(d->loop, on_trim, d);
        d->watchdog = timer_new(d->loop, on_watchdog, d);
        if (!d->changed || !d->trim || !d->watchdog)
                return kl_error_oom(err);
        if (signal_new(d->loop, SIGTERM, on_signal, d, &d->signals[0]) < 0 ||
            signal_new(d->loop, SIGINT, on_signal, d, &d->signals[1]) < 0)
                return kl_error(err, -EIO, NULL, "cannot follow signals");
        KL_TRY(start_api(d, err));
        KL_TRY(start_node(d, err));
        KL_TRY(start_images(d, err));
        KL_TRY(start_runtime(d, err));
        KL_TRY(daemon_stats_start(d, err));
        KL_TRY(start_network(d, err));
        KL_TRY(start_pods(d, err));
        KL_TRY(daemon_pressure_start(d, err));
        daemon_limit_reserved(d);
        if (d->config->healthz_port > 0)
                KL_TRY(healthz_new(d->loop, d->config->healthz_bind_address,
                                   (uint16_t)d->config->healthz_port, &d->healthz, err));
        KL_TRY(daemon_server_start(d, err));
        return daemon_control_start(d, err);
}

static void run(Daemon *d)
{
        node_set_runtime_ready(d->node, true, "");
        tell_images(d);
        tell_network(d);
        node_start(d->node);
        timer_start(d->trim, TRIM_DELAY_MS);
        if (daemon_watchdog_ms())
                timer_start(d->watchdog, daemon_watchdog_ms());
        daemon_notify("READY=1");
        log_info(NULL, "kubelite " KUBELITE_VERSION " runs node '%s'%s", d->name,
                 d->api ? "" : " on its own, without an API server");
        loop_run(d->loop);
        daemon_notify("STOPPING=1");
}

static void daemon_deinit(Daemon *d)
{
        daemon_control_stop(d);
        healthz_free(d->healthz);
        kubelet_server_free(d->server);
        worker_free(d->reserved_worker);
        system_oom_free(d->system_oom);
        evictor_free(d->evictor);
        image_collector_free(d->collector);
        pod_manager_free(d->pods);
        d->pods = NULL;
        stats_free(d->stats);
        log_tidy_free(d->log_tidy);
        prober_free(d->prober);
        volumes_free(d->volumes);
        object_cache_free(d->objects);
        services_free(d->services);
        runtime_classes_free(d->runtime_classes);
        cni_free(d->cni);
        runtime_free(d->runtime);
        image_store_free(d->images);
        node_free(d->node);
        event_recorder_free(d->events);
        api_client_free(d->api);
        for (size_t i = 0; i < ELEMENTS(d->signals); i++)
                signal_free(d->signals[i]);
        timer_free(d->watchdog);
        timer_free(d->trim);
        deferred_free(d->changed);
        loop_free(d->loop);
        arena_free(d->placement_arena);
        strv_free(d->cni_bin_dirs);
        daemon_paths_deinit(&d->paths);
        kubeconfig_free(d->kubeconfig);
        kubelet_config_free(d->config);
        flags_free(d->flags);
        free(d->name);
        free(d->uid);
        free(d->log_links_dir);
        free(d->resolv_conf);
        kl_close(d->lock_fd);
}

#define AUTO_DAEMON __attribute__((cleanup(daemon_deinit))) Daemon

static int start(Daemon *d, KlError **err)
{
        KL_TRY(read_configuration(d, err));
        KL_TRY(make_dirs(d, err));
        KL_TRY(lock_state(d, err));
        share_root();
        raise_limits();
        KL_TRY(start_rooms(d, err));
        return pod_manager_start(d->pods, err);
}

int daemon_main(int argc, char **argv)
{
        AUTO_DAEMON d = { .lock_fd = -1, .started_us = time_realtime_us() };
        char version[KUBERNETES_VERSION_SIZE];
        KL_AUTOERR err = NULL;

        signal(SIGPIPE, SIG_IGN);
        if (flags_parse(argc, argv, &d.flags, &err) < 0) {
                fprintf(stderr, "kubelite: %s\n", kl_error_msg(err));
                return 2;
        }
        if (d.flags->help) {
                flags_print_help(stdout);
                return 0;
        }
        if (d.flags->version) {
                kubernetes_version(KUBERNETES_VERSION_FILE, version);
                printf("Kubernetes %s\n", version);
                return 0;
        }
        if (start(&d, &err) < 0) {
                log_error(NULL, "Cannot start: %s", kl_error_msg(err));
                return 1;
        }
        run(&d);
        return 0;
}
