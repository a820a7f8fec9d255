/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a content. The builder holds one open chunk and one open list a level, the path from the chunk to the root:
 * about 130 KiB; of a chunk only as much as there are bytes in it, since most files are small. Of a large one it holds
 * up to eight full chunks more (512 KiB), which get their names together: digest_many() is several times as fast.
 * Going to another chunk closes what is not on its path: a changed part is trimmed of zeros at its end, hashed, handed
 * over, and its digest set in the list above, which is then changed itself.
 *
 * Invariant: when level n is open, all levels above it are open and on its path. So parts are closed from below and
 * opened from above, and the order in which they are handed over is children first. Chunks that wait for their names
 * are all in the list of level 1 that is open; they get them before that is closed, and before one of them is looked at
 * or written again.
 *
 * Bytes between the old and the new size are always holes, since chunks hold no zeros at their end and a cut clears
 * what it cuts off; growing therefore touches no data, it only puts lists on top of the root when the depth changes.
 */
#include "host/store/gc.h"

#include <assert.h>
#include <errno.h>

struct part {
	uint64_t index; /* which part of its level */
	bool open, changed;
	uint8_t *data; /* a list: LIST_LEN bytes, zeros past what is stored; allocated at first use */
	size_t fill, room; /* of a chunk: bytes of it that are there, the rest are zeros; bytes allocated */
};

/* A chunk that is closed and full, and has no name yet. */
struct full {
	uint64_t index;
	uint8_t *data; /* CHUNK_LEN; stays for the next one */
};

struct content_writer {
	struct store *store; /* borrowed */
	struct gc_writer gc;
	uint64_t epoch;
	int code; /* sticky */
	uint64_t size;
	uint64_t new_b; /* bytes of objects that the store did not have */
	uint64_t handed_b; /* of all */
	uint32_t depth; /* of the tree as it stands; at least content_depth(size) after grow(), 0: only a hole */
	struct digest root;
	struct part parts[CONTENT_DEPTH_MAX]; /* by level; 0: the chunk */
	struct full full[DIGEST_MANY];
	size_t n_full;
};

struct content_writer *content_writer_new(struct store *store, const struct content *base)
{
	static const struct content empty;
	struct content_writer *w = NEW(struct content_writer);

	w->store = store;
	list_init(&w->gc.node);
	w->epoch = store->writer ? writer_epoch(store->writer) : 0;
	if (base && !content_ok(base))
		w->code = -EIO;
	else if (base && content_is_elsewhere(base))
		w->code = -ENODATA;
	else if (base) {
		w->size = base->size;
		w->depth = base->depth;
		w->root = base->root;
	}
	gc_writer_begin(store->gc, &w->gc, base && !w->code ? base : &empty);
	return w;
}

void content_writer_free(struct content_writer **slot)
{
	struct content_writer *w = take(slot);
	size_t i;

	if (!w)
		return;
	gc_writer_end(w->store->gc, &w->gc);
	for (i = 0; i < ARRAY_LEN(w->parts); i++)
		free(w->parts[i].data);
	for (i = 0; i < ARRAY_LEN(w->full); i++)
		free(w->full[i].data);
	free(w);
}

uint64_t content_writer_new_b(const struct content_writer *w)
{
	return w->new_b;
}

uint64_t content_writer_handed_b(const struct content_writer *w)
{
	return w->handed_b;
}

static size_t part_len(uint32_t level)
{
	return level ? LIST_LEN : CHUNK_LEN;
}

static uint8_t *slot_of(struct content_writer *w, uint32_t level, uint64_t child)
{
	return w->parts[level].data + LIST_HEAD + (child % LIST_FAN) * DIGEST_LEN;
}

static size_t trimmed(const uint8_t *p, size_t len)
{
	uint64_t word;

	for (; len >= sizeof(word); len -= sizeof(word)) {
		memcpy(&word, p + len - sizeof(word), sizeof(word));
		if (word)
			break;
	}
	while (len && !p[len - 1])
		len--;
	return len;
}

/* The object of an open part: SPAN_NULL for a hole. */
static struct span part_value(struct content_writer *w, uint32_t level)
{
	struct part *p = &w->parts[level];
	size_t len;

