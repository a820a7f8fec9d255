/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading contents. A content is a tree of fixed shape: a chunk covers CHUNK_LEN bytes at a fixed offset, a list of
 * level n covers LIST_FAN parts of level n - 1, and the depth follows from the size. A zero digest is a hole, as is
 * everything past the end of a list or of a chunk: zeros at the end of either are not stored. So equal bytes have equal
 * digests, however they came to be.
 *
 * A read walks down once a chunk and remembers the list it stood in at each level, for the next chunk of the same call.
 */
#include "host/store/gc.h"

#include <errno.h>

enum { AHEAD_MIN = 16384 };

static const char *const domains[] = { [CT_CHUNK] = "chunk", [CT_LIST] = "list", [CT_TREE] = "tree" };

struct view_copy {
	struct view_copy *next;
	void *data;
};

struct digest object_digest(enum content_table table, struct span data)
{
	return digest_of(domains[table], data);
}

void chunk_digests(const struct span *data, size_t n, struct digest *ret)
{
	digest_many(domains[CT_CHUNK], data, n, ret);
}

int object_put_named(struct store *store, enum content_table table, const struct digest *d, struct span data,
		     uint64_t epoch, struct gc_writer *w, bool *ret_new)
{
	bool is_new = false;
	int r = -EROFS;

	if (store->writer) {
		gc_touch(store->gc, table, d, w); /* before anybody looks whether it is there */
		r = writer_submit(store->writer, table, d, data, epoch, &is_new);
	}
	if (r == 0 && is_new)
		gc_fresh(store->gc, data.len);
	if (r == 0 && ret_new)
		*ret_new = is_new;
	return r;
}

int object_put(struct store *store, enum content_table table, struct span data, uint64_t epoch, struct gc_writer *w,
	       bool *ret_new, struct digest *ret)
{
	struct digest d = object_digest(table, data);
	int r = object_put_named(store, table, &d, data, epoch, w, ret_new);

	if (r == 0)
		*ret = d;
	return r;
}

int view_begin(struct view *v, struct store *store)
{
	*v = (struct view){ .store = store };
	return db_begin(store->content, false, &v->t, NULL);
}

void view_end(struct view *v)
{
	struct view_copy *c;

	db_abort(&v->t);
	while ((c = v->copies)) {
		v->copies = c->next;
		free(c->data);
		free(c);
	}
}

static struct span keep(struct view *v, void *data, size_t len)
{
	struct view_copy *c = NEW(struct view_copy);

	c->data = data;
	c->next = v->copies;
	v->copies = c;
	return SPAN(data, len);
}

/* Not there when the view began: still queued, or written since. */
static int get_late(struct view *v, enum content_table table, const struct digest *d, struct span *ret)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	void *data;
	size_t len;
	int r = v->store->writer ? writer_find(v->store->writer, table, d, &data, &len) : DB_E_NONE;

	if (r == 0) {
		*ret = keep(v, data, len);
		return 0;
	}
	r = db_begin(v->store->content, false, &t, NULL);
	if (r == 0)
		r = db_get(t, table, digest_span(d), ret);
	if (r == 0)
		*ret = keep(v, must_memdup(ret->p, ret->len), ret->len);
	return r;
}

int view_get(struct view *v, enum content_table table, const struct digest *d, bool verify, struct span *ret)
{
	struct span data = SPAN_NULL;
	struct digest is;
	int r = db_get(v->t, table, digest_span(d), &data);

	if (r == DB_E_NONE)
		r = get_late(v, table, d, &data);
	if (r)
		return r < 0 ? r : -EIO;
	if (verify) {
		is = object_digest(table, data);
		if (!digest_eq(&is, d))
			return -EIO;
	}
	*ret = data;
	return 0;
}

/* One walk through a content. */
struct walk {
	struct view v;
	const struct content *c;
	bool verify;
	struct {
		uint64_t index; /* which list of its level */
		struct span list;
		bool is_set;
	} at[CONTENT_DEPTH_MAX]; /* by level; 0 is unused */
	uint64_t hole_end;	 /* after a hole was found: first chunk behind the part that is missing */
};

static uint64_t fan_power(uint32_t level)
{
	uint64_t n = 1;

	while (level--)
		n *= LIST_FAN;
	return n;
}

static int walk_list(struct walk *w, uint32_t level, uint64_t index, const struct digest *d, struct span *ret)
{
	uint32_t count;
	int r;

	if (!w->at[level].is_set || w->at[level].index != index) {
		w->at[level].is_set = false;
		r = view_get(&w->v, CT_LIST, d, w->verify, &w->at[level].list);
		if (r == 0)
			r = list_check(w->at[level].list, level, &count);
		if (r)
			return r;
		w->at[level].index = index;
		w->at[level].is_set = true;
	}
	*ret = w->at[level].list;
	return 0;
}

