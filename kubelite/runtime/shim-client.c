/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's end of the shim protocol. Packets are built whole, with duplicates of their
 * descriptors, and wait in a queue while the socket is full. Received ones are taken one a turn
 * of the watch, and copied into the known structs: what an older shim does not send is zero.
 */

#include "runtime/shim-client.h"

#include "base/file.h"
#include "base/list.h"
#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define REASON "FailedCreatePodSandBox"
#define PROGRAM_MAX (64U << 20)
#define BACKLOG 4
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

typedef struct Queued {
        List link;
        size_t len, n_fds;
        int *fds;
        char data[];
} Queued;

struct ShimClient {
        Loop *loop;
        const ShimClientEvents *events;
        void *data;
        int fd;
        Watch *watch;
        Child *child; /* of a shim that this daemon started: only reaped */
        List queue;
        size_t n_queued;
        uint32_t requests;
        pid_t pid;
        bool synced;
        ShimWelcome welcome;
        bool telling, freed; /* freed while events are told: goes after them */
};

/* --- sending --- */

static Queued *queued_free(Queued *q)
{
        for (size_t i = 0; i < q->n_fds; i++)
                kl_close(q->fds[i]);
        free(q->fds);
        free(q);
        return NULL;
}
KL_DEFINE_CLEANUP(Queued *, queued_free);

static int queued_new(const void *data, size_t len, const int *fds, size_t n_fds, Queued **ret)
{
        KL_AUTO(queued_free) Queued *q = calloc(1, sizeof(*q) + len);

        if (!q)
                return -ENOMEM;
        memcpy(q->data, data, len);
        q->len = len;
        q->fds = calloc(n_fds + 1, sizeof(*q->fds));
        if (!q->fds)
                return -ENOMEM;
        for (size_t i = 0; i < n_fds; i++) {
                int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

                if (fd < 0)
                        return -errno;
                q->fds[q->n_fds++] = fd;
        }
        *ret = KL_STEAL(q);
        return 0;
}

static void flush(ShimClient *client)
{
        while (!list_empty(&client->queue)) {
                Queued *q = list_first(&client->queue, Queued, link);
                int r = packet_send(client->fd, q->data, q->len, q->fds, q->n_fds, false);

                if (r == -EAGAIN)
                        break;
                /* Any other error shows as the end of the connection. */
                list_unlink(&q->link);
                client->n_queued--;
                queued_free(q);
        }
        watch_set(client->watch, WATCH_READ | (list_empty(&client->queue) ? 0 : WATCH_WRITE));
}

static int enqueue(ShimClient *client, uint32_t type, uint32_t request, const void *body,
                   size_t len, const int *fds, size_t n_fds)
{
        ShimHeader header = { type, request };
        KL_AUTOBUF packet = BUF_INIT;
        Queued *q = NULL;
        int r;

        if (client->fd < 0)
                return -ENOTCONN;
        if (client->n_queued >= SHIM_CLIENT_QUEUE_MAX)
                return -ENOBUFS;
        buf_add(&packet, &header, sizeof(header));
        buf_add(&packet, body, len);
        r = buf_error(&packet);
        if (r == 0)
                r = queued_new(packet.data, packet.len, fds, n_fds, &q);
        if (r < 0)
                return r;
        list_append(&client->queue, &q->link);
        client->n_queued++;
        return 0;
}

static uint32_t next_request(ShimClient *client)
{
        /* Numbers are returned as int, and 0 is of events. */
        client->requests = client->requests >= INT_MAX ? 1 : client->requests + 1;
        return client->requests;
}

static int request(ShimClient *client, uint32_t type, const void *body, size_t len, const int *fds,
                   size_t n_fds)
{
        uint32_t number = next_request(client);
        int r = enqueue(client, type, number, body, len, fds, n_fds);

        if (r < 0)
                return r;
        flush(client);
        return (int)number;
}

