/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two lookers are enough to tell whether others look: with three or more, at least one of the last two is not the one
 * that asks. Two threads that note at once may lose one look; the next one comes within the second, or nobody looks.
 */
#include "host/ws/calm.h"

#include "base/clock.h"
#include "base/own.h"

static uint32_t ms_of(uint64_t now)
{
	return (uint32_t)(now / CLOCK_MS);
}

void looks_note(struct looks *l, uint32_t tag, uint64_t now)
{
	uint64_t was = __atomic_load_n(&l->last, __ATOMIC_RELAXED), is = (uint64_t)tag << 32 | ms_of(now);

	if (was == is)
		return;
	if (was >> 32 != tag)
		__atomic_store_n(&l->other, was, __ATOMIC_RELAXED);
	__atomic_store_n(&l->last, is, __ATOMIC_RELAXED);
}

static bool is_recent(uint64_t look, uint32_t tag, uint64_t now)
{
	return look >> 32 && look >> 32 != tag && ms_of(now) - (uint32_t)look < CALM_LOOK_MS;
}

bool looks_by_others(const struct looks *l, uint32_t tag, uint64_t now)
{
	return is_recent(__atomic_load_n(&l->last, __ATOMIC_RELAXED), tag, now) ||
	       is_recent(__atomic_load_n(&l->other, __ATOMIC_RELAXED), tag, now);
}

uint64_t calm_came(struct calm *c, uint64_t now, uint64_t b, bool is_calm)
{
	uint64_t give;

	c->owed += b;
	give = calm_due(c, now, is_calm);
	if (c->owed)
		c->held_b += b;
	return give;
}

/* When the next piece may be given. */
static uint64_t due_at(const struct calm *c)
{
	return c->paid > CALM_AHEAD_S * CLOCK_S ? c->paid - CALM_AHEAD_S * CLOCK_S : 0;
}

uint64_t calm_due(struct calm *c, uint64_t now, bool is_calm)
{
	uint64_t give = c->owed;

	if (c->rate && is_calm) {
		if (now < due_at(c))
			return 0;
		give = MIN(give, (uint64_t)CALM_PIECE_B);
		c->paid = MAX(c->paid, now) + give * CLOCK_S / c->rate;
	}
	c->owed -= give;
	return give;
}

uint64_t calm_next(const struct calm *c)
{
	return c->owed ? due_at(c) : CLOCK_NEVER;
}
