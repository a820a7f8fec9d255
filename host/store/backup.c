/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order makes it consistent without stopping anybody: a workspace's transaction names a content only when that is
 * durable, and nothing is collected while this goes on. So the content environment, copied last, has all that the
 * workspaces, copied before, refer to. Each copy is one read transaction of LMDB; on its way the environment cannot use
 * its free pages again, so it grows by what is written meanwhile. Layers come between the two: the caller sees to it
 * that none goes that a copied workspace names.
 */
#include "host/store/backup.h"

#include "base/io.h"
#include "base/str.h"
#include "base/vec.h"
#include "host/store/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANIFEST_MAX = 512 * 1024 * 1024, SIZE_AT = 124, SUM_AT = 148 };
_Static_assert(LAYER_RUN * LAYER_CELL <= BACKUP_PIECE, "a run of a layer is a member");

struct archive {
	backup_fn *fn;
	void *ctx;
	struct buf manifest;
	uint8_t *piece;
};

static int put_member(struct archive *a, const char *name, const void *p, size_t len)
{
	static const uint8_t zeros[BACKUP_BLOCK];
	char h[BACKUP_BLOCK] = { 0 };
	unsigned sum = 0, i;
	int r;

	snprintf(h, 100, "%s", name);
	memcpy(h + 100, "0000600\0000000000\0000000000", 23);
	snprintf(h + SIZE_AT, 12, "%011o", (unsigned)len);
	memcpy(h + 136, "00000000000", 11);
	memset(h + SUM_AT, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (i = 0; i < sizeof(h); i++)
		sum += (uint8_t)h[i];
	snprintf(h + SUM_AT, 8, "%06o", sum);
	r = a->fn(a->ctx, h, sizeof(h));
	if (r == 0 && len)
		r = a->fn(a->ctx, p, len);
	if (r == 0 && len % BACKUP_BLOCK)
		r = a->fn(a->ctx, zeros, BACKUP_BLOCK - len % BACKUP_BLOCK);
	return r;
}

static void note(struct buf *manifest, const char *name, struct span data)
{
	struct digest d = digest_of("backup", data);
	char hex[2 * DIGEST_LEN + 1];

	str_hex(d.b, DIGEST_LEN, hex);
	buf_printf(manifest, "%s %zu %s\n", hex, data.len, name);
}

struct copying {
	struct db *db;
	int fd, result;
};

static void *copy_thread(void *ctx)
{
	struct copying *c = ctx;

	c->result = db_copy(c->db, c->fd);
	fd_close(&c->fd);
	return NULL;
}

static int put_pieces(struct archive *a, const char *name, int from)
{
	unsigned i;
	int r = 0;

	for (i = 0; r == 0; i++) {
		AUTO(str_free) char *member = str_printf("%s/%08u", name, i);
		size_t len = 0;
		ssize_t n = 1;

		while (len < BACKUP_PIECE && (n = read(from, a->piece + len, BACKUP_PIECE - len)) != 0) {
			if (n < 0 && errno != EINTR)
				return -errno;
			len += n > 0 ? (size_t)n : 0;
		}
		if (len == 0)
			break;
		note(&a->manifest, member, SPAN(a->piece, len));
		r = put_member(a, member, a->piece, len);
		if (n == 0)
			break;
	}
	return r;
}

static int put_env(struct archive *a, const char *name, struct db *db)
{
	struct copying c = { .db = db };
	pthread_t t;
	int p[2], r;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	c.fd = p[1];
	r = -pthread_create(&t, NULL, copy_thread, &c);
	if (r) {
		close(p[0]);
		close(p[1]);
		return r;
	}
	r = put_pieces(a, name, p[0]);
	close(p[0]); /* when we gave up, the copier does, too */
	pthread_join(t, NULL);
	return r ? r : c.result;
}

struct carrying {
	struct archive *a;
	const struct store_layers *layers;
	struct err *e;
};

static int put_noted(struct archive *a, const char *name, struct span data)
{
	note(&a->manifest, name, data);
	return put_member(a, name, data.p, data.len);
}

static int put_layer(void *ctx, const char *layer)
{
	struct carrying *c = ctx;
	AUTO(str_free) char *first = str_printf("layer/%s/size", layer);
	AUTO(fd_close) int fd = c->layers->open(c->layers->ctx, layer);
	uint64_t cell = 0;
	struct stat st;
	char size[32];
	size_t len;
	int r;

	if (fd == -ENOENT) /* it was lost before, or is not there yet */
		return 0;
	r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0) {
		snprintf(size, sizeof(size), "%llu", (unsigned long long)st.st_size);
		r = put_noted(c->a, first, span_str(size));
	}
	while (r == 0 && (r = layer_run(fd, &cell, c->a->piece, &len)) > 0) {
		AUTO(str_free) char *member = str_printf("layer/%s/%08llu", layer, (unsigned long long)cell);

		r = put_noted(c->a, member, SPAN(c->a->piece, len));
		cell += (len + LAYER_CELL - 1) / LAYER_CELL;
	}
	return r < 0 ? err_sys(c->e, r, "copy the layer %.16s", layer) : 0;
}

