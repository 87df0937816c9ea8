/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The listener: sockets are accepted here, where the limits are, and handed to libwebsockets as raw
 * TLS streams on our libuv loop. Of libwebsockets that is all that is used: no HTTP of its own.
 *
 * A connection object lives from accept until libwebsockets destroys its wsi (the loop is needed
 * for that). Its owner knows it from opened() on and until closed(), or until the owner closes it.
 * libwebsockets must not be asked to kill a wsi from within one of its callbacks: what is to die is
 * marked, and either the callback returns -1 or the end of the turn does it.
 */

#include "net/listener.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/str.h"
#include "net/server-tls-internal.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define ACCEPTS_PER_TURN 32
#define KEEPALIVE_S 15
#define KEEPALIVE_PROBES 9
#define WRITE_SIZE (16U << 10) /* one TLS record */
/* libwebsockets scans this table: connections, and the few it has for itself. */
#define FD_TABLE_SIZE (LISTENER_CONNECTIONS_MAX + 64)
#define EVENT_LIBRARY "libwebsockets-evlib_uv.so"
#define SERVICE_BUFFER LISTENER_READ_SIZE

typedef enum ConnState {
        CONN_HANDSHAKE,
        CONN_OPEN,
        CONN_FLUSHING,  /* the owner has let go of it */
        CONN_LINGERING, /* all is sent; what the peer still sends is dropped */
        CONN_DEAD,
} ConnState;

struct ListenerConn {
        List link;
        Listener *listener;
        struct lws *wsi;
        void *data;
        ConnState state;
        bool trusted, paused, above_low;
        Buf out;
        size_t out_at;    /* of it, what was written */
        size_t record_at; /* of it, where a TLS record is to begin; 0: nowhere */
        size_t dropped;   /* while lingering */
        Timer *timer;     /* of the handshake, then of the flush */
        int hangup_fd;    /* while paused: the same socket, for its end alone */
        Watch *hangup;
        ClientChain *chain;
        char peer[LISTENER_PEER_SIZE];
};

struct Listener {
        Loop *loop;
        ListenerFuncs funcs;
        void *data;
        int fd;
        uint16_t port;
        Watch *watch;
        struct lws_context *context;
        struct lws_vhost *vhost;
        const ServerTls *tls; /* while the vhost is made */
        KlError *tls_error;
        SSL_CTX *ctx; /* the vhost's */
        List conns;   /* oldest first */
        size_t n_conns, n_untrusted;
        Deferred *reaper;
};

/* --- a connection's life --- */

static void conn_count(ListenerConn *c, int by)
{
        c->listener->n_conns += (size_t)by;
        if (!c->trusted)
                c->listener->n_untrusted += (size_t)by;
}

static void conn_unwatch(ListenerConn *c)
{
        c->hangup = watch_free(c->hangup);
        c->hangup_fd = kl_close(c->hangup_fd);
}

static void conn_free(ListenerConn *c)
{
        conn_unwatch(c);
        list_unlink(&c->link);
        conn_count(c, -1);
        timer_free(c->timer);
        buf_deinit(&c->out);
        client_chain_free(c->chain);
        free(c);
}

/* From here on the owner hears nothing; the wsi goes at the end of the turn at the latest. */
static void conn_kill(ListenerConn *c)
{
        if (c->state == CONN_DEAD)
                return;
        c->state = CONN_DEAD;
        conn_unwatch(c);
        deferred_schedule(c->listener->reaper);
}

static void conn_break(ListenerConn *c)
{
        bool owned = c->state == CONN_OPEN;

        conn_kill(c);
        if (owned)
                c->listener->funcs.closed(c, c->data);
}

static void on_reap(Deferred *deferred, void *data)
{
        Listener *l = data;

        list_for_each (c, &l->conns, ListenerConn, link) {
                struct lws *wsi = c->wsi;

                if (c->state != CONN_DEAD || !wsi)
                        continue;
                c->wsi = NULL;
                lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
        }
}

static void on_timeout(Timer *timer, void *data)
{
        conn_break(data);
}

/* --- libwebsockets' callbacks --- */

