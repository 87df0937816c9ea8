/* SPDX-License-Identifier: Apache-2.0 */

/* Deaths: of the shim, of the daemon, of both, and of the machine. */

#include "tests/unit/runtime/node.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The number that the log begins with. */
static pid_t pid_of(char *log)
{
        int64_t pid = 0;

        log[strcspn(log, "\n")] = '\0';
        assert_int_equal(str_to_i64(log, 2, INT32_MAX, &pid), 0);
        return (pid_t)pid;
}

static void freeze(const Pod *pod, const char *id)
{
        int i = cgroup_find(runtime->tree, "freezer");
        KL_AUTOFREE char *path = str_format("%s/%s", pod->sandbox->cgroup, id);
        KL_AUTOFREE char *dir = i < 0 ? NULL : cgroup_dir(runtime->tree, (size_t)i, path);
        KL_AUTOFREE char *file = dir ? str_format("%s/freezer.state", dir) : NULL;

        if (file)
                assert_int_equal(file_write(file, "FROZEN"), 0);
}

/* Also what left its session and its parent, in the host's pid namespace, frozen as well. */
static void test_lost_shim(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Box box, done;
        Seen *s, *d;
        pid_t shim, daemonized;
        KL_AUTOFREE char *log = NULL;

        spec.host_pid = true;
        create(&pod, &spec);
        WAIT_FOR(pod.ready);
        box_init(&box, "setsid sh -c 'sleep 1000 & echo $!'; sleep 1000");
        box_init(&done, "exit 4");
        d = run_to_end(&pod, &done);
        s = start(&pod, &box);
        WAIT_FOR(s->state == CONTAINER_RUNNING);
        for (int i = 0; i < 500; i++) {
                free(log);
                log = log_of(&box);
                if (log[0])
                        break;
                usleep(5000);
        }
        daemonized = pid_of(log);
        assert_true(daemonized > 1 && alive(daemonized));
        shim = shim_client_pid(pod.sandbox->client);
        assert_true(shim > 1);
        freeze(&pod, box.id);
        assert_int_equal(kill(shim, SIGKILL), 0);
        WAIT_FOR(pod.lost);
        assert_int_equal(s->state, CONTAINER_EXITED);
        assert_int_equal(s->exit_code, 137);
        assert_string_equal(s->reason, "ContainerStatusUnknown");
        assert_int_equal(d->exit_code, 4);
        assert_false(alive(daemonized));
        assert_false(alive(shim));
        /* The records stay for the pod's next sandbox. */
        sandbox_destroy(pod.sandbox, false);
        WAIT_FOR(pod.destroyed);
        expect_nothing(&pod, false);
        pod.destroyed = pod.ready = false;
        random_hex(pod.id, 32);
        spec.id = pod.id;
        create(&pod, &spec);
        WAIT_FOR(pod.ready);
        {
                ContainerInfo info;

                assert_true(sandbox_container(pod.sandbox, box.id, &info));
                assert_string_equal(info.reason, "ContainerStatusUnknown");
                assert_int_equal(info.exit_code, 137);
                assert_true(sandbox_container(pod.sandbox, done.id, &info));
                assert_int_equal(info.exit_code, 4);
        }
        down(&pod);
}

/* --- adoption --- */

typedef struct Found {
        AdoptedSandbox one[64];
        size_t n;
        bool done;
        Pod *pods;
        size_t n_pods;
} Found;

static void on_found(const AdoptedSandbox *adopted, void *data)
{
        Found *found = data;

        found->one[found->n++] = *adopted;
        for (size_t i = 0; i < found->n_pods; i++)
                if (str_eq(found->pods[i].uid, adopted->spec.pod_uid)) {
                        found->pods[i].sandbox = adopted->sandbox;
                        sandbox_set_events(adopted->sandbox, &node_events, &found->pods[i]);
                }
}

static void on_adopted(void *data)
{
        ((Found *)data)->done = true;
}

