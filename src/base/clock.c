/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks and their arithmetic, saturating where it could overflow. */
#include "base/clock.h"

#include "base/own.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

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

static bool is_leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static void digits(char *to, unsigned n, unsigned value)
{
	while (n--) {
		to[n] = (char)('0' + value % 10);
		value /= 10;
	}
}

void clock_utc(int64_t seconds, char ret[CLOCK_UTC_LEN + 1])
{
	static const uint8_t length[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	const int64_t last = 253402300799; /* of the year 9999 */
	uint64_t s = (uint64_t)MIN(MAX(seconds, (int64_t)0), last);
	unsigned days = (unsigned)(s / 86400), of_day = (unsigned)(s % 86400), year = 1970, month = 0, n;

	while (days >= (n = is_leap(year) ? 366 : 365)) {
		days -= n;
		year++;
	}
	while (days >= (n = length[month] + (unsigned)(month == 1 && is_leap(year)))) {
		days -= n;
		month++;
	}
	memcpy(ret, "0000-00-00T00:00:00", CLOCK_UTC_LEN + 1);
	digits(ret, 4, year);
	digits(ret + 5, 2, month + 1);
	digits(ret + 8, 2, days + 1);
	digits(ret + 11, 2, of_day / 3600);
	digits(ret + 14, 2, of_day / 60 % 60);
	digits(ret + 17, 2, of_day % 60);
}
