/* SPDX-License-Identifier: Apache-2.0 */

#include "net/netns-socket.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

/* Nothing but a failed allocation of a few bytes can stop it, which the kernel does not let happen
 * to a process that it does not kill. Going on in a pod's network would be worse than an end. */
static void return_home(int home)
{
        if (setns(home, CLONE_NEWNET) == 0)
                return;
        log_error(NULL, "Cannot leave a pod's network namespace: %s", strerror(errno));
        abort();
}

int netns_tcp_socket(const char *path, int family)
{
        KL_AUTOFD int home = -1, there = -1;
        int fd;

        if (!*path) {
                fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                return fd < 0 ? -errno : fd;
        }
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        there = home < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (there < 0 || setns(there, CLONE_NEWNET) < 0)
                return -errno;
        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                fd = -errno;
        return_home(home);
        return fd;
}
