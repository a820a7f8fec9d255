/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Events are hints and state is truth, so of any number of events of a name one mark is enough. The order of
 * first changes is kept: a directory is found before what was made in it. Ordinals tell a barrier when all that was
 * marked before it has been told: a name that is marked again keeps its early place and is then told with later state.
 *
 * The set is bounded. A burst that does not fit costs the listing of the directories in which it was, not of the
 * whole tree: there are always far less of them, and a tree that is listed while a burst goes on would have to be
 * listed again.
 */
#include "guest/dirty.h"

#include <string.h>

enum { KEY_MAX = 8 + 256 };

struct key {
	char room[KEY_MAX];
};

static struct span key_of(struct key *k, uint64_t parent, struct span name)
{
	size_t len = MIN(name.len, (size_t)KEY_MAX - 8);

	memcpy(k->room, &parent, 8);
	if (len)
		memcpy(k->room + 8, name.p, len);
	return SPAN(k->room, 8 + len);
}

void dirty_init(struct dirty *d, size_t max)
{
	*d = (struct dirty){ .by_name = MAP_NULL, .max = max };
	list_init(&d->marks);
}

void dirty_clear(struct dirty *d)
{
	struct list *node;

	while ((node = list_shift(&d->marks)))
		free(list_entry(node, struct mark, node));
	map_fini(&d->by_name);
}

void dirty_fini(struct dirty *d)
{
	dirty_clear(d);
}

static struct mark *add(struct dirty *d, uint64_t parent, struct span name, unsigned flags)
{
	struct mark *m = must_calloc(1, sizeof(*m) + name.len + 1);
	struct key k;

	m->ord = ++d->ord;
	m->parent = parent;
	m->flags = flags;
	m->len = (unsigned)name.len;
	if (name.len)
		memcpy(m->name, name.p, name.len);
	list_init(&m->node);
	list_append(&d->marks, &m->node);
	map_put(&d->by_name, key_of(&k, parent, name), m);
	return m;
}

struct mark *dirty_mark(struct dirty *d, uint64_t parent, struct span name, unsigned flags)
{
	bool full = d->by_name.len >= d->max;
	struct key k;
	struct mark *m;

	if (name.len > 255)
		return NULL;
	m = map_get(&d->by_name, key_of(&k, parent, name));
	if (m) {
		m->flags |= flags;
		return m;
	}
	if (!full)
		return add(d, parent, name, flags);
	m = map_get(&d->by_name, key_of(&k, parent, SPAN_NULL));
	if (!m && d->by_name.len < d->max + d->max / 4)
		m = add(d, parent, SPAN_NULL, 0);
	if (m && name.len) {
		m->flags |= DIRTY_LIST;
		d->crowded = true;
	}
	if (!m) {
		dirty_clear(d);
		d->overflowed = true;
	}
	return name.len ? NULL : m;
}

struct mark *dirty_first(const struct dirty *d)
{
	return list_empty(&d->marks) ? NULL : list_entry(d->marks.next, struct mark, node);
}

struct mark *dirty_take(struct dirty *d, struct mark *m)
{
	struct key k;

	map_remove(&d->by_name, key_of(&k, m->parent, SPAN(m->name, m->len)));
	list_remove(&m->node);
	if (!d->by_name.len)
		map_fini(&d->by_name); /* a burst leaves nothing behind */
	return m;
}

size_t dirty_len(const struct dirty *d)
{
	return d->by_name.len;
}