struct ids {
	struct buf names; /* each with a NUL */
};

static int take_id(void *ctx, const char *id)
{
	return buf_append(&((struct ids *)ctx)->names, id, strlen(id) + 1);
}

static int put_workspace(struct archive *a, struct store *s, const char *id, struct err *e)
{
	AUTO(str_free) char *name = str_printf("ws/%s", id);
	AUTO(wsdb_close) struct wsdb *ws = NULL;
	struct db *db;
	int r = wsdb_open(s, id, false, &ws, e);

	if (r == -ENOENT) { /* it was removed meanwhile */
		if (e)
			*e = ERR_NULL;
		return 0;
	}
	if (r == 0)
		r = wsdb_map(ws, &db, e);
	if (r)
		return r;
	r = put_env(a, name, db);
	wsdb_unmap(ws);
	return r ? err_sys(e, r, "copy the workspace %s", id) : 0;
}

static int put_all(struct archive *a, struct store *s, const struct store_layers *layers, struct err *e)
{
	struct carrying carry = { .a = a, .layers = layers, .e = e };
	static const uint8_t zeros[2 * BACKUP_BLOCK];
	AUTO(buf_fini) struct buf names;
	struct ids ids;
	const char *id, *end;
	int r;

	buf_init(&ids.names, MANIFEST_MAX);
	r = store_each_ws(s, take_id, &ids);
	names = ids.names;
	if (r)
		return err_sys(e, r, "list the workspaces");
	r = put_member(a, "berth-backup", "berth-backup 2\n", 15);
	if (r)
		return err_sys(e, r, "write the archive");
	id = (const char *)buf_span(&names).p;
	for (end = id + buf_len(&names); r == 0 && id < end; id += strlen(id) + 1)
		r = put_workspace(a, s, id, e);
	if (r == 0 && layers)
		r = layers->each(layers->ctx, put_layer, &carry);
	if (r)
		return r;
	r = store_settle(s, e);
	if (r)
		return r;
	r = put_env(a, "content", s->content);
	buf_printf(&a->manifest, "end\n");
	if (r == 0 && a->manifest.failed)
		r = -ENOMEM;
	if (r == 0)
		r = put_member(a, "manifest", buf_span(&a->manifest).p, buf_len(&a->manifest));
	if (r == 0)
		r = a->fn(a->ctx, zeros, sizeof(zeros));
	return r ? err_sys(e, r, "write the archive") : 0;
}

int store_backup(struct store *store, const struct store_layers *layers, backup_fn *fn, void *ctx, struct err *e)
{
	struct archive a = { .fn = fn, .ctx = ctx };
	int r;

	buf_init(&a.manifest, MANIFEST_MAX);
	a.piece = must_calloc(BACKUP_PIECE, 1);
	store_gc_inhibit(store);
	r = put_all(&a, store, layers, e);
	store_gc_allow(store);
	free(a.piece);
	buf_fini(&a.manifest);
	return r;
}

/* --- and back ----------------------------------------------------------------------------------------------------- */

