/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Follows the configuration directory, which may not exist yet, may be a link, and may be replaced
 * as a whole, by a rename far above too: it is watched itself, and each directory above it that
 * exists is watched for the name that leads to it. The directory of plugins beside a list is
 * watched too. After every event the watches are laid anew, from above to below and before the
 * files are read: no change falls between.
 */

#include "cni/cni-internal.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/str.h"

#include <sys/inotify.h>
#include <sys/stat.h>

/* An editor's or a copying DaemonSet's several events make one reading. */
#define FOLLOW_DELAY_MS 20
#define EVENTS_SIZE 16384
#define PATH_PARTS_MAX 32

#define SELF_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF)
#define FILE_EVENTS (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)
#define NAME_EVENTS (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)

struct CniFollow {
        Cni *cni;
        int fd;
        Watch *watch;
        Timer *timer;
        char **parts;              /* names of conf_dir, from the root down */
        int above[PATH_PARTS_MAX]; /* watch of the directory that should hold parts[i], or -1 */
};

CniFollow *cni_follow_free(CniFollow *f)
{
        if (!f)
                return NULL;
        watch_free(f->watch);
        timer_free(f->timer);
        kl_close(f->fd);
        strv_free(f->parts);
        free(f);
        return NULL;
}

static void watch_above(CniFollow *f)
{
        KL_AUTOBUF path = BUF_INIT;

        buf_add_char(&path, '/');
        for (size_t i = 0; i < PATH_PARTS_MAX; i++)
                f->above[i] = -1;
        for (size_t i = 0; i < PATH_PARTS_MAX && f->parts[i]; i++) {
                f->above[i] = inotify_add_watch(f->fd, buf_str(&path),
                                                NAME_EVENTS | SELF_EVENTS | IN_ONLYDIR);
                buf_addf(&path, "%s/", f->parts[i]);
        }
}

static bool watch_plugins(CniFollow *f)
{
        KL_AUTOFREE char *path = NULL;

        if (!f->cni->config)
                return false;
        path = str_format("%s/%s", f->cni->conf_dir, f->cni->config->name);
        return path && inotify_add_watch(f->fd, path, FILE_EVENTS | SELF_EVENTS | IN_ONLYDIR) >= 0;
}

static void on_events(Watch *watch, int fd, unsigned int events, void *data);

static int follow_arm(CniFollow *f)
{
        f->watch = watch_free(f->watch);
        f->fd = kl_close(f->fd);
        f->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (f->fd < 0)
                return -errno;
        watch_above(f);
        inotify_add_watch(f->fd, f->cni->conf_dir, FILE_EVENTS | SELF_EVENTS | IN_ONLYDIR);
        return watch_new(f->cni->loop, f->fd, WATCH_READ, on_events, f, &f->watch);
}

static void on_timer(Timer *timer, void *data)
{
        CniFollow *f = data;
        int r = follow_arm(f);

        if (r < 0) {
                log_warning(NULL, "Cannot follow '%s', trying again: %s", f->cni->conf_dir,
                            strerror(-r));
                timer_start(timer, CNI_STATUS_RETRY_MS);
        }
        cni_reload(f->cni);
        if (r == 0)
                watch_plugins(f);
}

static bool event_matters(const CniFollow *f, const struct inotify_event *e)
{
        if (e->mask & (SELF_EVENTS | IN_Q_OVERFLOW))
                return true;
        for (size_t i = 0; i < PATH_PARTS_MAX && f->parts[i]; i++)
                if (e->wd == f->above[i])
                        return e->len > 0 && str_eq(e->name, f->parts[i]);
        return true;
}

static void on_events(Watch *watch, int fd, unsigned int events, void *data)
{
        _Alignas(struct inotify_event) char buf[EVENTS_SIZE];
        CniFollow *f = data;
        bool matters = false;
        ssize_t n;

        while ((n = read(fd, buf, sizeof(buf))) > 0)
                for (char *p = buf; p < buf + n;) {
                        const struct inotify_event *e = (const struct inotify_event *)p;

                        matters |= event_matters(f, e);
                        p += sizeof(*e) + e->len;
                }
        if (matters)
                timer_start(f->timer, FOLLOW_DELAY_MS);
}

int cni_follow_new(Cni *cni, KlError **err)
{
        CniFollow *f = calloc(1, sizeof(*f));

        if (!f)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        cni->follow = f;
        f->cni = cni;
        f->fd = -1;
        f->timer = timer_new(cni->loop, on_timer, f);
        f->parts = strv_split(cni->conf_dir, '/');
        if (!f->timer || !f->parts)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (cni->conf_dir[0] != '/' || strv_len(f->parts) > PATH_PARTS_MAX)
                return kl_error(err, -EINVAL, NULL, "'%s' is no absolute path of at most %d parts",
                                cni->conf_dir, PATH_PARTS_MAX);
        /* Watches are laid when the loop runs, and the files read once more then. */
        timer_start(f->timer, 0);
        return 0;
}
