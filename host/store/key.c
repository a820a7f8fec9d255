/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers are big endian so that memcmp() order is number order: rows of one directory lie together, sorted by name,
 * and the journal is in order of time. Every record begins with a version byte; a reader refuses what it does not know.
 */
#include "host/store/key.h"

#include "base/str.h"

#include <assert.h>
#include <errno.h>

enum { NODE_VERSION = 1, NODE_HAS_CONTENT = 1, NODE_REC_PLAIN = 80, JOURNAL_VERSION = 2, LIST_VERSION = 1 };
enum { CONTENT_REC = 48, ACCESS_VERSION = 1, SNAPSHOT_VERSION = 1 };

const char *const content_tables[CT_TABLES] = {
	[CT_CHUNK] = "chunk", [CT_LIST] = "list", [CT_TREE] = "tree", [CT_META] = "meta"
};
const char *const ws_tables[WT_TABLES] = {
	[WT_NODE] = "node",
	[WT_TARGET] = "target",
	[WT_ENTRY] = "entry",
	[WT_NAME] = "name",
	[WT_META] = "meta",
	[WT_JOURNAL] = "journal",
	[WT_DIRTY] = "dirty",
	[WT_TREE] = "tree",
	[WT_LINKED] = "linked",
	[WT_SNAP] = "snap",
	[WT_XATTR] = "xattr",
	[WT_PENDING] = "pending",
};

void key_u64(struct key *k, uint64_t v)
{
	put_u64(k->b, v);
	k->len = 8;
}

void key_entry(struct key *k, uint64_t parent, struct span name)
{
	assert(name.len <= 255);
	put_u64(k->b, parent);
	if (name.len)
		memcpy(k->b + 8, name.p, name.len);
	k->len = 8 + name.len;
}

void key_name(struct key *k, uint64_t fid, uint64_t parent, struct span name)
{
	assert(name.len <= 255);
	put_u64(k->b, fid);
	put_u64(k->b + 8, parent);
	if (name.len)
		memcpy(k->b + 16, name.p, name.len);
	k->len = 16 + name.len;
}

int key_u64_parse(struct span key, uint64_t *ret)
{
	if (key.len != 8)
		return -EIO;
	*ret = get_u64(key.p);
	return 0;
}

int key_entry_parse(struct span key, uint64_t *ret_parent, struct span *ret_name)
{
	if (key.len < 9 || key.len > 8 + 255)
		return -EIO;
	*ret_parent = get_u64(key.p);
	*ret_name = SPAN((const uint8_t *)key.p + 8, key.len - 8);
	return 0;
}

int key_name_parse(struct span key, uint64_t *ret_fid, uint64_t *ret_parent, struct span *ret_name)
{
	if (key.len < 17 || key.len > 16 + 255)
		return -EIO;
	*ret_fid = get_u64(key.p);
	*ret_parent = get_u64((const uint8_t *)key.p + 8);
	*ret_name = SPAN((const uint8_t *)key.p + 16, key.len - 16);
	return 0;
}

size_t node_pack(const struct node *n, uint8_t *to)
{
	bool has_content = n->content.size || n->content_ship || n->content_boot || n->content_ctime_ns;

	memset(to, 0, NODE_REC_MAX);
	to[0] = NODE_VERSION;
	to[1] = has_content ? NODE_HAS_CONTENT : 0;
	put_u32(to + 4, n->flags);
	put_u64(to + 8, n->ino);
	put_u64(to + 16, n->rdev);
	put_u64(to + 24, n->size);
	put_u64(to + 32, n->blocks);
	put_u64(to + 40, (uint64_t)n->mtime_ns);
	put_u64(to + 48, (uint64_t)n->ctime_ns);
	put_u64(to + 56, (uint64_t)n->atime_ns);
	put_u32(to + 64, n->mode);
	put_u32(to + 68, n->nlink);
	put_u32(to + 72, n->uid);
	put_u32(to + 76, n->gid);
	if (!has_content)
		return NODE_REC_PLAIN;
	content_pack(&n->content, to + 80);
	put_u64(to + 128, (uint64_t)n->content_ctime_ns);
	put_u64(to + 136, n->content_ship);
	put_u64(to + 144, n->content_boot);
	return NODE_REC_MAX;
}