/* With the first bytes: RAW_ADOPT comes before the handshake, and no callback with its end. */
static int conn_opened(ListenerConn *c)
{
        Listener *l = c->listener;
        SSL *ssl = lws_get_ssl(c->wsi);

        if (c->state != CONN_HANDSHAKE || !ssl)
                return -1;
        timer_stop(c->timer);
        /* libwebsockets has a time limit of its own for what it takes to be a beginning. */
        lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
        c->chain = client_chain_of(ssl);
        c->state = CONN_OPEN;
        c->data = l->funcs.opened(c, l->data);
        if (!c->data)
                c->state = CONN_DEAD;
        return 0;
}

/* What is queued goes out as far as the socket takes it; libwebsockets calls again when it can. */
static int conn_write_out(ListenerConn *c)
{
        size_t left = c->out.len - c->out_at;

        while (left > 0 && !lws_partial_buffered(c->wsi) && !lws_send_pipe_choked(c->wsi)) {
                size_t n = left < WRITE_SIZE ? left : WRITE_SIZE;

                if (c->out_at < c->record_at && n > c->record_at - c->out_at)
                        n = c->record_at - c->out_at;
                if (lws_write(c->wsi, (unsigned char *)c->out.data + c->out_at, n, LWS_WRITE_RAW) <
                    0)
                        return -1;
                c->out_at += n;
                left -= n;
        }
        if (left > 0 || lws_partial_buffered(c->wsi)) {
                lws_callback_on_writable(c->wsi);
        } else {
                buf_deinit(&c->out);
                c->out_at = c->record_at = 0;
        }
        return 0;
}

/* Closing a socket that holds unread bytes resets it, and a reset makes the peer drop what it has
 * not read yet of the answer: the direction to the peer is ended, the other one is read for a
 * while. */
static int conn_linger(ListenerConn *c)
{
        c->state = CONN_LINGERING;
        timer_start(c->timer, LISTENER_LINGER_MS);
        SSL_shutdown(lws_get_ssl(c->wsi));
        ERR_clear_error();
        if (shutdown(lws_get_socket_fd(c->wsi), SHUT_WR) < 0)
                return -1;
        lws_rx_flow_control(c->wsi, 1);
        return 0;
}

static int conn_drop_input(ListenerConn *c, size_t len)
{
        c->dropped += len;
        return c->dropped > LISTENER_LINGER_MAX ? -1 : 0;
}

static int conn_writable(ListenerConn *c)
{
        if (c->state == CONN_LINGERING)
                return 0;
        if (conn_write_out(c) < 0)
                return -1;
        if (c->state == CONN_OPEN && c->above_low &&
            listener_conn_queued(c) <= LISTENER_QUEUE_LOW) {
                c->above_low = false;
                c->listener->funcs.writable(c, c->data);
        }
        if (c->state == CONN_FLUSHING && !listener_conn_queued(c) && !lws_partial_buffered(c->wsi))
                return conn_linger(c);
        return 0;
}

static int conn_dispatch(ListenerConn *c, enum lws_callback_reasons reason, void *in, size_t len)
{
        int r = 0;

        switch ((int)reason) {
        case LWS_CALLBACK_RAW_RX:
                if (c->state == CONN_HANDSHAKE)
                        r = conn_opened(c);
                if (c->state == CONN_OPEN)
                        c->listener->funcs.input(c, in, len, c->data);
                else if (r == 0 && (c->state == CONN_FLUSHING || c->state == CONN_LINGERING))
                        r = conn_drop_input(c, len);
                break;
        case LWS_CALLBACK_RAW_WRITEABLE:
                r = conn_writable(c);
                break;
        default:
                return 0;
        }
        if (r == 0 && c->state != CONN_DEAD)
                return 0;
        conn_break(c);
        c->wsi = NULL; /* libwebsockets closes it now; the end of the turn must not */
        return -1;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
        ListenerConn *c = wsi ? lws_get_opaque_user_data(wsi) : NULL;
        Listener *l;

        if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS) {
                l = lws_context_user(lws_get_context(wsi));
                l->ctx = user;
                return server_tls_apply(l->ctx, l->tls, &l->tls_error) < 0;
        }
        if (!c)
                return 0;
        if (reason == LWS_CALLBACK_RAW_CLOSE || reason == LWS_CALLBACK_WSI_DESTROY) {
                c->wsi = NULL;
                conn_break(c);
        } else if (c->state != CONN_DEAD) {
                c->wsi = wsi;
        }
        if (reason == LWS_CALLBACK_WSI_DESTROY) {
                lws_set_opaque_user_data(wsi, NULL);
                conn_free(c);
                return 0;
        }
        return conn_dispatch(c, reason, in, len);
}

