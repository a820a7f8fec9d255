/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sandbox/event.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/str.h"
#include "json/json.h"

enum { LINE_MAX_B = 2048 };

struct events {
	struct lock lock;
	char *line[EVENTS_KEPT]; /* number n is at n % EVENTS_KEPT */
	uint64_t first, next;	 /* numbers that are kept: first to next - 1 */
	struct follow *follow;
};

struct events *events_new(void)
{
	struct events *v = NEW(struct events);

	lock_init(&v->lock, "events", LOCK_LEAF);
	v->follow = follow_new();
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
	follow_free(&v->follow);
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
	lock_drop(&v->lock);
	follow_publish(v->follow, "");
}

struct follow *events_readers(struct events *v)
{
	return v->follow;
}

uint64_t events_last(struct events *v)
{
	uint64_t last;

	lock_take(&v->lock);
	last = v->next - 1;
	lock_drop(&v->lock);
	return last;
}

/* The next line to read, NULL when there is none. */
static char *next_line(void *ctx, uint64_t *at)
{
	struct events *v = ctx;
	char *line = NULL;

	lock_take(&v->lock);
	if (*at < v->first) {
		*at = v->first;
		line = line_of(v->first - 1, "lost", "", "", "older events are not kept any more");
	} else if (*at < v->next) {
		line = must_strdup(v->line[(*at)++ % EVENTS_KEPT]);
	}
	lock_drop(&v->lock);
	return line;
}

struct follower *events_follow(struct events *v, uint64_t since, bool wait, const struct follow_waiter *waiter)
{
	struct follow_source source = { .topic = "", .next = next_line, .ctx = v };
	uint64_t at;

	lock_take(&v->lock);
	at = since ? MIN(since + 1, v->next) : v->first;
	lock_drop(&v->lock);
	return follower_new(v->follow, &source, at, wait, waiter);
}
