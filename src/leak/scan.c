/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream is looked at in stretches: each that comes by itself, and what lies across the border to the one before in a
 * copy of the last bytes of that and the first bytes of this. A place is found once: in the stretch when it is wholly
 * there, in the copy when it is in neither.
 */
#include "leak/table.h"

#include "base/own.h"

#include <string.h>

struct stretch {
	const uint8_t *p;
	size_t len, border; /* only what crosses it counts; 0: everything */
	uint64_t offset;
	leak_found_fn *fn;
	void *ctx;
};

static void candidates(const struct leak_table *t, const struct stretch *s, size_t pos, uint32_t hash)
{
	uint32_t i;

	for (i = t->heads[leak_head(hash)]; i; i = t->entries[i - 1].next) {
		const struct leak_entry *e = &t->entries[i - 1];
		const struct leak_print *print = &t->prints[e->print];
		struct leak_found found = { .form = (enum leak_form)print->form, .len = print->len };
		size_t start = pos - e->back;

		if (e->hash != hash || pos < e->back || print->len > s->len - start ||
		    (s->border && (start >= s->border || start + print->len <= s->border)))
			continue;
		if (leak_window(&t->key, s->p + start + print->at) != print->window ||
		    hash_keyed(t->key.mac, s->p + start, print->len) != print->mac)
			continue;
		found.name = t->names[print->value];
		found.offset = s->offset + start;
		s->fn(s->ctx, &found);
	}
}

static void look(const struct leak_table *t, const struct stretch *s)
{
	enum { AT_ONCE = 4 };
	size_t pos = 0;
	unsigned k;

	for (; pos + AT_ONCE * LEAK_STEP <= s->len; pos += AT_ONCE * LEAK_STEP) {
		uint32_t h[AT_ONCE];
		bool any = false;

		for (k = 0; k < AT_ONCE; k++) {
			h[k] = leak_block(&t->key, s->p + pos + k * LEAK_STEP);
			any |= leak_table_perhaps(t, h[k]);
		}
		for (k = 0; any && k < AT_ONCE; k++)
			if (leak_table_perhaps(t, h[k]))
				candidates(t, s, pos + k * LEAK_STEP, h[k]);
	}
	for (; pos + LEAK_BLOCK <= s->len; pos += LEAK_STEP) {
		uint32_t h = leak_block(&t->key, s->p + pos);

		if (leak_table_perhaps(t, h))
			candidates(t, s, pos, h);
	}
}

void leak_scan_init(struct leak_scan *s, struct leaks *l, uint64_t offset)
{
	*s = (struct leak_scan){ .leaks = leaks_ref(l), .seen = offset };
}

void leak_scan_fini(struct leak_scan *s)
{
	leak_table_unref(&s->table);
	leaks_unref(&s->leaks);
	s->tail_len = 0;
}

void leak_scan_skip(struct leak_scan *s, uint64_t offset)
{
	s->tail_len = 0;
	s->seen = offset;
}

static void remember(struct leak_scan *s, struct span bytes)
{
	size_t fresh = MIN(bytes.len, sizeof(s->tail)), old = MIN((size_t)s->tail_len, sizeof(s->tail) - fresh);

	memmove(s->tail, s->tail + s->tail_len - old, old);
	memcpy(s->tail + old, (const uint8_t *)bytes.p + bytes.len - fresh, fresh);
	s->seen += s->tail_len + bytes.len - (old + fresh);
	s->tail_len = (unsigned)(old + fresh);
}

void leak_scan(struct leak_scan *s, struct span bytes, leak_found_fn *fn, void *ctx)
{
	struct stretch st = { .fn = fn, .ctx = ctx };
	uint8_t both[2 * sizeof(s->tail)];

	if (!bytes.len)
		return;
	if (!s->table || s->table->version != leaks_version(s->leaks)) {
		leak_table_unref(&s->table);
		s->table = leaks_table(s->leaks);
	}
	if (s->table && s->tail_len) {
		size_t fresh = MIN(bytes.len, sizeof(s->tail));

		memcpy(both, s->tail, s->tail_len);
		memcpy(both + s->tail_len, bytes.p, fresh);
		st.p = both;
		st.len = s->tail_len + fresh;
		st.border = s->tail_len;
		st.offset = s->seen;
		look(s->table, &st);
	}
	if (s->table) {
		st.p = bytes.p;
		st.len = bytes.len;
		st.border = 0;
		st.offset = s->seen + s->tail_len;
		look(s->table, &st);
	}
	remember(s, bytes);
}

void leak_star(const struct leak_found *found, void *bytes, size_t len, uint64_t offset)
{
	uint64_t from = MAX(found->offset, offset), to = MIN(found->offset + found->len, offset + len);

	if (from < to)
		memset((uint8_t *)bytes + (from - offset), '*', to - from);
}

size_t leak_hold(struct span bytes)
{
	const uint8_t *p = bytes.p;
	size_t n = 0;

	while (n < bytes.len && n < LEAK_LONGEST - 1 && p[bytes.len - 1 - n] > ' ')
		n++;
	return n;
}