/* --- accepting --- */

static void format_peer(const struct sockaddr_storage *from, char peer[LISTENER_PEER_SIZE])
{
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;

        if (from->ss_family == AF_INET)
                inet_ntop(AF_INET, &v4->sin_addr, peer, LISTENER_PEER_SIZE);
        else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
                inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], peer, LISTENER_PEER_SIZE);
        else
                inet_ntop(AF_INET6, &v6->sin6_addr, peer, LISTENER_PEER_SIZE);
}

/* Of two that nobody vouched for, the better one to lose: what is answered already goes first. */
static ListenerConn *lesser(ListenerConn *older, ListenerConn *newer)
{
        if (!older)
                return newer;
        return older->state != CONN_LINGERING && newer->state == CONN_LINGERING ? newer : older;
}

/* Makes room for one more of this peer; false if there is none. */
static bool make_room(Listener *l, const char *peer)
{
        ListenerConn *oldest = NULL, *oldest_of_peer = NULL;
        size_t n = 0, n_untrusted = 0;

        list_for_each (c, &l->conns, ListenerConn, link) {
                bool same = str_eq(c->peer, peer), mine = !c->trusted && c->state != CONN_DEAD;

                n += same;
                n_untrusted += same && mine;
                if (mine)
                        oldest = lesser(oldest, c);
                if (mine && same)
                        oldest_of_peer = lesser(oldest_of_peer, c);
        }
        if (l->n_conns >= LISTENER_CONNECTIONS_MAX || n >= LISTENER_PEER_MAX)
                return false;
        if (n_untrusted >= LISTENER_UNTRUSTED_PEER_MAX)
                conn_break(oldest_of_peer);
        else if (l->n_untrusted >= LISTENER_UNTRUSTED_MAX && oldest)
                conn_break(oldest);
        return true;
}

static void adopt(Listener *l, int fd, const char *peer)
{
        ListenerConn *c = calloc(1, sizeof(*c));
        lws_adopt_desc_t what = {
                .vh = l->vhost,
                .type = LWS_ADOPT_SOCKET | LWS_ADOPT_ALLOW_SSL,
                .fd = { .sockfd = fd },
                .vh_prot_name = "kubelet",
                .opaque = c,
        };

        if (!c || !(c->timer = timer_new(l->loop, on_timeout, c))) {
                free(c);
                kl_close(fd);
                return;
        }
        c->listener = l;
        c->hangup_fd = -1;
        snprintf(c->peer, sizeof(c->peer), "%s", peer);
        list_append(&l->conns, &c->link);
        conn_count(c, 1);
        timer_start(c->timer, LISTENER_HANDSHAKE_MS);
        lws_adopt_descriptor_vhost_via_info(&what);
}

/* A peer whose machine is gone says no word. As Go's servers do it. */
static void keep_alive(int fd)
{
        int one = 1, idle_s = KEEPALIVE_S, count = KEEPALIVE_PROBES;

        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof(idle_s));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void on_acceptable(Watch *watch, int fd, unsigned int events, void *data)
{
        Listener *l = data;
        int one = 1;

        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                struct sockaddr_storage from;
                socklen_t len = sizeof(from);
                int peer_fd =
                        accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
                char peer[LISTENER_PEER_SIZE];

                if (peer_fd < 0)
                        return;
                format_peer(&from, peer);
                if (!make_room(l, peer)) {
                        kl_close(peer_fd);
                        continue;
                }
                setsockopt(peer_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                keep_alive(peer_fd);
                adopt(l, peer_fd, peer);
        }
}

