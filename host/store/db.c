/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An environment is opened with NOTLS (a read transaction belongs to an object, not to a thread), NORDAHEAD (the tables
 * are bigger than memory and read at random), never with WRITEMAP (a stray pointer would reach the file, a full disk
 * would be a SIGBUS), and with both fsyncs of a commit: a reader that sees a state may rely on its being durable.
 *
 * Read transactions are kept when they end: reset, so that they pin no pages, and renewed for the next caller, which
 * costs a store into their slot of the reader table. Their cursors are kept with them.
 *
 * A write transaction remembers its first failure. LMDB itself would let some later calls succeed and refuse others.
 *
 * When the disk fails while LMDB writes the page that makes a commit valid, it gives the environment up for good: no
 * transaction begins any more, not even for reading. Then the environment is opened anew, as soon as nobody is in a
 * transaction of the old one: what was committed is there, the commit that failed is not, and readers go on although
 * the disk may still refuse every write.
 */
#include "host/store/db-inside.h"
#include "host/store/pace.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

enum { DB_REOPEN_MS = 2000 };

int db_translate(int r)
{
	switch (r) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return DB_E_NONE;
	case MDB_KEYEXIST:
		return DB_E_EXISTS;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_TXN_FULL:
		return -E2BIG;
	case MDB_READERS_FULL:
		return -EAGAIN;
	case MDB_BAD_VALSIZE:
		return -EINVAL;
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EPROTO;
	default:
		return r > 0 ? -r : -EIO;
	}
}

static MDB_val val_of(struct span s)
{
	/* LMDB only reads through the pointers that we give it. */
	return (MDB_val){ .mv_size = s.len, .mv_data = (void *)(uintptr_t)s.p };
}

static int open_tables(struct db *db)
{
	const struct db_conf *conf = &db->conf;
	MDB_txn *txn = NULL;
	size_t i;
	int r;

	r = mdb_txn_begin(db->env, NULL, conf->read_only ? MDB_RDONLY : 0, &txn);
	for (i = 0; i < conf->n_tables && r == 0; i++)
		r = mdb_dbi_open(txn, conf->tables[i], conf->read_only ? 0 : MDB_CREATE, &db->tables[i]);
	if (r) {
		if (txn)
			mdb_txn_abort(txn);
		return r == MDB_NOTFOUND ? -EPROTO : db_translate(r);
	}
	db->n_tables = conf->n_tables;
	return db_translate(mdb_txn_commit(txn));
}

static int env_open(struct db *db)
{
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (db->read_only ? MDB_RDONLY : 0U);
	int r = mdb_env_create(&db->env), dead;

	if (r == 0)
		r = mdb_env_set_mapsize(db->env, db->conf.map_size_b);
	if (r == 0)
		r = mdb_env_set_maxreaders(db->env, DB_READERS_MAX);
	if (r == 0)
		r = mdb_env_set_maxdbs(db->env, DB_TABLES_MAX);
	if (r == 0)
		r = mdb_env_open(db->env, db->path, flags, 0640);
	if (r == 0)
		r = mdb_reader_check(db->env, &dead);
	return db_translate(r);
}

int db_open(const struct db_conf *conf, struct db **ret, struct err *e)
{
	AUTO(db_close) struct db *db = NEW(struct db);
	int r;

	if (conf->n_tables > DB_TABLES_MAX)
		return err_set(e, -EINVAL, "einval", "too many tables");
	lock_init(&db->lock, "db", LOCK_LEAF);
	lock_init(&db->sync_lock, "db-sync", conf->first ? LOCK_STORE_SYNC_WS : LOCK_STORE_SYNC);
	lock_init(&db->commit_lock, "db-commit", LOCK_STORE_COMMIT);
	db->read_only = conf->read_only;
	db->conf = *conf;
	db->path = must_strdup(conf->path);
	r = back_recover(conf->path, conf->read_only, e);
	if (r)
		return r;
	r = env_open(db);
	if (r)
		return err_sys(e, r, "open %s", conf->path);
	r = open_tables(db);
	if (r)
		return err_sys(e, r, "open the tables of %s", conf->path);
	*ret = take(&db);
	return 0;
}

static void txn_destroy(struct db_txn *t)
{
	size_t i;

	for (i = 0; i < DB_TABLES_MAX; i++)
		if (t->cursors[i])
			mdb_cursor_close(t->cursors[i]);
	if (t->txn)
		mdb_txn_abort(t->txn);
	free(t);
}

static void env_close(struct db *db)
{
	while (db->n_idle)
		txn_destroy(db->idle[--db->n_idle]);
	if (db->pin)
		mdb_txn_abort(db->pin);
	db->pin = NULL;
	if (db->env)
		mdb_env_close(db->env);
	db->env = NULL;
}

