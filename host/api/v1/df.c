/* SPDX-License-Identifier: Apache-2.0 */
/* Where the space is: the disk, the store, each workspace. */
#include "host/api/v1/v1.h"

#include "json/json.h"

#include <errno.h>

void v1_put_disk(struct json_writer *w, struct hub *hub)
{
	struct hub_disk d;

	hub_disk(hub, &d);
	jw_key(w, "disk");
	jw_open(w, '{');
	jw_kstr(w, "state", hub_disk_word(d.state));
	jw_ku64(w, "total_b", d.total_b);
	jw_ku64(w, "free_b", d.free_b);
	jw_ku64(w, "low_b", d.low_b);
	jw_ku64(w, "stop_b", d.stop_b);
	jw_close(w, '}');
}

struct listing {
	struct json_writer *w;
	struct hub *hub;
	struct store *store;
};

static int put_one(void *ctx, const struct hub_info *i)
{
	struct listing *l = ctx;
	struct json_writer *w = l->w;
	struct hub_usage u;
	uint64_t own_b, snapshots;

	if (hub_usage(l->hub, i->id, &u, NULL) < 0)
		return 0; /* removed a moment ago */
	jw_open(w, '{');
	jw_kstr(w, "id", i->id);
	jw_kstr(w, "name", i->name);
	jw_kstr(w, "state", sandbox_state_name(i->state));
	jw_ku64(w, "entries", u.ws.entries);
	jw_ku64(w, "entries_max", u.ws.entries_max);
	jw_ku64(w, "brought_b", u.ws.brought_b);
	jw_ku64(w, "charged_b", u.ws.charged_b);
	jw_ku64(w, "brought_max_b", u.ws.brought_max_b);
	jw_ku64(w, "store_b", u.store_b);
	jw_ku64(w, "image_b", u.image_b);
	if (store_gc_own(l->store, i->id, &own_b, &snapshots) == 0) {
		jw_ku64(w, "own_b", own_b);
		jw_ku64(w, "snapshots", snapshots);
	}
	jw_close(w, '}');
	return 0;
}

/* As of the last collection: what the store holds then, and what it gave back. */
static void put_gc(struct json_writer *w, const struct gc_stats *g)
{
	jw_open(w, '{');
	jw_key(w, "at_ns");
	jw_i64(w, g->began_ns);
	jw_ku64(w, "took_ms", g->took_ms);
	jw_ku64(w, "mark_ms", g->mark_ms);
	jw_ku64(w, "freed", g->freed);
	jw_ku64(w, "freed_b", g->freed_b);
	jw_ku64(w, "objects", g->live);
	jw_ku64(w, "bytes", g->live_b);
	jw_ku64(w, "shared_b", g->shared_b);
	jw_ku64(w, "saved_b", g->saved_b);
	jw_key(w, "saved_more");
	jw_bool(w, g->saved_more);
	jw_ku64(w, "snapshots", g->snapshots);
	jw_close(w, '}');
}

int v1_gc(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct gc_stats g;
	int r = store_gc(api->store, 0, &g, e);

	(void)req;
	if (r < 0)
		return r;
	put_gc(&w, &g);
	buf_append(&res->body, "\n", 1);
	return 0;
}

int v1_df(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct api *api = ctx;
	struct json_writer w = { .b = &res->body };
	struct listing l = { .w = &w, .hub = api->hub, .store = api->store };
	struct store_stats stats;
	struct hub_layers layers;
	struct gc_stats last;
	int r = store_stat(api->store, &stats, e);

	(void)req;
	if (r < 0)
		return r;
	jw_open(&w, '{');
	v1_put_disk(&w, api->hub);
	jw_key(&w, "store");
	jw_open(&w, '{');
	jw_ku64(&w, "map_b", stats.map_b);
	jw_ku64(&w, "content_b", stats.content_b);
	jw_ku64(&w, "content_used_b", stats.content_used_b);
	jw_close(&w, '}');
	store_gc_last(api->store, &last);
	if (last.began_ns) {
		jw_key(&w, "gc");
		put_gc(&w, &last);
	}
	hub_layers(api->hub, &layers);
	jw_key(&w, "layers");
	jw_open(&w, '{');
	jw_ku64(&w, "n", layers.n);
	jw_ku64(&w, "bytes", layers.bytes);
	jw_ku64(&w, "max_b", layers.max_b);
	jw_close(&w, '}');
	jw_key(&w, "workspaces");
	jw_open(&w, '[');
	r = hub_each(api->hub, true, put_one, &l);
	jw_close(&w, ']');
	jw_close(&w, '}');
	buf_append(&res->body, "\n", 1);
	return r;
}
