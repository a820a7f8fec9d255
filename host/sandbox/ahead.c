/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes that are started ahead (docs/sandbox.md, "Ready ahead"). One is everything that a sandbox of its template
 * with the sizes that this one has is, but for what whoever takes it says: name, owner, metadata, time, secrets,
 * network. Until then it is in nobody's list and counts for nobody, no command has run in it, and its network lets
 * nothing out.
 *
 * They are in the table as "creating", which nobody is shown, and their record says "ready": the next daemon, or this
 * one when it ends, removes them.
 */
#include "host/sandbox/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

/* LOOK_MS: for templates that changed. FAILED_MS: after one that could not be made. */
enum { LOOK_MS = 1000, FAILED_MS = 5000 };

struct ready {
	VEC(struct sandbox *) v; /* oldest first */
	char name[PRIV_ID_MAX + 1]; /* as the configuration has it */
	struct hub_shape shape; /* what it stands for now; changed by the thread */
	uint64_t mark; /* of the template that they stand on */
	char *rules;   /* of what is kept of them; NULL: none. The thread's */
	struct hub_pool_state told;
};

struct ahead {
	struct hub *hub;
	struct ready *lines; /* guarded by hub.lock, as what follows */
	size_t n;
	unsigned others; /* sandboxes that are being made for somebody */
	bool wanted, stop;
	pthread_t thread;
	bool has_thread;
};

/* --- away --------------------------------------------------------------------------------------------------------- */

/* It is in no line any more. */
static void remove_one(struct sandbox *s)
{
	life_undo(s);
	hub_forget(s->hub, s);
}

/* hub.lock is held. NULL: there is none. */
static struct sandbox *take_last(struct ready *l)
{
	struct sandbox *s = l->v.len ? l->v.v[--l->v.len] : NULL;

	l->told.ready = (unsigned)l->v.len;
	return s;
}

static void empty(struct ahead *a, struct ready *l)
{
	struct sandbox *s;

	do {
		lock_take(&a->hub->lock);
		s = take_last(l);
		lock_drop(&a->hub->lock);
		if (s)
			remove_one(s);
	} while (s);
}

bool ahead_give(struct hub *hub)
{
	struct ahead *a = hub->ahead;
	struct sandbox *s = NULL;
	size_t i;

	if (!a)
		return false;
	lock_take(&hub->lock);
	for (i = 0; i < a->n && !s; i++)
		s = take_last(&a->lines[i]);
	lock_drop(&hub->lock);
	if (s)
		remove_one(s);
	return s;
}

void ahead_drop(struct hub *hub, const char *template_)
{
	struct ahead *a = hub->ahead;
	size_t i;

	for (i = 0; a && i < a->n; i++) {
		bool is_its;

		lock_take(&hub->lock);
		is_its = str_eq(a->lines[i].shape.template_, template_);
		lock_drop(&hub->lock);
		if (is_its)
			empty(a, &a->lines[i]);
	}
}

/* --- taking ------------------------------------------------------------------------------------------------------- */

static bool is_like(const struct sandbox *r, const struct sandbox *s)
{
	const struct hub_info *a = &r->info, *b = &s->info;

	return a->memory_b == b->memory_b && a->workspace_b == b->workspace_b && a->cpu_milli == b->cpu_milli &&
	       a->pids == b->pids && r->has_network == s->has_network && str_eq(ws_keep(r->ws), s->keep ? s->keep : "");
}

/* What whoever takes it said, and nothing of @s is left but what he did not. hub.lock is held. */
static void become(struct sandbox *r, struct sandbox *s)
{
	struct hub_info *i = &r->info;

	snprintf(i->name, sizeof(i->name), "%s", s->info.name);
	snprintf(i->owner, sizeof(i->owner), "%s", s->info.owner);
	snprintf(i->secrets, sizeof(i->secrets), "%s", s->info.secrets);
	i->created_ns = s->info.created_ns;
	i->ends_ns = s->info.ends_ns;
	i->timeout_ms = s->info.timeout_ms;
	i->on_timeout = s->info.on_timeout;
	r->is_ready = false;
	r->meta = take(&s->meta);
	r->door = take(&s->door);
	r->egress = take(&s->egress);
	i->has_egress = s->info.has_egress;
	policy_fini(&r->network);
	r->network = s->network;
	s->network = POLICY_NULL;
	if (i->name[0])
		map_put(&r->hub->by_name, span_str(i->name), r);
}

