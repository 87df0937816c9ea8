/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_LOOP_LOOP_INTERNAL_H
#define KUBELITE_LOOP_LOOP_INTERNAL_H

#include "base/list.h"
#include "loop/loop.h"

#include <uv.h>

struct Loop {
        uv_loop_t uv;
        uv_check_t check;
        uv_idle_t
                idle; /* active only while something is deferred, so that the turn does not wait */
        List deferred;
        List workers_queued;
        List abandoned; /* children that nobody waits for */
        unsigned int n_workers;
};

#endif