static int seal_memfd(const char *name, const void *data, size_t len, unsigned int flags)
{
        KL_AUTOFD int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
        int r;

        /* Before Linux 6.3 every memfd can be executed and the flag is unknown. */
        if (fd < 0 && errno == EINVAL && flags)
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        r = fd_write_all(fd, data, len);
        if (r == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                r = -errno;
        return r < 0 ? r : KL_STEAL_FD(fd);
}

static int request_with_spec(ShimClient *client, uint32_t type, const Buf *spec,
                             const RecordFds *fds)
{
        size_t n_packets = fds ? (fds->n + SHIM_PACKET_FDS_MAX - 1) / SHIM_PACKET_FDS_MAX : 0;
        KL_AUTOFD int fd = -1;
        int r = 0;

        if (client->fd < 0)
                return -ENOTCONN;
        if (client->n_queued + n_packets >= SHIM_CLIENT_QUEUE_MAX)
                return -ENOBUFS;
        fd = seal_memfd("kubelite-spec", spec->data, spec->len, 0);
        if (fd < 0)
                return fd;
        for (size_t i = 0; r == 0 && i < n_packets; i++) {
                size_t at = i * SHIM_PACKET_FDS_MAX, n = fds->n - at;

                r = enqueue(client, SHIM_FDS, 0, NULL, 0, fds->fds + at,
                            n < SHIM_PACKET_FDS_MAX ? n : SHIM_PACKET_FDS_MAX);
        }
        return r < 0 ? r : request(client, type, NULL, 0, &fd, 1);
}

int shim_client_sandbox(ShimClient *client, const ShimSandbox *sandbox)
{
        KL_AUTOBUF buf = BUF_INIT;
        int r = shim_sandbox_encode(sandbox, &buf);

        return r < 0 ? r : request_with_spec(client, SHIM_SANDBOX, &buf, NULL);
}

int shim_client_start(ShimClient *client, const ShimStart *start)
{
        KL_AUTOFREE RecordFds *fds = calloc(1, sizeof(*fds));
        KL_AUTOBUF buf = BUF_INIT;
        int r = fds ? shim_start_encode(start, &buf, fds) : -ENOMEM;

        return r < 0 ? r : request_with_spec(client, SHIM_START, &buf, fds);
}

int shim_client_exec(ShimClient *client, const ShimExec *exec)
{
        KL_AUTOFREE RecordFds *fds = calloc(1, sizeof(*fds));
        KL_AUTOBUF buf = BUF_INIT;
        int r = fds ? shim_exec_encode(exec, &buf, fds) : -ENOMEM;

        return r < 0 ? r : request_with_spec(client, SHIM_EXEC, &buf, fds);
}

static int set_id(char to[static SHIM_ID_SIZE], const char *id)
{
        size_t len = id ? strlen(id) : 0;

        if (len >= SHIM_ID_SIZE)
                return -EINVAL;
        if (len)
                memcpy(to, id, len);
        return 0;
}

int shim_client_stop(ShimClient *client, const char *id, uint64_t grace_ms)
{
        ShimStop body = { .grace_ms = grace_ms };
        int r = set_id(body.id, id);

        return r < 0 ? r : request(client, SHIM_STOP, &body, sizeof(body), NULL, 0);
}

int shim_client_forget(ShimClient *client, const char *id)
{
        ShimTarget body = { .exec = 0 };
        int r = set_id(body.id, id);

        return r < 0 ? r : request(client, SHIM_FORGET, &body, sizeof(body), NULL, 0);
}

int shim_client_exec_kill(ShimClient *client, uint32_t exec)
{
        ShimTarget body = { .exec = exec };

        return request(client, SHIM_EXEC_KILL, &body, sizeof(body), NULL, 0);
}

int shim_client_resize(ShimClient *client, const char *id, uint32_t exec, uint16_t rows,
                       uint16_t columns)
{
        ShimResize body = { .target = { .exec = exec }, .rows = rows, .columns = columns };
        int r = set_id(body.target.id, id);

        return r < 0 ? r : request(client, SHIM_RESIZE, &body, sizeof(body), NULL, 0);
}

int shim_client_attach(ShimClient *client, const char *id, int stdin_fd, int stdout_fd,
                       int stderr_fd)
{
        const int all[3] = { stdin_fd, stdout_fd, stderr_fd };
        ShimAttach body = { .streams = 0 };
        int fds[3], r = set_id(body.id, id);
        size_t n = 0;

        for (int i = 0; i < 3; i++)
                if (all[i] >= 0) {
                        body.streams |= 1U << i;
                        fds[n++] = all[i];
                }
        return r < 0 ? r : request(client, SHIM_ATTACH, &body, sizeof(body), fds, n);
}

int shim_client_reopen_log(ShimClient *client, const char *id, int log_fd)
{
        ShimTarget body = { .exec = 0 };
        int r = set_id(body.id, id);

        return r < 0 ? r : request(client, SHIM_REOPEN_LOG, &body, sizeof(body), &log_fd, 1);
}

int shim_client_shutdown(ShimClient *client)
{
        return request(client, SHIM_SHUTDOWN, NULL, 0, NULL, 0);
}

/* --- receiving --- */

static void disconnect(ShimClient *client)
{
        client->watch = watch_free(client->watch);
        client->fd = kl_close(client->fd);
        list_for_each (q, &client->queue, Queued, link) {
                list_unlink(&q->link);
                queued_free(q);
        }
        client->n_queued = 0;
}

static void lose(ShimClient *client, int code, const char *why)
{
        KL_AUTOERR err = NULL;

        disconnect(client);
        kl_error(&err, code, "SandboxChanged", "%s", why);
        client->events->lost(client, err, client->data);
}

typedef union Body {
        ShimWelcome welcome;
        ShimResult result;
        ShimSandboxState sandbox;
        ShimContainerState container;
        ShimExecDone done;
        ShimTarget target;
} Body;

typedef struct Packet {
        ShimHeader header;
        Body body;
} Packet;

/* Texts end, whatever the other side sent. */
#define END(text) ((text)[sizeof(text) - 1] = '\0')

static void tell_container(ShimClient *client, ShimContainerState *state)
{
        END(state->id);
        END(state->reason);
        END(state->message);
        if (state->n_groups > SHIM_GROUPS_MAX)
                state->n_groups = SHIM_GROUPS_MAX;
        client->events->container(client, state, client->data);
}

static void welcome(ShimClient *client, const ShimWelcome *body)
{
        if (!body->version) {
                lose(client, -EPROTONOSUPPORT,
                     "the shim speaks no version of the protocol that we know");
                return;
        }
        client->welcome = *body;
}

static void tell(ShimClient *client, Packet *p)
{
        Body *body = &p->body;

        switch (p->header.type) {
        case SHIM_WELCOME:
                welcome(client, &body->welcome);
                break;
        case SHIM_RESULT:
                END(body->result.message);
                client->events->result(client, p->header.request, &body->result, client->data);
                break;
        case SHIM_SANDBOX_STATE:
                END(body->sandbox.id);
                END(body->sandbox.netns_path);
                END(body->sandbox.message);
                client->events->sandbox(client, &body->sandbox, client->data);
                break;
        case SHIM_CONTAINER:
                tell_container(client, &body->container);
                break;
        case SHIM_LOG_ROTATED:
                END(body->target.id);
                client->events->log_rotated(client, body->target.id, client->data);
                break;
        case SHIM_LISTED:
                client->synced = true;
                client->events->synced(client, &client->welcome, client->data);
                break;
        case SHIM_EXEC_DONE:
                END(body->done.message);
                client->events->exec_done(client, &body->done, client->data);
                break;
        default:
                /* Of a newer shim. */
                break;
        }
}

static void on_socket(Watch *watch, int fd, unsigned int events, void *data)
{
        static union {
                Packet packet;
                char bytes[SHIM_PACKET_MAX];
        } in;
        ShimClient *client = data;
        size_t n_fds;
        ssize_t n;

        if (events & WATCH_WRITE)
                flush(client);
        if (!(events & (WATCH_READ | WATCH_HANGUP)))
                return;
        client->telling = true;
        while (client->fd >= 0) {
                n = packet_receive(client->fd, &in, sizeof(in), NULL, 0, &n_fds);
                if (n == -EAGAIN)
                        break;
                if (n < (ssize_t)sizeof(ShimHeader)) {
                        lose(client, -ECONNRESET, "the shim is gone");
                        break;
                }
                if ((size_t)n < sizeof(in.packet))
                        memset(in.bytes + n, 0, sizeof(in.packet) - (size_t)n);
                tell(client, &in.packet);
        }
        client->telling = false;
        if (client->freed)
                free(client);
}

/* --- making --- */

int shim_program_open(const char *path, int *ret_fd, KlError **err)
{
        KL_AUTOFREE char *data = NULL;
        size_t len;
        int r;

        r = file_read(path, PROGRAM_MAX, &data, &len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", path);
        r = seal_memfd("kubelite-shim", data, len, MFD_EXEC);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "copy '%s' into memory", path);
        *ret_fd = r;
        return 0;
}

static void reaped(Child *child, int status, void *data)
{
        ShimClient *client = data;

        client->child = child_free(client->child);
}

/* Takes fd, also on failure. */
static int client_new(Loop *loop, int socket_fd, const ShimClientEvents *events, void *data,
                      ShimClient **ret, KlError **err)
{
        ShimHello hello = { SHIM_VERSION_MIN, SHIM_VERSION_MAX };
        KL_AUTO(shim_client_free) ShimClient *client = calloc(1, sizeof(*client));
        KL_AUTOFD int fd = socket_fd;
        int r;

        if (!client)
                return kl_error_errno(err, -ENOMEM, REASON, "connect to shim");
        client->loop = loop;
        client->events = events;
        client->data = data;
        client->fd = KL_STEAL_FD(fd);
        list_init(&client->queue);
        r = watch_new(loop, client->fd, WATCH_READ, on_socket, client, &client->watch);
        if (r == 0)
                r = request(client, SHIM_HELLO, &hello, sizeof(hello), NULL, 0);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "connect to shim");
        *ret = KL_STEAL(client);
        return 0;
}

