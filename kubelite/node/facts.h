/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NODE_FACTS_H
#define KUBELITE_NODE_FACTS_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

/*
 * What there is to say about this machine, from /proc, /sys and /etc below a prefix ("" for the
 * real ones). Reads small local files only; what is missing is left empty, as virtual machines and
 * boards lack some of it.
 */
#define FACTS_HUGEPAGES_MAX 8
#define FACTS_TEXT_MAX 128

typedef struct NodeHugepages {
        int64_t page_bytes;
        int64_t total_bytes;
} NodeHugepages;

typedef struct NodeFacts {
        int64_t cpus;
        int64_t memory_bytes, swap_bytes;
        NodeHugepages hugepages[FACTS_HUGEPAGES_MAX]; /* ascending page size */
        size_t n_hugepages;
        int64_t root_bytes; /* size of the file system of the root directory; 0: not known */
        char machine_id[FACTS_TEXT_MAX];
        char system_uuid[FACTS_TEXT_MAX]; /* the firmware's, or the machine id */
        char boot_id[FACTS_TEXT_MAX];
        char kernel_version[FACTS_TEXT_MAX];
        char os_image[FACTS_TEXT_MAX];
        char architecture[FACTS_TEXT_MAX]; /* as Go names it: amd64, arm64 */
} NodeFacts;

/* -ENODATA when the machine does not even tell its CPUs and memory. Does not set root_bytes. */
int facts_read(const char *prefix, NodeFacts *ret, KlError **err);
/* Memory, swap and hugepages again: what may change while we run. */
int facts_refresh(const char *prefix, NodeFacts *facts);

/* statvfs(3) of a local directory. */
int facts_root_size(const char *dir, int64_t *ret_bytes);

/* "x86_64" -> "amd64"; the name itself when it is not known. */
const char *facts_go_architecture(const char *machine);

/* Number of CPUs in a list such as "0-3,8"; -EINVAL. */
int facts_cpu_list_count(const char *list, int64_t *ret);

/* The interface of the default route with the lowest metric, from the text of /proc/net/route or
 * /proc/net/ipv6_route; 0 and a name, or -ENOENT. */
#define FACTS_INTERFACE_SIZE 32
int facts_default_interface(const char *route, char ret[static FACTS_INTERFACE_SIZE]);
int facts_default_interface6(const char *route, char ret[static FACTS_INTERFACE_SIZE]);

/*
 * Addresses of this node, at most one of each family, the primary first: those asked for (an
 * unspecified one, 0.0.0.0 or ::, asks for its family), else the default route's interface's global
 * one, IPv4 before IPv6, else any global one of an interface that is up. An empty list if there is
 * none.
 */
int facts_addresses(const char *prefix, char *const *asked, char ***ret, KlError **err);

#endif
