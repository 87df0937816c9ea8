/* SPDX-License-Identifier: Apache-2.0 */

/*
 * kubelite-image: one pull or import, started by the daemon or by hand.
 *
 *     kubelite-image pull   --store DIR [--registries FILE] [--stall-timeout SECONDS] [--pin]
 * REFERENCE kubelite-image import --store DIR [--pin] [--fd N] FILE|DIRECTORY|- kubelite-image list
 * --store DIR kubelite-image remove --store DIR REFERENCE|ID kubelite-image clean  --store DIR
 *
 * With --owned the caller holds the store's lock; without, it is taken, so that these commands and
 * a daemon exclude each other. Credentials come as JSON on standard input when --auth is given.
 * What standard output says is described in status-internal.h.
 */

#include "image/worker/role-internal.h"
#include "image/worker/status-internal.h"
#include "image/worker/task-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"

#include <getopt.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define AUTH_BYTES_MAX (256U << 10)
#define STALL_MAX_S 86400
#define ARCHIVE_FD_MAX 1023

typedef struct Arguments {
        const char *command, *store, *registries, *operand;
        uint64_t stall_s, fd; /* fd: an open archive, 0: none */
        bool owned, pin, auth;
} Arguments;

static int usage(void)
{
        fprintf(stderr, "usage: kubelite-image pull|import|list|remove|clean --store DIR [options] "
                        "[OPERAND]\n");
        return 2;
}

