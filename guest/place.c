/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. Whoever has the sandbox's door is its master: he may read and write what root inside may, and what he makes
 * belongs to the user whom he names. Paths are those of the sandbox and links are followed as anywhere; but no path
 * leads into this process (/proc/self is the agent here: its memory, its descriptors), for a link that the workload
 * placed would make the master touch them.
 *
 * One thing at a time. Files are read and written in pieces between which everything else goes on.
 */
#include "guest/place.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"
#include "guest/account.h"
#include "guest/files.h"
#include "guest/seer.h"
#include "wire/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define META "user.e2b."

enum { PIECE = 131072, BATCH_B = 131072, ENTRIES_MAX = 200000, META_MAX_B = 8192, PATH_ROOM = 4096 };

struct place {
	struct loop *loop;
	struct conn *conn;
	struct watch *watch;
	struct barrier *barrier;
	struct account who;
	unsigned what; /* enum wire_place; 0: nothing is under way */
	char *path;
	int fd; /* read or written, -1 */
	uint64_t left;
	struct seer *seer; /* of WATCH */
	VEC(char *) list; /* paths that are still to be told */
	size_t told;
	/* The last owner that was looked up. */
	bool has_names;
	uid_t uid;
	gid_t gid;
	char owner[65], group[65];
};

struct place *place_new(struct loop *loop, struct conn *conn, struct watch *watch)
{
	struct place *p = NEW(struct place);

	p->loop = loop;
	p->conn = conn;
	p->watch = watch;
	p->fd = -1;
	return p;
}

static void clear(struct place *p)
{
	size_t i;

	watch_unbarrier(&p->barrier);
	seer_free(&p->seer);
	fd_close(&p->fd);
	str_free(&p->path);
	for (i = 0; i < p->list.len; i++)
		free(p->list.v[i]);
	vec_fini(&p->list);
	p->told = 0;
	p->what = 0;
}

void place_free(struct place **slot)
{
	struct place *p = take(slot);

	if (!p)
		return;
	clear(p);
	free(p);
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

/* Absolute, with single slashes and without "." and ".."; on the heap. */
static char *clean(const char *path)
{
	char *out = must_calloc(1, strlen(path) + 2), *to = out;

	while (*path) {
		size_t len = strcspn(path, "/");

		if (len == 2 && path[0] == '.' && path[1] == '.') {
			while (to > out && *--to != '/')
				;
		} else if (len && !(len == 1 && path[0] == '.')) {
			*to++ = '/';
			memcpy(to, path, len);
			to += len;
		}
		*to = '\0';
		path += len + (path[len] == '/');
	}
	if (to == out)
		*to = '/';
	return out;
}

static char *place_of(const struct place *p, struct span typed)
{
	AUTO(str_free) char *text = span_dup(typed);
	AUTO(str_free) char *whole = NULL;

	if (text[0] == '/')
		return clean(text);
	if (text[0] == '~' && (!text[1] || text[1] == '/'))
		whole = str_printf("%s/%s", p->who.home, text + 1);
	else
		whole = str_printf("%s/%s", p->who.home, text);
	return clean(whole);
}

/* Nothing of this process itself. */
static int open_at(const char *path, int flags, mode_t mode)
{
	struct open_how how = { .flags = (unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY | O_NONBLOCK)),
				.mode = flags & O_CREAT ? mode : 0,
				.resolve = RESOLVE_NO_MAGICLINKS };
	AUTO(fd_close) int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	char proc[64], real[PATH_ROOM], own[32];
	const char *at;
	struct statfs fs;
	ssize_t n;

	if (fd < 0)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, real, sizeof(real) - 1);
	if (n < 0)
		return -errno;
	real[n] = '\0';
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC)
		return fd_take(&fd);
	/* Wherever it is mounted. */
	snprintf(own, sizeof(own), "/%d", (int)getpid());
	for (at = real; (at = strstr(at, own)); at += strlen(own))
		if (at[strlen(own)] == '/' || !at[strlen(own)])
			return -EACCES;
	return fd_take(&fd);
}

