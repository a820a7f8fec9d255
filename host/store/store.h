/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_STORE_H
#define HOST_STORE_STORE_H

/*
 * What is kept. One content environment for all workspaces (chunks, lists and tree nodes by hash) and one environment
 * per workspace (inodes, entries, journal, roots). LMDB's only home is this room.
 *
 * Order that makes a crash harmless: content is durable before a workspace transaction that names it commits.
 * store_settle() is the barrier between the two.
 */
#include "base/buf.h"
#include "base/err.h"
#include "seal/digest.h"

#include <stdint.h>

struct store;
struct wsdb;
struct txn;

struct store_conf {
	uint64_t map_size_b; /* of each environment, virtual; 0: 64 GiB */
	bool create;	     /* make a new store when the directory is empty or missing */
	bool read_only;	     /* for fsck and dump beside a stopped daemon */
};

/** store_open() - lock and open a store directory; starts the content writer thread.
 * Return: 0; -EBUSY slug "store-in-use" (another process); -EPROTO slug "store-format" (unknown version);
 *	   -ENOENT slug "no-store"; -errno. */
int store_open(const char *dir, const struct store_conf *conf, struct store **ret, struct err *e) MUST_CHECK;
/** store_close() - settle, close. All workspaces must be closed. */
void store_close(struct store **store);

/* --- content of regular files ---------------------------------------------------------------------------------- */

/* A file's bytes: a plain value, 48 bytes, stored inside the inode record. All zeros is the empty file. Bytes that no
 * chunk covers read as zeros (holes). One that is elsewhere has a size and no bytes (docs/keep.md): whoever asks for
 * them is answered -ENODATA. */
struct content {
	uint64_t size;
	uint32_t depth; /* 0: nothing but a hole; 1: root is a chunk; n: root is a list of depth n - 1; or the next */
	uint32_t reserved;
	struct digest root;
};

enum { CONTENT_ELSEWHERE = 255 };

/** content_eq() - the same bytes: what is stored has one form. */
bool content_eq(const struct content *a, const struct content *b);
/** content_elsewhere() - one of @size of which there is nothing here; 0: the empty content. No size is too large. */
struct content content_elsewhere(uint64_t size);
static inline bool content_is_elsewhere(const struct content *c)
{
	return c->depth == CONTENT_ELSEWHERE;
}

struct content_writer;

/** content_writer_new() - build a content, over @base (NULL: empty), which an inode has that the caller sees, or a
 * hold. Memory is bounded whatever is written, but for 8 bytes for each chunk. What it made may be named by an inode
 * when it was freed in the write transaction that does so, or is freed after its commit: see docs/gc.md. */
struct content_writer *content_writer_new(struct store *store, const struct content *base);
void content_writer_free(struct content_writer **w);
/** content_writer_new_b() - how many bytes the store has taken for it so far that it did not have before. */
uint64_t content_writer_new_b(const struct content_writer *w);
/** content_writer_handed_b() - how many bytes were handed over for it, whether or not the store had them. */
uint64_t content_writer_handed_b(const struct content_writer *w);
/** content_write() - put bytes at an offset, any order (ascending is fast); grows the size when needed.
 * Return: 0; -EFBIG; -errno of reading the base or of the writer (ENOSPC). */
int content_write(struct content_writer *w, uint64_t offset, struct span data) MUST_CHECK;
/** content_resize() - set the size: cut, or grow by a hole. To 0 also over a base that is elsewhere. */
int content_resize(struct content_writer *w, uint64_t size) MUST_CHECK;
/** content_hole() - make a range read as zeros without storing them, size unchanged. */
int content_hole(struct content_writer *w, uint64_t offset, uint64_t len) MUST_CHECK;
/** content_finish() - hand all chunks to the writer thread and yield the value. It may be committed in a workspace only
 * after store_settle(). */
int content_finish(struct content_writer *w, struct content *ret) MUST_CHECK;
/** store_settle() - wait until everything handed over before is durable (group commit). No locks may be held.
 * Return: 0; -ENOSPC slug "store-full"; -EIO: something failed, of whomever, since this thread finished the first of
 * the contents that it settles: nobody is told "durable" wrongly, and nobody hears of older failures. */
int store_settle(struct store *store, struct err *e) MUST_CHECK;
/** store_settle_soon() - the same, but only committed: for who commits what names it with txn_commit_soon(). */
int store_settle_soon(struct store *store, struct err *e) MUST_CHECK;
/** store_sync() - all that was committed "soon" is durable, in all workspaces. No locks may be held. Return: 0 or
 * -errno. */