	if (level == 0)
		return SPAN(p->data, trimmed(p->data, p->fill));
	len = trimmed(p->data + LIST_HEAD, LIST_LEN - LIST_HEAD);
	if (len == 0)
		return SPAN_NULL;
	len = (len + DIGEST_LEN - 1) / DIGEST_LEN;
	list_head(p->data, level, (uint32_t)len);
	return SPAN(p->data, LIST_HEAD + len * DIGEST_LEN);
}

static int hand_over(struct content_writer *w, enum content_table table, struct span value, struct digest *ret)
{
	bool is_new;
	int r = object_put(w->store, table, value, w->epoch, &w->gc, &is_new, ret);

	w->handed_b += r == 0 ? value.len : 0;
	if (r == 0 && is_new)
		w->new_b += value.len;
	return r;
}

/* The full chunks get their names and go. */
static int name_full(struct content_writer *w)
{
	struct digest names[DIGEST_MANY];
	struct span data[DIGEST_MANY];
	size_t i, n = w->n_full;
	bool is_new;
	int r = 0;

	w->n_full = 0;
	for (i = 0; i < n; i++)
		data[i] = SPAN(w->full[i].data, CHUNK_LEN);
	if (n)
		chunk_digests(data, n, names);
	for (i = 0; i < n && r == 0; i++) {
		assert(w->parts[1].open && w->parts[1].index == w->full[i].index / LIST_FAN);
		r = object_put_named(w->store, CT_CHUNK, &names[i], data[i], w->epoch, &w->gc, &is_new);
		w->handed_b += r == 0 ? data[i].len : 0;
		if (r == 0 && is_new)
			w->new_b += data[i].len;
		memcpy(slot_of(w, 1, w->full[i].index), names[i].b, DIGEST_LEN);
		w->parts[1].changed = true;
	}
	return r;
}

static bool is_full(const struct content_writer *w, uint64_t index)
{
	size_t i;

	for (i = 0; i < w->n_full; i++)
		if (w->full[i].index == index)
			return true;
	return false;
}

/* A full chunk that was closed: it changes places with the memory of an earlier one. */
static int put_aside(struct content_writer *w)
{
	struct part *p = &w->parts[0];
	struct full *f = &w->full[w->n_full++];
	uint8_t *spare = f->data;

	f->index = p->index;
	f->data = p->data;
	p->data = spare;
	p->room = spare ? CHUNK_LEN : 0;
	p->fill = 0;
	return w->n_full == DIGEST_MANY ? name_full(w) : 0;
}

static int part_close(struct content_writer *w, uint32_t level)
{
	struct part *p = &w->parts[level];
	struct digest d = { .b = { 0 } };
	struct span value;
	int r = level == 1 ? name_full(w) : 0;

	if (r || !p->open)
		return r;
	p->open = false;
	if (!p->changed)
		return 0;
	value = part_value(w, level);
	if (level == 0 && value.len == CHUNK_LEN && w->depth > 1)
		return put_aside(w);
	if (value.len)
		r = hand_over(w, level ? CT_LIST : CT_CHUNK, value, &d);
	if (r)
		return r;
	if (level + 1 == w->depth) {
		w->root = d;
	} else {
		assert(w->parts[level + 1].open && w->parts[level + 1].index == p->index / LIST_FAN);
		memcpy(slot_of(w, level + 1, p->index), d.b, DIGEST_LEN);
		w->parts[level + 1].changed = true;
	}
	return 0;
}

/* Close all levels below @level. */
static int close_below(struct content_writer *w, uint32_t level)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < level && r == 0; i++)
		r = part_close(w, i);
	return r;
}

/* A chunk has @fill bytes from now on; those that it had not are zeros unless they are written over: the caller's. */
static void chunk_extend(struct part *p, size_t fill)
{
	if (fill > p->room) {
		uint8_t *data = malloc(p->room = fill > CHUNK_LEN / 4 ? (size_t)CHUNK_LEN : fill);

		if (!data)
			abort();
		if (p->fill)
			memcpy(data, p->data, p->fill);
		free(p->data);
		p->data = data;
	}
	p->fill = MAX(p->fill, fill);
}

