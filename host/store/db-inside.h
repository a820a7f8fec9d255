/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_DB_INSIDE_H
#define HOST_STORE_DB_INSIDE_H

/* What the files of LMDB's door share. */
#include "base/lock.h"
#include "host/store/back.h"
#include "host/store/db.h"

#include <lmdb.h>

enum { DB_IDLE_MAX = 32 };

struct db {
	MDB_env *env;
	MDB_dbi tables[DB_TABLES_MAX];
	size_t n_tables;
	bool read_only;
	char *path;
	struct db_conf conf;
	struct lock lock; /* what follows */
	unsigned live;	  /* transactions that are not idle */
	bool is_broken;
	struct db_txn *idle[DB_IDLE_MAX];
	size_t n_idle;
	bool must_go_back; /* what was committed since the noted state is void; with is_broken */
	uint64_t went_back; /* how often that was so */

	struct lock sync_lock; /* what follows; is_lagging is changed under both */
	struct back *back;     /* NULL: not needed yet */
	MDB_txn *pin;	       /* the noted state */

	struct lock commit_lock;
	bool is_lagging;
	uint64_t commits, synced; /* commits while it lags; how many of them are durable */
	uint64_t soon_at;	  /* when the last one was that need not be durable at once */
};

struct db_txn {
	struct db *db; /* borrowed */
	MDB_txn *txn;
	bool write;
	int code; /* sticky */
	MDB_cursor *cursors[DB_TABLES_MAX];
	bool bound[DB_TABLES_MAX]; /* the cursor belongs to this life of the transaction */
};

/** db_translate() - LMDB's codes as ours. */
int db_translate(int r);
/** db_enter() - join the transactions of the environment. Return: 0; -EIO when it is broken and could not be opened
 * anew. db_leave(): @broken, it has to be. */
int db_enter(struct db *db) MUST_CHECK;
void db_leave(struct db *db, bool broken);
/** db_pin_noted() - the environment is in the file as it was noted, and lags still. Nobody is in it. Return: 0 or
 * -errno. */
int db_pin_noted(struct db *db) MUST_CHECK;

#endif
