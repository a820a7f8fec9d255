/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Only files with more than one name are kept, each in a group of its inode. A group remembers the highest
 * count of links that was seen; when a name leaves and the group then knows no other, while the count says that there
 * are some, somebody must search them in the tree. That is the rare case of a file that was linked after it was told,
 * and unlinked again later. A group of one name stays until LINKS_ONCE_MAX younger ones are there.
 */
#include "guest/links.h"

#include <string.h>

struct link_group {
	uint64_t fid, ino, nlink; /* nlink: names that should be there, known or not */
	struct list members;
	struct list once; /* in links.once, when is_once */
	bool is_once;
};

struct link {
	struct list node;
	struct link_group *group;
	uint64_t parent;
	size_t len;
	char name[256];
};

struct key {
	char room[8 + 256];
};

static struct span key_of(struct key *k, uint64_t parent, struct span name)
{
	size_t len = MIN(name.len, (size_t)255);

	memcpy(k->room, &parent, 8);
	if (len)
		memcpy(k->room + 8, name.p, len);
	return SPAN(k->room, 8 + len);
}

void links_fini(struct links *l)
{
	void *p;

	while ((p = map_take_any(&l->by_name)))
		free(p);
	while ((p = map_take_any(&l->by_fid)))
		free(p);
	map_fini(&l->by_name);
	map_fini(&l->by_fid);
}

static uint64_t link_drop(struct links *l, struct link *k);

static void once_leave(struct links *l, struct link_group *g)
{
	if (!g->is_once)
		return;
	list_remove(&g->once);
	g->is_once = false;
	l->n_once--;
}

/* After its count of names has changed. */
static void once_is(struct links *l, struct link_group *g)
{
	struct link_group *old;

	if (g->nlink > 1)
		once_leave(l, g);
	if (g->nlink > 1 || g->is_once)
		return;
	if (!l->once.next)
		list_init(&l->once);
	list_init(&g->once);
	list_append(&l->once, &g->once);
	g->is_once = true;
	if (++l->n_once <= LINKS_ONCE_MAX)
		return;
	old = list_entry(l->once.next, struct link_group, once);
	old->nlink = 0;
	while (!list_empty(&old->members)) { /* the last one takes the group with it */
		bool last = old->members.next->next == &old->members;

		link_drop(l, list_entry(old->members.next, struct link, node));
		if (last)
			break;
	}
}

static void link_add(struct links *l, uint64_t parent, struct span name, const struct node *now)
{
	struct link_group *g = map_get_u64(&l->by_fid, now->fid);
	struct link *k;
	struct key key;

	if (l->by_name.len >= LINKS_MAX)
		return;
	if (!g) {
		g = NEW(struct link_group);
		g->fid = now->fid;
		g->ino = now->st.st_ino;
		list_init(&g->members);
		map_put_u64(&l->by_fid, now->fid, g);
	}
	g->nlink = now->st.st_nlink;
	k = NEW(struct link);
	k->group = g;
	k->parent = parent;
	k->len = MIN(name.len, (size_t)255);
	memcpy(k->name, name.p, k->len);
	list_init(&k->node);
	list_append(&g->members, &k->node);
	map_put(&l->by_name, key_of(&key, parent, name), k);
	once_is(l, g);
}

/* The name is not the group's any more. Return: its inode number when names of it must be searched. */
static uint64_t link_drop(struct links *l, struct link *k)
{
	struct link_group *g = k->group;
	uint64_t search = 0;
	struct key key;

	map_remove(&l->by_name, key_of(&key, k->parent, SPAN(k->name, k->len)));
	list_remove(&k->node);
	free(k);
	if (g->nlink)
		g->nlink--;
	if (!list_empty(&g->members)) {
		once_is(l, g);
		return 0;
	}
	if (g->nlink)
		search = g->ino;
	once_leave(l, g);
	map_remove_u64(&l->by_fid, g->fid);
	free(g);
	return search;
}

uint64_t links_seen(struct links *l, uint64_t parent, struct span name, const struct node *now, bool linked,
		    links_fn *each, void *ctx)
{
	struct key key;
	struct link *k = map_get(&l->by_name, key_of(&key, parent, name));
	uint64_t search = 0;

	if (k && now && k->group->fid == now->fid) {
		k->group->nlink = now->st.st_nlink;
		once_is(l, k->group);
		return 0;
	}
	if (k) {
		uint64_t was = k->group->fid;

		search = link_drop(l, k);
		links_each(l, was, each, ctx);
	}
	if (now && !S_ISDIR(now->st.st_mode) &&
	    (now->st.st_nlink > 1 || linked || map_get_u64(&l->by_fid, now->fid)))
		link_add(l, parent, name, now);
	return search;
}

void links_each(const struct links *l, uint64_t fid, links_fn *each, void *ctx)
{
	struct link_group *g = map_get_u64(&l->by_fid, fid);
	struct list *node;

	if (!g)
		return;
	list_each(node, &g->members) {
		struct link *k = list_entry(node, struct link, node);

		each(ctx, k->parent, SPAN(k->name, k->len));
	}
}

bool links_is(const struct links *l, uint64_t parent, struct span name, uint64_t fid)
{
	struct key key;
	struct link *k;

	if (!map_get_u64(&l->by_fid, fid))
		return true;
	k = map_get(&l->by_name, key_of(&key, parent, name));
	return k && k->group->fid == fid;
}
