/* SPDX-License-Identifier: Apache-2.0 */

/* Interfaces and their counters, from /proc/<pid>/net/dev of a process that lives there. */

#include "stats/stats-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <string.h>

#define NET_DEV_MAX 65536

/* Those that cAdvisor leaves out (container/libcontainer/handler.go). */
static bool is_ignored(const char *name)
{
        static const char *const prefixes[] = { "lo", "veth", "docker", "nerdctl" };

        for (size_t i = 0; i < ELEMENTS(prefixes); i++)
                if (str_starts(name, prefixes[i]))
                        return true;
        return false;
}

/* "  eth0: 1 2 3 4 fifo frame compressed multicast 5 6 7 8 …" */
static bool parse_line(const char *line, StatsInterface *ret)
{
        unsigned long long v[12];
        const char *colon = strchr(line, ':');
        size_t n;

        line += strspn(line, " ");
        if (!colon || colon <= line)
                return false;
        n = (size_t)(colon - line);
        if (n >= sizeof(ret->name))
                return false;
        *ret = (StatsInterface){ 0 };
        memcpy(ret->name, line, n);
        if (sscanf(colon + 1, "%llu %llu %llu %llu %*u %*u %*u %*u %llu %llu %llu %llu", &v[0],
                   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
                return false;
        ret->rx_bytes = v[0];
        ret->rx_packets = v[1];
        ret->rx_errors = v[2];
        ret->rx_dropped = v[3];
        ret->tx_bytes = v[4];
        ret->tx_packets = v[5];
        ret->tx_errors = v[6];
        ret->tx_dropped = v[7];
        return true;
}

size_t stats_parse_interfaces(const char *text, StatsInterface ret[static STATS_INTERFACES_MAX])
{
        size_t n = 0;

        while (*text && n < STATS_INTERFACES_MAX) {
                const char *end = text + strcspn(text, "\n");
                char line[512];

                snprintf(line, sizeof(line), "%.*s", (int)(end - text), text);
                if (parse_line(line, &ret[n]) && !is_ignored(ret[n].name))
                        n++;
                text = end + (*end == '\n');
        }
        return n;
}

void stats_read_network(Arena *arena, pid_t pid, StatsNetwork *ret)
{
        StatsInterface found[STATS_INTERFACES_MAX];
        KL_AUTOFREE char *text = NULL;
        char path[64];
        size_t n;

        *ret = (StatsNetwork){ 0 };
        snprintf(path, sizeof(path), pid ? "/proc/%d/net/dev" : "/proc/net/dev", (int)pid);
        if (file_read(path, NET_DEV_MAX, &text, NULL) < 0)
                return;
        n = stats_parse_interfaces(text, found);
        ret->interfaces = ARENA_ARRAY(arena, n ? n : 1, StatsInterface);
        if (!ret->interfaces)
                return;
        memcpy(ret->interfaces, found, n * sizeof(found[0]));
        ret->n = n;
        ret->time_us = time_realtime_us();
}