/* The digest of a chunk; zero with hole_end set when it is not stored. */
static int walk_to(struct walk *w, uint64_t chunk, struct digest *ret)
{
	struct digest d = w->c->root;
	uint32_t level = w->c->depth;
	struct span list;
	int r;

	if (!level || chunk >= fan_power(level - 1)) {
		*ret = (struct digest){ .b = { 0 } };
		w->hole_end = UINT64_MAX / CHUNK_LEN;
		return 0;
	}
	for (level--; level > 0 && !digest_is_zero(&d); level--) {
		uint64_t below = fan_power(level - 1);

		r = walk_list(w, level, chunk / (below * LIST_FAN), &d, &list);
		if (r)
			return r;
		d = list_slot(list, (uint32_t)(chunk / below % LIST_FAN));
		w->hole_end = (chunk / below + 1) * below;
	}
	if (w->c->depth == 1)
		w->hole_end = 1;
	*ret = d;
	return 0;
}

static int walk_begin(struct walk *w, struct store *store, const struct content *c, bool verify)
{
	memset(w, 0, sizeof(*w));
	if (!content_ok(c))
		return -EIO;
	if (content_is_elsewhere(c))
		return -ENODATA;
	w->c = c;
	w->verify = verify;
	return view_begin(&w->v, store);
}

/* The part of one chunk, zeros where nothing is stored. */
static int copy_chunk(struct walk *w, uint64_t offset, uint8_t *to, size_t len)
{
	size_t skip = offset % CHUNK_LEN, have = 0;
	struct span data = SPAN_NULL;
	struct digest d;
	int r = walk_to(w, offset / CHUNK_LEN, &d);

	if (r == 0 && !digest_is_zero(&d))
		r = view_get(&w->v, CT_CHUNK, &d, w->verify, &data);
	if (r)
		return r;
	if (data.len > skip) {
		have = MIN(len, data.len - skip);
		memcpy(to, (const uint8_t *)data.p + skip, have);
	}
	memset(to + have, 0, len - have);
	return 0;
}

/* Ask for all that a long read is going to touch, so that the disk works while we copy. */
static int ask_ahead(struct walk *w, uint64_t offset, size_t len)
{
	uint64_t chunk, last = (offset + len - 1) / CHUNK_LEN;
	struct span data;
	struct digest d;
	int r = 0;

	for (chunk = offset / CHUNK_LEN; chunk <= last && r == 0; chunk++) {
		r = walk_to(w, chunk, &d);
		if (r == 0 && !digest_is_zero(&d) && view_get(&w->v, CT_CHUNK, &d, false, &data) == 0)
			db_ahead(data);
	}
	return r;
}

ssize_t content_read(struct store *store, const struct content *c, uint64_t offset, void *to, size_t len, bool verify)
{
	struct walk w;
	size_t done = 0;
	int r;

	if (offset >= c->size || len == 0)
		return 0;
	len = MIN(MIN(len, (size_t)INT64_MAX), c->size - offset);
	r = walk_begin(&w, store, c, verify);
	if (r == 0 && len >= AHEAD_MIN)
		r = ask_ahead(&w, offset, len);
	while (r == 0 && done < len) {
		size_t part = MIN(len - done, CHUNK_LEN - (offset + done) % CHUNK_LEN);

		r = copy_chunk(&w, offset + done, (uint8_t *)to + done, part);
		done += part;
	}
	view_end(&w.v);
	return r ? r : (ssize_t)len;
}

/* The first chunk from @offset on that is stored, or is not. Return: 0; -ENXIO: none below the size. */
static int next(struct store *store, const struct content *c, uint64_t offset, bool want_data, uint64_t *ret)
{
	uint64_t chunk = offset / CHUNK_LEN;
	struct walk w;
	int r = walk_begin(&w, store, c, false);

	while (r == 0) {
		struct digest d;

		if (chunk >= (c->size + CHUNK_LEN - 1) / CHUNK_LEN) {
			r = -ENXIO;
			break;
		}
		r = walk_to(&w, chunk, &d);
		if (r || digest_is_zero(&d) != want_data)
			break;
		chunk = want_data ? w.hole_end : chunk + 1;
	}
	view_end(&w.v);
	if (r == 0)
		*ret = MAX(offset, chunk * CHUNK_LEN);
	return r;
}

int content_next_data(struct store *store, const struct content *c, uint64_t offset, uint64_t *ret)
{
	if (offset >= c->size)
		return -ENXIO;
	return next(store, c, offset, true, ret);
}

int content_next_hole(struct store *store, const struct content *c, uint64_t offset, uint64_t *ret)
{
	int r;

	if (offset >= c->size)
		return -ENXIO;
	r = next(store, c, offset, false, ret);
	if (r == -ENXIO) {
		*ret = c->size;
		return 0;
	}
	return r;
}