/* By the directory's descriptor, so that any length of path fits into an address. */
static int socket_address(int dir_fd, struct sockaddr_un *ret)
{
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dir_fd,
                 SHIM_SOCKET_NAME);
        return 0;
}

static int make_listener(int dir_fd, int *ret, KlError **err)
{
        KL_AUTOFD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        struct sockaddr_un address;

        socket_address(dir_fd, &address);
        if (unlinkat(dir_fd, SHIM_SOCKET_NAME, 0) < 0 && errno != ENOENT)
                return kl_error_errno(err, -errno, REASON, "remove old shim socket");
        /* The mode of the descriptor is what the name in the file system gets. */
        if (fd < 0 || fchmod(fd, 0600) < 0 ||
            bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
                return kl_error_errno(err, -errno, REASON, "listen on shim socket");
        *ret = KL_STEAL_FD(fd);
        return 0;
}

/* Descriptors above those that the child gets, so that placing one does not close another. */
static int lift(int fd)
{
        return fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

static int spawn_with(const ShimSpawn *spawn, int listener, int first, int dir, pid_t *ret)
{
        static char *const env[] = { NULL };
        char *const argv[] = { (char[]){ "kubelite-shim" }, (char *)(uintptr_t)spawn->state_dir,
                               (char *)(uintptr_t)spawn->name, NULL };
        KL_AUTOFD int program = lift(spawn->program_fd), a = lift(listener), b = lift(first),
                      c = lift(dir);
        KL_AUTOFD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        KL_AUTOFD int errors = lift(spawn->stderr_fd >= 0 ? spawn->stderr_fd : null);
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t all, none;
        char path[32];
        int r;

        if (program < 0 || a < 0 || b < 0 || c < 0 || null < 0 || errors < 0)
                return -EMFILE;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", program);
        sigfillset(&all);
        sigemptyset(&none);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attr);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                POSIX_SPAWN_SETSID);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawn_file_actions_adddup2(&actions, null, 0);
        posix_spawn_file_actions_adddup2(&actions, null, 1);
        posix_spawn_file_actions_adddup2(&actions, errors, 2);
        posix_spawn_file_actions_adddup2(&actions, a, SHIM_LISTEN_FD);
        posix_spawn_file_actions_adddup2(&actions, b, SHIM_FIRST_FD);
        posix_spawn_file_actions_adddup2(&actions, c, SHIM_STATE_FD);
        posix_spawn_file_actions_addchdir_np(&actions, "/");
        r = posix_spawn(ret, path, &actions, &attr, argv, env);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attr);
        return -r;
}

