/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_STORE_DB_H
#define HOST_STORE_DB_H

/*
 * LMDB's door: db.c, and db-late.c for commits. An environment with a fixed list of tables, transactions with a sticky
 * error, and LMDB's codes
 * translated into ours; nobody else includes <lmdb.h>. Bytes that come out borrow from the transaction.
 */
#include "base/buf.h"
#include "base/err.h"

struct db;
struct db_txn;

enum { DB_TABLES_MAX = 12, DB_KEY_MAX = 511, DB_READERS_MAX = 1024 };
enum { DB_E_NONE = 1, DB_E_EXISTS = 2 };
enum db_put_how { DB_PUT_SET, DB_PUT_NEW, DB_PUT_APPEND };
enum db_step { DB_AT_LEAST, DB_NEXT, DB_LAST };

struct db_conf {
	const char *path;	   /* a directory that is there */
	uint64_t map_size_b;	   /* virtual; the most the file may grow to */
	const char *const *tables; /* names; a table is called by its index */
	size_t n_tables;
	bool read_only;
	/* Before a state of this environment becomes durable: make durable what it names elsewhere. May be NULL.
	 * Return: 0 or -errno. */
	int (*first)(void *ctx);
	void *first_ctx;
};

/** db_open() - open and map an environment, make missing tables, clear readers that died.
 * A process must not open one twice (LMDB's locks are POSIX locks), and never use it across fork(2).
 * Return: 0; -EPROTO (not LMDB, or a table is missing and @read_only); -errno. */
int db_open(const struct db_conf *conf, struct db **ret, struct err *e) MUST_CHECK;
/** db_close() - destructor. No transaction may be alive. */
void db_close(struct db **db);

/** db_begin() - a read transaction (a pooled one is renewed: no system call, no allocation) or the write transaction
 * (waits for the one before; belongs to this thread). Return: 0; -EROFS; -EAGAIN (too many readers); -errno. */
int db_begin(struct db *db, bool write, struct db_txn **ret, struct err *e) MUST_CHECK;
/** db_commit() - durable when it returns 0; the slot is nulled in any case. Return: 0; -ENOSPC; the sticky error. */
int db_commit(struct db_txn **txn) MUST_CHECK;
/** db_commit_soon() - the same, but durable only after db_sync() or a db_commit() of this environment. All see it at
 * once, and the death of this process loses nothing. After a power loss the environment is as it was at the last sync.
 * Where that cannot be had it is durable when it returns. */
int db_commit_soon(struct db_txn **txn) MUST_CHECK;
/** db_sync() - whatever was committed is durable. May block for the disk. No locks above LOCK_STORE_SYNC. Return: 0;
 * -errno: then it is void, and the environment as it was at the last sync. */
int db_sync(struct db *db) MUST_CHECK;
/** db_commits() - how many commits there were while it lagged, and how many of them are durable or void. db_lag() - how
 * many are not. db_is_lagging() - is that so now, or was it a while ago? */
uint64_t db_commits(struct db *db, uint64_t *ret_durable);
uint64_t db_lag(struct db *db);
bool db_is_lagging(struct db *db);
/** db_is_quiet() - does it lag, and nothing was committed "soon" since? */
bool db_is_quiet(struct db *db, uint64_t since);
/** db_calm() - db_sync(), and from now on commits are synced one by one until the next db_commit_soon(). */
int db_calm(struct db *db) MUST_CHECK;
/** db_give_up() - what is not durable is void, as if a sync had failed. db_went_back() - how often that was so. */
void db_give_up(struct db *db);
uint64_t db_went_back(struct db *db);
/** db_abort() - destructor of a transaction. */
void db_abort(struct db_txn **txn);
/** db_fail() - make the transaction fail with @code (negative) unless it already has; returns the sticky code. */
int db_fail(struct db_txn *t, int code);
/** db_failed() - the sticky code, 0 while all is well. */
int db_failed(const struct db_txn *t);
/** db_txn_id() - number of the state that a reader sees, or that a writer makes. */
uint64_t db_txn_id(const struct db_txn *t);

/** db_get() - Return: 0; DB_E_NONE; -errno. */
int db_get(struct db_txn *t, size_t table, struct span key, struct span *ret) MUST_CHECK;
/** db_put() - Return: 0; DB_E_EXISTS (DB_PUT_NEW, the old value stays); -errno, which sticks. */
int db_put(struct db_txn *t, size_t table, struct span key, struct span value, enum db_put_how how);
/** db_del() - Return: 0; DB_E_NONE; -errno, which sticks. */
int db_del(struct db_txn *t, size_t table, struct span key);
/** db_clear() - all rows of a table. Return: 0; -errno, which sticks. */
int db_clear(struct db_txn *t, size_t table);
/** db_walk() - one step of the table's cursor in this transaction: to the first key not below @from, to the next one,
 * to the last one (@from unused). In a write transaction any change ends a walk: begin the next step with DB_AT_LEAST.
 * Return: 0; DB_E_NONE; -errno. */
int db_walk(struct db_txn *t, size_t table, enum db_step step, struct span from, struct span *ret_key,
	    struct span *ret_value) MUST_CHECK;
/** db_count() - rows of a table. Return: 0 or -errno. */
int db_count(struct db_txn *t, size_t table, uint64_t *ret) MUST_CHECK;
/** db_usage() - bytes of the file, and those of them that are not on the free list. Return: 0 or -errno. */
int db_usage(struct db *db, uint64_t *ret_file_b, uint64_t *ret_used_b) MUST_CHECK;
/** db_copy() - write the environment's file, as one moment had it, to a descriptor (a pipe is fine); others go on.
 * Return: 0 or -errno. */
int db_copy(struct db *db, int fd) MUST_CHECK;
/** db_ahead() - ask the kernel to read a large value from disk in one go; costs a system call, needs none to be right.
 */
void db_ahead(struct span value);

#endif
