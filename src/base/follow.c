/* SPDX-License-Identifier: Apache-2.0 */
#include "base/follow.h"

#include "base/list.h"
#include "base/lock.h"
#include "base/str.h"

#include <errno.h>

struct follow {
	struct lock lock;
	struct list readers;
	bool ended;
};

struct follower {
	struct list node;
	struct follow *follow;
	struct follow_source source;
	struct follow_waiter waiter;
	char *topic;
	uint64_t at;
	char *piece; /* what is being read, from @from on */
	size_t from;
	bool wait;
	/* follow->lock: more was published since the last look; waits; is to get an empty line; has come to its end */
	bool more, waiting, tick, ended;
};

struct follow *follow_new(void)
{
	struct follow *f = NEW(struct follow);

	lock_init(&f->lock, "follow", LOCK_LEAF);
	list_init(&f->readers);
	return f;
}

void follow_free(struct follow **slot)
{
	struct follow *f = take(slot);

	if (!f)
		return;
	lock_fini(&f->lock);
	free(f);
}

static void wake(struct follower *r)
{
	if (!r->waiting)
		return;
	r->waiting = false;
	r->waiter.resume(r->waiter.ctx);
}

void follow_publish(struct follow *f, const char *topic)
{
	struct list *pos;

	if (!f)
		return;
	lock_take(&f->lock);
	list_each(pos, &f->readers) {
		struct follower *r = list_entry(pos, struct follower, node);

		if (!str_eq(r->topic, topic))
			continue;
		r->more = true;
		wake(r);
	}
	lock_drop(&f->lock);
}

void follow_tick(struct follow *f)
{
	struct list *pos;

	lock_take(&f->lock);
	list_each(pos, &f->readers) {
		struct follower *r = list_entry(pos, struct follower, node);

		r->tick = r->waiting;
		wake(r);
	}
	lock_drop(&f->lock);
}

void follow_end(struct follow *f, const char *topic)
{
	struct list *pos;

	if (!f)
		return;
	lock_take(&f->lock);
	f->ended |= !topic;
	list_each(pos, &f->readers) {
		struct follower *r = list_entry(pos, struct follower, node);

		if (topic && !str_eq(r->topic, topic))
			continue;
		r->ended = true;
		wake(r);
	}
	lock_drop(&f->lock);
}

struct follower *follower_new(struct follow *f, const struct follow_source *source, uint64_t at, bool wait,
			      const struct follow_waiter *waiter)
{
	struct follower *r = NEW(struct follower);

	*r = (struct follower){ .follow = f, .source = *source, .waiter = *waiter, .at = at, .wait = wait };
	r->topic = must_strdup(source->topic);
	list_init(&r->node);
	lock_take(&f->lock);
	list_append(&f->readers, &r->node);
	lock_drop(&f->lock);
	return r;
}

void follower_free(struct follower **slot)
{
	struct follower *r = take(slot);

	if (!r)
		return;
	lock_take(&r->follow->lock);
	list_remove(&r->node);
	lock_drop(&r->follow->lock);
	if (r->source.end)
		r->source.end(r->source.ctx);
	str_free(&r->topic);
	str_free(&r->piece);
	free(r);
}

static ssize_t give(struct follower *r, void *to, size_t max)
{
	size_t left = strlen(r->piece + r->from), n = MIN(left, max);

	memcpy(to, r->piece + r->from, n);
	r->from += n;
	if (n == left)
		str_free(&r->piece);
	return (ssize_t)n;
}

/* There was nothing: wait, unless something came since we looked. Return: 1: look again. */
static ssize_t rest(struct follower *r, void *to)
{
	struct follow *f = r->follow;
	ssize_t n = 0;

	lock_take(&f->lock);
	if (r->more) {
		n = 1;
	} else if (r->wait && !r->ended && !f->ended) {
		n = -EAGAIN;
		if (r->tick) {
			*(char *)to = '\n';
			n = 2;
		} else {
			r->waiting = true;
			r->waiter.suspend(r->waiter.ctx);
		}
	}
	r->tick = false;
	lock_drop(&f->lock);
	return n;
}

ssize_t follower_read(struct follower *r, void *to, size_t max)
{
	ssize_t n = 1;

	while (n == 1) {
		if (!r->piece) {
			lock_take(&r->follow->lock);
			r->more = false;
			lock_drop(&r->follow->lock);
			r->piece = r->source.next(r->source.ctx, &r->at);
			r->from = 0;
		}
		if (r->piece)
			return give(r, to, max);
		n = rest(r, to);
	}
	return n == 2 ? 1 : n;
}
