/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root may come from a stranger's archive, so every path in it is resolved as if it were the root of the world: a
 * link /etc -> /../../etc ends inside. Files are replaced, not written through, unless they are added to.
 */
#include "host/priv/finish.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { USER_ID = 1000, ACCOUNTS_MAX = 1024 * 1024, PROFILE_MAX = 64 * 1024 };

static int open_in(int root, const char *path, uint64_t flags, mode_t mode)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .mode = flags & O_CREAT ? mode : 0,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Split @path into a descriptor of its directory and a name. */
static int open_parent(int root, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	AUTO(str_free) char *dir = NULL;

	*name = slash ? slash + 1 : path;
	if (!slash)
		return open_in(root, ".", O_PATH | O_DIRECTORY, 0);
	dir = span_dup(SPAN(path, (size_t)(slash - path)));
	return open_in(root, dir, O_PATH | O_DIRECTORY, 0);
}

static int put_dir(int root, const char *path, uid_t owner, mode_t mode)
{
	const char *name;
	AUTO(fd_close) int parent = open_parent(root, path, &name);
	AUTO(fd_close) int fd = -1;

	if (parent < 0)
		return parent;
	if (mkdirat(parent, name, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, owner, owner) < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

static int put_file(int root, const char *path, const char *text, mode_t mode)
{
	const char *name;
	AUTO(fd_close) int parent = open_parent(root, path, &name);
	AUTO(fd_close) int fd = -1;

	if (parent < 0)
		return parent;
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return io_write_full(fd, text, strlen(text));
}

static bool has_account(const char *text, const char *name)
{
	size_t n = strlen(name);
	const char *p;

	for (p = text; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (strncmp(p, name, n) == 0 && p[n] == ':')
			return true;
	return false;
}

/* Add @line for account @name to a table of accounts unless it is there; the file is made when it is missing. */
static int put_account(int root, const char *path, mode_t mode, const char *name, const char *line)
{
	AUTO(fd_close) int fd = open_in(root, path, O_RDWR | O_CREAT | O_APPEND, mode);
	AUTO(buf_fini) struct buf b;
	struct stat st;
	ssize_t n;
	void *to;

	buf_init(&b, ACCOUNTS_MAX + 1);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > ACCOUNTS_MAX)
		return -EINVAL;
	to = buf_reserve(&b, (size_t)st.st_size + 1);
	n = to ? pread(fd, to, (size_t)st.st_size, 0) : -1;
	if (n < 0)
		return to ? -errno : -ENOMEM;
	buf_commit(&b, (size_t)n);
	if (has_account(buf_str(&b), name))
		return 0;
	if (n && buf_str(&b)[n - 1] != '\n' && write(fd, "\n", 1) != 1)
		return -EIO;
	return io_write_full(fd, line, strlen(line));
}

static int put_accounts(int root)
{
	static const struct {
		const char *path;
		mode_t mode;
		const char *name, *line;
	} rows[] = {
		{"etc/passwd", 0644, "root", "root:x:0:0:root:/root:/bin/sh\n"},
		{"etc/passwd", 0644, "user", "user:x:1000:1000::/home/user:/bin/bash\n"},
		{"etc/group", 0644, "root", "root:x:0:\n"},
		{"etc/group", 0644, "tty", "tty:x:5:\n"},
		{"etc/group", 0644, "user", "user:x:1000:\n"},
		{"etc/shadow", 0640, "root", "root:*:19000:0:99999:7:::\n"},
		{"etc/shadow", 0640, "user", "user:*:19000:0:99999:7:::\n"},
	};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_LEN(rows) && r == 0; i++)
		r = put_account(root, rows[i].path, rows[i].mode, rows[i].name, rows[i].line);
	return r;
}

static bool is_there(int root, const char *path)
{
	AUTO(fd_close) int fd = open_in(root, path, O_PATH, 0);

	return fd >= 0;
}

static int put_python(int root)
{
	const char *name;
	AUTO(fd_close) int parent = -1;

	if (!is_there(root, "usr/bin/python3") || is_there(root, "usr/bin/python"))
		return 0;
	parent = open_parent(root, "usr/bin/python", &name);
	if (parent < 0)
		return parent;
	return symlinkat("python3", parent, name) < 0 && errno != EEXIST ? -errno : 0;
}

static int put_dirs(int root)
{
	static const struct {
		const char *path;
		uid_t owner;
		mode_t mode;
	} rows[] = {
		{".berth", 0, 0755}, {"workspace", USER_ID, 0755},
		{"home", 0, 0755},   {"home/user", USER_ID, 0755},
		{"root", 0, 0700},   {"proc", 0, 0555},
		{"sys", 0, 0555},    {"dev", 0, 0755},
		{"run", 0, 0755},    {"tmp", 0, 01777},
		{"etc", 0, 0755},
	};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_LEN(rows) && r == 0; i++)
		r = put_dir(root, rows[i].path, rows[i].owner, rows[i].mode);
	return r;
}

/* Debian's profile asks a program who the user is, which takes as long as the shell itself; bash knows it. E2B's
 * clients run each command in a login shell. A profile that says nothing of the kind stays as it is. */
static int put_profile(int root)
{
	static const char path[] = "etc/profile", ask[] = "$(id -u)", know[] = "${UID:-$(id -u)}";
	AUTO(fd_close) int fd = open_in(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	AUTO(buf_fini) struct buf is, to;
	struct stat st;
	const char *p, *at;
	ssize_t n;
	void *room;
	int r;

	buf_init(&is, PROFILE_MAX);
	buf_init(&to, 4 * PROFILE_MAX);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= PROFILE_MAX)
		return 0;
	room = buf_reserve(&is, (size_t)st.st_size);
	n = room ? pread(fd, room, (size_t)st.st_size, 0) : -1;
	if (n < 0)
		return room ? -errno : -ENOMEM;
	buf_commit(&is, (size_t)n);
	for (p = buf_str(&is); (at = strstr(p, ask)); p = at + sizeof(ask) - 1)
		if (buf_append(&to, p, (size_t)(at - p)) < 0 || buf_append(&to, know, sizeof(know) - 1) < 0)
			return -ENOMEM;
	if (p == buf_str(&is) || strstr(buf_str(&is), know))
		return 0;
	r = buf_append(&to, p, strlen(p));
	return r < 0 ? r : put_file(root, path, buf_str(&to), st.st_mode & 0777);
}

int finish_root(int root, struct err *e)
{
	int r = put_dirs(root);

	if (r == 0)
		r = put_file(root, ".berth/agent", "", 0555);
	if (r == 0)
		r = put_accounts(root);
	if (r == 0 && is_there(root, "etc/sudoers.d"))
		r = put_file(root, "etc/sudoers.d/berth", "user ALL=(ALL:ALL) NOPASSWD: ALL\n", 0440);
	if (r == 0)
		r = put_file(root, "etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n", 0644);
	if (r == 0)
		r = put_file(root, "etc/hostname", "sandbox\n", 0644);
	if (r == 0)
		r = put_file(root, "etc/resolv.conf", "", 0644);
	if (r == 0)
		r = put_python(root);
	if (r == 0)
		r = put_profile(root);
	return r < 0 ? err_sys(e, r, "finishing the root file system") : 0;
}
