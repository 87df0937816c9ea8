/* SPDX-License-Identifier: Apache-2.0 */

/* The hook that waits. Its deadline is its end. */

#include "probe/probe-internal.h"

static void on_slept(Attempt *a)
{
        attempt_tell(a, PROBE_SUCCESS, "");
}

static int sleep_start(Attempt *a, const AttemptSpec *spec, KlError **err)
{
        timer_start(a->deadline, (uint64_t)spec->handler->sleep_s * 1000);
        return 0;
}

static void sleep_stop(Attempt *a)
{
        timer_stop(a->deadline);
}

const AttemptOps attempt_sleep = {
        .size = sizeof(Attempt),
        .start = sleep_start,
        .stop = sleep_stop,
        .timed_out = on_slept,
};