static bool fits(const struct sandbox *s, const struct hub_create *what)
{
	return !what->id[0] && !what->from && !what->moment && !what->root && !s->n_volumes;
}

/* The line that has one like @s; else one of its template, which should have. hub.lock is held. */
static struct ready *line_for(struct ahead *a, const struct sandbox *s, uint64_t mark)
{
	struct ready *found = NULL;
	size_t i;

	for (i = 0; i < a->n; i++) {
		struct ready *l = &a->lines[i];

		if (!str_eq(l->shape.template_, s->info.template_))
			continue;
		if (l->mark == mark && l->v.len && is_like(l->v.v[0], s))
			return l;
		if (!found || (l->shape.memory_b == s->info.memory_b && l->shape.cpu_milli == s->info.cpu_milli))
			found = l;
	}
	return found;
}

int ahead_take(struct hub *hub, const struct hub_create *what, struct sandbox *s, struct sandbox **ret, struct err *e)
{
	struct ahead *a = hub->ahead;
	struct ready *l = NULL;
	struct sandbox *r = NULL;
	uint64_t mark;
	int q = 0;

	*ret = NULL;
	if (!a || !fits(s, what))
		return 0;
	mark = hub_template_mark(hub, s->info.template_);
	lock_take(&hub->lock);
	l = line_for(a, s, mark);
	while (l && l->mark == mark && l->v.len && !r) {
		r = l->v.v[0];
		if (!is_like(r, s)) {
			r = NULL;
			break;
		}
		q = hub_may_claim(hub, s, what->owner_max, e);
		if (q < 0)
			break;
		memmove(l->v.v, l->v.v + 1, --l->v.len * sizeof(*l->v.v));
		l->told.ready = (unsigned)l->v.len;
		if (!life_agent_lives(r)) {
			lock_drop(&hub->lock);
			remove_one(r);
			lock_take(&hub->lock);
			r = NULL;
		}
	}
	if (q < 0)
		r = NULL;
	if (r)
		become(r, s);
	if (l && q == 0)
		(*(r ? &l->told.taken : &l->told.missed))++;
	a->wanted |= l != NULL;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
	*ret = r;
	return q;
}

