/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reservations on disk: <dir>/<address> holds "<container>\r\n<interface>",
 * <dir>/last_reserved_ip.<n> the address given out last from range set n, <dir>/lock is flock(2)ed
 * as long as a Store is open. Files of the reference plugin's first versions hold the container
 * alone.
 */

#include "cni/plugins/host-local.h"

#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>

#define RESERVATION_MAX 1024
#define LAST_PREFIX "last_reserved_ip."

struct Store {
        int dir_fd, lock_fd;
        char *path;
};

static void on_alarm(int signal_number)
{
        (void)signal_number; /* it has interrupted flock(2), which was its job */
}

/* Sleeps in the kernel, so that waiters are served at once and in order. */
static int lock_wait(int fd)
{
        struct sigaction action = { .sa_handler = on_alarm }, old;
        int r = 0;

        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return 0;
        sigaction(SIGALRM, &action, &old);
        alarm(HOST_LOCAL_LOCK_S);
        if (flock(fd, LOCK_EX) < 0)
                r = -errno;
        alarm(0);
        sigaction(SIGALRM, &old, NULL);
        return r;
}

int store_open(const char *data_dir, const char *network, Store **ret, KlError **err)
{
        KL_AUTO(store_free) Store *store = calloc(1, sizeof(*store));
        int r;

        if (!store)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        store->dir_fd = store->lock_fd = -1;
        store->path = str_format("%s/%s", data_dir, network);
        if (!store->path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = dir_make_all(store->path, 0755);
        if (r < 0)
                return plugin_error(err, PLUGIN_FAILED, "make '%s': %s", store->path, strerror(-r));
        store->dir_fd = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->dir_fd < 0)
                return plugin_error(err, PLUGIN_FAILED, "open '%s': %s", store->path,
                                    strerror(errno));
        store->lock_fd =
                openat(store->dir_fd, "lock", O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (store->lock_fd < 0)
                return plugin_error(err, PLUGIN_FAILED, "open '%s/lock': %s", store->path,
                                    strerror(errno));
        r = lock_wait(store->lock_fd);
        if (r < 0)
                return plugin_error(err, r == -EINTR ? PLUGIN_TRY_AGAIN : PLUGIN_FAILED,
                                    "lock '%s': %s", store->path,
                                    r == -EINTR ? "somebody else holds it" : strerror(-r));
        *ret = KL_STEAL(store);
        return 0;
}

Store *store_free(Store *store)
{
        if (!store)
                return NULL;
        kl_close(store->lock_fd);
        kl_close(store->dir_fd);
        free(store->path);
        free(store);
        return NULL;
}

static int store_error(const Store *store, const char *what, const char *name, int r, KlError **err)
{
        return plugin_error(err, PLUGIN_FAILED, "%s '%s/%s': %s", what, store->path, name,
                            strerror(-r));
}

/* A reservation that could not be written whole would be lost for ever: it is taken back. */
int store_reserve(Store *store, const char *id, const char *ifname, const IpAddress *ip,
                  KlError **err)
{
        char name[IP_TEXT_SIZE], text[PLUGIN_CONTAINER_ID_MAX + 32];
        KL_AUTOFD int fd = -1;
        int n, r;

        ip_format(ip, name);
        fd = openat(store->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
                return 1;
        if (fd < 0)
                return store_error(store, "make", name, -errno, err);
        n = snprintf(text, sizeof(text), "%s\r\n%s", id, ifname);
        r = fd_write_all(fd, text, (size_t)n);
        if (r < 0) {
                unlinkat(store->dir_fd, name, 0);
                return store_error(store, "write", name, r, err);
        }
        return 0;
}

int store_last(Store *store, size_t set, IpAddress *ret)
{
        KL_AUTOFREE char *text = NULL;
        char name[48];
        size_t len;
        int r;

        snprintf(name, sizeof(name), LAST_PREFIX "%zu", set);
        r = file_read_at(store->dir_fd, name, RESERVATION_MAX, &text, &len);
        return r < 0 ? r : ip_parse(text, ret);
}

int store_set_last(Store *store, size_t set, const IpAddress *ip, KlError **err)
{
        char name[48], text[IP_TEXT_SIZE];
        KL_AUTOFD int fd = -1;
        int r;

        snprintf(name, sizeof(name), LAST_PREFIX "%zu", set);
        fd = openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0600);
        r = fd < 0 ? -errno : 0;
        if (r == 0) {
                ip_format(ip, text);
                r = fd_write_all(fd, text, strlen(text));
        }
        return r < 0 ? store_error(store, "write", name, r, err) : 0;
}

/* --- walking --- */

typedef struct Reservation {
        IpAddress ip;
        const char *name;
        const char *id, *ifname; /* ifname NULL in old files */
} Reservation;

typedef int (*ReservationFunc)(Store *store, const Reservation *reservation, void *data);

/* Cuts "<id>\r\n<ifname>" at its line break, white space around it aside. */
static void reservation_split(char *text, Reservation *ret)
{
        char *start = text + strspn(text, " \t\r\n"), *end = start + strlen(start), *line;

        while (end > start && strchr(" \t\r\n", end[-1]))
                *--end = '\0';
        ret->id = start;
        ret->ifname = NULL;
        line = strstr(start, "\r\n");
        if (line) {
                *line = '\0';
                ret->ifname = line + 2;
        }
}

static int walk_entry(Store *store, const char *name, ReservationFunc func, void *data)
{
        Reservation reservation = { .name = name };
        KL_AUTOFREE char *text = NULL;
        size_t len;

        if (ip_parse(name, &reservation.ip) < 0)
                return 0;
        /* Unreadable entries are not reservations that anybody of us made. */
        if (file_read_at(store->dir_fd, name, RESERVATION_MAX, &text, &len) < 0)
                return 0;
        reservation_split(text, &reservation);
        return func(store, &reservation, data);
}

static int store_walk(Store *store, ReservationFunc func, void *data, KlError **err)
{
        KL_AUTODIR DIR *dir = NULL;
        KL_AUTOFD int fd = openat(store->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct dirent *entry;
        int r = 0;

        if (fd >= 0)
                dir = fdopendir(fd);
        if (!dir)
                return store_error(store, "open", "", -errno, err);
        (void)KL_STEAL_FD(fd);
        for (errno = 0; r == 0 && (entry = readdir(dir)); errno = 0)
                r = walk_entry(store, entry->d_name, func, data);
        if (r == 0 && errno)
                r = -errno;
        return r < 0 ? store_error(store, "read", "", r, err) : 0;
}

typedef struct Wanted {
        const char *id, *ifname;
        bool old_form; /* look for files without an interface */
        size_t n;
        Arena *arena;
        IpAddress *ips;
} Wanted;

static bool is_wanted(const Wanted *wanted, const Reservation *reservation)
{
        if (!str_eq(reservation->id, wanted->id))
                return false;
        return wanted->old_form ? !reservation->ifname
                                : str_eq(reservation->ifname, wanted->ifname);
}

static int release_one(Store *store, const Reservation *reservation, void *data)
{
        Wanted *wanted = data;

        if (!is_wanted(wanted, reservation))
                return 0;
        wanted->n++;
        if (unlinkat(store->dir_fd, reservation->name, 0) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

int store_release(Store *store, const char *id, const char *ifname, KlError **err)
{
        Wanted wanted = { .id = id, .ifname = ifname };
        int r = store_walk(store, release_one, &wanted, err);

        if (r < 0 || wanted.n > 0)
                return r;
        wanted.old_form = true;
        return store_walk(store, release_one, &wanted, err);
}

static int find_one(Store *store, const Reservation *reservation, void *data)
{
        Wanted *wanted = data;
        bool found;

        (void)store;
        found = is_wanted(wanted, reservation);
        if (!found) {
                wanted->old_form = !wanted->old_form;
                found = is_wanted(wanted, reservation);
                wanted->old_form = !wanted->old_form;
        }
        if (found && wanted->n < HOST_LOCAL_RANGE_SETS_MAX)
                wanted->ips[wanted->n++] = reservation->ip;
        return 0;
}

int store_find(Store *store, const char *id, const char *ifname, Arena *arena, IpAddress **ret,
               size_t *ret_n, KlError **err)
{
        Wanted wanted = { .id = id,
                          .ifname = ifname,
                          .ips = ARENA_ARRAY(arena, HOST_LOCAL_RANGE_SETS_MAX, IpAddress) };
        int r = wanted.ips ? store_walk(store, find_one, &wanted, err) : -ENOMEM;

        *ret = wanted.ips;
        *ret_n = wanted.n;
        return r;
}

typedef struct Live {
        const PluginAttachment *attachments;
        size_t n;
} Live;

/* An empty file is a reservation that a crash cut short: whoever writes one holds the lock. */
static int collect_one(Store *store, const Reservation *reservation, void *data)
{
        const Live *live = data;

        for (size_t i = 0; i < live->n; i++) {
                const PluginAttachment *a = &live->attachments[i];

                if (str_eq(a->container_id, reservation->id) &&
                    (!reservation->ifname || str_eq(a->ifname, reservation->ifname)))
                        return 0;
        }
        if (unlinkat(store->dir_fd, reservation->name, 0) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

int store_collect(Store *store, const PluginAttachment *attachments, size_t n, KlError **err)
{
        Live live = { attachments, n };

        return store_walk(store, collect_one, &live, err);
}
