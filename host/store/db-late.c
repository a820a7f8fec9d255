/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits. An environment lags while commits are not synced one by one (docs/decisions/009). The last state that is
 * durable is noted in a file (back.h) and pinned by a read transaction, so that LMDB writes over none of its pages.
 * db_sync() makes the present state durable and notes it in the place of the older one. When that fails, or a commit
 * that has to be durable, all that was committed since goes: the environment is opened anew as it was noted.
 *
 * Order of locks: LMDB's one for writers, then sync_lock (somebody waits for the disk), then commit_lock (somebody
 * commits, or looks which state is the newest), then lock. conf.first is called below sync_lock: it syncs another
 * environment.
 */
#include "base/clock.h"
#include "host/store/db-inside.h"
#include "host/store/pace.h"

#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Pin the present state and copy the page that names it. Nobody commits meanwhile. */
static int pin_state(struct db *db, MDB_txn **ret, uint8_t meta[BACK_META_B], unsigned *ret_slot, size_t *ret_page_b)
{
	enum { TXNID_AT = 144 }; /* what we believe of LMDB's layout is looked at before it is relied on */
	uint64_t id, is;
	MDB_stat st;
	int fd, r = mdb_env_stat(db->env, &st);

	if (r == 0)
		r = mdb_env_get_fd(db->env, &fd);
	if (r == 0)
		r = mdb_txn_begin(db->env, NULL, MDB_RDONLY, ret);
	if (r)
		return db_translate(r);
	id = mdb_txn_id(*ret);
	*ret_slot = id & 1;
	*ret_page_b = st.ms_psize;
	if (pread(fd, meta, BACK_META_B, (off_t)(*ret_slot * st.ms_psize)) != BACK_META_B)
		r = -EIO;
	memcpy(&is, meta + TXNID_AT, sizeof(is));
	if (r == 0 && is != id)
		r = -EPROTO;
	if (r) {
		mdb_txn_abort(*ret);
		*ret = NULL;
	}
	return r;
}

/* Note and pin the present state, which is durable, in the place of the one before. sync_lock is held, or nobody else
 * is there. */
static int note_state(struct db *db, MDB_txn **pin, const uint8_t *meta, unsigned slot, size_t page_b)
{
	int r = db->back ? 0 : back_open(db->path, &db->back);

	if (r == 0)
		r = back_note(db->back, meta, slot, page_b);
	if (r == 0 && db->pin)
		mdb_txn_abort(db->pin);
	if (r == 0)
		db->pin = take(pin);
	return r;
}

int db_pin_noted(struct db *db)
{
	uint8_t meta[BACK_META_B];
	unsigned slot;
	size_t page_b;
	int r = pin_state(db, &db->pin, meta, &slot, &page_b);

	db->must_go_back = r != 0;
	return r;
}

/* LMDB calls a short write EIO; on a full disk the first failing write is a short one. */
static int name_full_disk(struct db *db, int r)
{
	enum { NEARLY_NOTHING = 1 << 20 };
	struct statvfs st;
	int fd;

	if (r == -EIO && mdb_env_get_fd(db->env, &fd) == 0 && fstatvfs(fd, &st) == 0 &&
	    st.f_bavail * st.f_frsize < NEARLY_NOTHING)
		return -ENOSPC;
	return r;
}

void db_give_up(struct db *db)
{
	lock_take(&db->commit_lock);
	lock_take(&db->lock);
	if (db->is_lagging && !db->must_go_back) {
		db->went_back++;
		db->must_go_back = db->is_broken = true;
		db->synced = db->commits;
	}
	lock_drop(&db->lock);
	lock_drop(&db->commit_lock);
}

uint64_t db_went_back(struct db *db)
{
	uint64_t n;

	lock_take(&db->lock);
	n = db->went_back;
	lock_drop(&db->lock);
	return n;
}

static bool is_void(struct db *db)
{
	bool is;

	lock_take(&db->lock);
	is = db->must_go_back;
	lock_drop(&db->lock);
	return is;
}

/* In the write transaction: from now on it lags, when it does not already. */
static int lag_begin(struct db *db)
{
	uint8_t meta[BACK_META_B];
	MDB_txn *pin = NULL;
	unsigned slot;
	size_t page_b;
	int r = 0;

	lock_take(&db->sync_lock);
	if (!db->is_lagging) {
		r = pin_state(db, &pin, meta, &slot, &page_b);
		if (r == 0)
			r = note_state(db, &pin, meta, slot, page_b);
		if (pin)
			mdb_txn_abort(pin);
		if (r == 0) {
			lock_take(&db->commit_lock);
			db->is_lagging = true;
			lock_drop(&db->commit_lock);
		}
	}
	lock_drop(&db->sync_lock);
	return r;
}

/* commit_lock is held. */
static int commit_now(struct db *db, MDB_txn *txn)
{
	int r;

	if (db->is_lagging && is_void(db)) {
		mdb_txn_abort(txn);
		return -EIO;
	}
	mdb_env_set_flags(db->env, MDB_NOSYNC, db->is_lagging);
	pace_begin();
	r = mdb_txn_commit(txn);
	pace_end();
	r = name_full_disk(db, db_translate(r));
	db->commits += r == 0 && db->is_lagging;
	return r;
}

/* What this environment names in another one is durable. */
static int first(struct db *db)
{
	return db->conf.first ? db->conf.first(db->conf.first_ctx) : 0;
}

