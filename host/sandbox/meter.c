/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sandboxes use, over time: a look each five seconds at what the host itself sees of them (no agent is asked, so
 * none can lie or be late). Of each sandbox that runs the last hour's samples are in memory; sums by the hour go into
 * the store once a minute, when the sandbox ends and when the daemon does. docs/usage.md.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

enum {
	LOOK_MS = 5000,
	WRITE_MS = 60000,
	SAMPLES = 360,
	SAMPLE_MS = 10000,
	HOUR_MS = 3600 * 1000,
	KEPT_HOURS = 400 * 24
};
enum { GOES_ON_HOURS = 48 }; /* a row that is older is nobody's that runs */

/* How it is with one sandbox. Guarded by meter.lock. */
struct metered {
	struct list node;
	struct usage_row row; /* of this hour */
	enum { AT_REST, RUNS, PAUSED } how;
	bool is_dirty;
	bool is_found; /* by this daemon, and nobody has said how it is */
	uint64_t at;		      /* monotonic, when it was looked at */
	uint64_t memory_b;
	struct hub_sample *samples;	    /* a ring of SAMPLES, from the first one on */
	size_t next, n;
};

struct meter {
	struct hub *hub;
	struct lock lock;
	pthread_cond_t cond;
	struct map by_id;
	struct list all;
	VEC(struct usage_row) ready; /* rows of hours that are over, or of sandboxes that are */
	struct lock write_lock;	     /* one writes at a time */
	pthread_t thread;
	bool has_thread, stop;
};

static uint64_t wall_ms(void)
{
	return (uint64_t)(clock_wall() / 1000000);
}

static struct metered *find(struct meter *m, const char *id)
{
	return map_get(&m->by_id, span_str(id));
}

static struct metered *make(struct meter *m, const char *id, const char *owner)
{
	struct metered *x = NEW(struct metered);

	snprintf(x->row.sandbox, sizeof(x->row.sandbox), "%s", id);
	snprintf(x->row.owner, sizeof(x->row.owner), "%s", owner);
	x->row.hour = (uint32_t)(wall_ms() / HOUR_MS);
	x->at = clock_now();
	list_append(&m->all, &x->node);
	map_put(&m->by_id, span_str(x->row.sandbox), x);
	return x;
}

static void forget(struct meter *m, struct metered *x)
{
	map_remove(&m->by_id, span_str(x->row.sandbox));
	list_remove(&x->node);
	mem_free(&x->samples);
	free(x);
}

/* The hour is over: its row is ready, and the next one begins where the counters are. */
static void turn_hour(struct meter *m, struct metered *x, uint32_t hour)
{
	struct usage_row next = x->row;

	if (x->is_dirty)
		vec_push(&m->ready, x->row);
	next.hour = hour;
	next.run_ms = next.paused_ms = next.cpu_ns = next.memory_mib_ms = next.moved_b = 0;
	x->row = next;
	x->is_dirty = false;
}

static void account(struct metered *x, uint64_t ms)
{
	if (x->how == AT_REST || !ms)
		return;
	*(x->how == RUNS ? &x->row.run_ms : &x->row.paused_ms) += ms;
	x->row.memory_mib_ms += (x->memory_b >> 20) * ms;
	x->is_dirty = true;
}

/* Time has passed; how it was in it is known. A clock that was set back stays in the hour that it had come to. */
static void pass_time(struct meter *m, struct metered *x)
{
	uint64_t ms = (clock_now() - x->at) / CLOCK_MS, end = wall_ms(), begin = end - MIN(ms, end), border;

	x->at += ms * CLOCK_MS;
	while (end >= (border = (uint64_t)(x->row.hour + 1) * HOUR_MS)) {
		uint64_t part = border > begin ? MIN(ms, border - begin) : 0;

		account(x, part);
		ms -= part;
		begin += part;
		turn_hour(m, x, MAX(x->row.hour + 1, (uint32_t)(begin / HOUR_MS)));
	}
	account(x, ms);
	x->row.at_ns = (int64_t)(end * CLOCK_MS);
}

struct look {
	uint64_t cpu_ns, memory_b, cache_b, stored_b, moved_b;
	bool has_cpu;
};

/* No lock is held. */
static void look_at(struct hub *hub, const char *id, struct look *ret)
{
	AUTO(ws_unref) struct ws *ws = NULL;
	struct ws_usage u = { 0 };
	struct ws_stats st = { 0 };

	*ret = (struct look){ .cpu_ns = stats_cpu_ns(hub, id) };
	ret->has_cpu = ret->cpu_ns > 0;
	ret->memory_b = stats_memory_b(hub, id, &ret->cache_b);
	if (hub_ws(hub, id, &ws, NULL) < 0)
		return;
	ws_stat(ws, &st);
	ret->moved_b = st.ship_b;
	if (ws_usage(ws, &u) == 0)
		ret->stored_b = u.brought_b;
}

