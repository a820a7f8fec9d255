/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: libfuse's threads on a descriptor that the privileged process mounted. Timeouts are infinite and every
 * cache of the kernel is on, because notify.c invalidates exactly what changed.
 *
 * All requests pass through take_request(), so that this process can stop taking them without an end of the mount, and
 * can begin with a mount that another one has served: libfuse then gets the kernel's first request from the table.
 */
#include "host/fs/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS |
			FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_EXPLICIT_INVAL_DATA |
			FUSE_CAP_EXPORT_SUPPORT;

	(void)userdata;
	conn->want = want & conn->capable;
	conn->max_write = 1024 * 1024;
	conn->max_read = 0;
	conn->max_readahead = 1024 * 1024;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	/* No flush: after one ENOSYS the kernel never asks again, and a close never waits for us. */
	.release = op_release,
	.fsync = op_fsync,
	.fsyncdir = op_fsyncdir,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.create = op_create,
	.lseek = op_lseek,
	.fallocate = op_fallocate,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};

enum { FS_SMALL_NODES = 60, FS_SMALL_HANDLES = 16 };
enum { FS_INIT_MS = 10000, FS_PAUSE_MS = 5000, MINOR_RESEND = 40 };

static const char *const faults[] = { "make", "link", "remove", "rename", "setattr", "create", "write", "xattr",
				      "unxattr", "allocate" };