int store_sync(struct store *store, struct err *e) MUST_CHECK;
/** content_read() - Return: bytes copied (fewer only at the end of the content); -EIO slug-less when a chunk is missing
 * or damaged (its hash is checked when @verify). Any thread. */
ssize_t content_read(struct store *store, const struct content *c, uint64_t offset, void *to, size_t len, bool verify);
/** content_next_data() - for SEEK_DATA: first offset >= @offset that a chunk covers. Return: 0 or -ENXIO. */
int content_next_data(struct store *store, const struct content *c, uint64_t offset, uint64_t *ret);
/** content_next_hole() - for SEEK_HOLE: first offset >= @offset that no chunk covers; the size at the latest. */
int content_next_hole(struct store *store, const struct content *c, uint64_t offset, uint64_t *ret);

/* --- access keys: who may ask over the network -------------------------------------------------------------------- */

enum { ACCESS_ID_LEN = 8, ACCESS_NAME_MAX = 64 };
enum { ACCESS_READ = 1, ACCESS_FILES = 2, ACCESS_RUN = 4, ACCESS_ADMIN = 8, ACCESS_OTHERS = 16, ACCESS_SCOPES = 31 };

struct access_key {
	char id[ACCESS_ID_LEN + 1];	/* the key's first hexadecimal digits */
	char name[ACCESS_NAME_MAX + 1]; /* str_is_id */
	struct digest hash;		/* of the whole key; the key itself is not kept */
	uint32_t scopes;		/* ACCESS_*, at least one */
	uint32_t sandboxes, per_second; /* limits, 0: none */
	int64_t created_ns, expires_ns; /* 0: never */
};

/** store_access_put() / store_access_del() - durable when they return 0. May block for the disk. */
int store_access_put(struct store *store, const struct access_key *k, struct err *e) MUST_CHECK;
int store_access_del(struct store *store, const char *id, struct err *e) MUST_CHECK;
/** store_access_each() - all that are sound; stops when @fn returns non-zero and returns that. */
int store_access_each(struct store *store, int (*fn)(void *ctx, const struct access_key *k), void *ctx);

/* --- rules of what is kept, by template (docs/keep.md) ------------------------------------------------------------ */

enum { STORE_RULES_MAX = 16000 };

/** store_rules_put() - durable when it returns 0. Empty: there are none. Return: 0; -E2BIG; -errno. */
int store_rules_put(struct store *store, const char *template_, struct span text, struct err *e) MUST_CHECK;
/** store_rules_get() - append them, nothing when there are none. Return: 0; -E2BIG; -errno. */
int store_rules_get(struct store *store, const char *template_, struct buf *to) MUST_CHECK;

/* --- secrets, sealed, and the audit of what was done with them (docs/secrets.md) ---------------------------------- */

enum {
	STORE_SECRET_NAME_MAX = 128,
	STORE_SECRET_MAX = 72 * 1024,
	STORE_AUDIT_TEXT_MAX = 1024,
	STORE_AUDIT_ROWS = 100000
};

struct audit_row {
	uint64_t seq; /* from 1, without gaps; the oldest go */
	int64_t time_ns;
	struct span text; /* a JSON object */
	struct digest link; /* over this row and the link of the row before: audit_link() */
};

/** audit_link() - the chain of @row, whose link is not looked at. */
struct digest audit_link(const struct digest *before, const struct audit_row *row);
/** store_secret_put() - a secret's record (@name NULL: none) and the row that tells of it, at once; durable when it
 * returns 0. An empty record removes it. Return: 0; -E2BIG; -errno. */
int store_secret_put(struct store *store, const char *name, struct span record, const struct audit_row *row,
		     struct err *e) MUST_CHECK;
/** store_secret_get() - append the record. Return: 0; -ENOENT; -E2BIG. */
int store_secret_get(struct store *store, const char *name, struct buf *to) MUST_CHECK;
/** store_secret_each() / store_audit_each() - in the order of names; from a row on. They stop when @fn returns non-zero
 * and return that. */
int store_secret_each(struct store *store, int (*fn)(void *ctx, const char *name, struct span record), void *ctx);
int store_audit_each(struct store *store, uint64_t from, int (*fn)(void *ctx, const struct audit_row *row), void *ctx);

/* --- what sandboxes used (docs/usage.md) -------------------------------------------------------------------------- */

