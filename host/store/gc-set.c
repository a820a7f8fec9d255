/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing. The place follows from a keyed hash: who chooses bytes does not choose places. */
#include "host/store/gc-set.h"

#include <string.h>

enum { CAP_MIN = 1024 };

void gc_set_init(struct gc_set *s, size_t width, const uint8_t key[HASH_KEY_LEN])
{
	*s = (struct gc_set){ .width = width };
	memcpy(s->key, key, HASH_KEY_LEN);
}

void gc_set_fini(struct gc_set *s)
{
	free(s->keys);
	free(s->items);
	s->keys = NULL;
	s->items = NULL;
	s->cap = s->len = 0;
}

static size_t place(const struct gc_set *s, const void *p)
{
	size_t i = (size_t)hash_keyed(s->key, p, s->width) & (s->cap - 1);

	while (s->items[i].n && memcmp(s->keys + i * s->width, p, s->width) != 0)
		i = (i + 1) & (s->cap - 1);
	return i;
}

static void grow(struct gc_set *s)
{
	struct gc_set old = *s;
	size_t i, at;

	s->cap = old.cap ? 2 * old.cap : CAP_MIN;
	s->keys = must_calloc(s->cap, s->width);
	s->items = must_calloc(s->cap, sizeof(*s->items));
	for (i = 0; i < old.cap; i++) {
		if (!old.items[i].n)
			continue;
		at = place(s, old.keys + i * s->width);
		memcpy(s->keys + at * s->width, old.keys + i * s->width, s->width);
		s->items[at] = old.items[i];
	}
	free(old.keys);
	free(old.items);
}

struct gc_item *gc_set_find(const struct gc_set *s, const void *p)
{
	size_t i;

	if (!s->len)
		return NULL;
	i = place(s, p);
	return s->items[i].n ? &s->items[i] : NULL;
}

struct gc_item *gc_set_add(struct gc_set *s, const void *p)
{
	size_t i;

	if (s->len + s->len / 4 >= s->cap)
		grow(s);
	i = place(s, p);
	if (!s->items[i].n) {
		memcpy(s->keys + i * s->width, p, s->width);
		s->len++;
	}
	return &s->items[i];
}

struct gc_item *gc_set_next(const struct gc_set *s, size_t *pos, const uint8_t **ret_key)
{
	for (; *pos < s->cap; ++*pos) {
		if (!s->items[*pos].n)
			continue;
		*ret_key = s->keys + *pos * s->width;
		return &s->items[(*pos)++];
	}
	return NULL;
}

size_t gc_set_bytes(const struct gc_set *s)
{
	return s->cap * (s->width + sizeof(*s->items));
}
