/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pull and import. On a terminal each layer has a line with a bar, redrawn in place at most ten
 * times a second; elsewhere each change of a layer's phase is one line.
 */

#include "cli/cli-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define LAYERS_MAX 128
#define BAR_MAX 30
/* What stands beside a bar: name, phase, percentage, amounts. */
#define BESIDE_BAR 52
#define REDRAW_MS 100

typedef struct Layer {
        char *name; /* "" for the whole */
        char *phase;
        uint64_t bytes, total;
} Layer;

typedef struct Progress {
        bool tty;
        Layer layers[LAYERS_MAX];
        size_t n;
        size_t drawn; /* lines on the screen */
        uint64_t drawn_ms;
} Progress;

static Layer *find_layer(Progress *p, const char *name)
{
        for (size_t i = 0; i < p->n; i++)
                if (str_eq(p->layers[i].name, name))
                        return &p->layers[i];
        if (p->n == LAYERS_MAX)
                return NULL;
        p->layers[p->n].name = strdup(name);
        return p->layers[p->n].name ? &p->layers[p->n++] : NULL;
}

static void add_short_name(Buf *to, const Layer *l)
{
        const char *colon = strchr(l->name, ':');
        KL_AUTOBUF clean = BUF_INIT;

        cli_add_clean(&clean, colon ? colon + 1 : l->name);
        buf_addf(to, "%-12.12s", *l->name ? buf_str(&clean) : "image");
}

static void add_amount(Buf *to, const Layer *l)
{
        char done[32], total[32];

        cli_format_bytes(l->bytes, done, sizeof(done));
        cli_format_bytes(l->total, total, sizeof(total));
        if (l->total)
                buf_addf(to, "%s/%s", done, total);
        else if (l->bytes)
                buf_add_str(to, done);
}

/* The percentage, and a bar where the screen is wide enough. */
static void add_bar(Buf *to, const Layer *l, unsigned int columns)
{
        unsigned int width = columns < BESIDE_BAR ? 0 : columns - BESIDE_BAR;
        unsigned int percent;

        if (!l->total)
                return;
        percent = l->bytes >= l->total ? 100 : (unsigned int)(l->bytes * 100.0 / (double)l->total);
        width = width > BAR_MAX ? BAR_MAX : width;
        buf_add_str(to, width ? " [" : "");
        for (unsigned int i = 0; i < width; i++)
                buf_add_char(to, i < percent * width / 100 ? '#' : '.');
        buf_addf(to, "%s %3u%% ", width ? "]" : "", percent);
}

static struct winsize screen_size(void)
{
        struct winsize size = { 0 };

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
                size = (struct winsize){ .ws_col = 80, .ws_row = 24 };
        return size;
}

static void draw(Progress *p)
{
        KL_AUTOBUF out = BUF_INIT;
        struct winsize screen = screen_size();
        /* The cursor cannot go up beyond the screen: the newest layers are shown. */
        size_t rows = screen.ws_row > 1 ? (size_t)screen.ws_row - 1 : 1;
        size_t first = p->n > rows ? p->n - rows : 0;

        if (p->drawn)
                buf_addf(&out, "\033[%zuA", p->drawn);
        for (size_t i = first; i < p->n; i++) {
                KL_AUTOBUF line = BUF_INIT;
                KL_AUTOBUF phase = BUF_INIT;

                cli_add_clean(&phase, p->layers[i].phase ? p->layers[i].phase : "");
                add_short_name(&line, &p->layers[i]);
                buf_addf(&line, " %-10s", buf_str(&phase));
                add_bar(&line, &p->layers[i], screen.ws_col);
                add_amount(&line, &p->layers[i]);
                buf_addf(&out, "\r%.*s\033[K\n", screen.ws_col - 1, buf_str(&line));
        }
        p->drawn = p->n - first;
        p->drawn_ms = time_monotonic_ms();
        fputs(buf_str(&out), stdout);
        fflush(stdout);
}

