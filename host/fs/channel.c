/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A notification may wait in the kernel for an answer that we owe, uninterruptibly. Killed in that moment we would not
 * end: the one who could answer comes only after us. So another process writes them: it may wait as long as it must.
 * When it is gone there is another one. Without (tests), or when none can be had, we write them ourselves.
 */
#include "host/fs/state.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NOTIFY_RESEND = 7, RENEWALS_MAX = 8 };

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

static unsigned channel_take(struct fs *fs, unsigned *ret_renewals)
{
	unsigned i;

	lock_take(&fs->lock);
	for (;;) {
		for (i = 0; !fs->is_renewing && i < fs->conf.n_channels; i++)
			if (!fs->channel_busy[i]) {
				fs->channel_busy[i] = true;
				*ret_renewals = fs->renewals;
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

/* Return: whether the other end has taken them and said so. */
static bool through(struct notes *n, unsigned *ret_renewals)
{
	struct fs *fs = n->fs;
	unsigned i = channel_take(fs, ret_renewals);
	ssize_t r = send(fs->conf.channels[i], n->bytes, n->len, MSG_NOSIGNAL);
	int done;

	while (r > 0 && (r = recv(fs->conf.channels[i], &done, sizeof(done), 0)) < 0 && errno == EINTR)
		r = 1;
	channel_give(fs, i);
	return r > 0;
}

static bool is_any_busy(const struct fs *fs)
{
	unsigned i;

	for (i = 0; i < fs->conf.n_channels; i++)
		if (fs->channel_busy[i])
			return true;
	return false;
}

/* Another process in the place of the one that is gone. The descriptors keep their numbers, so nobody may be in between
 * a send and its answer. Return: whether there is one, made by us or by somebody else since @renewals. */
static bool renew(struct fs *fs, unsigned renewals)
{
	int fresh[FS_CHANNELS_MAX], r = -ENOSYS;
	struct err e = ERR_NULL;
	bool is_other;
	unsigned i;

	lock_take(&fs->lock);
	while (fs->is_renewing || (fs->renewals == renewals && is_any_busy(fs)))
		(void)!lock_wait(&fs->lock, &fs->cond, CLOCK_NEVER);
	is_other = fs->renewals != renewals;
	fs->is_renewing = !is_other;
	lock_drop(&fs->lock);
	if (is_other)
		return true;
	if (fs->conf.renew)
		r = fs->conf.renew(fs->conf.renew_ctx, fresh, &e);
	log_warn("fs", "who told the kernel what changed is gone", "another=%s why=%s", r == 0 ? "yes" : "no", e.text);
	for (i = 0; r == 0 && i < fs->conf.n_channels; i++) {
		(void)!dup3(fresh[i], fs->conf.channels[i], O_CLOEXEC);
		close(fresh[i]);
	}
	lock_take(&fs->lock);
	fs->is_renewing = false;
	fs->renewals += r == 0;
	pthread_cond_broadcast(&fs->cond);
	lock_drop(&fs->lock);
	return r == 0;
}

void notes_send(struct notes *n)
{
	struct fs *fs = n->fs;
	unsigned renewals, tries;
	bool is_sent = !n->len;

	for (tries = 0; !is_sent && fs->conf.n_channels && tries < RENEWALS_MAX; tries++) {
		is_sent = through(n, &renewals);
		if (!is_sent && !renew(fs, renewals))
			break;
	}
	if (!is_sent)
		write_all(fs, n->bytes, n->len);
	n->len = 0;
}

int notes_resend(struct fs *fs)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = NOTIFY_RESEND };

	return write(fs->fuse_fd, &h, sizeof(h)) < 0 ? -errno : 0;
}
