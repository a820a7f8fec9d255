/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change is committed a moment before the kernel is told. Whoever dies in that moment leaves a kernel that shows the
 * old state for ever, so the list of changes is written down before the commit and crossed out when the kernel has been
 * told; the next process tells what was not crossed out. A list is a chain of blocks whose first is published last; the
 * number of the first block + 1 is its ticket.
 */
#include "host/fs/state.h"

#include "base/buf.h"

#include <stdlib.h>

struct record {
	uint64_t parent, fid;
	uint16_t name_len;
	uint8_t data, entry_new;
	uint32_t reserved;
};

static uint32_t block_new(struct table *t)
{
	if (t->free_blocks.len)
		return t->free_blocks.v[--t->free_blocks.len];
	return t->head->blocks_top < TABLE_BLOCKS ? t->head->blocks_top++ : UINT32_MAX;
}

/* A chain, from its first block. fs.lock is held. */
static void chain_free(struct table *t, uint32_t first)
{
	uint32_t at, next, left = TABLE_BLOCKS;

	for (at = first; at && at <= TABLE_BLOCKS && left--; at = next) {
		struct table_block *b = &t->blocks[at - 1];

		next = b->next;
		__atomic_store_n(&b->used, 0, __ATOMIC_RELEASE);
		vec_push(&t->free_blocks, at - 1);
	}
}

/* Bytes to the end of a chain. @last: block + 1. */
static bool chain_add(struct table *t, uint32_t *last, const void *p, size_t len)
{
	const uint8_t *from = p;
	struct table_block *b = &t->blocks[*last - 1];

	while (len) {
		size_t n = MIN(len, sizeof(b->bytes) - b->len);

		memcpy(b->bytes + b->len, from, n);
		b->len += (uint32_t)n;
		from += n;
		len -= n;
		if (len) {
			uint32_t next = block_new(t);

			if (next == UINT32_MAX)
				return false;
			t->blocks[next].next = t->blocks[next].len = 0;
			t->blocks[next].used = 2;
			b->next = *last = next + 1;
			b = &t->blocks[next];
		}
	}
	return true;
}

uint64_t unshown_put(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n)
{
	struct table *t = &fs->table;
	uint32_t space, first = UINT32_MAX, last;
	bool fits;
	size_t i;

	lock_take(&fs->lock);
	space = t->map ? space_of(fs, ws) : UINT32_MAX;
	if (space != UINT32_MAX)
		first = block_new(t);
	last = first + 1;
	fits = first != UINT32_MAX;
	if (fits)
		t->blocks[first].next = t->blocks[first].len = 0;
	for (i = 0; fits && i < n; i++) {
		size_t len = changes[i].name ? strlen(changes[i].name) : 0;
		struct record r = { .parent = changes[i].parent,
				    .fid = changes[i].fid,
				    .name_len = (uint16_t)len,
				    .data = changes[i].data,
				    .entry_new = changes[i].entry_new };

		fits = chain_add(t, &last, &r, sizeof(r)) && chain_add(t, &last, changes[i].name, len);
	}
	if (fits) {
		t->blocks[first].space = space + 1;
		__atomic_store_n(&t->blocks[first].used, 1, __ATOMIC_RELEASE);
	} else if (space != UINT32_MAX) { /* nobody can go on from this mount any more */
		__atomic_or_fetch(&t->head->flags, (uint32_t)TABLE_UNKNOWN, __ATOMIC_RELEASE);
		if (first != UINT32_MAX)
			chain_free(t, first + 1);
	}
	lock_drop(&fs->lock);
	return fits ? first + 1 : 0;
}

void unshown_drop(struct fs *fs, uint64_t ticket)
{
	if (!ticket)
		return;
	lock_take(&fs->lock);
	chain_free(&fs->table, (uint32_t)ticket);
	lock_drop(&fs->lock);
}

/* --- contents that the kernel was not told of yet ----------------------------------------------------------------- */