/* The directory that the last name is in; made with all above it when @make. "/" has no name. */
static int parent_of(const struct place *p, const char *path, bool make, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = slash == path ? must_strdup("/") : span_dup(SPAN(path, (size_t)(slash - path)));
	int fd, r;

	*ret_name = slash + 1;
	if (!slash[1])
		return -EINVAL;
	fd = open_at(dir, O_PATH | O_DIRECTORY, 0);
	if (fd == -ENOENT && make) {
		AUTO(fd_close) int above = -1;
		const char *name;

		above = parent_of(p, dir, true, &name);
		if (above < 0)
			return above;
		r = mkdirat(above, name, 0755) < 0 ? -errno
						   : fchownat(above, name, p->who.uid, p->who.gid, AT_SYMLINK_NOFOLLOW);
		if (r < 0 && r != -EEXIST)
			return r;
		fd = open_at(dir, O_PATH | O_DIRECTORY, 0);
	}
	return fd;
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

static void get_meta(int fd, struct msg_list *to)
{
	char names[META_MAX_B], value[4097], proc[64];
	ssize_t n, len, at;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* which may be a mere path */
	n = listxattr(proc, names, sizeof(names));
	for (at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
		AUTO(str_free) char *pair = NULL;

		if (!str_starts(names + at, META))
			continue;
		len = getxattr(proc, names + at, value, sizeof(value) - 1);
		if (len < 0)
			continue;
		value[len] = '\0';
		pair = str_printf("%s=%s", names + at + strlen(META), value);
		(void)!msg_list_str(to, span_str(pair));
	}
}

static void names_of(struct place *p, const struct stat *st)
{
	if (p->has_names && p->uid == st->st_uid && p->gid == st->st_gid)
		return;
	account_names(st->st_uid, st->st_gid, p->owner, p->group);
	p->uid = st->st_uid;
	p->gid = st->st_gid;
	p->has_names = true;
}

/* Where a link leads: absolute, and not farther than one step. */
static char *target_of(int dir, const char *name, const char *path)
{
	char text[PATH_ROOM];
	ssize_t n = readlinkat(dir, name, text, sizeof(text) - 1);
	AUTO(str_free) char *whole = NULL;

	if (n < 0)
		return NULL;
	text[n] = '\0';
	if (text[0] == '/')
		return clean(text);
	whole = str_printf("%.*s/%s", (int)(strrchr(path, '/') - path), path, text);
	return clean(whole);
}

static int put_entry(struct place *p, struct msg_list *to, const char *path)
{
	AUTO(fd_close) int dir = -1, fd = -1;
	AUTO(str_free) char *target = NULL;
	struct msg_PLACE_ENTRY en = { .path = span_str(path) };
	struct msg_list meta;
	const char *name = ".";
	struct stat st, behind;
	int r;

	dir = str_eq(path, "/") ? open_at("/", O_PATH | O_DIRECTORY, 0) : parent_of(p, path, false, &name);
	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode)) {
		target = target_of(dir, name, path);
		if (fstatat(dir, name, &behind, 0) == 0)
			st = behind;
	}
	names_of(p, &st);
	msg_list_init(&meta, META_MAX_B);
	fd = open_at(path, O_PATH | O_NOFOLLOW, 0);
	if (fd >= 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && !target)
		get_meta(fd, &meta);
	en.mode = st.st_mode;
	en.uid = st.st_uid;
	en.gid = st.st_gid;
	en.owner = span_str(p->owner);
	en.group = span_str(p->group);
	en.size = (uint64_t)st.st_size;
	en.mtime_ns = clock_ns(st.st_mtim);
	en.target = span_str(target ? target : "");
	en.meta = msg_list_span(&meta);
	r = msg_list_rec(to, MSG_PLACE_ENTRY, &en);
	msg_list_fini(&meta);
	return r;
}

