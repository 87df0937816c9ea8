/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_NETNS_SOCKET_H
#define KUBELITE_NET_NETNS_SOCKET_H

/*
 * A non-blocking TCP socket in the network namespace that is pinned at path; "" for our own. A
 * socket belongs to the namespace in which it was made, wherever its owner is; so the calling
 * thread visits the namespace for the one system call. -errno; none of the calls waits.
 */
int netns_tcp_socket(const char *path, int family);

#endif
