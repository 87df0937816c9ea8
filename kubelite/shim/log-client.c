/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The shim's side of the log writer. The shim keeps the reading ends of all pipes too: if the log
 * writer dies (out of memory, or killed), a new one is started and gets them, and containers notice
 * nothing; what is lost is at most one unfinished line a stream, and attachments. If the shim dies,
 * the log writer writes what is still in the pipes and ends.
 */

#include "shim/log-internal.h"
#include "shim/shim-internal.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/prctl.h>

static int send_message(Shim *shim, uint32_t type, uint32_t channel, uint32_t flags, const int *fds,
                        size_t n)
{
        LogMessage message = { .type = type, .channel = channel, .flags = flags };

        return shim->log.fd < 0
                       ? -ENOTCONN
                       : packet_send(shim->log.fd, &message, sizeof(message), fds, n, true);
}

static void ended(Shim *shim, uint32_t channel)
{
        list_for_each (c, &shim->containers, Container, link)
                if (c->channel == channel) {
                        container_log_ended(shim, c);
                        return;
                }
        list_for_each (e, &shim->execs, Exec, link)
                if (e->channel == channel) {
                        exec_relay_ended(shim, e);
                        return;
                }
}

static void rotated(Shim *shim, uint32_t channel)
{
        list_for_each (c, &shim->containers, Container, link)
                if (c->channel == channel)
                        connection_log_rotated(shim, c);
}

static void stdin_done(Shim *shim, uint32_t channel)
{
        list_for_each (c, &shim->containers, Container, link)
                if (c->channel == channel)
                        c->stdin_fd = kl_close(c->stdin_fd);
}

static void heard(Shim *shim, Source *source)
{
        LogMessage message;
        size_t n_fds;
        ssize_t n = packet_receive(source->fd, &message, sizeof(message), NULL, 0, &n_fds);

        if (n == -EAGAIN)
                return;
        if (n != (ssize_t)sizeof(message)) {
                /* Its death brings a new one, when it is reaped. */
                source_close(shim, source);
                return;
        }
        if (message.type == LOG_ENDED)
                ended(shim, message.channel);
        else if (message.type == LOG_STDIN_DONE)
                stdin_done(shim, message.channel);
        else if (message.type == LOG_ROTATED)
                rotated(shim, message.channel);
}

_Noreturn static void run(int control)
{
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_NAME, "kubelite-log");
        /* Nothing of the shim's but standard error and this socket: its sockets must close with it.
         */
        if (control != 3 && dup3(control, 3, O_CLOEXEC) < 0)
                _exit(1);
        sys_close_range(4, UINT_MAX);
        log_writer_main(3);
}

int log_start(Shim *shim)
{
        int pair[2], r;
        pid_t pid;

        r = packet_pair(pair);
        if (r < 0)
                return r;
        pid = sys_fork(0, -1);
        if (pid == 0)
                run(pair[1]);
        close(pair[1]);
        if (pid < 0) {
                close(pair[0]);
                return pid;
        }
        shim->log_pid = pid;
        return source_add(shim, &shim->log, pair[0], heard);
}

void log_add_container(Shim *shim, Container *c)
{
        LogMessage m = { .type = LOG_ADD,
                         .channel = c->channel,
                         .flags = (c->tty ? LOG_TTY : 0) | (c->stdin_once ? LOG_STDIN_ONCE : 0),
                         .max_bytes = c->log_max_bytes };
        int fds[LOG_MESSAGE_FDS];
        size_t n = 0;

        memcpy(m.name, c->log_name, sizeof(m.name));
        if (c->log_fd >= 0) {
                m.flags |= LOG_HAS_FILE;
                fds[n++] = c->log_fd;
        }
        if (c->log_fd >= 0 && c->log_dir_fd >= 0) {
                m.flags |= LOG_HAS_DIR;
                fds[n++] = c->log_dir_fd;
        }
        if (c->out_fd >= 0) {
                m.flags |= LOG_HAS_OUT;
                fds[n++] = c->out_fd;
        }
        if (c->err_fd >= 0) {
                m.flags |= LOG_HAS_ERR;
                fds[n++] = c->err_fd;
        }
        if (c->stdin_fd >= 0) {
                m.flags |= LOG_HAS_IN;
                fds[n++] = c->stdin_fd;
        }
        if (shim->log.fd >= 0)
                packet_send(shim->log.fd, &m, sizeof(m), fds, n, true);
}

void log_add_exec(Shim *shim, Exec *e)
{
        int fds[3];
        uint32_t streams = 0;
        size_t n = 0;

        if (e->stdin_fd >= 0) {
                streams |= SHIM_ATTACH_STDIN;
                fds[n++] = e->stdin_fd;
        }
        if (e->stdout_fd >= 0) {
                streams |= SHIM_ATTACH_STDOUT;
                fds[n++] = e->stdout_fd;
        }
        send_message(shim, LOG_ADD, e->channel, LOG_HAS_OUT | LOG_TTY | (n > 0 ? LOG_WAIT : 0),
                     &e->master_fd, 1);
        if (n > 0)
                send_message(shim, LOG_ATTACH, e->channel, streams, fds, n);
}

void log_reaped(Shim *shim)
{
        shim->log_pid = 0;
        source_close(shim, &shim->log);
        if (shim->shutting_down || log_start(shim) < 0)
                return;
        list_for_each (c, &shim->containers, Container, link)
                if (c->state != SHIM_CONTAINER_EXITED && c->out_fd >= 0) {
                        log_add_container(shim, c);
                        if (c->ended)
                                log_end(shim, c->channel);
                }
        list_for_each (e, &shim->execs, Exec, link)
                if (e->master_fd >= 0) {
                        log_add_exec(shim, e);
                        if (e->ended)
                                log_end(shim, e->channel);
                }
}

void log_end(Shim *shim, uint32_t channel)
{
        send_message(shim, LOG_END, channel, 0, NULL, 0);
}

int log_attach(Shim *shim, const Container *c, uint32_t streams, const int *fds, size_t n_fds)
{
        return send_message(shim, LOG_ATTACH, c->channel, streams, fds, n_fds);
}

int log_reopen(Shim *shim, Container *c, int log_fd)
{
        kl_close(c->log_fd);
        c->log_fd = log_fd;
        return send_message(shim, LOG_REOPEN, c->channel, 0, &log_fd, 1);
}