static int open_socket(const char *address, uint16_t port, uint16_t *ret_port, KlError **err)
{
        struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        bool any = str_empty(address) || str_eq(address, "0.0.0.0") || str_eq(address, "::");
        bool v6 = any || inet_pton(AF_INET6, address, &in6.sin6_addr) == 1;
        const struct sockaddr *to = v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4;
        socklen_t len = v6 ? sizeof(in6) : sizeof(in4);
        int one = 1, zero = 0;
        KL_AUTOFD int fd = -1;

        if (!v6 && inet_pton(AF_INET, address, &in4.sin_addr) != 1)
                return kl_error(err, -EINVAL, NULL, "'%s' is no IP address", address);
        fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 && any && errno == EAFNOSUPPORT) {
                to = (struct sockaddr *)&in4;
                len = sizeof(in4);
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        }
        /* As Go does, all addresses means those of both families. */
        if (fd >= 0 && any && to->sa_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, to, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
            getsockname(fd, (struct sockaddr *)&in6, &len) < 0)
                return kl_error_errno(err, -errno, NULL, "listen on %s port %u",
                                      any ? "all addresses" : address, port);
        *ret_port = ntohs(in6.sin6_port); /* at the same place in both families */
        return KL_STEAL_FD(fd);
}

/* --- the listener --- */

static int make_vhost(Listener *l, KlError **err)
{
        static const struct lws_protocols protocols[] = {
                { .name = "kubelet", .callback = on_event, .rx_buffer_size = LISTENER_READ_SIZE },
                { 0 },
        };
        struct lws_context_creation_info info = {
                .port = CONTEXT_PORT_NO_LISTEN_SERVER,
                .protocols = protocols,
                .vhost_name = "kubelet",
                .alpn = "http/1.1",
                .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
                           LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX,
        };

        l->vhost = lws_create_vhost(l->context, &info);
        if (l->vhost && l->ctx)
                return 0;
        if (l->tls_error)
                return kl_error_move(err, &l->tls_error);
        return kl_error(err, -EIO, NULL, "libwebsockets cannot serve TLS");
}

static int make_context(Listener *l, KlError **err)
{
        void *loops[] = { loop_uv(l->loop) };
        struct lws_context_creation_info info = {
                .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                           LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
                .foreign_loops = loops,
                .fd_limit_per_thread = FD_TABLE_SIZE,
                .pt_serv_buf_size = SERVICE_BUFFER,
                .max_http_header_pool = 1,
                .max_http_header_data = 1024,
                .gid = (gid_t)-1,
                .uid = (uid_t)-1,
                .timeout_secs = LISTENER_HANDSHAKE_MS / 1000,
                .user = l,
                .pcontext = &l->context,
        };

        /* Destroying the context unloads this while libuv still has to call its close callbacks. */
        if (!dlopen(EVENT_LIBRARY, RTLD_LAZY | RTLD_NODELETE))
                return kl_error(err, -ENOENT, NULL, "load '" EVENT_LIBRARY "': %s", dlerror());
        lws_set_log_level(0, NULL);
        l->context = lws_create_context(&info);
        return l->context ? 0 : kl_error(err, -EIO, NULL, "libwebsockets cannot start on libuv");
}

int listener_new(Loop *loop, const ListenerSpec *spec, Listener **ret, KlError **err)
{
        KL_AUTO(listener_free) Listener *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return kl_error_oom(err);
        list_init(&l->conns);
        l->fd = -1;
        l->loop = loop;
        l->funcs = *spec->funcs;
        l->data = spec->data;
        l->tls = spec->tls;
        l->reaper = deferred_new(loop, on_reap, l);
        if (!l->reaper)
                return kl_error_oom(err);
        KL_TRY(server_tls_check(spec->tls, err));
        l->fd = open_socket(spec->address, spec->port, &l->port, err);
        if (l->fd < 0)
                return l->fd;
        KL_TRY(make_context(l, err));
        KL_TRY(make_vhost(l, err));
        l->tls = NULL;
        r = watch_new(loop, l->fd, WATCH_READ, on_acceptable, l, &l->watch);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "follow the listening socket");
        *ret = KL_STEAL(l);
        return 0;
}

