/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_CLOCK_H
#define KUBELITE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* "2006-01-02T15:04:05.000000000Z" and its terminator. */
#define TIME_RFC3339_SIZE 32

/* Timers and back-off use the monotonic clock (boot time, so suspend counts). */
uint64_t time_monotonic_ms(void);
uint64_t time_monotonic_us(void);

/* Wall clock, microseconds since 1970, for what people and the API read. */
int64_t time_realtime_us(void);

/* metav1.Time (seconds), metav1.MicroTime, and the nanoseconds form of CRI logs. */
void time_format_rfc3339(int64_t us, char ret[static TIME_RFC3339_SIZE]);
void time_format_rfc3339_micro(int64_t us, char ret[static TIME_RFC3339_SIZE]);
void time_format_rfc3339_nano(int64_t sec, long nsec, char ret[static TIME_RFC3339_SIZE]);

/* RFC 3339 with optional fraction and offset. 0 or -EINVAL. */
int time_parse_rfc3339(const char *text, int64_t *ret_us);

/* Go durations: "1h2m3.5s", "10s", "100ms", "0". 0, -EINVAL or -ERANGE. */
int time_parse_duration(const char *text, int64_t *ret_us);

#endif
