/* SPDX-License-Identifier: Apache-2.0 */
/* Files: ls, cat, cp. */
#include "cli/cli.h"

#include "base/io.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

char *cli_split(const char *arg, const char **ret_path)
{
	const char *colon = strchr(arg, ':'), *slash = strchr(arg, '/');

	if (!colon || (slash && slash < colon))
		return NULL;
	*ret_path = colon + 1;
	return span_dup(SPAN(arg, (size_t)(colon - arg)));
}

static int print_entry(void *ctx, const struct berth_entry *i)
{
	static const char kinds[] = "d-lps?";
	static const char *const words[] = { "dir", "file", "symlink", "fifo", "socket" };
	time_t when = (time_t)(i->mtime_ns / 1000000000);
	char mode[11] = "?rwxrwxrwx", date[32];
	struct tm tm;
	size_t k;

	(void)ctx;
	for (k = 0; k < ARRAY_LEN(words) && !str_eq(i->type, words[k]);)
		k++;
	mode[0] = kinds[k];
	for (k = 0; k < 9; k++)
		if (!(i->mode >> (8 - k) & 1))
			mode[k + 1] = '-';
	localtime_r(&when, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
	printf("%s %3llu %5llu %5llu %10llu %s ", mode, (unsigned long long)i->nlink, (unsigned long long)i->uid,
	       (unsigned long long)i->gid, (unsigned long long)i->size, date);
	cli_put(stdout, i->name);
	if (i->target) {
		fputs(" -> ", stdout);
		cli_put(stdout, i->target);
	}
	putchar('\n');
	return 0;
}

int cli_ls(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	AUTO(str_free) char *id = NULL;
	AUTO(str_free) char *text = NULL;
	const char *path = "";
	struct berth_error e;
	char **rest;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("ls", "one directory is wanted");
	id = cli_split(rest[0], &path);
	if (!id)
		id = must_strdup(rest[0]);
	r = json ? berth_ls_json(b, id, path, &text, &e) : berth_ls(b, id, path, print_entry, NULL, &e);
	if (r < 0)
		return cli_fail("ls", &e);
	if (text)
		fputs(text, stdout);
	return CLI_OK;
}

int cli_cat(struct berth *b, int argc, char **argv)
{
	AUTO(str_free) char *id = NULL;
	const char *path;
	struct berth_error e;

	id = argc == 2 ? cli_split(argv[1], &path) : NULL;
	if (!id)
		return cli_usage("cat", "one ID:PATH is wanted");
	return berth_read(b, id, path, STDOUT_FILENO, &e) < 0 ? cli_fail("cat", &e) : CLI_OK;
}

/* --- cp ----------------------------------------------------------------------------------------------------------- */

void cli_copy_complain(struct cli_copy *c, const char *path, const char *why)
{
	cli_progress_end();
	fputs("berth cp: ", stderr);
	cli_put(stderr, path);
	fputs(": ", stderr);
	cli_put(stderr, why);
	fputc('\n', stderr);
	c->failed = CLI_FAILED;
}

static void file_in(struct cli_copy *c, const char *from, const char *to, mode_t mode)
{
	AUTO(fd_close) int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct berth_error e;
	struct stat st;

	if (fd >= 0)
		cli_progress(c->b, c->quiet, from, fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0);
	if (fd < 0)
		cli_copy_complain(c, from, strerror(errno));
	else if (berth_write(c->b, c->id, to, fd, mode & 07777, &e) < 0)
		cli_copy_complain(c, from, e.text);
}

static bool is_link(struct cli_copy *c, const char *path)
{
	struct berth_entry i = { .name = NULL };
	struct berth_error e;
	bool is = berth_stat(c->b, c->id, path, &i, &e) == 0 && str_eq(i.type, "symlink");

	free(i.name);
	free(i.target);
	return is;
}

static void link_in(struct cli_copy *c, const char *from, const char *to)
{
	char target[PATH_LEN_MAX + 1];
	struct berth_error e;
	ssize_t n = readlink(from, target, sizeof(target) - 1);

	if (n < 0) {
		cli_copy_complain(c, from, strerror(errno));
		return;
	}
	target[n] = '\0';
	/* As cp(1) does: a link replaces a link, and nothing else. */
	if (berth_symlink(c->b, c->id, to, target, &e) < 0 &&
	    (e.code != -EEXIST || !is_link(c, to) || berth_unlink(c->b, c->id, to, false, &e) < 0 ||
	     berth_symlink(c->b, c->id, to, target, &e) < 0))
		cli_copy_complain(c, from, e.text);
}

/* As mkdir -p does: what a name is typed in. */
static bool way_in(struct cli_copy *c, const char *to)
{
	const char *slash = strrchr(to, '/');
	AUTO(str_free) char *dir = span_dup(SPAN(to, slash ? (size_t)(slash - to) : 0));
	struct berth_error e;

	if (!*dir || berth_mkdir(c->b, c->id, dir, 0755, &e) == 0)
		return true;
	cli_copy_complain(c, dir, e.text);
	return false;
}

/*
 * Out of a sandbox every name is the guest's choice, and so is whether it is a directory or a symlink at this moment.
 * So a copy works with descriptors of directories and never follows a link below the place that was typed: one that was
 * copied a moment ago, or by an earlier run, points wherever the guest wants.
 */
struct place {
	int dir;
	const char *name; /* in it */
	const char *shown;
};

/* A device or a pipe is not a name that can be given to something else: /dev/null would be gone for everybody. */
bool cli_copy_is_special(int dir, const char *name, int flags)
{
	struct stat st;

	return fstatat(dir, name, &st, flags) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode) &&
	       !S_ISDIR(st.st_mode);
}

