/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session: libfuse's threads on a descriptor that the privileged process mounted. They end when the mount goes.
 * Timeouts are infinite and every cache of the kernel is on, because notify.c invalidates exactly what changed.
 */
#include "host/fs/state.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

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
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.create = op_create,
	.lseek = op_lseek,
};

int fs_new(const struct fs_conf *conf, struct fs **ret, struct err *e)
{
	char name[] = "berthd";
	char *argv[] = { name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fs *fs = NEW(struct fs);

	fs->conf = *conf;
	fs->statfs_dir = must_strdup(conf->statfs_dir);
	lock_init(&fs->lock, "fs", LOCK_FS);
	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->se) {
		fs_free(&fs);
		return err_set(e, -EIO, "fuse-session", "libfuse refused to make a session");
	}
	*ret = fs;
	return 0;
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

int fs_serve(struct fs *fs, int fuse_fd, struct err *e)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/dev/fd/%d", fuse_fd);
	if (fuse_session_mount(fs->se, path) != 0)
		return err_set(e, -EIO, "fuse-session", "libfuse did not take the mount's descriptor");
	r = pthread_create(&fs->thread, NULL, serve, fs);
	if (r)
		return err_sys(e, -r, "cannot start the thread of the mount");
	pthread_setname_np(fs->thread, "fuse");
	fs->serving = true;
	return 0;
}

bool fs_wait(struct fs *fs, unsigned ms)
{
	struct timespec until = clock_timespec(clock_wall() + (int64_t)(ms * CLOCK_MS));

	if (fs && fs->serving && pthread_timedjoin_np(fs->thread, NULL, &until) != 0)
		return false;
	if (fs)
		fs->serving = false;
	return true;
}

void fs_free(struct fs **slot)
{
	struct fs *fs = take(slot);
	void *p;

	if (!fs)
		return;
	if (fs->serving)
		pthread_join(fs->thread, NULL);
	if (fs->se)
		fuse_session_destroy(fs->se);
	while ((p = map_take_any(&fs->inodes))) {
		struct fs_inode *i = p;

		list_drop(fs, &i->list);
		ws_unref(&i->ws);
		free(i);
	}
	map_fini(&fs->inodes);
	while ((p = map_take_any(&fs->spaces))) {
		struct ws *ws = p;

		ws_unref(&ws);
	}
	map_fini(&fs->spaces);
	lock_fini(&fs->lock);
	str_free(&fs->statfs_dir);
	free(fs);
}