static void add_sample(struct metered *x, const struct look *l, uint64_t cpu_ns, uint64_t ms)
{
	struct hub_sample *s;
	size_t last = (x->next + SAMPLES - 1) % SAMPLES;
	int64_t now = clock_wall();

	if (x->n && now < x->samples[last].wall_ns + (int64_t)(SAMPLE_MS * CLOCK_MS) - (int64_t)(CLOCK_S / 2))
		return;
	if (!x->samples)
		x->samples = must_calloc(SAMPLES, sizeof(*x->samples));
	s = &x->samples[x->next];
	*s = (struct hub_sample){ .wall_ns = now,
				  .memory_b = l->memory_b,
				  .cache_b = l->cache_b,
				  .disk_b = l->stored_b,
				  .cpu_percent = ms ? (double)cpu_ns / 10000.0 / (double)ms : 0 };
	x->next = (x->next + 1) % SAMPLES;
	x->n = MIN(x->n + 1, (size_t)SAMPLES);
}

/* A counter that went back has begun anew. */
static uint64_t more(uint64_t is, uint64_t was)
{
	return is >= was ? is - was : is;
}

static void take_look(struct meter *m, const char *id, const struct look *l)
{
	struct metered *x;
	uint64_t cpu, ms;

	lock_take(&m->lock);
	x = find(m, id);
	if (x && x->how != AT_REST) {
		ms = (clock_now() - x->at) / CLOCK_MS;
		pass_time(m, x);
		cpu = l->has_cpu ? more(l->cpu_ns, x->row.cpu_seen_ns) : 0;
		x->row.cpu_ns += cpu;
		x->row.moved_b += more(l->moved_b, x->row.moved_seen_b);
		if (l->has_cpu)
			x->row.cpu_seen_ns = l->cpu_ns;
		x->row.moved_seen_b = l->moved_b;
		if (l->stored_b)
			x->row.stored_b = l->stored_b;
		x->memory_b = l->memory_b;
		if (x->how == RUNS)
			add_sample(x, l, cpu, ms);
	}
	lock_drop(&m->lock);
}

static void look_at_all(struct meter *m)
{
	VEC(char *) ids = { 0 };
	struct list *pos;
	struct look l;
	size_t i;

	lock_take(&m->lock);
	list_each(pos, &m->all) {
		struct metered *x = list_entry(pos, struct metered, node);

		if (x->how != AT_REST)
			vec_push(&ids, must_strdup(x->row.sandbox));
	}
	lock_drop(&m->lock);
	for (i = 0; i < ids.len; i++) {
		look_at(m->hub, ids.v[i], &l);
		take_look(m, ids.v[i], &l);
		str_free(&ids.v[i]);
	}
	vec_fini(&ids);
}

int meter_write(struct hub *hub, struct err *e)
{
	struct meter *m = hub->meter;
	VEC(struct usage_row) rows = { 0 };
	struct list *pos, *next;
	size_t i;
	int r = 0;

	lock_take(&m->write_lock);
	lock_take(&m->lock);
	for (i = 0; i < m->ready.len; i++)
		vec_push(&rows, m->ready.v[i]);
	m->ready.len = 0;
	for (pos = m->all.next; pos != &m->all; pos = next) {
		struct metered *x = list_entry(pos, struct metered, node);

		next = pos->next;
		if (x->how != AT_REST)
			pass_time(m, x);
		if (x->is_dirty)
			vec_push(&rows, x->row);
		x->is_dirty = false;
	}
	for (i = 0; i < m->ready.len; i++)
		vec_push(&rows, m->ready.v[i]);
	m->ready.len = 0;
	lock_drop(&m->lock);
	if (rows.len) {
		uint32_t hour = (uint32_t)(wall_ms() / HOUR_MS);

		r = store_usage_put(hub->conf.store, rows.v, rows.len, hour > KEPT_HOURS ? hour - KEPT_HOURS : 0, e);
	}
	if (r < 0) { /* with the next write */
		lock_take(&m->lock);
		for (i = 0; i < rows.len; i++)
			vec_push(&m->ready, rows.v[i]);
		lock_drop(&m->lock);
	}
	lock_drop(&m->write_lock);
	vec_fini(&rows);
	return r;
}

void meter_state(struct hub *hub, const struct hub_info *i)
{
	struct meter *m = hub->meter;
	struct metered *x;
	struct look l;
	bool leaves;

	if (!m)
		return;
	lock_take(&m->lock);
	x = find(m, i->id);
	leaves = x && x->how == RUNS && i->state != SANDBOX_RUNNING;
	lock_drop(&m->lock);
	if (leaves) { /* its groups are there still */
		look_at(hub, i->id, &l);
		take_look(m, i->id, &l);
	}
	lock_take(&m->lock);
	x = find(m, i->id);
	if (!x && (i->state == SANDBOX_RUNNING || i->state == SANDBOX_PAUSED))
		x = make(m, i->id, i->owner);
	if (x) {
		if (!x->is_found)
			pass_time(m, x);
		x->is_found = false; /* it went on while no daemon was there */
		x->how = i->state == SANDBOX_RUNNING  ? RUNS
			 : i->state == SANDBOX_PAUSED ? PAUSED
						      : AT_REST;
		if (i->state >= SANDBOX_STOPPED) {
			if (x->is_dirty)
				vec_push(&m->ready, x->row);
			forget(m, x);
		}
	}
	lock_drop(&m->lock);
}

