/* SPDX-License-Identifier: Apache-2.0 */

/* images and rmi. */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "codec/json.h"

#define SHORT_ID 13

/* "registry:5000/app:1" -> the length of "registry:5000/app". */
static size_t repository_len(const char *reference)
{
        const char *slash = strrchr(reference, '/');
        const char *end = strchr(slash ? slash : reference, '@');

        if (!end)
                end = strrchr(slash ? slash : reference, ':');
        return end ? (size_t)(end - reference) : strlen(reference);
}

static void add_image(CliTable *table, const Value *image, const char *reference, bool digest)
{
        const char *id = value_get_str(image, "id");
        size_t len = reference ? repository_len(reference) : 0;
        char size[32];

        cli_format_bytes((uint64_t)value_int(value_get(image, "size_bytes"), 0), size,
                         sizeof(size));
        cli_table_addf(table, "%.*s", (int)len, reference ? reference : "");
        cli_table_add(table, reference && !digest && reference[len] ? reference + len + 1 : NULL);
        if (id && str_starts(id, "sha256:"))
                id += strlen("sha256:");
        cli_table_addf(table, "%.*s", SHORT_ID, id ? id : "");
        cli_table_add(table, size);
        cli_table_add(table, value_bool(value_get(image, "pinned"), false) ? "yes" : "no");
}

static int print_images(const Value *images)
{
        static const char *const header[] = { "IMAGE", "TAG", "IMAGE ID", "SIZE", "PINNED" };
        CliTable table;

        cli_table_init(&table, header, ELEMENTS(header));
        for (size_t i = 0; i < value_len(images); i++) {
                const Value *image = value_at(images, i), *tags = value_get(image, "tags");

                for (size_t j = 0; j < value_len(tags); j++)
                        add_image(&table, image, value_str(value_at(tags, j)), false);
                if (value_len(tags) == 0)
                        add_image(&table, image,
                                  value_str(value_at(value_get(image, "digests"), 0)), true);
        }
        return cli_table_print(&table, stdout);
}

int cli_run_images(const CliCommand *command, int argc, char **argv)
{
        bool quiet = false;
        const CliOption options[] = {
                { 'q', "quiet", NULL, "ids only", &quiet, NULL },
                { 0 },
        };
        KL_AUTO(value_free) Value *images = NULL;
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 0, 0, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        r = cli_fetch(&common, "{\"command\":\"images\"}", &images);
        if (r != CLI_OK)
                return r;
        if (common.format != CLI_TABLE)
                return cli_print_value(images, common.format);
        if (!quiet)
                return print_images(images);
        for (size_t i = 0; i < value_len(images); i++)
                puts(value_get_str(value_at(images, i), "id") ?: "");
        return CLI_OK;
}

static int remove_image(const CliCommon *common, const char *image, bool force)
{
        KL_AUTO(value_free) Value *result = NULL;
        KL_AUTOERR err = NULL;
        KL_AUTOBUF json = BUF_INIT;
        JsonWriter w = JSON_WRITER(&json);
        const Value *deleted;

        jw_object(&w);
        jw_kstr(&w, "command", "rmi");
        jw_kstr(&w, "image", image);
        jw_kbool(&w, "force", force);
        jw_end(&w);
        if (cli_request(&(CliRequest){ .state_dir = common->state_dir,
                                       .json = buf_error(&json) ? NULL : buf_str(&json),
                                       .fd = -1 },
                        &result, &err) < 0)
                return cli_fail("%s: %s", image, kl_error_msg(err));
        if (common->format != CLI_TABLE)
                return cli_print_value(result, common->format);
        deleted = value_get(result, "deleted");
        for (size_t i = 0; i < value_len(deleted); i++)
                printf("Deleted: %s\n", value_str(value_at(deleted, i)) ?: "");
        return CLI_OK;
}

int cli_run_rmi(const CliCommand *command, int argc, char **argv)
{
        bool force = false;
        const CliOption options[] = {
                { 'f', "force", NULL, "pinned ones too", &force, NULL },
                { 0 },
        };
        int status = CLI_OK, r;
        CliCommon common;
        char **args;

        r = cli_parse(command, options, 1, 1024, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        for (size_t i = 0; args[i]; i++)
                if (remove_image(&common, args[i], force) != CLI_OK)
                        status = CLI_FAILED;
        return status;
}
