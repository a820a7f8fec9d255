/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sandbox/event.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/str.h"
#include "json/json.h"

#include <errno.h>

enum { LINE_MAX_B = 2048 };

struct events {
	struct lock lock;
	char *line[EVENTS_KEPT]; /* number n is at n % EVENTS_KEPT */
	uint64_t first, next;	 /* numbers that are kept: first to next - 1 */
	struct list readers;
	bool ended;
};

struct event_reader {
	struct list node;
	struct events *events;
	uint64_t at; /* number of the next event */
	char *piece; /* the line that is being read, from @from on */
	size_t from;
	bool follow, waiting, tick;
	void (*suspend)(void *ctx);
	void (*resume)(void *ctx);
	void *ctx;
};

struct events *events_new(void)
{
	struct events *v = NEW(struct events);

	lock_init(&v->lock, "events", LOCK_LEAF);
	list_init(&v->readers);
	v->first = v->next = (uint64_t)(clock_wall() / 1000);
	return v;
}

void events_free(struct events **slot)
{
	struct events *v = take(slot);
	size_t i;

	if (!v)
		return;
	for (i = 0; i < EVENTS_KEPT; i++)
		str_free(&v->line[i]);
	lock_fini(&v->lock);
	free(v);
}

static char *line_of(uint64_t number, const char *kind, const char *id, const char *name, const char *why)
{
	struct json_writer w;
	struct buf b;
	char *line;

	buf_init(&b, LINE_MAX_B);
	w = (struct json_writer){ .b = &b };
	jw_open(&w, '{');
	jw_ku64(&w, "seq", number);
	jw_key(&w, "time_ns");
	jw_i64(&w, clock_wall());
	jw_kstr(&w, "kind", kind);
	jw_kstr(&w, "id", id);
	jw_kstr(&w, "name", name);
	jw_kstr(&w, "why", why);
	jw_close(&w, '}');
	buf_append(&b, "\n", 1);
	line = b.failed ? str_printf("{\"seq\":%llu,\"time_ns\":0,\"kind\":\"lost\",\"id\":\"\",\"name\":\"\",\"why\":"
				     "\"\"}\n",
				     (unsigned long long)number)
			: span_dup(buf_span(&b));
	buf_fini(&b);
	return line;
}

static void wake(struct events *v, bool tick)
{
	struct list *pos;

	list_each(pos, &v->readers) {
		struct event_reader *r = list_entry(pos, struct event_reader, node);

		if (!r->waiting)
			continue;
		r->waiting = false;
		r->tick = tick;
		r->resume(r->ctx);
	}
}

void events_emit(struct events *v, const char *kind, const char *id, const char *name, const char *why)
{
	char **slot;

	if (!v)
		return;
	lock_take(&v->lock);
	slot = &v->line[v->next % EVENTS_KEPT];
	str_free(slot);
	*slot = line_of(v->next, kind, id, name, why);
	v->next++;
	if (v->next - v->first > EVENTS_KEPT)
		v->first = v->next - EVENTS_KEPT;
	wake(v, false);
	lock_drop(&v->lock);
}

void events_tick(struct events *v)
{
	lock_take(&v->lock);
	wake(v, true);
	lock_drop(&v->lock);
}

void events_end(struct events *v)
{
	lock_take(&v->lock);
	v->ended = true;
	wake(v, false);
	lock_drop(&v->lock);
}

uint64_t events_last(struct events *v)
{
	uint64_t last;

	lock_take(&v->lock);
	last = v->next - 1;
	lock_drop(&v->lock);
	return last;
}

struct event_reader *event_reader_new(struct events *v, uint64_t since, bool follow, void (*suspend)(void *ctx),
				      void (*resume)(void *ctx), void *ctx)
{
	struct event_reader *r = NEW(struct event_reader);

	*r = (struct event_reader){ .events = v, .follow = follow, .suspend = suspend, .resume = resume, .ctx = ctx };
	list_init(&r->node);
	lock_take(&v->lock);
	r->at = since ? MIN(since + 1, v->next) : v->first;
	list_append(&v->readers, &r->node);
	lock_drop(&v->lock);
	return r;
}

void event_reader_free(struct event_reader **slot)
{
	struct event_reader *r = take(slot);

	if (!r)
		return;
	lock_take(&r->events->lock);
	list_remove(&r->node);
	lock_drop(&r->events->lock);
	str_free(&r->piece);
	free(r);
}

/* The next line to read, NULL when there is none. The lock is held. */
static char *next_line(struct event_reader *r)
{
	struct events *v = r->events;

	if (r->at < v->first) {
		r->at = v->first;
		return line_of(v->first - 1, "lost", "", "", "older events are not kept any more");
	}
	if (r->at < v->next)
		return must_strdup(v->line[r->at++ % EVENTS_KEPT]);
	return r->tick ? must_strdup("\n") : NULL;
}

ssize_t event_reader_read(struct event_reader *r, void *to, size_t max)
{
	ssize_t n = 0;

	lock_take(&r->events->lock);
	if (!r->piece) {
		r->piece = next_line(r);
		r->from = 0;
	}
	r->tick = false;
	if (r->piece) {
		size_t left = strlen(r->piece + r->from);

		n = (ssize_t)MIN(left, max);
		memcpy(to, r->piece + r->from, (size_t)n);
		r->from += (size_t)n;
		if (left <= max)
			str_free(&r->piece);
	} else if (r->follow && !r->events->ended) {
		n = -EAGAIN;
		r->waiting = true;
		r->suspend(r->ctx);
	}
	lock_drop(&r->events->lock);
	return n;
}
