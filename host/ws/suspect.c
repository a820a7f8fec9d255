/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running scan has not told again yet. A directory may be listed twice in one scan: events were lost meanwhile,
 * and the agent begins anew. What was told between its two beginnings may be gone since, and nobody says so: it is
 * suspect again. Only names that the store has are in here, so a guest cannot make it grow.
 */
#include "host/ws/state.h"

struct listing {
	struct map names; /* not told again yet: name -> the workspace */
	struct map told;  /* likewise, told since the listing began */
};

static void put(struct ws *ws, struct listing *l, struct span name)
{
	if (!map_put(&l->names, name, ws))
		ws->suspect_n++;
}

static bool drop(struct ws *ws, struct listing *l, struct span name)
{
	bool was = map_remove(&l->names, name);

	ws->suspect_n -= was;
	return was;
}

static void listing_free(struct ws *ws, struct listing *l)
{
	if (!l)
		return;
	ws->suspect_n -= l->names.len;
	map_fini(&l->names);
	map_fini(&l->told);
	free(l);
}

void suspects_free(struct ws *ws)
{
	struct listing *l;

	while ((l = map_take_any(&ws->suspects)))
		listing_free(ws, l);
	map_fini(&ws->suspects);
}

static int begin(struct ws_pass *p, struct listing *l, uint64_t dir)
{
	struct span name = SPAN_NULL;
	AUTO(str_free) char *last = NULL;
	uint64_t fid;
	int r;

	while ((r = entry_next(p->txn, dir, name, &name, &fid)) == 0) {
		str_free(&last);
		last = span_dup(name);
		name = SPAN(last, name.len);
		put(p->ws, l, name);
	}
	return MIN(r, 0);
}

int suspects_dir(struct ws_pass *p, uint64_t dir)
{
	struct listing *l = map_get_u64(&p->ws->suspects, dir);
	struct map_slot *slot;
	size_t pos = 0;

	if (!l) {
		l = NEW(struct listing);
		map_put_u64(&p->ws->suspects, dir, l);
		return begin(p, l, dir);
	}
	while ((slot = map_next(&l->told, &pos)))
		put(p->ws, l, SPAN(slot->key, slot->num));
	map_fini(&l->told);
	return 0;
}

void suspects_told(struct ws *ws, uint64_t dir, struct span name)
{
	struct listing *l = map_get_u64(&ws->suspects, dir);

	if (!l)
		return;
	(void)drop(ws, l, name);
	map_put(&l->told, name, ws);
}

void suspects_gone(struct ws *ws, uint64_t dir, struct span name)
{
	struct listing *l = map_get_u64(&ws->suspects, dir);

	if (l && !drop(ws, l, name))
		map_remove(&l->told, name);
}

void suspects_drop(struct ws *ws, uint64_t dir)
{
	if (ws->suspects.len)
		listing_free(ws, map_remove_u64(&ws->suspects, dir));
}

void suspects_end(struct ws_pass *p)
{
	struct map all = p->ws->suspects;
	struct map_slot *slot, *name;
	size_t pos = 0;

	p->ws->suspects = MAP_NULL; /* nothing of it is changed by what follows */
	while ((slot = map_next(&all, &pos))) {
		struct listing *l = slot->value;
		size_t at = 0;

		while ((name = map_next(&l->names, &at)))
			apply_gone(p, slot->num, SPAN(name->key, name->num));
		listing_free(p->ws, l);
	}
	map_fini(&all);
}