int fs_new(const struct fs_conf *conf, struct fs **ret, struct err *e)
{
	char name[] = "berthd";
	char *argv[] = { name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fs *fs = NEW(struct fs);
	const char *fault = getenv("BERTH_FAULT");
	size_t i;

	for (i = 0; fault && i < ARRAY_LEN(faults); i++)
		if (str_eq(fault, faults[i]))
			fs->fault = (int)i + 1;
	fs->is_small = fault && str_eq(fault, "full");
	fs->conf = *conf;
	fs->fuse_fd = -1;
	fs->statfs_dir = must_strdup(conf->statfs_dir);
	lock_init(&fs->lock, "fs", LOCK_FS);
	lock_cond_init(&fs->cond);
	gate_init(&fs->gate);
	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->se) {
		fs_free(&fs);
		return err_set(e, -EIO, "fuse-session", "libfuse refused to make a session");
	}
	*ret = fs;
	return 0;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* For ever: whoever ends the threads cancels them here. */
static void wait_for_the_end(void)
{
	for (;;)
		(void)!poll(NULL, 0, -1);
}

/* The first request of all says what the kernel can do; whoever serves this mount after us needs it, too. */
static void keep_init(struct fs *fs, const uint8_t *p, size_t len)
{
	struct table_head *t = fs->table.head;
	struct fuse_in_header h;
	struct fuse_init_in in = { .major = 0 };

	memcpy(&h, p, sizeof(h));
	if (h.opcode != FUSE_INIT || len > sizeof(t->init))
		return;
	memcpy(&in, p + sizeof(h), MIN(len - sizeof(h), sizeof(in)));
	memcpy(t->init, p, len);
	t->init_len = (uint32_t)len;
	fs->init_unique = h.unique;
	if (in.major == 7 && in.minor >= MINOR_RESEND)
		t->flags |= TABLE_CAN_RESEND;
}

/* libfuse starts the next thread before it has looked at the first request: until it has, whatever else that thread
 * took would be answered with EIO. A kernel waits for the answer by itself; one that gave the mount to an earlier
 * process does not. */
static void await_init(struct fs *fs)
{
	/* No lock: whoever ends the threads cancels them here. */
	while (fs->is_taken && !__atomic_load_n(&fs->serving, __ATOMIC_ACQUIRE))
		(void)!poll(NULL, 0, 1);
}

/* Somebody looks: other workspaces keep quiet for a moment. */
static void looked(struct fs *fs, const struct fuse_in_header *h)
{
	struct fs_inode *i;

	if (h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET || h->opcode == FUSE_INTERRUPT)
		return; /* nobody waits for these */
	i = inode_of(fs, h->nodeid);
	if (i)
		ws_looked(i->ws);
}

static ssize_t take_request(int fd, void *to, size_t size, void *ctx)
{
	struct fs *fs = ctx;
	struct fuse_in_header h;
	bool waited;
	ssize_t n;

	if (fs_unique)
		__atomic_sub_fetch(&fs->working, 1, __ATOMIC_ACQ_REL);
	fs_unique = 0;
	if (fs->is_taken && !__atomic_exchange_n(&fs->init_fed, true, __ATOMIC_ACQ_REL)) {
		memcpy(to, fs->table.head->init, fs->table.head->init_len);
		return fs->table.head->init_len;
	}
	await_init(fs);
	if (__atomic_load_n(&fs->is_paused, __ATOMIC_ACQUIRE))
		wait_for_the_end();
	n = gate_read(&fs->gate, fd, to, size, &waited);
	if (n < (ssize_t)sizeof(h))
		return n;
	memcpy(&h, to, sizeof(h));
	if (h.pid) /* closes and forgets are nobody's */
		gate_feel(&fs->gate, waited, h.pid, h.opcode == FUSE_READ);
	__atomic_add_fetch(&fs->working, 1, __ATOMIC_ACQ_REL);
	/* After the count, so that fs_pause() either sees it or is seen. What was read stays unanswered: it comes
	 * again. */
	if (__atomic_load_n(&fs->is_paused, __ATOMIC_SEQ_CST)) {
		__atomic_sub_fetch(&fs->working, 1, __ATOMIC_ACQ_REL);
		wait_for_the_end();
	}
	fs_unique = h.unique;
	if (!fs->table.head->init_len)
		keep_init(fs, to, (size_t)n);
	looked(fs, &h);
	return n;
}

static void init_answered(struct fs *fs)
{
	lock_take(&fs->lock);
	fs->init_unique = 0;
	__atomic_store_n(&fs->serving, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&fs->cond);
	lock_drop(&fs->lock);
}

static ssize_t give_answer(int fd, struct iovec *iov, int n, void *ctx)
{
	struct fs *fs = ctx;
	struct fuse_out_header h;
	ssize_t r = 0;
	int i;

	if (__atomic_load_n(&fs->serving, __ATOMIC_ACQUIRE))
		return writev(fd, iov, n);
	memcpy(&h, iov[0].iov_base, sizeof(h));
	if (!fs->is_taken || h.unique != fs->init_unique)
		r = writev(fd, iov, n);
	else /* an earlier process has given this one */
		for (i = 0; i < n; i++)
			r += (ssize_t)iov[i].iov_len;
	if (r > 0 && h.unique == fs->init_unique)
		init_answered(fs);
	return r;
}

static void *serve(void *ctx)
{
	struct fs *fs = ctx;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	fuse_loop_cfg_set_max_threads(config, fs->conf.threads);
	fuse_loop_cfg_set_idle_threads(config, fs->conf.threads);
	r = fuse_session_loop_mt(fs->se, config);
	fuse_loop_cfg_destroy(config);
	if (r != 0)
		log_debug("fs", "the session ended", "result=%d", r);
	return NULL;
}

/* --- beginning ---------------------------------------------------------------------------------------------------- */

int fs_open(struct fs *fs, int fuse_fd, int table_fd, bool taken, struct err *e)
{
	const struct fuse_custom_io io = { .writev = give_answer, .read = take_request };
	AUTO(fd_close) int fuse = fuse_fd;
	AUTO(fd_close) int file = table_fd;
	const size_t slots = sizeof(*fs->by_slot) * TABLE_NODES;
	int r = table_map(&fs->table, file, !taken, e);

	if (r < 0)
		return r;
	if (fs->is_small) {
		fs->table.nodes_max = FS_SMALL_NODES;
		fs->table.handles_max = FS_SMALL_HANDLES;
	}
	fs->by_slot = mmap(NULL, slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fs->by_slot == MAP_FAILED) {
		fs->by_slot = NULL;
		return err_sys(e, -errno, "the table of the mount");
	}
	fs->space = must_calloc(TABLE_SPACES, sizeof(*fs->space));
	if (fuse_session_custom_io(fs->se, &io, fuse) != 0)
		return err_set(e, -EIO, "fuse-session", "libfuse did not take the mount's descriptor");
	fs->fuse_fd = fd_take(&fuse);
	fs->is_taken = taken;
	if (taken) {
		struct fuse_in_header h;

		memcpy(&h, fs->table.head->init, sizeof(h));
		fs->init_unique = h.unique;
		inode_load(fs);
		unshown_load(fs);
	}
	return 0;
}

/* Names of the root that came or went and that nobody got to tell. */
static void tell_root(struct fs *fs)
{
	uint32_t i;

	for (i = 0; i < fs->table.head->spaces_top; i++) {
		struct table_space *s = &fs->table.spaces[i];
		bool mine = fs->space[i].ws;
		struct ws *other, *last;

		if (s->state == SPACE_FREE || (mine && s->state == SPACE_SHOWN))
			continue;
		other = mine ? NULL : space_find(fs, s->id);
		if (!other)
			root_changed(fs, s->id);
		ws_unref(&other);
		lock_take(&fs->lock);
		s->state = mine && s->state == SPACE_NEW ? SPACE_SHOWN : SPACE_GONE;
		last = space_drop(fs, i);
		lock_drop(&fs->lock);
		ws_unref(&last);
	}
	root_changed(fs, NULL);
}

int fs_serve(struct fs *fs, struct err *e)
{
	uint64_t until = clock_after_ms(FS_INIT_MS);
	int r = 0;

	if (fs->is_taken)
		r = notes_resend(fs);
	if (r < 0)
		return err_sys(e, r, "asking the kernel for what was not answered");
	r = pthread_create(&fs->thread, NULL, serve, fs);
	if (r)
		return err_sys(e, -r, "cannot start the thread of the mount");
	pthread_setname_np(fs->thread, "fuse");
	fs->has_thread = true;
	lock_take(&fs->lock);
	while (r == 0 && !fs->serving)
		r = lock_wait(&fs->lock, &fs->cond, until);
	lock_drop(&fs->lock);
	if (r < 0)
		return err_set(e, r, "fuse-session", "the kernel does not begin with the mount");
	__atomic_or_fetch(&fs->table.head->flags, (uint32_t)TABLE_SERVED, __ATOMIC_RELEASE);
	tell_root(fs);
	unshown_forget(fs);
	return 0;
}

bool fs_survives(const struct fs *fs)
{
	return fs->table.map && fs->table.head->flags & TABLE_CAN_RESEND;
}

/* --- ending ------------------------------------------------------------------------------------------------------- */

void fs_pause(struct fs *fs)
{
	uint64_t until = clock_after_ms(FS_PAUSE_MS);

	if (!fs)
		return;
	__atomic_store_n(&fs->is_paused, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&fs->working, __ATOMIC_SEQ_CST) && clock_now() < until)
		(void)!poll(NULL, 0, 1);
}