static int parse_arguments(int argc, char **argv, Arguments *ret)
{
        static const struct option options[] = {
                { "store", required_argument, NULL, 's' },
                { "registries", required_argument, NULL, 'r' },
                { "stall-timeout", required_argument, NULL, 't' },
                { "fd", required_argument, NULL, 'f' },
                { "owned", no_argument, NULL, 'o' },
                { "pin", no_argument, NULL, 'p' },
                { "auth", no_argument, NULL, 'a' },
                { NULL, 0, NULL, 0 },
        };
        int c;

        *ret = (Arguments){ .command = argv[1] };
        while ((c = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1) {
                if (c == 's')
                        ret->store = optarg;
                else if (c == 'r')
                        ret->registries = optarg;
                else if (c == 't' && str_to_u64(optarg, STALL_MAX_S, &ret->stall_s) < 0)
                        return -EINVAL;
                else if (c == 'f' && str_to_u64(optarg, ARCHIVE_FD_MAX, &ret->fd) < 0)
                        return -EINVAL;
                else if (c == '?')
                        return -EINVAL;
                ret->owned |= c == 'o';
                ret->pin |= c == 'p';
                ret->auth |= c == 'a';
        }
        argv += 1 + optind;
        ret->operand = argv[0];
        return ret->store && (!argv[0] || !argv[1]) ? 0 : -EINVAL;
}

/* --- commands --- */

typedef struct AuthText {
        Arena *arena;
        ImageAuth auth;
} AuthText;

/* {"username", "password", "identityToken", "registryToken"} on standard input. */
static int read_auth(AuthText *to, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        KL_AUTOFREE char *text = malloc(AUTH_BYTES_MAX);
        const struct {
                const char *key;
                const char **to;
        } keys[] = { { "username", &to->auth.username },
                     { "password", &to->auth.password },
                     { "identityToken", &to->auth.identity_token },
                     { "registryToken", &to->auth.registry_token } };
        ssize_t n = text ? fd_read_all(STDIN_FILENO, text, AUTH_BYTES_MAX) : -ENOMEM;
        int r;

        if (n < 0)
                return kl_error_errno(err, (int)n, NULL, "read the credentials");
        r = json_parse(text, (size_t)n, &document, err);
        if (r < 0)
                return kl_error_wrap(err, r, "read the credentials");
        to->arena = arena_new();
        for (size_t i = 0; to->arena && i < ELEMENTS(keys); i++) {
                const char *value = value_get_str(document, keys[i].key);

                if (!str_empty(value))
                        *keys[i].to = arena_strdup(to->arena, value);
        }
        return to->arena ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static int command_pull(Layout *layout, const Arguments *a, KlError **err)
{
        AuthText auth = { 0 };
        PullOptions options = { .registries = a->registries,
                                .stall_s = (unsigned int)a->stall_s,
                                .pinned = a->pin };
        KL_AUTOFREE char *id = NULL;
        KL_AUTOSTRV names = NULL;
        int r = a->auth ? read_auth(&auth, err) : 0;

        if (a->auth)
                options.auth = &auth.auth;
        if (r == 0)
                r = task_pull(layout, a->operand, &options, &id, &names, err);
        arena_free(auth.arena);
        if (r == 0)
                status_result(id, names);
        return r;
}

static int command_import(Layout *layout, const Arguments *a, KlError **err)
{
        KL_AUTOSTRV names = NULL;
        bool by_fd = str_eq(a->operand, "-");
        int r = task_import(layout, by_fd ? NULL : a->operand, by_fd ? (int)a->fd : -1, a->pin,
                            &names, err);

        if (r == 0)
                status_result(NULL, names);
        return r;
}

static void report_broken(const char *name, const KlError *err, void *data)
{
        fprintf(stderr, "kubelite-image: '%s' is not usable: %s\n", name, kl_error_msg(err));
}

static int command_list(Layout *layout, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        ImageRecord *record;
        int r = layout_load(layout, report_broken, NULL, &records, err);

        for (size_t i = 0; r == 0 && map_next(records, &i, NULL, &record);) {
                KL_AUTOBUF line = BUF_INIT;

                r = image_record_encode(record, &line);
                if (r == 0)
                        printf("%s\n", line.data);
        }
        return r;
}

static int command_remove(Layout *layout, const Arguments *a, KlError **err)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTO(map_free) Map *records = NULL;
        KL_AUTOFREE char *tag = NULL;
        ImageRecord *record;
        int r;

        if (digest_is_valid(a->operand))
                return layout_remove(layout, a->operand, NULL, err);
        r = image_ref_parse(a->operand, &ref, err);
        if (r == 0)
                r = layout_load(layout, NULL, NULL, &records, err);
        if (r < 0)
                return r;
        tag = image_ref_format(&ref);
        for (size_t i = 0; tag && map_next(records, &i, NULL, &record);)
                if (strv_contains(record->tags, tag))
                        return layout_remove(layout, record->image.id, tag, err);
        return kl_error(err, -ENOENT, NULL, "image '%s' is not here", a->operand);
}

static int run(const Arguments *a, KlError **err)
{
        KL_AUTO(layout_close) Layout *layout = NULL;
        KL_AUTOFD int lock = -1;
        int r = layout_open(a->store, &layout, err);

        if (r == 0 && !a->owned) {
                lock = layout_own(layout, err);
                r = lock < 0 ? lock : 0;
        }
        if (r < 0)
                return r;
        if (str_eq(a->command, "pull"))
                return command_pull(layout, a, err);
        if (str_eq(a->command, "import"))
                return command_import(layout, a, err);
        if (str_eq(a->command, "list"))
                return command_list(layout, err);
        if (str_eq(a->command, "remove"))
                return command_remove(layout, a, err);
        return layout_clean(layout, err);
}

static bool is_command(const char *name, const char *operand)
{
        if (str_eq(name, "list") || str_eq(name, "clean"))
                return !operand;
        return operand &&
               (str_eq(name, "pull") || str_eq(name, "import") || str_eq(name, "remove"));
}

#if defined(__SANITIZE_ADDRESS__)
/* The check for leaks stops the process from a thread of its own, which a confined one may not
 * make: it would wait for that for ever. */
static bool confined;
int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void)
{
        return confined;
}
#define SET_CONFINED(value) (confined = (value))
#else
#define SET_CONFINED(value) ((void)(value))
#endif

int main(int argc, char **argv)
{
        KL_AUTOERR err = NULL;
        Arguments a;

        signal(SIGPIPE, SIG_IGN);
        SET_CONFINED(argc >= 2 && (str_eq(argv[1], ROLE_UNPACK) || str_eq(argv[1], ROLE_FETCH) ||
                                   str_eq(argv[1], ROLE_SCAN)));
        if (argc >= 2 && str_eq(argv[1], ROLE_UNPACK))
                return role_unpack(argc - 1, argv + 1);
        if (argc >= 2 && str_eq(argv[1], ROLE_FETCH))
                return role_fetch(argc - 1, argv + 1);
        if (argc >= 2 && str_eq(argv[1], ROLE_SCAN))
                return role_scan(argc - 1, argv + 1);
        if (argc < 2 || parse_arguments(argc, argv, &a) < 0 || !is_command(a.command, a.operand))
                return usage();
        /* credentials are in this process' memory */
        prctl(PR_SET_DUMPABLE, 0);
        umask(0077);
        if (run(&a, &err) == 0)
                return 0;
        status_error(err);
        fprintf(stderr, "kubelite-image: %s\n", kl_error_msg(err));
        return 1;
}
