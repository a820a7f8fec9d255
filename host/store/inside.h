/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_INSIDE_H
#define HOST_STORE_INSIDE_H

/* What the files of this room share and nobody else sees. */
#include "base/list.h"
#include "base/lock.h"
#include "base/map.h"
#include "host/store/db.h"
#include "host/store/key.h"
#include "host/store/writer.h"

struct store {
	char *dir;
	int dir_fd, lock_fd;
	struct store_conf conf;
	struct db *content;
	struct writer *writer; /* NULL when the store is read-only */
	struct gc *gc;
	struct late *late;     /* likewise */
	struct lock tell_lock; /* whoever is told that something is void */
	struct lock lock;      /* workspaces and what is mapped */
	struct map workspaces; /* id -> struct wsdb, while somebody has it open or it is mapped */
	struct list removed;   /* of struct wsdb: removed, and somebody has it open still */
	size_t mapped;
	uint64_t uses; /* counts openings of workspaces and mappings, for the least recently used */
};

struct txn {
	struct wsdb *ws; /* borrowed: whoever began it has it open */
	struct db *db; /* borrowed: mapped for the transaction */
	struct db_txn *t;
	bool write;
	unsigned use; /* of a write: gc_use_begin() */
	uint64_t journal_seq; /* last row appended by this transaction, 0: none yet */
	uint64_t journal_b, journal_first; /* with it: bytes of rows; the oldest one when some were forgotten */
	struct digest journal_link, journal_base; /* with it: of the last row; of the last one that was forgotten */
	/* count.c: what a write changed of the figures; rows of names when it began. */
	int64_t stub_names, attrs_b;
	uint64_t rows_before;
	uint64_t dead_b; /* bytes of contents that inodes had before */
	/* The place of entry_next(): where the cursor stands, when no change came between. */
	struct key at;
	bool is_at;
};

/** journal_facts() - what the transaction's rows change of the facts; before the commit. */
void journal_facts(struct txn *t);
/** count_begin() / count_facts() - at the beginning of a transaction; before the commit. */
int count_begin(struct txn *t) MUST_CHECK;
void count_facts(struct txn *t);
/** count_stub() - a stub of this tree came (not by unpacking the one that it was in), or goes. */
void count_stub(struct txn *t, const struct digest *dir, bool gone);
/** count_attrs() - the extended attributes of an inode have other bytes. */
void count_attrs(struct txn *t, size_t was, size_t is);
/** count_kept() - the figures that are kept, for fsck. Return: 0; STORE_E_NONE: none are yet; -errno. */
int count_kept(struct txn *t, uint64_t *ret_stub_names, uint64_t *ret_attrs_b) MUST_CHECK;
/** store_ws_dir() - "DIR/ws/ID" on the heap. */
char *store_ws_dir(const struct store *store, const char *id);
/** store_is_view() - a name of store_each_view(). */
bool store_is_view(const char *name);
/** store_sync_dir() - make the names in a directory durable. Return: 0 or -errno. */
int store_sync_dir(const char *path) MUST_CHECK;
/** store_format_put() / store_format_check() - the version of an environment, in its table @meta.
 * Return: 0; -EPROTO: missing or unknown. */
void store_format_put(struct db_txn *t, size_t meta);
int store_format_check(struct db_txn *t, size_t meta) MUST_CHECK;

/** wsdb_removed() - those that were removed and that somebody has open still: opened for the caller, from the one
 * behind @after (NULL: the first). NULL at the end. @after is closed. */
struct wsdb *wsdb_removed(struct store *store, struct wsdb *after);
/** wsdb_store() - the store that a workspace belongs to. */
struct store *wsdb_store(struct wsdb *ws);
/** wsdb_map() - map the environment when it is not and keep it mapped until wsdb_unmap(). Return: 0 or -errno. */
int wsdb_map(struct wsdb *ws, struct db **ret, struct err *e) MUST_CHECK;
void wsdb_unmap(struct wsdb *ws);
/** wsdb_mapped() - those that are mapped, or were closed and nobody was told that they are durable, at most @room:
 * opened for the caller. Return: how many. */
size_t wsdb_mapped(struct store *store, struct wsdb **to, size_t room);
/** wsdb_settle() - as wsdb_sync(), for nobody; as db_calm() where nothing was committed "soon" since @quiet_since.
 * Return: 0 or -errno. */
int wsdb_settle(struct wsdb *ws, uint64_t quiet_since) MUST_CHECK;
/** wsdb_begins() - a write transaction begins: when all that is there is durable, no contents that are named are void.
 */
void wsdb_begins(struct wsdb *ws, struct db *db);
/** wsdb_look() - when something became void, tell whoever changes it. No locks from LOCK_STORE on. */
void wsdb_look(struct wsdb *ws, struct db *db);
/** store_sync_contents() - all contents that were handed over and committed are durable. Return: 0; -errno: void. */
int store_sync_contents(struct store *store) MUST_CHECK;
/** late.c: the thread that makes durable what was committed "soon". late_tell(): there is something; @now: much. */
struct late;
int late_start(struct store *store, struct late **ret, struct err *e) MUST_CHECK;
void late_stop(struct late **late);
void late_tell(struct late *late, bool now);
/** wsdb_close_all() - close what is mapped but not open; asserts that nobody has one open. */
void wsdb_close_all(struct store *store);
/** txn_fail() - stick @code to the transaction. */
static inline void txn_fail(struct txn *t, int code)
{
	db_fail(t->t, code);
}
/** txn_mark() - @fid changed in this transaction: tree_seal() has to look at it. */
void txn_mark(struct txn *t, uint64_t fid);

/* A view of objects, those in the environment and those still queued. What view_get() yields lives until view_end(). */
struct view {
	struct store *store;
	struct db_txn *t;
	struct view_copy *copies;
};

/** view_begin() - Return: 0 or -errno. */
int view_begin(struct view *v, struct store *store) MUST_CHECK;
void view_end(struct view *v);
/** view_get() - Return: 0; -EIO: the object is nowhere, or damaged (@verify). */
int view_get(struct view *v, enum content_table table, const struct digest *d, bool verify,
	     struct span *ret) MUST_CHECK;
/** object_digest() - the name of an object. */
struct digest object_digest(enum content_table table, struct span data);
struct gc_writer;
/** object_put_named() - hand an object over whose name is known. As object_put(). */
int object_put_named(struct store *store, enum content_table table, const struct digest *d, struct span data,
		     uint64_t epoch, struct gc_writer *w, bool *ret_new) MUST_CHECK;
/** chunk_digests() - the names of @n chunks, at most DIGEST_MANY, all of the same length. */
void chunk_digests(const struct span *data, size_t n, struct digest *ret);
/** object_put() - hash and hand an object over. @ret_new: whether the store did not have it yet; may be NULL. The
 * caller is a content writer (@w) or in a use (gc.h). Return: 0 or -errno. */
int object_put(struct store *store, enum content_table table, struct span data, uint64_t epoch, struct gc_writer *w,
	       bool *ret_new, struct digest *ret) MUST_CHECK;

#endif
