/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_SETTLE_H
#define KUBELITE_CNI_CNI_SETTLE_H

#include "cni/cni-record.h"

/*
 * Waits until no plugin process of the record is left, and kills them when their time is up: the
 * recorded process, recognised by its start time, and every process that was given the same
 * CNI_CONTAINERID and the record owner's token in its environment, delegates of plugins included.
 * Blocks; made for a function worker. Returns the number of processes that had to be killed, or
 * -errno.
 */
int cni_settle(const CniRecord *record, uint64_t timeout_ms);

/* The name of the token in a plugin's environment. */
#define CNI_OWNER_VARIABLE "KUBELITE_CNI_OWNER"

#endif
