/* SPDX-License-Identifier: Apache-2.0 */

/* The notification protocol of systemd: one datagram a message, to the socket named by the
 * environment. */

#include "daemon.h"

#include "base/str.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

void daemon_notify(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        size_t n = path ? strlen(path) : 0;
        KL_AUTOFD int fd = -1;

        if (n < 2 || n >= sizeof(address.sun_path) || (*path != '/' && *path != '@'))
                return;
        memcpy(address.sun_path, path, n);
        if (*path == '@')
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return;
        if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
                return;
}

uint64_t daemon_watchdog_ms(void)
{
        const char *text = getenv("WATCHDOG_USEC");
        uint64_t us;

        if (!text || str_to_u64(text, UINT64_MAX, &us) < 0)
                return 0;
        return us / 2000;
}