Listener *listener_free(Listener *l)
{
        if (!l)
                return NULL;
        watch_free(l->watch);
        kl_close(l->fd);
        list_for_each (c, &l->conns, ListenerConn, link)
                conn_break(c);
        if (l->context) {
                lws_context_destroy(l->context);
                /* Handles close in the loop; the context is whole until then. */
                for (int i = 0; i < 100 && l->context; i++) {
                        loop_turn(l->loop, false);
                        if (l->context)
                                lws_context_destroy(l->context);
                }
        }
        deferred_free(l->reaper);
        kl_error_free(l->tls_error);
        free(l);
        return NULL;
}

uint16_t listener_port(const Listener *l)
{
        return l->port;
}

size_t listener_connections(const Listener *l)
{
        return l->n_conns;
}

int listener_set_certificate(Listener *l, const char *cert_pem, const char *key_pem, KlError **err)
{
        return server_tls_use(l->ctx, cert_pem, key_pem, err);
}

/* --- the owner's calls --- */

int listener_conn_write(ListenerConn *c, const void *data, size_t len)
{
        if (c->state != CONN_OPEN)
                return -ENOTCONN;
        if (listener_conn_queued(c) + len > LISTENER_QUEUE_MAX) {
                listener_conn_notify(c);
                return -ENOBUFS;
        }
        if (c->out_at > LISTENER_QUEUE_LOW) {
                buf_consume(&c->out, c->out_at);
                c->record_at = c->record_at > c->out_at ? c->record_at - c->out_at : 0;
                c->out_at = 0;
        }
        buf_add(&c->out, data, len);
        if (buf_error(&c->out))
                return -ENOBUFS;
        if (listener_conn_queued(c) > LISTENER_QUEUE_LOW)
                c->above_low = true;
        lws_callback_on_writable(c->wsi);
        return 0;
}

void listener_conn_begin_record(ListenerConn *c)
{
        c->record_at = c->out.len;
}

void listener_conn_notify(ListenerConn *c)
{
        if (c->state != CONN_OPEN)
                return;
        c->above_low = true;
        lws_callback_on_writable(c->wsi);
}

size_t listener_conn_queued(const ListenerConn *c)
{
        return c->out.len - c->out_at;
}

static void on_hangup(Watch *watch, int fd, unsigned int events, void *data)
{
        conn_break(data);
}

/* Without interest in input libwebsockets does not hear of a peer's end, which may come while
 * whoever is to take the input never does. */
static void conn_watch_hangup(ListenerConn *c)
{
        c->hangup_fd = fcntl(lws_get_socket_fd(c->wsi), F_DUPFD_CLOEXEC, 3);
        if (c->hangup_fd >= 0)
                watch_new(c->listener->loop, c->hangup_fd, WATCH_HANGUP, on_hangup, c, &c->hangup);
}

void listener_conn_pause(ListenerConn *c, bool paused)
{
        if (c->state != CONN_OPEN || c->paused == paused)
                return;
        c->paused = paused;
        lws_rx_flow_control(c->wsi, !paused);
        if (paused)
                conn_watch_hangup(c);
        else
                conn_unwatch(c);
}

void listener_conn_close(ListenerConn *c)
{
        if (c->state != CONN_OPEN)
                return;
        c->state = CONN_FLUSHING;
        conn_unwatch(c);
        timer_start(c->timer, LISTENER_FLUSH_MS);
        lws_callback_on_writable(c->wsi);
}

void listener_conn_abort(ListenerConn *c)
{
        if (c->state != CONN_HANDSHAKE)
                conn_kill(c);
}

void listener_conn_trust(ListenerConn *c)
{
        if (c->trusted)
                return;
        c->trusted = true;
        c->listener->n_untrusted--;
}

const char *listener_conn_peer(const ListenerConn *c)
{
        return c->peer;
}

const ClientChain *listener_conn_chain(const ListenerConn *c)
{
        return c->chain;
}
