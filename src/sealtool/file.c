/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that is written has no name until it is whole: it is made with O_TMPFILE beside its place, then linked and
 * renamed over what was there. So a process that is killed leaves nothing, and a reader sees the old or the new one.
 * Where a file system has no O_TMPFILE it has another name from the beginning, which is removed when it does not become
 * whole.
 */
#include "sealtool/tool.h"

#include "base/io.h"
#include "base/str.h"
#include "seal/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const beginnings[] = { "BERTHSF", "-----BEGIN BERTH SEALED FILE-----", "berth-sealed:" };

int tool_in(const char *path, struct tool_in *ret, struct err *e)
{
	bool standard = !path || str_eq(path, "-");
	size_t i;

	*ret = (struct tool_in){ .fd = standard ? 0 : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY),
				 .name = standard ? "standard input" : path };
	if (ret->fd < 0)
		return err_sys(e, -errno, "%s", path);
	while (ret->n < sizeof(ret->first)) {
		ssize_t n = read(ret->fd, ret->first + ret->n, sizeof(ret->first) - ret->n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			n = -errno;
			tool_in_fini(ret);
			return err_sys(e, (int)n, "%s", standard ? "standard input" : path);
		}
		if (n == 0)
			break;
		ret->n += (size_t)n;
	}
	ret->is_env = true;
	for (i = 0; i < ARRAY_LEN(beginnings); i++)
		if (ret->n >= strlen(beginnings[i]) && memcmp(ret->first, beginnings[i], strlen(beginnings[i])) == 0)
			ret->is_env = false;
	return 0;
}

void tool_in_fini(struct tool_in *in)
{
	wipe(in->first, sizeof(in->first));
	if (in->fd > 0)
		fd_close(&in->fd);
	in->fd = -1;
}

static ssize_t read_in(void *ctx, void *p, size_t len)
{
	struct tool_in *in = ctx;
	size_t n = MIN(len, in->n - in->at);

	if (n) {
		memcpy(p, in->first + in->at, n);
		in->at += n;
		return (ssize_t)n;
	}
	return seal_source_fd(&in->fd).read(&in->fd, p, len);
}

struct seal_source tool_in_source(struct tool_in *in)
{
	return (struct seal_source){ read_in, in };
}

int tool_in_secret(struct tool_in *in, size_t max, struct secret **ret, struct err *e)
{
	AUTO(secret_free) struct secret *rest = NULL, *s = NULL;
	int r = secret_read(in->fd, max, &rest);

	if (r == 0 && secret_len(rest) > max - in->n)
		r = -E2BIG;
	if (r < 0)
		return err_sys(e, r, "%s", in->name);
	s = secret_new(in->n + secret_len(rest));
	if (!s)
		return err_sys(e, -ENOMEM, "%s", in->name);
	memcpy(secret_use(s), in->first, in->n);
	memcpy(secret_use(s) + in->n, secret_use(rest), secret_len(rest));
	secret_rest(rest);
	secret_rest(s);
	secret_rest(s);
	*ret = take(&s);
	return 0;
}

static char *dir_of(const char *path)
{
	AUTO(str_free) char *copy = must_strdup(path);

	return must_strdup(dirname(copy));
}

static char *temp_name(const char *dir)
{
	uint64_t random;

	random_bytes(&random, sizeof(random));
	return str_printf("%s/.berth-seal-%016llx", dir, (unsigned long long)random);
}

int tool_out(const char *path, struct tool_out *ret, struct err *e)
{
	AUTO(str_free) char *dir = NULL;
	struct stat st;

	*ret = (struct tool_out){ .fd = 1 };
	if (!path || str_eq(path, "-"))
		return 0;
	ret->path = path;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		ret->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return ret->fd < 0 ? err_sys(e, -errno, "%s", path) : 0;
	}
	dir = dir_of(path);
	ret->plain_file = true;
	ret->fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (ret->fd >= 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == EISDIR) {
		ret->temp = temp_name(dir);
		ret->fd = open(ret->temp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (ret->fd < 0) {
		int r = -errno;

		str_free(&ret->temp);
		return err_sys(e, r, "a file in %s", dir);
	}
	return 0;
}

int tool_out_done(struct tool_out *o, struct err *e)
{
	AUTO(str_free) char *dir = NULL, *self = NULL;
	AUTO(fd_close) int dir_fd = -1;

	if (!o->plain_file)
		return 0;
	dir = dir_of(o->path);
	self = str_printf("/proc/self/fd/%d", o->fd);
	if (fchmod(o->fd, 0600) < 0 || fsync(o->fd) < 0)
		return err_sys(e, -errno, "%s", o->path);
	if (!o->temp) {
		AUTO(str_free) char *temp = temp_name(dir);

		if (linkat(AT_FDCWD, self, AT_FDCWD, temp, AT_SYMLINK_FOLLOW) < 0)
			return err_sys(e, -errno, "%s", o->path);
		o->temp = take(&temp);
	}
	if (rename(o->temp, o->path) < 0)
		return err_sys(e, -errno, "%s", o->path);
	str_free(&o->temp);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd >= 0)
		(void)!fsync(dir_fd);
	return 0;
}

void tool_out_fini(struct tool_out *o)
{
	if (o->temp)
		unlink(o->temp);
	str_free(&o->temp);
	if (o->fd > 1)
		fd_close(&o->fd);
	o->fd = -1;
}

int tool_spool(struct seal_source from, int *ret, struct err *e)
{
	const char *dir = getenv("TMPDIR");
	AUTO(fd_close) int fd = open(dir && *dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint8_t part[8192];
	ssize_t n;
	int r = fd < 0 ? -errno : 0;

	while (r == 0 && (n = from.read(from.ctx, part, sizeof(part))) != 0)
		r = n < 0 ? (int)n : io_write_full(fd, part, (size_t)n);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r < 0)
		return err_sys(e, r, "a temporary file for the sealed one");
	*ret = fd_take(&fd);
	return 0;
}