static int part_load(struct content_writer *w, uint32_t level, const struct digest *d)
{
	struct part *p = &w->parts[level];
	struct span value = SPAN_NULL;
	struct view v;
	uint32_t count;
	int r = 0;

	if (!digest_is_zero(d)) {
		r = view_begin(&v, w->store);
		if (r)
			return r;
		r = view_get(&v, level ? CT_LIST : CT_CHUNK, d, false, &value);
		if (r == 0 && level)
			r = list_check(value, level, &count);
		if (r == 0 && value.len > part_len(level))
			r = -EIO;
		if (r == 0 && !level)
			chunk_extend(p, value.len);
		if (r == 0 && value.len)
			memcpy(p->data, value.p, value.len);
		view_end(&v);
	}
	if (r == 0 && level)
		memset(p->data + value.len, 0, LIST_LEN - value.len);
	return r;
}

/* Open a part, and first what is above it. @fresh: what it held does not matter, all of it will be overwritten. */
static int part_open(struct content_writer *w, uint32_t level, uint64_t index, bool fresh)
{
	struct part *p = &w->parts[level];
	struct digest d = w->root;
	int r;

	if (p->open && p->index == index)
		return 0;
	r = close_below(w, level + 1);
	if (r == 0 && level == 0 && is_full(w, index))
		r = name_full(w);
	if (r == 0 && level + 1 < w->depth) {
		r = part_open(w, level + 1, index / LIST_FAN, false);
		if (r == 0)
			memcpy(d.b, slot_of(w, level + 1, index), DIGEST_LEN);
	}
	if (r)
		return r;
	if (level && !p->data)
		p->data = must_calloc(1, LIST_LEN);
	p->fill = 0;
	if (!fresh)
		r = part_load(w, level, &d);
	p->open = r == 0;
	p->changed = false;
	p->index = index;
	return r;
}

/* Make the tree deep enough for @size; the old root becomes the first slot of the new one. */
static int grow(struct content_writer *w, uint64_t size)
{
	uint32_t depth = content_depth(size);
	int r;

	if (!w->depth)
		w->depth = content_depth(w->size);
	if (size <= w->size)
		return 0;
	if (w->depth < depth) {
		r = close_below(w, w->depth);
		while (r == 0 && w->depth < depth && !digest_is_zero(&w->root)) {
			uint8_t list[LIST_HEAD + DIGEST_LEN];

			list_head(list, w->depth, 1);
			memcpy(list + LIST_HEAD, w->root.b, DIGEST_LEN);
			r = hand_over(w, CT_LIST, SPAN(list, sizeof(list)), &w->root);
			w->depth++;
		}
		if (r)
			return r;
	}
	w->depth = MAX(w->depth, depth);
	w->size = size;
	return 0;
}

static int write_chunk(struct content_writer *w, uint64_t offset, struct span data)
{
	struct part *p = &w->parts[0];
	size_t at, was;
	int r = part_open(w, 0, offset / CHUNK_LEN, data.len == CHUNK_LEN);

	if (r)
		return r;
	at = offset % CHUNK_LEN;
	was = p->fill;
	chunk_extend(p, at + data.len);
	if (was < at)
		memset(p->data + was, 0, at - was);
	memcpy(p->data + at, data.p, data.len);
	p->changed = true;
	return 0;
}

int content_write(struct content_writer *w, uint64_t offset, struct span data)
{
	const uint8_t *p = data.p;
	uint64_t end;

	if (w->code)
		return w->code;
	if (__builtin_add_overflow(offset, data.len, &end) || end > CONTENT_SIZE_MAX)
		return -EFBIG;
	if (data.len == 0)
		return 0;
	w->code = grow(w, end);
	while (w->code == 0 && offset < end) {
		size_t part = MIN(end - offset, CHUNK_LEN - offset % CHUNK_LEN);

		w->code = write_chunk(w, offset, SPAN(p, part));
		offset += part;
		p += part;
	}
	return w->code;
}

static uint64_t fan_power(uint32_t level)
{
	uint64_t n = 1;

	while (level--)
		n *= LIST_FAN;
	return n;
}

