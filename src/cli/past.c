/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots, what differs, going back, forks. A state is written ID@SNAPSHOT, or ID for the present. */
#include "cli/cli.h"

#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* "ID@NAME" into its halves, on the heap; @ret_name is NULL for "ID". */
static char *split_state(const char *arg, const char **ret_name)
{
	char *id = must_strdup(arg), *at = strchr(id, '@');

	*ret_name = NULL;
	if (at) {
		*at = '\0';
		*ret_name = at + 1;
	}
	return id;
}

int cli_snapshot(struct berth *b, int argc, char **argv)
{
	bool unfrozen = false;
	const struct cli_option options[] = { { "--no-freeze", NULL, &unfrozen } };
	struct berth_snapshot s;
	struct berth_error e;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE : cli_usage("snapshot", "a sandbox is wanted, and perhaps a name");
	if (berth_snapshot(b, rest[0], n == 2 ? rest[1] : NULL, unfrozen, &s, &e) < 0)
		return cli_fail("snapshot", &e);
	printf("%s@%s\n", rest[0], s.name);
	return CLI_OK;
}

static int print_snapshot(void *ctx, const struct berth_snapshot *s)
{
	time_t when = (time_t)(s->created_ns / 1000000000);
	char date[32] = "";
	struct tm tm;

	(void)ctx;
	localtime_r(&when, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-40s %s %10llu  %s\n", s->name, date, (unsigned long long)s->entries,
	       !s->live ? "stopped" : s->frozen ? "live" : "live, not frozen");
	return 0;
}

int cli_snapshots(struct berth *b, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = { { "--json", NULL, &json } };
	AUTO(str_free) char *text = NULL;
	struct berth_error e;
	char **rest;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n != 1)
		return n < 0 ? CLI_USAGE : cli_usage("snapshots", "of which sandbox?");
	if (!json)
		printf("%-40s %-19s %10s  %s\n", "NAME", "TAKEN", "NAMES", "OF");
	if ((json ? berth_snapshots_json(b, rest[0], &text, &e)
		  : berth_snapshots(b, rest[0], print_snapshot, NULL, &e)) < 0)
		return cli_fail("snapshots", &e);
	if (text)
		fputs(text, stdout);
	return CLI_OK;
}

int cli_restore(struct berth *b, int argc, char **argv)
{
	bool no_keep = false;
	const struct cli_option options[] = { { "--no-keep", NULL, &no_keep } };
	AUTO(str_free) char *id = NULL;
	char kept[65] = "", **rest;
	const char *name;
	uint64_t left_out = 0;
	struct berth_error e;
	int n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE : cli_usage("restore", "which snapshot?");
	id = split_state(rest[0], &name);
	if (!name || !*name)
		return cli_usage("restore", "a snapshot is written ID@NAME");
	if (berth_restore_counted(b, id, name, n == 2 ? rest[1] : NULL, no_keep ? NULL : &kept, &left_out, &e) < 0)
		return cli_fail("restore", &e);
	if (left_out)
		fprintf(stderr, "berth restore: of %llu files %s has only the names\n", (unsigned long long)left_out,
			rest[0]);
	if (!no_keep)
		printf("what was there before is %s@%s\n", id, kept);
	return CLI_OK;
}

static void print_fork(void *ctx, const char *id)
{
	(void)ctx;
	puts(id);
}

int cli_fork(struct berth *b, int argc, char **argv)
{
	const char *count = NULL, *as = NULL, *name;
	const struct cli_option options[] = { { "-n", &count, NULL }, { "--name", &as, NULL } };
	AUTO(str_free) char *id = NULL;
	struct berth_error e;
	uint64_t n = 1;
	char **rest;
	int r = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (r != 1)
		return r < 0 ? CLI_USAGE : cli_usage("fork", "of what?");
	if (count && (num_u64(count, 1000, &n) < 0 || !n))
		return cli_usage("fork", "-n takes a number from 1 to 1000");
	id = split_state(rest[0], &name);
	if (berth_fork(b, id, name, as, (unsigned)n, print_fork, NULL, &e) < 0)
		return cli_fail("fork", &e);
	return CLI_OK;
}

/* --- what differs ------------------------------------------------------------------------------------------------- */

struct diffing {
	struct berth *b;
	const char *from, *to;
	bool patch;
	int differences, status;
};

static bool same_bytes(const struct berth_side *a, const struct berth_side *b)
{
	return str_eq(a->type, b->type) && a->size == b->size && !a->elsewhere && !b->elsewhere &&
	       str_eq(a->hash ? a->hash : "", b->hash ? b->hash : "") &&
	       str_eq(a->target ? a->target : "", b->target ? b->target : "");
}

/* Only what a reader can see: the times of directories change with everything in them. */
static bool is_told(const struct berth_difference *d)
{
	const struct berth_side *a = &d->before, *b = &d->after;

	return !(str_eq(a->type, "dir") && str_eq(b->type, "dir") && a->mode == b->mode && a->uid == b->uid &&
		 a->gid == b->gid);
}

