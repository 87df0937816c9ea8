/* SPDX-License-Identifier: Apache-2.0 */

/* Sets of volumes on the real file system, without an API server. */

#include "../pod/pod-literal.h"
#include "../unit.h"
#include "base/file.h"
#include "base/str.h"
#include "volume/volume.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

typedef struct Fixture {
        char dir[64];
        Loop *loop;
        ObjectCache *objects;
        Volumes *volumes;
        PodVolumes *set;
        Pod *pod;
        PodFacts facts;
        VolumesState until;
} Fixture;

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));
        VolumesOptions options = { 0 };

        *state = f;
        strncpy(f->dir, "/tmp/kubelite-volumes-XXXXXX", sizeof(f->dir) - 1);
        if (!mkdtemp(f->dir) || loop_new(&f->loop, NULL) < 0 ||
            object_cache_new(f->loop, NULL, &f->objects, NULL) < 0)
                return -1;
        options.root_dir = f->dir;
        options.objects = f->objects;
        f->facts.node_name = "n1";
        return volumes_new(f->loop, &options, &f->volumes, NULL);
}

static int teardown(void **state)
{
        Fixture *f = *state;
        int r;

        pod_volumes_free(f->set);
        pod_free(f->pod);
        volumes_free(f->volumes);
        object_cache_free(f->objects);
        loop_free(f->loop);
        r = tree_remove(f->dir);
        free(f);
        return r;
}

static void on_volumes(PodVolumes *set, void *data)
{
        Fixture *f = data;

        if (pod_volumes_state(set) == f->until)
                loop_stop(f->loop);
}

static void run_until(Fixture *f, VolumesState state)
{
        f->until = state;
        if (pod_volumes_state(f->set) != state)
                loop_run(f->loop);
        assert_int_equal(pod_volumes_state(f->set), state);
}

static void set_up(Fixture *f, const char *volumes, VolumesState expected)
{
        KL_AUTOFREE char *yaml = str_format(
                POD_HEAD "spec:\n  containers: [{name: c, image: x}]\n  volumes:\n%s", volumes);

        f->pod = pod_literal(yaml);
        assert_int_equal(
                pod_volumes_new(f->volumes, f->pod, &f->facts, on_volumes, f, &f->set, NULL), 0);
        run_until(f, expected);
}

static void tear_down(Fixture *f)
{
        KL_AUTOFREE char *pod_dir = str_format("%s/pods/%s", f->dir, f->pod->uid);

        pod_volumes_teardown(f->set);
        run_until(f, VOLUMES_GONE);
        assert_int_equal(access(pod_dir, F_OK), -1);
}

static void test_empty_dirs(void **state)
{
        Fixture *f = *state;
        struct statfs fs;
        struct stat st;

        set_up(f,
               "  - {name: disk, emptyDir: {}}\n"
               "  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}\n"
               "  - {name: none}\n",
               VOLUMES_READY);
        assert_int_equal(stat(pod_volume_path(f->set, "disk"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0777);
        assert_int_equal(statfs(pod_volume_path(f->set, "mem"), &fs), 0);
        assert_int_equal(fs.f_type, 0x01021994);
        assert_int_equal(fs.f_blocks * (uint64_t)fs.f_bsize, 1 << 20);
        assert_non_null(pod_volume_path(f->set, "none"));
        tear_down(f);
}

static void test_host_paths(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *made = str_format("%s/made", f->dir);
        KL_AUTOFREE char *volumes =
                str_format("  - {name: a, hostPath: {path: %s}}\n"
                           "  - {name: b, hostPath: {path: %s/f, type: FileOrCreate}}\n"
                           "  - {name: n, hostPath: {path: /dev/null, type: CharDevice}}\n",
                           made, f->dir);
        struct stat st;

        set_up(f, volumes, VOLUMES_READY);
        assert_int_equal(stat(made, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        tear_down(f);
        /* Only our own directory goes with the pod. */
        assert_int_equal(access(made, F_OK), 0);
}

static void test_host_path_of_a_wrong_type(void **state)
{
        Fixture *f = *state;
        unsigned int failures;

        set_up(f, "  - {name: n, hostPath: {path: /dev/null, type: Directory}}\n", VOLUMES_FAILED);
        assert_string_equal(pod_volumes_message(f->set, &failures),
                            "MountVolume.SetUp failed for volume \"n\" : hostPath type check "
                            "failed: /dev/null is not a directory");
        assert_int_equal(failures, 1);
        tear_down(f);
}

static void test_downward_api(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *path = NULL;
        KL_AUTOFREE char *text = NULL;

        set_up(f,
               "  - name: d\n    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: "
               "metadata.labels}}, {path: notes, fieldRef: {fieldPath: metadata.annotations}}]}\n",
               VOLUMES_READY);
        path = str_format("%s/labels", pod_volume_path(f->set, "d"));
        assert_int_equal(file_read(path, 100, &text, NULL), 0);
        assert_string_equal(text, "app=\"web\"");
        free(path);
        free(text);
        path = str_format("%s/notes", pod_volume_path(f->set, "d"));
        assert_int_equal(file_read(path, 100, &text, NULL), 0);
        assert_string_equal(text, "note=\"a \\\"b\\\"\"");
        tear_down(f);
}

static void test_missing_objects(void **state)
{
        Fixture *f = *state;
        unsigned int failures;

        set_up(f,
               "  - {name: o, configMap: {name: m, optional: true}}\n"
               "  - {name: s, secret: {secretName: gone}}\n",
               VOLUMES_FAILED);
        assert_string_equal(
                pod_volumes_message(f->set, &failures),
                "MountVolume.SetUp failed for volume \"s\" : secret \"gone\" not found");
        tear_down(f);
}

static void test_unsupported_type(void **state)
{
        Fixture *f = *state;
        unsigned int failures;

        set_up(f, "  - {name: g, gitRepo: {repository: x}}\n", VOLUMES_FAILED);
        assert_non_null(
                strstr(pod_volumes_message(f->set, &failures), "gitRepo are not supported"));
        tear_down(f);
}

/* A file system mounted somewhere in the pod's directory is unmounted, not emptied. */
static void test_teardown_spares_what_is_mounted(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *canary_dir = str_format("%s/canary", f->dir);
        KL_AUTOFREE char *canary = str_format("%s/canary/keep", f->dir);
        KL_AUTOFREE char *target = NULL;

        assert_int_equal(dir_make_all(canary_dir, 0755), 0);
        assert_int_equal(file_replace(canary, "x", 1, 0644, false), 0);
        set_up(f, "  - {name: v, emptyDir: {}}\n", VOLUMES_READY);
        target = str_format("%s/mnt", pod_volume_path(f->set, "v"));
        assert_int_equal(mkdir(target, 0755), 0);
        assert_int_equal(mount(canary_dir, target, NULL, MS_BIND, NULL), 0);
        tear_down(f);
        assert_int_equal(access(canary, F_OK), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_empty_dirs, setup, teardown),
                cmocka_unit_test_setup_teardown(test_host_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_host_path_of_a_wrong_type, setup, teardown),
                cmocka_unit_test_setup_teardown(test_downward_api, setup, teardown),
                cmocka_unit_test_setup_teardown(test_missing_objects, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unsupported_type, setup, teardown),
                cmocka_unit_test_setup_teardown(test_teardown_spares_what_is_mounted, setup,
                                                teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
