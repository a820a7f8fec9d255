/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of workspaces. A struct wsdb is there while somebody has it open or its environment is mapped; so a second
 * open finds the first, and LMDB's rule that a process opens a file once is kept. Mapped is not the same as open: every
 * transaction maps the environment when it must (wsdb_map) and says when it is done, and when MAPPED_MAX are mapped the
 * one that was used the longest ago, and by nobody now, is closed. A process has address space for 2,000 maps at most.
 *
 * Locks: store->lock guards the table and every change of ws->db; ws->lock guards busy against it. Whoever holds
 * ws->lock and sees a mapped environment may count itself in without the table's lock: that is the way of nearly all
 * transactions.
 */
#include "host/store/gc.h"
#include "host/store/migrate.h"

#include "base/str.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAPPED_MAX = 256, ID_MAX = 64 };

struct wsdb {
	struct store *store; /* borrowed */
	char *id;
	unsigned refs;	    /* store->lock */
	uint64_t last_open; /* store->lock: store->uses when it was mapped or opened */
	struct lock lock;   /* busy, db against eviction */
	struct db *db;	    /* NULL: not mapped */
	unsigned busy;	    /* transactions under way */
	uint64_t void_seen;    /* lock: how often it went back and whoever changes it was told */
	uint64_t void_told;    /* lock: and on_void was called */
	uint64_t
		content_void; /* lock: how often the contents had gone back when the first was named that may be void */
	void (*on_void)(void *ctx); /* store->tell_lock, like the next */
	void *on_void_ctx;
	void (*on_settled)(void *ctx);
	void *on_settled_ctx;
	bool untold; /* lock: it was made durable to be closed, and nobody called on_settled */
	bool removed;	    /* store->lock: its files are gone and it is in no table, somebody still has it open */
	struct list node;   /* store->lock: of those */
};

struct store *wsdb_store(struct wsdb *ws)
{
	return ws->store;
}

static int check_id(const char *id, struct err *e)
{
	return str_is_id(id, ID_MAX) || store_is_view(id)
		       ? 0
		       : err_set(e, -EINVAL, "bad-workspace-id", "not an id of a workspace");
}

/* What is not durable yet names contents that may not be either: these come first. When they went back, so must this.
 */
static int contents_first(void *ctx)
{
	struct wsdb *ws = ctx;
	uint64_t voided;
	int r = store_sync_contents(ws->store);

	voided = db_went_back(ws->store->content);
	lock_take(&ws->lock);
	if (r == 0 && voided != ws->content_void)
		r = -EIO;
	ws->content_void = voided;
	lock_drop(&ws->lock);
	return r;
}

void wsdb_begins(struct wsdb *ws, struct db *db)
{
	uint64_t voided;

	if (db_lag(db))
		return;
	voided = db_went_back(ws->store->content);
	lock_take(&ws->lock);
	ws->content_void = voided;
	lock_drop(&ws->lock);
}

/* @ws: NULL while it is being made. */
static int open_env(struct store *store, const char *name, struct wsdb *ws, struct db **ret, struct err *e)
{
	AUTO(str_free) char *path = store_ws_dir(store, name);
	struct db_conf conf = { .path = path,
				.map_size_b = store->conf.map_size_b,
				.tables = ws_tables,
				.n_tables = WT_TABLES,
				.first = ws && store->writer ? contents_first : NULL,
				.first_ctx = ws,
				.read_only = store->conf.read_only };
	AUTO(db_close) struct db *db = NULL;
	AUTO(db_abort) struct db_txn *t = NULL;
	int r;

	if (access(path, F_OK) < 0)
		return err_set(e, -ENOENT, "no-such-workspace", "there is no workspace %s", name);
	r = db_open(&conf, &db, e);
	if (r)
		return r;
	if (!ws) {
		r = db_begin(db, true, &t, e);
		if (r)
			return r;
		store_format_put(t, WT_META);
		r = db_commit(&t);
		if (r)
			return err_sys(e, r, "open workspace %s", name);
	} else {
		r = store_format_raise(db, WT_META, false, store->conf.read_only, e);
		if (r)
			return err_wrap(e, "workspace %s", name);
	}
	*ret = take(&db);
	return 0;
}

static int sync_ws(struct store *store)
{
	AUTO(str_free) char *path = str_printf("%s/ws", store->dir);

	return store_sync_dir(path);
}