static void woken(int sig)
{
	(void)sig;
}

/* libfuse's main thread looks whether it is to end when a signal wakes it; it cancels the others. */
static void end_threads(struct fs *fs)
{
	const struct sigaction wake = { .sa_handler = woken };
	struct timespec until;
	bool ended = false;

	sigaction(SIGUSR2, &wake, NULL);
	fuse_session_exit(fs->se);
	while (!ended) {
		pthread_kill(fs->thread, SIGUSR2);
		until = clock_timespec(clock_wall() + 10 * (int64_t)CLOCK_MS);
		ended = pthread_timedjoin_np(fs->thread, NULL, &until) == 0;
	}
	fs->has_thread = false;
}

void fs_free(struct fs **slot)
{
	struct fs *fs = take(slot);
	uint32_t i;

	if (!fs)
		return;
	__atomic_store_n(&fs->is_paused, true, __ATOMIC_SEQ_CST);
	if (fs->has_thread)
		end_threads(fs);
	if (fs->se)
		fuse_session_destroy(fs->se);
	for (i = 0; fs->by_slot && i < fs->table.head->nodes_top; i++) {
		if (!fs->by_slot[i])
			continue;
		list_drop(fs, &fs->by_slot[i]->list);
		ws_unref(&fs->by_slot[i]->ws);
		free(fs->by_slot[i]);
	}
	if (fs->by_slot)
		munmap(fs->by_slot, sizeof(*fs->by_slot) * TABLE_NODES);
	for (i = 0; fs->space && i < fs->table.head->spaces_top; i++)
		ws_unref(&fs->space[i].ws);
	free(fs->space);
	vec_fini(&fs->left);
	map_fini(&fs->inodes);
	map_fini(&fs->untold);
	map_fini(&fs->by_ws);
	map_fini(&fs->spaces);
	table_unmap(&fs->table);
	gate_fini(&fs->gate);
	pthread_cond_destroy(&fs->cond);
	lock_fini(&fs->lock);
	str_free(&fs->statfs_dir);
	free(fs);
}
