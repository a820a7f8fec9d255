/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store from a backup, beside no daemon. It is made under another name, verified as a whole, and only then given its
 * own: whatever stops us before, the state directory has no store, and another try begins anew.
 */
#include "host/restore.h"

#include "base/io.h"
#include "base/str.h"
#include "host/sandbox/hub.h"
#include "host/store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static uid_t owner;
static gid_t group;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int own_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return lchown(path, owner, group);
}

static void say(void *ctx, const char *words)
{
	(void)ctx;
	fprintf(stderr, "berthd: %s\n", words);
}

static int open_layer(void *ctx, const char *name)
{
	AUTO(str_free) char *path = str_printf("%s/%s", (const char *)ctx, name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A layer that had been lost before the backup, or that an older one has not, keeps nobody from the rest. */
static int verify(const char *dir, char *layers_dir, struct err *e)
{
	const struct store_layers layers = { .open = open_layer, .ctx = layers_dir, .may_lack = true };
	struct store_conf sc = { .create = false };
	struct store *store = NULL;
	struct fsck_stats stats = { .problems = 0 };
	int r = store_open(dir, &sc, &store, e);

	if (r == 0)
		r = store_fsck_with(store, &layers, say, NULL, &stats, e);
	if (r == 0 && stats.problems)
		r = err_set(e, -EBADMSG, "bad-backup", "%llu problems were found in it",
			    (unsigned long long)stats.problems);
	if (r == 0)
		r = hub_restored(store, e);
	store_close(&store);
	if (r == 0)
		printf("berthd: %llu workspaces, %llu inodes, %llu bytes of contents, 0 problems\n",
		       (unsigned long long)stats.workspaces, (unsigned long long)stats.nodes,
		       (unsigned long long)stats.bytes);
	return r;
}

/* Before the store has its name: layers without one are swept. */
static int name_layers(const char *from, const char *to, struct err *e)
{
	DIR *d = opendir(from);
	struct dirent *de;
	int r = d ? io_mkdir_p(to, 0755) : 0;

	while (r == 0 && d && (de = readdir(d))) {
		AUTO(str_free) char *path = str_printf("%s/%s", to, de->d_name);

		if (de->d_name[0] != '.' && renameat(dirfd(d), de->d_name, AT_FDCWD, path) < 0)
			r = -errno;
	}
	if (d)
		closedir(d);
	(void)rmdir(from);
	return r < 0 ? err_sys(e, r, "%s", to) : 0;
}

static int name_it(const char *from, const char *to, const char *state, struct err *e)
{
	AUTO(fd_close) int fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)rmdir(to); /* an empty one that a daemon made */
	if (nftw(from, own_one, 16, FTW_PHYS) != 0 || fd < 0 || syncfs(fd) < 0 || rename(from, to) < 0 || fsync(fd) < 0)
		return err_sys(e, -errno, "%s", to);
	return 0;
}

int restore(const struct conf *conf, const char *file, struct err *e)
{
	AUTO(str_free) char *to = str_printf("%s/store", conf->state_dir);
	AUTO(str_free) char *from = str_printf("%s/store.restoring", conf->state_dir);
	AUTO(str_free) char *layers = str_printf("%s/layers", conf->state_dir);
	AUTO(str_free) char *new_layers = str_printf("%s/layers.restoring", conf->state_dir);
	AUTO(str_free) char *content = str_printf("%s/content", to);
	AUTO(str_free) char *lock = str_printf("%s/lock", conf->state_dir);
	AUTO(fd_close) int lock_fd = -1;
	AUTO(fd_close) int fd = str_eq(file, "-") ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
	const struct passwd *pw = getpwnam(conf->user);
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "%s", file);
	if (!pw)
		return err_set(e, -ENOENT, "no-account", "there is no account %s", conf->user);
	owner = pw->pw_uid;
	group = pw->pw_gid;
	r = io_mkdir_p(conf->state_dir, 0755);
	if (r < 0)
		return err_sys(e, r, "make %s", conf->state_dir);
	lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "state-in-use", "a berthd runs on %s", conf->state_dir);
	if (access(content, F_OK) == 0)
		return err_set(e, -EEXIST, "not-empty", "%s has a store: nothing is restored over it", conf->state_dir);
	nftw(from, remove_one, 16, FTW_PHYS | FTW_DEPTH); /* of a try that was interrupted */
	nftw(new_layers, remove_one, 16, FTW_PHYS | FTW_DEPTH);
	r = store_restore(fd, from, new_layers, e);
	if (r == 0)
		r = verify(from, new_layers, e);
	if (r == 0)
		r = name_layers(new_layers, layers, e);
	if (r == 0)
		r = name_it(from, to, conf->state_dir, e);
	if (r < 0) {
		nftw(from, remove_one, 16, FTW_PHYS | FTW_DEPTH);
		nftw(new_layers, remove_one, 16, FTW_PHYS | FTW_DEPTH);
	}
	return r;
}
