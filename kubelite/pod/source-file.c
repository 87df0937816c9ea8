/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The manifest directory. Files are read whole at each scan (they are small and local), and decoded
 * only when their content changed. inotify makes a scan come soon; a short delay gathers the events
 * of one edit. The timer covers what inotify cannot see.
 */

#include "pod/source-file.h"

#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "codec/yaml.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define SETTLE_MS 20
#define INOTIFY_MASK                                                                               \
        (IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)

typedef struct Manifest {
        uint64_t content_hash;
        bool seen;
        char *text; /* the last version that decoded */
        size_t len;
} Manifest;

struct FileSource {
        Loop *loop;
        char *dir, *node_name;
        uint64_t check_ms;
        FileSourceFunc func;
        void *data;
        Map *manifests; /* path -> Manifest */
        Timer *timer, *settle;
        int inotify_fd;
        Watch *watch;
};

static void manifest_free(void *data)
{
        Manifest *m = data;

        free(m->text);
        free(m);
}

typedef struct PodSet {
        Pod **pods;
        size_t n;
} PodSet;

static void pod_set_deinit(PodSet *set)
{
        for (size_t i = 0; i < set->n; i++)
                pod_free(set->pods[i]);
        free(set->pods);
        *set = (PodSet){ 0 };
}

#define AUTO_POD_SET __attribute__((cleanup(pod_set_deinit))) PodSet

static int pod_set_add(PodSet *set, Pod *pod)
{
        Pod **grown = reallocarray(set->pods, set->n + 1, sizeof(*grown));

        if (!grown)
                return -ENOMEM;
        grown[set->n++] = pod;
        set->pods = grown;
        return 0;
}

static int decode_documents(FileSource *s, const char *path, const char *text, size_t len,
                            PodSet *to, KlError **err)
{
        Value **documents = NULL;
        size_t n = 0;
        int r;

        r = yaml_read_documents(text, len, &documents, &n, err);
        if (r < 0)
                return r;
        if (n == 0)
                r = kl_error(err, -EINVAL, NULL, "there is no Pod in it");
        for (size_t i = 0; i < n; i++) {
                Pod *pod = NULL;

                if (r == 0)
                        r = static_pod_decode(documents[i], s->node_name, path, &pod, err);
                if (r == 0 && pod_set_add(to, pod) < 0) {
                        pod_free(pod);
                        r = kl_error_oom(err);
                }
                value_free(documents[i]);
        }
        free(documents);
        return r;
}