static void adopt(Found *found)
{
        KL_AUTOERR err = NULL;

        if (runtime_adopt(runtime, on_found, on_adopted, found, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(found->n, 0);
        WAIT_FOR(found->done);
}

/* What a daemon leaves that dies between the record and the start: forgotten. */
static void never_started(const Pod *pod)
{
        ContainerRecord meta = {
                .name = "n", .image = "i", .image_id = "", .image_ref = "", .spec_hash = ""
        };
        KL_AUTOFREE char *dir = NULL;
        char id[65];

        random_hex(id, 32);
        meta.id = id;
        dir = str_format("%s/state/pods/%s/containers/%s", base, pod->uid, id);
        assert_int_equal(dir_make_all(dir, 0700), 0);
        assert_int_equal(store_write_container(dir, &meta, NULL), 0);
}

/* The daemon dies at any moment while it makes a sandbox. */
static void test_adopt_half_made(void **state)
{
        for (int turns = 0; turns < 8; turns++) {
                Pod pod = { .id = "" };
                SandboxSpec spec = pod_spec(&pod);
                Found found = { .pods = &pod, .n_pods = 1 };
                pid_t shim;

                create(&pod, &spec);
                for (int i = 0; i < turns && !pod.ready; i++)
                        turn();
                shim = shim_client_pid(pod.sandbox->client);
                runtime = runtime_free(runtime);
                runtime_up();
                adopt(&found);
                if (found.n)
                        down(&pod);
                expect_nothing(&pod, true);
                for (int i = 0; i < 1000 && alive(shim); i++)
                        usleep(2000);
                assert_false(alive(shim));
        }
}

static void test_adopt(void **state)
{
        Pod pods[2] = { { .id = "" }, { .id = "" } };
        Found found = { .pods = pods, .n_pods = 2 };
        Box running, ended, meanwhile;
        Seen *r, *e, *m;
        ContainerInfo info;
        pid_t pid, shim;

        up(&pods[0]);
        up(&pods[1]);
        box_init(&running, "sleep 1000");
        box_init(&ended, "exit 9");
        box_init(&meanwhile, "while ! cat /v/go; do sleep 0.02; done; exit 6");
        meanwhile.spec.mounts = &(MountSpec){ base, -1, "/v", false, false, PROPAGATION_NONE };
        meanwhile.spec.n_mounts = 1;
        never_started(&pods[0]);
        r = start(&pods[0], &running);
        m = start(&pods[0], &meanwhile);
        e = run_to_end(&pods[0], &ended);
        assert_int_equal(e->exit_code, 9);
        WAIT_FOR(r->state == CONTAINER_RUNNING && m->state == CONTAINER_RUNNING);
        pid = r->pid;
        shim = shim_client_pid(pods[1].sandbox->client);
        runtime = runtime_free(runtime);
        assert_true(alive(pid));
        /* One shim dies and one container ends while there is no daemon. */
        kill(shim, SIGKILL);
        {
                KL_AUTOFREE char *go = str_format("%s/go", base);

                assert_int_equal(file_replace(go, "", 0, 0644, false), 0);
        }
        while (alive(m->pid))
                usleep(1000);
        runtime_up();
        adopt(&found);
        assert_int_equal(found.n, 2);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(found.one[i].lost, found.one[i].sandbox == pods[1].sandbox);
        assert_string_equal(sandbox_netns(pods[0].sandbox), pods[0].netns);
        assert_true(sandbox_container(pods[0].sandbox, running.id, &info));
        assert_int_equal(info.state, CONTAINER_RUNNING);
        assert_int_equal(info.pid, pid);
        assert_true(alive(pid));
        assert_string_equal(info.image_ref, "r");
        assert_true(sandbox_container(pods[0].sandbox, ended.id, &info));
        assert_int_equal(info.exit_code, 9);
        assert_false(sandbox_container_at(pods[0].sandbox, 3, &info));
        WAIT_FOR(sandbox_container(pods[0].sandbox, meanwhile.id, &info) &&
                 info.state == CONTAINER_EXITED);
        assert_int_equal(info.exit_code, 6);
        sandbox_stop_container(pods[0].sandbox, running.id, 0);
        WAIT_FOR(r->state == CONTAINER_EXITED);
        assert_int_equal(r->exit_code, 137);
        down(&pods[0]);
        down(&pods[1]);
}

static int cgroup_exists(const char *path)
{
        KL_AUTOFD int fd = cgroup_open(runtime->tree, 0, path);

        return fd >= 0;
}

/* Records of another boot, and what nobody knows. */
static void test_adopt_other_boot(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Found found = { .pods = &pod, .n_pods = 1 };
        KL_AUTOFREE char *dir = str_format("%s/state/pods/%s", base, pod.uid);
        KL_AUTOFREE char *broken = str_format("%s/state/pods/broken", base);
        KL_AUTOFREE char *orphan = NULL, *record = NULL, *nobody = NULL;
        ContainerRecord meta = { .name = "c",
                                 .image = "i",
                                 .image_id = "",
                                 .image_ref = "",
                                 .spec_hash = "",
                                 .attempt = 2,
                                 .created_us = 5 };
        ContainerInfo info;
        struct stat st;
        char id[65], other[65];

        random_hex(id, 32);
        random_hex(other, 32);
        meta.id = id;
        orphan = str_format("%s/data/%s/upper", base, other);
        record = str_format("%s/containers/%s", dir, id);
        assert_int_equal(dir_make_all(record, 0700), 0);
        assert_int_equal(dir_make_all(broken, 0700), 0);
        assert_int_equal(dir_make_all(orphan, 0700), 0);
        assert_int_equal(store_write_sandbox(dir, &spec, "another-boot", NULL), 0);
        assert_int_equal(store_write_container(record, &meta, NULL), 0);
        /* A container of ours, by its layer. */
        nobody = str_format("kubepods/podnobody/%s", other);
        assert_int_equal(cgroup_create(runtime->tree, nobody, true, NULL), 0);
        adopt(&found);
        assert_int_equal(found.n, 1);
        assert_true(found.one[0].lost);
        assert_string_equal(found.one[0].spec.pod_name, "pod");
        assert_true(sandbox_container(pod.sandbox, id, &info));
        assert_int_equal(info.state, CONTAINER_EXITED);
        assert_int_equal(info.exit_code, 137);
        assert_int_equal(info.attempt, 2);
        assert_string_equal(info.reason, "ContainerStatusUnknown");
        assert_int_equal(stat(broken, &st), -1);
        assert_int_equal(stat(orphan, &st), -1);
        assert_int_equal(cgroup_exists("kubepods/podnobody"), 0);
        down(&pod);
}

static pid_t sleeper_in(const char *group)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                pause();
                _exit(0);
        }
        assert_int_equal(cgroup_attach(runtime->tree, group, pid), 0);
        return pid;
}