static void untold_count(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n, intptr_t by)
{
	size_t i;

	lock_take(&fs->lock);
	for (i = 0; i < n; i++) {
		struct fs_key key = { .fid = changes[i].fid, .tag = (uint64_t)(uintptr_t)ws };
		intptr_t count;

		if (!changes[i].data)
			continue;
		count = (intptr_t)map_remove(&fs->untold, SPAN(&key, sizeof(key))) + by;
		if (count > 0)
			map_put(&fs->untold, SPAN(&key, sizeof(key)), (void *)count);
	}
	lock_drop(&fs->lock);
}

void untold_add(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n)
{
	untold_count(fs, ws, changes, n, 1);
}

void untold_drop(struct fs *fs, struct ws *ws, const struct ws_change *changes, size_t n)
{
	untold_count(fs, ws, changes, n, -1);
}

bool untold_is(struct fs *fs, struct ws *ws, uint64_t fid)
{
	struct fs_key key = { .fid = fid, .tag = (uint64_t)(uintptr_t)ws };
	bool is;

	lock_take(&fs->lock);
	is = map_get(&fs->untold, SPAN(&key, sizeof(key))) != NULL;
	lock_drop(&fs->lock);
	return is;
}

/* --- what an earlier process left --------------------------------------------------------------------------------- */

static struct buf chain_bytes(const struct table *t, uint32_t first)
{
	uint32_t at, left = TABLE_BLOCKS;
	struct buf all;

	buf_init(&all, (size_t)TABLE_BLOCKS * TABLE_BLOCK_B);
	for (at = first; at && at <= TABLE_BLOCKS && left--; at = t->blocks[at - 1].next)
		(void)!buf_append(&all, t->blocks[at - 1].bytes,
				  MIN((size_t)t->blocks[at - 1].len, sizeof(t->blocks->bytes)));
	return all;
}

void unshown_load(struct fs *fs)
{
	struct table *t = &fs->table;
	bool *in = must_calloc(TABLE_BLOCKS + 1, sizeof(bool));
	uint32_t at, next;

	for (at = 0; at < t->head->blocks_top; at++) {
		const struct table_block *b = &t->blocks[at];

		if (b->used != 1 || !b->space || b->space > TABLE_SPACES || in[at + 1])
			continue;
		vec_push(&fs->left, ((struct fs_left){ .space = b->space - 1, .ticket = at + 1 }));
		for (next = at + 1; next && next <= TABLE_BLOCKS && !in[next]; next = t->blocks[next - 1].next)
			in[next] = true;
	}
	for (at = t->head->blocks_top; at-- > 0;)
		if (!in[at + 1]) {
			t->blocks[at].used = 0;
			vec_push(&t->free_blocks, at);
		}
	free(in);
}

static size_t records(struct span left, uint64_t ticket, struct ws_change **ret)
{
	VEC(struct ws_change) list = { 0 };
	const uint8_t *p = left.p;
	size_t at = 0;

	while (left.len - at >= sizeof(struct record)) {
		struct record r;

		memcpy(&r, p + at, sizeof(r));
		at += sizeof(r);
		if (r.name_len > left.len - at)
			break;
		vec_push(&list, ((struct ws_change){
					.parent = r.parent,
					.name = r.parent ? span_dup(SPAN(p + at, r.name_len)) : NULL,
					.fid = r.fid,
					.data = r.data,
					.entry_new = r.entry_new,
					/* One list, one ticket: it is dropped once. */
					.ticket = list.len ? 0 : ticket }));
		at += r.name_len;
	}
	*ret = list.v;
	return list.len;
}

void unshown_retell(struct fs *fs, uint32_t space, struct ws *ws)
{
	struct ws_change *changes;
	size_t i, n;

	for (i = 0; i < fs->left.len; i++) {
		struct fs_left *l = &fs->left.v[i];
		struct buf all;

		if (!l->ticket || l->space != space)
			continue;
		all = chain_bytes(&fs->table, l->ticket);
		n = records(buf_span(&all), l->ticket, &changes);
		buf_fini(&all);
		untold_add(fs, ws, changes, n);
		if (n)
			ws_retell(ws, changes, n);
		else
			unshown_drop(fs, l->ticket);
		l->ticket = 0;
	}
}

void unshown_forget(struct fs *fs)
{
	size_t i;

	for (i = 0; i < fs->left.len; i++)
		unshown_drop(fs, fs->left.v[i].ticket);
	vec_fini(&fs->left);
}