/* Make the environment under a name with a dot, then give it its own. Under store->lock. */
static int create(struct store *store, const char *id, struct err *e)
{
	AUTO(str_free) char *temp = str_printf(".new-%s", id);
	AUTO(str_free) char *from = store_ws_dir(store, temp);
	AUTO(str_free) char *to = store_ws_dir(store, id);
	struct db *db = NULL;
	int r;

	if (store->conf.read_only)
		return err_set(e, -EROFS, "erofs", "the store is open for reading only");
	if (access(to, F_OK) == 0)
		return err_set(e, -EEXIST, "workspace-exists", "there is a workspace %s", id);
	if (mkdir(from, 0750) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "make workspace %s", id);
	r = open_env(store, temp, NULL, &db, e);
	db_close(&db);
	if (r)
		return r;
	r = store_sync_dir(from);
	if (r == 0 && rename(from, to) < 0)
		r = -errno;
	if (r == 0)
		r = sync_ws(store);
	return r ? err_sys(e, r, "make workspace %s", id) : 0;
}

static void destroy(struct wsdb *ws)
{
	list_remove(&ws->node);
	if (!ws->removed)
		map_remove(&ws->store->workspaces, span_str(ws->id));
	if (ws->db)
		ws->store->mapped--;
	db_close(&ws->db);
	lock_fini(&ws->lock);
	str_free(&ws->id);
	free(ws);
}

/* The one that was used the longest ago, and by nobody now; of those that lag, or of the others. Under store->lock. */
static struct wsdb *idle_longest(struct store *store, bool lagging)
{
	struct wsdb *oldest = NULL;
	struct map_slot *slot;
	size_t pos = 0;

	while ((slot = map_next(&store->workspaces, &pos))) {
		struct wsdb *ws = slot->value;
		bool idle;

		lock_take(&ws->lock);
		idle = ws->db && !ws->busy;
		lock_drop(&ws->lock);
		if (idle && (!oldest || ws->last_open < oldest->last_open) && db_is_lagging(ws->db) == lagging)
			oldest = ws;
	}
	return oldest;
}

/* Somebody waits for what is in it to be durable. What cannot be made so stays open: there it becomes void, and that
 * is told. */
static int settle_to_close(struct wsdb *ws)
{
	int r = db_calm(ws->db);

	lock_take(&ws->lock);
	ws->untold = true;
	lock_drop(&ws->lock);
	late_tell(ws->store->late, true);
	return r;
}

/* Close an environment. Under store->lock. Return: false: all are busy. */
static bool evict(struct store *store)
{
	struct wsdb *oldest = idle_longest(store, false);
	struct db *db;

	if (!oldest) {
		oldest = idle_longest(store, true);
		if (oldest)
			return settle_to_close(oldest) == 0;
		return false;
	}
	lock_take(&oldest->lock);
	db = oldest->busy ? NULL : take(&oldest->db);
	lock_drop(&oldest->lock);
	if (db) {
		store->mapped--;
		db_close(&db);
		if (!oldest->refs)
			destroy(oldest);
	}
	return true;
}

/* Under store->lock. */
static int map_env(struct wsdb *ws, struct err *e)
{
	uint64_t voided;
	struct db *db;
	int r;

	if (ws->removed)
		return err_set(e, -ENOENT, "no-such-workspace", "workspace %s was removed", ws->id);
	while (ws->store->mapped >= MAPPED_MAX)
		if (!evict(ws->store))
			return err_set(e, -EMFILE, "too-many-workspaces", "%d workspaces are busy at once", MAPPED_MAX);
	r = open_env(ws->store, ws->id, ws, &db, e);
	if (r)
		return r;
	voided = db_went_back(ws->store->content);
	ws->store->mapped++;
	ws->last_open = ++ws->store->uses;
	lock_take(&ws->lock);
	ws->db = db;
	ws->void_seen = ws->void_told = 0;
	ws->content_void = voided;
	lock_drop(&ws->lock);
	return 0;
}

static bool map_fast(struct wsdb *ws, struct db **ret)
{
	bool mapped;

	lock_take(&ws->lock);
	mapped = ws->db != NULL;
	if (mapped) {
		ws->busy++;
		*ret = ws->db;
	}
	lock_drop(&ws->lock);
	return mapped;
}