enum { STORE_ID_MAX = 64, STORE_OWNER_MAX = 19 };

/* Of one sandbox in one hour. */
struct usage_row {
	uint32_t hour; /* since 1970 */
	char sandbox[STORE_ID_MAX + 1];
	char owner[STORE_OWNER_MAX + 1]; /* id of the API key that made it; "": none */
	uint64_t run_ms, paused_ms, cpu_ns;
	uint64_t memory_mib_ms; /* MiB times milliseconds */
	uint64_t stored_b;	/* at its end */
	uint64_t moved_b;
	/* For whoever goes on with it: how far the counters of the sandbox were, and when that was. */
	uint64_t cpu_seen_ns, moved_seen_b;
	int64_t at_ns; /* wall clock */
};

/** store_usage_put() - these rows, in place of what they were; rows of hours before @oldest go. Return: 0 or -errno. */
int store_usage_put(struct store *store, const struct usage_row *rows, size_t n, uint32_t oldest,
		    struct err *e) MUST_CHECK;
/** store_usage_each() - from an hour on, in the order of hours, then ids; stops when @fn returns non-zero and returns
 * that. @fn must not block. */
int store_usage_each(struct store *store, uint32_t from, int (*fn)(void *ctx, const struct usage_row *row), void *ctx);

/* --- workspaces -------------------------------------------------------------------------------------------------- */

/** wsdb_open() - the environment of a workspace (id: str_is_id, at most 64). Opened once per process, shared by
 * reference: a second open returns the same object. At most 256 are mapped at a time; idle ones are closed behind the
 * scenes. Return: 0; -ENOENT slug "no-such-workspace" (without @create); -EEXIST with @create when it is there; -errno.
 */
int wsdb_open(struct store *store, const char *id, bool create, struct wsdb **ret, struct err *e) MUST_CHECK;
void wsdb_close(struct wsdb **db);
/** wsdb_remove() - delete a workspace for good. Who has it open (a download, a directory of the mount that somebody
 * stands in) may go on with what it was until wsdb_close(). Its content stays until gc. Return: 0; -ENOENT; -errno.
 */
int wsdb_remove(struct store *store, const char *id, struct err *e) MUST_CHECK;
/** store_each_ws() - call @fn with the id of each workspace; stops when it returns non-zero and returns that. */
int store_each_ws(struct store *store, int (*fn)(void *ctx, const char *id), void *ctx);
/* Environments that can be made again at any time: a prefix and up to 48 of [a-z0-9-]. Neither fsck nor a backup looks
 * at them; they are opened, made and removed like workspaces. */
#define STORE_VIEW_PREFIX ".view-"
/** store_each_view() - the same for those. */
int store_each_view(struct store *store, int (*fn)(void *ctx, const char *id), void *ctx);

enum {
	NODE_PENDING = 1, /* the inode is known to have changed, its content has not arrived yet */
	NODE_STUB = 2,	  /* a directory whose entries are only in the tree that it was made from: node_unpack_dir() */
	NODE_XATTRS = 4,  /* it has extended attributes; kept by node_set_xattrs() */
};

/* An inode of a workspace. Times in ns since 1970. */
struct node {
	uint64_t fid; /* identity: never 0 */
	uint64_t ino;
	uint64_t rdev, size, blocks;
	int64_t mtime_ns, ctime_ns, atime_ns;
	uint32_t mode, nlink, uid, gid;
	uint32_t flags;	 /* NODE_* */
	uint32_t reserved;
	struct content content; /* regular files */
	int64_t content_ctime_ns; /* ctime of the version that content holds */
	uint64_t content_ship;	  /* number of the shipment that brought it, for deltas; 0: none */
	uint64_t content_boot;	  /* the agent's life that number belongs to */
};

/* Transactions. A read transaction sees one state for its whole life: keep it short. A write transaction is one at a
 * time per workspace and blocks others; commit makes it durable (fsync) before it returns. The first failure sticks:
 * later calls do nothing and commit reports it. Belongs to the thread that began it. */
int txn_read(struct wsdb *db, struct txn **ret, struct err *e) MUST_CHECK;
int txn_write(struct wsdb *db, struct txn **ret, struct err *e) MUST_CHECK;
/** txn_commit() - durable when it returns 0. The slot is nulled in any case.
 * Return: 0; -ENOSPC slug "workspace-full" (map or disk full); -EIO; the sticky error. */
