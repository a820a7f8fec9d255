/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/* Time. Deadlines are moments on clock_now(), a monotonic clock in nanoseconds; CLOCK_NEVER means no deadline. */
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER UINT64_MAX
#define CLOCK_MS 1000000ULL
#define CLOCK_S 1000000000ULL

/** clock_now() - nanoseconds on CLOCK_MONOTONIC. */
uint64_t clock_now(void);
/** clock_wall() - nanoseconds since 1970, CLOCK_REALTIME. */
int64_t clock_wall(void);
/** clock_after_ms() - the moment @ms from now; saturates at CLOCK_NEVER. */
uint64_t clock_after_ms(uint64_t ms);
/** clock_left_ms() - for poll(2): milliseconds until @until, rounded up, 0 when past, -1 for CLOCK_NEVER. */
int clock_left_ms(uint64_t until);
/** clock_timespec() - nanoseconds since 1970 as a timespec; negative times are fine. */
struct timespec clock_timespec(int64_t ns);
/** clock_ns() - a timespec as nanoseconds since 1970. */
int64_t clock_ns(struct timespec ts);
/** clock_utc() - "2026-11-26T04:43:15", from 1970 to 9999; else the nearest of these. Without gmtime(3), whose zones
 * are a fifteenth of the static agent. */
enum { CLOCK_UTC_LEN = 19 };
void clock_utc(int64_t seconds, char ret[CLOCK_UTC_LEN + 1]);

#endif