int hub_samples(struct hub *hub, const char *id, int64_t from_ns, int64_t to_ns,
		void (*fn)(void *ctx, const struct hub_sample *s), void *ctx)
{
	struct meter *m = hub->meter;
	struct metered *x;
	size_t i;
	int n = 0;

	lock_take(&m->lock);
	x = find(m, id);
	for (i = 0; x && i < x->n; i++) {
		const struct hub_sample *s = &x->samples[(x->next + SAMPLES - x->n + i) % SAMPLES];

		if (s->wall_ns < from_ns || s->wall_ns > to_ns)
			continue;
		fn(ctx, s);
		n++;
	}
	lock_drop(&m->lock);
	return n;
}

int hub_used(struct hub *hub, uint32_t from_hour, int (*fn)(void *ctx, const struct usage_row *row), void *ctx,
	     struct err *e)
{
	int r = meter_write(hub, e);

	return r < 0 ? r : store_usage_each(hub->conf.store, from_hour, fn, ctx);
}

/* --- the thread --------------------------------------------------------------------------------------------------- */

static void *meter_main(void *ctx)
{
	struct meter *m = ctx;
	uint64_t next = clock_after_ms(LOOK_MS), write = clock_after_ms(WRITE_MS);

	lock_take(&m->lock);
	while (!m->stop) {
		struct err e = ERR_NULL;

		if (clock_now() < next) {
			(void)!lock_wait(&m->lock, &m->cond, next);
			continue;
		}
		lock_drop(&m->lock);
		look_at_all(m);
		next = clock_after_ms(LOOK_MS);
		if (clock_now() >= write) {
			if (meter_write(m->hub, &e) < 0)
				log_warn("usage", "not written", "why=%s", e.text);
			write = clock_after_ms(WRITE_MS);
		}
		lock_take(&m->lock);
	}
	lock_drop(&m->lock);
	return NULL;
}

/* A row of a daemon before this one: whoever runs still goes on with it, whatever happened meanwhile. */
static int load(void *ctx, const struct usage_row *row)
{
	struct hub *hub = ctx;
	struct meter *m = hub->meter;
	struct metered *x = find(m, row->sandbox);
	struct hub_info i;
	uint64_t age;

	if (!x &&
	    (hub_find(hub, row->sandbox, &i, NULL) < 0 || !str_eq(i.id, row->sandbox) || i.state >= SANDBOX_STOPPED))
		return 0;
	if (!x)
		x = make(m, row->sandbox, row->owner);
	x->row = *row;
	x->row.moved_seen_b = 0; /* a count of the daemon that is no more */
	x->is_found = true;
	age = (uint64_t)MAX(clock_wall() - row->at_ns, INT64_C(0));
	x->at = clock_now() - MIN(age, clock_now());
	return 0;
}

int meter_begin(struct hub *hub, struct err *e)
{
	struct meter *m = NEW(struct meter);
	uint32_t hour = (uint32_t)(wall_ms() / HOUR_MS);
	int r;

	m->hub = hub;
	hub->meter = m;
	lock_init(&m->lock, "meter", LOCK_LEAF);
	lock_init(&m->write_lock, "meter-write", LOCK_METER);
	lock_cond_init(&m->cond);
	list_init(&m->all);
	r = store_usage_each(hub->conf.store, hour - GOES_ON_HOURS, load, hub);
	if (r < 0)
		return err_sys(e, r, "reading what sandboxes used");
	return 0;
}

int meter_start(struct hub *hub, struct err *e)
{
	struct meter *m = hub->meter;
	int r = pthread_create(&m->thread, NULL, meter_main, m);

	if (r)
		return err_sys(e, -r, "the thread that looks what sandboxes use");
	(void)pthread_setname_np(m->thread, "meter");
	m->has_thread = true;
	return 0;
}

void meter_stop(struct hub *hub)
{
	struct meter *m = hub->meter;

	if (!m || !m->has_thread)
		return;
	lock_take(&m->lock);
	m->stop = true;
	pthread_cond_broadcast(&m->cond);
	lock_drop(&m->lock);
	pthread_join(m->thread, NULL);
	m->has_thread = false;
}

void meter_end(struct hub *hub)
{
	struct meter *m = hub->meter;
	struct err e = ERR_NULL;

	if (!m)
		return;
	look_at_all(m);
	if (meter_write(hub, &e) < 0)
		log_warn("usage", "not written", "why=%s", e.text);
	while (!list_empty(&m->all))
		forget(m, list_entry(m->all.next, struct metered, node));
	map_fini(&m->by_id);
	vec_fini(&m->ready);
	pthread_cond_destroy(&m->cond);
	lock_fini(&m->lock);
	lock_fini(&m->write_lock);
	free(m);
	hub->meter = NULL;
}