static void print_difference(const struct berth_difference *d)
{
	const struct berth_side *a = &d->before, *b = &d->after;
	const char *kind = b->type[0] ? b->type : a->type;
	char what = !a->type[0] ? 'A' : !b->type[0] ? 'D' : same_bytes(a, b) ? 'm' : 'M';

	printf("%c  %-7s ", what, kind);
	if (what == 'M')
		printf("%10llu -> %-10llu ", (unsigned long long)a->size, (unsigned long long)b->size);
	else if (what == 'm' && a->mode != b->mode)
		printf("      %04llo -> %04llo       ", (unsigned long long)a->mode, (unsigned long long)b->mode);
	else if (what == 'm')
		printf("%-25s", a->uid != b->uid || a->gid != b->gid ? "      (owner)" : "      (time)");
	else
		printf("%10llu %-14s", (unsigned long long)(b->type[0] ? b->size : a->size), "");
	cli_put(stdout, d->path[0] ? d->path : ".");
	putchar('\n');
}

/* A file of one state, in a file of ours that has no name. Return: a descriptor, -1 after a complaint. */
static int fetch(struct diffing *d, const char *state, const char *path, const struct berth_side *side)
{
	const char *name;
	AUTO(str_free) char *id = split_state(state, &name);
	AUTO(fd_close) int fd = -1;
	char temp[] = "/tmp/berth-diff-XXXXXX";
	struct berth_error e;
	int r = 0;

	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0) {
		perror("berth diff: a temporary file");
		return -1;
	}
	unlink(temp);
	if (str_eq(side->type, "file"))
		r = name ? berth_read_at(d->b, id, name, path, fd, &e) : berth_read(d->b, id, path, fd, &e);
	if (r < 0) {
		d->status = cli_fail("diff", &e);
		return -1;
	}
	return fd_take(&fd);
}

/* diff(1) knows how to compare text, and what is none. */
static void print_patch(struct diffing *d, const struct berth_difference *what)
{
	bool is_file = str_eq(what->before.type, "file") || str_eq(what->after.type, "file");
	AUTO(fd_close) int a = -1;
	AUTO(fd_close) int b = -1;
	AUTO(str_free) char *was = str_printf("--label=a/%s", what->path);
	AUTO(str_free) char *is = str_printf("--label=b/%s", what->path);
	char fds[2][32];
	int status;
	pid_t pid;

	if (!is_file || same_bytes(&what->before, &what->after) || what->before.elsewhere || what->after.elsewhere) {
		print_difference(what);
		return;
	}
	a = fetch(d, d->from, what->path, &what->before);
	b = a < 0 ? -1 : fetch(d, d->to, what->path, &what->after);
	if (b < 0)
		return;
	snprintf(fds[0], sizeof(fds[0]), "/dev/fd/%d", a);
	snprintf(fds[1], sizeof(fds[1]), "/dev/fd/%d", b);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		fcntl(a, F_SETFD, 0);
		fcntl(b, F_SETFD, 0);
		lseek(a, 0, SEEK_SET);
		lseek(b, 0, SEEK_SET);
		execlp("diff", "diff", "-u", was, is, "--", fds[0], fds[1], (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > 2) {
		fputs("berth diff: diff(1) could not be run\n", stderr);
		d->status = CLI_FAILED;
	}
}

static int one_difference(void *ctx, const struct berth_difference *what)
{
	struct diffing *d = ctx;

	if (!is_told(what))
		return 0;
	d->differences++;
	if (d->patch)
		print_patch(d, what);
	else
		print_difference(what);
	return d->status;
}

int cli_diff(struct berth *b, int argc, char **argv)
{
	bool json = false, quiet = false;
	struct diffing d = { .b = b };
	const char *path = NULL;
	const struct cli_option options[] = { { "--json", NULL, &json },
					      { "--patch", NULL, &d.patch },
					      { "--quiet", NULL, &quiet },
					      { "--path", &path, NULL } };
	AUTO(str_free) char *text = NULL;
	AUTO(str_free) char *id = NULL;
	struct berth_error e;
	char **rest;
	const char *name;
	int r, n = cli_options(argc, argv, options, ARRAY_LEN(options), &rest);

	if (n < 1 || n > 2)
		return n < 0 ? CLI_USAGE
			     : cli_usage("diff", "two states are wanted, or one to compare with the present");
	id = split_state(rest[0], &name);
	if (n == 1 && !name)
		return cli_usage("diff", "compare the present of %s with what?", id);
	d.from = rest[0];
	d.to = n == 2 ? rest[1] : id;
	if (json) {
		if (berth_diff_json(b, d.from, d.to, path, &text, &e) < 0)
			return cli_fail("diff", &e);
		fputs(text, stdout);
		return CLI_OK;
	}
	r = berth_diff(b, d.from, d.to, path, one_difference, &d, &e);
	if (r < 0)
		return cli_fail("diff", &e);
	return d.status;
}