/* Pods of one manifest: of its content now, or, if that is broken, of the last good one. */
static void read_manifest(FileSource *s, const char *path, PodSet *all)
{
        Manifest *m = map_get(s->manifests, path);
        KL_AUTOFREE char *text = NULL;
        AUTO_POD_SET pods = { 0 };
        KL_AUTOERR err = NULL;
        uint64_t hash;
        size_t len = 0;
        int r;

        if (!m) {
                m = calloc(1, sizeof(*m));
                if (!m || map_set(s->manifests, path, m) < 0) {
                        free(m);
                        return;
                }
        }
        m->seen = true;
        r = file_read(path, MANIFEST_SIZE_MAX, &text, &len);
        hash = r < 0 ? (uint64_t)-r : hash_fnv64(text, len);
        if (r < 0)
                kl_error_errno(&err, r, NULL, "read it");
        else
                r = decode_documents(s, path, text, len, &pods, &err);
        if (r == 0) {
                free(m->text);
                m->text = KL_STEAL(text);
                m->len = len;
        } else if (hash != m->content_hash) {
                log_error(NULL, "Manifest '%s' is not used: %s%s", path, kl_error_msg(err),
                          m->text ? "; its last good version stays" : "");
        }
        m->content_hash = hash;
        if (r < 0 && m->text) {
                pod_set_deinit(&pods);
                decode_documents(s, path, m->text, m->len, &pods, NULL);
        }
        for (size_t i = 0; i < pods.n; i++)
                if (pod_set_add(all, pods.pods[i]) == 0)
                        pods.pods[i] = NULL;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **list_manifests(const FileSource *s)
{
        KL_AUTOSTRV paths = calloc(1, sizeof(*paths));
        KL_AUTODIR DIR *dir = opendir(s->dir);
        struct dirent *entry;
        size_t n = 0;

        if (!dir && errno == ENOTDIR)
                strv_add(&paths, s->dir);
        while (dir && (entry = readdir(dir))) {
                if (entry->d_name[0] == '.' || entry->d_type == DT_DIR)
                        continue;
                if (++n > MANIFEST_FILES_MAX) {
                        log_warning(NULL, "More than %d manifests in '%s', ignoring the rest",
                                    MANIFEST_FILES_MAX, s->dir);
                        break;
                }
                strv_addf(&paths, "%s/%s", s->dir, entry->d_name);
        }
        if (paths)
                qsort(paths, strv_len(paths), sizeof(*paths), compare_names);
        return KL_STEAL(paths);
}

static void forget_unseen(FileSource *s)
{
        const char *path;
        Manifest *m;

        for (size_t i = 0; map_next(s->manifests, &i, &path, &m);) {
                if (m->seen)
                        m->seen = false;
                else
                        map_remove(s->manifests, path);
        }
}

static void on_inotify(Watch *watch, int fd, unsigned int events, void *data)
{
        FileSource *s = data;
        char buf[4096];

        while (read(fd, buf, sizeof(buf)) > 0)
                ;
        timer_start(s->settle, SETTLE_MS);
}

/* (Re)places the watch; the directory may have been replaced or may have come only now. */
static void follow(FileSource *s)
{
        if (s->inotify_fd < 0)
                return;
        inotify_add_watch(s->inotify_fd, s->dir, INOTIFY_MASK);
}

void file_source_scan(FileSource *s)
{
        KL_AUTOSTRV paths = NULL;
        AUTO_POD_SET all = { 0 };

        follow(s);
        paths = list_manifests(s);
        for (char **p = paths; p && *p; p++)
                read_manifest(s, *p, &all);
        forget_unseen(s);
        timer_start(s->timer, s->check_ms);
        s->func(s, all.pods, all.n, s->data);
}

static void on_timer(Timer *timer, void *data)
{
        file_source_scan(data);
}

int file_source_new(Loop *loop, const char *dir, const char *node_name, uint64_t check_ms,
                    FileSourceFunc func, void *data, FileSource **ret, KlError **err)
{
        KL_AUTO(file_source_free) FileSource *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return kl_error_oom(err);
        s->loop = loop;
        s->check_ms = check_ms;
        s->func = func;
        s->data = data;
        s->dir = strdup(dir);
        s->node_name = strdup(node_name);
        s->manifests = map_new(manifest_free);
        s->timer = timer_new(loop, on_timer, s);
        s->settle = timer_new(loop, on_timer, s);
        s->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (!s->dir || !s->node_name || !s->manifests || !s->timer || !s->settle)
                return kl_error_oom(err);
        if (s->inotify_fd < 0) {
                log_warning(NULL, "No inotify for '%s', scanning only: %s", dir, strerror(errno));
        } else {
                r = watch_new(loop, s->inotify_fd, WATCH_READ, on_inotify, s, &s->watch);
                if (r < 0)
                        return kl_error_errno(err, r, NULL, "follow '%s'", dir);
        }
        *ret = KL_STEAL(s);
        return 0;
}

FileSource *file_source_free(FileSource *s)
{
        if (!s)
                return NULL;
        watch_free(s->watch);
        kl_close(s->inotify_fd);
        timer_free(s->timer);
        timer_free(s->settle);
        map_free(s->manifests);
        free(s->dir);
        free(s->node_name);
        free(s);
        return NULL;
}