void db_close(struct db **slot)
{
	struct db *db = take(slot);

	if (!db)
		return;
	if (db->is_lagging)
		(void)!db_calm(db); /* else whoever opens it next has to */
	env_close(db);
	if (db->must_go_back)
		(void)!back_go(db->back);
	back_close(&db->back);
	lock_fini(&db->commit_lock);
	lock_fini(&db->sync_lock);
	lock_fini(&db->lock);
	free(db->path);
	free(db);
}

/* One try to open the environment anew; the lock is held. Return: 0; -EBUSY, somebody is in a transaction; -errno. */
static int reopen(struct db *db)
{
	int r = 0;

	if (!db->is_broken)
		return 0;
	if (db->live)
		return -EBUSY;
	env_close(db);
	if (db->must_go_back)
		r = back_go(db->back);
	if (r == 0)
		r = env_open(db);
	if (r == 0)
		r = open_tables(db);
	if (r == 0 && db->must_go_back)
		r = db_pin_noted(db);
	db->is_broken = r != 0;
	return r;
}

int db_enter(struct db *db)
{
	const struct timespec nap = { .tv_nsec = 1000000 };
	uint64_t until = clock_after_ms(DB_REOPEN_MS);
	int r;

	for (;;) {
		lock_take(&db->lock);
		r = reopen(db);
		if (r == 0)
			db->live++;
		lock_drop(&db->lock);
		if (r != -EBUSY || clock_now() > until)
			return r ? -EIO : 0;
		nanosleep(&nap, NULL);
	}
}

void db_leave(struct db *db, bool broken)
{
	lock_take(&db->lock);
	db->live--;
	db->is_broken |= broken;
	lock_drop(&db->lock);
}

/* An idle read transaction, renewed; NULL when there is none. */
static struct db_txn *reuse(struct db *db)
{
	struct db_txn *t = NULL;

	lock_take(&db->lock);
	if (db->n_idle)
		t = db->idle[--db->n_idle];
	lock_drop(&db->lock);
	if (t && mdb_txn_renew(t->txn)) {
		txn_destroy(t);
		return NULL;
	}
	return t;
}

static int begin_once(struct db *db, bool write, MDB_txn **ret)
{
	int dead, r = mdb_txn_begin(db->env, NULL, write ? 0 : MDB_RDONLY, ret);

	if (r == MDB_READERS_FULL && mdb_reader_check(db->env, &dead) == 0)
		r = mdb_txn_begin(db->env, NULL, MDB_RDONLY, ret);
	return r;
}

int db_begin(struct db *db, bool write, struct db_txn **ret, struct err *e)
{
	struct db_txn *t;
	int r, tries;

	if (write && db->read_only)
		return err_set(e, -EROFS, "erofs", "the store is open for reading only");
	r = db_enter(db);
	t = r || write ? NULL : reuse(db);
	if (t) {
		*ret = t;
		return 0;
	}
	if (r)
		return err_sys(e, r, "begin a transaction");
	t = NEW(struct db_txn);
	t->db = db;
	t->write = write;
	for (tries = 0; (r = begin_once(db, write, &t->txn)) == MDB_PANIC && tries < 2; tries++) {
		db_give_up(db);
		db_leave(db, true);
		r = db_enter(db);
		if (r) {
			free(t);
			return err_sys(e, r, "begin a transaction");
		}
	}
	if (r) {
		db_leave(db, false);
		free(t);
		return err_sys(e, db_translate(r), "begin a transaction");
	}
	*ret = t;
	return 0;
}

static void end_read(struct db_txn *t)
{
	struct db *db = t->db;
	bool kept;

	mdb_txn_reset(t->txn);
	memset(t->bound, 0, sizeof(t->bound));
	t->code = 0;
	lock_take(&db->lock);
	kept = db->n_idle < DB_IDLE_MAX && !db->is_broken;
	if (kept) {
		db->idle[db->n_idle++] = t;
		db->live--;
	}
	lock_drop(&db->lock);
	if (!kept) {
		txn_destroy(t);
		db_leave(db, false);
	}
}

void db_abort(struct db_txn **slot)
{
	struct db_txn *t = take(slot);

	if (!t)
		return;
	if (t->write) {
		struct db *db = t->db;

		txn_destroy(t);
		db_leave(db, false);
	} else {
		end_read(t);
	}
}

int db_fail(struct db_txn *t, int code)
{
	if (!t->code)
		t->code = code;
	return t->code;
}

int db_failed(const struct db_txn *t)
{
	return t->code;
}

uint64_t db_txn_id(const struct db_txn *t)
{
	return mdb_txn_id(t->txn);
}

int db_get(struct db_txn *t, size_t table, struct span key, struct span *ret)
{
	MDB_val k = val_of(key), v;
	int r;

	if (t->code)
		return t->code;
	r = db_translate(mdb_get(t->txn, t->db->tables[table], &k, &v));
	if (r == 0)
		*ret = SPAN(v.mv_data, v.mv_size);
	return r < 0 ? db_fail(t, r) : r;
}