void ahead_others(struct hub *hub, int more)
{
	if (!hub->ahead)
		return;
	lock_take(&hub->lock);
	hub->ahead->others += (unsigned)more;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static int make_one(struct ahead *a, struct ready *l, struct err *e)
{
	const struct policy nothing = POLICY_NULL;
	struct hub_create what = { .network = &nothing };
	struct sandbox *s = NULL;
	const char *template_ = l->shape.template_;
	uint64_t mark = hub_template_mark(a->hub, template_);
	bool keep;
	int r;

	snprintf(what.template_, sizeof(what.template_), "%s", template_);
	what.memory_b = l->shape.memory_b;
	what.cpu_milli = l->shape.cpu_milli;
	r = hub_new_sandbox(a->hub, &what, &s, e);
	if (r < 0)
		return r;
	s->is_ready = true;
	r = hub_claim(a->hub, s, 0, e);
	if (r < 0) {
		hub_free_sandbox(&s);
		return r;
	}
	r = life_begin(s, e);
	if (r < 0) {
		hub_forget(a->hub, s);
		return r;
	}
	lock_take(&a->hub->lock);
	keep = !a->stop && l->mark == mark && hub_template_mark(a->hub, template_) == mark;
	if (keep)
		vec_push(&l->v, s);
	l->told.ready = (unsigned)l->v.len;
	l->told.made++;
	lock_drop(&a->hub->lock);
	if (!keep)
		remove_one(s);
	return 0;
}

/* A template that was built anew, or has other rules or sizes: those that stand on the old one go. */
static void look_at_templates(struct ahead *a)
{
	size_t i;

	for (i = 0; i < a->n; i++) {
		struct ready *l = &a->lines[i];
		AUTO(str_free) char *rules = NULL;
		struct hub_shape shape;
		uint64_t mark;
		char *was;

		hub_shape(a->hub, l->name, &shape);
		mark = hub_template_mark(a->hub, shape.template_);
		(void)!hub_rules(a->hub, shape.template_, NULL, &rules, NULL);
		if (mark == l->mark && str_eq(shape.template_, l->shape.template_) &&
		    shape.memory_b == l->shape.memory_b && shape.cpu_milli == l->shape.cpu_milli &&
		    str_eq(rules ? rules : "", l->rules ? l->rules : ""))
			continue;
		lock_take(&a->hub->lock);
		l->mark = mark;
		l->shape = shape;
		lock_drop(&a->hub->lock);
		was = l->rules;
		l->rules = take(&rules);
		free(was);
		empty(a, l);
	}
}

/* The line that wants one most; NULL: none. hub.lock is held. */
static struct ready *hungry(struct ahead *a)
{
	struct ready *found = NULL;
	size_t i;

	for (i = 0; i < a->n; i++) {
		struct ready *l = &a->lines[i];

		if (l->mark && l->told.ready < l->told.want &&
		    (!found || l->told.want - l->told.ready > found->told.want - found->told.ready))
			found = l;
	}
	return found;
}

/* One at a time, as much time off as it took, and none while somebody waits for another. */
static void *ahead_main(void *ctx)
{
	struct ahead *a = ctx;
	struct hub *hub = a->hub;
	uint64_t next = 0, look = 0, began;
	struct ready *l;
	int r;

	lock_take(&hub->lock);
	while (!a->stop && !hub->ending) {
		if (clock_now() >= look) {
			lock_drop(&hub->lock);
			look_at_templates(a);
			look = clock_after_ms(LOOK_MS);
			lock_take(&hub->lock);
		}
		l = hub->disk.state == HUB_DISK_OK ? hungry(a) : NULL;
		if (!l || a->others || clock_now() < next) {
			(void)!lock_wait(&hub->lock, &hub->cond, l && !a->others ? MIN(next, look) : look);
			continue;
		}
		lock_drop(&hub->lock);
		began = clock_now();
		{
			struct err e = ERR_NULL;

			r = make_one(a, l, &e);
			if (r < 0 && r != -EAGAIN && r != -ESHUTDOWN)
				log_warn("sandbox", "none could be made ready", "template=%s why=%s", l->name,
					 e.text);
			lock_take(&hub->lock);
			snprintf(l->told.why, sizeof(l->told.why), "%.127s", e.text);
			lock_drop(&hub->lock);
		}
		next = r < 0 ? clock_after_ms(FAILED_MS) : clock_now() + (clock_now() - began);
		lock_take(&hub->lock);
	}
	lock_drop(&hub->lock);
	return NULL;
}

int ahead_start(struct hub *hub, struct err *e)
{
	const struct hub_conf *c = &hub->conf;
	struct ahead *a;
	size_t i;
	int r;

	if (!c->n_pools)
		return 0;
	a = NEW(struct ahead);
	a->hub = hub;
	a->n = c->n_pools;
	a->lines = must_calloc(a->n, sizeof(*a->lines));
	for (i = 0; i < a->n; i++) {
		snprintf(a->lines[i].name, sizeof(a->lines[i].name), "%s", c->pools[i].template_);
		a->lines[i].told.want = c->pools[i].want;
		snprintf(a->lines[i].told.template_, sizeof(a->lines[i].told.template_), "%s", c->pools[i].template_);
	}
	hub->ahead = a;
	r = pthread_create(&a->thread, NULL, ahead_main, a);
	if (r)
		return err_sys(e, -r, "the thread that starts sandboxes ahead");
	(void)pthread_setname_np(a->thread, "ahead");
	a->has_thread = true;
	return 0;
}

void ahead_stop(struct hub *hub)
{
	struct ahead *a = hub->ahead;
	size_t i;

	if (!a)
		return;
	lock_take(&hub->lock);
	a->stop = true;
	pthread_cond_broadcast(&hub->cond);
	lock_drop(&hub->lock);
	if (a->has_thread)
		pthread_join(a->thread, NULL);
	for (i = 0; i < a->n; i++) {
		empty(a, &a->lines[i]);
		vec_fini(&a->lines[i].v);
		str_free(&a->lines[i].rules);
	}
	hub->ahead = NULL;
	free(a->lines);
	free(a);
}

void hub_pools(struct hub *hub, void (*fn)(void *ctx, const struct hub_pool_state *s), void *ctx)
{
	struct hub_pool_state s;
	size_t i;

	for (i = 0; hub->ahead && i < hub->ahead->n; i++) {
		lock_take(&hub->lock);
		s = hub->ahead->lines[i].told;
		s.lacks_template = !hub->ahead->lines[i].mark;
		lock_drop(&hub->lock);
		fn(ctx, &s);
	}
}
