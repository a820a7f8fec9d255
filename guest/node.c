/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory. An inode number is reused as soon as its file is gone, so identity is the file handle, which carries a
 * generation. ext4's handle is eight bytes, number and generation, and becomes the fid; other handles are hashed
 * with a fixed hash, since the host keeps fids longer than the agent lives. Handles of fanotify events are made by
 * the same code of the kernel, so both ways give the same fid. Where a file system has no handles the device and
 * inode number must do.
 *
 * The number is the upper half: it goes up from one new file to the next, while generations are drawn by lot, and
 * what a host keeps sorted by fid then grows at few places.
 *
 * stat and handle are two calls on a name that may change in between; on ext4 that shows and is tried again,
 * elsewhere the change has an event of its own, which brings us back here.
 */
#include "guest/node.h"

#include "base/clock.h"
#include "base/io.h"
#include "guest/weak.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* a handle for comparing only: file systems without export support give one, too */
#endif

enum { HANDLE_MAX = 128, TYPE_INO32_GEN = 1, TRIES = 4 };

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t node_fid_of_handle(int type, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t fid, word;
	size_t i;

	if (type == TYPE_INO32_GEN && len == 8) {
		uint32_t half[2];

		memcpy(half, p, 8);
		fid = (uint64_t)half[0] << 32 | half[1];
		return fid ? fid : 1;
	}
	fid = mix((uint64_t)(unsigned)type << 32 | len);
	for (i = 0; i < len; i += 8) {
		word = 0;
		memcpy(&word, p + i, MIN(len - i, (size_t)8));
		fid = mix(fid ^ word) + i;
	}
	return fid ? fid : 1;
}

uint32_t node_ino_of(uint64_t fid)
{
	return (uint32_t)(fid >> 32);
}

union handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + HANDLE_MAX];
};

/* Return: true and the fid; on ext4 false when the handle belongs to another inode than @st. */
static bool fid_at(int dirfd, const char *name, int flags, const struct stat *st, uint64_t *ret)
{
	union handle u;
	int mount, r;

	u.h.handle_bytes = HANDLE_MAX;
	r = name_to_handle_at(dirfd, name, &u.h, &mount, flags);
	if (r < 0 && errno == EOPNOTSUPP) {
		u.h.handle_bytes = HANDLE_MAX;
		r = name_to_handle_at(dirfd, name, &u.h, &mount, flags | AT_HANDLE_FID);
	}
	if (r < 0) {
		*ret = mix(st->st_ino ^ mix(st->st_dev));
		*ret += *ret == 0;
		return errno != ENOENT;
	}
	*ret = node_fid_of_handle(u.h.handle_type, u.h.f_handle, u.h.handle_bytes);
	return u.h.handle_type != TYPE_INO32_GEN || u.h.handle_bytes != 8 || node_ino_of(*ret) == (uint32_t)st->st_ino;
}

static int node_fill(int dirfd, const char *name, int flags, struct node *ret)
{
	int tries;

	ret->target_len = 0;
	ret->xattrs = SPAN_NULL;
	for (tries = 0; tries < TRIES; tries++) {
		if (fstatat(dirfd, name, &ret->st, flags | AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (S_ISLNK(ret->st.st_mode)) {
			ssize_t n = readlinkat(dirfd, name, ret->target, NODE_TARGET_MAX);

			if (n < 0)
				continue;
			ret->target_len = (size_t)n;
			ret->target[n] = '\0';
		}
		if (fid_at(dirfd, name, flags, &ret->st, &ret->fid))
			return 0;
	}
	return -ENOENT;
}

int node_at(int dirfd, const char *name, struct node *ret)
{
	return node_fill(dirfd, name, 0, ret);
}

int node_of(int fd, struct node *ret)
{
	return node_fill(fd, "", AT_EMPTY_PATH, ret);
}

struct msg_NODE node_wire(const struct node *n)
{
	const struct stat *st = &n->st;

	return (struct msg_NODE){
		.fid = n->fid,
		.ino = st->st_ino,
		.mode = st->st_mode,
		.nlink = st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = st->st_rdev,
		.size = st->st_size > 0 ? (uint64_t)st->st_size : 0,
		.blocks = (uint64_t)st->st_blocks,
		.mtime_ns = clock_ns(st->st_mtim),
		.ctime_ns = clock_ns(st->st_ctim),
		.atime_ns = clock_ns(st->st_atim),
		.target = SPAN(n->target, n->target_len),
		.xattrs = n->xattrs,
	};
}

int node_open(int dirfd, const char *path, int flags, mode_t mode, bool follow)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (follow ? 0 : RESOLVE_NO_SYMLINKS),
	};
	long fd;

	if (guest_is_weak())
		how.resolve = 0;
	do
		fd = syscall(SYS_openat2, dirfd, *path ? path : ".", &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* EAGAIN: a rename somewhere raced the walk */
	return fd < 0 ? -errno : (int)fd;
}

/* ext4 makes it of its UUID; others of where they are mounted, which may be elsewhere the next time. */
static uint64_t disk_of(int fd)
{
	struct statfs s;
	uint64_t id = 0;

	if (fstatfs(fd, &s) == 0 && s.f_type == EXT4_SUPER_MAGIC)
		memcpy(&id, &s.f_fsid, MIN(sizeof(id), sizeof(s.f_fsid)));
	return id;
}

int tree_open(struct tree *t, const char *path, struct err *e)
{
	struct node *n = NEW(struct node);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : node_of(fd, n);

	if (r == 0) {
		*t = (struct tree){ .dev = n->st.st_dev, .fid = n->fid, .path = must_strdup(path) };
		t->disk = disk_of(fd);
		t->fd = fd_take(&fd);
	}
	mem_free(&n);
	fd_close(&fd);
	return r < 0 ? err_sys(e, r, "cannot open the workspace %s", path) : 0;
}

void tree_close(struct tree *t)
{
	fd_close(&t->fd);
	free(t->path);
	t->path = NULL;
}