/* sync_lock is held. */
static int sync_now(struct db *db)
{
	uint8_t meta[BACK_META_B];
	MDB_txn *pin = NULL;
	uint64_t commits;
	unsigned slot;
	size_t page_b;
	int r;

	lock_take(&db->commit_lock);
	commits = db->commits;
	r = pin_state(db, &pin, meta, &slot, &page_b);
	lock_drop(&db->commit_lock);
	if (r == 0)
		r = first(db);
	if (r == 0)
		r = db_translate(mdb_env_sync(db->env, 1));
	if (r == 0)
		r = note_state(db, &pin, meta, slot, page_b);
	if (pin)
		mdb_txn_abort(pin);
	if (r == 0) {
		lock_take(&db->commit_lock);
		db->synced = commits;
		lock_drop(&db->commit_lock);
	}
	return r;
}

static bool has_lag(struct db *db, uint64_t upto)
{
	bool has;

	lock_take(&db->commit_lock);
	has = db->is_lagging && db->synced < MIN(upto, db->commits);
	lock_drop(&db->commit_lock);
	return has;
}

uint64_t db_commits(struct db *db, uint64_t *ret_durable)
{
	uint64_t n;

	lock_take(&db->commit_lock);
	n = db->commits;
	*ret_durable = db->synced;
	lock_drop(&db->commit_lock);
	return n;
}

uint64_t db_lag(struct db *db)
{
	uint64_t durable, n = db_commits(db, &durable);

	return n - durable;
}

bool db_is_lagging(struct db *db)
{
	bool is;

	lock_take(&db->commit_lock);
	is = db->is_lagging;
	lock_drop(&db->commit_lock);
	return is;
}

bool db_is_quiet(struct db *db, uint64_t since)
{
	bool is;

	lock_take(&db->commit_lock);
	is = db->is_lagging && db->soon_at < since;
	lock_drop(&db->commit_lock);
	return is;
}

/* So many commits are durable, unless they have become void since it was so often that some did. */
static int sync_upto(struct db *db, uint64_t upto, uint64_t voided)
{
	bool failed = false;
	int r;

	if (!has_lag(db, upto))
		return db_went_back(db) == voided ? 0 : -EIO;
	r = db_enter(db);
	if (r)
		return r;
	lock_take(&db->sync_lock);
	if (db_went_back(db) != voided) {
		r = -EIO;
	} else if (has_lag(db, upto)) { /* else somebody did it while we waited */
		r = sync_now(db);
		failed = r != 0;
	}
	lock_drop(&db->sync_lock);
	if (failed)
		db_give_up(db);
	db_leave(db, false);
	return r;
}

int db_sync(struct db *db)
{
	uint64_t upto, voided;

	lock_take(&db->commit_lock);
	upto = db->commits;
	voided = db_went_back(db);
	lock_drop(&db->commit_lock);
	return sync_upto(db, upto, voided);
}

/* Return: whether the commit need not be durable at once; else, when the environment lags, it is synced behind it. */
static bool take_commit_lock(struct db *db, bool soon)
{
	for (;;) {
		lock_take(&db->commit_lock);
		if (!soon || db->is_lagging)
			return soon;
		lock_drop(&db->commit_lock);
		soon = lag_begin(db) == 0;
	}
}

static int commit(struct db_txn **slot, bool soon)
{
	struct db_txn *t = take(slot);
	struct db *db = t->db;
	uint64_t upto, voided;
	bool lags;
	size_t i;
	int r = t->code;

	if (r || !t->write) {
		db_abort(&t);
		return r;
	}
	for (i = 0; i < DB_TABLES_MAX; i++) {
		if (t->cursors[i])
			mdb_cursor_close(t->cursors[i]);
		t->cursors[i] = NULL;
	}
	soon = take_commit_lock(db, soon);
	if (soon)
		db->soon_at = clock_now();
	lags = db->is_lagging;
	if (!lags) { /* what it names may be that of others who need not wait */
		lock_drop(&db->commit_lock);
		r = first(db);
		lock_take(&db->commit_lock);
	}
	upto = db->commits + 1;
	voided = db_went_back(db);
	if (r == 0)
		r = commit_now(db, t->txn);
	else
		mdb_txn_abort(t->txn);
	lock_drop(&db->commit_lock);
	free(t);
	db_leave(db, false); /* a broken environment shows itself to the next one that begins */
	return r == 0 && lags && !soon ? sync_upto(db, upto, voided) : r;
}

int db_commit(struct db_txn **slot)
{
	return commit(slot, false);
}

int db_commit_soon(struct db_txn **slot)
{
	return commit(slot, true);
}

/* sync_lock is held: all is durable, and the next commit is synced by itself. */
static int calm_now(struct db *db)
{
	int r = 0;

	lock_take(&db->commit_lock);
	if (db->is_lagging && db->synced == db->commits && !is_void(db)) {
		r = back_forget(db->back);
		if (r == 0) {
			db->is_lagging = false;
			mdb_txn_abort(db->pin);
			db->pin = NULL;
		}
	}
	lock_drop(&db->commit_lock);
	return r;
}

int db_calm(struct db *db)
{
	int r = db_sync(db);

	if (r == 0 && !db_is_lagging(db))
		return 0;
	if (r == 0)
		r = db_enter(db);
	if (r)
		return r;
	lock_take(&db->sync_lock);
	r = calm_now(db);
	lock_drop(&db->sync_lock);
	db_leave(db, false);
	return r;
}
