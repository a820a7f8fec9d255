/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks and their arithmetic, saturating where it could overflow. */
#include "base/clock.h"

#include <limits.h>

static struct timespec get(clockid_t id)
{
	struct timespec ts = { 0 };

	clock_gettime(id, &ts);
	return ts;
}

int64_t clock_ns(struct timespec ts)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)ts.tv_sec, (int64_t)CLOCK_S, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts.tv_nsec, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

struct timespec clock_timespec(int64_t ns)
{
	int64_t s = ns / (int64_t)CLOCK_S, rest = ns % (int64_t)CLOCK_S;

	if (rest < 0) {
		s--;
		rest += (int64_t)CLOCK_S;
	}
	return (struct timespec){ .tv_sec = s, .tv_nsec = rest };
}

uint64_t clock_now(void)
{
	return (uint64_t)clock_ns(get(CLOCK_MONOTONIC));
}

int64_t clock_wall(void)
{
	return clock_ns(get(CLOCK_REALTIME));
}

uint64_t clock_after_ms(uint64_t ms)
{
	uint64_t ns, until;

	if (__builtin_mul_overflow(ms, CLOCK_MS, &ns) || __builtin_add_overflow(ns, clock_now(), &until))
		return CLOCK_NEVER;
	return until;
}

int clock_left_ms(uint64_t until)
{
	uint64_t now, ms;

	if (until == CLOCK_NEVER)
		return -1;
	now = clock_now();
	if (until <= now)
		return 0;
	ms = (until - now + CLOCK_MS - 1) / CLOCK_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}