int shim_client_spawn(Loop *loop, const ShimSpawn *spawn, const ShimClientEvents *events,
                      void *data, ShimClient **ret, KlError **err)
{
        KL_AUTOFD int dir = open(spawn->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFD int listener = -1, ours = -1, theirs = -1;
        KL_AUTO(shim_client_free) ShimClient *client = NULL;
        int pair[2], r;
        pid_t pid;

        if (dir < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", spawn->state_dir);
        r = make_listener(dir, &listener, err);
        if (r < 0)
                return r;
        r = packet_pair(pair);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "connect to shim");
        ours = pair[0];
        theirs = pair[1];
        r = spawn_with(spawn, listener, theirs, dir, &pid);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "start shim");
        /* If this fails the shim sees the connection closed, and ends. */
        r = client_new(loop, KL_STEAL_FD(ours), events, data, &client, err);
        if (r < 0)
                return r;
        client->pid = pid;
        r = child_new(loop, pid, reaped, client, &client->child);
        if (r < 0)
                return kl_error_errno(err, r, REASON, "watch shim");
        *ret = KL_STEAL(client);
        return 0;
}

int shim_client_connect(Loop *loop, const char *state_dir, const ShimClientEvents *events,
                        void *data, ShimClient **ret, KlError **err)
{
        KL_AUTOFD int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        KL_AUTOFD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        struct sockaddr_un address;
        struct ucred peer;
        socklen_t len = sizeof(peer);
        int r;

        if (dir < 0 || fd < 0)
                return kl_error_errno(err, -errno, REASON, "open '%s'", state_dir);
        socket_address(dir, &address);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return kl_error_errno(err, -errno, REASON, "connect to shim in '%s'", state_dir);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
                return kl_error(err, -EPERM, REASON, "shim in '%s' is not of this user", state_dir);
        r = client_new(loop, KL_STEAL_FD(fd), events, data, ret, err);
        /* Who listens is who made the socket, the daemon before: the shim tells its pid in the
         * hello. */
        return r;
}

ShimClient *shim_client_free(ShimClient *client)
{
        if (!client)
                return NULL;
        disconnect(client);
        client->child = child_free(client->child);
        client->freed = true;
        if (!client->telling)
                free(client);
        return NULL;
}

pid_t shim_client_pid(const ShimClient *client)
{
        return client->welcome.pid ? client->welcome.pid : client->pid;
}
