/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prints a container's log, as the kubelet API does (server/log-chain.h, server/log-format.h), but
 * each stream to its own, and waits for the disk itself. Pods write what they like into their logs;
 * as with kubectl the bytes go out as they are.
 */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "server/log-chain.h"
#include "server/log-format.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>

#define WAIT_MS 1000

typedef struct Reader {
        const CliLogOptions *options;
        FILE *out, *errors;
        int dir_fd;
        LogChain *chain;
        LogFormat format;
        Buf text, error_text;
} Reader;

static int print_block(Reader *r, const char *data, size_t len)
{
        log_format_add(&r->format, data, len, &r->text, &r->error_text);
        if (buf_error(&r->text) || buf_error(&r->error_text))
                return -ENOMEM;
        fwrite(buf_str(&r->text), 1, r->text.len, r->out);
        fwrite(buf_str(&r->error_text), 1, r->error_text.len, r->errors);
        buf_clear(&r->text);
        buf_clear(&r->error_text);
        return ferror(r->out) ? -EPIPE : 0;
}

/* To the end of what is there. */
static int read_on(Reader *r)
{
        char block[LOG_CHAIN_BLOCK];
        bool new_file;
        ssize_t n;

        while ((n = log_chain_read(r->chain, block, sizeof(block), &new_file)) > 0) {
                if (new_file)
                        log_format_cut(&r->format);
                KL_TRY(print_block(r, block, (size_t)n));
        }
        fflush(r->out);
        fflush(r->errors);
        return (int)n;
}

static int seek(Reader *r)
{
        int rc;

        if (r->options->tail < 0)
                return log_chain_seek_oldest(r->chain, r->options->since_us);
        do
                rc = log_chain_seek_tail(r->chain, r->options->tail);
        while (rc > 0);
        return rc;
}

static int follow(Reader *r)
{
        KL_AUTOFD int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        KL_AUTOFREE char *dir = str_format("/proc/self/fd/%d", r->dir_fd);
        bool last = false;

        if (watch < 0 || !dir ||
            inotify_add_watch(watch, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
                watch = kl_close(watch);
        for (;;) {
                struct pollfd p = { .fd = watch, .events = POLLIN };
                char events[4096];
                int n;

                KL_TRY(read_on(r));
                if (last)
                        return 0;
                n = poll(&p, 1, WAIT_MS);
                if (n > 0)
                        while (read(watch, events, sizeof(events)) > 0)
                                ;
                if (n == 0 && r->options->goes_on && !r->options->goes_on(r->options->data))
                        last = true;
        }
}

static int open_chain(Reader *r)
{
        const char *path = r->options->path, *slash = strrchr(path, '/');
        KL_AUTOFREE char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

        if (!dir)
                return -ENOMEM;
        r->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (r->dir_fd < 0)
                return -errno;
        return log_chain_open(r->dir_fd, slash ? slash + 1 : path,
                              r->options->follow ? LOG_CHAIN_FOLLOW : 0, &r->chain);
}

int cli_log_print(const CliLogOptions *options, FILE *out, FILE *errors, KlError **err)
{
        Reader r = { .options = options, .out = out, .errors = errors, .dir_fd = -1 };
        const LogOptions format = { .timestamps = options->timestamps,
                                    .since_us = options->since_us,
                                    .tail_lines = -1,
                                    .limit_bytes = -1,
                                    .out = true,
                                    .err = true };
        int rc = open_chain(&r);

        log_format_init(&r.format, &format);
        if (rc == 0)
                rc = seek(&r);
        if (rc == 0)
                rc = options->follow ? follow(&r) : read_on(&r);
        log_chain_free(r.chain);
        kl_close(r.dir_fd);
        log_format_deinit(&r.format);
        buf_deinit(&r.text);
        buf_deinit(&r.error_text);
        if (rc < 0 && rc != -EPIPE)
                return kl_error_errno(err, rc, rc == -ENOENT ? "NotFound" : NULL, "read '%s'",
                                      options->path);
        return 0;
}
