/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees become inodes and names. A directory that was not looked at is a stub: its inode is here, its digest is in the
 * table "tree", what is in it is nowhere else. Unpacking changes nothing of the state that a tree tells, so nothing is
 * marked for tree_seal(), and the digest of an unpacked directory stays right.
 *
 * Hard links join directories, so a tree that has some is unpacked as a whole, and then the groups are joined.
 */
#include "host/store/tree-read.h"

#include "base/path.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <sys/stat.h>

enum { LINKS_TEXT_MAX = 64 * 1024 * 1024 };

#define HERE_FID (UINT64_C(1) << 63) /* no agent's inode has a reason to have this bit */

static const char counter[] = "local-fid";

/* Many inodes at once. */
struct unpack {
	struct txn *t;
	struct store *store;
	uint64_t next;	       /* of the counter */
	uint64_t dir;	       /* that is being unpacked */
	VEC(uint64_t) stubs;   /* found in it and above */
	size_t names;
};

static uint64_t numbered(uint64_t n, uint64_t *ret_ino)
{
	*ret_ino = UINT64_C(0x80000000) | (n & 0x7fffffff);
	return HERE_FID | n;
}

static int counter_get(struct txn *t, uint64_t *ret)
{
	int r = meta_get_u64(t, counter, ret);

	if (r == STORE_E_NONE)
		*ret = 1;
	return MIN(r, 0);
}

uint64_t node_new_fid(struct txn *t, uint64_t *ret_ino)
{
	uint64_t n = 1;
	int r = counter_get(t, &n);

	if (r)
		txn_fail(t, r);
	meta_put_u64(t, counter, n + 1);
	return numbered(n, ret_ino);
}

/* As node_put(), without a mark. */
static void put_unmarked(struct txn *t, const struct node *n)
{
	uint8_t rec[NODE_REC_MAX];
	struct key k;

	key_u64(&k, n->fid);
	db_put(t->t, WT_NODE, key_span(&k), SPAN(rec, node_pack(n, rec)), DB_PUT_SET);
	if (!S_ISDIR(n->mode) && n->nlink > 1)
		db_put(t->t, WT_LINKED, key_span(&k), SPAN_NULL, DB_PUT_SET);
}

static int put_xattrs(struct txn *t, uint64_t fid, const struct content *c)
{
	AUTO(mem_free) uint8_t *packed = NULL;
	struct span was;
	struct key k;
	ssize_t n;

	if (c->size > XATTRS_MAX)
		return -EIO;
	packed = must_calloc(1, c->size);
	n = content_read(wsdb_store(t->ws), c, 0, packed, c->size, false);
	if (n != (ssize_t)c->size)
		return -EIO;
	key_u64(&k, fid);
	count_attrs(t, db_get(t->t, WT_XATTR, key_span(&k), &was) == 0 ? was.len : 0, c->size);
	return db_put(t->t, WT_XATTR, key_span(&k), SPAN(packed, c->size), DB_PUT_SET);
}

/* Names in it are not counted: those of a stub that is unpacked are counted already. */
static int from_item(struct txn *t, uint64_t fid, uint64_t ino, const struct tree_item *it, struct node *ret)
{
	struct node n = { .fid = fid,
			  .ino = ino,
			  .mode = it->mode,
			  .uid = it->uid,
			  .gid = it->gid,
			  .rdev = it->rdev,
			  .nlink = 1,
			  .mtime_ns = it->mtime_ns,
			  .ctime_ns = it->mtime_ns,
			  .atime_ns = it->mtime_ns };
	struct key k;
	int r = 0;

	key_u64(&k, fid);
	if (S_ISREG(n.mode)) {
		n.content = it->content;
		n.content_ctime_ns = n.ctime_ns;
		n.size = it->content.size;
		n.blocks = (n.size + 511) / 512;
	} else if (S_ISDIR(n.mode)) {
		n.flags |= NODE_STUB;
		n.size = 4096;
		db_put(t->t, WT_TREE, key_span(&k), digest_span(&it->dir), DB_PUT_SET);
	} else if (S_ISLNK(n.mode)) {
		n.size = it->target.len;
		db_put(t->t, WT_TARGET, key_span(&k), it->target, DB_PUT_SET);
	}
	if (it->xattrs.size) {
		n.flags |= NODE_XATTRS;
		r = put_xattrs(t, fid, &it->xattrs);
	}
	put_unmarked(t, &n);
	*ret = n;
	return r ? r : db_failed(t->t);
}

int node_from_item(struct txn *t, uint64_t fid, uint64_t ino, const struct tree_item *it, struct node *ret)
{
	int r = from_item(t, fid, ino, it, ret);

	if (r == 0 && S_ISDIR(it->mode))
		count_stub(t, &it->dir, false);
	return r ? r : db_failed(t->t);
}

static void name_unmarked(struct txn *t, uint64_t parent, struct span name, uint64_t fid)
{
	struct key k;
	uint8_t v[8];

	key_entry(&k, parent, name);
	put_u64(v, fid);
	db_put(t->t, WT_ENTRY, key_span(&k), SPAN(v, sizeof(v)), DB_PUT_SET);
	key_name(&k, fid, parent, name);
	db_put(t->t, WT_NAME, key_span(&k), SPAN_NULL, DB_PUT_SET);
}