int txn_commit(struct txn **txn, struct err *e) MUST_CHECK;
/** txn_commit_soon() - as txn_commit(), but durable within a bounded time (some 100 ms), or with wsdb_sync(), or with
 * the next txn_commit() to this workspace. All see it at once, and the death of this process loses nothing. After a
 * power loss the workspace is as it was at one of these moments. */
int txn_commit_soon(struct txn **txn, struct err *e) MUST_CHECK;
/** wsdb_sync() - all that was committed to it is durable. No locks may be held. Return: 0; -EIO: what was not durable
 * is void, and it is as it was when it was durable last (each time that happens one who asks is told). */
int wsdb_sync(struct wsdb *db, struct err *e) MUST_CHECK;
/** wsdb_flush() - the same for who looks at wsdb_late() for what has become void: somebody else is told. */
int wsdb_flush(struct wsdb *db, struct err *e) MUST_CHECK;
/* Of commits "soon" since it was mapped: how many there were, how many are durable; and how often some became void. */
struct wsdb_late {
	uint64_t commits, durable, voided;
};
void wsdb_late(struct wsdb *db, struct wsdb_late *ret);
/** wsdb_is_lagging() - was something committed "soon" a short while ago? */
bool wsdb_is_lagging(struct wsdb *db);
/** wsdb_on_void() - call @fn when what was not durable has become void, from any thread; it must not block and not come
 * back here. NULL: nobody; then it is not running any more. */
void wsdb_on_void(struct wsdb *db, void (*fn)(void *ctx), void *ctx);
/** wsdb_on_settled() - the same, when the store has seen to it that what was committed "soon" is durable: some time
 * after each txn_commit_soon(), also when it failed or when there was nothing left to do. */
void wsdb_on_settled(struct wsdb *db, void (*fn)(void *ctx), void *ctx);
/** txn_abort() - destructor: forget a write, end a read; NULL is fine. */
void txn_abort(struct txn **txn);

enum { STORE_E_NONE = 1 };

/** node_get() - Return: 0; STORE_E_NONE; -errno. */
int node_get(struct txn *t, uint64_t fid, struct node *ret) MUST_CHECK;
void node_put(struct txn *t, const struct node *n);
/** node_del() - inode, symlink target and xattrs; not its entries. */
void node_del(struct txn *t, uint64_t fid);
/** node_next_pending() - the first inode after @after that is NODE_PENDING, from their table. Return: 0; STORE_E_NONE;
 * -errno. */
int node_next_pending(struct txn *t, uint64_t after, struct node *ret) MUST_CHECK;
/** node_target() - a symlink's target; borrows from the transaction. Return: 0; STORE_E_NONE; -errno. */
int node_target(struct txn *t, uint64_t fid, struct span *ret) MUST_CHECK;
void node_set_target(struct txn *t, uint64_t fid, struct span target);

enum { XATTRS_MAX = 65520 }; /* bytes of all extended attributes of an inode, packed */

/** node_xattrs() - the packed list of extended attributes (xattr.h); borrows from the transaction.
 * Return: 0; STORE_E_NONE; -errno. */
int node_xattrs(struct txn *t, uint64_t fid, struct span *ret) MUST_CHECK;
/** node_set_xattrs() - replace the list; empty: there are none. Changes the flag of @n (which must be its present
 * record) and puts it. */
void node_set_xattrs(struct txn *t, struct node *n, struct span packed);

/** entry_get() - Return: 0 and the fid that the name has; STORE_E_NONE; -errno. */
int entry_get(struct txn *t, uint64_t parent, struct span name, uint64_t *ret_fid) MUST_CHECK;
/** entry_put() - set a name; also kept in the reverse index. An older meaning of the name is replaced. */
void entry_put(struct txn *t, uint64_t parent, struct span name, uint64_t fid);
/** entry_del() - remove a name; no error when it is not there. */
void entry_del(struct txn *t, uint64_t parent, struct span name);
/** entry_next() - walk a directory in the order of names: the first entry after @after (empty: from the start).
 * @ret_name borrows from the transaction until its next call on this directory or change.
 * Return: 0; STORE_E_NONE at the end; -errno. */
int entry_next(struct txn *t, uint64_t parent, struct span after, struct span *ret_name, uint64_t *ret_fid) MUST_CHECK;
/** entry_of() - a name of an inode (the first of several hard links after @after_parent/@after_name).
 * Return: 0; STORE_E_NONE; -errno. */