static void print_change(const Layer *l)
{
        KL_AUTOBUF line = BUF_INIT;
        KL_AUTOBUF phase = BUF_INIT;
        char size[32];

        cli_add_clean(&phase, l->phase);
        add_short_name(&line, l);
        buf_addf(&line, " %s", buf_str(&phase));
        cli_format_bytes(l->total, size, sizeof(size));
        if (l->total)
                buf_addf(&line, " %s", size);
        puts(buf_str(&line));
        fflush(stdout);
}

static void on_progress(const Value *progress, void *data)
{
        Progress *p = data;
        const char *name = value_get_str(progress, "layer");
        const char *phase = value_get_str(progress, "phase");
        Layer *l = find_layer(p, name ? name : "");
        int64_t bytes = value_int(value_get(progress, "bytes"), 0);
        int64_t total = value_int(value_get(progress, "total"), 0);
        bool changed;

        if (!l)
                return;
        changed = phase && !str_eq(phase, l->phase);
        if (changed) {
                free(l->phase);
                l->phase = strdup(phase);
        }
        l->bytes = bytes > 0 ? (uint64_t)bytes : 0;
        l->total = total > 0 ? (uint64_t)total : 0;
        if (p->tty && time_monotonic_ms() - p->drawn_ms >= REDRAW_MS)
                draw(p);
        else if (!p->tty && changed && l->phase)
                print_change(l);
}

/* Asks and shows progress; for -o json there is only the result. */
static int transfer(const CliCommon *common, const char *json, int fd, Value **ret)
{
        Progress progress = { .tty = isatty(STDOUT_FILENO) };
        CliRequest request = { .state_dir = common->state_dir,
                               .json = json,
                               .fd = fd,
                               .progress = common->format == CLI_TABLE ? on_progress : NULL,
                               .data = &progress };
        KL_AUTOERR err = NULL;
        int r = cli_request(&request, ret, &err);

        if (progress.tty && progress.n)
                draw(&progress);
        for (size_t i = 0; i < progress.n; i++) {
                free(progress.layers[i].name);
                free(progress.layers[i].phase);
        }
        return r < 0 ? cli_fail("%s", kl_error_msg(err)) : CLI_OK;
}

int cli_run_pull(const CliCommand *command, int argc, char **argv)
{
        KL_AUTOFREE char *json = NULL;
        KL_AUTO(value_free) Value *result = NULL;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, NULL, 1, 1, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        json = cli_make_request("pull", "image", args[0], NULL);
        r = transfer(&common, json, -1, &result);
        if (r != CLI_OK)
                return r;
        if (common.format != CLI_TABLE)
                return cli_print_value(result, common.format);
        printf("Image is up to date for %s\n", value_get_str(result, "id") ?: args[0]);
        return CLI_OK;
}

static int open_source(const char *path)
{
        struct stat st;
        int fd;

        if (str_eq(path, "-"))
                return fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0 && (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))) {
                kl_close(fd);
                errno = EINVAL;
                return -1;
        }
        return fd;
}

int cli_run_import(const CliCommand *command, int argc, char **argv)
{
        const char *name = NULL;
        const CliOption options[] = {
                { 0, "name", "IMAGE", "a name for what has none", NULL, &name },
                { 0 },
        };
        KL_AUTOFREE char *json = NULL, *path = NULL;
        KL_AUTO(value_free) Value *result = NULL;
        KL_AUTOFD int fd = -1;
        const Value *images;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 1, 1, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        fd = open_source(args[0]);
        if (fd < 0)
                return cli_fail("cannot open '%s': %s", args[0], strerror(errno));
        path = str_eq(args[0], "-") ? NULL : realpath(args[0], NULL);
        json = cli_make_request("import", "path", path, "name", name, NULL);
        r = transfer(&common, json, fd, &result);
        if (r != CLI_OK)
                return r;
        if (common.format != CLI_TABLE)
                return cli_print_value(result, common.format);
        images = value_get(result, "images");
        for (size_t i = 0; i < value_len(images); i++)
                printf("Imported %s\n", value_str(value_at(images, i)) ?: "");
        return CLI_OK;
}
