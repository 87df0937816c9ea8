/* SPDX-License-Identifier: Apache-2.0 */

/* Replays every file of the folders and files given, so that a corpus is an ordinary test. */

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>

#define INPUT_MAX (16U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
        KL_AUTOFREE char *data = NULL;
        size_t len;
        int r = file_read(path, INPUT_MAX, &data, &len);

        if (r < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
                return r;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        return 0;
}

static int replay_folder(const char *path, int *n)
{
        KL_AUTODIR DIR *dir = opendir(path);
        struct dirent *entry;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir))) {
                KL_AUTOFREE char *file = str_format("%s/%s", path, entry->d_name);

                if (entry->d_name[0] == '.')
                        continue;
                if (!file || replay_file(file) < 0)
                        return -EIO;
                (*n)++;
        }
        return 0;
}

int main(int argc, char **argv)
{
        int n = 0;

        for (int i = 1; i < argc; i++)
                if (replay_folder(argv[i], &n) < 0) {
                        fprintf(stderr, "cannot replay '%s'\n", argv[i]);
                        return 1;
                }
        printf("%d inputs\n", n);
        return n > 0 ? 0 : 1;
}
