/* SPDX-License-Identifier: Apache-2.0 */
/* Which files are to be shipped: asked for, and what is known of their names. Each is in the queue once. */
#include "guest/ship-inside.h"

/* Besides the queue of what was written there is room for FETCHES_MAX: a host asks for fewer at once. */
enum { QUEUE_MAX = 262144, FETCHES_MAX = 8192 };

void request_free(struct request **slot)
{
	struct request *r = take(slot);

	if (!r)
		return;
	free(r->name);
	free(r->path);
	free(r);
}

static void name_set(struct request *r, uint64_t parent, struct span name)
{
	if (r->parent == parent && r->name && span_eq(span_str(r->name), name))
		return;
	free(r->name);
	r->name = span_dup(name);
	r->parent = parent;
}

void ship_requeue(struct ship *s, struct request *r)
{
	struct request *other = map_get_u64(&s->by_fid, r->fid);

	if (other) {
		other->ord = MIN(other->ord, r->ord);
		other->tries = MAX(other->tries, r->tries);
		other->not_before = MAX(other->not_before, r->not_before);
		request_free(&r);
		return;
	}
	r->hinted = false;
	map_put_u64(&s->by_fid, r->fid, r);
	list_append(&s->queue, &r->node);
}

static struct request *request_new(struct ship *s, uint64_t fid)
{
	struct request *r = NEW(struct request);

	*r = (struct request){ .ord = ++s->ord, .fid = fid };
	list_init(&r->node);
	ship_requeue(s, r);
	return r;
}

bool ship_add(struct ship *s, uint64_t parent, struct span name, uint64_t fid)
{
	struct request *r = map_get_u64(&s->by_fid, fid);

	if (!r && s->by_fid.len >= QUEUE_MAX)
		return false;
	if (!r)
		r = request_new(s, fid);
	name_set(r, parent, name);
	ship_go_on(s);
	return true;
}

void ship_seen(struct ship *s, uint64_t parent, struct span name, uint64_t fid)
{
	struct request *r = map_get_u64(&s->by_fid, fid);
	struct sent *sent = map_get_u64(&s->in_air, fid);

	if (r)
		name_set(r, parent, name);
	if (s->now.req && s->now.req->fid == fid)
		name_set(s->now.req, parent, name);
	if (s->aside.req && s->aside.req->fid == fid)
		name_set(s->aside.req, parent, name);
	if (sent)
		name_set(sent->req, parent, name);
}

void ship_fetch(struct ship *s, uint64_t fid, struct span path)
{
	struct request *r = map_get_u64(&s->by_fid, fid);

	if (!r && s->by_fid.len >= QUEUE_MAX + FETCHES_MAX)
		return;
	if (!r)
		r = request_new(s, fid);
	free(r->path);
	r->path = span_dup(path);
	r->not_before = 0;
	list_remove(&r->node);
	list_prepend(&s->queue, &r->node);
	ship_go_on(s);
}

uint64_t ship_ticket(const struct ship *s)
{
	return s->ord;
}

bool ship_settled(const struct ship *s, uint64_t ticket)
{
	struct list *node;

	if ((s->now.req && s->now.req->ord <= ticket) || (s->aside.req && s->aside.req->ord <= ticket))
		return false;
	list_each(node, &s->queue)
		if (list_entry(node, struct request, node)->ord <= ticket)
			return false;
	list_each(node, &s->sent)
		if (list_entry(node, struct sent, node)->req->ord <= ticket)
			return false;
	return true;
}

uint64_t ship_moved(const struct ship *s)
{
	return s->progress_n;
}

size_t ship_backlog(const struct ship *s)
{
	return s->by_fid.len + s->n_sent + (s->now.req != NULL) + (s->aside.req != NULL);
}