int entry_of(struct txn *t, uint64_t fid, uint64_t after_parent, struct span after_name, uint64_t *ret_parent,
	     struct span *ret_name) MUST_CHECK;
/** node_path() - a path of an inode from the root ("" for the root itself), from the reverse index. Free with
 * str_free(). Return: 0; STORE_E_NONE (not linked, or deeper than 4095 bytes); -errno. */
int node_path(struct txn *t, uint64_t fid, char **ret) MUST_CHECK;

/** meta_get() / meta_put() - small facts of a workspace by a word ("root", "seq", "name"). Values up to 64 KiB. */
int meta_get(struct txn *t, const char *key, struct span *ret) MUST_CHECK;
void meta_put(struct txn *t, const char *key, struct span value);
/** meta_del() - Return: 0; STORE_E_NONE; -errno. */
int meta_del(struct txn *t, const char *key) MUST_CHECK;
int meta_get_u64(struct txn *t, const char *key, uint64_t *ret) MUST_CHECK;
void meta_put_u64(struct txn *t, const char *key, uint64_t value);
/* What a workspace holds. Kept by whatever changes it (count.c), with the change. */
struct txn_counts {
	uint64_t names;	     /* in stubs too */
	uint64_t attrs_b;    /* packed extended attributes of the inodes that are here: not of those in stubs */
	int64_t names_more, attrs_more; /* what this write transaction has added so far */
};
/** txn_counts() - Return: 0 or -errno. */
int txn_counts(struct txn *t, struct txn_counts *ret) MUST_CHECK;
/** txn_names_of() - the number of names in a sealed state: when it is the present one, and nothing changed since, it is
 * known. Return: 0; STORE_E_NONE; -errno. */
int txn_names_of(struct txn *t, const struct digest *root, uint64_t *ret) MUST_CHECK;
/* The fid of the root directory, under meta "root-fid"; 0 while there is none. */
uint64_t txn_root(struct txn *t);

/* --- journal: what changed when, in order ------------------------------------------------------------------------ */

enum journal_kind {
	JOURNAL_ENTRY = 1, /* of earlier versions: a name in its directory, without a path */
	JOURNAL_GONE = 2,  /* as well */
	JOURNAL_ATTR = 3,
	JOURNAL_CONTENT = 4,
	JOURNAL_NOTE = 5,
	/* With paths from the root; a rename has the new one, NUL, the old one. */
	JOURNAL_CREATE = 6,
	JOURNAL_REMOVE = 7,
	JOURNAL_RENAME = 8,
	JOURNAL_WRITE = 9,
	JOURNAL_CHMOD = 10,
	JOURNAL_LOST = 11, /* there was more than can be told */
	JOURNAL_BEGAN = 12, /* a command: its id and its words, each word behind a NUL */
	JOURNAL_ENDED = 13, /* as well; parent is the number of the row in which it began, mode how it ended */
};

/* Who made a change. Rows from before this was written have 0. */
enum journal_by {
	JOURNAL_BY_UNKNOWN = 0,
	JOURNAL_BY_INSIDE = 1,
	JOURNAL_BY_HOST = 2, /* the mount or the API */
	JOURNAL_BY_SCAN = 3, /* inside, while nobody was told: found by comparing */
};


enum { JOURNAL_ROWS = 65536, JOURNAL_MAX_B = 32 * 1024 * 1024 }; /* that are kept */

struct journal_row {
	uint64_t seq; /* set by journal_append(): 1, 2, 3 … in this workspace */
	int64_t wall_ns;
	uint32_t kind; /* enum journal_kind */
	uint8_t by;    /* enum journal_by */
	uint32_t mode;
	uint64_t fid, parent, size;
	struct digest root; /* of a regular file's content, when it is here */
	struct digest
		link; /* over this row and the link of the one before: a row that was changed or taken out shows */
	struct span name;   /* of the entry, its path, or the words of a note */
};

void journal_append(struct txn *t, struct journal_row *row);
/** journal_next() - the first row with seq > @after. Return: 0; STORE_E_NONE; -errno. */
int journal_next(struct txn *t, uint64_t after, struct journal_row *ret) MUST_CHECK;
/** journal_link() - the link that a row should have behind one with the link @before. */
struct digest journal_link(const struct digest *before, const struct journal_row *row);
/** journal_last() - the number of the last row ever, 0: none. */
uint64_t journal_last(struct txn *t);

enum { RUNNING_MAX = 1024, RUNNING_ID_MAX = 64, RUNNING_WORDS_MAX_B = 48 * 1024 };

