/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bytes between this command's standard streams and the pipes of a process in a container. What is
 * read from standard input waits until its pipe takes it, while output goes on: neither side can
 * stop the other for good. With a terminal it is in raw mode meanwhile, and its size is passed on.
 */

#include "cli/cli-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#define CHUNK 65536
#define LINE_MAX_BYTES 65536

enum { AT_STDIN, AT_IN, AT_OUT, AT_ERR, AT_CONTROL, AT_SIGNALS, N_POLLED };

typedef struct Loop {
        CliStreams *s;
        Buf input, answer;
        bool input_open, answered;
        int signals;
        int signal; /* that ends it */
        Value **result;
        KlError **err;
} Loop;

static void send_size(const Loop *l)
{
        struct winsize size;
        KL_AUTOFREE char *line = NULL;

        if (!l->s->tty || l->s->control < 0 || l->answered ||
            ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
                return;
        line = str_format("{\"rows\":%u,\"columns\":%u}", size.ws_row, size.ws_col);
        if (line)
                cli_send(l->s->control, line, NULL, 0);
}

static void take_signal(Loop *l)
{
        struct signalfd_siginfo info;

        if (read(l->signals, &info, sizeof(info)) != sizeof(info))
                return;
        if (info.ssi_signo == SIGWINCH)
                send_size(l);
        else
                l->signal = (int)info.ssi_signo;
}

static void take_stdin(Loop *l)
{
        char *at = buf_reserve(&l->input, CHUNK);
        ssize_t n = at ? read(STDIN_FILENO, at, CHUNK) : 0;

        if (n > 0)
                buf_commit(&l->input, (size_t)n);
        else if (n == 0 || errno != EINTR)
                l->input_open = false;
}

static void give_input(Loop *l)
{
        ssize_t n = l->input.len ? write(l->s->in, l->input.data, l->input.len) : 0;

        if (n > 0)
                buf_consume(&l->input, (size_t)n);
        /* Nobody reads any more, or there is nothing more to read. */
        if ((n < 0 && errno != EAGAIN && errno != EINTR) || (l->input.len == 0 && !l->input_open)) {
                l->s->in = kl_close(l->s->in);
                l->input_open = false;
        }
}

/* Once the daemon has answered nothing more comes than what is there. */
static void take_output(Loop *l, int *from, int to)
{
        char chunk[CHUNK];
        ssize_t n = read(*from, chunk, sizeof(chunk));

        if (n > 0) {
                if (fd_write_all(to, chunk, (size_t)n) < 0)
                        l->signal = SIGPIPE;
                return;
        }
        if (n == 0 || (errno != EINTR && (errno != EAGAIN || l->answered)))
                *from = kl_close(*from);
}

static int take_answer(Loop *l)
{
        CliRequest request = { .fd = -1 };
        char *at = buf_reserve(&l->answer, 4096), *end;
        ssize_t n = at ? read(l->s->control, at, 4096) : -1;
        int r;

        if (n < 0 && errno == EINTR)
                return 0;
        if (n <= 0)
                return kl_error(l->err, -ECONNRESET, "Unavailable",
                                "the daemon went away before it answered");
        buf_commit(&l->answer, (size_t)n);
        while (l->answer.len > 0 && (end = memchr(l->answer.data, '\n', l->answer.len))) {
                r = cli_take_line(&request, l->answer.data, (size_t)(end - l->answer.data),
                                  l->result, l->err);
                if (r < 0)
                        return r;
                l->answered |= r == 1;
                buf_consume(&l->answer, (size_t)(end - l->answer.data) + 1);
        }
        return 0;
}

static bool is_over(const Loop *l)
{
        bool drained = l->s->out < 0 && l->s->err < 0;

        return l->signal || (drained && (l->answered || l->s->ends_by_eof));
}

static int turn(Loop *l)
{
        CliStreams *s = l->s;
        struct pollfd p[N_POLLED] = {
                [AT_STDIN] = { l->input_open && s->in >= 0 && l->input.len == 0 ? STDIN_FILENO : -1,
                               POLLIN, 0 },
                [AT_IN] = { l->input.len > 0 ? s->in : -1, POLLOUT, 0 },
                [AT_OUT] = { s->out, POLLIN, 0 },
                [AT_ERR] = { s->err, POLLIN, 0 },
                [AT_CONTROL] = { l->answered ? -1 : s->control, POLLIN, 0 },
                [AT_SIGNALS] = { l->signals, POLLIN, 0 },
        };
        /* What a child in the background holds open is not waited for. */
        bool last = l->answered && !s->tty && !s->ends_by_eof;

        if (poll(p, N_POLLED, last ? 0 : -1) < 0 && errno != EINTR)
                return kl_error_errno(l->err, -errno, NULL, "wait");
        if (p[AT_SIGNALS].revents)
                take_signal(l);
        if (p[AT_STDIN].revents)
                take_stdin(l);
        if (s->in >= 0 && (p[AT_IN].revents || (!l->input_open && l->input.len == 0)))
                give_input(l);
        if (s->out >= 0 && (p[AT_OUT].revents || last))
                take_output(l, &s->out, STDOUT_FILENO);
        if (s->err >= 0 && (p[AT_ERR].revents || last))
                take_output(l, &s->err, STDERR_FILENO);
        return p[AT_CONTROL].revents ? take_answer(l) : 0;
}

static int watch_signals(sigset_t *ret_before)
{
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < 4; i++)
                sigaddset(&set, (int[]){ SIGWINCH, SIGTERM, SIGHUP, SIGINT }[i]);
        sigprocmask(SIG_BLOCK, &set, ret_before);
        signal(SIGPIPE, SIG_IGN);
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int cli_run_streams(CliStreams *s, Value **ret, int *ret_signal, KlError **err)
{
        Loop l = { .s = s,
                   .input_open = s->in >= 0,
                   .answer = BUF_INIT_LIMIT(LINE_MAX_BYTES),
                   .result = ret,
                   .err = err };
        struct termios before, raw;
        bool is_raw = s->tty && tcgetattr(STDIN_FILENO, &before) == 0;
        sigset_t mask;
        int r = 0;

        l.signals = watch_signals(&mask);
        for (size_t i = 0; i < 3; i++)
                if ((int[]){ s->in, s->out, s->err }[i] >= 0)
                        fd_set_nonblock((int[]){ s->in, s->out, s->err }[i], true);
        if (is_raw) {
                raw = before;
                cfmakeraw(&raw);
                tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
                send_size(&l);
        }
        while (r == 0 && !is_over(&l))
                r = turn(&l);
        if (is_raw)
                tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
        kl_close(l.signals);
        sigprocmask(SIG_SETMASK, &mask, NULL);
        buf_deinit(&l.input);
        buf_deinit(&l.answer);
        *ret_signal = l.signal;
        return r < 0 ? r : l.signal != 0;
}
