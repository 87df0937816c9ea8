/* SPDX-License-Identifier: Apache-2.0 */

#include "stats/stats-internal.h"

void rate_update(RateSample *s, int64_t time_us, uint64_t cpu_ns, bool *ret_has_rate,
                 uint64_t *ret_nano_cores)
{
        int64_t passed_us = time_us - s->time_us;
        uint64_t rate = 0;

        /* The first reading, a group that was made anew, a clock that was set back. */
        if (!s->time_us || passed_us < 0 || cpu_ns < s->cpu_ns ||
            time_us - s->asked_us > STATS_SAMPLE_FORGET_US) {
                *s = (RateSample){ .time_us = time_us, .asked_us = time_us, .cpu_ns = cpu_ns };
                *ret_has_rate = false;
                *ret_nano_cores = 0;
                return;
        }
        s->asked_us = time_us;
        if (passed_us > 0)
                rate = (uint64_t)((double)(cpu_ns - s->cpu_ns) * 1e6 / (double)passed_us);
        if (passed_us >= STATS_RATE_MIN_MS * 1000) {
                s->time_us = time_us;
                s->cpu_ns = cpu_ns;
                s->has_rate = true;
                s->nano_cores = rate;
        }
        *ret_has_rate = s->has_rate || passed_us > 0;
        *ret_nano_cores = s->has_rate ? s->nano_cores : rate;
}
