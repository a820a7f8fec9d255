/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A notification may wait in the kernel for an answer that we owe, uninterruptibly. Killed in that moment we would not
 * end: the one who could answer comes only after us. So another process writes them: it may wait as long as it must.
 * Without one (tests), or when it is gone, we write them ourselves.
 */
#include "host/fs/state.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NOTIFY_RESEND = 7 };

static void add(struct notes *n, int code, const void *head, size_t head_len, const char *name, size_t len)
{
	struct fuse_out_header h = { .error = code };
	uint8_t *to;

	h.len = (uint32_t)(sizeof(h) + head_len + (name ? len + 1 : 0));
	if (n->len + h.len > sizeof(n->bytes))
		notes_send(n);
	to = n->bytes + n->len;
	memcpy(to, &h, sizeof(h));
	memcpy(to + sizeof(h), head, head_len);
	if (name) {
		memcpy(to + sizeof(h) + head_len, name, len);
		to[sizeof(h) + head_len + len] = 0;
	}
	n->len += h.len;
}

/* struct fuse_notify_inval_entry_out, whose last member older headers call padding; kernels before 6.2 do not look. */
struct inval_entry {
	uint64_t parent;
	uint32_t namelen, flags;
};
enum { EXPIRE_ONLY = 1 };

void notes_entry(struct notes *n, fuse_ino_t parent, const char *name, size_t len, bool is_there)
{
	struct inval_entry out = { .parent = parent, .namelen = (uint32_t)len, .flags = is_there ? EXPIRE_ONLY : 0 };

	add(n, FUSE_NOTIFY_INVAL_ENTRY, &out, sizeof(out), name, len);
}

void notes_inode(struct notes *n, fuse_ino_t ino, int64_t off)
{
	struct fuse_notify_inval_inode_out out = { .ino = ino, .off = off };

	add(n, FUSE_NOTIFY_INVAL_INODE, &out, sizeof(out), NULL, 0);
}

static void write_all(const struct fs *fs, const uint8_t *p, size_t len)
{
	struct fuse_out_header h;
	size_t at;

	for (at = 0; at < len; at += h.len) {
		memcpy(&h, p + at, sizeof(h));
		(void)!write(fs->fuse_fd, p + at, h.len); /* what the kernel does not know needs no telling */
	}
}

static unsigned channel_take(struct fs *fs)
{
	unsigned i;

	lock_take(&fs->lock);
	for (;;) {
		for (i = 0; i < fs->conf.n_channels; i++)
			if (!fs->channel_busy[i]) {
				fs->channel_busy[i] = true;
				lock_drop(&fs->lock);
				return i;
			}
		(void)!lock_wait(&fs->lock, &fs->cond, CLOCK_NEVER);
	}
}

static void channel_give(struct fs *fs, unsigned i)
{
	lock_take(&fs->lock);
	fs->channel_busy[i] = false;
	pthread_cond_broadcast(&fs->cond);
	lock_drop(&fs->lock);
}

void notes_send(struct notes *n)
{
	struct fs *fs = n->fs;
	ssize_t r = -1;
	unsigned i;
	int done;

	if (n->len && fs->conf.n_channels) {
		i = channel_take(fs);
		r = send(fs->conf.channels[i], n->bytes, n->len, MSG_NOSIGNAL);
		while (r > 0 && (r = recv(fs->conf.channels[i], &done, sizeof(done), 0)) < 0 && errno == EINTR)
			r = 1;
		channel_give(fs, i);
	}
	if (n->len && r <= 0)
		write_all(fs, n->bytes, n->len);
	n->len = 0;
}

int notes_resend(struct fs *fs)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = NOTIFY_RESEND };

	return write(fs->fuse_fd, &h, sizeof(h)) < 0 ? -errno : 0;
}
