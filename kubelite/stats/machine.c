/* SPDX-License-Identifier: Apache-2.0 */

/* What /metrics/cadvisor tells of the machine besides figures, from texts of /proc. */

#include "stats/report.h"

#include "base/map.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

static uint64_t number_after(const char *line, const char *key, uint64_t otherwise)
{
        unsigned long long n;

        return str_starts(line, key) && sscanf(line + strlen(key), "%*[\t ]:%llu", &n) == 1
                       ? n
                       : otherwise;
}

void stats_count_cores(const char *cpuinfo, uint64_t *ret_cores, uint64_t *ret_sockets)
{
        KL_AUTO(map_free) Map *cores = map_new(NULL);
        KL_AUTO(map_free) Map *sockets = map_new(NULL);
        uint64_t socket = 0;
        static char yes;

        for (const char *line = cpuinfo; cores && sockets && *line;) {
                uint64_t core = number_after(line, "core id", UINT64_MAX);
                char key[64];

                socket = number_after(line, "physical id", socket);
                snprintf(key, sizeof(key), "%llu/%llu", (unsigned long long)socket,
                         (unsigned long long)core);
                if (core != UINT64_MAX) {
                        map_set(cores, key, &yes);
                        *strchr(key, '/') = '\0';
                        map_set(sockets, key, &yes);
                }
                line += strcspn(line, "\n");
                line += *line == '\n';
        }
        *ret_cores = cores ? map_len(cores) : 0;
        *ret_sockets = sockets ? map_len(sockets) : 0;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": of the mount
 * points above the path the longest counts, of equal ones the last. */
void stats_find_device(const char *mountinfo, const char *path, char *ret, size_t size)
{
        size_t best = 0;

        snprintf(ret, size, "none");
        for (const char *line = mountinfo; *line;) {
                char at[512], source[256];
                const char *end = line + strcspn(line, "\n"), *dash = strstr(line, " - ");
                size_t n = 0;

                if (dash && dash < end && sscanf(line, "%*s %*s %*s %*s %511s", at) == 1 &&
                    sscanf(dash, " - %*s %255s", source) == 1) {
                        n = str_eq(at, "/") ? 1 : strlen(at);
                        if (n > 1 && (!str_starts(path, at) || (path[n] && path[n] != '/')))
                                n = 0;
                }
                if (n && n >= best) {
                        best = n;
                        snprintf(ret, size, "%s", source);
                }
                line = end + (*end == '\n');
        }
}