/* A command that began and has not ended: the number of its row and what that says. */
struct running {
	uint64_t seq;
	struct span text;
};

/** running_put() - keep these, RUNNING_MAX at most. */
void running_put(struct txn *t, const struct running *v, size_t n);
/** running_next() - walk them from *@at = 0 on; the text borrows from the transaction. Return: 0; STORE_E_NONE at the
 * end; -EIO. */
int running_next(struct txn *t, size_t *at, struct running *ret) MUST_CHECK;

/* --- trees: a whole state as one hash ----------------------------------------------------------------------------- */

enum { SEAL_OLD_CONTENT = 1 }; /* of an inode that is NODE_PENDING take the content that is here */

/** tree_seal() - write the workspace's present state as immutable hashed nodes into the content environment and yield
 * the root's hash; equal states have equal hashes. Only directories changed since the last seal are written anew.
 * Records the root under meta "tree" in a transaction of its own, after settling. Refused (-EAGAIN, slug
 * "workspace-pending") while an inode is NODE_PENDING, unless @flags say otherwise; what was taken as it is stays
 * marked. No transaction may be open on this thread. Other failures: -ENOENT slug "workspace-empty"; -EIO slug
 * "workspace-damaged"; store_settle()'s; -errno. */
int tree_seal(struct wsdb *db, unsigned flags, struct digest *ret, struct err *e) MUST_CHECK;

/* An entry of a tree. Spans borrow from whoever yields it. */
struct tree_item {
	struct span name; /* empty for a root */
	uint32_t mode, uid, gid;
	int64_t mtime_ns;
	uint64_t rdev;
	struct content content; /* regular files */
	struct content xattrs;	/* a packed list of extended attributes; size 0: none */
	struct digest dir;	/* directories */
	struct span target;	/* symbolic links */
};

static inline bool tree_is_elsewhere(const struct tree_item *it)
{
	return (it->mode & 0170000) == 0100000 && content_is_elsewhere(&it->content);
}

/** tree_stat() - a tree's root directory, and the text of its hard links (docs/store-format.md).
 * Return: 0; -EIO: no such tree, or damaged. */
int tree_stat(struct store *store, const struct digest *root, struct tree_item *ret,
	      struct content *ret_links) MUST_CHECK;
/** tree_each() - the entries of a directory in the order of names; stops when @fn returns other than 0 and returns
 * that. One read transaction for all. Return: 0; @fn's; -EIO. */
int tree_each(struct store *store, const struct digest *dir, int (*fn)(void *ctx, const struct tree_item *it),
	      void *ctx);
/** tree_resolve() - follow a path (path.h) from a root, links not followed. The item has no name, its target is empty.
 * Return: 0; -ENOENT; -ENOTDIR; -EIO. */
int tree_resolve(struct store *store, const struct digest *root, const char *path, struct tree_item *ret) MUST_CHECK;

/* Tell nothing below a directory that is on one side only; that is on the first side only. */
/* A walk that may take long: nothing of the store is open between two calls, and what it holds does not grow with the
 * number of names (tree-walk.c). The tree is kept by the caller (store_hold_tree()). One thread at a time. */
struct tree_walk;
struct tree_walk *tree_walk_new(struct store *store);
void tree_walk_free(struct tree_walk **w);
/** tree_walk_enter() - the next entries are those of this directory, then those of the one before. Return: 0; -EIO;
 * -ELOOP. */
int tree_walk_enter(struct tree_walk *w, const struct digest *dir) MUST_CHECK;
/** tree_walk_next() - the next entry of the directory that was entered last; its spans live until the next call.
 * Return: 0; STORE_E_NONE: that directory is at its end, and left; -EIO. */
int tree_walk_next(struct tree_walk *w, struct tree_item *ret) MUST_CHECK;

enum { TREE_DIFF_WHOLE = 1, TREE_DIFF_GONE_WHOLE = 2 };

/* @path from the root, "" for the root directory itself. @before or @after is NULL: it was not there, or is not. */
typedef int tree_diff_fn(void *ctx, const char *path, const struct tree_item *before, const struct tree_item *after);
/** tree_diff() - what differs between two trees at a path ("": everything) and below, in the order of paths (a
 * directory before what is in it); costs what differs. Of another kind is told as removed, then as made. Hard links are
 * not compared. Stops when @fn returns other than 0 and returns that.
 * Return: 0; @fn's; -ENOENT: neither has the path; -EIO; -ENAMETOOLONG. */