/* Make a whole part a hole, by its slot in the list above. */
static int clear_part(struct content_writer *w, uint32_t level, uint64_t index)
{
	uint8_t *slot;
	uint32_t i;
	int r = name_full(w);

	if (r)
		return r;
	/* What is open on its path may be forgotten, what is open elsewhere goes its way. */
	if (w->parts[level].open && w->parts[level].index == index) {
		for (i = 0; i <= level; i++)
			w->parts[i].open = false;
	}
	if (level + 1 == w->depth) {
		w->root = (struct digest){ .b = { 0 } };
		return 0;
	}
	r = part_open(w, level + 1, index / LIST_FAN, false);
	if (r)
		return r;
	slot = slot_of(w, level + 1, index);
	if (trimmed(slot, DIGEST_LEN)) {
		memset(slot, 0, DIGEST_LEN);
		w->parts[level + 1].changed = true;
	}
	return 0;
}

/* Clear whole chunks [from, to): the biggest parts that lie inside, at each step. */
static int clear_chunks(struct content_writer *w, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		uint32_t level = 0;

		while (level + 1 < w->depth && from % fan_power(level + 1) == 0 && to - from >= fan_power(level + 1))
			level++;
		r = clear_part(w, level, from / fan_power(level));
		from += fan_power(level);
	}
	return r;
}

static int clear_bytes(struct content_writer *w, uint64_t offset, size_t len)
{
	struct part *p = &w->parts[0];
	int r = part_open(w, 0, offset / CHUNK_LEN, false);

	if (r)
		return r;
	if (offset % CHUNK_LEN < p->fill)
		memset(p->data + offset % CHUNK_LEN, 0, MIN(len, p->fill - offset % CHUNK_LEN));
	p->changed = true;
	return 0;
}

int content_hole(struct content_writer *w, uint64_t offset, uint64_t len)
{
	uint64_t end, from, to;

	if (w->code || offset >= w->size || !w->depth)
		return w->code;
	end = len > w->size - offset ? w->size : offset + len;
	from = (offset + CHUNK_LEN - 1) / CHUNK_LEN;
	/* Past the size there is nothing: the last chunk may go as a whole. */
	to = end == w->size ? (end + CHUNK_LEN - 1) / CHUNK_LEN : end / CHUNK_LEN;
	if (to < from) {
		w->code = clear_bytes(w, offset, end - offset);
		return w->code;
	}
	if (offset % CHUNK_LEN)
		w->code = clear_bytes(w, offset, MIN(end, from * CHUNK_LEN) - offset);
	if (w->code == 0)
		w->code = clear_chunks(w, from, to);
	if (w->code == 0 && end > to * CHUNK_LEN)
		w->code = clear_bytes(w, to * CHUNK_LEN, end - to * CHUNK_LEN);
	return w->code;
}

/* After a cut: take lists off the top that hold nothing but their first slot. */
static int shrink(struct content_writer *w)
{
	uint32_t depth = content_depth(w->size);
	int r = close_below(w, w->depth);

	while (r == 0 && w->depth > depth && !digest_is_zero(&w->root)) {
		r = part_open(w, w->depth - 1, 0, false);
		if (r == 0) {
			memcpy(w->root.b, slot_of(w, w->depth - 1, 0), DIGEST_LEN);
			w->parts[w->depth - 1].open = false;
			w->depth--;
		}
	}
	w->depth = digest_is_zero(&w->root) ? 0 : depth;
	return r;
}

int content_resize(struct content_writer *w, uint64_t size)
{
	if (w->code == -ENODATA && size == 0)
		w->code = 0; /* nothing of what is elsewhere is left */
	if (w->code)
		return w->code;
	if (size > CONTENT_SIZE_MAX)
		return -EFBIG;
	if (size >= w->size) {
		w->code = grow(w, size);
		return w->code;
	}
	w->code = content_hole(w, size, w->size - size);
	if (w->code == 0) {
		w->size = size;
		w->code = shrink(w);
	}
	return w->code;
}

int content_finish(struct content_writer *w, struct content *ret)
{
	if (w->code == 0)
		w->code = close_below(w, w->depth);
	if (w->code == 0 && w->store->writer)
		w->code = writer_check(w->store->writer, w->epoch);
	if (w->code)
		return w->code;
	*ret = (struct content){ .size = w->size, .root = w->root };
	ret->depth = digest_is_zero(&w->root) ? 0 : w->depth;
	return 0;
}
