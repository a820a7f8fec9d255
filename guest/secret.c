/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory is on the sandbox's own tmpfs, so nothing of it is in the workspace, in a snapshot or on a disk.
 * Whoever is root inside can read it, and could have put something else into its place: we write by a name that is new,
 * and follow no link.
 */
#include "guest/secret.h"

#include "base/io.h"
#include "base/str.h"
#include "guest/account.h"
#include "guest/variables.h"
#include "wire/hide.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRETS_DIR "/run/berth/secrets"

static bool name_ok(const char *s)
{
	return s[0] && s[0] != '.' && !strchr(s, '/') && !strchr(s, '=');
}

static int make_dir(struct err *e)
{
	int fd;

	if ((mkdir("/run/berth", 0755) < 0 && errno != EEXIST) || (mkdir(SECRETS_DIR, 0711) < 0 && errno != EEXIST))
		return err_sys(e, -errno, "%s", SECRETS_DIR);
	fd = open(SECRETS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "%s", SECRETS_DIR) : fd;
}

static int put_file(const char *name, const char *owner, struct span data, struct err *e)
{
	AUTO(fd_close) int dir = -1, fd = -1;
	struct account who;
	int r = account_find(owner, &who, e);

	if (r < 0)
		return r;
	dir = make_dir(e);
	if (dir < 0)
		return dir;
	(void)!unlinkat(dir, ".new", 0);
	fd = openat(dir, ".new", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (fd < 0)
		return err_sys(e, -errno, "%s/%s", SECRETS_DIR, name);
	r = io_write_full(fd, data.p, data.len);
	if (r == 0 &&
	    (fchown(fd, who.uid, who.gid) < 0 || fchmod(fd, 0400) < 0 || renameat(dir, ".new", dir, name) < 0))
		r = -errno;
	if (r < 0)
		(void)!unlinkat(dir, ".new", 0);
	return r < 0 ? err_sys(e, r, "%s/%s", SECRETS_DIR, name) : 0;
}

static int put_env(struct secret_env **env, const char *name, struct span value, struct err *e)
{
	char *pair;
	int r;

	if (!*env) {
		*env = NEW(struct secret_env);
		msg_list_init(&(*env)->list, SECRET_ENV_BYTES);
		if (!buf_reserve(&(*env)->list.b, SECRET_ENV_BYTES)) /* it never moves, so it can be zeroed */
			return -ENOMEM;
	}
	if ((*env)->n == SECRET_ENV_MAX || span_has_nul(value))
		return err_set(e, -EINVAL, "bad-secret", "%s cannot be a variable", name);
	pair = must_calloc(1, strlen(name) + value.len + 2);
	memcpy(pair, name, strlen(name));
	pair[strlen(name)] = '=';
	if (value.len)
		memcpy(pair + strlen(name) + 1, value.p, value.len);
	r = msg_list_str(&(*env)->list, span_str(pair));
	hide_wipe(pair, strlen(pair));
	free(pair);
	(*env)->n += r == 0;
	return r < 0 ? err_set(e, r, "bad-secret", "too many secrets for one command") : 0;
}

int secret_take(struct secret_env **env, const struct frame *f, bool inside, bool *ret_file, struct err *e)
{
	AUTO(str_free) char *name = NULL, *owner = NULL;
	struct msg_SECRET m;
	int r = msg_decode(f->type, f->payload, &m, e);

	if (r == 0) {
		name = span_dup(m.name);
		owner = span_dup(m.owner);
		*ret_file = m.how == 1;
		if (!name_ok(name))
			r = err_set(e, -EINVAL, "bad-name", "this is no name of a secret");
		else if (m.how == 0)
			r = put_env(env, name, m.value, e);
		else if (!inside)
			r = err_set(e, -EOPNOTSUPP, "not-inside", "this kind of sandbox has no directory for secrets");
		else
			r = put_file(name, owner, m.value, e);
	}
	hide_wipe((void *)(uintptr_t)f->payload.p, f->payload.len);
	return r;
}

int secret_merge(const struct secret_env *env, struct span others, struct msg_list *to)
{
	struct span all = msg_list_span(&env->list), one, other, left;
	int r = 0;

	msg_list_init(to, FRAME_MAX);
	if (!buf_reserve(&to->b, others.len + all.len + 64))
		return -ENOMEM;
	/* In front: of a list that is too long the end is cut off. */
	for (left = all; r == 0 && msg_strv_next(&left, &one);)
		r = msg_list_str(to, one);
	while (r == 0 && msg_strv_next(&others, &other)) {
		bool hidden = false;

		for (left = all; !hidden && msg_strv_next(&left, &one);)
			hidden = variables_same_name(one, other);
		if (!hidden)
			r = msg_list_str(to, other);
	}
	return r;
}

void secret_wipe(struct msg_list *l)
{
	if (l->b.p)
		hide_wipe(l->b.p, l->b.cap);
	msg_list_fini(l);
}

void secret_env_free(struct secret_env **slot)
{
	if (!*slot)
		return;
	secret_wipe(&(*slot)->list);
	free(*slot);
	*slot = NULL;
}

static int drop_one(int dir, const char *name)
{
	static const uint8_t zeroes[4096];
	AUTO(fd_close) int fd = -1;
	struct stat st;
	off_t at;

	/* Root inside may have made it read-only; it is ours all the same. */
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		for (at = 0; at < st.st_size; at += (off_t)sizeof(zeroes))
			if (pwrite(fd, zeroes, (size_t)MIN((off_t)sizeof(zeroes), st.st_size - at), at) < 0)
				break;
	return unlinkat(dir, name, 0) < 0 && errno != ENOENT && errno != EISDIR ? -errno : 0;
}

int secret_drop(void)
{
	int fd = open(SECRETS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	struct dirent *d;
	DIR *dir;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return -ENOMEM;
	}
	while (r == 0 && (d = readdir(dir)))
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, ".."))
			r = drop_one(dirfd(dir), d->d_name);
	closedir(dir);
	return r;
}
