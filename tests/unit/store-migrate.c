/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fixtures/store-N.tar was written by the code of format N: it must be readable by every later one. Built
 * twice: with the steps that there are, and with a step to one more of our own (lib/steps-2.c). */
#include "store-lib.h"

#include "base/io.h"
#include "host/store/backup.h"
#include "host/store/migrate.h"
#include "lib/steps-2.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static void unpack_format(char dir[64], int format)
{
	const char *src = getenv("srcdir");
	AUTO(str_free) char *path = str_printf("%s/tests/fixtures/store-%d.tar", src ? src : TOP_SRCDIR, format);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct err e = ERR_NULL;

	snprintf(dir, 64, "/tmp/berth-old-XXXXXX");
	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(store_restore(fd, dir, "/nonexistent", &e), 0, "%s", e.text);
}

static void unpack(char dir[64])
{
	unpack_format(dir, 1);
}

static void say(UNUSED void *ctx, const char *words)
{
	cr_log_error("%s", words);
}

static int keep_id(void *ctx, const char *id)
{
	snprintf(ctx, 65, "%s", id);
	return 0;
}

static void open_it(const char *dir, struct store **ret)
{
	struct store_conf conf = { .map_size_b = 1 << 26 };
	struct err e = ERR_NULL;

	cr_assert_eq(store_open(dir, &conf, ret, &e), 0, "%s", e.text);
}