static int one_entry(void *ctx, const struct tree_item *it)
{
	struct unpack *u = ctx;
	uint64_t ino, fid = numbered(u->next++, &ino);
	struct node n;
	int r = path_name_ok(it->name) ? from_item(u->t, fid, ino, it, &n) : -EIO;

	if (r)
		return r;
	name_unmarked(u->t, u->dir, it->name, fid);
	u->names++;
	u->t->stub_names--; /* it is a row now */
	if (S_ISDIR(it->mode))
		vec_push(&u->stubs, fid);
	return db_failed(u->t->t);
}

static int one_dir(struct unpack *u, uint64_t fid)
{
	struct digest d;
	struct node n;
	struct span v;
	struct key k;
	int r = node_get(u->t, fid, &n);

	if (r || !(n.flags & NODE_STUB))
		return r < 0 ? r : 0;
	key_u64(&k, fid);
	if (db_get(u->t->t, WT_TREE, key_span(&k), &v) || v.len != DIGEST_LEN)
		return -EIO;
	memcpy(d.b, v.p, DIGEST_LEN);
	u->dir = fid;
	r = tree_each(u->store, &d, one_entry, u);
	n.flags &= ~(uint32_t)NODE_STUB;
	put_unmarked(u->t, &n);
	return r;
}

int node_unpack_dir(struct txn *t, uint64_t fid, size_t more)
{
	struct unpack u = { .t = t, .store = wsdb_store(t->ws) };
	size_t i;
	int r = counter_get(t, &u.next);

	if (r == 0)
		r = one_dir(&u, fid);
	for (i = 0; r == 0 && i < u.stubs.len && u.names < more; i++)
		r = one_dir(&u, u.stubs.v[i]);
	vec_fini(&u.stubs);
	if (r == 0 && u.names)
		meta_put_u64(t, counter, u.next);
	if (r)
		txn_fail(t, r); /* half of a directory must not be committed */
	return r;
}

/* --- hard links --------------------------------------------------------------------------------------------------- */

/* Return: 0 and the inode that a path names, its parent, and its last name. */
static int find(struct txn *t, struct span path, uint64_t *ret_fid, uint64_t *ret_parent, struct span *ret_name)
{
	const char *p = path.p, *end = p + path.len;
	uint64_t at = txn_root(t);
	int r = path.len ? 0 : -EIO;

	while (r == 0 && p < end) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		struct span name = SPAN(p, (size_t)((slash ? slash : end) - p));

		*ret_parent = at;
		*ret_name = name;
		r = entry_get(t, at, name, &at);
		p += name.len + 1;
	}
	*ret_fid = at;
	return r ? -EIO : 0;
}

/* One group: "path//path//path". Everybody gets the inode of the first. */
static int join(struct txn *t, struct span group)
{
	const char *p = group.p, *end = p + group.len;
	uint64_t first = 0, fid, parent = 0;
	struct span name;
	struct node n;
	int r = 0;

	while (r == 0 && p < end) {
		const char *cut = memmem(p, (size_t)(end - p), "//", 2);
		struct key k;

		r = find(t, SPAN(p, (size_t)((cut ? cut : end) - p)), &fid, &parent, &name);
		p = cut ? cut + 2 : end;
		if (r)
			return r;
		if (!first) {
			first = fid;
			r = node_get(t, first, &n);
			continue;
		}
		key_name(&k, fid, parent, name);
		db_del(t->t, WT_NAME, key_span(&k));
		node_del(t, fid);
		name_unmarked(t, parent, name, first);
		n.nlink++;
	}
	if (r == 0 && first)
		put_unmarked(t, &n);
	return r ? -EIO : 0;
}

static int join_all(struct txn *t, const struct content *links)
{
	AUTO(mem_free) char *text = NULL;
	size_t at = 0, len = links->size;
	ssize_t got;
	int r = 0;

	if (len > LINKS_TEXT_MAX)
		return -EFBIG;
	text = must_calloc(1, len + 1);
	got = content_read(wsdb_store(t->ws), links, 0, text, len, false);
	if (got != (ssize_t)len)
		return -EIO;
	while (r == 0 && at < len) {
		size_t n = strlen(text + at);

		r = join(t, SPAN(text + at, n));
		at += n + 1;
	}
	return r;
}

int txn_plant(struct txn *t, const struct digest *root, uint64_t names, struct err *e)
{
	struct content links;
	struct tree_item it;
	struct span name;
	struct node n;
	uint64_t ino, kid, fid = txn_root(t);
	int r;

	if (fid && ((node_get(t, fid, &n) == 0 && (n.flags & NODE_STUB)) ||
		    entry_next(t, fid, SPAN_NULL, &name, &kid) != STORE_E_NONE))
		return err_set(e, -EEXIST, "workspace-not-empty", "the workspace is not empty");
	r = tree_stat(wsdb_store(t->ws), root, &it, &links);
	if (r)
		return err_sys(e, r, "read a tree's root");
	if (!fid)
		fid = node_new_fid(t, &ino);
	else if (node_get(t, fid, &n) == 0)
		ino = n.ino;
	else
		return err_sys(e, -EIO, "read a root");
	r = from_item(t, fid, ino, &it, &n);
	if (names)
		t->stub_names += (int64_t)names;
	else
		count_stub(t, &it.dir, false);
	meta_put_u64(t, "root-fid", fid);
	meta_put(t, "tree", digest_span(root));
	if (r == 0 && links.size)
		r = node_unpack_dir(t, fid, SIZE_MAX);
	if (r == 0 && links.size)
		r = join_all(t, &links);
	return r ? err_sys(e, r, "unpack a tree") : 0;
}
