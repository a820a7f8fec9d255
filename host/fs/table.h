/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FS_TABLE_H
#define HOST_FS_TABLE_H

/*
 * What must be known about the mount by whoever serves it next: a memory file that outlives the process. Node ids and
 * file handles are numbers of slots in it, with a generation above, so that a number is never mistaken for its
 * successor. The file is as large as all slots together and has pages only where slots were used; used ones are dense.
 *
 * A process may end at any instruction. So a slot is filled first and published by one store, counts are raised before
 * the kernel is answered and lowered after it has told: what goes wrong is a slot that stays, never one that is
 * missing. One process at a time uses it; fs.lock guards it there, but for what its user owns alone.
 */
#include "base/err.h"
#include "base/vec.h"
#include "host/fs/cookie.h"
#include "host/store/store.h"

#include <stdbool.h>

enum {
	TABLE_VERSION = 2,
	TABLE_SPACES = 16384,
	TABLE_NODES = 4 * 1024 * 1024,
	TABLE_HANDLES = 256 * 1024,
	TABLE_INTENTS = 2048,
	TABLE_BLOCKS = 16384,
	TABLE_BLOCK_B = 4096,
	TABLE_INIT_MAX = 256,
};

/* Bits of table_head.flags. */
enum { TABLE_SERVED = 1, TABLE_CAN_RESEND = 2, TABLE_UNKNOWN = 4 /* a change was too large to be announced */ };

struct table_head {
	uint64_t magic;
	uint32_t version, flags;
	uint32_t nodes_top, handles_top, spaces_top, blocks_top; /* slots below were used at least once */
	uint32_t takeovers, init_len;
	uint8_t init[TABLE_INIT_MAX]; /* the kernel's first request */
	uint8_t dir_key[COOKIE_KEY_LEN]; /* of positions in directories: readers go on with the next process */
};

enum space_state { SPACE_FREE, SPACE_NEW, SPACE_SHOWN, SPACE_GONE };

/* A workspace of which the kernel knows, or knew, something. */
struct table_space {
	uint32_t state; /* enum space_state */
	uint32_t reserved;
	char id[72];
};

struct table_node { /* 128 bytes */
	uint32_t gen;
	uint32_t space; /* slot + 1; 0: free */
	uint64_t fid, lookups;
	uint64_t ino, rdev, size, blocks; /* as shown last: for what is open and has no name any more */
	int64_t mtime_ns, ctime_ns, atime_ns;
	uint32_t mode, nlink;
	uint64_t reserved[5];
};

struct table_handle {
	uint32_t gen, used;
	uint64_t ino; /* node id */
	int32_t flags;
	uint32_t reserved;
	struct content content;
};

/* A change that is being made for a request: what was there before, should the request come again. */
struct table_intent {
	uint64_t unique; /* of the request; 0: free */
	uint64_t fid;	 /* that the name had, 0: it was not there */
	uint32_t takeovers; /* of the process that wrote it */
	uint32_t reserved;
};

/* Changes that are about to be made durable and that the kernel does not know yet. A chain is one list of changes; its
 * first block is published last. */
struct table_block {
	uint32_t used;	/* 0: free; 1: first of a chain; 2: a further one */
	uint32_t space; /* slot + 1 */
	uint32_t next;	/* slot + 1, 0: the last */
	uint32_t len;
	uint8_t bytes[TABLE_BLOCK_B - 16];
};

struct table {
	struct table_head *head;
	struct table_space *spaces;
	struct table_node *nodes;
	struct table_handle *handles;
	struct table_intent *intents;
	struct table_block *blocks;
	void *map;
	VEC(uint32_t) free_nodes, free_handles, free_blocks;
	uint32_t nodes_max, handles_max; /* TABLE_NODES and TABLE_HANDLES; tests make them small */
};

/** table_map() - @fresh: make it, in an empty memory file; else check and rebuild the lists of free slots.
 * Return: 0; -ESTALE slug "mount-format" (made by another version, or not complete); -errno. */
int table_map(struct table *t, int fd, bool fresh, struct err *e) MUST_CHECK;
void table_unmap(struct table *t);

/** table_node_new() - a slot, counted as looked up once. Return: its number; UINT32_MAX when all are used. */
uint32_t table_node_new(struct table *t, uint32_t space, const struct node *n);
void table_node_free(struct table *t, uint32_t slot);
void table_node_shown(struct table *t, uint32_t slot, const struct node *n);
static inline uint64_t table_node_id(const struct table *t, uint32_t slot)
{
	return (uint64_t)t->nodes[slot].gen << 32 | slot;
}
/** table_node_slot() - Return: the slot of a node id that is in use; UINT32_MAX. */
uint32_t table_node_slot(const struct table *t, uint64_t id);

/** table_handle_new() - Return: a handle's number, 0 when all are used. */
uint64_t table_handle_new(struct table *t, uint64_t ino, int flags, const struct content *c);
/** table_handle() - Return: NULL for a number that is not in use. */
struct table_handle *table_handle(const struct table *t, uint64_t fh);
void table_handle_free(struct table *t, uint64_t fh);

/** table_space() - the slot of a workspace that is shown, made when it is new. Return: UINT32_MAX when all are used. */
uint32_t table_space(struct table *t, const char *id, bool make);

/** table_intend() - Return: slot + 1; 0: there is no room, the request is then judged by what is there. */
uint32_t table_intend(struct table *t, uint64_t unique, uint64_t fid);
void table_intend_done(struct table *t, uint32_t intent);
/** table_intended() - what was intended for a request of an earlier process. Return: slot + 1 or 0. */
uint32_t table_intended(const struct table *t, uint64_t unique, uint64_t *ret_fid);

#endif