static int tell(struct place *p, const char *path)
{
	struct msg_PLACE_IS m = { .more = 0 };
	struct msg_list list;
	int r = 0;

	msg_list_init(&list, FRAME_MAX / 2);
	if (path)
		r = put_entry(p, &list, path);
	m.entries = msg_list_span(&list);
	if (r == 0)
		r = conn_send(p->conn, MSG_PLACE_IS, &m);
	msg_list_fini(&list);
	return r;
}

static int failed(struct place *p, int r, struct err *e)
{
	const char *slug = r == -ENOSPC || r == -EDQUOT ? "no-space" : "failed";

	return err_set(e, r, slug, "%.160s: %s", p->path ? p->path : "", strerror(-r));
}

static void on_told(void *ctx)
{
	struct place *p = ctx;
	struct err e = ERR_NULL;
	int r;

	p->barrier = NULL;
	r = tell(p, p->what == WIRE_PLACE_REMOVE ? NULL : p->path);
	if (r < 0) {
		struct msg_ERROR m = { .call = 0 };

		failed(p, r, &e);
		m.name = span_str(err_name(r));
		m.slug = span_str(e.slug);
		m.text = span_str(e.text);
		(void)!conn_send(p->conn, MSG_ERROR, &m);
	}
	clear(p);
}

/* Something changed: it is answered when whoever looks from outside would see it. */
static int changed(struct place *p)
{
	if (p->watch)
		p->barrier = watch_barrier(p->watch, CLOCK_NEVER, on_told, p);
	else
		on_told(p);
	return 0;
}

