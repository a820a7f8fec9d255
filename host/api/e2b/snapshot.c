/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of whole sandboxes, which are templates to E2B's clients: "SANDBOX:NAME". */
#include "host/api/e2b/e2b.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>

static void put_snapshot(struct json_writer *w, const char *id, const char *name)
{
	AUTO(str_free) char *both = str_printf("%s:%s", id, name);

	jw_open(w, '{');
	jw_kstr(w, "snapshotID", both);
	jw_key(w, "names");
	jw_open(w, '[');
	jw_str(w, span_str(both));
	jw_close(w, ']');
	jw_close(w, '}');
}

int e2b_snapshot(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(json_free) struct json *j = NULL;
	struct json_writer w = { .b = &res->body };
	struct snapshot s;
	struct hub_info i;
	int r = e2b_body(req, &j, e);

	if (r == 0)
		r = e2b_find(e2b, req, &i, e);
	if (r == 0)
		r = hub_snapshot(e2b->hub, i.id, json_get_str(j, "name", ""), HUB_WHOLE, &s, e);
	if (r < 0)
		return r;
	res->status = 201;
	put_snapshot(&w, i.id, s.name);
	return 0;
}

struct snapshots {
	VEC(char *) names; /* id, name, id, name, ... */
	const char *id, *only;
	struct http_req *req;
	struct e2b *e2b;
};

static int note_snapshot(void *ctx, const struct snapshot *s)
{
	struct snapshots *all = ctx;

	if (all->only && !str_eq(all->only, s->name))
		return 0;
	vec_push(&all->names, must_strdup(all->id));
	vec_push(&all->names, must_strdup(s->name));
	return 0;
}

static int of_sandbox(void *ctx, const struct hub_info *i)
{
	struct snapshots *all = ctx;
	const char *one = http_query(all->req, "sandboxID");

	all->id = i->id;
	if (e2b_is_ours(all->req, i) && (!one || str_eq(one, i->id)))
		(void)hub_snapshot_each(all->e2b->hub, i->id, note_snapshot, all, NULL);
	return 0;
}

int e2b_snapshots(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct snapshots all = { .req = req, .e2b = ctx, .only = http_query(req, "name") };
	struct json_writer w = { .b = &res->body };
	struct e2b_page p;
	size_t i, n;
	int r = e2b_page_of(req, &p, e);

	if (r < 0)
		return r;
	(void)hub_each(all.e2b->hub, true, of_sandbox, &all);
	n = all.names.len / 2;
	jw_open(&w, '[');
	for (i = p.from; i < n && i < p.from + p.limit; i++)
		put_snapshot(&w, all.names.v[2 * i], all.names.v[2 * i + 1]);
	jw_close(&w, ']');
	e2b_page_more(res, &p, n);
	for (i = 0; i < all.names.len; i++)
		free(all.names.v[i]);
	vec_fini(&all.names);
	return 0;
}

int e2b_snapshot_remove(struct e2b *e2b, struct http_req *req, const char *what, struct err *e)
{
	const char *colon = strchr(what, ':');
	AUTO(str_free) char *id = colon ? span_dup(SPAN(what, (size_t)(colon - what))) : NULL;
	struct hub_info i;
	int r;

	if (!id || hub_find_any(e2b->hub, id, &i, NULL) < 0 || !e2b_is_ours(req, &i))
		return 0;
	r = hub_snapshot_remove(e2b->hub, i.id, colon + 1, e);
	return r < 0 ? r : 1;
}

int e2b_snapshot_config(struct e2b *e2b, const char *id, const char *snapshot, char **ret, struct err *e)
{
	struct buf b;
	int r;

	buf_init(&b, HUB_DOOR_MAX + 1);
	r = hub_snapshot_door(e2b->hub, id, snapshot, &b, e);
	if (r == 0 && buf_len(&b))
		*ret = span_dup(buf_span(&b));
	buf_fini(&b);
	return r;
}
