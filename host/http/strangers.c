/* SPDX-License-Identifier: Apache-2.0 */
/* Who cannot show a key may try it a few times a minute from one address: a key cannot be guessed, but those who try
 * cost a line of the log each, and what has gone wrong with a client is then seen by the client. The key is asked
 * first: who has one is no stranger, whoever else has his address. That costs one fast hash of 52 bytes for each
 * request, less than to read its headers; behind the limit nothing is written or grows. */
#include "host/http/inside.h"

#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static bool address_of(const struct sockaddr *sa, uint8_t to[16])
{
	memset(to, 0, 16);
	if (sa && sa->sa_family == AF_INET) {
		to[10] = to[11] = 0xff;
		memcpy(to + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return true;
	}
	if (!sa || sa->sa_family != AF_INET6)
		return false;
	memcpy(to, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	if (!IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)to))
		memset(to + 8, 0, 8);
	return true;
}

/* The place of an address, with what is left of its failures. */
static struct stranger *find(struct strangers *s, const uint8_t address[16])
{
	struct stranger *oldest = s->v;
	uint64_t now = clock_now();
	size_t i;

	for (i = 0; i < STRANGERS_MAX; i++) {
		struct stranger *one = &s->v[i];

		if (one->at && memcmp(one->address, address, 16) == 0) {
			uint64_t gone = (now - one->at) / CLOCK_MS * s->per_minute / 60;

			if (gone) /* else it would never become anything */
				one->at = now;
			one->failures_m -= MIN(gone, one->failures_m);
			return one;
		}
		if (one->at < oldest->at)
			oldest = one;
	}
	*oldest = (struct stranger){ .at = now };
	memcpy(oldest->address, address, 16);
	return oldest;
}

bool strangers_failed(struct strangers *s, const struct sockaddr *sa, struct err *e)
{
	uint8_t address[16];
	struct stranger *one;
	bool shut;

	if (!s->per_minute || !address_of(sa, address))
		return false;
	lock_take(&s->lock);
	if (!s->v)
		s->v = must_calloc(STRANGERS_MAX, sizeof(*s->v));
	one = find(s, address);
	shut = one->failures_m > (s->per_minute - 1) * 1000ULL;
	if (!shut)
		one->failures_m += 1000;
	lock_drop(&s->lock);
	if (shut)
		*e = (struct err){ .code = 0 };
	if (shut)
		(void)!err_set(e, -EUSERS, "too-many-failures", "this address has shown no valid key %u times a minute",
			       s->per_minute);
	return shut;
}