int node_unpack(struct span value, uint64_t fid, struct node *ret)
{
	const uint8_t *p = value.p;
	struct node n = { .fid = fid };

	if (value.len < NODE_REC_PLAIN || p[0] != NODE_VERSION || p[1] & ~NODE_HAS_CONTENT)
		return -EIO;
	if (value.len != (p[1] & NODE_HAS_CONTENT ? NODE_REC_MAX : NODE_REC_PLAIN))
		return -EIO;
	n.flags = get_u32(p + 4);
	n.ino = get_u64(p + 8);
	n.rdev = get_u64(p + 16);
	n.size = get_u64(p + 24);
	n.blocks = get_u64(p + 32);
	n.mtime_ns = (int64_t)get_u64(p + 40);
	n.ctime_ns = (int64_t)get_u64(p + 48);
	n.atime_ns = (int64_t)get_u64(p + 56);
	n.mode = get_u32(p + 64);
	n.nlink = get_u32(p + 68);
	n.uid = get_u32(p + 72);
	n.gid = get_u32(p + 76);
	if (p[1] & NODE_HAS_CONTENT) {
		content_unpack(p + 80, &n.content);
		n.content_ctime_ns = (int64_t)get_u64(p + 128);
		n.content_ship = get_u64(p + 136);
		n.content_boot = get_u64(p + 144);
	}
	*ret = n;
	return 0;
}

size_t journal_pack(const struct journal_row *row, uint8_t *to)
{
	size_t len = MIN(row->name.len, (size_t)JOURNAL_NAME_MAX);

	memset(to, 0, JOURNAL_HEAD);
	to[0] = JOURNAL_VERSION;
	to[1] = row->by;
	put_u32(to + 4, row->kind);
	put_u64(to + 8, (uint64_t)row->wall_ns);
	put_u32(to + 16, row->mode);
	put_u64(to + 24, row->fid);
	put_u64(to + 32, row->parent);
	put_u64(to + 40, row->size);
	memcpy(to + 48, row->root.b, DIGEST_LEN);
	memcpy(to + JOURNAL_HEAD_1, row->link.b, DIGEST_LEN);
	if (len)
		memcpy(to + JOURNAL_HEAD, row->name.p, len);
	return JOURNAL_HEAD + len;
}

int journal_unpack(struct span value, uint64_t seq, struct journal_row *ret)
{
	const uint8_t *p = value.p;
	struct journal_row row = { .seq = seq };
	size_t head = value.len && p[0] == 1 ? JOURNAL_HEAD_1 : JOURNAL_HEAD;

	if (value.len < head || value.len > head + JOURNAL_NAME_MAX || p[0] < 1 || p[0] > JOURNAL_VERSION)
		return -EIO;
	row.kind = get_u32(p + 4);
	row.wall_ns = (int64_t)get_u64(p + 8);
	row.mode = get_u32(p + 16);
	row.fid = get_u64(p + 24);
	row.parent = get_u64(p + 32);
	row.size = get_u64(p + 40);
	memcpy(row.root.b, p + 48, DIGEST_LEN);
	if (head == JOURNAL_HEAD) {
		row.by = p[1];
		memcpy(row.link.b, p + JOURNAL_HEAD_1, DIGEST_LEN);
	}
	row.name = SPAN(p + head, value.len - head);
	*ret = row;
	return 0;
}

void snapshot_pack(const struct snapshot *s, uint8_t *to)
{
	memset(to, 0, SNAPSHOT_REC);
	to[0] = SNAPSHOT_VERSION;
	put_u32(to + 4, s->flags);
	put_u64(to + 8, (uint64_t)s->created_ns);
	put_u64(to + 16, s->journal_seq);
	put_u64(to + 24, s->entries);
	memcpy(to + 32, s->root.b, DIGEST_LEN);
}

int snapshot_unpack(struct span key, struct span value, struct snapshot *ret)
{
	const uint8_t *p = value.p;
	struct snapshot s = { .flags = 0 };

	if (key.len == 0 || key.len > SNAPSHOT_NAME_MAX || value.len != SNAPSHOT_REC || p[0] != SNAPSHOT_VERSION)
		return -EIO;
	memcpy(s.name, key.p, key.len);
	if (!str_is_id(s.name, SNAPSHOT_NAME_MAX))
		return -EIO;
	s.flags = get_u32(p + 4);
	s.created_ns = (int64_t)get_u64(p + 8);
	s.journal_seq = get_u64(p + 16);
	s.entries = get_u64(p + 24);
	memcpy(s.root.b, p + 32, DIGEST_LEN);
	*ret = s;
	return 0;
}

void list_head(uint8_t *to, uint32_t level, uint32_t count)
{
	memset(to, 0, LIST_HEAD);
	to[0] = LIST_VERSION;
	to[1] = (uint8_t)level;
	put_u32(to + 4, count);
}

int list_check(struct span value, uint32_t level, uint32_t *ret_count)
{
	const uint8_t *p = value.p;
	uint32_t count;

	if (value.len < LIST_HEAD || p[0] != LIST_VERSION || p[1] != level)
		return -EIO;
	count = get_u32(p + 4);
	if (count == 0 || count > LIST_FAN || value.len != LIST_HEAD + (size_t)count * DIGEST_LEN)
		return -EIO;
	*ret_count = count;
	return 0;
}