struct reading {
	int fd, to; /* the environment that is being written, -1: none */
	const char *dir, *layers;
	char name[80]; /* of that: "ws/ID", "content", or "layer/NAME" */
	uint64_t pieces; /* of it so far; of a layer the first cell that may come */
	uint64_t size;	 /* of a layer */
	uint8_t *piece;
	struct buf manifest; /* as it must be */
	bool has_content;
};

static int bad(struct err *e, const char *why)
{
	return err_set(e, -EBADMSG, "bad-backup", "this is no whole backup: %s", why);
}

/* "ws/ID" or "content". */
static bool env_ok(const char *name)
{
	return str_eq(name, "content") || (str_starts(name, "ws/") && str_is_id(name + 3, 64));
}

static int next_env(struct reading *rd, const char *name, struct err *e)
{
	AUTO(str_free) char *dir = str_printf("%s/%s", rd->dir, name);
	AUTO(str_free) char *path = str_printf("%s/data.mdb", dir);
	int r;

	fd_close(&rd->to);
	snprintf(rd->name, sizeof(rd->name), "%s", name);
	rd->pieces = 0;
	rd->has_content |= str_eq(name, "content");
	r = io_mkdir_p(dir, 0750);
	if (r == 0) {
		rd->to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
		r = rd->to < 0 ? -errno : 0;
	}
	return r ? err_sys(e, r, "make %s", path) : 0;
}

/* Eight digits. */
static int piece_number(const char *text, uint64_t *ret)
{
	*ret = 0;
	if (strlen(text) != 8 || strspn(text, "0123456789") != 8)
		return -EINVAL;
	for (; *text; text++)
		*ret = *ret * 10 + (uint64_t)(*text - '0');
	return 0;
}

static int next_layer(struct reading *rd, const char *name, size_t len, struct err *e)
{
	AUTO(str_free) char *path = str_printf("%s/%s", rd->layers, name + strlen("layer/"));
	AUTO(str_free) char *text = span_dup(SPAN(rd->piece, len));
	int r;

	if (num_u64(text, LAYER_SIZE_MAX, &rd->size) < 0)
		return bad(e, "a layer of an impossible size");
	fd_close(&rd->to);
	snprintf(rd->name, sizeof(rd->name), "%s", name);
	rd->pieces = 0;
	r = io_mkdir_p(rd->layers, 0755);
	if (r == 0) {
		rd->to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = rd->to < 0 || ftruncate(rd->to, (off_t)rd->size) < 0 ? -errno : 0;
	}
	return r ? err_sys(e, r, "make %s", path) : 0;
}

/* What is zero in it is left a hole, as far as whole pages go. */
static int write_cells(int fd, uint64_t at, const uint8_t *p, size_t len)
{
	static const uint8_t zeros[4096];
	size_t n;

	for (; len; p += n, at += n, len -= n) {
		ssize_t done;

		n = MIN(len, sizeof(zeros));
		done = memcmp(p, zeros, n) == 0 ? (ssize_t)n : pwrite(fd, p, n, (off_t)at);
		if (done != (ssize_t)n)
			return done < 0 ? -errno : -EIO;
	}
	return 0;
}

/* @name: "layer/NAME", of which @which is a part. */
static int take_layer(struct reading *rd, const char *name, const char *which, size_t len, struct err *e)
{
	uint8_t raw[DIGEST_LEN];
	uint64_t cell = 0, at;
	int r;

	if (str_unhex(name + strlen("layer/"), raw, sizeof(raw)) < 0)
		return bad(e, "a member that does not belong there");
	if (str_eq(which, "size"))
		return next_layer(rd, name, len, e);
	if (!str_eq(name, rd->name) || piece_number(which, &cell) < 0 || cell < rd->pieces)
		return bad(e, "a piece of a layer is missing, or in the wrong place");
	at = cell * LAYER_CELL;
	if (at + len > rd->size)
		return bad(e, "a piece of a layer is beyond its end");
	rd->pieces = cell + (len + LAYER_CELL - 1) / LAYER_CELL;
	r = write_cells(rd->to, at, rd->piece, len);
	return r < 0 ? err_sys(e, r, "write %s", rd->name) : 0;
}