int tree_diff(struct store *store, const struct digest *a, const struct digest *b, const char *path, unsigned flags,
	      tree_diff_fn *fn, void *ctx, struct err *e) MUST_CHECK;
/** tree_names() - how many names are in a directory and below it. Return: 0; -EIO. */
int tree_names(struct store *store, const struct digest *dir, uint64_t *ret) MUST_CHECK;

/* --- workspaces made from trees ----------------------------------------------------------------------------------- */

/** txn_plant() - make the root directory of a workspace that has none, or an empty one, from a tree, as a stub. A tree
 * with hard links is unpacked as a whole at once. @names: how many there are in it, when that is known (0: they are
 * counted, which costs a walk). Return: 0; -EEXIST: it is not empty; -EIO: no such tree; -errno. */
int txn_plant(struct txn *t, const struct digest *root, uint64_t names, struct err *e) MUST_CHECK;
/** node_new_fid() - an identity that no agent's inode has, and an inode number for it. */
uint64_t node_new_fid(struct txn *t, uint64_t *ret_ino);
/** node_from_item() - an inode of @fid as a tree has it, a directory as a stub, and its target and extended attributes;
 * without a name. Nothing is marked as changed. Return: 0 or -errno. */
int node_from_item(struct txn *t, uint64_t fid, uint64_t ino, const struct tree_item *it, struct node *ret) MUST_CHECK;
/** node_unpack_dir() - when the directory is a stub, give it its entries; with @more, also stubs below it, until about
 * so many names were made. Return: 0; -EIO; -errno. */
int node_unpack_dir(struct txn *t, uint64_t fid, size_t more) MUST_CHECK;

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

enum { SNAPSHOT_NAME_MAX = 64, SNAPSHOTS_MAX = 10000 };

struct snapshot {
	char name[SNAPSHOT_NAME_MAX + 1]; /* str_is_id */
	struct digest root;
	int64_t created_ns;
	uint64_t journal_seq; /* the last row of the journal that it has in it */
	uint64_t entries;     /* names in it */
	uint32_t flags;	      /* SNAPSHOT_* */
};

enum {
	SNAPSHOT_LIVE = 1,
	SNAPSHOT_UNFROZEN = 2, /* what was being written then may be in it or not */
	SNAPSHOT_COUNTED = 4,  /* entries is exactly that of the tree */
};

/** snapshot_get() - Return: 0; STORE_E_NONE; -EIO. */
int snapshot_get(struct txn *t, const char *name, struct snapshot *ret) MUST_CHECK;
/** snapshot_put() - a new one; its root must be durable. Return: 0; -EEXIST slug "snapshot-exists"; -EINVAL slug
 * "bad-snapshot-name"; -EDQUOT slug "too-many-snapshots"; -errno. */
int snapshot_put(struct txn *t, const struct snapshot *s, struct err *e) MUST_CHECK;
/** snapshot_del() - Return: 0; -ENOENT slug "no-such-snapshot"; -errno. */
int snapshot_del(struct txn *t, const char *name, struct err *e) MUST_CHECK;
/** snapshot_each() - in the order of names; stops when @fn returns other than 0 and returns that. */
int snapshot_each(struct txn *t, int (*fn)(void *ctx, const struct snapshot *s), void *ctx);
/** txn_strip() - nothing stays of the workspace but its snapshots, and of its facts those for which @stays says so. */
int txn_strip(struct txn *t, bool (*stays)(const char *key), struct err *e) MUST_CHECK;

/* --- space comes back (docs/gc.md) -------------------------------------------------------------------------------- */

/* Keeps a tree or a content, with all that is below, while no inode or snapshot is sure to. */
struct store_hold;
/** store_hold_tree() / store_hold_content() - Return: 0; -ESTALE: it is gone or is going to be, whoever read its name
 * has to look again; -errno. Any thread, no transaction needed. */
int store_hold_tree(struct store *store, const struct digest *root, struct store_hold **ret) MUST_CHECK;
int store_hold_content(struct store *store, const struct content *c, struct store_hold **ret) MUST_CHECK;
void store_hold_free(struct store_hold **hold);
/** store_gc_roots() - contents that others keep in a place of their own: @roots calls @one with each. NULL: none. */
void store_gc_roots(struct store *store,
		    void (*roots)(void *ctx, void (*one)(void *to, const struct content *c), void *to), void *ctx);