uint32_t list_level(struct span value)
{
	return value.len < LIST_HEAD ? 0 : ((const uint8_t *)value.p)[1];
}

struct digest list_slot(struct span value, uint32_t slot)
{
	size_t at = LIST_HEAD + (size_t)slot * DIGEST_LEN;
	struct digest d = { .b = { 0 } };

	if (at + DIGEST_LEN <= value.len)
		memcpy(d.b, (const uint8_t *)value.p + at, DIGEST_LEN);
	return d;
}

uint32_t content_depth(uint64_t size)
{
	uint64_t span = CHUNK_LEN;
	uint32_t depth = 1;

	while (span < size && depth < CONTENT_DEPTH_MAX) {
		span *= LIST_FAN;
		depth++;
	}
	return depth;
}

bool content_ok(const struct content *c)
{
	if (c->size > CONTENT_SIZE_MAX || c->reserved)
		return false;
	if (digest_is_zero(&c->root))
		return c->depth == 0 || (c->depth == CONTENT_ELSEWHERE && c->size > 0);
	return c->size > 0 && c->depth == content_depth(c->size);
}

bool content_eq(const struct content *a, const struct content *b)
{
	return a->size == b->size && a->depth == b->depth && digest_eq(&a->root, &b->root);
}

struct content content_elsewhere(uint64_t size)
{
	return (struct content){ .size = MIN(size, CONTENT_SIZE_MAX), .depth = size ? CONTENT_ELSEWHERE : 0 };
}

void content_pack(const struct content *c, uint8_t *to)
{
	put_u64(to, c->size);
	put_u32(to + 8, c->depth);
	put_u32(to + 12, c->reserved);
	memcpy(to + 16, c->root.b, DIGEST_LEN);
	_Static_assert(16 + DIGEST_LEN == CONTENT_REC, "48 bytes");
}

void content_unpack(const uint8_t *p, struct content *ret)
{
	ret->size = get_u64(p);
	ret->depth = get_u32(p + 8);
	ret->reserved = get_u32(p + 12);
	memcpy(ret->root.b, p + 16, DIGEST_LEN);
}

/* --- API keys ----------------------------------------------------------------------------------------------------- */

const char access_prefix[] = "access/";

size_t access_pack(const struct access_key *k, uint8_t *to)
{
	size_t n = strlen(k->name);

	memset(to, 0, ACCESS_REC_HEAD);
	to[0] = ACCESS_VERSION;
	put_u32(to + 4, k->scopes);
	put_u32(to + 8, k->sandboxes);
	put_u32(to + 12, k->per_second);
	put_u64(to + 16, (uint64_t)k->created_ns);
	put_u64(to + 24, (uint64_t)k->expires_ns);
	memcpy(to + 32, k->hash.b, DIGEST_LEN);
	memcpy(to + ACCESS_REC_HEAD, k->name, n);
	return ACCESS_REC_HEAD + n;
}

static bool is_access_id(struct span s)
{
	const char *p = s.p;
	size_t i;

	for (i = 0; i < s.len && strchr("0123456789abcdef", p[i]) && p[i];)
		i++;
	return s.len == ACCESS_ID_LEN && i == s.len;
}

int access_unpack(struct span key, struct span value, struct access_key *ret)
{
	const uint8_t *p = value.p;
	struct span id = SPAN((const char *)key.p + ACCESS_PREFIX, key.len - ACCESS_PREFIX);
	struct access_key k = { .scopes = 0 };

	if (key.len <= ACCESS_PREFIX || !is_access_id(id) || value.len <= ACCESS_REC_HEAD ||
	    value.len > ACCESS_REC_HEAD + ACCESS_NAME_MAX || p[0] != ACCESS_VERSION)
		return -EIO;
	memcpy(k.id, id.p, id.len);
	memcpy(k.name, p + ACCESS_REC_HEAD, value.len - ACCESS_REC_HEAD);
	k.scopes = get_u32(p + 4);
	k.sandboxes = get_u32(p + 8);
	k.per_second = get_u32(p + 12);
	k.created_ns = (int64_t)get_u64(p + 16);
	k.expires_ns = (int64_t)get_u64(p + 24);
	memcpy(k.hash.b, p + 32, DIGEST_LEN);
	if (!str_is_id(k.name, ACCESS_NAME_MAX) || !k.scopes || (k.scopes & ~(uint32_t)ACCESS_SCOPES))
		return -EIO;
	*ret = k;
	return 0;
}