int wsdb_map(struct wsdb *ws, struct db **ret, struct err *e)
{
	int r = 0;

	if (map_fast(ws, ret))
		return 0;
	lock_take(&ws->store->lock);
	if (!map_fast(ws, ret)) {
		r = map_env(ws, e);
		if (r == 0 && !map_fast(ws, ret))
			r = -EIO;
	}
	lock_drop(&ws->store->lock);
	return r;
}

void wsdb_unmap(struct wsdb *ws)
{
	lock_take(&ws->lock);
	assert(ws->busy);
	ws->busy--;
	lock_drop(&ws->lock);
}

static struct wsdb *wsdb_new(struct store *store, const char *id)
{
	struct wsdb *ws = NEW(struct wsdb);

	ws->store = store;
	ws->id = must_strdup(id);
	list_init(&ws->node);
	lock_init(&ws->lock, "workspace-map", LOCK_LEAF);
	map_put(&store->workspaces, span_str(id), ws);
	return ws;
}

static int open_locked(struct store *store, const char *id, bool want_new, struct wsdb **ret, struct err *e)
{
	struct wsdb *ws;
	int r;

	if (want_new) {
		r = create(store, id, e);
		if (r)
			return r;
	}
	ws = map_get(&store->workspaces, span_str(id));
	if (!ws)
		ws = wsdb_new(store, id);
	if (!ws->db) {
		r = map_env(ws, e);
		if (r) {
			if (!ws->refs)
				destroy(ws);
			return r;
		}
	}
	ws->refs++;
	ws->last_open = ++store->uses;
	*ret = ws;
	return 0;
}

int wsdb_open(struct store *store, const char *id, bool create_new, struct wsdb **ret, struct err *e)
{
	int r = check_id(id, e);

	if (r)
		return r;
	lock_take(&store->lock);
	r = open_locked(store, id, create_new, ret, e);
	lock_drop(&store->lock);
	return r;
}

void wsdb_close(struct wsdb **slot)
{
	struct wsdb *ws = take(slot);
	struct store *store;

	if (!ws)
		return;
	store = ws->store;
	lock_take(&store->lock);
	assert(ws->refs);
	ws->last_open = ++store->uses;
	if (--ws->refs == 0 && (!ws->db || ws->removed))
		destroy(ws);
	lock_drop(&store->lock);
}

size_t wsdb_mapped(struct store *store, struct wsdb **to, size_t room)
{
	struct map_slot *slot;
	size_t pos = 0, n = 0;
	bool concerned;

	lock_take(&store->lock);
	while (n < room && (slot = map_next(&store->workspaces, &pos))) {
		struct wsdb *ws = slot->value;

		lock_take(&ws->lock);
		concerned = ws->db || ws->untold;
		lock_drop(&ws->lock);
		if (!concerned)
			continue;
		ws->refs++;
		to[n++] = ws;
	}
	lock_drop(&store->lock);
	return n;
}

/* Was something void that nobody was told of yet? */
static bool was_void(struct wsdb *ws, struct db *db)
{
	uint64_t voided = db_went_back(db);
	bool was;

	lock_take(&ws->lock);
	was = ws->void_seen != voided;
	ws->void_seen = voided;
	lock_drop(&ws->lock);
	return was;
}

void wsdb_look(struct wsdb *ws, struct db *db)
{
	uint64_t voided = db_went_back(db);
	bool is_new;

	lock_take(&ws->lock);
	is_new = ws->void_told != voided;
	ws->void_told = voided;
	lock_drop(&ws->lock);
	if (!is_new)
		return;
	lock_take(&ws->store->tell_lock);
	if (ws->on_void)
		ws->on_void(ws->on_void_ctx);
	lock_drop(&ws->store->tell_lock);
}

static int sync_env(struct wsdb *ws, bool tells, struct err *e)
{
	struct db *db;
	int r = wsdb_map(ws, &db, e);

	if (r)
		return r;
	r = db_sync(db);
	if (tells && was_void(ws, db))
		r = -EIO;
	wsdb_look(ws, db);
	wsdb_unmap(ws);
	return r ? err_sys(e, r, "make workspace %s durable; what was not is void", ws->id) : 0;
}

int wsdb_sync(struct wsdb *ws, struct err *e)
{
	return sync_env(ws, true, e);
}