/* --- one thing ---------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Depth first: what is in a directory behind it. */
static int gather(struct place *p, const char *dir, uint64_t depth)
{
	int fd = open_at(dir, O_RDONLY | O_DIRECTORY, 0), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	VEC(char *) names = { 0 };
	struct dirent *de;
	size_t i;

	if (!d) {
		r = fd < 0 ? fd : -errno;
		fd_close(&fd);
		return r;
	}
	while ((de = readdir(d)) && names.len < ENTRIES_MAX)
		if (!str_eq(de->d_name, ".") && !str_eq(de->d_name, ".."))
			vec_push(&names, must_strdup(de->d_name));
	closedir(d);
	if (names.len)
		qsort(names.v, names.len, sizeof(char *), by_name);
	for (i = 0; i < names.len; i++) {
		char *path = str_printf("%s/%s", str_eq(dir, "/") ? "" : dir, names.v[i]);
		struct stat st;

		if (r == 0 && p->list.len >= ENTRIES_MAX)
			r = -E2BIG;
		free(names.v[i]);
		if (r < 0 || strlen(path) >= PATH_ROOM) {
			free(path);
			continue;
		}
		vec_push(&p->list, path);
		if (depth > 1 && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			r = gather(p, path, depth - 1);
		if (r == -ENOENT || r == -EACCES)
			r = 0;
	}
	vec_fini(&names);
	return r;
}

static int tell_list(struct place *p)
{
	do {
		struct msg_PLACE_IS m = { .more = 0 };
		struct msg_list list;
		int r = 0;

		msg_list_init(&list, FRAME_MAX / 2);
		while (p->told < p->list.len && buf_len(&list.b) < BATCH_B) {
			r = put_entry(p, &list, p->list.v[p->told++]);
			if (r < 0 && r != -ENOENT && r != -ENOTDIR)
				break;
			r = 0;
		}
		m.entries = msg_list_span(&list);
		m.more = p->told < p->list.len;
		if (r == 0)
			r = conn_send(p->conn, MSG_PLACE_IS, &m);
		msg_list_fini(&list);
		if (r < 0)
			return r;
	} while (p->told < p->list.len && conn_room(p->conn));
	if (p->told == p->list.len)
		clear(p);
	return 0;
}

static int begin_list(struct place *p, uint64_t depth)
{
	AUTO(fd_close) int fd = open_at(p->path, O_PATH, 0);
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	r = gather(p, p->path, depth ? depth : 1);
	return r < 0 ? r : tell_list(p);
}

static int make_dir(struct place *p)
{
	AUTO(fd_close) int dir = -1;
	const char *name;
	struct stat st;

	dir = parent_of(p, p->path, true, &name);
	if (dir < 0)
		return dir == -EINVAL ? -EEXIST : dir;
	if (mkdirat(dir, name, 0755) < 0) {
		if (errno != EEXIST || fstatat(dir, name, &st, 0) < 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? -EEXIST : -ENOTDIR;
	}
	return fchownat(dir, name, p->who.uid, p->who.gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : changed(p);
}

static int move(struct place *p, struct span to)
{
	AUTO(fd_close) int from_dir = -1, to_dir = -1;
	char *target = place_of(p, to);
	const char *from_name, *to_name;
	struct stat st;
	int r = 0;

	from_dir = parent_of(p, p->path, false, &from_name);
	if (from_dir < 0)
		r = from_dir;
	else if (fstatat(from_dir, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0) {
		to_dir = parent_of(p, target, true, &to_name);
		r = to_dir < 0 ? to_dir : renameat(from_dir, from_name, to_dir, to_name) < 0 ? -errno : 0;
	}
	if (r < 0) {
		free(target);
		return r;
	}
	str_free(&p->path);
	p->path = target;
	return changed(p);
}

static int remove_it(struct place *p)
{
	AUTO(fd_close) int dir = -1;
	const char *name;
	int r;

	dir = parent_of(p, p->path, false, &name);
	r = dir < 0 ? dir : remove_tree(dir, name);
	return r < 0 && r != -ENOENT && r != -ENOTDIR ? r : changed(p);
}

static int read_on(struct place *p)
{
	AUTO(mem_free) uint8_t *piece = must_calloc(1, PIECE);

	while (conn_room(p->conn)) {
		ssize_t n = p->left ? read(p->fd, piece, MIN(p->left, (uint64_t)PIECE)) : 0;
		struct msg_PLACE_DATA m = { .data = SPAN(piece, (size_t)MAX(n, (ssize_t)0)) };
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			clear(p);
			return conn_send(p->conn, MSG_PLACE_END, &(struct msg_PLACE_END){ 0 });
		}
		p->left -= (uint64_t)n;
		r = conn_send(p->conn, MSG_PLACE_DATA, &m);
		if (r < 0)
			return r;
	}
	return 0;
}

static int begin_read(struct place *p, const struct msg_PLACE_DO *m)
{
	struct stat st;
	int r;

	p->fd = open_at(p->path, O_RDONLY, 0);
	if (p->fd < 0)
		return p->fd;
	if (fstat(p->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (m->offset && lseek(p->fd, (off_t)m->offset, SEEK_SET) < 0)
		return -errno;
	p->left = m->len ? m->len : UINT64_MAX;
	r = tell(p, p->path);
	return r < 0 ? r : read_on(p);
}

static int set_meta(int fd, struct span meta)
{
	char names[META_MAX_B];
	struct span pair;
	ssize_t n = flistxattr(fd, names, sizeof(names)), at;

	for (at = 0; at < n; at += (ssize_t)strlen(names + at) + 1)
		if (str_starts(names + at, META))
			(void)!fremovexattr(fd, names + at);
	while (msg_strv_next(&meta, &pair)) {
		AUTO(str_free) char *text = span_dup(pair);
		char *value = strchr(text, '=');
		AUTO(str_free) char *name = NULL;

		if (!value)
			return -EINVAL;
		*value++ = '\0';
		name = str_printf(META "%s", text);
		if (fsetxattr(fd, name, value, strlen(value), 0) < 0 && errno != EOPNOTSUPP)
			return -errno;
	}
	return 0;
}

static int begin_write(struct place *p, const struct msg_PLACE_DO *m)
{
	AUTO(fd_close) int dir = -1;
	const char *name;
	struct stat st;
	bool is_new;

	dir = parent_of(p, p->path, true, &name);
	if (dir < 0)
		return dir == -EINVAL ? -EISDIR : dir;
	is_new = fstatat(dir, name, &st, 0) < 0;
	if (!is_new && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	p->fd = open_at(p->path, O_WRONLY | O_CREAT, 0644);
	if (p->fd < 0)
		return p->fd;
	if (fstat(p->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (ftruncate(p->fd, 0) < 0 || (is_new && fchown(p->fd, p->who.uid, p->who.gid) < 0))
		return -errno;
	return set_meta(p->fd, m->meta);
}

/* Seen: told, with what is there now if that can still be said. */
static void on_seen(void *ctx, unsigned kind, const char *name)
{
	struct place *p = ctx;
	AUTO(str_free) char *path = str_printf("%s/%s", str_eq(p->path, "/") ? "" : p->path, name);
	struct msg_PLACE_EVENT m = { .kind = kind, .name = span_str(name) };
	struct msg_list entry;

	msg_list_init(&entry, FRAME_MAX / 2);
	if (kind == SEEN_CREATE || kind == SEEN_WRITE || kind == SEEN_CHMOD)
		(void)!put_entry(p, &entry, path);
	m.entry = msg_list_span(&entry);
	(void)!conn_send(p->conn, MSG_PLACE_EVENT, &m); /* who does not read misses some */
	msg_list_fini(&entry);
}

static int begin_watch(struct place *p, bool deep)
{
	AUTO(fd_close) int fd = open_at(p->path, O_PATH | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : seer_new(p->loop, p->path, deep, on_seen, p, &p->seer);

	return r < 0 ? r : tell(p, p->path);
}

static int begin(struct place *p, const struct msg_PLACE_DO *m, struct err *e)
{
	AUTO(str_free) char *who = span_dup(m->user);
	int r = account_find(who, &p->who, e);

	if (r < 0)
		return r;
	p->path = place_of(p, m->path);
	p->what = (unsigned)m->what;
	r = strlen(p->path) >= PATH_ROOM ? -ENAMETOOLONG : 0;
	if (r == 0) {
		r = m->what == WIRE_PLACE_STAT	 ? tell(p, p->path)
		    : m->what == WIRE_PLACE_LIST   ? begin_list(p, m->depth)
		    : m->what == WIRE_PLACE_MAKE   ? make_dir(p)
		    : m->what == WIRE_PLACE_MOVE   ? move(p, m->to)
		    : m->what == WIRE_PLACE_REMOVE ? remove_it(p)
		    : m->what == WIRE_PLACE_READ   ? begin_read(p, m)
		    : m->what == WIRE_PLACE_WRITE  ? begin_write(p, m)
		    : m->what == WIRE_PLACE_WATCH  ? begin_watch(p, m->depth > 1)
						   : -EPROTO;
	}
	if (r < 0)
		return failed(p, r, e);
	if (m->what == WIRE_PLACE_STAT)
		clear(p);
	return 0;
}

int place_frame(struct place *p, const struct frame *frame, struct err *e)
{
	union {
		struct msg_PLACE_DO what;
		struct msg_PLACE_DATA data;
		struct msg_PLACE_END end;
	} m;
	int r = 0;

	if (frame->type == MSG_PLACE_DO || frame->type == MSG_PLACE_DATA || frame->type == MSG_PLACE_END)
		r = msg_decode((enum msg_type)frame->type, frame->payload, &m, e);
	if (r < 0)
		return r;
	if (frame->type == MSG_PLACE_DO && !p->what)
		return begin(p, &m.what, e);
	if (p->what != WIRE_PLACE_WRITE || p->barrier)
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(frame->type));
	if (frame->type == MSG_PLACE_DATA) {
		r = io_write_full(p->fd, m.data.data.p, m.data.data.len);
		return r < 0 ? failed(p, r, e) : 0;
	}
	if (frame->type != MSG_PLACE_END)
		return err_set(e, -EPROTO, "bad-message", "%s has no place here", msg_name(frame->type));
	fd_close(&p->fd);
	return changed(p);
}

void place_go_on(struct place *p)
{
	int r = p->what == WIRE_PLACE_READ && p->fd >= 0   ? read_on(p)
		: p->what == WIRE_PLACE_LIST && p->list.len ? tell_list(p)
							    : 0;

	if (r < 0) /* it ends without its end */
		conn_finish(p->conn);
}
