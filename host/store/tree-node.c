/* SPDX-License-Identifier: Apache-2.0 */
/* Byte layouts only; what is in a tree and why is told in tree.c. Readers check every length: they also serve fsck. */
#include "host/store/tree-node.h"

#include <errno.h>
#include <sys/stat.h>

enum { TREE_VERSION = 1, CONTENT_REC = 48, ROOT_HAS_XATTRS = 1 };

/* In the mode of an entry: the content of its extended attributes stands behind the extra. */
#define ENTRY_HAS_XATTRS (1U << 31)

void tree_head(uint8_t *to, enum tree_kind kind, uint32_t level, uint32_t count)
{
	to[0] = TREE_VERSION;
	to[1] = (uint8_t)kind;
	put_u16(to + 2, (uint16_t)level);
	put_u32(to + 4, count);
}

int tree_head_check(struct span node, enum tree_kind *ret_kind, uint32_t *ret_count)
{
	const uint8_t *p = node.p;

	if (node.len < TREE_HEAD || p[0] != TREE_VERSION || p[1] > TREE_ROOT)
		return -EIO;
	*ret_kind = p[1];
	*ret_count = get_u32(p + 4);
	return 0;
}

size_t tree_entry_pack(const struct tree_entry *en, uint8_t *to)
{
	size_t len = TREE_ENTRY_HEAD + en->name.len + en->extra.len;
	bool has_xattrs = en->xattrs.size != 0;

	put_u16(to, (uint16_t)en->name.len);
	put_u16(to + 2, (uint16_t)(en->extra.len + (has_xattrs ? TREE_XATTRS_LEN : 0)));
	put_u32(to + 4, (en->mode & ~ENTRY_HAS_XATTRS) | (has_xattrs ? ENTRY_HAS_XATTRS : 0));
	put_u32(to + 8, en->uid);
	put_u32(to + 12, en->gid);
	put_u64(to + 16, (uint64_t)en->mtime_ns);
	put_u64(to + 24, en->rdev);
	memcpy(to + TREE_ENTRY_HEAD, en->name.p, en->name.len);
	if (en->extra.len)
		memcpy(to + TREE_ENTRY_HEAD + en->name.len, en->extra.p, en->extra.len);
	if (has_xattrs)
		content_pack(&en->xattrs, to + len);
	return len + (has_xattrs ? TREE_XATTRS_LEN : 0);
}

static bool extra_ok(uint32_t mode, size_t len)
{
	if (S_ISREG(mode))
		return len == CONTENT_REC;
	if (S_ISDIR(mode))
		return len == DIGEST_LEN;
	return S_ISLNK(mode) ? len <= TREE_EXTRA_MAX : len == 0;
}

int tree_entry_unpack(struct span node, size_t *at, struct tree_entry *ret)
{
	const uint8_t *p = (const uint8_t *)node.p + *at;
	struct tree_entry en = { .xattrs = { .size = 0 } };
	size_t len;

	if (node.len < *at + TREE_ENTRY_HEAD)
		return -EIO;
	en.name = SPAN(p + TREE_ENTRY_HEAD, get_u16(p));
	en.extra = SPAN(p + TREE_ENTRY_HEAD + en.name.len, get_u16(p + 2));
	en.mode = get_u32(p + 4);
	en.uid = get_u32(p + 8);
	en.gid = get_u32(p + 12);
	en.mtime_ns = (int64_t)get_u64(p + 16);
	en.rdev = get_u64(p + 24);
	len = TREE_ENTRY_HEAD + en.name.len + en.extra.len;
	if (node.len < *at + len)
		return -EIO;
	if (en.mode & ENTRY_HAS_XATTRS) {
		if (en.extra.len < TREE_XATTRS_LEN)
			return -EIO;
		en.mode &= ~ENTRY_HAS_XATTRS;
		en.extra.len -= TREE_XATTRS_LEN;
		content_unpack(p + len - TREE_XATTRS_LEN, &en.xattrs);
		if (!content_ok(&en.xattrs) || en.xattrs.size == 0 || en.xattrs.size > XATTRS_MAX ||
		    !(S_ISREG(en.mode) || S_ISDIR(en.mode)))
			return -EIO;
	}
	if (en.name.len == 0 || en.name.len > 255 || !extra_ok(en.mode, en.extra.len))
		return -EIO;
	*at += len;
	*ret = en;
	return 0;
}

size_t tree_index_pack(const struct digest *d, struct span first_name, uint8_t *to)
{
	memcpy(to, d->b, DIGEST_LEN);
	put_u16(to + DIGEST_LEN, (uint16_t)first_name.len);
	memcpy(to + DIGEST_LEN + 2, first_name.p, first_name.len);
	return DIGEST_LEN + 2 + first_name.len;
}

