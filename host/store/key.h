/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_KEY_H
#define HOST_STORE_KEY_H

/* The only place that knows how keys and values lie in the tables; docs/store-format.md is its text. Big endian. */
#include "host/store/store.h"

#include <endian.h>

/* Tables of the content environment. The first three are objects: key = hash of the value under the table's domain. */
enum content_table { CT_CHUNK, CT_LIST, CT_TREE, CT_META, CT_TABLES };
/* Tables of a workspace's environment. */
enum ws_table { WT_NODE, WT_TARGET, WT_ENTRY, WT_NAME, WT_META, WT_JOURNAL, WT_DIRTY, WT_TREE, WT_LINKED,
		WT_SNAP, WT_XATTR, WT_PENDING, WT_TABLES };

extern const char *const content_tables[CT_TABLES];
extern const char *const ws_tables[WT_TABLES];

/* An LMDB value takes whole pages after a header of 16 bytes: these sizes waste nothing. */
enum {
	CHUNK_LEN = 16 * 4096 - 16, /* bytes of a file in one chunk */
	LIST_LEN = 4 * 4096 - 16,
	LIST_HEAD = 16,
	LIST_FAN = (LIST_LEN - LIST_HEAD) / DIGEST_LEN, /* 511 */
	CONTENT_DEPTH_MAX = 5,
	FORMAT_VERSION = 3,
	NODE_REC_MAX = 152,
	JOURNAL_HEAD = 112,
	JOURNAL_HEAD_1 = 80, /* of rows without a link, from format 1 */
	JOURNAL_NAME_MAX = 8192,
	KEY_ROOM = 8 + 8 + 255,
	ACCESS_REC_HEAD = 64,
	ACCESS_PREFIX = 7, /* of access_prefix */
	RULES_PREFIX = 6, /* of rules_prefix */
	SECRET_PREFIX = 7, /* of secret_prefix */
	USAGE_PREFIX = 6,  /* of usage_prefix */
	AUDIT_PREFIX = 6,
	SNAPSHOT_REC = 64,
};
#define CONTENT_SIZE_MAX (UINT64_C(1) << 44)

static inline void put_u16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}
static inline uint16_t get_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}
static inline uint32_t get_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}
static inline uint64_t get_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

struct key {
	uint8_t b[KEY_ROOM];
	size_t len;
};

static inline struct span key_span(const struct key *k)
{
	return SPAN(k->b, k->len);
}
static inline struct span digest_span(const struct digest *d)
{
	return SPAN(d->b, sizeof(d->b));
}
/** key_u64() - fid or seq. */
void key_u64(struct key *k, uint64_t v);
/** key_entry() - parent, name. @name must be at most 255 bytes. */
void key_entry(struct key *k, uint64_t parent, struct span name);
/** key_name() - fid, parent, name. */
void key_name(struct key *k, uint64_t fid, uint64_t parent, struct span name);
/** key_u64_parse() and the others - Return: 0 or -EIO when the key has no such shape; names borrow from @key. */
int key_u64_parse(struct span key, uint64_t *ret) MUST_CHECK;
int key_entry_parse(struct span key, uint64_t *ret_parent, struct span *ret_name) MUST_CHECK;
int key_name_parse(struct span key, uint64_t *ret_fid, uint64_t *ret_parent, struct span *ret_name) MUST_CHECK;

/** node_pack() - Return: bytes written into @to (NODE_REC_MAX). The fid is the key. */
size_t node_pack(const struct node *n, uint8_t *to);
/** node_unpack() - Return: 0; -EIO for an unknown version or length. */
int node_unpack(struct span value, uint64_t fid, struct node *ret) MUST_CHECK;

/** journal_pack() - Return: bytes written into @to (JOURNAL_HEAD + JOURNAL_NAME_MAX). The link is what the row says. */
size_t journal_pack(const struct journal_row *row, uint8_t *to);
/** journal_unpack() - the name borrows from @value. Return: 0 or -EIO. */
int journal_unpack(struct span value, uint64_t seq, struct journal_row *ret) MUST_CHECK;

/** snapshot_pack() - SNAPSHOT_REC bytes; the name is the key. snapshot_unpack(): 0 or -EIO. */
void snapshot_pack(const struct snapshot *s, uint8_t *to);
int snapshot_unpack(struct span key, struct span value, struct snapshot *ret) MUST_CHECK;

/* A list of hashes: header, then one digest a slot; zero digests at the end are not stored. */
/** list_head() - write the header of a list at @level (1: its slots are chunks) with @count slots. */
void list_head(uint8_t *to, uint32_t level, uint32_t count);
/** list_check() - Return: 0 and the number of slots; -EIO when it is no list of that level. */
int list_check(struct span value, uint32_t level, uint32_t *ret_count) MUST_CHECK;
/** list_level() - the level a list claims; 0 when it is too short. */
uint32_t list_level(struct span value);
/** list_slot() - a checked list's digest; zero (a hole) at or past @count. */
struct digest list_slot(struct span value, uint32_t slot);

/** content_depth() - the depth that a content of @size with any data has: 1 to CONTENT_DEPTH_MAX. */
uint32_t content_depth(uint64_t size);
/** content_ok() - a value that content_finish() can have made. */
bool content_ok(const struct content *c);
/** content_pack() - 48 bytes. */
void content_pack(const struct content *c, uint8_t *to);
void content_unpack(const uint8_t *p, struct content *ret);

/* API keys: rows "access/ID" of the content environment's meta. access_pack() returns the length, at most
 * ACCESS_REC_HEAD + ACCESS_NAME_MAX. access_unpack(): 0 or -EIO. */
extern const char access_prefix[];
/* rules.c: rows "rules/TEMPLATE". */
extern const char rules_prefix[];
bool rules_row_ok(struct span key, struct span value);
/* secret.c: rows "secret/NAME" and "audit/" with 16 hexadecimal digits. audit_unpack(): 0 or -EIO; the text borrows. */
extern const char secret_prefix[], audit_prefix[], usage_prefix[];
/* Return: 0; -EIO: no row of what was used. */
int usage_unpack(struct span key, struct span value, struct usage_row *ret) MUST_CHECK;
bool secret_row_ok(struct span key, struct span value);
int audit_unpack(struct span key, struct span value, struct audit_row *ret) MUST_CHECK;
size_t access_pack(const struct access_key *k, uint8_t *to);
int access_unpack(struct span key, struct span value, struct access_key *ret) MUST_CHECK;

#endif