static int take_piece(struct reading *rd, const char *member, size_t len, struct err *e)
{
	AUTO(str_free) char *name = must_strdup(member);
	char *slash = strrchr(name, '/');
	uint64_t index;
	int r = 0;

	if (slash && str_starts(name, "layer/") && slash > name + strlen("layer/")) {
		*slash = '\0';
		note(&rd->manifest, member, SPAN(rd->piece, len));
		return take_layer(rd, name, slash + 1, len, e);
	}
	if (!slash || piece_number(slash + 1, &index) < 0)
		return bad(e, "a member that does not belong there");
	*slash = '\0';
	if (!env_ok(name))
		return bad(e, "a member that does not belong there");
	if (!str_eq(name, rd->name))
		r = next_env(rd, name, e);
	if (r)
		return r;
	if (index != rd->pieces++)
		return bad(e, "a piece is missing");
	note(&rd->manifest, member, SPAN(rd->piece, len));
	r = io_write_full(rd->to, rd->piece, len);
	return r < 0 ? err_sys(e, r, "write %s", rd->name) : 0;
}

static int take_manifest(struct reading *rd, uint64_t len, struct err *e)
{
	AUTO(mem_free) char *text = NULL;
	int r;

	buf_printf(&rd->manifest, "end\n");
	if (rd->manifest.failed || len != buf_len(&rd->manifest))
		return bad(e, "the manifest does not fit");
	text = must_calloc(len, 1);
	r = io_read_full(rd->fd, text, len);
	if (r < 0 || memcmp(text, buf_span(&rd->manifest).p, len) != 0)
		return bad(e, "the manifest does not fit: something in it was changed");
	return rd->has_content ? 0 : bad(e, "the contents are missing");
}

/* Return: 1 after the manifest; 0; -errno. */
static int take_member(struct reading *rd, struct err *e)
{
	char h[BACKUP_BLOCK];
	uint64_t len = 0;
	size_t i;
	int r = io_read_full(rd->fd, h, sizeof(h));

	if (r < 0)
		return bad(e, "it ends too early");
	h[99] = '\0';
	for (i = SIZE_AT; i < SIZE_AT + 11; i++) {
		if (h[i] < '0' || h[i] > '7')
			return bad(e, "not an archive of ours");
		len = len * 8 + (uint64_t)(h[i] - '0');
	}
	if (str_eq(h, "manifest")) {
		r = take_manifest(rd, len, e);
		return r ? r : 1;
	}
	if (len > BACKUP_PIECE)
		return bad(e, "not an archive of ours");
	r = io_read_full(rd->fd, rd->piece, (len + BACKUP_BLOCK - 1) / BACKUP_BLOCK * BACKUP_BLOCK);
	if (r < 0)
		return bad(e, "it ends too early");
	if (str_eq(h, "berth-backup"))
		return len == 15 && (memcmp(rd->piece, "berth-backup 1\n", 15) == 0 ||
				     memcmp(rd->piece, "berth-backup 2\n", 15) == 0)
			       ? 0
			       : err_set(e, -EPROTO, "backup-format", "a newer version made this backup");
	return take_piece(rd, h, len, e);
}

int store_restore(int fd, const char *dir, const char *layers, struct err *e)
{
	AUTO(str_free) char *ws = str_printf("%s/ws", dir);
	struct reading rd = { .fd = fd, .to = -1, .dir = dir, .layers = layers };
	AUTO(fd_close) int dirfd = -1;
	int r = digest_setup();

	if (r == 0)
		r = io_mkdir_p(dir, 0700);
	if (r == 0 && rmdir(dir) < 0) /* only an empty one can be */
		return err_set(e, -EEXIST, "not-empty", "%s is not empty", dir);
	if (r == 0)
		r = io_mkdir_p(ws, 0750);
	if (r)
		return err_sys(e, r, "make %s", dir);
	buf_init(&rd.manifest, MANIFEST_MAX);
	rd.piece = must_calloc(BACKUP_PIECE, 1);
	while ((r = take_member(&rd, e)) == 0)
		;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 1)
		r = dirfd < 0 || syncfs(dirfd) < 0 ? err_sys(e, -errno, "sync %s", dir) : 0;
	fd_close(&rd.to);
	free(rd.piece);
	buf_fini(&rd.manifest);
	return r;
}
