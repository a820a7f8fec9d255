/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that builds copy: an archive for each hash that a client names, put with a URL that was made for it (its
 * clients bring no key there). They are one key's: whoever names a hash is not believed to have the bytes. A file is
 * complete when it has its name. All together are bounded; what was used least recently goes first.
 */
#include "host/api/e2b/template.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "seal/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_LEN = 2 * DIGEST_LEN, LINK_S = 3600, MARK_LEN = 40 };

static const uint64_t FILES_MAX_B = 16ULL * 1024 * 1024 * 1024;

static void file_name(const char *owner, const char *hash, char to[NAME_LEN + 1])
{
	AUTO(str_free) char *text = str_printf("%s %s", owner, hash);
	struct digest d = digest_of("e2b-file", span_str(text));

	str_hex(d.b, sizeof(d.b), to);
}

static int open_dir(struct e2b *e2b)
{
	AUTO(str_free) char *path = str_printf("%s/files", e2b->build_dir);
	int r = io_mkdir_p(path, 0700), fd = r < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return r < 0 ? r : fd < 0 ? -errno : fd;
}

int uploads_open(struct e2b *e2b, const char *owner, const char *hash)
{
	AUTO(fd_close) int dir = open_dir(e2b);
	char name[NAME_LEN + 1];
	int fd;

	if (dir < 0)
		return dir;
	file_name(owner, hash, name);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* When it was used last. */
	(void)!futimens(fd, (const struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } });
	return fd;
}

/* --- bounds ------------------------------------------------------------------------------------------------------- */

struct oldest {
	char name[NAME_LEN + 1];
	int64_t at_ns;
	uint64_t bytes; /* of all */
};

static void look(int dir, const char *but, struct oldest *ret)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	struct stat st;

	*ret = (struct oldest){ .at_ns = INT64_MAX };
	while (d && (de = readdir(d))) {
		if (de->d_name[0] == '.' || fstatat(dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		ret->bytes += (uint64_t)st.st_size;
		if (clock_ns(st.st_mtim) >= ret->at_ns || strlen(de->d_name) != NAME_LEN || str_eq(de->d_name, but))
			continue;
		ret->at_ns = clock_ns(st.st_mtim);
		snprintf(ret->name, sizeof(ret->name), "%s", de->d_name);
	}
	if (d)
		closedir(d);
	else
		fd_close(&fd);
}

/* What a daemon that died had begun to take. */
void uploads_begin(struct e2b *e2b)
{
	AUTO(fd_close) int dir = open_dir(e2b);
	int fd = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, ".new-"))
			unlinkat(dir, de->d_name, 0);
	if (d)
		closedir(d);
	else
		fd_close(&fd);
}

static void trim(int dir, const char *but)
{
	struct oldest o;

	for (look(dir, but, &o); o.bytes > FILES_MAX_B && o.name[0]; look(dir, but, &o))
		if (unlinkat(dir, o.name, 0) < 0)
			return;
}

/* --- putting ------------------------------------------------------------------------------------------------------ */

/* Who has this may put this one file, until then. */
static void mark_of(struct e2b *e2b, const char *owner, const char *template_, const char *hash, const char *until,
		    char ret[MARK_LEN + 1])
{
	AUTO(str_free) char *text = str_printf("%s %s %s %s", owner, template_, hash, until);
	struct {
		uint8_t secret[32];
		struct digest of;
	} both = { .of = digest_of("e2b-upload", span_str(text)) };
	struct digest d;

	memcpy(both.secret, e2b->upload_secret, sizeof(both.secret));
	d = digest_of("e2b-mark", SPAN(&both, sizeof(both)));
	str_hex(d.b, MARK_LEN / 2, ret);
}

bool e2b_is_upload(void *ctx, struct http_req *req)
{
	(void)ctx;
	return str_eq(http_method(req), "PUT") && str_starts(http_path(req), "/templates/") &&
	       http_query(req, "mark") != NULL;
}

int e2b_admit_upload(void *ctx, struct http_req *req, struct http_who *ret, struct err *e)
{
	const char *path = http_path(req) + strlen("/templates/"), *slash = strchr(path, '/');
	const char *owner = http_query(req, "owner"), *until = http_query(req, "until"),
		   *mark = http_query(req, "mark");
	AUTO(str_free) char *id = slash ? span_dup(SPAN(path, (size_t)(slash - path))) : NULL;
	char right[MARK_LEN + 1];
	uint64_t s;

	*ret = (struct http_who){ .id = "" };
	if (!id || !str_starts(slash, "/files/") || !owner || !until || num_u64(until, UINT64_MAX, &s) < 0 ||
	    strlen(mark) != MARK_LEN || str_copy(ret->id, sizeof(ret->id), owner) < 0)
		return err_set(e, -EKEYREJECTED, "bad-token", "this is no link to upload with");
	mark_of(ctx, owner, id, slash + strlen("/files/"), until, right);
	if (!secret_eq(right, mark, MARK_LEN) || (int64_t)s < clock_wall() / (int64_t)CLOCK_S)
		return err_set(e, -EKEYREJECTED, "bad-token", "this link to upload with is wrong or too old");
	return 0;
}