int tree_index_unpack(struct span node, size_t *at, struct digest *ret, struct span *ret_name)
{
	const uint8_t *p = (const uint8_t *)node.p + *at;
	size_t len;

	if (node.len < *at + DIGEST_LEN + 2)
		return -EIO;
	len = get_u16(p + DIGEST_LEN);
	if (len == 0 || len > 255 || node.len < *at + DIGEST_LEN + 2 + len)
		return -EIO;
	memcpy(ret->b, p, DIGEST_LEN);
	*ret_name = SPAN(p + DIGEST_LEN + 2, len);
	*at += DIGEST_LEN + 2 + len;
	return 0;
}

size_t tree_root_pack(const struct tree_root *root, uint8_t *to)
{
	memset(to, 0, TREE_ROOT_MAX);
	tree_head(to, TREE_ROOT, 0, 1);
	put_u32(to + 8, root->mode);
	put_u32(to + 12, root->uid);
	put_u32(to + 16, root->gid);
	put_u64(to + 24, (uint64_t)root->mtime_ns);
	memcpy(to + 32, root->dir.b, DIGEST_LEN);
	content_pack(&root->links, to + 64);
	if (root->xattrs.size == 0)
		return TREE_ROOT_LEN;
	put_u32(to + 20, ROOT_HAS_XATTRS);
	content_pack(&root->xattrs, to + TREE_ROOT_LEN);
	return TREE_ROOT_MAX;
}

int tree_root_unpack(struct span node, struct tree_root *ret)
{
	const uint8_t *p = node.p;
	enum tree_kind kind;
	uint32_t count;

	if (tree_head_check(node, &kind, &count) || kind != TREE_ROOT || node.len < TREE_ROOT_LEN ||
	    node.len != (get_u32(p + 20) == ROOT_HAS_XATTRS ? TREE_ROOT_MAX : TREE_ROOT_LEN))
		return -EIO;
	*ret = (struct tree_root){ .mode = 0 };
	ret->mode = get_u32(p + 8);
	ret->uid = get_u32(p + 12);
	ret->gid = get_u32(p + 16);
	ret->mtime_ns = (int64_t)get_u64(p + 24);
	memcpy(ret->dir.b, p + 32, DIGEST_LEN);
	content_unpack(p + 64, &ret->links);
	if (node.len == TREE_ROOT_MAX)
		content_unpack(p + TREE_ROOT_LEN, &ret->xattrs);
	return ret->xattrs.size > XATTRS_MAX ? -EIO : 0;
}

static int entry_ref(const struct tree_entry *en, tree_ref_fn fn, void *ctx)
{
	struct content c;
	struct digest d;
	int r = 0;

	if (S_ISREG(en->mode)) {
		content_unpack(en->extra.p, &c);
		r = content_ok(&c) ? fn(ctx, NULL, &c) : -EIO;
	} else if (S_ISDIR(en->mode)) {
		memcpy(d.b, en->extra.p, DIGEST_LEN);
		r = fn(ctx, &d, NULL);
	}
	return r || en->xattrs.size == 0 ? r : fn(ctx, NULL, &en->xattrs);
}

static int root_ref(const struct tree_root *root, tree_ref_fn fn, void *ctx)
{
	int r = content_ok(&root->links) && content_ok(&root->xattrs) ? fn(ctx, &root->dir, NULL) : -EIO;

	if (r == 0)
		r = fn(ctx, NULL, &root->links);
	return r || root->xattrs.size == 0 ? r : fn(ctx, NULL, &root->xattrs);
}

int tree_each_ref(struct span node, tree_ref_fn fn, void *ctx)
{
	struct tree_entry en;
	struct tree_root root;
	enum tree_kind kind = TREE_LEAF;
	struct span name;
	struct digest d;
	uint32_t count = 0, i;
	size_t at = TREE_HEAD;
	int r = tree_head_check(node, &kind, &count);

	if (r == 0 && kind == TREE_ROOT) {
		r = tree_root_unpack(node, &root);
		return r ? r : root_ref(&root, fn, ctx);
	}
	for (i = 0; i < count && r == 0; i++) {
		if (kind == TREE_LEAF) {
			r = tree_entry_unpack(node, &at, &en);
			if (r == 0)
				r = entry_ref(&en, fn, ctx);
		} else {
			r = tree_index_unpack(node, &at, &d, &name);
			if (r == 0)
				r = fn(ctx, &d, NULL);
		}
	}
	if (r == 0 && at != node.len)
		r = -EIO;
	return r;
}