struct gc_stats {
	int64_t began_ns;		/* wall clock; 0: there was no run yet */
	uint64_t took_ms, mark_ms;	/* of it */
	uint64_t runs, failed;		/* so far, in this process */
	uint64_t freed, freed_b;	/* objects, bytes of them */
	uint64_t freed_ever, freed_ever_b;
	uint64_t live, live_b;		/* that stay */
	uint64_t shared_b;		/* of those: referred to by more than one workspace */
	uint64_t saved_b;		/* what more they would take if nothing were shared between workspaces */
	bool saved_more;		/* at least that much: to count it all would have taken too long */
	uint64_t snapshots, memory_b;	/* of the mark */
};

enum { GC_EAGER = 1 }; /* without pauses: the disk is full, or somebody waits */

/** store_gc() - delete what nothing refers to; everything goes on meanwhile. May take minutes; a second call waits for
 * the first. Return: 0; -EBUSY slug "gc-busy": a backup or fsck reads everything; -ESHUTDOWN slug "gc-stopped"; -EIO
 * slug "store-damaged": what is referred to is not there, and nothing was deleted; -ENOSPC; -errno. */
int store_gc(struct store *store, unsigned flags, struct gc_stats *ret, struct err *e) MUST_CHECK;
/** store_gc_last() - the last run that came to its end. */
void store_gc_last(struct store *store, struct gc_stats *ret);
/** store_gc_dropped() - how many workspaces and snapshots were removed since the last run began. */
uint64_t store_gc_dropped(struct store *store);
enum gc_want { GC_NOT_WANTED, GC_WANTED, GC_PRESSED /* somebody may wait for it */ };

/** store_gc_wanted() - is it worth a run? There are 4 MiB of garbage or more, and a sixteenth of what is kept, by an
 * estimate that costs nothing: bytes that were replaced since the last run began, and no more than were new. */
enum gc_want store_gc_wanted(struct store *store);
/** store_gc_want() - @fn is called when that becomes so, once before each run. On any thread, which may hold nothing;
 * it must return soon. NULL: nobody. */
void store_gc_want(struct store *store, void (*fn)(void *ctx), void *ctx);
/** store_gc_yield() - wait for the collector, a second at most, when there is more garbage than it gets round
 * to: whoever makes it, before a transaction. No lock may be held. */
void store_gc_yield(struct store *store);
/** store_gc_own() - as of that: bytes that only this workspace refers to, and its snapshots. Return: 0; STORE_E_NONE.
 */
int store_gc_own(struct store *store, const char *id, uint64_t *ret_b, uint64_t *ret_snapshots) MUST_CHECK;
struct gc_held {
	uint64_t begun, done; /* numbers of runs: of the last that began, and of the last that came to its end */
	uint64_t bytes; /* as of that: what it and its snapshots refer to, and none that was looked at before */
	bool collects;	/* store_gc_want() has somebody */
};

/** store_gc_held() - workspaces are looked at in an order of their own, so what several have is told of one of them. */
void store_gc_held(struct store *store, const char *id, struct gc_held *ret);
/** store_gc_ask() - a run is worth it whatever the estimate says, but not soon after one that failed. Nothing when
 * nobody collects (store_gc_want()). No lock may be held. */
void store_gc_ask(struct store *store);
/** store_gc_inhibit() - a run that is under way ends early, none begins until store_gc_allow(). Waits for the run. */
void store_gc_inhibit(struct store *store);
void store_gc_allow(struct store *store);
/** store_gc_stop() - as the last thing: a run that is under way ends early, none begins any more. Does not wait. */
void store_gc_stop(struct store *store);

/* --- health ------------------------------------------------------------------------------------------------------- */

struct fsck_stats {
	uint64_t workspaces, nodes, entries, chunks, bytes, orphans, problems;
};

/** store_fsck() - verify everything: formats, hashes, references from inodes and trees, entries against inodes and the
 * reverse index, link counts, the journal's order. @say is called with one sentence per finding.
 * Return: 0 when it could look at everything (see stats.problems); -errno. */
int store_fsck(struct store *store, void (*say)(void *ctx, const char *words), void *ctx, struct fsck_stats *ret,
	       struct err *e) MUST_CHECK;

struct store_stats {
	uint64_t content_b, content_used_b, chunks, workspaces, queued_b;
	uint64_t map_b; /* most that content_b can become */
};
int store_stat(struct store *store, struct store_stats *ret, struct err *e) MUST_CHECK;

#endif