/* Everything that was put into it is there. */
static void look(struct store *s)
{
	struct fsck_stats stats;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct node n;
	char id[65] = "", text[64];
	uint64_t fid;
	ssize_t len;

	cr_assert_eq(store_fsck(s, say, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
	cr_assert_eq(stats.workspaces, 1);
	cr_assert_eq(store_each_ws(s, keep_id, id), 0);
	cr_assert_eq(wsdb_open(s, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("d"), &fid), 0);
	cr_assert_eq(entry_get(t, fid, span_str("e"), &fid), 0);
	cr_assert_eq(entry_get(t, fid, span_str("f"), &fid), 0);
	cr_assert_eq(node_get(t, fid, &n), 0);
	cr_assert_eq(n.nlink, 2U);
	len = content_read(s, &n.content, 0, text, sizeof(text), true);
	cr_assert_eq(len, 13);
	cr_assert_eq(memcmp(text, "first format\n", 13), 0);
	txn_abort(&t);
	wsdb_close(&ws);
}

/* Is the mark of the format that does not exist in the workspace? */
static bool is_marked(struct store *s)
{
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct span v;
	char id[65] = "";
	bool is;

	cr_assert_eq(store_each_ws(s, keep_id, id), 0);
	cr_assert_eq(wsdb_open(s, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	is = meta_get(t, "second", &v) == 0;
	txn_abort(&t);
	wsdb_close(&ws);
	return is;
}

static void drop(const char *dir)
{
	nftw(dir, place_rm, 16, FTW_DEPTH | FTW_PHYS);
}

Test(migrate, first_format)
{
	struct store *s = NULL;
	char dir[64];

	unpack(dir);
	open_it(dir, &s);
	look(s);
	cr_assert_eq(is_marked(s), store_format_newest() > FORMAT_VERSION);
	store_close(&s);
	open_it(dir, &s); /* nothing is left to do */
	look(s);
	store_close(&s);
	drop(dir);
}

struct second {
	struct store *s;
	unsigned snapshots, files;
};

/* A snapshot, whose tree has a file with an attribute; and a fork of it that nobody has looked into. */
static int look_at_second(void *ctx, const char *id)
{
	struct second *all = ctx;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct snapshot snap;
	struct tree_item it;
	struct node root;
	uint64_t fid;
	char text[64];

	cr_assert_eq(wsdb_open(all->s, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_write(ws, &t, NULL), 0);
	if (snapshot_get(t, "one", &snap) == 0) {
		all->snapshots++;
		cr_assert_eq(tree_resolve(all->s, &snap.root, "d/e/f", &it), 0);
		cr_assert_gt(it.xattrs.size, 0U);
		cr_assert_eq(content_read(all->s, &it.content, 0, text, sizeof(text), true), 13);
		cr_assert_eq(memcmp(text, "first format\n", 13), 0);
	}
	cr_assert_eq(node_get(t, txn_root(t), &root), 0);
	cr_assert_eq(node_unpack_dir(t, root.fid, 0), 0);
	cr_assert_eq(entry_get(t, root.fid, span_str("big"), &fid), 0);
	all->files++;
	txn_abort(&t);
	wsdb_close(&ws);
	return 0;
}

Test(migrate, second_format)
{
	struct second all = { .s = NULL };
	struct fsck_stats stats;
	char dir[64];

	unpack_format(dir, 2);
	open_it(dir, &all.s);
	cr_assert_eq(store_fsck(all.s, say, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
	cr_assert_eq(store_each_ws(all.s, look_at_second, &all), 0);
	cr_assert_eq(all.snapshots, 1U);
	cr_assert_eq(all.files, 2U);
	store_close(&all.s);
	drop(dir);
}

/* A pending inode in the root of its only workspace, "late". */
Test(migrate, third_format)
{
	struct store *s = NULL;
	struct fsck_stats stats;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct node n;
	char dir[64], id[65] = "";
	uint64_t fid;

	unpack_format(dir, 3);
	open_it(dir, &s);
	cr_assert_eq(store_fsck(s, say, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
	cr_assert_eq(store_each_ws(s, keep_id, id), 0);
	cr_assert_eq(wsdb_open(s, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(entry_get(t, txn_root(t), span_str("late"), &fid), 0);
	cr_assert_eq(node_next_pending(t, 0, &n), 0);
	cr_assert_eq(n.fid, fid);
	cr_assert_eq(node_next_pending(t, n.fid, &n), STORE_E_NONE);
	txn_abort(&t);
	wsdb_close(&ws);
	store_close(&s);
	drop(dir);
}

#ifndef STEPS_2
/* What a program of format 2 leaves: pending inodes and no list of them. */
Test(migrate, pending_is_listed)
{
	struct db_conf dc = { .map_size_b = 1 << 26, .tables = ws_tables, .n_tables = WT_TABLES };
	AUTO(str_free) char *path = NULL;
	struct store *s = NULL;
	struct fsck_stats stats;
	struct wsdb *ws = NULL;
	struct txn *t = NULL;
	struct db_txn *raw = NULL;
	struct db *db = NULL;
	struct node n;
	struct key k;
	char dir[64], id[65] = "";
	uint64_t late;
	uint8_t v[4];

	unpack_format(dir, 3);
	open_it(dir, &s);
	cr_assert_eq(store_each_ws(s, keep_id, id), 0);
	store_close(&s);
	path = str_printf("%s/ws/%s", dir, id);
	dc.path = path;
	put_u32(v, 2);
	cr_assert_eq(db_open(&dc, &db, NULL), 0);
	cr_assert_eq(db_begin(db, true, &raw, NULL), 0);
	cr_assert_eq(db_put(raw, WT_META, span_str("format"), SPAN(v, sizeof(v)), DB_PUT_SET), 0);
	{
		struct span key, value;

		cr_assert_eq(db_walk(raw, WT_PENDING, DB_AT_LEAST, SPAN_NULL, &key, &value), 0);
		cr_assert_eq(key_u64_parse(key, &late), 0);
	}
	key_u64(&k, late);
	cr_assert_eq(db_del(raw, WT_PENDING, key_span(&k)), 0);
	cr_assert_eq(db_commit(&raw), 0);
	db_close(&db);
	open_it(dir, &s);
	cr_assert_eq(wsdb_open(s, id, false, &ws, NULL), 0);
	cr_assert_eq(txn_read(ws, &t, NULL), 0);
	cr_assert_eq(node_next_pending(t, 0, &n), 0);
	cr_assert_eq(n.fid, late);
	cr_assert_eq(node_next_pending(t, n.fid, &n), STORE_E_NONE);
	txn_abort(&t);
	wsdb_close(&ws);
	cr_assert_eq(store_fsck(s, say, NULL, &stats, NULL), 0);
	cr_assert_eq(stats.problems, 0);
	store_close(&s);
	drop(dir);
}
#endif

#ifdef STEPS_2
static void killed_at(const char *dir, int at)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		struct store *s = NULL;

		steps_kill_at = at;
		open_it(dir, &s);
		(void)is_marked(s);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

Test(migrate, killed_on_the_way)
{
	struct store *s = NULL;
	char dir[64];

	unpack(dir);
	killed_at(dir, 1);
	killed_at(dir, 1); /* it did not get further */
	killed_at(dir, 2); /* contents are in the new format, the workspace is not */
	killed_at(dir, 2);
	open_it(dir, &s);
	cr_assert(is_marked(s));
	look(s);
	store_close(&s);
	drop(dir);
}

Test(migrate, reading_only)
{
	struct store_conf conf = { .map_size_b = 1 << 26, .read_only = true };
	struct store *s = NULL;
	struct err e = ERR_NULL;
	char dir[64];

	unpack(dir);
	cr_assert_eq(store_open(dir, &conf, &s, &e), -EPROTO);
	cr_assert_str_eq(e.slug, "store-format");
	cr_assert_not_null(strstr(e.text, "let berthd open it once"), "%s", e.text);
	drop(dir);
}
#endif

Test(migrate, newer)
{
	struct db_conf dc = { .map_size_b = 1 << 26, .tables = content_tables, .n_tables = CT_TABLES };
	struct store_conf conf = { .map_size_b = 1 << 26 };
	AUTO(str_free) char *path = NULL;
	struct store *s = NULL;
	struct db_txn *t = NULL;
	struct db *db = NULL;
	struct err e = ERR_NULL;
	uint8_t v[4];
	char dir[64];

	unpack(dir);
	path = str_printf("%s/content", dir);
	dc.path = path;
	put_u32(v, store_format_newest() + 1);
	cr_assert_eq(db_open(&dc, &db, NULL), 0);
	cr_assert_eq(db_begin(db, true, &t, NULL), 0);
	cr_assert_eq(db_put(t, CT_META, span_str("format"), SPAN(v, sizeof(v)), DB_PUT_SET), 0);
	cr_assert_eq(db_commit(&t), 0);
	db_close(&db);
	cr_assert_eq(store_open(dir, &conf, &s, &e), -EPROTO);
	cr_assert_str_eq(e.slug, "store-format");
	cr_assert_not_null(strstr(e.text, "newer version of berth"), "%s", e.text);
	drop(dir);
}