static void file_out(struct cli_copy *c, const char *from, const struct place *at, unsigned mode)
{
	AUTO(str_free) char *temp = str_printf(".berth-%d-%u", (int)getpid(), c->temps++);
	AUTO(fd_close) int fd = -1;
	struct berth_error e;

	if (cli_copy_is_special(at->dir, at->name, AT_SYMLINK_NOFOLLOW)) {
		cli_copy_complain(c, at->shown, "there is something else than a file");
		return;
	}
	fd = openat(at->dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
	if (fd < 0) {
		cli_copy_complain(c, at->shown, strerror(errno));
		return;
	}
	cli_progress(c->b, c->quiet, from, 0);
	if (berth_read(c->b, c->id, from, fd, &e) < 0)
		cli_copy_complain(c, from, e.text);
	else if (renameat(at->dir, temp, at->dir, at->name) < 0)
		cli_copy_complain(c, at->shown, strerror(errno));
	else
		return;
	unlinkat(at->dir, temp, 0);
}

static void link_out(struct cli_copy *c, const struct berth_entry *i, const struct place *at)
{
	const char *target = i->target ? i->target : "";
	struct stat st;

	if (symlinkat(target, at->dir, at->name) == 0)
		return;
	if (errno == EEXIST && fstatat(at->dir, at->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode))
		errno = EEXIST;
	else if (errno == EEXIST && unlinkat(at->dir, at->name, 0) == 0 && symlinkat(target, at->dir, at->name) == 0)
		return;
	cli_copy_complain(c, at->shown, strerror(errno));
}

static void one_out(struct cli_copy *c, const char *from, const struct berth_entry *i, const struct place *at)
{
	AUTO(fd_close) int dir = -1;

	if (!path_name_ok(span_str(at->name))) {
		cli_copy_complain(c, at->shown, "an impossible name: left out");
	} else if (str_eq(i->type, "file")) {
		file_out(c, from, at, (unsigned)i->mode);
	} else if (str_eq(i->type, "symlink")) {
		link_out(c, i, at);
	} else if (!str_eq(i->type, "dir")) {
		cli_copy_complain(c, from, "neither file, directory nor symlink: left out");
	} else if (mkdirat(at->dir, at->name, 0700) < 0 && errno != EEXIST) {
		cli_copy_complain(c, at->shown, strerror(errno));
	} else {
		dir = openat(at->dir, at->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir < 0)
			cli_copy_complain(c, at->shown, "there is something else than a directory");
		else
			cli_copy_tree(c, from, dir, at->shown, false);
	}
}

/* "a/b/" is called b; "." and ".." have no name: their contents go where they are told to. */
static const char *last_name(char *path)
{
	size_t len = strlen(path);
	const char *name;

	while (len && path[len - 1] == '/')
		path[--len] = '\0';
	name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	return str_eq(name, ".") || str_eq(name, "..") ? "" : name;
}

static int copy_in(struct cli_copy *c, const char *src, const char *dst, bool recursive)
{
	AUTO(str_free) char *to = must_strdup(dst);
	AUTO(str_free) char *typed = must_strdup(src);
	struct berth_entry at = { .name = NULL };
	struct berth_error e;
	struct stat st, self;
	const char *name = NULL;

	if (stat(src, &st) < 0 || lstat(src, &self) < 0) {
		cli_copy_complain(c, src, strerror(errno));
		return c->failed;
	}
	if (S_ISDIR(st.st_mode) && !recursive)
		return cli_usage("cp", "%s is a directory: -r is needed", src);
	if (!*dst || dst[strlen(dst) - 1] == '/' ||
	    (berth_stat(c->b, c->id, dst, &at, &e) == 0 && str_eq(at.type, "dir"))) {
		str_free(&to);
		name = last_name(typed);
		to = str_printf("%s%s%s", dst, *name && *dst && dst[strlen(dst) - 1] != '/' ? "/" : "", name);
	}
	free(at.name);
	free(at.target);
	if (S_ISDIR(st.st_mode) && S_ISLNK(self.st_mode))
		link_in(c, src, to);
	else if (S_ISDIR(st.st_mode) && way_in(c, to))
		cli_copy_tree_in(c, src, to, name && !*name);
	else if (!S_ISDIR(st.st_mode))
		file_in(c, src, to, st.st_mode);
	return c->failed;
}

/* As cp(1) does with the place that was typed. */
static void special_out(struct cli_copy *c, const char *src, const char *dst)
{
	AUTO(fd_close) int fd = open(dst, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	struct berth_error e;

	if (fd < 0)
		cli_copy_complain(c, dst, strerror(errno));
	else if (berth_read(c->b, c->id, src, fd, &e) < 0)
		cli_copy_complain(c, src, e.text);
}

/* Where a copy goes: into a directory that is there, under the name that it has; or to the name that was typed. */
static void place_out(struct cli_copy *c, const char *src, const char *dst, const struct berth_entry *i)
{
	AUTO(str_free) char *typed = must_strdup(dst);
	AUTO(str_free) char *inside = path_join(dst, i->name);
	AUTO(fd_close) int dir = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct place at = { .name = i->name, .shown = dir < 0 ? dst : inside };
	size_t len = strlen(typed);
	char *slash;

	if (dir >= 0 && !*i->name) {
		cli_copy_tree(c, src, dir, dst, true);
		return;
	}
	if (dir < 0 && str_eq(i->type, "file") && cli_copy_is_special(AT_FDCWD, dst, 0)) {
		special_out(c, src, dst);
		return;
	}
	while (len > 1 && typed[len - 1] == '/')
		typed[--len] = '\0';
	slash = strrchr(typed, '/');
	if (dir < 0) {
		at.name = slash ? slash + 1 : typed;
		if (slash)
			*slash = '\0';
		dir = open(!slash ? "." : *typed ? typed : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	at.dir = dir;
	if (dir < 0)
		cli_copy_complain(c, dst, strerror(errno));
	else
		one_out(c, src, i, &at);
}

static int copy_out(struct cli_copy *c, const char *src, const char *dst, bool recursive)
{
	struct berth_entry i = { .name = NULL };
	struct berth_error e;

	if (berth_stat(c->b, c->id, src, &i, &e) < 0)
		return cli_fail("cp", &e);
	if (str_eq(i.type, "dir") && !recursive)
		c->failed = cli_usage("cp", "%s is a directory: -r is needed", src);
	else
		place_out(c, src, dst, &i);
	free(i.name);
	free(i.target);
	return c->failed;
}

int cli_cp(struct berth *b, int argc, char **argv)
{
	bool recursive = false, quiet = false;
	const struct cli_option options[] = { { "-r", NULL, &recursive }, { "--quiet", NULL, &quiet } };
	AUTO(str_free) char *from = NULL;
	AUTO(str_free) char *to = NULL;
	const char *src, *dst;
	struct cli_copy c = { .b = b };
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 2)
		return n < 0 ? CLI_USAGE : cli_usage("cp", "a source and a destination are wanted");
	from = cli_split(rest[0], &src);
	to = cli_split(rest[1], &dst);
	if (!from == !to)
		return cli_usage("cp", "exactly one side must be ID:PATH");
	c.id = from ? from : to;
	c.quiet = quiet;
	n = from ? copy_out(&c, src, rest[1], recursive) : copy_in(&c, rest[0], dst, recursive);
	cli_progress_end();
	return n;
}