static int copy_all(int from, int to, uint64_t size)
{
	static const size_t piece_b = 256 * 1024;
	AUTO(mem_free) char *piece = must_calloc(1, piece_b);
	ssize_t n = 1;

	while (size && n > 0) {
		n = read(from, piece, MIN((uint64_t)piece_b, size));
		if (n > 0) {
			int r = io_write_full(to, piece, (size_t)n);

			if (r < 0)
				return r;
			size -= (uint64_t)n;
		}
	}
	return n < 0 ? -errno : size ? -EIO : 0;
}

static int keep(int dir, const char *name, struct span body, int from, uint64_t size)
{
	char tmp[NAME_LEN + 40];
	uint8_t raw[8];
	char hex[2 * sizeof(raw) + 1];
	AUTO(fd_close) int fd = -1;
	int r;

	random_bytes(raw, sizeof(raw));
	str_hex(raw, sizeof(raw), hex);
	snprintf(tmp, sizeof(tmp), ".new-%s", hex);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = from < 0 ? io_write_full(fd, body.p, body.len) : copy_all(from, fd, size);
	/* Its client is told "present" from now on. */
	if (r == 0 && (fsync(fd) < 0 || renameat(dir, tmp, dir, name) < 0 || fsync(dir) < 0))
		r = -errno;
	if (r < 0)
		unlinkat(dir, tmp, 0);
	return r;
}

int e2b_file_upload(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	AUTO(fd_close) int dir = open_dir(e2b);
	char name[NAME_LEN + 1];
	struct hub_disk disk;
	uint64_t size;
	int fd, r;
	struct span body = http_body(req, &fd, &size);

	hub_disk(e2b->hub, &disk);
	if (dir < 0)
		return err_sys(e, dir, "directory of uploads");
	if (size > FILES_MAX_B)
		return err_set(e, -E2BIG, "limit", "files of a build: at most 16 GiB");
	if (disk.state != HUB_DISK_OK)
		return err_set(e, -ENOSPC, "disk-low", "the host's disk is too full for files of a build");
	file_name(http_who(req)->id, http_segment(req, 1), name);
	r = keep(dir, name, body, fd, size);
	if (r < 0)
		return err_sys(e, r, "keeping files of a build");
	trim(dir, name);
	buf_append(&res->body, "{}", 2);
	return 0;
}

/* Is it there, and where is it to be put? */
int e2b_file_link(void *ctx, struct http_req *req, struct http_res *res, struct err *e)
{
	struct e2b *e2b = ctx;
	const char *id = http_segment(req, 0), *hash = http_segment(req, 1), *host = http_header(req, "Host");
	struct json_writer w = { .b = &res->body };
	AUTO(fd_close) int fd = -1;
	AUTO(str_free) char *url = NULL;
	char until[24], mark[MARK_LEN + 1], owner[20] = "";
	struct template *t;
	bool there;

	lock_take(&e2b->templates.lock);
	t = templates_find(e2b, http_who(req)->id, id, false);
	if (t)
		snprintf(owner, sizeof(owner), "%s", t->owner);
	lock_drop(&e2b->templates.lock);
	if (!t)
		return err_set(e, -ENOENT, "no-such-template", "template '%.80s' not found", id);
	if (!uploads_ok(hash))
		return err_set(e, -EINVAL, "bad-request", "the hash is 64 hexadecimal digits");
	fd = uploads_open(e2b, owner, hash);
	there = fd >= 0;
	snprintf(until, sizeof(until), "%lld", (long long)(clock_wall() / (int64_t)CLOCK_S + LINK_S));
	mark_of(e2b, owner, id, hash, until, mark);
	url = str_printf("%s://%s/templates/%s/files/%s?owner=%s&until=%s&mark=%s",
			 http_is_secure(req) ? "https" : "http", host ? host : "localhost", id, hash, owner, until,
			 mark);
	res->status = 201;
	jw_open(&w, '{');
	jw_key(&w, "present");
	jw_bool(&w, there);
	jw_kstr(&w, "url", url);
	jw_close(&w, '}');
	return 0;
}