/* Its namespaces and its shm are pinned there. */
static void unmount_in(const char *path)
{
        KL_AUTODIR DIR *dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                KL_AUTOFREE char *inner = str_format("%s/%s", path, entry->d_name);

                umount2(inner, MNT_DETACH | UMOUNT_NOFOLLOW);
        }
}

/* As a kubelet with containerd has them, or another kubelite: groups of which nothing proves that
 * they are ours. Beside them one that a lost record leaves to us. */
static void test_groups_of_another_kubelet_stay(void **state)
{
        static const char foreign[] = "kubepods/burstable/podforeign";
        static const char other[] = "kubepods/podother";
        Pod lost = { .id = "" };
        SandboxSpec spec = pod_spec(&lost);
        Found found = { .n = 0 };
        KL_AUTOFREE char *container = NULL, *record = NULL, *group = NULL;
        pid_t kubelets, kubelites, shim;
        char id[65];

        random_hex(id, 32);
        container = str_format("%s/%s", foreign, id);
        assert_int_equal(cgroup_create(runtime->tree, foreign, true, NULL), 0);
        assert_int_equal(cgroup_create(runtime->tree, container, false, NULL), 0);
        assert_int_equal(cgroup_create(runtime->tree, "kubepods/podother/shim", false, NULL), 0);
        kubelets = sleeper_in(container);
        kubelites = sleeper_in("kubepods/podother/shim");
        create(&lost, &spec);
        WAIT_FOR(lost.ready);
        shim = shim_client_pid(lost.sandbox->client);
        record = strdup(lost.sandbox->dir);
        group = strdup(lost.sandbox->cgroup);
        runtime = runtime_free(runtime);
        runtime_unpin(lost.id);
        unmount_in(record);
        assert_int_equal(tree_remove(record), 0);
        runtime_up();
        adopt(&found);
        assert_int_equal(found.n, 0);
        assert_false(alive(shim));
        assert_int_equal(cgroup_empty(runtime->tree, group), 1);
        assert_true(alive(kubelets));
        assert_true(alive(kubelites));
        kill(kubelets, SIGKILL);
        kill(kubelites, SIGKILL);
        waitpid(kubelets, NULL, 0);
        waitpid(kubelites, NULL, 0);
        assert_int_equal(cgroup_remove(runtime->tree, foreign, 2000), 0);
        assert_int_equal(cgroup_remove(runtime->tree, other, 2000), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_lost_shim, after_each),
                cmocka_unit_test_teardown(test_adopt, after_each),
                cmocka_unit_test_teardown(test_adopt_half_made, after_each),
                cmocka_unit_test_teardown(test_adopt_other_boot, after_each),
                cmocka_unit_test_teardown(test_groups_of_another_kubelet_stay, after_each),
        };

        return run_on_node(tests, ELEMENTS(tests));
}