int db_put(struct db_txn *t, size_t table, struct span key, struct span value, enum db_put_how how)
{
	static const unsigned flags[] = {
		[DB_PUT_SET] = 0, [DB_PUT_NEW] = MDB_NOOVERWRITE, [DB_PUT_APPEND] = MDB_APPEND
	};
	MDB_val k = val_of(key), v = val_of(value);
	int r;

	if (t->code)
		return t->code;
	pace_begin(); /* a transaction that has become large writes pages before its end */
	r = db_translate(mdb_put(t->txn, t->db->tables[table], &k, &v, flags[how]));
	pace_end();
	if (r == DB_E_EXISTS && how == DB_PUT_APPEND)
		r = -EIO;
	return r < 0 ? db_fail(t, r) : r;
}

int db_del(struct db_txn *t, size_t table, struct span key)
{
	MDB_val k = val_of(key);
	int r;

	if (t->code)
		return t->code;
	r = db_translate(mdb_del(t->txn, t->db->tables[table], &k, NULL));
	return r < 0 ? db_fail(t, r) : r;
}

int db_clear(struct db_txn *t, size_t table)
{
	int r;

	if (t->code)
		return t->code;
	r = db_translate(mdb_drop(t->txn, t->db->tables[table], 0));
	return r < 0 ? db_fail(t, r) : r;
}

static int bind_cursor(struct db_txn *t, size_t table)
{
	int r;

	if (t->bound[table])
		return 0;
	if (t->cursors[table])
		r = mdb_cursor_renew(t->txn, t->cursors[table]);
	else
		r = mdb_cursor_open(t->txn, t->db->tables[table], &t->cursors[table]);
	t->bound[table] = r == 0;
	return db_translate(r);
}

int db_walk(struct db_txn *t, size_t table, enum db_step step, struct span from, struct span *ret_key,
	    struct span *ret_value)
{
	static const MDB_cursor_op ops[] = {
		[DB_AT_LEAST] = MDB_SET_RANGE, [DB_NEXT] = MDB_NEXT, [DB_LAST] = MDB_LAST
	};
	MDB_val k = val_of(from), v;
	MDB_cursor_op op = ops[step];
	int r;

	if (t->code)
		return t->code;
	r = bind_cursor(t, table);
	if (op == MDB_SET_RANGE && from.len == 0)
		op = MDB_FIRST;
	if (r == 0)
		r = db_translate(mdb_cursor_get(t->cursors[table], &k, &v, op));
	if (r == 0) {
		*ret_key = SPAN(k.mv_data, k.mv_size);
		*ret_value = SPAN(v.mv_data, v.mv_size);
	}
	return r < 0 ? db_fail(t, r) : r;
}

int db_count(struct db_txn *t, size_t table, uint64_t *ret)
{
	MDB_stat st;
	int r = db_translate(mdb_stat(t->txn, t->db->tables[table], &st));

	if (r == 0)
		*ret = st.ms_entries;
	return r;
}

/* Pages on the free list: table 0 of LMDB, whose values begin with their own length. */
static int free_pages(MDB_txn *txn, uint64_t *ret)
{
	MDB_cursor *c = NULL;
	MDB_val k, v;
	uint64_t n = 0;
	int r = mdb_cursor_open(txn, 0, &c);

	for (; r == 0 && (r = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0;) {
		size_t pages;

		memcpy(&pages, v.mv_data, sizeof(pages));
		n += pages;
	}
	if (c)
		mdb_cursor_close(c);
	if (r != MDB_NOTFOUND)
		return db_translate(r);
	*ret = n;
	return 0;
}

int db_usage(struct db *db, uint64_t *ret_file_b, uint64_t *ret_used_b)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	MDB_envinfo info;
	MDB_stat st;
	uint64_t spare = 0;
	int r = db_begin(db, false, &t, NULL);

	if (r == 0)
		r = db_translate(mdb_env_info(db->env, &info));
	if (r == 0)
		r = db_translate(mdb_env_stat(db->env, &st));
	if (r == 0)
		r = free_pages(t->txn, &spare);
	if (r)
		return r;
	*ret_file_b = (info.me_last_pgno + 1) * st.ms_psize;
	*ret_used_b = (info.me_last_pgno + 1 - spare) * st.ms_psize;
	return 0;
}

int db_copy(struct db *db, int fd)
{
	int r = db_enter(db);

	if (r)
		return r;
	r = db_translate(mdb_env_copyfd2(db->env, fd, 0));
	db_leave(db, false);
	return r;
}

void db_ahead(struct span value)
{
	uintptr_t from = (uintptr_t)value.p & ~(uintptr_t)4095;

	(void)madvise((void *)from, (uintptr_t)value.p + value.len - from, MADV_WILLNEED);
}
