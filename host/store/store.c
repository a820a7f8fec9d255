/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store is a directory:
 *
 *	lock		flock(2): one process at a time (shared by those that only read)
 *	content/	the environment of all contents and trees
 *	ws/ID/		the environment of a workspace; names that begin with '.' are being made or removed
 *
 * A directory appears under its name only when it is complete, and loses its name before its files go.
 */
#include "host/store/gc.h"
#include "host/store/migrate.h"

#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t map_default = UINT64_C(64) << 30;

char *store_ws_dir(const struct store *store, const char *id)
{
	return str_printf("%s/ws/%s", store->dir, id);
}

static int take_lock(struct store *s, struct err *e)
{
	s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (s->lock_fd < 0)
		return err_sys(e, -errno, "open %s/lock", s->dir);
	if (flock(s->lock_fd, (s->conf.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(e, -EBUSY, "store-in-use", "another process has the store %s open", s->dir);
	return err_sys(e, -errno, "lock %s", s->dir);
}

static int make_dir(int at, const char *name)
{
	return mkdirat(at, name, 0750) < 0 && errno != EEXIST ? -errno : 0;
}

static bool is_there(int at, const char *path)
{
	return faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Make a store where there is none. What a crash left half-made is made again. */
static int prepare(struct store *s, struct err *e)
{
	int r;

	if (is_there(s->dir_fd, "content"))
		return is_there(s->dir_fd, "ws") ? 0 : err_set(e, -EPROTO, "store-format", "%s has no ws/", s->dir);
	if (!s->conf.create || s->conf.read_only)
		return err_set(e, -ENOENT, "no-store", "%s is no store", s->dir);
	r = make_dir(s->dir_fd, "ws");
	if (r == 0)
		r = make_dir(s->dir_fd, "content.new");
	(void)unlinkat(s->dir_fd, "content.new/data.mdb", 0);
	(void)unlinkat(s->dir_fd, "content.new/lock.mdb", 0);
	return r ? err_sys(e, r, "make the store %s", s->dir) : 0;
}

static int check_content(struct store *s, bool fresh, struct err *e)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	int r;

	if (!fresh) {
		r = store_format_raise(s->content, CT_META, true, s->conf.read_only, e);
		return r ? err_wrap(e, "the store %s", s->dir) : 0;
	}
	r = db_begin(s->content, true, &t, e);
	if (r)
		return r;
	store_format_put(t, CT_META);
	r = db_commit(&t);
	return r ? err_sys(e, r, "write the format of %s", s->dir) : 0;
}

static int open_content(struct store *s, const char *name, bool fresh, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/%s", s->dir, name);
	struct db_conf conf = { .path = path,
				.map_size_b = s->conf.map_size_b,
				.tables = content_tables,
				.n_tables = CT_TABLES,
				.read_only = s->conf.read_only };
	int r = db_open(&conf, &s->content, e);

	if (r == -EPROTO)
		return err_set(e, r, "store-format", "%s holds no content environment of ours", path);
	return r ? r : check_content(s, fresh, e);
}

int store_sync_dir(const char *path)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* A new environment gets its name when it has its format. */
static int create_content(struct store *s, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/content.new", s->dir);
	int r = open_content(s, "content.new", true, e);

	db_close(&s->content);
	if (r)
		return r;
	r = store_sync_dir(path);
	if (r)
		return err_sys(e, r, "make the store %s", s->dir);
	if (renameat(s->dir_fd, "content.new", s->dir_fd, "content") < 0 || fsync(s->dir_fd) < 0)
		return err_sys(e, -errno, "name the content environment of %s", s->dir);
	return 0;
}

static int open_dir(struct store *s, struct err *e)
{
	int r;

	if (s->conf.create && !s->conf.read_only) {
		r = io_mkdir_p(s->dir, 0750);
		if (r)
			return err_sys(e, r, "make %s", s->dir);
	}
	s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return errno == ENOENT ? err_set(e, -ENOENT, "no-store", "%s is not there", s->dir)
				       : err_sys(e, -errno, "open %s", s->dir);
	if (!s->conf.create && !is_there(s->dir_fd, "content"))
		return err_set(e, -ENOENT, "no-store", "%s is no store", s->dir);
	return 0;
}

bool store_is_view(const char *name)
{
	return str_starts(name, STORE_VIEW_PREFIX) && str_is_id(name + strlen(STORE_VIEW_PREFIX), 48);
}

/* Finish the removals, and forget the beginnings, that a crash interrupted. */
static void sweep(struct store *s)
{
	AUTO(str_free) char *path = str_printf("%s/ws", s->dir);
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		AUTO(str_free) char *data = str_printf("%s/%s/data.mdb", path, d->d_name);
		AUTO(str_free) char *lock = str_printf("%s/%s/lock.mdb", path, d->d_name);
		AUTO(str_free) char *back = str_printf("%s/%s/back", path, d->d_name);

		if (d->d_name[0] != '.' || str_eq(d->d_name, ".") || str_eq(d->d_name, "..") ||
		    store_is_view(d->d_name))
			continue;
		unlink(data);
		unlink(lock);
		unlink(back);
		unlinkat(dirfd(dir), d->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

static int open_all(struct store *s, struct err *e)
{
	int r = open_dir(s, e);

	if (r == 0)
		r = take_lock(s, e);
	if (r == 0)
		r = prepare(s, e);
	if (r == 0 && !is_there(s->dir_fd, "content"))
		r = create_content(s, e);
	if (r == 0)
		r = open_content(s, "content", false, e);
	if (r || s->conf.read_only)
		return r;
	sweep(s);
	r = writer_start(s->content, &s->writer, e);
	return r ? r : late_start(s, &s->late, e);
}

int store_open(const char *dir, const struct store_conf *conf, struct store **ret, struct err *e)
{
	struct store *s;
	int r = digest_setup();

	if (r)
		return err_sys(e, r, "set libsodium up");
	s = NEW(struct store);
	s->dir = must_strdup(dir);
	s->conf = *conf;
	if (!s->conf.map_size_b)
		s->conf.map_size_b = map_default;
	s->dir_fd = s->lock_fd = -1;
	lock_init(&s->lock, "store-workspaces", LOCK_STORE_WS);
	lock_init(&s->tell_lock, "store-tell", LOCK_STORE);
	list_init(&s->removed);
	gc_init(s);
	r = open_all(s, e);
	if (r) {
		store_close(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void store_close(struct store **slot)
{
	struct store *s = take(slot);

	if (!s)
		return;
	late_stop(&s->late);
	wsdb_close_all(s);
	writer_stop(&s->writer);
	gc_fini(s);
	db_close(&s->content);
	fd_close(&s->lock_fd);
	fd_close(&s->dir_fd);
	map_fini(&s->workspaces);
	lock_fini(&s->tell_lock);
	lock_fini(&s->lock);
	str_free(&s->dir);
	free(s);
}

int store_sync_contents(struct store *store)
{
	return db_sync(store->content);
}

static int settle(struct store *store, bool soon, struct err *e)
{
	int r = store->writer ? writer_settle(store->writer, soon) : 0;

	if (r == 0 && store->writer && !soon)
		r = store_sync_contents(store); /* others of before may have settled "soon" */
	if (r == 0 && soon && db_lag(store->content))
		late_tell(store->late, false);
	if (r == -ENOSPC)
		return err_set(e, r, "store-full", "the content environment or its disk is full");
	return r ? err_sys(e, r, "write contents") : 0;
}

int store_settle(struct store *store, struct err *e)
{
	return settle(store, false, e);
}

int store_settle_soon(struct store *store, struct err *e)
{
	return settle(store, true, e);
}

static int each(struct store *store, bool (*is)(const char *name), int (*fn)(void *ctx, const char *id), void *ctx)
{
	AUTO(str_free) char *path = str_printf("%s/ws", store->dir);
	DIR *dir = opendir(path);
	struct dirent *d;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (d = readdir(dir)))
		if (is(d->d_name))
			r = fn(ctx, d->d_name);
	closedir(dir);
	return r;
}

static bool is_id(const char *name)
{
	return str_is_id(name, 64);
}

int store_each_ws(struct store *store, int (*fn)(void *ctx, const char *id), void *ctx)
{
	return each(store, is_id, fn, ctx);
}

int store_each_view(struct store *store, int (*fn)(void *ctx, const char *id), void *ctx)
{
	return each(store, store_is_view, fn, ctx);
}

static int count_one(void *ctx, UNUSED const char *id)
{
	++*(uint64_t *)ctx;
	return 0;
}

int store_stat(struct store *store, struct store_stats *ret, struct err *e)
{
	AUTO(db_abort) struct db_txn *t = NULL;
	struct store_stats s = { .queued_b = 0 };
	int r = db_usage(store->content, &s.content_b, &s.content_used_b);

	if (r == 0)
		r = db_begin(store->content, false, &t, NULL);
	if (r == 0)
		r = db_count(t, CT_CHUNK, &s.chunks);
	if (r == 0)
		r = store_each_ws(store, count_one, &s.workspaces);
	if (r)
		return err_sys(e, r, "look at the store");
	s.map_b = store->conf.map_size_b;
	s.queued_b = store->writer ? writer_queued(store->writer) : 0;
	*ret = s;
	return 0;
}