int wsdb_flush(struct wsdb *ws, struct err *e)
{
	return sync_env(ws, false, e);
}

bool wsdb_is_lagging(struct wsdb *ws)
{
	struct db *db;
	bool is;

	if (!map_fast(ws, &db)) /* one that is not mapped is durable */
		return false;
	is = db_is_lagging(db);
	wsdb_unmap(ws);
	return is;
}

void wsdb_late(struct wsdb *ws, struct wsdb_late *ret)
{
	struct db *db;

	*ret = (struct wsdb_late){ .commits = 0 };
	if (!map_fast(ws, &db))
		return;
	ret->voided = db_went_back(db);
	ret->commits = db_commits(db, &ret->durable);
	wsdb_unmap(ws);
}

int wsdb_settle(struct wsdb *ws, uint64_t quiet_since)
{
	struct db *db;
	int r = 0;

	lock_take(&ws->lock);
	ws->untold = false;
	lock_drop(&ws->lock);
	if (map_fast(ws, &db)) {
		r = db_is_quiet(db, quiet_since) ? db_calm(db) : db_sync(db);
		wsdb_look(ws, db);
		wsdb_unmap(ws);
	}
	lock_take(&ws->store->tell_lock);
	if (ws->on_settled)
		ws->on_settled(ws->on_settled_ctx);
	lock_drop(&ws->store->tell_lock);
	return r;
}

void wsdb_on_settled(struct wsdb *ws, void (*fn)(void *ctx), void *ctx)
{
	lock_take(&ws->store->tell_lock);
	ws->on_settled = fn;
	ws->on_settled_ctx = ctx;
	lock_drop(&ws->store->tell_lock);
}

void wsdb_on_void(struct wsdb *ws, void (*fn)(void *ctx), void *ctx)
{
	lock_take(&ws->store->tell_lock);
	ws->on_void = fn;
	ws->on_void_ctx = ctx;
	lock_drop(&ws->store->tell_lock);
}

struct wsdb *wsdb_removed(struct store *store, struct wsdb *after)
{
	struct list *next;
	struct wsdb *ws = NULL;

	lock_take(&store->lock);
	next = after ? after->node.next : store->removed.next;
	if (next != &store->removed) {
		ws = list_entry(next, struct wsdb, node);
		ws->refs++;
	}
	lock_drop(&store->lock);
	wsdb_close(&after);
	return ws;
}

void wsdb_close_all(struct store *store)
{
	struct wsdb *ws;

	lock_take(&store->lock);
	while ((ws = map_take_any(&store->workspaces))) {
		assert(!ws->refs && !ws->busy);
		destroy(ws);
	}
	lock_drop(&store->lock);
}

static int remove_locked(struct store *store, const char *id, struct err *e)
{
	AUTO(str_free) char *path = store_ws_dir(store, id);
	AUTO(str_free) char *temp = str_printf("%s/ws/.old-%s", store->dir, id);
	AUTO(str_free) char *data = str_printf("%s/data.mdb", temp);
	AUTO(str_free) char *lock = str_printf("%s/lock.mdb", temp);
	AUTO(str_free) char *back = str_printf("%s/back", temp);
	struct wsdb *ws = map_get(&store->workspaces, span_str(id));
	int r;

	if (store->conf.read_only)
		return err_set(e, -EROFS, "erofs", "the store is open for reading only");
	if (rename(path, temp) < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-such-workspace", "there is no workspace %s", id)
				       : err_sys(e, -errno, "remove workspace %s", id);
	if (ws && ws->refs) { /* who has it open goes on with files that have no name */
		map_remove(&store->workspaces, span_str(id));
		ws->removed = true;
		list_append(&store->removed, &ws->node);
	} else if (ws) {
		destroy(ws);
	}
	r = sync_ws(store);
	if (r)
		return err_sys(e, r, "remove workspace %s", id);
	/* What fails from here on is swept when the store is opened again. */
	unlink(data);
	unlink(lock);
	unlink(back);
	rmdir(temp);
	return 0;
}

int wsdb_remove(struct store *store, const char *id, struct err *e)
{
	int r = check_id(id, e);

	if (r)
		return r;
	lock_take(&store->lock);
	r = remove_locked(store, id, e);
	lock_drop(&store->lock);
	if (r == 0)
		gc_dropped(store->gc);
	return r;
}
